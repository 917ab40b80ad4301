"""How processes end: the table of exit codes, and settings that are looked at before anything is started."""

import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from confluent_kafka import KafkaError, KafkaException

import cli.announcing.announce
from cli.main import main
from cli.supervising.supervisor import StageFailed, StageRefused
from imagetools.errors import ConfigError, ImageRootUnavailable, MissingImage, ModelError, PrerequisiteMissing
from streams.exit_codes import ending, exit_code, is_fault
from streams.kafka.errors import OffsetsLost
from tests.cli.test_command_line import commands
from tests.support.processes import COMMAND, ENVIRON
from tests.support.streaming import scene

TABLE = [
    (ConfigError("THRESHOLD is 7"), 2),
    (ModelError("no model"), 2),
    (MissingImage("a.jpg", "no such file"), 2),
    (PrerequisiteMissing("no Kafka"), 2),
    (ImageRootUnavailable("the folder is away"), 2),
    (OffsetsLost("no offsets"), 2),
    (StageRefused("encoder-0 stopped"), 2),
    (KafkaException(KafkaError(KafkaError._INVALID_ARG)), 2),
    (KafkaException(KafkaError(KafkaError._TRANSPORT)), 1),
    (StageFailed("encoder-0 died 3 times"), 1),
    (OSError(28, "No space left on device"), 1),
    (RuntimeError("never thought of"), 1),
    (SystemExit(7), 7),
    (KeyboardInterrupt(), 130),
]
FAULTS = {OSError, RuntimeError}
each = pytest.mark.parametrize(("raised", "code"), TABLE, ids=[f"{type(e).__name__}-{c}" for e, c in TABLE])


@each
def test_an_exception_has_one_exit_code(raised, code):
    assert exit_code(raised) == code
    assert is_fault(raised) == (type(raised) in FAULTS)


@each
def test_a_stage_and_a_bridge_end_with_it_and_keep_the_traceback_of_a_fault(raised, code, caplog):
    with caplog.at_level(logging.ERROR), pytest.raises(SystemExit) as caught, ending():
        raise raised
    assert caught.value.code == code
    assert ("Traceback" in caplog.text) == (type(raised) in FAULTS)
    if str(raised) and not isinstance(raised, (SystemExit, KafkaException)):
        assert str(raised) in caplog.text


@each
def test_a_command_ends_with_it_and_one_line(raised, code, monkeypatch, tmp_path):
    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("cli.compare.compare", fail)
    for name in "ab":
        (tmp_path / name).touch()
    result = CliRunner().invoke(main, ["compare", str(tmp_path / "a"), str(tmp_path / "b")])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    silent = isinstance(raised, (KeyboardInterrupt, SystemExit))
    assert len(result.output.splitlines()) == (0 if silent else 1)
    if type(raised) in FAULTS:
        assert "a fault of imagetools" in result.output
        (log,) = (tmp_path / "imagetools" / "log").iterdir()
        assert str(log) in result.output
        assert str(raised) in log.read_text("utf-8")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_an_output_that_is_full_is_no_fault_of_ours(tmp_path):
    scene(1).save(tmp_path / "a.png")
    with open("/dev/full", "w") as full:
        run = subprocess.run(
            [*COMMAND, "compare", tmp_path / "a.png", tmp_path / "a.png"],
            env=ENVIRON, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert run.returncode == 1
    assert run.stderr == "Error: the standard output cannot be written: No space left on device\n"


WRONG = {
    "ENCODER_ENGINE": "fast",
    "ENCODER_THREADS": "0",
    "BATCH_SIZE": "many",
    "DIMENSION": "abc",
    "DISTANCE_TYPE": "Foo",
    "NB_NEIGHBORS": "0",
    "NB_WORKERS": "x",
    "FEATURES_MB": "63",
    "DEAD_LETTER_LIMIT": "-1",
    "THRESHOLD": "7",
    "WIDTH": "15",
    "HEIGHT": "tall",
    "KAFKA_BOOTSTRAP_SERVERS": "localhost:99999",
    "KAFKA_GROUP_PROTOCOL": "modern",
    "KAFKA_LINGER_MS": "soon",
    "KAFKA_TRANSACTIONAL_ID": "x",
    "TOPIC_PREFIX": "team a",
    "SCHEMA_REGISTRY_URL": "nonsense",
    "EMBEDDINGS_TOPIC": "a b",
    "MODELS_NAME": "none.th",
    "OTEL_TRACES_EXPORTER": "zipkin",
    "SERVER_PORT": "99999",
    "BRIDGE_HOST": "256.1.1.1",
    "BRIDGE_TIMEOUT_S": "0",
    "BRIDGE_IN_FLIGHT": "none",
}
"""Each variable, and a value that cannot be."""

OF_BRIDGE = {"SERVER_PORT", "BRIDGE_HOST", "BRIDGE_TIMEOUT_S", "BRIDGE_IN_FLIGHT"}
OF_ALL = {"OTEL_TRACES_EXPORTER"}
OF_KAFKA = {name for name in WRONG if name.startswith("KAFKA_")} | {
    "TOPIC_PREFIX", "SCHEMA_REGISTRY_URL", "EMBEDDINGS_TOPIC"
}  # fmt: skip
OF_STAGES = set(WRONG) - OF_BRIDGE - OF_KAFKA - {"MODELS_NAME"}
READ_BY = {
    "find {images}": OF_STAGES | {"MODELS_NAME"},
    "find {images} --broker 127.0.0.1:9": OF_STAGES | OF_KAFKA | {"MODELS_NAME"},
    "demo --folder {folder}/demo": OF_STAGES | {"MODELS_NAME"},
    "up --images-dir {images} --data {folder}/data": set(WRONG),
    "produce {images}": OF_STAGES | OF_KAFKA,
    "watch": OF_STAGES | OF_KAFKA,
    "status": OF_STAGES | OF_KAFKA,
    "compare {images}/a.png {images}/a.png": OF_STAGES | OF_KAFKA,
    "topics create": OF_STAGES | OF_KAFKA,
    "reencode --to embeddings.2": OF_STAGES | OF_KAFKA,
    "encoder": OF_STAGES | OF_KAFKA,
    "search": OF_STAGES | OF_KAFKA,
    "matcher": OF_STAGES | OF_KAFKA,
    "grouping": OF_STAGES | OF_KAFKA,
    "bridge": OF_KAFKA | OF_ALL | OF_BRIDGE - {"BRIDGE_HOST"},
    "dedupe": OF_STAGES | OF_KAFKA,
    "index": OF_STAGES | OF_KAFKA,
    "reshard 2": OF_STAGES | OF_KAFKA,
    "groups": OF_STAGES | OF_KAFKA,
    "groups show a.png": OF_STAGES | OF_KAFKA,
    "groups decisions": OF_STAGES | OF_KAFKA,
    "decide a.png b.png not-duplicate": OF_STAGES | OF_KAFKA,
    "dead-letters list": OF_STAGES | OF_KAFKA,
    "dead-letters show 0": OF_STAGES | OF_KAFKA,
    "dead-letters replay 0": OF_STAGES | OF_KAFKA,
}
"""What each command reads before it starts or asks anything; the bridge tries its address when it listens."""

FIND_ON_A_BROKER = "find {images} --broker 127.0.0.1:9"
NOT_TAKEN = {(FIND_ON_A_BROKER, name) for name in ("KAFKA_BOOTSTRAP_SERVERS", "TOPIC_PREFIX", "EMBEDDINGS_TOPIC")}
"""It has a broker and a prefix of its own."""

CASES = [(words, name) for words, read in READ_BY.items() for name in sorted(read) if (words, name) not in NOT_TAKEN]


def test_every_command_that_reads_settings_is_looked_at():
    def takes(command: click.Command) -> set[str]:
        return {(param.name or "").upper() for param in command.params} & set(WRONG)

    reading = {" ".join(path) for path, command in commands() if takes(command)}
    assert {name for name in reading if not any(words.startswith(name) for words in READ_BY)} == set()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        images = Path(name) / "images"
        images.mkdir()
        scene(1).save(images / "a.png")
        yield Path(name)


@pytest.mark.parametrize(("words", "name"), CASES, ids=[f"{words.split(' {')[0]} {name}" for words, name in CASES])
def test_a_wrong_setting_ends_a_command_before_anything_is_started(words, name, folder, monkeypatch):
    def started(*_: object, **__: object) -> None:
        raise AssertionError("something was started")

    # a stage reads the variables of this process: it would be found by its own broker, which is not there
    for place in (
        "cli.find.provide_broker", "cli.find.reach", "cli.up.reach", "local_kafka.broker.LocalKafka.start",
        "streams.kafka.admin.reach", "cli.reencode.reach", "cli.demo.prepare", "streams.service._run",
        "subprocess.Popen",
    ):  # fmt: skip
        monkeypatch.setattr(place, started)
    monkeypatch.setattr("http_bridge.server.run", started)
    result = CliRunner().invoke(
        main,
        [word.format(images=folder / "images", folder=folder) for word in words.split()],
        env={name: WRONG[name]},
    )
    assert result.exit_code == 2, result.output
    assert name in result.output
    assert WRONG[name] in result.output or name in ("MODELS_NAME", "KAFKA_TRANSACTIONAL_ID", "KAFKA_LINGER_MS")
    assert len(result.output.splitlines()) == 1
    assert not (folder / "data").exists()


@pytest.mark.parametrize(
    ("words", "name"),
    [("encoder", "THRESHOLD"), ("bridge", "SERVER_PORT"), ("bridge", "BRIDGE_HOST"), ("find", "DIMENSION")],
)
def test_so_it_is_in_a_process(words, name, folder):
    more = [folder / "images"] if words == "find" else []
    run = subprocess.run(
        [*COMMAND, words, *more],
        env={**ENVIRON, name: WRONG[name]},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert run.returncode == 2, run.stderr
    assert name in run.stderr
    assert "Traceback" not in run.stderr


def test_a_stage_that_is_a_module_of_its_own_ends_the_same_way():
    run = subprocess.run(
        [sys.executable, "-m", "streams.matcher_consumer"],
        env={**ENVIRON, "PYTHONPATH": os.pathsep.join(sys.path), "THRESHOLD": "7"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert run.returncode == 2, run.stderr
    assert run.stderr.strip().endswith("THRESHOLD is '7': a number from 0 to 1 is needed")


def test_a_model_that_is_none_ends_find_with_the_reason(folder, tmp_path):
    (tmp_path / "bad.th").write_bytes(bytes(range(256)) * 100)
    run = subprocess.run(
        [*COMMAND, "find", folder / "images", "--models-dir", tmp_path, "--models-name", "bad.th"],
        env=ENVIRON,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 2, run.stderr
    assert "encoder-0 stopped: bad.th: not a file of weights" in run.stderr


@pytest.mark.parametrize("text", ["nonsense", "a b", "::::", ",", "host:0", "host:port"])
def test_an_address_that_cannot_be_one_is_refused_at_once(text, monkeypatch):
    monkeypatch.setattr(cli.announcing.announce, "announcing_producer", None)
    result = CliRunner().invoke(main, ["produce", "-", "--kafka-bootstrap-servers", text])
    assert result.exit_code == 2
    assert len(result.output.splitlines()) == 1
    assert ("host:port is needed" in result.output) == (text != "nonsense"), "a name alone may be a host's"
