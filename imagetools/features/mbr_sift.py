"""MBR-SIFT: SIFT descriptors, and those of the mirrored image, as short binary codes.

Source: Su, Ma, Zhang, Wang, Zhang, "MBR-SIFT: A mirror reflected invariant feature descriptor using a binary
representation for image matching", PLoS ONE 12(5) e0178090, 2017.

An OpenCV SIFT descriptor is 4 rows × 4 columns × 8 orientation bins. Mirroring an image flips the rows and reverses the
orientations of every descriptor; as SIFT normalises rotation, that one change serves horizontal and vertical mirrors.
A code holds, for each orientation, whether the gradient grows from one cell to the next along a serpentine path: 128
coarse bits, and 256 fine ones that also say whether it grows much.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Descriptors = NDArray[np.float32]
Bits = NDArray[np.uint8]

COARSE_BYTES: Final = 16
FINE_BYTES: Final = 32
# "much" is 2.3 standard deviations of the descriptor's own values (Su et al.: a = 2.3, b = 0)
FINE_FACTOR: Final = np.float32(2.3)
_FINE_GROUPS: Final = 64

_GRID: Final = np.arange(128).reshape(4, 4, 8)
_MIRROR: Final = _GRID[::-1, :, (8 - np.arange(8)) % 8].reshape(128)
_SERPENTINE: Final = np.array([[row * 4 + (col if row % 2 == 0 else 3 - col) for col in range(4)] for row in range(4)])
_PATH: Final = (_SERPENTINE.reshape(1, 16) * 8 + np.arange(8).reshape(8, 1)).reshape(128)
_PATH_NEXT: Final = np.roll(_PATH.reshape(8, 16), -1, axis=1).reshape(128)


@dataclass(frozen=True)
class Codes:
    """The codes of n descriptors.

    coarse  uint8 (n, 16), 128 bits a keypoint
    fine    uint8 (n, 32), 256 bits a keypoint
    """

    coarse: Bits
    fine: Bits


def mirror_twin(descriptors: Descriptors) -> Descriptors:
    """Return the descriptors, (n, 128), that the same keypoints have in the mirrored image."""
    return descriptors[:, _MIRROR]


def encode(descriptors: Descriptors) -> Codes:
    """Return the codes of SIFT descriptors, float32 (n, 128) of whole numbers as OpenCV gives them; n may be 0."""
    # one column for each descriptor, so that the path picks whole rows
    columns = np.ascontiguousarray(descriptors.astype(np.int16).T)
    growth = np.ascontiguousarray((columns[_PATH_NEXT] - columns[_PATH]).T)
    # growth is a whole number, so the limit can be rounded up
    much = np.ceil(FINE_FACTOR * descriptors.std(axis=1, keepdims=True)).astype(np.int16)
    grows = growth >= 0
    # 11 grows much, 10 grows, 01 shrinks, 00 shrinks much
    fine = np.empty((len(descriptors), 128, 2), dtype=np.bool_)
    fine[:, :, 0] = grows
    np.logical_or(growth >= much, (growth > -much) & ~grows, out=fine[:, :, 1])
    return Codes(np.packbits(grows, axis=1), np.packbits(fine.reshape(-1, 256), axis=1))


def coarse_distances(queries: Bits, codes: Bits) -> Bits:
    """Return the Hamming distances, uint8 (n, m), 0 to 128, of coarse codes (n, 16) to (m, 16)."""
    left = queries.view(np.uint64)
    # equal words of all codes side by side: a loop with strides is not vectorised
    right = np.ascontiguousarray(codes.view(np.uint64).T)
    # one 64-bit word at a time: the three-dimensional exclusive or takes fifteen times as long
    unequal = np.bitwise_xor.outer(left[:, 0], right[0])
    distances: Bits = np.bitwise_count(unequal)
    np.bitwise_xor.outer(left[:, 1], right[1], out=unequal)
    distances += np.bitwise_count(unequal)
    return distances


def fine_equal_groups(queries: Bits, codes: Bits) -> NDArray[np.intp]:
    """Return how many of the 64 groups of 4 bits are equal, for fine codes of shapes that broadcast to (…, 32)."""
    unequal = np.bitwise_xor(queries, codes)
    equal: NDArray[np.intp] = ((unequal & 0x0F) == 0).sum(axis=-1)
    equal += ((unequal & 0xF0) == 0).sum(axis=-1)
    return equal


_ANGLE: Final = np.arccos(np.arange(_FINE_GROUPS + 1) / _FINE_GROUPS).astype(np.float32)


def fine_distances(queries: Bits, codes: Bits) -> NDArray[np.float32]:
    """Return arccos(equal groups / 64), 0 to π/2, for fine codes of shapes that broadcast to (…, 32)."""
    return _ANGLE[fine_equal_groups(queries, codes)]


# Beyond 30 of 128 bits correct matches are rare (one in six at most, on blurred copies) and wrong ones the rule
COARSE_LIMIT: Final = 30
FINE_RATIO: Final = np.float32(0.84)
_FAR: Final = np.float32(np.pi)


@dataclass(frozen=True)
class Matches:
    """Pairs of descriptors that passed both steps, best first.

    query     intp (k,), rows of the query's codes
    index     intp (k,), rows of the codes matched against
    distance  float32 (k,), fine distance in radians
    """

    query: NDArray[np.intp]
    index: NDArray[np.intp]
    distance: NDArray[np.float32]


def match(queries: Codes, codes: Codes, distances: Bits, rows: NDArray[np.intp]) -> Matches:
    """Match the query's rows by the two steps of Su et al., §3.3: coarse neighbors, then the ratio of fine distances.

    distances  uint8 (n, m), `coarse_distances` of the two, which the caller has for its own first gate
    rows       the rows of the query worth matching, those within `COARSE_LIMIT` as a rule
    """
    nearest = min(5, len(codes.coarse))
    if nearest < 2 or not len(rows):
        nothing = np.empty(0, dtype=np.intp)
        return Matches(nothing, nothing, np.empty(0, dtype=np.float32))
    among = distances[rows]
    kept = np.argpartition(among, nearest - 1, axis=1)[:, :nearest]
    coarse = np.take_along_axis(among, kept, axis=1)
    order = np.argsort(coarse, axis=1, kind="stable")
    kept, coarse = np.take_along_axis(kept, order, axis=1), np.take_along_axis(coarse, order, axis=1)
    fine = fine_distances(queries.fine[rows][:, np.newaxis], codes.fine[kept])
    clear = coarse[:, 0].astype(np.int16) * 2 < coarse[:, 1]
    fine[clear, 2:] = _FAR
    best = fine.argmin(axis=1)
    every = np.arange(len(rows))
    first = fine[every, best]
    fine[every, best] = _FAR
    passed = np.flatnonzero(first < FINE_RATIO * fine.min(axis=1))
    passed = passed[np.argsort(first[passed], kind="stable")]
    return Matches(rows[passed], kept[passed, best[passed]], first[passed])
