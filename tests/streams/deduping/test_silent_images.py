"""What was loaded silently is searched for once, whatever comes, goes, is killed or compacted meanwhile."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import combinations

import numpy as np
import pytest

from imagetools.grouping.records import ImageKey
from imagetools.index.change import PutOutcome
from imagetools.index.entry import Entry
from imagetools.index.index import Index
from schemas.group_records import FactKind, GroupingFact, ImageContent
from schemas.neighbor_records import Neighbor
from schemas.records import Candidates, Deduped, Duplicate, Embedding, Reply, ReplyOutcome
from streams.deduping.deduper import Deduper
from streams.deduping.silent_images import Came, SilentImages
from streams.grouping.state import GroupingState
from streams.stage import Received
from streams.topics import CANDIDATES, DEDUPED

PATHS = [f"{folder}/{n}.jpg" for folder in "ab" for n in range(3)][:5]
"""No more than a search shows of one node: with a few contents, all images may be equal."""

CONTENTS = 4
VECTORS = np.random.default_rng(5).normal(size=(CONTENTS, 16)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)

Placement = int
"""A time at which a path got bytes: its place in the order of all."""


def content(number: int) -> bytes:
    return bytes([number + 1]) * 32


class World:
    """Search and grouping beside one log, and what was reported: pairs of placements, as often as they were."""

    def __init__(self) -> None:
        self.index = Index()
        self.grouping = GroupingState(lambda _left, _right: None)
        self.log: list[Received[Embedding]] = []
        self.facts: dict[str, GroupingFact | None] = {}
        self.deduped: dict[str, Deduped | None] = {}
        self.reported: Counter[frozenset[Placement]] = Counter()

    def close(self) -> None:
        self.index.close()

    def place_of(self, path: str) -> Placement:
        return self.grouping.images[path].place

    # the stream

    def announce(self, path: str, number: int, *, alert: bool) -> None:
        record = Embedding(len(self.log), path, VECTORS[number], "m", content(number), alert)
        neighbors, outcome = self._put(self._append(path, record))
        before = self.grouping.images.get(path)
        self.grouping.place(path, content(number), 0, 0, silent=not alert)
        self._settle()
        assert (outcome is PutOutcome.PLACED) == (before is None or before.place != self.place_of(path))
        if alert and outcome is PutOutcome.PLACED:
            self.reported.update(frozenset((self.place_of(path), self.place_of(other))) for other in neighbors)

    def remove(self, path: str) -> None:
        self._put(self._append(path, None))
        self.grouping.remove(path, 0, 0)
        self._settle()

    def _append(self, path: str, record: Embedding | None) -> Received[Embedding]:
        offset = self.log[-1].offset + 1 if self.log else 0
        self.log.append(Received(path, record, 0, offset, 0))
        return self.log[-1]

    def _put(self, received: Received[Embedding]) -> tuple[list[str], PutOutcome]:
        record = received.record
        change = self.index.change()
        entry = Entry(received.offset, received.path, digest=b"" if record is None else record.digest, source=0)
        put = change.put(entry, None if record is None else record.fingerprint, nb_neighbors=100)
        change.apply()
        return [hit.relative_path for hit in put.neighbors], put.outcome

    def _settle(self) -> None:
        self.grouping.settle()
        self.facts |= self.grouping.take_facts()

    # what may happen to it

    def compact(self) -> None:
        """Keep the newest record of each path, and build the index from these alone."""
        newest = {received.path: received for received in self.log}
        self.log = [received for received in self.log if newest[received.path] is received]
        self.index.close()
        self.index = Index()
        for received in self.log:
            self._put(received)

    def restart_grouping(self) -> None:
        self.grouping = GroupingState(lambda _left, _right: None)
        for key, fact in self.facts.items():
            self.grouping.load(key, fact)
        for _ in self.grouping.divide():
            pass

    # dedupe

    def view(self) -> SilentImages:
        images = SilentImages()
        for key, fact in self.facts.items():
            images.take_fact(key, fact)
        for path, done in self.deduped.items():
            images.take_deduped(path, done)
        return images

    def find(self, records: Sequence[Embedding]) -> list[Reply]:
        replies = []
        for record in records:
            change = self.index.change()
            hits = change.search(record.fingerprint, 100, digest=record.digest)
            found = [(hit, change.entry(hit.relative_path)) for hit in hits]
            neighbors = tuple(
                Neighbor(hit.relative_path, hit.score, hit.identical, content=entry.digest)
                for hit, entry in found
                if entry
            )
            replies.append(Reply("", "", ReplyOutcome.SERVED, neighbors=neighbors))
        return replies

    def dedupe(self, prefix: str = "", size: int = 2) -> Iterator[None]:
        """One run, which may be left at any yield: before a transaction commits, and after it has."""
        places = {path: known.place for path, known in self.grouping.images.items()}
        deduper = Deduper(self.view(), self.find, prefix=prefix)
        log = list(self.log)
        wanted = [(one, one.record, place) for one in log if one.record and (place := deduper.wants(one)) is not None]
        for start in range(0, len(wanted), size):
            outputs = deduper.outputs(wanted[start : start + size])
            yield
            for output, _ in outputs:
                if output.topic is DEDUPED:
                    assert output.record is None or isinstance(output.record, Deduped)
                    self.deduped[output.path] = output.record
                else:
                    assert output.topic is CANDIDATES
                    assert isinstance(output.record, Candidates)
                    pairs = ((output.path, one.relative_path) for one in output.record.neighbors)
                    self.reported.update(frozenset((places[one], places[two])) for one, two in pairs)
            yield


def happen(world: World, rng: random.Random, *, grouping_restarts: bool = True) -> None:
    path = rng.choice(PATHS)
    match rng.random():
        case chance if chance < 0.4:
            world.announce(path, rng.randrange(CONTENTS), alert=False)
        case chance if chance < 0.7:
            world.announce(path, rng.randrange(CONTENTS), alert=True)
        case chance if chance < 0.8 and path in world.grouping.images:
            # the same bytes again, in either way
            known = world.grouping.images[path].key.content
            world.announce(path, bytes.fromhex(known)[0] - 1, alert=rng.random() < 0.5)
        case chance if chance < 0.85:
            world.remove(path)
        case chance if chance < 0.95:
            world.compact()
        case _:
            newest = max((known.place for known in world.grouping.images.values()), default=-1)
            # the place of a removed image is free after a restart, and placements here are named by their places
            if grouping_restarts and newest == world.grouping._next_place - 1:
                world.restart_grouping()


@pytest.fixture
def world() -> Iterator[World]:
    with closing(World()) as world:
        yield world


@pytest.mark.parametrize("seed", range(150))
def test_each_pair_is_reported_once_whatever_happens_around_the_runs(world: World, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(4):
        for _ in range(rng.randrange(12)):
            happen(world, rng)
        run = world.dedupe(rng.choice(("", "", "a/")), size=rng.randrange(1, 4))
        # killed after some steps, with other things in between
        for _ in range(rng.randrange(8)):
            if next(run, "ended") == "ended":
                break
            if rng.random() < 0.5:
                happen(world, rng)
    assert max(world.reported.values(), default=0) <= 1
    for _ in world.dedupe():
        pass
    current = [world.place_of(path) for path in world.grouping.images]
    assert {world.reported[frozenset(pair)] for pair in combinations(current, 2)} <= {1}
    assert max(world.reported.values(), default=0) <= 1
    before = Counter(world.reported)
    world.compact()
    world.restart_grouping()
    assert list(world.dedupe()) == []
    assert world.reported == before


def fact(path: str, place: int, silent: bool | None) -> GroupingFact:
    image = ImageContent(path, content(0))
    return GroupingFact(path, FactKind.IMAGE, (image,), place, silent=silent)


def images_of(*facts: GroupingFact) -> SilentImages:
    images = SilentImages()
    for one in facts:
        images.take_fact(one.id, one)
    return images


def test_what_a_version_did_not_note_the_record_in_the_log_says() -> None:
    images = images_of(fact("a", 0, None), fact("b", 1, None), fact("c", 2, True), fact("d", 3, False))
    assert (images.count(Came.UNKNOWN), images.count(Came.SILENT)) == (2, 1)
    wanted = {path: images.take(path, content(0), alert=path == "b") for path in "abcd"}
    assert wanted == {"a": 0, "b": None, "c": 2, "d": None}


def test_a_pair_that_an_alert_names_already_is_not_sent_again() -> None:
    state = GroupingState(lambda _left, _right: None)
    for path in "abc":
        state.place(path, content(0), 0, 0, silent=True)
    key = {path: ImageKey(path, content(0).hex()) for path in "abc"}
    state.put_pair(key["c"], key["a"], Duplicate("a", 0.9, relation="same"))
    state.settle()
    images = SilentImages()
    for name, one in state.take_facts().items():
        images.take_fact(name, one)
    neighbors = [Neighbor(path, 1.0, content=content(0)) for path in "abc"]
    assert [one.relative_path for one in images.before("c", neighbors)] == ["b"]


def test_an_image_that_has_other_bytes_by_now_is_no_neighbor_and_is_not_searched_for() -> None:
    images = images_of(fact("a", 0, True), fact("b", 1, True))
    assert images.before("b", [Neighbor("a", 1.0, content=content(1)), Neighbor("x", 1.0, content=content(0))]) == ()
    assert images.take("a", content(1), alert=False) is None
    assert images.take("a", content(0), alert=False) == 0
    assert images.take("a", content(0), alert=False) is None


def test_what_was_searched_for_is_forgotten_where_the_image_has_gone_or_come_back() -> None:
    images = images_of(fact("a", 7, True), fact("b", 8, True), fact("c", 9, True))
    for path, place in (("a", 7), ("b", 2), ("gone", 4)):
        images.take_deduped(path, Deduped(path, content(0), place))
    assert images.count(Came.SILENT) == 2
    assert images.take_outdated() == {"b", "gone"}
    assert images.take_outdated() == set()
