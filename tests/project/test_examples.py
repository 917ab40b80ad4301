"""The two programs for other teams, run as they would run them, on a real Kafka."""

import ast
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from schemas.codec import published_schemas
from schemas.records import Duplicate, Duplicates, ImageNew
from streams.config import KafkaConfig
from streams.topics import DUPLICATES, IMAGES_NEW
from tests.support.streaming import Reader, send

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PRODUCER, CONSUMER = EXAMPLES / "produce_images.py", EXAMPLES / "consume_duplicates.py"
DEADLINE_S = 60.0


def alert(candidate: str, *originals: str) -> Duplicates:
    evidence: dict[str, Any] = {
        "inliers": 41,
        "agreement": 0.75,
        "mirrored": True,
        "edit": "mirrored",
        "points": ((0.5, 0.25, 0, 1),),
    }
    found = tuple(Duplicate(path, 0.875, **evidence) for path in originals)
    return Duplicates(7, candidate, found, "m:1:160", 0.75, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), ("gone.jpg",))


@contextmanager
def consuming(kafka: KafkaConfig, folder: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """The consumer, ended by Ctrl-C; it must end well."""
    command = [sys.executable, str(CONSUMER), kafka.bootstrap, "--topic", kafka.topic(DUPLICATES.name)]
    with (folder / "errors").open("w") as errors:
        program = subprocess.Popen(
            [*command, "--group", kafka.topic("a-team"), *more], stdout=subprocess.PIPE, stderr=errors, text=True
        )
    try:
        yield program
        program.send_signal(signal.SIGINT)
        assert program.wait(30) == 0, (folder / "errors").read_text()
        assert (folder / "errors").read_text() == ""
    finally:
        program.kill()
        program.communicate()


def lines(program: subprocess.Popen[str], count: int) -> list[dict[str, object]]:
    """Its next lines, read when they are there."""
    assert program.stdout is not None
    descriptor, text = program.stdout.fileno(), b""
    deadline = time.monotonic() + DEADLINE_S
    while text.count(b"\n") < count:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"{text.decode()}: {count} lines were waited for"
        chunk = os.read(descriptor, 65536)
        assert chunk, "it ended"
        text += chunk
    return [json.loads(line) for line in text.splitlines()]


def test_our_codec_reads_what_the_producer_announces(kafka):
    told = ("--metadata", "sku=4711", "--metadata", "url=a?b=c")
    paths = ["a.jpg", "folder/with space.png", "Zoë/日本.webp"]
    subprocess.run(
        [sys.executable, str(PRODUCER), kafka.bootstrap, *paths, "--topic", kafka.topic(IMAGES_NEW.name), *told],
        check=True,
        timeout=60,
    )
    reader = Reader(kafka, IMAGES_NEW).until(lambda r: len(r.seen["images.new"]) >= 3).settled(0.3)
    messages = reader.messages["images.new"]
    assert {record.relative_path: record for record in reader.seen["images.new"]} == {
        path: ImageNew(number, path, metadata={"sku": "4711", "url": "a?b=c"}) for number, path in enumerate(paths, 1)
    }
    assert sorted(m.key().decode() for m in messages) == sorted(paths)
    reader.close()


def test_a_path_has_the_partition_that_our_own_producer_gives_it(kafka):
    paths = [f"{number}.jpg" for number in range(40)]
    subprocess.run(
        [sys.executable, str(PRODUCER), kafka.bootstrap, *paths, "--topic", kafka.topic(IMAGES_NEW.name)],
        check=True,
        timeout=60,
    )
    send(kafka, IMAGES_NEW, [(path, ImageNew(1, path)) for path in paths])
    reader = Reader(kafka, IMAGES_NEW).until(lambda r: len(r.seen["images.new"]) >= 80)
    places = {(m.key(), m.partition()) for m in reader.messages["images.new"]}
    assert len(places) == 40
    assert len({partition for _, partition in places}) > 1
    reader.close()


def test_what_the_broker_does_not_take_is_named(kafka):
    ended = subprocess.run(
        [sys.executable, str(PRODUCER), kafka.bootstrap, "a.jpg", "--topic", "no topic has such a name"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("a.jpg: ")
    assert "Traceback" not in ended.stderr


def test_the_consumer_prints_each_alert_once_and_goes_on_where_it_was(kafka, tmp_path):
    send(kafka, DUPLICATES, [("copy.jpg", alert("copy.jpg", "a.jpg", "b.jpg"))])
    with consuming(kafka, tmp_path) as program:
        (first,) = lines(program, 1)
        send(kafka, DUPLICATES, [("Zoë.jpg", alert("Zoë.jpg", "a.jpg"))])
        (second,) = lines(program, 1)
    assert first["candidate"] == "copy.jpg"
    assert first["request_id"] == 7
    assert first["threshold"] == 0.75
    assert first["time"] == "2026-01-02 03:04:05+00:00"
    assert first["unreadable"] == ["gone.jpg"]
    duplicated = first["duplicated"]
    assert isinstance(duplicated, list)
    assert [d["relative_path"] for d in duplicated] == ["a.jpg", "b.jpg"]
    assert duplicated[0]["score"] == 0.875
    assert duplicated[0]["edit"] == "mirrored"
    assert duplicated[0]["points"] == [[0.5, 0.25, 0, 1]]
    assert second["candidate"] == "Zoë.jpg"

    send(kafka, DUPLICATES, [("later.jpg", alert("later.jpg", "a.jpg"))])
    with consuming(kafka, tmp_path) as program:
        assert [line["candidate"] for line in lines(program, 1)] == ["later.jpg"]


def test_the_consumer_never_sees_an_alert_of_an_aborted_transaction(kafka, tmp_path):
    from confluent_kafka import Producer  # noqa: PLC0415

    from schemas.codec import codec  # noqa: PLC0415

    name = kafka.topic(DUPLICATES.name)
    producer = Producer(kafka.client(transactional_id=kafka.topic("test"), partitioner="murmur2_random"))
    producer.init_transactions(60)
    for path, kept in (("never.jpg", False), ("once.jpg", True)):
        producer.begin_transaction()
        # one partition, so that what comes second cannot be read first
        producer.produce(name, codec().encode(name, alert(path, "a.jpg")), path.encode(), partition=0)
        producer.flush(60)
        if kept:
            producer.commit_transaction(60)
        else:
            producer.abort_transaction(60)
    with consuming(kafka, tmp_path) as program:
        assert [line["candidate"] for line in lines(program, 1)] == ["once.jpg"]


def copy_schemas(folder: Path, kind: type, stem: str, versions: slice = slice(None)) -> None:
    for number, schema in list(enumerate(published_schemas(kind), 1))[versions]:
        (folder / f"{stem}.v{number}.avsc").write_text(json.dumps(schema), "utf-8")


def test_both_work_from_a_copy_of_the_schemas_alone(kafka, tmp_path):
    copy_schemas(tmp_path, ImageNew, "image_new")
    copy_schemas(tmp_path, Duplicates, "duplicates")
    alone = shutil.copy(PRODUCER, tmp_path)
    subprocess.run(
        [
            *(sys.executable, "-P", alone, kafka.bootstrap, "x.jpg"),
            *("--topic", kafka.topic(IMAGES_NEW.name), "--schema", str(tmp_path / "image_new.v1.avsc")),
        ],
        cwd=tmp_path,
        check=True,
        timeout=60,
    )
    reader = Reader(kafka, IMAGES_NEW).until(lambda r: len(r.seen["images.new"]) >= 1)
    assert reader.seen["images.new"] == [ImageNew(1, "x.jpg")]
    reader.close()
    send(kafka, DUPLICATES, [("copy.jpg", alert("copy.jpg", "a.jpg"))])
    with consuming(kafka, tmp_path, "--schemas", str(tmp_path)) as program:
        assert [line["candidate"] for line in lines(program, 1)] == ["copy.jpg"]


def test_a_consumer_without_the_newest_schema_says_what_to_copy(kafka, tmp_path):
    copy_schemas(tmp_path, Duplicates, "duplicates", slice(-1))
    send(kafka, DUPLICATES, [("copy.jpg", alert("copy.jpg", "a.jpg"))])
    words = [sys.executable, str(CONSUMER), kafka.bootstrap, "--topic", kafka.topic(DUPLICATES.name)]
    run = subprocess.run(
        [*words, "--schemas", str(tmp_path)], capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert run.returncode == 1
    assert run.stderr.endswith("copy the newest duplicates.v*.avsc there\n")


@pytest.mark.parametrize("program", [PRODUCER, CONSUMER], ids=lambda path: path.stem)
def test_neither_imports_anything_of_ours(program):
    tree = ast.parse(program.read_text("utf-8"))
    modules = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    modules |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    foreign = {name.split(".")[0] for name in modules} - sys.stdlib_module_names
    assert foreign == {"confluent_kafka", "fastavro"}
