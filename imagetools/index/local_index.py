"""An index of local codes: which images share detail with one, whatever else they show.

Codes lie in segments that never change (`local_segment`). New images make small ones; these merge as they grow, so
that there are few: each has at least MERGE_RATIO times as many codes as all after it.
"""

from bisect import bisect_left
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Final

import numpy as np

from imagetools.index.local_segment import (
    Recent,
    Searchable,
    Segment,
    Stored,
    make_segment,
    merged,
    with_images,
)
from imagetools.index.local_votes import Votes, bits_for, count_votes
from imagetools.local_codes import LocalCodes

MAX_INDEXED: Final = 112
"""Codes that are kept of an image, the largest keypoints': 4.7 KB. A search asks with all it is given. With 160 no more
copies were found."""

LEAST_VOTES: Final = 1.2
"""More than one code has to vote for an image. So 99.7 % of 1,360 copies found their original among 1,676 photos, and
half another photo each."""

MERGE_RATIO: Final = 8
SMALL: Final = 4096
"""Codes; a smaller segment merges with whatever comes."""

MAX_LOST: Final = 4
"""A segment that has lost more than a fourth of its codes is written again without them."""

LARGE: Final = 1 << 23
"""Codes; no larger segment is made: merging one takes seconds, in which nothing else is searched for."""


@dataclass(frozen=True, slots=True)
class LocalHit:
    """An image that shares local codes with the one searched for.

    number  the image
    votes   how many codes agree, common ones counting less
    """

    number: int
    votes: float


class LocalIndex:
    """Local codes by image number. Not thread-safe.

    next_number  the least that `add` takes
    """

    def __init__(self, next_number: int = 0) -> None:
        """Make an empty index."""
        self.next_number = next_number
        self._segments: list[Segment] = []
        # how many codes of each segment are of images that are gone
        self._lost: list[int] = []
        self._gone: set[int] = set()
        # images that are in no segment: first the latest, in no order, then sorted
        self._new: list[tuple[int, LocalCodes]] = []
        self._recent: Recent | None = None
        # how many codes these have
        self._outside = 0

    def __len__(self) -> int:
        """Return the number of codes."""
        return sum(map(len, self._segments)) + self._outside - sum(self._lost)

    @property
    def nbytes(self) -> int:
        """Bytes of memory of the codes and tables."""
        return sum(segment.nbytes for segment in self.segments())

    @property
    def gone(self) -> Set[int]:
        """Images that are gone, with codes that are still in the segments."""
        return self._gone

    def segments(self) -> Sequence[Segment]:
        """Return all codes in segments, with those of images that are gone; the images ascend."""
        self._settle()
        return self._segments

    def searchable(self) -> Sequence[Searchable]:
        """Return the same without making a segment of the latest images."""
        self._sort_new()
        return self._segments if self._recent is None else [*self._segments, self._recent]

    def add(self, number: int, codes: LocalCodes) -> None:
        """Add an image; its number is greater than all before it. ValueError where it is not."""
        if number < self.next_number:
            raise ValueError(f"image {number} after image {self.next_number - 1}")
        self.next_number = number + 1
        if len(codes):
            self._new.append((number, codes))
            self._outside += min(len(codes), MAX_INDEXED)
            if self._outside >= SMALL:
                self._settle()

    def remove(self, number: int) -> None:
        """Forget an image; one without codes, or that is not there, is no error."""
        self._settle()
        at = bisect_left(self._segments, number, key=lambda segment: int(segment.numbers[-1]))
        if at == len(self._segments) or number in self._gone:
            return
        if count := self._segments[at].count_of(number):
            self._gone.add(number)
            self._lost[at] += count
            if self._lost[at] * MAX_LOST > len(self._segments[at]):
                self._merge(at, self._segments[at : at + 1])

    def search(self, codes: LocalCodes, limit: int) -> list[LocalHit]:
        """Return the images with the most votes, at most `limit`, best first; of equal ones the earlier."""
        return LocalChange(self).search(codes, limit)

    def stored(self) -> Sequence[Segment]:
        """Return all segments without the codes of images that are gone, for `restored`."""
        written = (
            merged([segment], self._gone) if lost else segment
            for segment, lost in zip(self.segments(), self._lost, strict=True)
        )
        return [segment for segment in written if segment is not None]

    @classmethod
    def restored(cls, segments: Sequence[Segment], next_number: int) -> "LocalIndex":
        """Make an index of what `stored` returned."""
        index = cls(next_number)
        index._segments, index._lost = list(segments), [0] * len(segments)
        return index

    @classmethod
    def of(cls, stored: Stored, next_number: int) -> "LocalIndex":
        """Make an index of codes."""
        index = cls(next_number)
        first = row = 0
        while row < len(stored):
            # as many images as a segment takes; one has at most MAX_INDEXED codes
            end = max(first + 1, int(np.searchsorted(stored.ends, row + LARGE, side="right")))
            last = int(stored.ends[end - 1])
            numbers, ends = stored.numbers[first:end], stored.ends[first:end] - np.uint32(row)
            index._append(make_segment(Stored(stored.codes[row:last], stored.shapes[row:last], numbers, ends)))
            first, row = end, last
        return index

    def extend(self, later: "LocalIndex") -> None:
        """Take over another index, whose numbers are greater than all of this one; it must not be used afterwards."""
        for segment in later.segments():
            self._append(segment)
        for number in later.gone:
            self.remove(number)
        self.next_number = max(self.next_number, later.next_number)

    def _settle(self) -> None:
        """Make a segment of the images that have none yet."""
        self._sort_new()
        if self._recent is not None:
            recent, self._recent, self._outside = self._recent, None, 0
            self._append(recent)

    def _sort_new(self) -> None:
        if not self._new:
            return
        codes = [one.own[:MAX_INDEXED] for _, one in self._new]
        shapes = [np.stack([one.size, one.direction], axis=1)[:MAX_INDEXED] for _, one in self._new]
        numbers = np.array([number for number, _ in self._new], np.uint32)
        ends = np.cumsum([len(one) for one in codes], dtype=np.uint32)
        stored = Stored(np.concatenate(codes).view(np.uint64), np.concatenate(shapes), numbers, ends)
        self._recent = with_images(self._recent, stored)
        self._new = []

    def _append(self, part: Recent | Segment) -> None:
        first, count = len(self._segments), len(part)
        while first and _merge_is_due(len(self._segments[first - 1]), count):
            first -= 1
            count += len(self._segments[first])
        if first == len(self._segments) and isinstance(part, Segment):
            self._segments.append(part)
            self._lost.append(0)
        else:
            self._merge(first, [*self._segments[first:], part])

    def _merge(self, first: int, parts: Sequence[Searchable]) -> None:
        """Make one segment of parts, without what is gone, in place of as many segments from `first` on."""
        end = first + len(parts)
        gone = {n for part in parts for n in self._gone.intersection(part.numbers.tolist())} if self._gone else set()
        segment = merged(parts, gone)
        self._gone -= gone
        self._segments[first:end] = [segment] if segment else []
        self._lost[first:end] = [0] if segment else []


class LocalChange:
    """Changes to a local index that see themselves at once, and reach it in `apply`; one at a time."""

    def __init__(self, index: LocalIndex) -> None:
        """Begin; a change that is dropped leaves no trace."""
        self._index = index
        self._later = LocalIndex(index.next_number)
        self._gone: set[int] = set()

    def add(self, codes: LocalCodes) -> int:
        """Add an image and return its number."""
        number = self._later.next_number
        self._later.add(number, codes)
        return number

    def remove(self, number: int) -> None:
        """Forget an image; one that is not there is no error."""
        if number < self._index.next_number:
            self._gone.add(number)
        else:
            self._later.remove(number)

    def search(self, codes: LocalCodes, limit: int) -> list[LocalHit]:
        """Return the images with the most votes, at most `limit`, best first; of equal ones the earlier."""
        if not len(codes) or limit <= 0:
            return []
        votes = self._votes(codes)
        best = np.lexsort((votes.numbers, -votes.scores))[:limit]
        return [LocalHit(int(votes.numbers[i]), float(votes.scores[i])) for i in best]

    def apply(self) -> None:
        """Make the changes in the index; this object must not be used afterwards."""
        for number in self._gone:
            self._index.remove(number)
        self._index.extend(self._later)

    def _votes(self, codes: LocalCodes) -> Votes:
        return count_votes(
            [*self._index.searchable(), *self._later.searchable()],
            codes,
            bits=bits_for(len(self._index) + len(self._later)),
            gone=(self._index.gone, self._gone, self._later.gone),
            least=LEAST_VOTES,
        )


def _merge_is_due(before: int, count: int) -> bool:
    """Whether a segment of `before` codes and the `count` after it become one."""
    return before + count <= LARGE and (before < SMALL or before < MERGE_RATIO * count)
