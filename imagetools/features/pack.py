"""Features as bytes and back, bit for bit."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imagetools.features import mbr_sift
from imagetools.features.extract import THUMB_SIDE, Features, Keypoints, complete
from imagetools.features.mbr_sift import Codes


class Packed(NamedTuple):
    """Features as they are kept on disk, without what is quickly computed again.

    sizes  (width, height) of the original image, of the fitted grey one and of the close one; then the count
    data   pixels of the fitted and the close image, colours, keypoints and codes, one after the other
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
    return Packed(sizes, b"".join(array.tobytes() for array in arrays), features.key)


def unpack(packed: Packed) -> Features:
    """Return the features that were packed; ValueError where the length of the data does not fit its sizes."""
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
    arrays, start = [], 0
    for kind, shape in shapes:
        count = math.prod(shape)
        arrays.append(np.frombuffer(packed.data, kind, count, start).reshape(shape) if count else np.empty(shape, kind))
        start += count * np.dtype(kind).itemsize
    if start != len(packed.data):
        raise ValueError(f"{len(packed.data)} bytes, not the {start} of these sizes")
    grey, close, thumb, at, frame, coarse, fine = arrays
    return complete(
        (original[0], original[1]), grey, close, thumb, Keypoints(at, frame), Codes(coarse, fine), packed.key
    )
