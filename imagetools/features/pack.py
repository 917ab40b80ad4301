"""Features as bytes and back, bit for bit."""

import math
import struct
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imagetools.features import mbr_sift
from imagetools.features.extract import THUMB_SIDE, Features, Keypoints, complete
from imagetools.features.mbr_sift import Codes

_LATER: Final = struct.Struct("<7i32s")
"""What stands before the data of a later frame: its sizes and its key."""


class Packed(NamedTuple):
    """Features as they are kept on disk, without what is quickly computed again.

    sizes  (width, height) of the original image, of the fitted grey one and of the close one; then the count
    data   pixels of the fitted and the close image, colours, keypoints and codes, one after the other; then the same of
           each later frame of an animation, after its sizes and key
    key    as in Features
    """

    sizes: tuple[int, int, int, int, int, int, int]
    data: bytes
    key: bytes


def pack(features: Features) -> Packed:
    """Return features as bytes, from which `unpack` makes the same features."""
    grey, close, own = features.pyramid[0], features.close, features.count
    arrays: tuple[NDArray[Any], ...] = (
        grey,
        close,
        features.colours.astype(np.uint8),
        features.keypoints.at[:own],
        features.keypoints.frame[:own],
        features.codes.coarse,
        features.codes.fine,
    )
    sizes = (*features.original, features.width, features.height, close.shape[1], close.shape[0], own)
    later = [pack(frame) for frame in features.later]
    pieces = [
        *(array.tobytes() for array in arrays),
        *(piece for frame in later for piece in (_LATER.pack(*frame.sizes, frame.key), frame.data)),
    ]
    return Packed(sizes, b"".join(pieces), features.key)


def unpack(packed: Packed) -> Features:
    """Return the features that were packed; ValueError where the length of the data does not fit its sizes."""
    first, start = _unpack_one(packed, 0)
    later: list[Features] = []
    while start + _LATER.size <= len(packed.data):
        *sizes, key = _LATER.unpack_from(packed.data, start)
        if min(sizes) < 0:
            raise ValueError(f"a later frame of the sizes {sizes}")
        frame, start = _unpack_one(Packed(tuple(sizes), packed.data, key), start + _LATER.size)
        later.append(frame)
    if start != len(packed.data):
        raise ValueError(f"{len(packed.data)} bytes, not the {start} of these sizes")
    return replace(first, later=tuple(later)) if later else first


def _unpack_one(packed: Packed, start: int) -> tuple[Features, int]:
    """Return the features of the picture whose arrays begin at `start`, and where they end."""
    *original, width, height, close_width, close_height, own = packed.sizes
    shapes: tuple[tuple[Any, tuple[int, ...]], ...] = (
        (np.uint8, (height, width)),
        (np.uint8, (close_height, close_width)),
        (np.uint8, (THUMB_SIDE, THUMB_SIDE, 3)),
        (np.complex64, (own,)),
        (np.complex64, (own,)),
        (np.uint8, (2 * own, mbr_sift.COARSE_BYTES)),
        (np.uint8, (2 * own, mbr_sift.FINE_BYTES)),
    )
    arrays = []
    for kind, shape in shapes:
        count = math.prod(shape)
        arrays.append(np.frombuffer(packed.data, kind, count, start).reshape(shape) if count else np.empty(shape, kind))
        start += count * np.dtype(kind).itemsize
    grey, close, thumb, at, frame, coarse, fine = arrays
    keypoints, codes = Keypoints(at, frame), Codes(coarse, fine)
    return complete((original[0], original[1]), grey, close, thumb, keypoints, codes, packed.key), start
