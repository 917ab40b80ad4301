"""Four shards, each with a spare, and a matcher, killed again and again and frozen: the alerts of one index, once.

An index whose process was killed is rebuilt from the log.

IMAGETOOLS_TEST_KILLS is how often each process is killed, for a longer storm.
"""

import os
import random
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from schemas.records import Embedding
from streams.config import KafkaConfig
from streams.kafka.resharding import reshard
from streams.topics import CANDIDATES, DEAD_LETTERS, DUPLICATES, EMBEDDINGS, VERDICTS
from tests.streams.test_exactly_once import POINTS, Lives, environ
from tests.streams.test_search_stage import embedding, vectors
from tests.support.streaming import Reader, group_pairs, pairs_of, send, write_groups

SHARDS = 4
REPLICAS = 2
FREEZES = 3
KILLS = int(os.environ.get("IMAGETOOLS_TEST_KILLS", "1"))
GROUPS = 50 * KILLS
BURST = 20
FROZEN_S = 4.0
"""Longer than the session timeout: the spare has the log when a frozen process goes on."""


def embeddings(paths: Sequence[str], first: int) -> list[tuple[str, Embedding]]:
    """Records of what `write_groups` wrote: the fingerprints of one scene are near each other."""
    scenes, noise = vectors(GROUPS, seed=1, d=64), vectors(len(paths), seed=2, d=64)
    records = []
    for number, path in enumerate(paths):
        scene = int(re.match(r"\d+", path)[0])  # type: ignore[index]
        vector = scenes[scene] + 0.2 * noise[number]
        record = embedding(path, (vector / np.linalg.norm(vector)).astype(np.float32), number)
        records.append((path, replace(record, request_id=first + number)))
    return records


def lives_of(kafka: KafkaConfig, folder: Path, rng: random.Random) -> list[Lives]:
    """The processes of each shard and of the matcher."""
    lives = []
    for number in range(SHARDS * REPLICAS + 1):
        stage = "matcher" if number == SHARDS * REPLICAS else "search"
        settings = environ(kafka, folder / "images", folder, stage)
        settings |= {"MEMBER_NAME": f"{stage}-{number}"}
        if stage == "search":
            settings |= {"SHARD": f"{number % SHARDS}/{SHARDS}"}
        points = [rng.choice(POINTS) for _ in range(KILLS)] if stage == "search" else POINTS * KILLS
        plan = [(point, rng.choice((1, 2))) for point in points]
        lives.append(Lives(stage, settings, folder / f"{stage}-{number}.log", plan))
    return lives


@pytest.mark.timeout(400 * KILLS)
def test_shards_and_matcher_killed_at_every_point_give_each_verdict_and_alert_once(kafka, tmp_path):
    rng = random.Random(11)
    paths = write_groups(tmp_path / "images", GROUPS)
    rng.shuffle(paths)
    records = embeddings(paths, 1)
    # announced again with the same bytes: a verdict, and no alert
    records += [(path, replace(record, request_id=1000 + record.request_id)) for path, record in records[:30]]
    reshard(kafka, SHARDS)
    lives = lives_of(kafka, tmp_path, rng)
    planned = [len(one.plan) for one in lives]
    reader = Reader(kafka, VERDICTS, DUPLICATES, DEAD_LETTERS)
    sent, frozen, thaw_at = 0, list[Lives](), 0.0
    deadline = time.monotonic() + 300 * KILLS
    try:
        while len(reader.seen["verdicts"]) < len(records) or any(one.plan for one in lives):
            assert time.monotonic() < deadline, [(one.log.name, one.point, one.plan) for one in lives]
            for one in lives:
                one.tend()
            steady = [one for one in lives[:-1] if one.is_steady and not one.was_frozen]
            if time.monotonic() > thaw_at and len(frozen) < FREEZES and steady:
                for one in frozen:
                    one.thaw()
                frozen.append(rng.choice(steady))
                frozen[-1].freeze()
                thaw_at = time.monotonic() + FROZEN_S
            elif frozen and time.monotonic() > thaw_at:
                frozen[-1].thaw()
            # each life that is to be killed gets work of its own
            left = BURST * max(len(one.plan) for one in lives)
            if sent < len(records) - left:
                send(kafka, EMBEDDINGS, records[sent : sent + BURST])
                sent += BURST
            reader.more(0.1)
        reader.settled(2)
    finally:
        codes = [one.stop() for one in lives]
    assert codes == [0] * len(lives)
    assert [len(one.kills) for one in lives] == planned
    assert frozen
    replayed = [re.findall(r"(\d+) records replayed", one.log.read_text()) for one in lives[:-1]]
    assert sum(int(count) > 0 for counts in replayed for count in counts) >= SHARDS, "rebuilt from the log"
    assert not reader.seen["dead-letters"]
    verdicts = reader.seen["verdicts"]
    assert sorted(one.request_id for one in verdicts) == sorted(record.request_id for _, record in records)
    assert not any(one.reason for one in verdicts)
    reported = pairs_of(reader.seen["duplicates"])
    assert len(reported) == len(set(reported)), "no pair twice"
    assert set(reported) == group_pairs(GROUPS)
    waited = re.findall(r"matcher: (\d+) images of partition", lives[-1].log.read_text())
    assert any(int(count) for count in waited), "what was held was read again"
    candidates = Reader(kafka, CANDIDATES).settled(1)
    assert len(candidates.seen["candidates"]) == SHARDS * len(records)
    candidates.close()
    reader.close()
