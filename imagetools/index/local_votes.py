"""Votes of an image's local codes for the images of an index.

An image asks with the codes of its keypoints, and apart from these with the codes of its mirror image. Steps, in order:
1. Look-up: in each table, the codes whose key agrees in its first bits. Of a list of more than LONGEST_LIST codes only
   that many are looked at, those next to the key.
2. Hits: of these, the codes within HAMMING bits.
3. Weight: each code votes with 1/√n, n the images that it hits; what a long list hides is counted in proportion. So a
   logo in every tenth image weighs little (Jégou, Douze, Schmid, "On the burstiness of visual elements", CVPR 2009).
4. Geometry: votes for an image count together where they agree by how much larger and in which direction the keypoint
   is turned: within half an octave and a sixteenth of a turn (weak geometric consistency; Jégou, Douze, Schmid,
   "Hamming embedding and weak geometric consistency for large scale image search", ECCV 2008, §4). A code has one vote.
"""

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imagetools.index.local_keys import KEY_BITS, Keys, keys_of
from imagetools.index.local_segment import Positions, Segment
from imagetools.local_codes import DIRECTION_STEPS, SIZE_STEPS, LocalCodes

HAMMING: Final = 24
LONGEST_LIST: Final = 64

_FEWEST_BITS: Final = 16
# A list of codes that agree by chance has at most a fourth of a code
_SPARE_BITS: Final = 2

_SIZE_BIN: Final = SIZE_STEPS // 2
_DIRECTION_BIN: Final = DIRECTION_STEPS // 16
_SIZE_BINS: Final = 2 * 256 // _SIZE_BIN + 1
_DIRECTION_BINS: Final = DIRECTION_STEPS // _DIRECTION_BIN


@dataclass(frozen=True, slots=True, eq=False)
class Votes:
    """What images have of an image's votes.

    numbers  uint32 (m,), the images, ascending
    scores   float64 (m,), the sum of the votes that agree, of the image or of its mirror image
    looked   how many codes were looked at
    """

    numbers: NDArray[np.uint32]
    scores: NDArray[np.float64]
    looked: int


@dataclass(frozen=True, slots=True, eq=False)
class _Hits:
    """Codes near the query's, (n,) each.

    query      the query's code
    number     the image
    size       how much larger than the query's, in steps
    direction  how much further turned, in steps
    shown      the share of the list that was looked at
    """

    query: NDArray[np.int64]
    number: NDArray[np.int64]
    size: NDArray[np.int64]
    direction: NDArray[np.int64]
    shown: NDArray[np.float64]


def bits_for(count: int) -> int:
    """Return how many bits of a key have to agree among this many codes: lists keep their length as an index grows."""
    return min(KEY_BITS, max(_FEWEST_BITS, count.bit_length() + _SPARE_BITS))


def count_votes(
    segments: Sequence[Segment], query: LocalCodes, *, bits: int, gone: Iterable[Set[int]], least: float
) -> Votes:
    """Count the votes of an image; see above.

    bits   of a key that have to agree
    gone   images that get no votes
    least  images with a lower score are left out
    """
    codes = np.concatenate([query.own, query.mirrored])
    keys = keys_of(codes).ravel()
    ranges = [_ranges(segment, keys, bits) for segment in segments]
    lengths = np.sum([high - low for low, high, _ in ranges], axis=0, dtype=np.int64)
    shown = np.minimum(1.0, LONGEST_LIST / np.maximum(lengths, 1))
    found, looked = [], 0
    for segment, (low, high, near) in zip(segments, ranges, strict=True):
        sizes = np.ceil((high - low) * shown).astype(np.int64)
        first = np.clip(near - sizes // 2, low, high - sizes)
        looked += int(sizes.sum())
        found.append(_hits_in(segment, query, codes, first, sizes, shown))
    hits = _Hits(*(np.concatenate(columns) for columns in zip(*found, strict=True))) if found else None
    nothing = Votes(np.empty(0, np.uint32), np.empty(0), looked)
    if hits is None:
        return nothing
    for images in gone:
        if images:
            hits = _chosen(hits, np.isin(hits.number, [n for n in np.unique(hits.number) if n in images], invert=True))
    if not len(hits.query):
        return nothing
    numbers, scores = _scored(hits, len(codes), least)
    return Votes(numbers.astype(np.uint32), scores, looked)


def _ranges(segment: Segment, keys: Keys, bits: int) -> tuple[Positions, Positions, Positions]:
    """Where the list of each key begins and ends, and where in it the key itself would stand."""
    spare = np.uint32((1 << (KEY_BITS - bits)) - 1)
    low, high, near = np.split(segment.positions_of(np.concatenate([keys & ~spare, (keys | spare) + 1, keys])), 3)
    return low, high, near


def _hits_in(
    segment: Segment,
    query: LocalCodes,
    codes: NDArray[np.uint8],
    first: Positions,
    sizes: Positions,
    shown: NDArray[np.float64],
) -> tuple[NDArray[np.int64] | NDArray[np.float64], ...]:
    """The columns of `_Hits` in one segment: of each list, `sizes` codes from `first` on."""
    words, count = codes.view(np.uint64), len(codes)
    lists = np.repeat(np.arange(len(sizes)), sizes)
    rows = segment.rows[np.arange(len(lists)) + np.repeat(first - np.cumsum(sizes) + sizes, sizes)]
    asked = lists % count
    near = np.bitwise_count(words[asked] ^ segment.codes[rows]).sum(axis=1) <= HAMMING
    asked, rows, seen = asked[near], rows[near].astype(np.int64), shown[lists[near]]
    # a code that several tables show is one hit; the shortest list says how much is hidden
    order = np.lexsort((-seen, rows, asked))
    asked, rows, seen = asked[order], rows[order], seen[order]
    new = np.ones(len(rows), np.bool_)
    new[1:] = (rows[1:] != rows[:-1]) | (asked[1:] != asked[:-1])
    asked, rows, seen = asked[new], rows[new], seen[new]
    own, mirrored = asked % len(query), asked >= len(query)
    shapes = segment.shapes[rows].astype(np.int64)
    direction = query.direction[own].astype(np.int64)
    # in the mirror image a direction d is half a turn less d
    direction = np.where(mirrored, DIRECTION_STEPS // 2 - direction, direction)
    size = shapes[:, 0] - query.size[own]
    return asked, segment.images_of(rows).astype(np.int64), size, (shapes[:, 1] - direction) % DIRECTION_STEPS, seen


def _chosen(hits: _Hits, which: NDArray[np.bool_]) -> _Hits:
    return _Hits(hits.query[which], hits.number[which], hits.size[which], hits.direction[which], hits.shown[which])


def _scored(hits: _Hits, count: int, least: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The images with at least `least` votes, and their scores; `count` codes voted, the second half of the mirror."""
    numbers, image = np.unique(hits.number, return_inverse=True)
    pairs, first = np.unique(hits.query * len(numbers) + image, return_index=True)
    weights = 1 / np.sqrt(np.maximum(np.bincount(pairs // len(numbers), 1 / hits.shown[first], count), 1))
    # no code has more than one vote, so most images need no closer look
    hopeful = (np.bincount(pairs % len(numbers), weights[pairs // len(numbers)]) >= least)[image]
    hits, image = _chosen(hits, hopeful), image[hopeful]
    scores = np.zeros(len(numbers))
    side = 2 * image + (hits.query >= count // 2)
    # grids that overlap by half, so that what agrees is in one cell of one of them
    for size_shift in (0, _SIZE_BIN // 2):
        for turn_shift in (0, _DIRECTION_BIN // 2):
            sizes = (hits.size + 256 + size_shift) // _SIZE_BIN
            turns = (hits.direction + turn_shift) // _DIRECTION_BIN % _DIRECTION_BINS
            cells = (side * _SIZE_BINS + sizes) * _DIRECTION_BINS + turns
            votes = np.unique(cells * count + hits.query)
            filled, cell = np.unique(votes // count, return_inverse=True)
            sums = np.bincount(cell, weights[votes % count])
            np.maximum.at(scores, filled // (2 * _SIZE_BINS * _DIRECTION_BINS), sums)
    enough = scores >= least
    return numbers[enough], scores[enough]
