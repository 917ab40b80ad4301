"""Groups of cases that people have: collages, templates, bursts, many copies, and what a person says of them."""

import itertools
import random
from collections.abc import Iterable

import pytest

from imagetools.grouping.grouping import Grouping
from imagetools.grouping.records import (
    Choice,
    Decision,
    Edge,
    EventKind,
    Gone,
    Group,
    GroupEvent,
    GroupState,
    ImageKey,
    Placed,
    Undone,
)
from imagetools.grouping.relations import Relation

SAME, CROP, CONTAINS, NONE = Relation.SAME, Relation.CROP, Relation.CONTAINS, Relation.NONE


def key(name: str, version: int = 1) -> ImageKey:
    return ImageKey(name, f"{name} {version}")


def placed(names: Iterable[str]) -> list[Placed]:
    return [Placed(*key(name), place) for place, name in enumerate(names)]


def same(one: str, two: str, relation: Relation = SAME, score: float = 1.0) -> Edge:
    return Edge(key(one), key(two), relation, score)


def never(left: ImageKey, right: ImageKey) -> Relation:
    pytest.fail(f"{left.path} and {right.path} are compared without need")


class Pictures:
    """Compares by what each image shows, and remembers what it was asked."""

    def __init__(self, **shows: str) -> None:
        self.shows = shows
        self.asked: list[tuple[str, str]] = []

    def compare(self, left: ImageKey, right: ImageKey) -> Relation:
        self.asked.append((left.path, right.path))
        return SAME if self.shows[left.path] == self.shows[right.path] else NONE


def groups(grouping: Grouping) -> list[str]:
    return ["".join(member.image.path for member in group.members) for group in grouping.groups()]


def found(grouping: Grouping, name: str) -> Group:
    group = grouping.group(key(name))
    assert group is not None
    return group


def kinds(events: Iterable[GroupEvent]) -> list[tuple[str, str]]:
    return [(str(event.kind), event.group.path) for event in events]


def test_a_collage_links_its_photos_and_joins_none():
    grouping = Grouping(never)
    grouping.apply(
        [
            *placed("ABCxy"),
            same("x", "A", CONTAINS),
            same("x", "B", CONTAINS),
            same("B", "y", CROP),
            same("y", "C", CONTAINS),
        ]
    )
    assert groups(grouping) == ["A", "B", "C", "x", "y"]
    links = {group.id.path: {(link.group.path, link.relation) for link in group.linked} for group in grouping.groups()}
    assert links == {
        "A": {("x", CROP)},
        "B": {("x", CROP), ("y", CROP)},
        "C": {("y", CROP)},
        "x": {("A", CONTAINS), ("B", CONTAINS)},
        "y": {("B", CONTAINS), ("C", CONTAINS)},
    }


def test_ten_memes_of_one_template_do_not_chain():
    """Each pair of neighbors was mistaken for one picture."""
    memes = "abcdefghij"
    pictures = Pictures(**{name: name for name in memes})
    grouping = Grouping(pictures.compare)
    grouping.apply([*placed(memes), *(same(one, two) for one, two in itertools.pairwise(memes))])
    # an edge is right or wrong as far as anyone knows; the third of a chain is contradicted by the first
    assert groups(grouping) == ["ab", "cd", "ef", "gh", "ij"]
    doubtful = {edge.left.path + edge.right.path for group in grouping.groups() for edge in group.doubtful}
    assert doubtful == {"bc", "cb", "de", "ed", "fg", "gf", "hi", "ih"}
    assert pictures.asked == [("a", "c"), ("c", "e"), ("e", "g"), ("g", "i")]


def test_a_chain_that_the_pictures_confirm_is_one_group():
    pictures = Pictures(a="sea", b="sea", c="sea")
    grouping = Grouping(pictures.compare)
    grouping.apply([*placed("abc"), same("a", "b"), same("b", "c")])
    assert groups(grouping) == ["abc"]
    assert pictures.asked == [("a", "c")]


def test_two_groups_over_one_edge_merge_only_if_their_earliest_agree():
    for shows, expected in (("sea", ["abcd"]), ("sky", ["ab", "cd"])):
        pictures = Pictures(a="sea", b="sea", c=shows, d=shows)
        grouping = Grouping(pictures.compare)
        grouping.apply([*placed("abcd"), same("a", "b"), same("c", "d")])
        events = grouping.apply([same("b", "d")])
        assert groups(grouping) == expected
        if shows == "sea":
            assert kinds(events) == [("grown", "a"), ("merged", "c")]
            assert [event.into for event in events] == [None, key("a")]
            assert events[0].origins == (key("c"),)
        else:
            assert kinds(events) == [("changed", "a"), ("changed", "c")]
            assert [len(group.doubtful) for group in grouping.groups()] == [1, 1]


def test_a_burst_whose_frames_moved_is_no_group():
    """The matcher calls what moved another picture: it reports an overlap, if anything."""
    grouping = Grouping(never)
    grouping.apply([*placed("abc"), same("a", "b", Relation.OVERLAP), same("b", "c", Relation.OVERLAP)])
    assert groups(grouping) == ["a", "b", "c"]


def test_blank_pictures_make_a_group_of_their_own_kind():
    grouping = Grouping(never)
    grouping.apply([*placed("abcd"), same("a", "b", Relation.BLANK), same("c", "d")])
    assert [(group.id.path, group.blank) for group in grouping.groups()] == [("a", True), ("c", False)]


class TestDecisions:
    def test_not_a_duplicate_holds_for_these_bytes_alone(self):
        grouping = Grouping(never)
        grouping.apply([*placed("ab"), same("a", "b")])
        events = grouping.apply([Decision(key("a"), key("b"), Choice.NOT_DUPLICATE)])
        assert kinds(events) == [("ended", "a")]
        assert groups(grouping) == []
        # announced again, reported again
        assert grouping.apply([Placed(*key("b"), 7), same("b", "a", score=0.9)]) == []
        events = grouping.apply([Placed(*key("b", 2), 9), Edge(key("b", 2), key("a"), SAME)])
        assert kinds(events) == [("born", "a")]
        # the old bytes are back, and so is the word on them
        assert kinds(grouping.apply([Placed(*key("b"), 10)])) == [("ended", "a")]

    def test_it_keeps_two_images_apart_whatever_connects_them(self):
        grouping = Grouping(never)
        grouping.apply([*placed("abcd"), *(same("a", other) for other in "bcd")])
        events = grouping.apply([Decision(key("b"), key("d"), Choice.NOT_DUPLICATE)])
        assert groups(grouping) == ["abc", "d"]
        assert kinds(events) == [("split", "a"), ("born", "d")]
        assert [edge.right.path for edge in list(grouping.groups())[1].doubtful] == ["a"]

    def test_a_persons_word_joins_what_no_edge_does(self):
        grouping = Grouping(never)
        grouping.apply([*placed("abc"), same("a", "b", CROP)])
        grouping.apply([Decision(key("a"), key("b"), Choice.DUPLICATE), Decision(key("c"), key("b"), Choice.DUPLICATE)])
        (group,) = grouping.groups()
        assert [member.relation for member in group.members] == ["identical", "contains", "same"]
        assert group.state is GroupState.DECIDED

    def test_of_contradicting_words_the_one_that_keeps_apart_wins(self):
        grouping = Grouping(never)
        apart = Decision(key("a"), key("c"), Choice.NOT_DUPLICATE)
        words = [Decision(key("a"), key("b"), Choice.DUPLICATE), Decision(key("b"), key("c"), Choice.DUPLICATE)]
        for order in ([apart, *words], [*reversed(words), apart]):
            grouping = Grouping(never)
            grouping.apply([*placed("abc"), *order])
            assert groups(grouping) == ["ab", "c"]
            assert [len(group.doubtful) for group in grouping.groups()] == [1, 1]

    def test_who_touches_what_a_word_joined_to_the_earliest_is_not_compared_with_that(self):
        grouping = Grouping(never)
        grouping.apply([*placed("ab"), Decision(key("a"), key("b"), Choice.DUPLICATE)])
        grouping.apply([Placed(*key("c"), 7), same("c", "b")])
        assert groups(grouping) == ["abc"]

    def test_a_new_member_reopens_a_decided_group(self):
        grouping = Grouping(never)
        grouping.apply([*placed("ab"), same("a", "b"), Decision(key("a"), key("b"), Choice.DUPLICATE)])
        assert found(grouping, "a").state is GroupState.DECIDED
        (event,) = grouping.apply([Placed(*key("c"), 5), same("c", "a")])
        assert (event.kind, event.added) == (EventKind.GROWN, (key("c"),))
        assert found(grouping, "a").state is GroupState.OPEN

    def test_later_changes_nothing_and_undo_takes_a_word_back(self):
        grouping = Grouping(never)
        grouping.apply([*placed("ab"), same("a", "b"), Decision(key("a"), key("b"), Choice.LATER)])
        assert groups(grouping) == ["ab"]
        grouping.apply([Decision(key("a"), key("b"), Choice.NOT_DUPLICATE)])
        assert groups(grouping) == []
        grouping.apply([Undone(key("b"), key("a"))])
        assert groups(grouping) == ["ab"]


class TestEvents:
    def test_the_life_of_a_group(self):
        grouping = Grouping(never)
        assert grouping.apply(placed("abc")) == []
        (born,) = grouping.apply([same("b", "a")])
        assert born == GroupEvent(EventKind.BORN, key("a"), added=(key("a"), key("b")))
        (grown,) = grouping.apply([same("c", "a"), same("c", "b")])
        assert grown == GroupEvent(EventKind.GROWN, key("a"), added=(key("c"),))
        (smaller,) = grouping.apply([Gone("b")])
        assert smaller == GroupEvent(EventKind.CHANGED, key("a"), lost=(key("b"),))
        (ended,) = grouping.apply([Gone("c")])
        assert ended == GroupEvent(EventKind.ENDED, key("a"), lost=(key("c"),))

    def test_without_its_earliest_image_a_group_goes_on_under_another_id(self):
        grouping = Grouping(never)
        grouping.apply([*placed("abc"), same("a", "b"), same("a", "c"), same("b", "c")])
        events = grouping.apply([Gone("a")])
        assert kinds(events) == [("ended", "a"), ("born", "b")]
        assert events[0].into == key("b")
        assert events[1].origins == (key("a"),)

    def test_a_copy_may_come_while_the_earliest_goes(self):
        grouping = Grouping(never)
        grouping.apply([*placed("abc"), same("a", "b"), same("a", "c"), same("b", "c")])
        grouping.apply([Gone("a"), Placed(*key("d"), 7), same("d", "b")])
        assert groups(grouping) == ["bcd"]

    def test_a_link_follows_a_group_that_merges(self):
        grouping = Grouping(never)
        grouping.apply([*placed("abc"), same("c", "b", CROP)])
        events = grouping.apply([same("a", "b")])
        assert kinds(events) == [("born", "a"), ("merged", "b"), ("changed", "c")]
        assert [link.group for link in found(grouping, "c").linked] == [key("a")]


class TestWork:
    @pytest.mark.parametrize("batch", [1, 100, 100_000])
    def test_many_copies_are_linear_work(self, batch):
        """Each is reported with the earliest and with four others, as search finds them."""
        rng, steps = random.Random(0), {}
        for count in (1000, 5000):
            grouping = Grouping(never)
            changes: list[Placed | Edge] = []
            for number in range(count):
                name = str(number)
                changes.append(Placed(*key(name), number))
                others = {0, *(rng.randrange(number) for _ in range(4))} if number else set()
                changes += [Edge(key(name), key(str(other)), Relation.IDENTICAL) for other in others]
            for start in range(0, len(changes), batch):
                grouping.apply(changes[start : start + batch])
            (group,) = grouping.groups()
            assert len(group.members) == count
            steps[count] = grouping.steps
        assert steps[5000] < 5.5 * steps[1000]

    def test_no_pair_is_compared_twice(self):
        pictures = Pictures(**dict.fromkeys("abcdef", "sea"))
        grouping = Grouping(pictures.compare)
        names = "abcdef"
        grouping.apply([*placed(names), *(same(one, two) for one, two in itertools.pairwise(names))])
        for name in "ace":
            grouping.apply([Decision(key(name), key("x"), Choice.LATER)])
        assert groups(grouping) == [names]
        assert len(pictures.asked) == len(set(pictures.asked)) == grouping.compared == 4

    def test_pairs_of_an_image_that_is_gone_can_be_forgotten_and_decisions_stay(self):
        grouping = Grouping(never)
        grouping.apply(
            [*placed("ab"), same("a", "b"), same("a", "gone"), Decision(key("b"), key("g"), Choice.DUPLICATE)]
        )
        assert list(grouping.gone_with_pairs()) == [key("gone")]
        assert grouping.forget_pairs(key("gone")) == [key("a")]
        assert grouping.forget_pairs(key("g")) == []
        assert not grouping.has_pairs(key("gone"))
        with pytest.raises(ValueError, match="a is there"):
            grouping.forget_pairs(key("a"))
        grouping.apply([Placed(*key("gone"), 9), Placed(*key("g"), 10)])
        assert groups(grouping) == ["abg"]


def test_a_pair_with_itself_is_refused():
    grouping = Grouping(never)
    with pytest.raises(ValueError, match="a pair of a with itself"):
        grouping.apply([same("a", "a")])
