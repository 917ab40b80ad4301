"""What becomes of an announcement: the rules of `Change.put`, one by one and against a plain dictionary."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagetools.errors import IndexMismatch
from imagetools.index.change import Change, PutOutcome, PutResult
from imagetools.index.entry import Entry
from imagetools.index.index import Index

POOL = np.eye(6, 16, dtype=np.float32) + 0.1
"""Fingerprints, by content."""

OLD, NEW, OTHER = POOL[:3]


def digest(content: int) -> bytes:
    return bytes([content]) * 32


def entry(order: int, path: str, content: int, announced: int = 0, source: int = 0) -> Entry:
    return Entry(order, path, announced, digest(content), source)


@pytest.fixture
def index() -> Iterator[Index]:
    made = Index()
    yield made
    made.close()


@pytest.fixture
def change(index: Index) -> Change:
    """A change to an index that holds "a", announced at 100 by source 0, and "b"."""
    change = index.change()
    change.put(entry(0, "a", 0, announced=100), OLD, model="m")
    change.put(entry(1, "b", 2), OTHER)
    change.apply()
    return index.change()


def paths(result: PutResult) -> list[str]:
    return [hit.relative_path for hit in result.neighbors]


def test_a_new_image_is_placed_with_its_neighbors_and_only_if_asked_for(change: Change) -> None:
    asked = change.put(entry(2, "c", 1), OLD, nb_neighbors=5)
    assert asked.outcome is PutOutcome.PLACED
    assert paths(asked) == ["a", "b"]
    assert change.put(entry(3, "d", 3), OLD) == PutResult(PutOutcome.PLACED)


def test_an_older_announcement_from_another_source_changes_nothing(change: Change) -> None:
    for fingerprint in (NEW, None):
        result = change.put(entry(2, "a", 1, announced=99, source=1), fingerprint, nb_neighbors=5)
        assert result == PutResult(PutOutcome.STALE)
    assert change.entry("a") == entry(0, "a", 0, announced=100)
    assert len(change) == 0


@pytest.mark.parametrize(("announced", "source"), [(99, 0), (100, 1), (101, 1)])
def test_one_source_keeps_its_order_whatever_its_clock_says_and_ties_are_not_stale(
    change: Change, announced: int, source: int
) -> None:
    newer = entry(2, "a", 1, announced, source)
    assert change.put(newer, NEW).outcome is PutOutcome.PLACED
    assert change.entry("a") == newer


def test_unchanged_bytes_keep_their_place_in_the_order_and_report_nothing(change: Change) -> None:
    again = entry(2, "a", 0, announced=200, source=3)
    assert change.put(again, NEW, nb_neighbors=5) == PutResult(PutOutcome.UNCHANGED)
    assert change.entry("a") == replace(again, order=0)
    assert change.search(OLD, 1)[0].relative_path == "a", "on the node of its bytes"


def test_changed_bytes_are_not_compared_with_their_former_self(change: Change) -> None:
    result = change.put(entry(2, "a", 1), OLD, nb_neighbors=5)
    assert result.outcome is PutOutcome.PLACED
    assert paths(result) == ["b"]


def test_equal_bytes_elsewhere_are_marked(change: Change) -> None:
    result = change.put(entry(2, "c", 2), OTHER, nb_neighbors=5)
    assert [(hit.relative_path, hit.identical) for hit in result.neighbors] == [("b", True), ("a", False)]


def test_without_a_fingerprint_the_image_is_removed(change: Change) -> None:
    for _ in range(2):
        assert change.put(entry(2, "a", 0), None) == PutResult(PutOutcome.REMOVED)
    assert change.entry("a") is None
    assert [hit.relative_path for hit in change.search(OLD, 5)] == ["b"]


@pytest.mark.parametrize("content", [0, 1], ids=["unchanged", "changed"])
def test_an_announcement_that_is_refused_changes_nothing(change: Change, content: int) -> None:
    refused = entry(2, "a", content)
    with pytest.raises(IndexMismatch, match="model n"):
        change.put(refused, NEW, model="n", nb_neighbors=5)
    with pytest.raises(IndexMismatch, match="8 dimensions"):
        change.put(refused, NEW[:8], nb_neighbors=5)
    with pytest.raises(IndexMismatch, match="8 dimensions"):
        change.put(refused, NEW, parts=[NEW[:8]], nb_neighbors=5)
    assert change.entry("a") == entry(0, "a", 0, announced=100)
    assert len(change) == 0


@dataclass(frozen=True)
class Announcement:
    path: str
    content: int | None
    announced: int
    source: int


ANNOUNCEMENTS = st.lists(
    st.builds(
        Announcement,
        st.sampled_from(["a", "b", "c", "d", "e"]),
        st.none() | st.integers(0, len(POOL) - 1),
        st.integers(0, 5),
        st.integers(-1, 1),
    ),
    max_size=40,
)


@settings(max_examples=80, deadline=None)
@given(ANNOUNCEMENTS, st.integers(1, 9))
def test_any_announcements_in_batches_of_any_size_agree_with_a_dictionary(
    announcements: list[Announcement], size: int
) -> None:
    index = Index()
    held: dict[str, tuple[int, Announcement]] = {}
    for start in range(0, len(announcements), size):
        change = index.change()
        for order, one in enumerate(announcements[start : start + size], start):
            others = {path: known.content for path, (_, known) in held.items() if path != one.path}
            expected = plain_put(held, order, one)
            made = entry(order, one.path, one.content or 0, one.announced, one.source)
            found = change.put(made, None if one.content is None else POOL[one.content], nb_neighbors=5)
            assert found.outcome is expected
            if expected is PutOutcome.PLACED:
                assert {hit.relative_path: hit.identical for hit in found.neighbors} == {
                    path: content == one.content for path, content in others.items()
                }
            else:
                assert not found.neighbors
        change.apply()
        assert sorted(index.entries()) == sorted(
            entry(order, path, known.content or 0, known.announced, known.source)
            for path, (order, known) in held.items()
        )
    index.close()


def plain_put(held: dict[str, tuple[int, Announcement]], order: int, one: Announcement) -> PutOutcome:
    """The reference: the same rules over a dictionary of the newest announcements and their places."""
    place, known = held.get(one.path, (order, None))
    if known is not None and known.source != one.source and known.announced > one.announced:
        return PutOutcome.STALE
    if one.content is None:
        held.pop(one.path, None)
        return PutOutcome.REMOVED
    same = known is not None and known.content == one.content
    held[one.path] = (place if same else order, one)
    return PutOutcome.UNCHANGED if same else PutOutcome.PLACED
