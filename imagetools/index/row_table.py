"""A hash table from a key's hash to numbered rows: some 20 bytes a row, where a dictionary takes 100 and more."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

_ROW_BITS: Final = 32
_ROW_MASK: Final = (1 << _ROW_BITS) - 1
_FEWEST_SLOTS: Final = 8

Slots = NDArray[np.uint64]


class RowTable:
    """Rows by 32 bits of a hash, in one array (open addressing with linear probing; Knuth, TAOCP 3, §6.4).

    A slot holds the 32 bits and the row + 1, or 0. The keys are the caller's: rows whose bits agree may differ in the
    rest, so the caller compares.
    """

    def __init__(self) -> None:
        """Make an empty table."""
        self._count = 0
        self._use(np.zeros(_FEWEST_SLOTS, np.uint64))

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._count

    def rows(self, key_hash: int) -> Iterator[int]:
        """Yield the rows that may have the key with this hash."""
        bits = key_hash & _ROW_MASK
        at = bits & self._mask
        while slot := self._slots[at]:
            if slot >> _ROW_BITS == bits:
                yield (slot & _ROW_MASK) - 1
            at = (at + 1) & self._mask

    def add(self, key_hash: int, row: int) -> None:
        """Add a row under its key's hash."""
        if 3 * (self._count + 1) > 2 * len(self._slots):
            self._use(_filled(self._array[self._array != 0], 2 * len(self._slots)))
        _place((key_hash & _ROW_MASK) << _ROW_BITS | row + 1, self._slots, self._mask)
        self._count += 1

    def remove(self, key_hash: int, row: int) -> None:
        """Remove a row that was added under this hash. KeyError where there is none."""
        slots, mask = self._slots, self._mask
        sought = (key_hash & _ROW_MASK) << _ROW_BITS | row + 1
        hole = sought >> _ROW_BITS & mask
        while slots[hole] != sought:
            if not slots[hole]:
                raise KeyError(row)
            hole = (hole + 1) & mask
        # whatever follows without a gap moves up where it may, so that a search need not go past the hole
        at = (hole + 1) & mask
        while slot := slots[at]:
            home = slot >> _ROW_BITS & mask
            if (at - home) & mask >= (at - hole) & mask:
                slots[hole] = slot
                hole = at
            at = (at + 1) & mask
        slots[hole] = 0
        self._count -= 1

    @classmethod
    def of(cls, hashes: NDArray[np.int64] | NDArray[np.uint64], rows: NDArray[np.int64]) -> "RowTable":
        """Make a table of many rows at once; `hashes` are those of their keys."""
        table = cls()
        table._count = len(rows)
        slots = _FEWEST_SLOTS
        while 3 * (len(rows) + 1) > 2 * slots:
            slots *= 2
        table._use(_filled(hashes.astype(np.uint64) << np.uint64(_ROW_BITS) | (rows + 1).astype(np.uint64), slots))
        return table

    def _use(self, array: Slots) -> None:
        self._array = array
        # a single number is read from it in a third of the time
        self._slots = array.data
        self._mask = len(array) - 1


def _place(slot: int, slots: memoryview, mask: int) -> None:
    at = slot >> _ROW_BITS & mask
    while slots[at]:
        at = (at + 1) & mask
    slots[at] = slot


def _filled(filled: Slots, count: int) -> Slots:
    """Return an array of `count` slots, a power of 2, with the filled ones placed in it."""
    array = np.zeros(count, np.uint64)
    homes = (filled >> np.uint64(_ROW_BITS) & np.uint64(count - 1)).astype(np.int64)
    order = np.argsort(homes, kind="stable")
    # in the order of their homes, each is at home or right after the one before
    steps = np.arange(len(filled))
    places = np.maximum.accumulate(homes[order] - steps) + steps
    inside = places < count
    array[places[inside]] = filled[order[inside]]
    for slot in filled[order[~inside]].tolist():
        _place(slot, array.data, count - 1)
    return array
