"""Stages killed with SIGKILL at every point of a batch: no alert is lost, none doubled."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from cli.announcing.announce import announce
from imagetools.features.store import FeatureStore
from imagetools.matching.config import MatcherConfig
from streams.config import KafkaConfig
from streams.topics import CANDIDATES, DUPLICATES, EMBEDDINGS, VERDICTS
from tests.support.streaming import Reader, group_pairs, pairs_of, write_groups

STAGES = ("encoder", "search", "matcher")
POINTS = ("polled", "produced", "offsets_sent", "committed")
TIMES = 5
GROUPS = 200
RECOVERY_S = 15
SCRIPT = Path(__file__).resolve().parents[1] / "support" / "killed_stage.py"


@dataclass
class Lives:
    """One stage's processes, one after the other; each but the last is to be killed at a point."""

    stage: str
    environ: dict[str, str]
    log: Path
    plan: list[tuple[str, int]]
    kills: list[tuple[str, float]] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None
    point: str = "never"
    was_frozen: bool = False

    def tend(self) -> None:
        """Start the next life when one has ended."""
        if self.process is not None:
            code = self.process.poll()
            if code is None:
                return
            text = self.log.read_text()
            if code == -9:
                self.kills.append((self.point, time.monotonic()))
            else:
                # the broker ended its transaction while it was frozen; a service starts it again
                assert code == 1, (self.stage, code, text[-3000:])
                assert self.was_frozen, text[-3000:]
                assert "fenced" in text[-500:], text[-3000:]
        self.point, batch = self.plan.pop() if self.plan else ("never", 0)
        with self.log.open("ab") as out:
            command = [sys.executable, str(SCRIPT), self.stage, self.point, str(batch)]
            self.process = subprocess.Popen(command, env=self.environ, stdout=out, stderr=out)

    @property
    def is_steady(self) -> bool:
        """Whether it runs and is not to be killed any more."""
        return self.process is not None and self.process.poll() is None and self.point == "never"

    def freeze(self) -> None:
        """Let it stand still: it neither works nor ends."""
        assert self.process is not None
        self.was_frozen = True
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on, where it stands still."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)

    def stop(self) -> int:
        """End the last life in good order; its exit code."""
        assert self.process is not None
        self.thaw()
        self.process.terminate()
        return self.process.wait(60)


def environ(kafka: KafkaConfig, images: Path, home: Path, stage: str) -> dict[str, str]:
    own = "IMAGETOOLS_TEST_BOOTSTRAP" not in os.environ
    return {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "TOPIC_PREFIX": kafka.prefix,
        "IMAGES_DIR": str(images),
        "INDEX_DIR": str(home / "index"),
        "FEATURES_DIR": str(home / "features"),
        "MEMBER_NAME": f"{stage}-0",
        # our own broker allows less than the usual least
        "KAFKA_SESSION_TIMEOUT_MS": "2000" if own else "6000",
        "KAFKA_HEARTBEAT_INTERVAL_MS": "500",
    }


@pytest.mark.timeout(600)
def test_stages_killed_at_every_point_lose_nothing_and_double_nothing(kafka, tmp_path):
    rng = random.Random(5)
    paths = write_groups(tmp_path / "images", GROUPS)
    lives = []
    for stage in STAGES:
        plan = [(point, rng.choice((1, 2))) for point in POINTS for _ in range(TIMES)]
        rng.shuffle(plan)
        lives.append(
            Lives(stage, environ(kafka, tmp_path / "images", tmp_path, stage), tmp_path / f"{stage}.log", plan)
        )
    reader = Reader(kafka, VERDICTS, DUPLICATES)
    arrivals: list[float] = []
    announce(kafka, paths)
    deadline = time.monotonic() + 500
    try:
        while len(reader.seen["verdicts"]) < len(paths):
            assert time.monotonic() < deadline, [(one.stage, one.point, len(one.plan)) for one in lives]
            for one in lives:
                one.tend()
            if reader.more(0.1):
                arrivals.append(time.monotonic())
        reader.settled(3)
    finally:
        codes = [one.stop() for one in lives]
    assert codes == [0, 0, 0]

    for one in lives:
        assert not one.plan, f"{one.stage} had no work left to be killed at"
        for point in POINTS:
            assert sum(1 for at, _ in one.kills if at == point) >= TIMES

    assert sorted(v.relative_path for v in reader.seen["verdicts"]) == sorted(paths), "one verdict for every image"
    reported = pairs_of(reader.seen["duplicates"])
    assert len(reported) == len(set(reported)), "no pair twice"
    assert set(reported) == group_pairs(GROUPS)
    assert {v.outcome.value for v in reader.seen["verdicts"]} == {"clear", "duplicate"}
    by_path = {v.relative_path: v.outcome for v in reader.seen["verdicts"]}
    assert {p for p, outcome in by_path.items() if outcome == "duplicate"} == {
        alert.candidate for alert in reader.seen["duplicates"]
    }

    for topic in (EMBEDDINGS, CANDIDATES, VERDICTS):
        committed = Reader(kafka, topic).settled(1)
        everything = Reader(kafka, topic, isolation_level="read_uncommitted").settled(1)
        aborted = len(everything.seen[topic.name]) - len(committed.seen[topic.name])
        committed.close()
        everything.close()
        assert aborted > 0, f"no aborted transaction was seen in {topic.name}"
    with closing(FeatureStore(tmp_path / "features", 10**9, MatcherConfig())) as store:
        assert store.count() > len(paths) // 2, "killed as it was, it kept most of what it had computed"
    replays = [int(n) for n in re.findall(r"(\d+) records replayed", (tmp_path / "search.log").read_text())]
    assert sum(1 for n in replays if n) >= TIMES, "the index was rebuilt from the log"

    # the stream goes on soon after a kill: from the last kill before each arrival to that arrival
    killed = [moment for one in lives for _, moment in one.kills]
    silences = [
        after - max(during)
        for before, after in pairwise([0.0, *arrivals])
        if (during := [moment for moment in killed if before < moment < after])
    ]
    assert silences
    assert max(silences) < RECOVERY_S, sorted(silences)[-5:]
    reader.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("point", POINTS[:3])
def test_a_stage_that_sleeps_through_its_own_replacement_is_fenced(kafka, tmp_path, point):
    """Stopped in mid-batch for longer than its session, it wakes when another member has done its work."""
    paths = write_groups(tmp_path / "images", 20)
    settings = environ(kafka, tmp_path / "images", tmp_path, "encoder")
    del settings["MEMBER_NAME"]
    reader = Reader(kafka, EMBEDDINGS)

    def start(*words: str) -> subprocess.Popen[bytes]:
        with (tmp_path / f"{words[0]}.log").open("wb") as out:
            return subprocess.Popen(
                [sys.executable, str(SCRIPT), "encoder", *words[1:]], env=settings, stdout=out, stderr=out
            )

    announce(kafka, paths)
    sleeper = start("sleeper", point, "2", "SIGSTOP")
    sibling = None
    try:
        reader.until(lambda _: psutil.Process(sleeper.pid).status() == psutil.STATUS_STOPPED)
        sibling = start("sibling", "never", "0")
        reader.until(lambda r: len(r.seen["embeddings"]) >= len(paths))
        sleeper.send_signal(signal.SIGCONT)
        announce(kafka, ["0.png", "1.png", "2.png"] * 20, first=1000)
        reader.until(lambda r: len(r.seen["embeddings"]) >= len(paths) + 60).settled(3)
    finally:
        codes = []
        for process in filter(None, (sleeper, sibling)):
            process.send_signal(signal.SIGCONT)
            process.terminate()
            codes.append(process.wait(60))
    assert codes[1] == 0
    numbers = sorted(e.request_id for e in reader.seen["embeddings"])
    assert numbers == [*range(1, len(paths) + 1), *range(1000, 1060)], "each announcement once"
    log = (tmp_path / "sleeper.log").read_text()
    assert codes[0] == 0 or "Kafka:" in log, log[-2000:]
    assert "transaction aborted" in log or codes[0] != 0, log[-2000:]
    reader.close()
