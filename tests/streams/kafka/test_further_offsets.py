"""Offsets of topics that a group is not subscribed to, which Kafka drops where they are not committed again."""

from typing import Any

import pytest
from confluent_kafka import Producer

from imagetools.grouping.records import Choice
from imagetools.image_root import ImageRoot
from imagetools.matching.config import MatcherConfig
from streams.grouping_consumer import GroupingStage
from streams.topics import DECISIONS, DUPLICATES, EMBEDDINGS
from tests.support.bridging import eventually
from tests.support.grouping_messages import decision, embedding, image
from tests.support.streaming import running, send


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
