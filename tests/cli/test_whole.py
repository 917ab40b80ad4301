"""The whole job as a person runs it: `find` and `up`, interrupted, killed, and started again."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest

from imagetools.features.store import FeatureStore
from imagetools.matching.config import MatcherConfig
from local_kafka.broker import LocalKafka
from local_kafka.ports import free_ports
from streams.topics import READS
from tests.support.streaming import group_pairs, scene, write_groups

COMMAND = [sys.executable, "-m", "imagetools"]
ENVIRON = {k: v for k, v in os.environ.items() if not k.startswith(("KAFKA_", "TOPIC_PREFIX", "IMAGES_DIR"))}


def start(*words: str | Path, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        return subprocess.Popen([*COMMAND, *map(str, words)], env=ENVIRON, stdout=out, stderr=out)


def wait_for(condition: Callable[[], object], deadline_s: float = 200.0) -> None:
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def descendants(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def pairs_in(lines: Path) -> list[frozenset[str]]:
    alerts = [json.loads(line) for line in lines.read_text("utf-8").splitlines()]
    return [frozenset((a["candidate"], d["relative_path"])) for a in alerts for d in a["duplicated"]]


def test_find_reports_every_pair_and_leaves_nothing_behind(tmp_path):
    write_groups(tmp_path / "images", 5)
    (tmp_path / "images" / "broken.jpg").write_bytes(b"not an image")
    find = start("find", tmp_path / "images", "--report", tmp_path / "report", log=tmp_path / "log")
    wait_for(lambda: "matcher" in " ".join(" ".join(p.cmdline()) for p in alive(descendants(find))))
    started = descendants(find)
    assert find.wait(120) == 0, (tmp_path / "log").read_text()
    wait_for(lambda: not alive(started), 10)
    report = tmp_path / "report"
    pairs = pairs_in(report / "alerts.jsonl")
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == group_pairs(5)
    first = json.loads((report / "alerts.jsonl").read_text().splitlines()[0])
    assert isinstance(first["request_id"], int)
    assert all(0 <= d["score"] <= 1 for d in first["duplicated"])
    (letter,) = [json.loads(line) for line in (report / "dead-letters.jsonl").read_text().splitlines()]
    assert letter["relative_path"] == "broken.jpg"
    assert letter["error_type"] == "UnsupportedImage"
    page = (report / "report.html").read_text("utf-8")
    assert "0 re-encoded.jpg" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    log = (tmp_path / "log").read_text()
    assert "duplicates" in log
    assert "16 images" in log


def test_find_on_a_named_broker_removes_its_topics(kafka, tmp_path):
    from confluent_kafka.admin import AdminClient  # noqa: PLC0415

    write_groups(tmp_path / "images", 2)
    admin = AdminClient(kafka.client())
    before = set(admin.list_topics(timeout=10).topics)
    find = start(
        "find", tmp_path / "images", "--report", tmp_path / "report", "--broker", kafka.bootstrap, log=tmp_path / "log"
    )
    assert find.wait(120) == 0, (tmp_path / "log").read_text()
    assert set(pairs_in(tmp_path / "report" / "alerts.jsonl")) == group_pairs(2)
    wait_for(lambda: set(admin.list_topics(timeout=10).topics) - {"__transaction_state"} <= before, 20)


def test_a_stage_that_dies_is_restarted_and_nothing_is_lost(tmp_path):
    write_groups(tmp_path / "images", 40)
    find = start("find", tmp_path / "images", "--report", tmp_path / "report", log=tmp_path / "log")
    victims = ["encoder", "search", "matcher"]
    while victims and find.poll() is None:
        time.sleep(0.3)
        for process in alive(descendants(find)):
            if victims and victims[0] in process.cmdline() and "duplicates" in (tmp_path / "log").read_text():
                process.kill()
                victims.pop(0)
                break
    assert find.wait(120) == 0, (tmp_path / "log").read_text()
    assert "died (SIGKILL); starting it again" in (tmp_path / "log").read_text()
    pairs = pairs_in(tmp_path / "report" / "alerts.jsonl")
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == group_pairs(40)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)])
def test_interrupted_or_killed_it_leaves_no_process_behind(tmp_path, number, code):
    write_groups(tmp_path / "images", 100)
    find = start("find", tmp_path / "images", log=tmp_path / "log")
    wait_for(lambda: "duplicates" in (tmp_path / "log").read_text())
    started = descendants(find)
    assert len(alive(started)) >= 4
    find.send_signal(number)
    assert find.wait(60) == code, (tmp_path / "log").read_text()
    wait_for(lambda: not alive(started), 40)


def test_the_service_goes_on_where_it_was(tmp_path):
    images = tmp_path / "images"
    write_groups(images, 3)
    port, http = free_ports(2)
    settings = ["--kafka-bootstrap-servers", f"127.0.0.1:{port}"]

    def up() -> subprocess.Popen[bytes]:
        log = tmp_path / "up.log"
        before = log.read_text().count("Ctrl-C stops it") if log.exists() else 0
        ports = ["--port", str(port), "--server-port", str(http)]
        process = start("up", "--data", tmp_path / "data", "--images-dir", images, *ports, log=log)
        wait_for(lambda: process.poll() is None and log.read_text().count("Ctrl-C stops it") > before)
        return process

    def produce(*words: str) -> str:
        """As the README has it: from the folder that the images lie in, without naming their root."""
        run = subprocess.run(
            [*COMMAND, "produce", *words, *settings],
            env=ENVIRON,
            cwd=tmp_path,
            check=True,
            capture_output=True,
            text=True,
        )
        assert "taken as they are" not in run.stderr
        return run.stdout

    service = up()
    watching = start("watch", "--json", "--from-beginning", *settings, log=tmp_path / "alerts")
    produce("images", "--no-alert")
    # partitions have no order among them: what comes silently after an image is silent about it, too
    wait_for(lambda: settled(settings))
    scene(1).save(images / "late.webp", quality=80)
    assert produce("images/late.webp", "--wait").startswith("late.webp  duplicates  1")
    wait_for(lambda: "late.webp" in (tmp_path / "alerts").read_text())
    status = subprocess.run([*COMMAND, "status", *settings], env=ENVIRON, check=True, capture_output=True, text=True)
    assert "images.new" in status.stdout
    assert f"Page and HTTP at http://127.0.0.1:{http}/" in (tmp_path / "up.log").read_text()
    with urlopen(f"http://127.0.0.1:{http}/v1/pictures/late.webp") as picture:
        assert picture.headers["Content-Type"] == "image/jpeg"
    watching.send_signal(signal.SIGINT)
    assert watching.wait(30) == 0
    started = descendants(service)
    service.send_signal(signal.SIGINT)
    assert service.wait(60) == 0, (tmp_path / "up.log").read_text()
    wait_for(lambda: not alive(started), 10)
    assert LocalKafka.attach(tmp_path / "data" / "kafka") is None
    with closing(FeatureStore(tmp_path / "data" / "features", 10**9, MatcherConfig())) as store:
        assert store.count() > 1

    service = up()
    scene(2).save(images / "later.webp", quality=80)
    produce("images/later.webp")
    produce("images")
    watching = start("watch", "--json", "--from-beginning", *settings, log=tmp_path / "alerts again")
    wait_for(lambda: "later.webp" in (tmp_path / "alerts again").read_text())
    wait_for(lambda: settled(settings))
    pairs = pairs_in(tmp_path / "alerts again")
    assert len(pairs) == len(set(pairs)), "a repeated announcement alerts nothing"
    late = [f"1{rest}" for rest in (".png", " re-encoded.jpg", " resized.jpg")]
    later = [f"2{rest}" for rest in (".png", " re-encoded.jpg", " resized.jpg")]
    assert set(pairs) == {frozenset(("late.webp", p)) for p in late} | {frozenset(("later.webp", p)) for p in later}
    for process in (watching, service):
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def settled(settings: list[str]) -> bool:
    """Whether no stage has anything left to do."""
    status = subprocess.run([*COMMAND, "status", *settings], env=ENVIRON, check=True, capture_output=True, text=True)
    lags = [line.split("│")[4].strip() for line in status.stdout.splitlines() if line.startswith("│")]
    return lags == ["0"] * len(READS)
