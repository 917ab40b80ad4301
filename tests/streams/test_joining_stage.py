"""A matcher that is started again while answers of shards are missing: it reads again what waits, as far as it can."""

import logging
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from imagetools.image_root import ImageRoot
from imagetools.matching.config import MatcherConfig
from schemas.neighbor_records import Neighbor, ShardAnswer, ShardHit, ShardImage
from schemas.records import Candidates, VerdictOutcome
from streams.config import KafkaConfig
from streams.kafka.admin import end_offsets
from streams.kafka.lag import LagSampler
from streams.matcher_consumer import MatcherStage
from streams.topics import CANDIDATES, DUPLICATES, VERDICTS
from tests.support.bridging import eventually
from tests.support.streaming import Reader, running, scene, send

PATH, COPY = "0.png", "copy.jpg"


def answer(sequence: int, shard: int) -> tuple[str, Candidates]:
    """What one of two shards found; the second holds the image, and a copy of it."""
    image = (ShardImage.ELSEWHERE, ShardImage.PLACED)[shard]
    near = (ShardHit(Neighbor(COPY, 0.9), 1, 1),) if shard else ()
    return PATH, Candidates(sequence, PATH, shard=ShardAnswer(shard, 2, "log", sequence, image, near, (), 5, 0, 0))


def matcher(kafka: KafkaConfig, folder: Path) -> MatcherStage:
    return MatcherStage(MatcherConfig(), ImageRoot(folder), workers=2, kafka=kafka)


def forget(kafka: KafkaConfig) -> None:
    """Let the topic lose all messages, as it does when their time is over."""
    admin, name = AdminClient(kafka.client()), kafka.topic(CANDIDATES.name)
    ends = [TopicPartition(name, number, end) for number, end in end_offsets(admin, name).items() if end]
    for future in admin.delete_records(ends).values():
        future.result()


@pytest.mark.parametrize("lost", [False, True])
def test_what_waits_is_read_again_and_what_is_lost_is_said(kafka, tmp_path, caplog, lost):
    caplog.set_level(logging.INFO)
    scene(0).save(tmp_path / PATH)
    scene(0).save(tmp_path / COPY, quality=70)
    send(kafka, CANDIDATES, [answer(5, 0)])
    sampler = LagSampler(kafka, {"matcher": CANDIDATES})
    with running(matcher(kafka, tmp_path), kafka=kafka):
        eventually(lambda: sampler.sample()[0].lag == 0)
    sampler.close()
    if lost:
        forget(kafka)
    reader = Reader(kafka, VERDICTS, DUPLICATES)
    with running(matcher(kafka, tmp_path), kafka=kafka):
        send(kafka, CANDIDATES, [answer(5, 1), answer(9, 0)])
        reader.until(lambda seen: seen.seen["verdicts"]).settled(0.5)
    assert ("are no longer in partition" in caplog.text) is lost
    (verdict,), (alert,) = reader.seen["verdicts"], reader.seen["duplicates"]
    assert (verdict.request_id, verdict.outcome) == (5, VerdictOutcome.DUPLICATE)
    assert [one.relative_path for one in alert.duplicated] == [COPY]
    assert verdict.reason == ("not compared with the images of shard 0 of 2, which passed it over" if lost else "")
    reader.close()
