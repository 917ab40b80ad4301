"""Offsets of topics that a group is not subscribed to, which Kafka drops where they are not committed again."""

from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]

from imagetools.grouping.records import Choice
from imagetools.image_root import ImageRoot
from imagetools.matching.config import MatcherConfig
from schemas.group_records import ImageContent
from streams.grouping_consumer import GroupingStage
from streams.kafka.admin import GroupOffsets, end_offsets
from streams.topics import DECISIONS, DUPLICATES, EMBEDDINGS, GROUPS
from tests.support.bridging import eventually
from tests.support.grouping_messages import alert, decision, embedding, image
from tests.support.streaming import Reader, running, scene, send


@pytest.fixture
def commits() -> list[dict[tuple[str, int], int]]:
    return []


@pytest.fixture
def producer(commits):
    """Notes the offsets of each transaction."""

    class Noting(Producer):
        def send_offsets_to_transaction(self, positions: Any, *args: Any, **more: Any) -> None:
            commits.append({(one.topic, one.partition): one.offset for one in positions})
            super().send_offsets_to_transaction(positions, *args, **more)

    return Noting


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_partitions_that_are_added_to_a_further_topic_are_read_from_their_beginning(
    kafka, tmp_path, monkeypatch, protocol
):
    kafka = replace(kafka, group_protocol=protocol)
    monkeypatch.setattr("streams.kafka.partitions.LOOK_S", 0.2)
    one, two, three = (image(path, "same") for path in ("a.png", "b.png", "c.png"))
    # an empty folder counts as away
    scene(1).save(tmp_path / "a.png")
    name, added = kafka.topic(DUPLICATES.name), DUPLICATES.partitions
    reader = Reader(kafka, GROUPS)

    def sent(candidate: ImageContent) -> None:
        record = alert(candidate, one, relation="identical")
        send(kafka, DUPLICATES, [(candidate.relative_path, record)], partition=added)

    def offset() -> int | None:
        with closing(GroupOffsets(kafka, "grouping", DUPLICATES)) as offsets:
            return offsets.read().get(added)

    with running(GroupingStage(kafka, MatcherConfig(), ImageRoot(tmp_path)), kafka=kafka):
        send(kafka, EMBEDDINGS, [(path.relative_path, embedding(path)) for path in (one, two, three)])
        admin = AdminClient(kafka.client())
        admin.create_partitions([NewPartitions(name, added + 1)])[name].result(30)
        eventually(lambda: len(end_offsets(admin, name)) == added + 1)
        sent(two)
        reader.until(lambda r: r.seen["groups"])
        eventually(lambda: offset() == 1, 20)
    with running(GroupingStage(kafka, MatcherConfig(), ImageRoot(tmp_path)), kafka=kafka):
        sent(three)
        reader.until(lambda r: len(r.seen["groups"]) == 2)
    assert [record.event for record in reader.seen["groups"]] == ["born", "grown"]
    reader.close()


def test_each_transaction_commits_them_all_and_an_idle_stage_does_now_and_then(
    kafka, tmp_path, commits, producer, monkeypatch
):
    further = {(kafka.topic(EMBEDDINGS.name), 0)} | {
        (kafka.topic(DUPLICATES.name), number) for number in range(DUPLICATES.partitions)
    }
    stage = GroupingStage(kafka, MatcherConfig(), ImageRoot(tmp_path))
    one, two = image("a.png"), image("b.png")
    with running(stage, kafka=kafka, producer=producer):
        send(kafka, EMBEDDINGS, [("a.png", embedding(one))])
        eventually(lambda: commits)
        record = decision(Choice.DUPLICATE, one, two)
        send(kafka, DECISIONS, [(record.id, record)])
        eventually(lambda: len(commits) == 2)
        read = commits[-1]
        assert set(read) == further | {(kafka.topic(DECISIONS.name), 0)}
        assert read[kafka.topic(EMBEDDINGS.name), 0] == 1
        monkeypatch.setattr("streams.kafka.partitions.KEEP_S", 0.1)
        eventually(lambda: len(commits) >= 4)
    assert set(commits[0]) == further
    assert all(kept == {place: read[place] for place in further} for kept in commits[2:])
