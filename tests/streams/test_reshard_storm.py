"""Two shards become three while shards, matcher and the command are killed, and one shard is frozen across the switch.

Verdicts and alerts are those of one index, once. IMAGETOOLS_TEST_KILLS is how often each shard is killed.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from schemas.records import Embedding
from streams.config import KafkaConfig
from streams.kafka.admin import shard_groups
from streams.kafka.resharding import reshard
from streams.sharding.shards import Shard
from streams.topics import CANDIDATES, DEAD_LETTERS, DUPLICATES, EMBEDDINGS, VERDICTS
from tests.streams.test_exactly_once import POINTS, Lives, environ
from tests.streams.test_search_stage import embedding, vectors
from tests.support.processes import Running, start
from tests.support.streaming import Reader, group_pairs, pairs_of, send, write_groups

KILLS = int(os.environ.get("IMAGETOOLS_TEST_KILLS", "1"))
GROUPS = 40 + 20 * KILLS
BURST = 12
FROZEN_S = 4.0
"""Longer than the session timeout: the frozen shard has lost its partition when it goes on."""


def embeddings(paths: Sequence[str]) -> list[tuple[str, Embedding]]:
    """Records of what `write_groups` wrote: the fingerprints of one scene are near each other."""
    scenes, noise = vectors(GROUPS, seed=1, d=64), vectors(len(paths), seed=2, d=64)
    records = []
    for number, path in enumerate(paths):
        vector = scenes[int(path.split()[0].split(".")[0])] + 0.2 * noise[number]
        record = embedding(path, (vector / np.linalg.norm(vector)).astype(np.float32), number)
        records.append((path, replace(record, request_id=1 + number)))
    # announced again with the same bytes: a verdict, and no alert
    again = [(path, replace(record, request_id=1000 + record.request_id)) for path, record in records[::5]]
    return [*records, *again]


class Storm:
    """The processes, what is sent to them, and what comes of it."""

    def __init__(self, kafka: KafkaConfig, folder: Path, rng: random.Random) -> None:
        self.kafka, self.folder, self.rng = kafka, folder, rng
        paths = write_groups(folder / "images", GROUPS)
        rng.shuffle(paths)
        self.records = embeddings(paths)
        self.sent = 0
        self.reader = Reader(kafka, VERDICTS, DUPLICATES, DEAD_LETTERS, CANDIDATES)
        self.lives: list[Lives] = []
        self.deadline = time.monotonic() + 200 * KILLS

    def begin(self, stage: str, name: str, kills: int, **more: str) -> Lives:
        settings = environ(self.kafka, self.folder / "images", self.folder, stage) | {"MEMBER_NAME": name, **more}
        plan = [(self.rng.choice(POINTS), self.rng.choice((1, 2))) for _ in range(kills)]
        one = Lives(stage, settings, self.folder / f"{name}.log", plan)
        self.lives.append(one)
        return one

    def begin_shards(self, count: int) -> list[Lives]:
        shards = [Shard(index, count) for index in range(count)]
        return [self.begin("search", f"search-{shard.name}", KILLS, SHARD=str(shard)) for shard in shards]

    def command(self, name: str) -> Running:
        settings = {"KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap, "TOPIC_PREFIX": self.kafka.prefix}
        return start("reshard", "3", log=self.folder / name, environ=settings)

    def send(self, count: int = BURST) -> None:
        send(self.kafka, EMBEDDINGS, self.records[self.sent : self.sent + count])
        self.sent += count

    def until(self, condition: Callable[[], object], *, sending: bool = True) -> None:
        """Keep all alive until the condition holds; meanwhile send some, but keep a half for later."""
        while not condition():
            self.turn()
            if sending and self.sent < len(self.records) // 2:
                self.send()

    def turn(self) -> None:
        assert time.monotonic() < self.deadline, [(one.log.name, one.point, one.plan) for one in self.lives]
        for one in self.lives:
            one.tend()
        self.reader.more(0.1)

    def end(self) -> None:
        """Send the rest, and return when each image has its verdict and each kill has happened."""
        while len(self.reader.seen["verdicts"]) < len(self.records) or any(one.plan for one in self.lives):
            self.turn()
            # each life that is to be killed gets work of its own
            left = BURST * max(len(one.plan) for one in self.lives)
            if self.sent < len(self.records) - left:
                self.send()


def kill(command: Running) -> None:
    command.process.kill()
    command.process.wait()


@pytest.mark.timeout(300 * KILLS)
def test_two_shards_become_three_under_kills_and_each_verdict_and_alert_is_there_once(kafka, tmp_path):
    storm = Storm(kafka, tmp_path, random.Random(17))
    reshard(kafka, 2)
    matcher = storm.begin("matcher", "matcher-0", 2 * KILLS)
    old = storm.begin_shards(2)
    codes: list[int] = []
    try:
        storm.until(lambda: len(storm.reader.seen["verdicts"]) > 2 * BURST)
        first = storm.command("first")
        storm.until(lambda: "may follow the log now" in first.text)
        kill(first)
        new = storm.begin_shards(3)
        frozen = old[0]
        storm.until(lambda: frozen.is_steady)
        frozen.freeze()
        second = storm.command("second")
        storm.until(lambda: "Switched" in second.text)
        kill(second)
        since = time.monotonic()
        storm.send()
        storm.until(lambda: time.monotonic() > since + FROZEN_S, sending=False)
        frozen.thaw()
        storm.end()
        last = storm.command("last")
        storm.until(lambda: all(group.mark.answering == 3 for group in shard_groups(kafka)), sending=False)
        codes += [one.stop() for one in old]
        storm.lives = [matcher, *new]
        assert last.ends(0).splitlines()[-1] == "Done: SHARD=0/3 to SHARD=2/3 answer, and no others are left."
        storm.reader.settled(2)
    finally:
        codes += [one.stop() for one in storm.lives]
    assert codes == [0] * 6
    assert shard_groups(kafka).counts == [3]
    seen = storm.reader.seen
    assert not seen["dead-letters"]
    assert sorted(one.request_id for one in seen["verdicts"]) == sorted(one.request_id for _, one in storm.records)
    assert not any(one.reason for one in seen["verdicts"])
    reported = pairs_of(seen["duplicates"])
    assert len(reported) == len(set(reported)), "no pair twice"
    assert set(reported) == group_pairs(GROUPS)
    # request 0 is the end of the old shards' answers, in each of the partitions
    answers = Counter((one.request_id, one.shard.shards) for one in seen["candidates"] if one.request_id)
    assert len(answers) == len(storm.records), "two or three shards answer for an image, not both"
    assert set(Counter(answers.values())) == {2, 3}
    assert all(answers[number, count] == count for number, count in answers)
    ends = [one for one in seen["candidates"] if not one.request_id]
    assert len(ends) == 2 * CANDIDATES.partitions
    storm.reader.close()
