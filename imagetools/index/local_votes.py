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
from imagetools.index.local_segment import Positions, Searchable
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
    """Codes near the query's, (n,) each, in the order of the query's codes and then of the images.

    query      the query's code
    number     the image
    row        the code in its part of the index
    size       how much larger than the query's, in steps
    direction  how much further turned, in steps
    shown      the share of the list that was looked at
    """

    query: NDArray[np.int64]
    number: NDArray[np.int64]
    row: NDArray[np.int64]
    size: NDArray[np.int64]
    direction: NDArray[np.int64]
    shown: NDArray[np.float64]


def bits_for(count: int) -> int:
    """Return how many bits of a key have to agree among this many codes: lists keep their length as an index grows."""
    return min(KEY_BITS, max(_FEWEST_BITS, count.bit_length() + _SPARE_BITS))


def count_votes(
    parts: Sequence[Searchable], query: LocalCodes, *, bits: int, gone: Iterable[Set[int]], least: float
) -> Votes:
    """Count the votes of an image; see above.

    parts  of the index; the images ascend
    bits   of a key that have to agree
    gone   images that get no votes
    least  images with a lower score are left out
    """
    codes = np.concatenate([query.own, query.mirrored])
    # looked up in the order of the keys, so that what is read lies together
    wanted = np.sort((keys_of(codes).astype(np.uint64) << 32) | np.arange(len(codes), dtype=np.uint64), axis=None)
    keys, asked = (wanted >> 32).astype(np.uint32), wanted.astype(np.uint32)
    lists = [_lists_of(part, keys, bits) for part in parts]
    lengths = np.sum([high - low for low, high in lists], axis=0, dtype=np.int64)
    shown = np.minimum(1.0, LONGEST_LIST / np.maximum(lengths, 1))
    long = np.flatnonzero(shown < 1)
    found, looked = [], 0
    for part, (low, high) in zip(parts, lists, strict=True):
        first, sizes = low, high - low
        if len(long):
            sizes[long] = np.ceil(sizes[long] * shown[long])
            # next to the key
            middle = part.positions_of(keys[long]) - sizes[long] // 2
            first[long] = np.clip(middle, low[long], high[long] - sizes[long])
        looked += int(sizes.sum())
        found.append(_hits_in(part, query, codes, asked, first, sizes, shown))
    nothing = Votes(np.empty(0, np.uint32), np.empty(0), looked)
    if not found:
        return nothing
    hits = _in_order(_Hits(*(np.concatenate(columns) for columns in zip(*found, strict=True))))
    for images in gone:
        if images:
            hits = _chosen(hits, np.isin(hits.number, [n for n in np.unique(hits.number) if n in images], invert=True))
    if not len(hits.query):
        return nothing
    numbers, scores = _scored(hits, len(codes), least)
    return Votes(numbers.astype(np.uint32), scores, looked)


def _lists_of(part: Searchable, keys: Keys, bits: int) -> tuple[Positions, Positions]:
    """Where the list of each key begins and ends."""
    spare = np.uint32((1 << (KEY_BITS - bits)) - 1)
    low, high = np.split(part.positions_of(np.concatenate([keys & ~spare, (keys | spare) + 1])), 2)
    return low, high


def _hits_in(
    part: Searchable,
    query: LocalCodes,
    codes: NDArray[np.uint8],
    asked: NDArray[np.uint32],
    first: Positions,
    sizes: Positions,
    shown: NDArray[np.float64],
) -> tuple[NDArray[np.int64] | NDArray[np.float64], ...]:
    """The columns of `_Hits` in one part: of each list, `sizes` codes from `first` on."""
    words = codes.view(np.uint64)
    lists = np.repeat(np.arange(len(sizes)), sizes)
    rows = part.rows.take(np.arange(len(lists)) + (first - np.cumsum(sizes) + sizes).take(lists))
    unequal = words.take(asked, axis=0).take(lists, axis=0) ^ part.codes.take(rows, axis=0)
    counts = np.bitwise_count(unequal)
    near = np.flatnonzero(counts[:, 0] + counts[:, 1] <= HAMMING)
    lists, rows = lists[near], rows[near]
    asks = asked[lists].astype(np.int64)
    own, mirrored = asks % len(query), asks >= len(query)
    shapes = part.shapes[rows].astype(np.int64)
    direction = query.direction[own].astype(np.int64)
    # in the mirror image a direction d is half a turn less d
    direction = np.where(mirrored, DIRECTION_STEPS // 2 - direction, direction)
    size = shapes[:, 0] - query.size[own]
    turn = (shapes[:, 1] - direction) % DIRECTION_STEPS
    return asks, part.images_of(rows).astype(np.int64), rows.astype(np.int64), size, turn, shown[lists]


def _in_order(hits: _Hits) -> _Hits:
    # a code that several tables show is one hit; the shortest list says how much is hidden
    return _chosen(hits, np.lexsort((-hits.shown, hits.row, hits.number, hits.query)))


def _chosen(hits: _Hits, which: NDArray[np.bool_] | NDArray[np.int64]) -> _Hits:
    return _Hits(*(getattr(hits, name)[which] for name in _Hits.__slots__))


def _scored(hits: _Hits, count: int, least: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The images with at least `least` votes, and their scores; `count` codes voted, the second half of the mirror."""
    numbers, image = np.unique(hits.number, return_inverse=True)
    first = np.flatnonzero(np.diff(hits.query * len(numbers) + image, prepend=-1))
    weights = 1 / np.sqrt(np.maximum(np.bincount(hits.query[first], 1 / hits.shown[first], count), 1))
    # no code has more than one vote, so most images need no closer look
    hopeful = np.bincount(image[first], weights[hits.query[first]]) >= least
    which = np.flatnonzero(hopeful[image])
    if not len(which):
        return numbers[:0], np.empty(0)
    hits, image = _chosen(hits, which), image[which]
    side = 2 * image + (hits.query >= count // 2)
    # grids that overlap by half, so that what agrees is in one cell of one of them
    cells: list[NDArray[np.int64]] = []
    for size_shift in (0, _SIZE_BIN // 2):
        for turn_shift in (0, _DIRECTION_BIN // 2):
            sizes = (hits.size + 256 + size_shift) // _SIZE_BIN
            turns = (hits.direction + turn_shift) // _DIRECTION_BIN % _DIRECTION_BINS
            grid = 2 * len(numbers) * len(cells) + side
            cells.append((grid * _SIZE_BINS + sizes) * _DIRECTION_BINS + turns)
    votes = np.unique(np.concatenate([one * count + hits.query for one in cells]))
    filled, cell = np.unique(votes // count, return_inverse=True)
    scores = np.zeros(len(numbers))
    of_image = filled // (2 * _SIZE_BINS * _DIRECTION_BINS) % len(numbers)
    np.maximum.at(scores, of_image, np.bincount(cell, weights[votes % count]))
    enough = scores >= least
    return numbers[enough], scores[enough]
