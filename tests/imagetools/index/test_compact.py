"""The arrays that hold the index's images, against dictionaries; and what an image takes."""

import tracemalloc
from bisect import insort

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagetools.index import image_table
from imagetools.index.entry import Entry
from imagetools.index.image_table import ImageTable
from imagetools.index.local_index import LocalIndex
from imagetools.index.node_numbers import NodeNumbers
from imagetools.index.row_table import RowTable
from imagetools.index.state import IndexState, Placement

HASHES = st.sampled_from([0, 1, 6, 7, 8, 15, 1 << 32, -1, -2, (1 << 40) + 7])
"""Many that share a slot, at the end of a small table too, and some that agree in their 32 bits alone."""


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(HASHES, st.booleans()), max_size=80))
def test_a_row_table_agrees_with_a_dictionary(steps) -> None:
    table = RowTable()
    held: dict[int, int] = {}
    for row, (key, adds) in enumerate(steps):
        if adds or not held:
            table.add(key, row)
            held[row] = key
        else:
            gone = sorted(held)[row % len(held)]
            table.remove(held.pop(gone), gone)
            with pytest.raises(KeyError):
                table.remove(key, gone)
        at_once = RowTable.of(np.array(list(held.values()), np.int64), np.array(list(held), np.int64))
        for one in (table, at_once):
            assert len(one) == len(held)
            for asked in (0, 7, -1, 5):
                same = {row for row, key in held.items() if (key ^ asked) & 0xFFFFFFFF == 0}
                assert sorted(one.rows(asked)) == sorted(same)


def entry(order: int, path: str, content: int) -> Entry:
    """Content 0 has a digest of zeros, content 9 none."""
    return Entry(order, path, order % 7, b"" if content == 9 else bytes([content % 3, *[0] * 31]), order % 3 - 1)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["attach", "attach", "detach", "reload"]),
        st.sampled_from(["", "a", "aa", "ü/ö.jpg", "\udcff", "long" * 50]),
        st.integers(0, 4),
        st.sampled_from([(), (), (5,), (6, 0)]),
        st.booleans(),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_the_state_agrees_with_dictionaries_through_replacements_removals_and_snapshots(steps) -> None:
    """A digest stands on one node: that is what `View.add` makes sure of."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_table, "LOST_AT_LEAST", 4)
        state = IndexState()
        held: dict[str, Placement] = {}
        for order, (step, path, node, parts, known) in enumerate(steps):
            if step == "reload":
                state = IndexState.restored(state.stored(), LocalIndex(), NodeNumbers())
            elif step == "detach" and path not in held:
                with pytest.raises(KeyError):
                    state.detach(path)
            else:
                if path in held:
                    assert state.detach(path) == held.pop(path).nodes
                if step == "attach":
                    made = entry(1000 - 3 * order, path, node if known else 9)
                    whole = node % 3 if known else node
                    held[path] = Placement(made, (whole, *(part for part in parts if part != whole)))
                    state.attach(held[path])
            assert_same(state, held)


def assert_same(state: IndexState, held: dict[str, Placement]) -> None:
    members: dict[int, list[Entry]] = {}
    for placement in held.values():
        for node in placement.nodes:
            insort(members.setdefault(node, []), placement.entry)
    assert len(state) == len(held)
    assert sorted(state.entries()) == sorted(placement.entry for placement in held.values())
    assert state.nb_nodes == len(members)
    for node in range(-2, 9):
        assert list(state.members(node)) == members.get(node, [])
        assert state.count(node) == len(members.get(node, []))
    for path, placement in held.items():
        assert state.placement(path) == placement
        assert state.whole(path) == placement.nodes[0]
    assert state.placement("other") is None
    assert state.whole("aaa") is None
    for content in range(3):
        digest = bytes([content, *[0] * 31])
        standing = {one.nodes[0] for one in held.values() if one.entry.digest == digest}
        assert state.node_of(digest) == (standing.pop() if standing else None)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=300))
def test_numbers_of_local_codes_agree_with_a_dictionary(steps) -> None:
    numbers, held = NodeNumbers(), {}
    for number, (node, gives) in enumerate(steps):
        if gives:
            numbers.give(node, 3 * number)
            held[node] = 3 * number
        else:
            numbers.take(node)
            held.pop(node, None)
    ascending = np.array(sorted(held.values()), np.uint32)
    nodes = numbers.nodes_of(ascending)
    for one in (numbers, NodeNumbers.restored(ascending, nodes)):
        assert {node: one.number_of(node) for node in range(7)} == {node: held.get(node) for node in range(7)}
        by_number = {number: node for node, number in held.items()}
        for number in range(3 * len(steps) + 2):
            assert one.node_of(number) == by_number.get(number)


def test_an_image_takes_less_than_240_bytes_and_its_path() -> None:
    """As objects in dictionaries it took some 1,100."""
    count, length = 30_000, 40
    tracemalloc.start()
    state = IndexState()
    for n in range(count):
        digest = n.to_bytes(4, "little") * 8
        state.attach(Placement(Entry(n, f"{n:0{length}}", n, digest, 1), (n,)))
        state.numbers.give(n, n)
    each = tracemalloc.get_traced_memory()[0] / count
    tracemalloc.stop()
    assert each < 240 + length


def test_images_that_come_and_go_leave_no_memory_behind() -> None:
    table = ImageTable()
    for n in range(50_000):
        row = table.add(Entry(n, f"folder/{n:08}.jpg"), 0)
        if n >= 100:
            gone = table.find(f"folder/{n - 100:08}.jpg")
            assert gone is not None
            table.remove(gone)
        assert row <= 100
    assert len(table) == 100
    assert len(table.stored()[1]) == 100 * len("folder/00000000.jpg")


def test_a_digest_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="20 bytes, not 32"):
        Entry(0, "a", digest=b"1" * 20)
