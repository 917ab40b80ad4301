"""`index`: what each search process says of its index."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner

from cli.index import Duty, indexes
from cli.main import main
from cli.status import standings
from schemas.records import StageState, State
from streams.config import KafkaConfig
from streams.kafka.lag import StageLag
from streams.topics import EMBEDDINGS
from tests.streams.test_search_stage import MODEL, embedding, vectors
from tests.support.bridging import eventually
from tests.support.streaming import send


def index(kafka: KafkaConfig, *words: str) -> str:
    broker = ("--kafka-bootstrap-servers", kafka.bootstrap, "--topic-prefix", kafka.prefix)
    result = CliRunner().invoke(main, ["index", *words, *broker])
    assert result.exit_code == 0, result.output
    return result.stdout


@contextmanager
def search(kafka: KafkaConfig, folder: Path, name: str) -> Iterator[None]:
    environ = {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "TOPIC_PREFIX": kafka.prefix,
        "INDEX_DIR": str(folder / "index"),
        "MEMBER_NAME": name,
    }
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "imagetools", "search"], env=environ, stdout=log, stderr=log)
    try:
        yield
        process.terminate()
        assert process.wait(30) == 0, (folder / f"{name}.log").read_text()
    finally:
        process.kill()
        process.wait()


def test_a_search_and_its_spare_say_how_large_the_index_is_and_where_it_stands(kafka, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    apart = vectors(6, seed=3)
    # three images with the same bytes, and five others
    records = [("same.jpg", embedding("same.jpg", apart[0], 0)), ("copy.jpg", embedding("copy.jpg", apart[0], 0))]
    records += [(f"{n}.jpg", embedding(f"{n}.jpg", apart[n], n)) for n in range(1, 6)]
    send(kafka, EMBEDDINGS, records)

    def said() -> Any:
        found = [json.loads(line) for line in index(kafka, "--json").splitlines()]
        whole = len(found) == 2 and [one["images"] for one in found] == [7, 7]
        return found if whole and found[0]["lag"] == 0 else None

    with ExitStack() as stack:
        for name in ("one", "two"):
            stack.enter_context(search(kafka, tmp_path, name))
        owner, spare = eventually(said)
        table = index(kafka)
        # what is newer than the last figures is waited for
        send(kafka, EMBEDDINGS, [(f"{n}.png", embedding(f"{n}.png", apart[n], 50 + n)) for n in range(1, 4)])
        eventually(lambda: not [lag.lag for lag in standings(kafka) if lag.stage == "search" and lag.lag])
        images = [json.loads(line)["images"] for line in index(kafka, "--json").splitlines()]
        assert images == [10, 10]
        monkeypatch.setenv("COLUMNS", "60")
        narrow = index(kafka).split("\n")
    assert [line.split() for line in narrow if "images" in line] == [["images", "10"]] * 2
    assert (owner["duty"], spare["duty"]) == ("answers", "stands by")
    assert {owner["process"], spare["process"]} == {"one", "two"}
    for one in (owner, spare):
        assert (one["shard"], one["fingerprints"], one["shared_fingerprints"]) == ("0/1", 6, 1)
        assert (one["engine"], one["model"], one["offset"], one["lag"]) == ("USearch", MODEL, 7, 0)
        assert one["snapshot_age_s"] is None
        assert 10 * 2**20 < one["memory_bytes"] < 2**31
    assert "answers" in table
    assert "stands by" in table
    assert "no search runs" in index(replace(kafka))


def state(process: str, figures: Mapping[str, float], shard: str = "") -> StageState:
    labels = {"shard": shard} if shard else {}
    return StageState("search", process, "here", State.RUNNING, figures=figures, labels=labels)


def test_a_shard_has_its_own_lag_and_a_spare_also_what_it_is_behind_the_owner() -> None:
    shards = tuple(StageLag(f"search {n}/2", "embeddings", lag, 0.0, 1) for n, lag in enumerate((3, 40)))
    lags = [StageLag("search", "embeddings", 40, 0.0, 3, shards)]
    searches = [
        state("spare", {"partitions": 0, "index_offset": 90, "index_images": 4}, "1/2"),
        state("b", {"partitions": 1, "index_offset": 100, "index_images": 5}, "1/2"),
        state("a", {"partitions": 1, "index_offset": 137, "index_images": 6}, "0/2"),
        state("new", {"partitions": 1, "index_offset": 30, "index_images": 1}, "0/3"),
        state("old", {}),
    ]
    found = indexes(searches, lags, 2)
    assert [(one.process, one.shard, one.lag, one.images, one.duty) for one in found] == [
        ("old", None, None, None, Duty.STANDS_BY),
        ("a", "0/2", 3, 6, Duty.ANSWERS),
        ("b", "1/2", 40, 5, Duty.ANSWERS),
        ("spare", "1/2", 50, 4, Duty.STANDS_BY),
        ("new", "0/3", 40 + 70, 1, Duty.FOLLOWS),
    ]


def test_the_age_of_a_snapshot_is_that_of_its_time() -> None:
    (one,) = indexes([state("a", {"index_snapshot_time_seconds": 1.0})], [], 1)
    assert one.snapshot_age_s is not None
    assert np.isclose(one.snapshot_age_s, time.time() - 1, atol=5)
