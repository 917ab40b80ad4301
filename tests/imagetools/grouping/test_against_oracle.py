"""Images, removals, changed bytes, verdicts and decisions in any order give the groups of plain loops."""

import hashlib

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from imagetools.grouping.grouping import Grouping
from imagetools.grouping.records import (
    Choice,
    Decision,
    Edge,
    EventKind,
    Gone,
    GroupingChange,
    GroupState,
    ImageKey,
    Placed,
    Undone,
)
from imagetools.grouping.relations import Relation
from tests.imagetools.grouping.oracle import Facts, Key, Oracle

IMAGES = st.builds(
    lambda path, version: ImageKey(path, version if version == "shared" else path + version),
    st.sampled_from("abcdefg"),
    st.sampled_from([*["1"] * 12, "2", "shared"]),
)
PAIRS = st.tuples(IMAGES, IMAGES).filter(lambda pair: pair[0] != pair[1])
RELATIONS = st.sampled_from([*Relation, *[Relation.SAME] * 8])
ANSWERS = ("same", "same", "crop", "", "overlap", "blank")


def compare(left: Key, right: Key) -> str:
    """What two pictures are to each other: anything, but always the same."""
    return ANSWERS[hashlib.sha256(repr((tuple(left), tuple(right))).encode()).digest()[0] % len(ANSWERS)]


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.facts = Facts()
        self.compared: set[tuple[ImageKey, ImageKey]] = set()
        self.grouping = Grouping(self.note)
        self.batch: list[GroupingChange] = []
        self.followed: dict[ImageKey, set[ImageKey]] = {}

    def note(self, left: ImageKey, right: ImageKey) -> Relation:
        self.compared.add((left, right))
        return Relation(compare(left, right))

    def known(self, left: ImageKey, right: ImageKey) -> Relation:
        assert (left, right) in self.compared
        return Relation(compare(left, right))

    @initialize(places=st.permutations(range(7)), known=st.integers(0, 7))
    def begin(self, places: list[int], known: int) -> None:
        for place, path in list(zip(places, "abcdefg", strict=True))[:known]:
            self.place(ImageKey(path, path + "1"), place)

    @rule(image=IMAGES, place=st.integers(0, 9))
    def place(self, image: ImageKey, place: int) -> None:
        path, content = image
        self.batch.append(Placed(path, content, place))
        if path not in self.facts.images or self.facts.images[path][0] != content:
            self.facts.images[path] = content, place

    @rule(path=st.sampled_from("abcdefg"))
    def remove(self, path: str) -> None:
        self.batch.append(Gone(path))
        self.facts.images.pop(path, None)

    @rule(verdicts=st.lists(st.tuples(PAIRS, RELATIONS, st.sampled_from([0.8, 1.0])), min_size=1, max_size=5))
    def verdict(self, verdicts: list[tuple[tuple[ImageKey, ImageKey], Relation, float]]) -> None:
        for pair, relation, score in verdicts:
            self.batch.append(Edge(*pair, relation, score))
            self.facts.put(*pair, relation, score)

    @rule(pair=PAIRS, choice=st.sampled_from(Choice))
    def decide(self, pair: tuple[ImageKey, ImageKey], choice: Choice) -> None:
        self.batch.append(Decision(*pair, choice))
        self.facts.decide(*pair, choice)

    @rule(pair=PAIRS)
    def undo(self, pair: tuple[ImageKey, ImageKey]) -> None:
        self.batch.append(Undone(*pair))
        self.facts.decide(*pair, None)

    @rule()
    def apply(self) -> None:
        for event in self.grouping.apply(self.batch):
            if event.kind is EventKind.BORN:
                assert event.group not in self.followed
                self.followed[event.group] = set(event.added)
            elif event.kind in (EventKind.MERGED, EventKind.ENDED):
                del self.followed[event.group]
                assert event.kind is EventKind.ENDED or event.group in self.followed.get(
                    event.into or event.group, set()
                ) | {event.group}
            else:
                self.followed[event.group] |= set(event.added)
                self.followed[event.group] -= set(event.lost)
        self.batch = []
        expected = Oracle(self.facts, compare).groups()
        groups = {group.id: group for group in self.grouping.groups()}
        assert list(groups) == list(expected)
        for key, group in groups.items():
            plain = expected[key]
            assert tuple(member.image for member in group.members) == plain.members
            assert {(edge.left, edge.right) for edge in group.doubtful} == plain.doubtful
            assert {(link.group, str(link.relation)) for link in group.linked} == plain.linked
            assert (group.state is GroupState.DECIDED) == plain.decided
            assert all(member.decided for member in group.members) or not plain.decided
            assert self.grouping.group(key) == group
            assert {self.grouping.group_of(member.image) for member in group.members} == {key}
        assert {key: set(plain.members) for key, plain in expected.items()} == self.followed

    def teardown(self) -> None:
        """The same knowledge in one batch gives the same records, relations included."""
        self.apply()
        changes: list[GroupingChange] = [
            *(Decision(ImageKey(*a), ImageKey(*b), Choice(said)) for (a, b), said in self.facts.decisions.items()),
            *(
                Edge(ImageKey(*b), ImageKey(*a), Relation(r).turned, s)
                for (a, b), (r, s) in self.facts.verdicts.items()
            ),
            *(Placed(path, content, place) for path, (content, place) in self.facts.images.items()),
        ]
        fresh = Grouping(lambda left, right: Relation(compare(left, right)))
        fresh.apply(changes)
        assert list(fresh.groups()) == list(self.grouping.groups())
        loaded = Grouping(self.known)
        for change in changes:
            loaded.load([change])
        assert not any(loaded.divide()), "it compares no pair that was not compared before"
        assert list(loaded.groups()) == list(self.grouping.groups())
        assert loaded.apply(changes) == [], "and knows which groups there are"


TestGroups = Machine.TestCase
TestGroups.settings = settings(max_examples=150, stateful_step_count=40, deadline=None, derandomize=True)
