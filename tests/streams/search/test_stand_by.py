"""A spare search follows the log without output, and takes over where the owner has stopped or was killed."""

import logging
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from streams.config import Config, KafkaConfig
from streams.search_consumer import SearchStage
from streams.topics import CANDIDATES, EMBEDDINGS
from tests.streams.test_exactly_once import RECOVERY_S, SCRIPT, environ
from tests.streams.test_search_stage import embedding, entries, has_candidates, vectors
from tests.support.bridging import eventually
from tests.support.streaming import Reader, running, send

ROWS = vectors(120)


def announce(kafka: KafkaConfig, numbers: range) -> None:
    send(kafka, EMBEDDINGS, [(f"{n}", embedding(f"{n}", ROWS[n], n)) for n in numbers])


def test_a_spare_holds_what_the_owner_has_committed_and_sends_nothing(kafka, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    members = [replace(kafka, member=name) for name in ("one", "two")]
    stages = [SearchStage(Config(kafka=member, index_dir=tmp_path / str(member.member))) for member in members]
    reader = Reader(kafka, CANDIDATES)
    with running(stages[0], kafka=members[0]) as (first,):
        announce(kafka, range(40))
        reader.until(has_candidates(40))
        with running(stages[1], kafka=members[1]):
            eventually(lambda: len(stages[1].log_index.index) == 40)
            announce(kafka, range(40, 60))
            send(kafka, EMBEDDINGS, [("7", None)])
            eventually(lambda: entries(stages[1]) == entries(stages[0]) and len(entries(stages[1])) == 59)
            assert stages[1].owns_requests() is False
            caplog.clear()
            first.stop()
            announce(kafka, range(60, 80))
            reader.until(has_candidates(80)).settled(0.5)
            assert "search: at offset 61 with 59 images, 0 records replayed" in caplog.text
    assert sorted(int(one.candidate) for one in reader.seen["candidates"]) == list(range(80))
    reader.close()


@contextmanager
def search(kafka: KafkaConfig, folder: Path, name: str) -> Iterator["subprocess.Popen[bytes]"]:
    settings = environ(kafka, folder, folder / name, "search") | {"MEMBER_NAME": name}
    with (folder / f"{name}.log").open("wb") as out:
        process = subprocess.Popen([sys.executable, str(SCRIPT), "search", "never", "0"], env=settings, stderr=out)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def test_a_spare_takes_over_warm_from_an_owner_that_was_killed(kafka, tmp_path):
    reader = Reader(kafka, CANDIDATES)
    with ExitStack() as stack:
        owner = stack.enter_context(search(kafka, tmp_path, "owner"))
        announce(kafka, range(100))
        reader.until(has_candidates(100))
        stack.enter_context(search(kafka, tmp_path, "spare"))
        said = tmp_path / "spare.log"
        eventually(lambda: "with 100 images" in said.read_text())
        owner.send_signal(signal.SIGKILL)
        began = time.monotonic()
        announce(kafka, range(100, 120))
        reader.until(has_candidates(120))
        took = time.monotonic() - began
        assert took < RECOVERY_S
        assert re.findall(r"(\d+) records replayed", said.read_text()) == ["100", "0"]
        print(f"took over after {took:.1f} s")
    assert sorted(int(one.candidate) for one in reader.seen["candidates"]) == list(range(120))
    reader.close()
