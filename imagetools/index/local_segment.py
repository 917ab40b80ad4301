"""The local codes of some images, sorted for look-up by key: at most 44 bytes a code, and never changed."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imagetools.index.local_keys import KEY_BITS, TABLES, Keys, keys_of

Positions = NDArray[np.int64]
Entries = NDArray[np.uint64]
"""Keys, each with the row of its code: (key << 32) + row. Sorted, equal keys keep the order of the codes."""

_ROW_BITS: Final = np.uint64(32)

# The upper bits of a key choose a stretch of `low`; only the lower ones are stored
_MOST_LOW_BITS: Final = 16
# Codes of a stretch, at the average of a large segment: its starts take 1 to 2 bytes a code
_STRETCH: Final = 8


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
class Searchable(Stored, ABC):
    """The codes of m images, n codes in all, and where to find them by key.

    rows  uint32 (TABLES · n,), the code of each key, in the order of the keys; equal keys keep the order of the codes
    """

    rows: NDArray[np.uint32]

    @abstractmethod
    def positions_of(self, keys: Keys) -> Positions:
        """Return where in `rows` each key, or the next greater one, begins; TABLES << KEY_BITS is past the end."""

    @abstractmethod
    def table(self, number: int) -> Entries:
        """Return the keys of one table, in order."""

    def images_of(self, rows: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Return the number of the image that each row belongs to."""
        return self.numbers.take(self.ends.searchsorted(rows, side="right"))

    def count_of(self, number: int) -> int:
        """Return how many codes an image has here; 0 where it is not here."""
        at = int(np.searchsorted(self.numbers, number))
        if at == len(self.numbers) or self.numbers[at] != number:
            return 0
        return int(self.ends[at]) - (int(self.ends[at - 1]) if at else 0)


@dataclass(frozen=True, slots=True, eq=False)
class Recent(Searchable):
    """A few images: quickly sorted, in more memory than a segment takes.

    entries  uint64 (TABLES · n,), the keys of all tables, in order
    """

    entries: Entries

    def positions_of(self, keys: Keys) -> Positions:
        """See `Searchable`."""
        return self.entries.searchsorted(keys.astype(np.uint64) << _ROW_BITS)

    def table(self, number: int) -> Entries:
        """See `Searchable`."""
        return self.entries[number * len(self) : (number + 1) * len(self)]


@dataclass(frozen=True, slots=True, eq=False)
class Segment(Searchable):
    """Many images.

    low       uint16 (TABLES · n,), the lower bits of all keys, in the order of the keys
    starts    uint32 (s + 2,), where in `low` the keys with each of the s values of their upper bits begin
    low_bits  how many bits of a key are in `low`
    """

    low: NDArray[np.uint16]
    starts: NDArray[np.uint32]
    low_bits: int

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        arrays: tuple[NDArray[Any], ...] = (
            self.codes, self.shapes, self.numbers, self.ends, self.rows, self.low, self.starts,
        )  # fmt: skip
        return sum(array.nbytes for array in arrays)

    def positions_of(self, keys: Keys) -> Positions:
        """See `Searchable`."""
        upper, wanted = keys >> self.low_bits, (keys & ((1 << self.low_bits) - 1)).astype(np.uint16)
        end = self.starts.take(upper + 1).astype(np.int64)
        # the last position that is known to have a smaller key
        last = self.starts.take(upper).astype(np.int64) - 1
        longest = int((end - last).max(initial=1)) - 1
        for bit in reversed(range(longest.bit_length())):
            tried = last + (1 << bit)
            smaller = (self.low.take(tried, mode="clip") < wanted) & (tried < end)
            last += smaller.astype(np.int64) << bit
        return last + 1

    def table(self, number: int) -> Entries:
        """See `Searchable`."""
        each = (len(self.starts) - 2) // TABLES
        starts = self.starts[number * each : (number + 1) * each + 1]
        part = slice(number * len(self), (number + 1) * len(self))
        upper = np.arange(number * each, (number + 1) * each, dtype=np.uint64) << np.uint64(self.low_bits)
        # in place: of many codes, most of the time goes into fresh memory
        entries = np.repeat(upper, np.diff(starts))
        entries |= self.low[part]
        entries <<= _ROW_BITS
        entries |= self.rows[part]
        return entries


def make_segment(stored: Stored) -> Segment:
    """Sort codes by their keys. There has to be a code."""
    return _segment(stored, map(_sorted, keys_of(stored.codes.view(np.uint8))))


def with_images(recent: Recent | None, stored: Stored) -> Recent:
    """Add a few images to recent ones; their numbers are greater."""
    first = 0 if recent is None else len(recent)
    rows = np.arange(first, first + len(stored), dtype=np.uint64)
    new = (keys_of(stored.codes.view(np.uint8)).astype(np.uint64) << _ROW_BITS) | rows
    entries = np.sort(new, axis=None)
    if recent is not None:
        stored = joined([recent, stored])
        entries = _merged([recent.entries, entries])
    return Recent(stored.codes, stored.shapes, stored.numbers, stored.ends, entries.astype(np.uint32), entries)


def merged(parts: Sequence[Searchable], gone: Set[int]) -> Segment | None:
    """Make one segment of parts whose images ascend, without the images in `gone`; None where no code is left.

    The keys of each part are in order already, which makes this much quicker than sorting.
    """
    whole = joined(parts)
    firsts = np.cumsum([0, *map(len, parts)], dtype=np.uint64)
    tables = (
        _merged([part.table(number) + first for part, first in zip(parts, firsts[:-1], strict=True)])
        for number in range(TABLES)
    )
    if not gone:
        return _segment(whole, tables)
    left, stays = without(whole, gone)
    if not len(left):
        return None
    moved = np.cumsum(stays, dtype=np.uint64) - np.uint64(1)
    return _segment(left, (_kept(entries, stays, moved) for entries in tables))


def joined(parts: Sequence[Stored]) -> Stored:
    """Join parts whose images ascend."""
    numbers = np.concatenate([np.empty(0, np.uint32), *(part.numbers for part in parts)])
    counts = np.concatenate([np.empty(0, np.uint32), *(_counts(part) for part in parts)])
    codes = np.concatenate([np.empty((0, 2), np.uint64), *(part.codes for part in parts)])
    shapes = np.concatenate([np.empty((0, 2), np.uint8), *(part.shapes for part in parts)])
    return Stored(codes, shapes, numbers, np.cumsum(counts, dtype=np.uint32))


def without(stored: Stored, gone: Set[int]) -> tuple[Stored, NDArray[np.bool_]]:
    """Return what is left without some images, and which rows these are, bool (n,)."""
    images = np.isin(stored.numbers, list(gone), invert=True)
    counts = _counts(stored)
    rows = np.repeat(images, counts)
    ends = np.cumsum(counts[images], dtype=np.uint32)
    return Stored(stored.codes[rows], stored.shapes[rows], stored.numbers[images], ends), rows


def _counts(stored: Stored) -> NDArray[np.uint32]:
    return np.diff(stored.ends, prepend=np.uint32(0))


def _sorted(keys: Keys) -> Entries:
    entries = (keys.astype(np.uint64) << _ROW_BITS) | np.arange(len(keys), dtype=np.uint64)
    entries.sort()
    return entries


def _merged(runs: Sequence[Entries]) -> Entries:
    entries = np.concatenate(runs)
    # numpy's stable sort merges what is in order
    entries.sort(kind="stable")
    return entries


def _kept(entries: Entries, stays: NDArray[np.bool_], moved: Entries) -> Entries:
    """The entries of the rows that stay, with the rows that they have then."""
    rows = entries.astype(np.uint32)
    kept = stays[rows]
    return (entries[kept] >> _ROW_BITS << _ROW_BITS) | moved[rows[kept]]


def _segment(stored: Stored, tables: Iterable[Entries]) -> Segment:
    """Make a segment of codes and the keys of each table, which it overwrites."""
    count = len(stored)
    low_bits = min(_MOST_LOW_BITS, KEY_BITS + 1 - (count // _STRETCH).bit_length())
    each = 1 << (KEY_BITS - low_bits)
    low, rows = np.empty(TABLES * count, np.uint16), np.empty(TABLES * count, np.uint32)
    starts = np.full(TABLES * each + 2, TABLES * count, np.uint32)
    for table, entries in enumerate(tables):
        part = slice(table * count, (table + 1) * count)
        rows[part] = entries
        np.right_shift(entries, _ROW_BITS, out=entries)
        low[part] = entries
        upper = np.arange(table * each, (table + 1) * each, dtype=np.uint64)
        starts[table * each : (table + 1) * each] = table * count + entries.searchsorted(upper << np.uint64(low_bits))
    low &= np.uint16((1 << low_bits) - 1)
    return Segment(stored.codes, stored.shapes, stored.numbers, stored.ends, rows, low, starts, low_bits)
