"""Cut the overlap of two pictures out of both, where a map lays one over the other."""

from dataclasses import dataclass

import cv2
import numpy as np

from imagetools.matching.geometry import Map, affine_at_middle, apply, compose, determinant, inverse
from imagetools.matching.planes import Grey, Plane


@dataclass(frozen=True)
class Frame:
    """Where two pictures overlap: the smallest upright box around it in the picture that shows less detail.

    size                   (width, height) of the box, pixels
    from_here, from_there  maps from the pixels of the pictures into the box
    turned                 `here` is the target of the map that the overlap is found by, and not its source
    """

    size: tuple[int, int]
    from_here: Map
    from_there: Map
    turned: bool


@dataclass(frozen=True)
class Overlap:
    """The overlap of two pictures, as each shows it.

    here, there  in one picture and in the other, (height, width)
    valid        1 where both pictures show something, else 0
    """

    here: Plane
    there: Plane
    valid: Plane
    frame: Frame


def find_frame(affine: Map, source: tuple[int, ...], target: tuple[int, ...], side: int) -> Frame | None:
    """Return where pictures of these (height, width) overlap by a map from source to target; None if next to nowhere.

    side  pixels of the box's longer side at most
    """
    near = affine if len(affine) == 2 else affine_at_middle(affine, (source[1], source[0]))
    # the inverse of a map that enlarges shrinks: what one side cannot have is never compared
    turned = abs(determinant(near)) > 1
    if turned:
        affine, source, target = inverse(affine), target, source
    height, width = target
    box = _overlap_box(affine, source, (height, width))
    if box is None:
        return None
    left, top, right, bottom = box
    scale = min(1.0, side / max(right - left, bottom - top))
    size = (max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale)))
    into_box = np.array([[size[0] / (right - left), 0, 0.0], [0, size[1] / (bottom - top), 0.0]])
    into_box[:, 2] = into_box[:, :2] @ [0.5 - left, 0.5 - top] - 0.5
    return Frame(size, compose(into_box, affine), into_box, turned)


def cut_out(affine: Map, source: tuple[Grey, ...], target: tuple[Grey, ...], side: int) -> Overlap | None:
    """Return the overlap by a map from source to target; None where there is none to speak of.

    source, target  pyramids of grey images, each half the one before; the map is between their first levels
    side            pixels of the overlap's longer side at most
    """
    frame = find_frame(affine, source[0].shape, target[0].shape, side)
    if frame is None:
        return None
    if frame.turned:
        source, target = target, source
    there, _ = _warped(target, frame.from_there, frame.size)
    here, valid = _warped(source, frame.from_here, frame.size)
    return Overlap(here, there, valid, frame)


def _overlap_box(
    affine: Map, source: tuple[int, ...], target: tuple[int, int]
) -> tuple[float, float, float, float] | None:
    height, width = source
    corners = np.array([[-0.5, -0.5], [width - 0.5, -0.5], [width - 0.5, height - 0.5], [-0.5, height - 0.5]])
    mapped = apply(affine, (corners[:, 0] + 1j * corners[:, 1]).astype(np.complex64))
    left, top = max(mapped.real.min() + 0.5, 0), max(mapped.imag.min() + 0.5, 0)
    right, bottom = min(mapped.real.max() + 0.5, target[1]), min(mapped.imag.max() + 0.5, target[0])
    return (float(left), float(top), float(right), float(bottom)) if right - left >= 2 and bottom - top >= 2 else None


def _warped(pyramid: tuple[Grey, ...], affine: Map, size: tuple[int, int]) -> tuple[Plane, Plane]:
    """Return the warped image, from the level that suits its scale, and 1 where it comes from inside the source."""
    level = 0
    near = affine if len(affine) == 2 else affine_at_middle(affine, pyramid[0].shape[::-1])
    shrink = float(np.linalg.norm(near[:, :2], axis=1).min())
    while level + 1 < len(pyramid) and shrink <= 0.6:
        level, shrink = level + 1, shrink * 2
    grey = pyramid[level]
    # a level may be one pixel less than half, so its own map comes from its own size
    across = np.array([pyramid[0].shape[1] / grey.shape[1], pyramid[0].shape[0] / grey.shape[0]])
    from_level = np.column_stack([np.diag(across), across / 2 - 0.5])
    whole = compose(affine, from_level)
    flags, warp = cv2.INTER_LINEAR, cv2.warpAffine if len(whole) == 2 else cv2.warpPerspective
    warped = warp(grey, whole, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    inside = warp(np.full_like(grey, 255), whole, size, flags=cv2.INTER_NEAREST, borderValue=0)
    return warped.astype(np.float32), (inside > 0).astype(np.float32)
