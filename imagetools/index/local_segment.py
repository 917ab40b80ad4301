"""The local codes of some images, sorted for look-up by key: 42 bytes a code, and never changed."""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imagetools.index.local_keys import KEY_BITS, TABLES, Keys, keys_of

Positions = NDArray[np.int64]

# The upper bits of a key choose a stretch of `low`; only the lower ones are stored
_LOW_BITS: Final = 16
_STRETCHES: Final = TABLES << (KEY_BITS - _LOW_BITS)


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """The codes of m images, n codes in all, image after image: what is worth keeping on disk.

    codes    uint64 (n, 2), 128 bits a code
    shapes   uint8 (n, 2), size and direction as in `LocalCodes`
    numbers  uint32 (m,), the images, ascending
    ends     uint32 (m,), the row after each image's last
    """

    codes: NDArray[np.uint64]
    shapes: NDArray[np.uint8]
    numbers: NDArray[np.uint32]
    ends: NDArray[np.uint32]

    def __len__(self) -> int:
        """Return n."""
        return len(self.codes)


@dataclass(frozen=True, slots=True, eq=False)
class Segment(Stored):
    """The codes of m images, n codes in all, and where to find them by key.

    low     uint16 (TABLES · n,), the lower bits of all keys, in the order of the keys
    rows    uint32 (TABLES · n,), the code of each key; equal keys keep the order of the codes
    starts  int64 (_STRETCHES + 2,), where in `low` the keys with each value of the upper bits begin
    """

    low: NDArray[np.uint16]
    rows: NDArray[np.uint32]
    starts: Positions

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        arrays: tuple[NDArray[Any], ...] = (
            self.codes, self.shapes, self.numbers, self.ends, self.low, self.rows, self.starts,
        )  # fmt: skip
        return sum(array.nbytes for array in arrays)

    def count_of(self, number: int) -> int:
        """Return how many codes an image has here; 0 where it is not here."""
        at = int(np.searchsorted(self.numbers, number))
        if at == len(self.numbers) or self.numbers[at] != number:
            return 0
        return int(self.ends[at]) - (int(self.ends[at - 1]) if at else 0)

    def images_of(self, rows: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Return the number of the image that each row belongs to."""
        return self.numbers[np.searchsorted(self.ends, rows, side="right")]

    def positions_of(self, keys: Keys) -> Positions:
        """Return where in `rows` each key, or the next greater one, begins; TABLES << KEY_BITS is past the end."""
        upper, wanted = keys >> _LOW_BITS, (keys & ((1 << _LOW_BITS) - 1)).astype(np.uint16)
        low: Positions = self.starts[upper]
        high: Positions = self.starts[upper + 1]
        for _ in range(int((high - low).max(initial=0)).bit_length()):
            middle = (low + high) >> 1
            # where nothing is left to halve, the last key stands in for the one past the end
            smaller = (self.low[np.minimum(middle, len(self.low) - 1)] < wanted) & (low < high)
            low = np.where(smaller, middle + 1, low)
            high = np.where(smaller, high, middle)
        return low


def make_segment(stored: Stored) -> Segment:
    """Sort codes by their keys. There has to be a code."""
    codes = stored.codes
    count = len(codes)
    low, rows = np.empty(TABLES * count, np.uint16), np.empty(TABLES * count, np.uint32)
    starts = np.empty(_STRETCHES + 2, np.int64)
    each = _STRETCHES // TABLES
    for table, keys in enumerate(keys_of(codes.view(np.uint8))):
        lower, upper = keys.astype(np.uint16), (keys >> _LOW_BITS).astype(np.uint16)
        # numpy sorts numbers of 16 bits in linear time, and stably: the lower half first, then the upper
        order = np.argsort(lower, kind="stable")
        order = order[np.argsort(upper[order], kind="stable")]
        part = slice(table * count, (table + 1) * count)
        low[part], rows[part] = lower[order], order
        sizes = np.bincount(upper - table * each, minlength=each)
        starts[table * each : (table + 1) * each] = table * count + np.cumsum(sizes) - sizes
    starts[_STRETCHES:] = TABLES * count
    return Segment(codes, stored.shapes, stored.numbers, stored.ends, low, rows, starts)


def joined(parts: Sequence[Stored], gone: Set[int]) -> Stored:
    """Join parts whose images ascend, without the images in `gone`."""
    numbers = np.concatenate([np.empty(0, np.uint32), *(part.numbers for part in parts)])
    counts = np.concatenate([np.empty(0, np.uint32), *(np.diff(part.ends, prepend=np.uint32(0)) for part in parts)])
    codes = np.concatenate([np.empty((0, 2), np.uint64), *(part.codes for part in parts)])
    shapes = np.concatenate([np.empty((0, 2), np.uint8), *(part.shapes for part in parts)])
    if gone:
        stays = np.isin(numbers, list(gone), invert=True)
        rows = np.repeat(stays, counts)
        codes, shapes, numbers, counts = codes[rows], shapes[rows], numbers[stays], counts[stays]
    return Stored(codes, shapes, numbers, np.cumsum(counts, dtype=np.uint32))
