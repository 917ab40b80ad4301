"""Images that pairs connect, against a plain walk from image to image."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from imagetools.grouping.connected import ConnectedImages

PATHS = st.sampled_from("abcdefgh")


def walk(pairs: list[tuple[str, str]], start: str) -> set[str]:
    found = {start}
    while more := {two for pair in pairs for one, two in (pair, pair[::-1]) if one in found} - found:
        found |= more
    return found


def test_sets_are_connected_components_in_order():
    images = ConnectedImages([("a", "b"), ("c", "d"), ("b", "e"), ("x", "x")])
    assert images.sets == [["a", "b", "e"], ["c", "d"]]
    assert images.connected("a", "e")
    assert not images.connected("a", "c")
    assert not images.connected("a", "new")
    assert images.connected("x", "x")


@given(st.lists(st.tuples(PATHS, PATHS), max_size=12))
def test_whatever_the_pairs_they_are_those_of_a_plain_walk(pairs):
    images = ConnectedImages(pairs)
    for one, two in itertools.product("abcdefgh", repeat=2):
        assert images.connected(one, two) == (two in walk(pairs, one))


def test_a_long_chain_is_one_set():
    names = [str(number) for number in range(5_000)]
    assert len(ConnectedImages(itertools.pairwise(names)).sets) == 1
    assert len(ConnectedImages(itertools.pairwise(reversed(names))).sets[0]) == 5_000
