"""Images, removals, changed bytes, alerts and decisions in random order, while the stage is killed again and again."""

import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imagetools.grouping.records import Choice
from imagetools.image_root import ImageRoot
from imagetools.matching.config import MatcherConfig
from schemas.group_records import ImageContent
from streams.config import KafkaConfig
from streams.grouping_consumer import GroupingStage
from streams.kafka.lag import LagSampler
from streams.topics import DEAD_LETTERS, DECISIONS, DUPLICATES, EMBEDDINGS, GROUPING_STATE, GROUPS, VERDICTS, Topic
from tests.imagetools.grouping.oracle import Facts, Oracle
from tests.streams.test_exactly_once import POINTS, Lives, environ
from tests.support.grouping_files import content_of, png, write
from tests.support.grouping_messages import GroupTable, alert, decision, embedding, image, key_of
from tests.support.streaming import Reader, running, scene, send

PATHS = [f"{number}.png" for number in range(12)]
VERSIONS = "12"
MESSAGES, BURST = 480, 40
RELATIONS = ("same", "same", "same", "identical", "crop", "overlap", "blank")


FILES = {(path, v): png(scene(n % 4), v) for n, path in enumerate(PATHS) for v in VERSIONS}
"""Four scenes, each three times, by path and version."""
DATA = {content_of(data): data for data in FILES.values()}


def write_pictures(folder: Path) -> None:
    """Write the first version of each file."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in PATHS:
        write(folder, path, FILES[path, VERSIONS[0]])


def compare(left: tuple[str, str], right: tuple[str, str]) -> str:
    """What the pictures are to each other."""
    return "same" if PATHS.index(left[0]) % 4 == PATHS.index(right[0]) % 4 else ""


class Storm:
    """Sends messages at random, and notes what they say, for plain loops to work out the groups.

    A file has its new bytes before they are announced, as those of a producer have.
    """

    def __init__(self, kafka: KafkaConfig, folder: Path, seed: int) -> None:
        self.kafka = kafka
        self.folder = folder
        self.rng = random.Random(seed)
        self.facts = Facts()
        self.place = 0
        self.waiting: dict[str, tuple[Topic, list[tuple[str, Any]]]] = {}

    def image(self) -> ImageContent:
        path = self.rng.choice(PATHS)
        return ImageContent(path, content_of(FILES[path, self.rng.choice("1112")]))

    def pair(self) -> tuple[ImageContent, ImageContent]:
        one, two = self.image(), self.image()
        return (one, two) if one.relative_path != two.relative_path else self.pair()

    def send(self, count: int) -> None:
        """Send this many messages. Between topics there is no order."""
        acts = (self.announce, self.remove, self.report, self.decide, self.undo)
        for act in self.rng.choices(acts, (6, 1, 8, 3, 1), k=count):
            act()
        for topic, records in self.waiting.values():
            send(self.kafka, topic, records)
        self.waiting = {}

    def add(self, topic: Topic, key: str, record: Any) -> None:
        self.waiting.setdefault(topic.name, (topic, []))[1].append((key, record))

    def announce(self) -> None:
        one = self.image()
        path, content = key_of(one)
        write(self.folder, path, DATA[one.content])
        self.add(EMBEDDINGS, path, embedding(one))
        self.place += 1
        if self.facts.images.get(path, ("", 0))[0] != content:
            self.facts.images[path] = content, self.place

    def remove(self) -> None:
        path = self.rng.choice(PATHS)
        self.add(EMBEDDINGS, path, None)
        self.facts.images.pop(path, None)

    def report(self) -> None:
        one, other = self.pair()
        relation = self.rng.choice(RELATIONS)
        self.add(DUPLICATES, one.relative_path, alert(one, other, relation=relation))
        self.facts.put(key_of(one), key_of(other), relation, 0.5)

    def decide(self) -> None:
        pair = self.pair()
        record = decision(self.rng.choice(list(Choice)), *pair)
        self.add(DECISIONS, record.id, record)
        self.facts.decide(key_of(pair[0]), key_of(pair[1]), record.decision)

    def undo(self) -> None:
        pair = self.pair()
        self.add(DECISIONS, decision(Choice.LATER, *pair).id, None)
        self.facts.decide(key_of(pair[0]), key_of(pair[1]), None)


def groups_of(reader: Reader) -> GroupTable:
    """Return the groups after all messages; each must follow from those before it."""
    table = GroupTable()
    for message, record in zip(reader.messages["groups"], reader.seen["groups"], strict=True):
        table.take(message.key().decode(), record, message.headers())
    return table


def assert_as_plain_loops(table: GroupTable, facts: Facts) -> None:
    expected = Oracle(facts, compare).groups()
    assert set(table.groups) == {path for path, _ in expected}
    for (path, _), plain in expected.items():
        record = table.groups[path]
        assert tuple(key_of(member) for member in record.members) == plain.members
        assert {(key_of(edge.left), key_of(edge.right)) for edge in record.doubtful} == plain.doubtful
        assert {(link.group, link.edge.relation) for link in record.linked} == {
            (group, relation) for (group, _), relation in plain.linked
        }
        assert (record.state == "decided") == plain.decided


def until_read(kafka: KafkaConfig, tend: Callable[[], None] = lambda: None, deadline_s: float = 200) -> None:
    """Wait until the stage has read everything."""
    sampler = LagSampler(kafka, {"grouping": DECISIONS})
    deadline = time.monotonic() + deadline_s
    try:
        while sampler.sample()[0].lag:
            assert time.monotonic() < deadline
            tend()
            time.sleep(0.05)
    finally:
        sampler.close()


@pytest.mark.timeout(400)
def test_whatever_is_killed_the_groups_are_those_of_plain_loops_over_what_was_said(kafka, tmp_path):
    folder = tmp_path / "images"
    write_pictures(folder)
    plan = [(point, 1 + number % 2) for number, point in enumerate((*POINTS, *POINTS))]
    life = Lives("grouping", environ(kafka, folder, tmp_path, "grouping"), tmp_path / "grouping.log", plan)
    storm = Storm(kafka, folder, 7)
    reader = Reader(kafka, GROUPS, DEAD_LETTERS, VERDICTS)
    deadline, sent = time.monotonic() + 300, 0
    try:
        while life.plan or sent < MESSAGES:
            assert time.monotonic() < deadline, (life.plan, (tmp_path / "grouping.log").read_text()[-2000:])
            life.tend()
            # each life that is to be killed gets work of its own
            if sent < MESSAGES - BURST * len(life.plan):
                storm.send(BURST)
                sent += BURST
            time.sleep(0.05)
        until_read(kafka, life.tend)
        reader.settled(1.5)
    finally:
        code = life.stop()
    assert code == 0
    assert len(life.kills) == 8
    table = groups_of(reader)
    assert len(reader.seen["groups"]) > 40
    assert_as_plain_loops(table, storm.facts)
    assert (reader.seen["dead-letters"], reader.seen["verdicts"]) == ([], [])
    reader.close()


def test_a_group_too_large_for_a_usual_message_is_sent(kafka, tmp_path):
    write_pictures(tmp_path)
    copies = [image(f"{'folder/' * 100}{number}.png", "same") for number in range(2000)]
    send(kafka, EMBEDDINGS, [(one.relative_path, embedding(one)) for one in copies])
    alerts = [(one.relative_path, alert(one, copies[0], relation="identical")) for one in copies[1:]]
    reader = Reader(kafka, GROUPS)
    with running(GroupingStage(kafka, MatcherConfig(), ImageRoot(tmp_path)), kafka=kafka):
        send(kafka, DUPLICATES, alerts)
        reader.until(lambda seen: any(record.member_count == len(copies) for record in seen.seen["groups"]))
    assert max(len(message.value()) for message in reader.messages["groups"]) > 1_300_000
    reader.close()


def test_a_decision_as_large_as_its_topic_takes_is_kept_as_a_fact(kafka, tmp_path):
    write_pictures(tmp_path)
    record = decision(Choice.DUPLICATE, image("0.png"), image("4.png"))
    largest = replace(record, note="n" * (1_048_588 - 330))
    reader = Reader(kafka, GROUPING_STATE, DEAD_LETTERS)
    with running(GroupingStage(kafka, MatcherConfig(), ImageRoot(tmp_path)), kafka=kafka):
        send(kafka, DECISIONS, [(record.id, largest)])
        reader.until(lambda seen: seen.seen["grouping.state"])
    assert reader.seen["grouping.state"][0].decision == largest
    assert not reader.seen["dead-letters"]
    reader.close()


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_stand_by_has_nothing_and_takes_over_all(kafka, tmp_path, protocol):
    write_pictures(tmp_path)
    kafka = replace(kafka, member=None, group_protocol=protocol)
    stages = [GroupingStage(kafka, MatcherConfig(), ImageRoot(tmp_path)) for _ in range(2)]
    storm = Storm(kafka, tmp_path, 3)
    with running(stages[0], kafka=kafka) as (first,):
        storm.send(60)
        until_read(kafka)
        with running(stages[1], kafka=kafka):
            storm.send(60)
            until_read(kafka)
            owned = [one for one in stages if len(one.state.images)]
            assert owned == stages[:1]
            first.stop()
            storm.send(60)
            until_read(kafka)
    reader = Reader(kafka, GROUPS).settled(1)
    assert_as_plain_loops(groups_of(reader), storm.facts)
    reader.close()
