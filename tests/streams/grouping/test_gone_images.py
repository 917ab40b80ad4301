"""What the grouping stage knows of images that are gone: kept while they may come back, and then forgotten."""

import random
from collections.abc import Sequence
from typing import Any

import pytest

from imagetools.grouping.records import Choice, ImageKey
from imagetools.grouping.relations import Relation
from schemas.group_records import FactKind, GroupingFact
from schemas.records import Duplicate
from streams.grouping import gone_images, known_pairs
from streams.grouping.gone_images import KEEP_MS, SETTLED_MS, GoneImages
from streams.grouping.state import GroupingState
from tests.support.grouping_messages import content, decision, image, key_of

A, B, C = (ImageKey(path, content(path).hex()) for path in ("a", "b", "c"))


class Clock:
    now = 1_000_000_000_000


class Kept:
    """A state and the log of its facts, which can be compacted."""

    def __init__(self) -> None:
        self.compared: list[tuple[str, str]] = []
        self.state = GroupingState(self.compare)
        self.log: list[tuple[str, GroupingFact | None]] = []

    def compare(self, left: ImageKey, right: ImageKey) -> Relation:
        self.compared.append((left.path, right.path))
        return Relation.SAME

    def settle(self) -> None:
        self.state.settle()
        self.log += self.state.take_facts().items()

    def place(self, *images: ImageKey) -> None:
        for one in images:
            self.state.place(one.path, bytes.fromhex(one.content), 0, 0)
        self.settle()

    def remove(self, *images: ImageKey) -> None:
        for one in images:
            self.state.remove(one.path, 0, 0)
        self.settle()

    def pair(self, one: ImageKey, two: ImageKey, relation: str = "same") -> None:
        self.state.put_pair(one, two, Duplicate(two.path, 0.5, relation=relation))
        self.settle()

    def restored(self, log: Sequence[tuple[str, GroupingFact | None]] | None = None) -> GroupingState:
        state = GroupingState(self.compare)
        for key, fact in self.log if log is None else log:
            state.load(key, fact)
        for _ in state.divide():
            pass
        return state

    def kinds(self) -> list[str]:
        """Return the kinds of the facts that hold."""
        return sorted(fact.kind for fact in dict(self.log).values() if fact is not None)


def members(state: GroupingState) -> list[list[str]]:
    return [[member.image.path for member in group.members] for group in state.grouping.groups()]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (gone_images, known_pairs):
        monkeypatch.setattr(module, "now_ms", lambda: clock.now)
    return clock


@pytest.fixture
def kept(clock: Clock) -> Kept:
    """Two images of one picture, of which the second is gone."""
    kept = Kept()
    kept.place(A, B)
    kept.pair(B, A)
    kept.remove(B)
    return kept


def test_an_image_that_comes_back_with_the_same_bytes_is_in_its_group_again(clock: Clock, kept: Kept) -> None:
    clock.now += SETTLED_MS + 1
    kept.settle()
    assert kept.kinds() == [FactKind.EDGE, FactKind.GONE, FactKind.IMAGE]
    clock.now += KEEP_MS - SETTLED_MS - 2
    for state in (kept.state, kept.restored()):
        state.place(B.path, bytes.fromhex(B.content), 0, 0)
        state.settle()
        assert members(state) == [["a", "b"]]
    kept.log += kept.state.take_facts().items()
    assert kept.kinds() == [FactKind.EDGE, FactKind.IMAGE, FactKind.IMAGE]
    clock.now += 2 * KEEP_MS
    kept.settle()
    assert members(kept.restored()) == [["a", "b"]], "it is not gone any more"


def test_after_a_month_its_pairs_are_forgotten_also_by_who_reads_the_log(clock: Clock, kept: Kept) -> None:
    clock.now += SETTLED_MS + 1
    kept.settle()
    clock.now += KEEP_MS + 1
    kept.settle()
    assert kept.kinds() == [FactKind.IMAGE]
    for state in (kept.state, kept.restored()):
        assert not state.grouping.has_pairs(A)
        state.place(B.path, bytes.fromhex(B.content), 0, 0)
        state.settle()
        assert members(state) == []
        # search takes it for a new image
        state.put_pair(B, A, Duplicate(A.path, 0.5, relation="same"))
        state.settle()
        assert members(state) == [["a", "b"]]


def test_a_decision_holds_however_long_the_image_was_gone(clock: Clock, kept: Kept) -> None:
    kept.state.decide("d", 0, decision(Choice.NOT_DUPLICATE, image("a"), image("b")))
    kept.settle()
    for wait in (SETTLED_MS, KEEP_MS):
        clock.now += wait + 1
        kept.settle()
    assert kept.kinds() == [FactKind.DECISION, FactKind.IMAGE]
    assert key_of(image("b")) == B
    for state in (kept.state, kept.restored()):
        state.place(B.path, bytes.fromhex(B.content), 0, 0)
        state.put_pair(B, A, Duplicate(A.path, 0.5, relation="same"))
        state.settle()
        assert members(state) == []


def test_an_alert_that_names_an_image_that_is_gone_keeps_its_pairs_for_another_month(clock: Clock, kept: Kept) -> None:
    clock.now += SETTLED_MS + 1
    kept.settle()
    clock.now += KEEP_MS - 1
    kept.pair(B, A)
    clock.now += KEEP_MS - 1
    kept.settle()
    kept.place(B)
    assert members(kept.state) == members(kept.restored()) == [["a", "b"]]


def test_answers_of_comparisons_go_with_the_image_and_one_without_pairs_leaves_nothing(clock: Clock) -> None:
    kept = Kept()
    kept.place(A, B, C)
    kept.pair(B, A)
    kept.pair(C, B)
    assert kept.compared == [("a", "c")]
    kept.remove(A)
    kept.place(ImageKey("x", "12" * 32))
    kept.remove(ImageKey("x", "12" * 32))
    for wait in (SETTLED_MS, KEEP_MS):
        clock.now += wait + 1
        kept.settle()
    assert kept.kinds() == [FactKind.EDGE, FactKind.IMAGE, FactKind.IMAGE]
    assert list(kept.restored().grouping.gone_with_pairs()) == []


def test_an_image_that_has_just_gone_is_noted_again_by_the_next_owner(clock: Clock, kept: Kept) -> None:
    assert kept.kinds() == [FactKind.EDGE, FactKind.IMAGE]
    kept.state = kept.restored()
    for wait in (SETTLED_MS, KEEP_MS):
        clock.now += wait + 1
        kept.settle()
    assert kept.kinds() == [FactKind.IMAGE]


def test_whatever_comes_the_log_gives_the_same_state_also_where_it_is_compacted(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gone_images, "KEEP_MS", 30)
    monkeypatch.setattr(gone_images, "SETTLED_MS", 5)
    rng = random.Random(5)
    kept = Kept()
    images = [ImageKey(path, content(path + version).hex()) for path in "abcdef" for version in "12"]
    forgotten = 0
    for _ in range(600):
        clock.now += rng.randrange(4)
        before = kept.state.grouping.has_pairs
        known = [one for one in images if before(one)]
        act: Any = rng.choice((kept.place, kept.remove, kept.pair, kept.settle))
        act(*rng.sample(images, {kept.pair: 2, kept.settle: 0}.get(act, 1)))
        forgotten += sum(not kept.state.grouping.has_pairs(one) for one in known)
        if rng.random() < 0.2:
            end = rng.randrange(len(kept.log) + 1)
            newest = {key: place for place, (key, _) in enumerate(kept.log[:end])}
            compacted = [one for place, one in enumerate(kept.log[:end]) if newest[one[0]] == place] + kept.log[end:]
            for log in (kept.log, compacted):
                state = kept.restored(log)
                assert list(state.grouping.groups()) == list(kept.state.grouping.groups())
                assert [state.grouping.has_pairs(one) for one in images] == [
                    kept.state.grouping.has_pairs(one) for one in images
                ]
    assert forgotten > 20


def test_few_are_forgotten_at_a_time() -> None:
    gone = GoneImages()
    images = [ImageKey(str(number), "00" * 32) for number in range(1000)]
    facts = gone.update(images, lambda _: True, 0)
    assert facts == {}
    assert len(gone.update([], lambda _: True, SETTLED_MS)) == gone_images.MOST_AT_A_TIME
    assert len(gone) == 1000
    assert len(gone.due(SETTLED_MS + KEEP_MS)) == gone_images.MOST_AT_A_TIME
