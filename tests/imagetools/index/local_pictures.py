"""Local codes of drawn pictures, for tests: a picture is a number, a view of it shows most of its keypoints."""

import numpy as np
from numpy.typing import NDArray

from imagetools.local_codes import CODE_BYTES, MAX_LOCAL_CODES, LocalCodes

KEYPOINTS = 24


def codes_of(picture: int, count: int = KEYPOINTS) -> LocalCodes:
    """The codes of a picture; those of another number have nothing to do with them."""
    rng = np.random.default_rng(picture)
    return LocalCodes(
        rng.integers(0, 256, (count, CODE_BYTES), np.uint8),
        rng.integers(0, 256, (count, CODE_BYTES), np.uint8),
        np.sort(rng.integers(20, 100, count, np.uint8))[::-1],
        rng.integers(0, 256, count, np.uint8),
    )


def view_of(codes: LocalCodes, seed: int, *, flips: int = 6, larger: int = 0, turned: int = 0) -> LocalCodes:
    """The same keypoints, grown by `larger` steps and turned by `turned`, with up to `flips` bits of a code flipped."""
    rng = np.random.default_rng(seed)
    return LocalCodes(
        _flipped(codes.own, rng, flips),
        _flipped(codes.mirrored, rng, flips),
        (codes.size.astype(int) + larger).astype(np.uint8),
        ((codes.direction.astype(int) + turned) % 256).astype(np.uint8),
    )


def mirrored(codes: LocalCodes) -> LocalCodes:
    """The codes of the mirror image."""
    return LocalCodes(
        codes.mirrored, codes.own, codes.size, ((128 - codes.direction.astype(int)) % 256).astype(np.uint8)
    )


def both(*several: LocalCodes) -> LocalCodes:
    """A picture that shows several."""
    columns = ([getattr(one, name) for one in several] for name in ("own", "mirrored", "size", "direction"))
    own, twins, size, direction = (np.concatenate(column)[:MAX_LOCAL_CODES] for column in columns)
    return LocalCodes(own, twins, size, direction)


def _flipped(codes: NDArray[np.uint8], rng: np.random.Generator, flips: int) -> NDArray[np.uint8]:
    order = rng.random((len(codes), 128)).argsort(axis=1)
    changed = order < rng.integers(0, flips + 1, (len(codes), 1))
    return np.packbits(np.unpackbits(codes, axis=1) ^ changed, axis=1)
