"""Extract the features of an image: some 120 KB, enough to compare it with any other image."""

import hashlib
import math
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imagetools.decode import ORIGINAL_SIZE
from imagetools.features import mbr_sift
from imagetools.features.config import FeatureConfig
from imagetools.features.mbr_sift import Codes

THUMB_SIDE: Final = 16
# SIFT's first octave is twice the image; under this side its pyramid has no octave left
_MIN_SIFT_SIDE: Final = 8
# SIFT's edge threshold: a keypoint on an edge lies anywhere along it. OpenCV's own, 10, gives a twelfth more keypoints
# and finds no more copies
_EDGE_THRESHOLD: Final = 8
# A doubtful pair is compared again at this many times the box
_CLOSE_SCALE: Final = 1.6
# To shrink by less than this would only blur
_MIN_SHRINK: Final = 1.1
# A picture this many times as long as wide is a strip; its box grows with its length, up to this many times
_STRIP: Final = 3.0
_MAX_ROOM: Final = 8.0
# A picture counts as drawn where this share of it has two shades, each with levels this far to either side, as paper
# has in a scan; of 100 photos one or two do
_MIN_DRAWN: Final = 0.5
_SHADE_WIDTH: Final = 4
_TILES: Final = np.arange(THUMB_SIDE * THUMB_SIDE).reshape(THUMB_SIDE, THUMB_SIDE)
# The four quarter turns of a thumbnail, then those of its mirror image, as places in the thumbnail
_VIEWS: Final = np.stack([np.rot90(side, turn).ravel() for side in (_TILES, _TILES[:, ::-1]) for turn in range(4)])


@dataclass(frozen=True)
class Keypoints:
    """Keypoints of an image, n of them, in pixels of the fitted image.

    at     complex64 (n,), x + y·i, y downwards
    frame  complex64 (n,), the keypoint's size times its direction: what a similarity turns and scales
    """

    at: NDArray[np.complex64]
    frame: NDArray[np.complex64]


@dataclass(frozen=True)
class Features:
    """An image as the matcher sees it.

    original   (width, height) of the whole image, before it was decoded at a half or less, pixels
    width      of the fitted image, pixels
    height     of the fitted image, pixels
    pyramid    uint8 grey images, the fitted one first, each half the one before
    close      uint8 grey, the image at 1.6 times the box, which still shows fine stripes; or as it is, or halved, where
               that is smaller or little larger, but never below the box
    keypoints  of the image, largest first, then of its mirror image (left and right exchanged), n each
    codes      MBR-SIFT codes in the same order
    count      n
    views      float32 (8, 256): the 16 × 16 grey thumbnail in its four quarter turns, then its mirror image's; each
               of mean 0 and length 1, or all 0 for a picture of one shade
    colours    float32 (16, 16, 3), the thumbnail in colour, 0 to 255
    shade      float32 (3,), its mean colour
    key        orders the two images of a pair; equal where all that is compared is equal
    later      of an animation, the features of a middle and a late frame; empty for a still
    """

    original: tuple[int, int]
    width: int
    height: int
    pyramid: tuple[NDArray[np.uint8], ...]
    close: NDArray[np.uint8]
    keypoints: Keypoints
    codes: Codes
    count: int
    views: NDArray[np.float32]
    colours: NDArray[np.float32]
    shade: NDArray[np.float32]
    key: bytes
    later: tuple["Features", ...] = ()

    @property
    def frames(self) -> tuple["Features", ...]:
        """The features of all frames that are compared, itself first; one for a still."""
        return self, *self.later

    @property
    def drawn(self) -> bool:
        """Whether the picture looks drawn, typed or blank: most of it has one shade or two."""
        levels = np.bincount(self.close.ravel(), minlength=256)
        shades = np.convolve(levels, np.ones(2 * _SHADE_WIDTH + 1, dtype=np.intp), mode="same")
        first = int(shades.argmax())
        levels[max(0, first - 2 * _SHADE_WIDTH) : first + 2 * _SHADE_WIDTH + 1] = 0
        second = np.convolve(levels, np.ones(2 * _SHADE_WIDTH + 1, dtype=np.intp), mode="same").max()
        return bool(shades[first] + second >= _MIN_DRAWN * self.close.size)

    @property
    def nbytes(self) -> int:
        """Bytes of memory, for a cache to count."""
        points: tuple[NDArray[Any], ...] = (self.keypoints.at, self.keypoints.frame)
        codes = (self.codes.coarse, self.codes.fine)
        own = sum(array.nbytes for array in (*points, *codes, *self.pyramid, self.close, self.views, self.colours))
        return own + sum(frame.nbytes for frame in self.later)


def extract(image: Image.Image, config: FeatureConfig) -> Features:
    """Compute the features of an RGB image of any size from 1 × 1."""
    box = _roomier(config.box, image.size)
    closer = max(1, round(_CLOSE_SCALE * box[0])), max(1, round(_CLOSE_SCALE * box[1]))
    pixels = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    # of millions of pixels, enough that a picture shrunk from them is as sharp
    pixels = _halved(pixels, (4 * closer[0], 4 * closer[1]))
    thumb = _thumb(pixels, box)
    all_grey = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    grey, close = _fitted(all_grey, box), _close(_halved(all_grey, closer), box, closer)
    keypoints, descriptors = _detect(grey, config)
    codes = mbr_sift.encode(np.concatenate([descriptors, mbr_sift.mirror_twin(descriptors)]))
    return complete(
        image.info.get(ORIGINAL_SIZE, image.size), grey, close, thumb, keypoints, codes, _key(grey, close, thumb)
    )


def fitted_size(size: tuple[int, int], config: FeatureConfig) -> tuple[int, int]:
    """Return the (width, height) of the larger picture that is kept of a strip of some size; (1, 1) for other shapes.

    The box itself is enough to decode other shapes, whatever it lacks for the larger picture.
    """
    room = _roomier(config.box, size)
    if room == config.box:
        return 1, 1
    scale = min(1.0, *(_CLOSE_SCALE * side / had for side, had in zip(room, size, strict=True)))
    return math.ceil(size[0] * scale), math.ceil(size[1] * scale)


def _roomier(box: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """Return the box, larger for a strip: what fills the width of one is not shrunk to a dozen pixels."""
    longer, shorter = max(size), max(1, min(size))
    by = min(_MAX_ROOM, max(1.0, longer / shorter - _STRIP + 1))
    return round(box[0] * by), round(box[1] * by)


def complete(
    original: tuple[int, int],
    grey: NDArray[np.uint8],
    close: NDArray[np.uint8],
    thumb: NDArray[np.uint8],
    keypoints: Keypoints,
    codes: Codes,
    key: bytes,
) -> Features:
    """Return features, with all that follows quickly from the rest.

    thumb      uint8 (16, 16, 3), the thumbnail in colour
    keypoints  the image's own, without those of its mirror image
    codes      of both
    """
    height, width = grey.shape
    mirrored = Keypoints(np.complex64(width - 1) - keypoints.at.conj(), -keypoints.frame.conj())
    colours = thumb.astype(np.float32)
    return Features(
        original=original,
        width=width,
        height=height,
        pyramid=pyramid_of(grey),
        close=close,
        keypoints=Keypoints(
            np.concatenate([keypoints.at, mirrored.at]), np.concatenate([keypoints.frame, mirrored.frame])
        ),
        codes=codes,
        count=len(keypoints.at),
        views=_views(np.asarray(cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY), dtype=np.float32)),
        colours=colours,
        shade=colours.mean(axis=(0, 1)),
        key=key,
    )


def _thumb(pixels: NDArray[np.uint8], box: tuple[int, int]) -> NDArray[np.uint8]:
    # where a side would have to grow, OpenCV averages along neither: a small image is fitted first
    large = pixels if min(pixels.shape[:2]) >= 2 * THUMB_SIDE else _fitted(pixels, box)
    return np.asarray(cv2.resize(large, (THUMB_SIDE, THUMB_SIDE), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _key(*pictures: NDArray[np.uint8]) -> bytes:
    # SHA-256: processors have instructions for it
    digest = hashlib.sha256(repr([picture.shape for picture in pictures]).encode())
    for picture in pictures:
        digest.update(np.ascontiguousarray(picture).data)
    return digest.digest()


def _halved(pixels: NDArray[np.uint8], box: tuple[int, int]) -> NDArray[np.uint8]:
    """Halve an image for as long as it still does not fit into the box.

    Halving is many times as fast as shrinking by any other factor, and leaves little to shrink.
    """
    while pixels.shape[1] // 2 >= box[0] or pixels.shape[0] // 2 >= box[1]:
        size = max(1, pixels.shape[1] // 2), max(1, pixels.shape[0] // 2)
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return pixels


def _fitted(pixels: NDArray[np.uint8], box: tuple[int, int]) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    scale = min(box[0] / width, box[1] / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, size, interpolation=method), dtype=np.uint8)


def _detect(grey: NDArray[np.uint8], config: FeatureConfig) -> tuple[Keypoints, NDArray[np.float32]]:
    nothing = np.empty(0, dtype=np.complex64)
    if min(grey.shape) < _MIN_SIFT_SIDE:
        return Keypoints(nothing, nothing), np.empty((0, 128), dtype=np.float32)
    # a new one for every image: a SIFT object holds its pyramid and is not safe to share between threads
    # without the precise upscale keypoints lie a quarter of a pixel right and below
    sift = cv2.SIFT.create(
        nfeatures=config.max_keypoints,
        contrastThreshold=config.contrast,
        edgeThreshold=_EDGE_THRESHOLD,
        enable_precise_upscale=True,
    )
    found, descriptors = sift.detectAndCompute(grey, None)
    # for no keypoints the descriptors are None in OpenCV 4 and an empty array in OpenCV 5
    if not found:
        return Keypoints(nothing, nothing), np.empty((0, 128), dtype=np.float32)
    x, y = np.asarray(cv2.KeyPoint.convert(found), dtype=np.float32).T
    size = np.array([point.size for point in found], dtype=np.float32)
    angle = np.array([point.angle for point in found], dtype=np.float32)
    response = np.array([point.response for point in found], dtype=np.float32)
    # equal responses make SIFT return a few more than it was asked for
    strongest = np.argsort(-response, kind="stable")[: config.max_keypoints]
    # the large ones survive shrinking and blur, so that the matcher compares them first
    strongest = strongest[np.argsort(-size[strongest], kind="stable")]
    at, frame = x + 1j * y, size * np.exp(1j * np.radians(angle))
    keypoints = Keypoints(at[strongest].astype(np.complex64), frame[strongest].astype(np.complex64))
    return keypoints, np.asarray(descriptors, np.float32)[strongest]


def _close(grey: NDArray[np.uint8], box: tuple[int, int], closer: tuple[int, int]) -> NDArray[np.uint8]:
    height, width = grey.shape
    if width <= box[0] and height <= box[1]:
        # no smaller than the fitted image: of few pixels, much agrees by chance
        return _fitted(grey, box)
    return grey if width <= _MIN_SHRINK * closer[0] and height <= _MIN_SHRINK * closer[1] else _fitted(grey, closer)


def pyramid_of(grey: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], ...]:
    """Return a grey image, and up to three more, each half the one before."""
    levels = [grey]
    while len(levels) < 4 and min(levels[-1].shape) >= 2 * THUMB_SIDE:
        height, width = levels[-1].shape
        half = cv2.resize(levels[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        levels.append(np.asarray(half, dtype=np.uint8))
    return tuple(levels)


def _views(thumb: NDArray[np.float32]) -> NDArray[np.float32]:
    centred = thumb - thumb.mean()
    # below one grey level there is nothing but noise to compare
    norm = max(float(np.linalg.norm(centred)), float(THUMB_SIDE))
    return np.asarray((centred / norm).ravel()[_VIEWS], dtype=np.float32)
