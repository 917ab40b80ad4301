"""`produce` as a person types it: the root is found, what lies outside is refused, verdicts are waited for."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.main import main
from local_kafka.ports import free_ports
from schemas.records import ImageNew, State
from streams.config import KafkaConfig
from streams.topics import EMBEDDINGS, IMAGES_NEW
from streams.watching.states import StateReporter, read_states
from tests.support.bridging import answering, eventually, stages
from tests.support.streaming import Reader, scene, send, write_groups

REFUSED = 2
"""What a refusal ends with."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a person stands in; the service's images are in imgs/."""
    (tmp_path / "imgs" / "shop").mkdir(parents=True)
    for name in ("a.png", "shop/b.png"):
        scene(len(name)).save(tmp_path / "imgs" / name)
    scene(3).save(tmp_path / "outside.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IMAGES_DIR", raising=False)
    monkeypatch.setattr("cli.produce.STARTING_S", 0.5)
    return tmp_path


@contextmanager
def encoder_of(kafka: KafkaConfig, root: Path | str, member: str = "encoder-0") -> Iterator[None]:
    """What an encoder that runs says of itself."""
    kafka = replace(kafka, member=member)
    with StateReporter(kafka, "encoder", images_dir=str(root)) as reporter:
        reporter.report(State.RUNNING)
        eventually(lambda: any(state.process == member for state in read_states(kafka)))
        yield


def produce(kafka: KafkaConfig, *words: str | Path, code: int = 0, lines: str | bytes | None = None) -> Result:
    broker = ("--kafka-bootstrap-servers", kafka.bootstrap, "--topic-prefix", kafka.prefix)
    result = CliRunner().invoke(main, ["produce", *map(str, words), *broker], input=lines)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def announced(kafka: KafkaConfig, count: int) -> list[str]:
    """The announced paths, in order of the alphabet; there must be that many."""
    reader = Reader(kafka, IMAGES_NEW).until(lambda r: len(r.seen["images.new"]) >= count).settled(0.5 if count else 2)
    reader.close()
    assert len(reader.seen["images.new"]) == count
    return sorted(message.key().decode() for message in reader.messages["images.new"])


def test_a_path_as_typed_is_announced_as_the_service_knows_it(kafka, here):
    with encoder_of(kafka, here / "imgs"):
        assert "1 image announced\n" in produce(kafka, "imgs/a.png").output
        produce(kafka, here / "imgs" / "shop" / "b.png")
        produce(kafka, "shop/b.png")
        produce(kafka, "imgs/shop")
        produce(kafka, "shop")
        assert "2 images announced\n" in produce(kafka, "imgs").output
    assert announced(kafka, 7) == ["a.png"] * 2 + ["shop/b.png"] * 5


@pytest.mark.parametrize("source", ["outside.png", ".", "..", "gone.png", "imgs/gone.png", "imgs/../outside.png"])
def test_what_is_not_in_the_services_folder_is_refused_in_one_line_and_names_the_folder(kafka, here, source):
    with encoder_of(kafka, here / "imgs"):
        output = produce(kafka, source, code=REFUSED).output
    assert len(output.splitlines()) == 1
    assert str(here / "imgs") in output
    assert source == "." or "--images-dir" in output or "no such file" in output
    assert announced(kafka, 0) == []


def test_a_link_that_leads_out_and_a_folder_by_an_images_name_are_refused(kafka, here):
    (here / "imgs" / "link.png").symlink_to(here / "outside.png")
    (here / "imgs" / "inner.png").symlink_to(here / "imgs" / "a.png")
    (here / "list").write_text("imgs/link.png\nimgs/inner.png\nimgs/shop\n")
    with encoder_of(kafka, here / "imgs"):
        assert "symbolic link" in produce(kafka, "imgs/link.png", code=REFUSED).output
        output = produce(kafka, "list", code=2).output
    assert output.count("not announced: ") == 2
    assert announced(kafka, 1) == ["inner.png"]


def test_lines_are_paths_in_the_services_folder_or_from_here(kafka, here):
    lines = f"a.png\nimgs/shop/b.png\r\n\n{here}/imgs/a.png\nnowhere.png\noutside.png\n".encode() + b"\xff.png\n"
    with encoder_of(kafka, here / "imgs"):
        output = produce(kafka, "-", lines=lines, code=2).output
    assert announced(kafka, 3) == ["a.png", "a.png", "shop/b.png"]
    assert output.count("not announced: ") == 3
    assert "3 images announced" in output
    assert "not valid UTF-8" in output


def test_a_file_of_other_text_is_said_to_be_read_as_a_list_and_is_not_repeated(kafka, here):
    (here / "accounts").write_text("root:x:0:0:root:/root:/bin/bash\n" * 2)
    with encoder_of(kafka, here / "imgs"):
        said = produce(kafka, "accounts", code=REFUSED).output.splitlines()
    assert said[0] == "accounts is read as a list: each line names an image"
    assert said[1].startswith("not announced: root:x:0:0:root:/roo…: no such file")
    assert "bash" not in "".join(said)


def test_many_wrong_lines_are_counted_not_listed(kafka, here):
    with encoder_of(kafka, here / "imgs"):
        output = produce(kafka, "-", lines="".join(f"{n}.png\n" for n in range(40)), code=2).output
    assert output.count("not announced: ") == 6
    assert "35 more" in output


def test_metadata_comes_from_lines_of_json_and_from_the_command_and_is_checked_before_it_is_announced(kafka, here):
    lines = [
        '{"relative_path": "a.png", "metadata": {"sku": "4711"}}',
        ' { "relative_path": "shop/b.png", "metadata": {"shop": "Zoë", "note": "a=b"}}',
        "a.png",
        '{"relative_path": "a.png", "metadata": {"sku": 4711}}',
        '{"relative_path": "a.png", "meta": {}}',
        '{"metadata": {}}',
        '{"relative_path": "a.png", "metadata": {"": "x"}}',
        '{"relative_path": "nowhere.png"}',
        '{"relative_path": "a.png"',
    ]
    (here / "list.jsonl").write_text("\n".join(lines[:3]))
    with encoder_of(kafka, here / "imgs"):
        said = produce(kafka, "list.jsonl", "--metadata", "shop=one", "--metadata", "url=a?b=c").output
        assert "3 images announced" in said
        produce(kafka, "shop", "--metadata", "shop=two")
        produce(kafka, "imgs/a.png", "--metadata", "shop=three")
        output = produce(kafka, "-", lines="\n".join(lines), code=REFUSED).output
        produce(kafka, "-", "--remove", lines=lines[0])
    assert "Expected `str`, got `int`" in output
    assert 'a line of JSON is {"relative_path": "a.jpg", "metadata": {"name": "value"}}' in output
    assert "a.png: metadata: a name is empty" in output
    assert "1 more" in output
    reader = Reader(kafka, IMAGES_NEW).until(lambda r: len(r.seen["images.new"]) >= 9).settled(0.5)
    reader.close()
    found = sorted(
        (one.relative_path, one.metadata.get("sku", ""), one.metadata.get("shop", ""), len(one.metadata))
        for one in reader.seen["images.new"]
        if one is not None
    )
    assert found == [
        ("a.png", "", "", 0),
        ("a.png", "", "one", 2),
        ("a.png", "", "three", 1),
        ("a.png", "4711", "", 1),
        ("a.png", "4711", "one", 3),
        ("shop/b.png", "", "Zoë", 2),
        ("shop/b.png", "", "Zoë", 3),
        ("shop/b.png", "", "two", 1),
    ]
    assert [one for one in reader.seen["images.new"] if one is None] == [None]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sku"], "NAME=VALUE is needed"),
        (["sku=1", "sku=2"], "sku is given twice"),
        (["=1"], "a name is empty"),
        (["note=" + "x" * 4096], "4,100 bytes of names and values, and 4,096 are possible"),
        (["a=\udcff"], "not valid UTF-8"),
    ],
)
def test_metadata_that_cannot_be_is_refused_before_kafka_is_asked(words, said):
    options = [one for word in words for one in ("--metadata", word)]
    result = CliRunner().invoke(main, ["produce", "a.png", *options])
    assert (result.exit_code, said in result.output) == (REFUSED, True), result.output


def test_removed_files_are_named_as_they_were(kafka, here):
    for name in ("a.png", "shop/b.png"):
        (here / "imgs" / name).unlink()
    with encoder_of(kafka, here / "imgs"):
        output = produce(kafka, "imgs/a.png", "--remove").output
        assert "1 image announced as gone; it is not checked whether the service knows it" in output
        produce(kafka, "shop/b.png", "--remove")
        produce(kafka, "-", "--remove", lines="imgs/shop/b.png\na.png\n")
        output = produce(kafka, "/etc/gone.png", "--remove", code=REFUSED).output
    assert str(here / "imgs") in output
    assert announced(kafka, 4) == ["a.png"] * 2 + ["shop/b.png"] * 2


def test_a_named_root_is_taken_unless_the_service_here_has_another(kafka, here):
    produce(kafka, "imgs/a.png", "--images-dir", "imgs")
    with encoder_of(kafka, here / "imgs"):
        produce(kafka, "imgs/a.png", "--images-dir", here / "imgs" / "shop" / "..")
        output = produce(kafka, "imgs/a.png", "--images-dir", ".", code=REFUSED).output
        assert str(here / "imgs") in output
        assert len(output.splitlines()) == 1
    output = produce(kafka, "imgs/a.png", "--images-dir", "nowhere", code=REFUSED).output
    assert "nowhere: no such folder" in output
    assert announced(kafka, 2) == ["a.png", "a.png"]


def test_two_encoders_with_two_roots_ask_which_is_meant(kafka, here):
    (here / "other").mkdir()
    with encoder_of(kafka, here / "imgs"), encoder_of(kafka, here / "other", "encoder-1"):
        assert "--images-dir" in produce(kafka, "imgs/a.png", code=REFUSED).output
        produce(kafka, "imgs/a.png", "--images-dir", "imgs")
    assert announced(kafka, 1) == ["a.png"]


def test_where_no_root_is_known_paths_are_taken_as_they_are_and_that_is_said(kafka, here):
    output = produce(kafka, "imgs/a.png").output
    assert "taken as they are" in output
    assert "no encoder runs" in output
    produce(kafka, "-", lines="shop/not here.png\n")
    assert "--images-dir" in produce(kafka, here / "imgs" / "a.png", code=REFUSED).output
    produce(kafka, "imgs")
    assert announced(kafka, 4) == ["a.png", "imgs/a.png", "shop/b.png", "shop/not here.png"]


def test_an_encoder_that_is_starting_is_waited_for(kafka, here, monkeypatch):
    monkeypatch.setattr("cli.produce.STARTING_S", 60)

    def start() -> None:
        with StateReporter(replace(kafka, member="encoder-0"), "encoder", images_dir=str(here / "imgs")):
            announced(kafka, 1)

    starting = threading.Timer(2, start)
    starting.start()
    produce(kafka, "imgs/a.png")
    starting.join()
    assert announced(kafka, 1) == ["a.png"]


def test_nothing_to_announce_is_said(kafka, here):
    (here / "empty").mkdir()
    assert "nothing to announce" in produce(kafka, "empty").output
    assert "nothing to announce" in produce(kafka, "-", lines="\n").output
    (here / "binary").write_bytes(b"\0\1\2")
    assert "neither an image" in produce(kafka, "binary", code=REFUSED).output


def test_wait_prints_what_became_of_each_image(kafka, here):
    images = here / "collection"
    write_groups(images, 1)
    (images / "broken.jpg").write_bytes(b"not an image")
    with answering(kafka, *stages(kafka, images, here / "index")), encoder_of(kafka, images):
        first = produce(kafka, "collection/0.png", "--wait").stdout
        assert first == "0.png  clear\n"
        output = produce(kafka, "collection/0 resized.jpg", "--wait").stdout
        assert output.startswith("0 resized.jpg  duplicates  0.png  1.00  resized to 75 %")
        output = produce(kafka, "-", "--wait", lines="0.png\nbroken.jpg\n", code=3).stdout
        assert "0.png  clear\n" in output
        assert "broken.jpg  dead letter  UnsupportedImage: broken.jpg: " in output
        shown = produce(kafka, "collection/0 re-encoded.jpg", "--wait", "--json").stdout
    (line,) = shown.splitlines()
    decided = json.loads(line)
    assert (decided["relative_path"], decided["state"]) == ("0 re-encoded.jpg", "duplicate")
    assert {one["relative_path"] for one in decided["duplicated"]} == {"0.png", "0 resized.jpg"}
    reader = Reader(kafka, IMAGES_NEW).until(lambda r: len(r.seen["images.new"]) >= 5)
    reader.close()
    ids = [record.request_id for record in reader.seen["images.new"]]
    assert len(set(ids)) == len(ids), "the ids tell runs apart"


def test_wait_says_what_it_waits_for_and_how_many_are_open_when_it_is_interrupted(kafka, here):
    with StateReporter(replace(kafka, member="encoder-0"), "encoder", images_dir=str(here / "imgs")) as reporter:
        reporter.report(State.WAITING, "the folder of images is away")
        eventually(lambda: any(state.reason for state in read_states(kafka)))
        words = ["--kafka-bootstrap-servers", kafka.bootstrap, "--topic-prefix", kafka.prefix]
        log = here / "log"
        with log.open("wb") as out:
            waiting = subprocess.Popen(
                [sys.executable, "-m", "imagetools", "produce", "imgs", "--wait", *words], stdout=out, stderr=out
            )
        eventually(lambda: "encoder-0 waits: the folder of images is away" in log.read_text())
        assert "no search runs" in log.read_text()
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(20) == 130
    assert "2 of 2 have no verdict yet" in log.read_text()


def test_verdicts_of_others_are_not_ones_own(kafka, here):
    from cli.announcing.pending_verdicts import ImageResult, PendingVerdicts  # noqa: PLC0415
    from schemas.records import Similar, Verdict, VerdictOutcome  # noqa: PLC0415
    from streams.topics import VERDICTS  # noqa: PLC0415

    pending = PendingVerdicts(kafka)
    pending.expect(7, "a.png")
    send(kafka, IMAGES_NEW, [("a.png", ImageNew(7, "a.png"))])
    alike = tuple(Similar(path, "template", "same template, other content") for path in ("b.png", "c.png"))
    ours = Verdict(7, "a.png", VerdictOutcome.CLEAR, similar=alike)
    send(kafka, VERDICTS, [("a.png", Verdict(6, "a.png", VerdictOutcome.CLEAR)), ("a.png", ours)])
    decided: list[ImageResult] = []

    def all_decided() -> bool:
        decided.extend(pending.read(0.2))
        return not pending.open

    eventually(all_decided)
    pending.close()
    assert [one.request_id for one in decided] == [7]
    said = "a.png  clear  alike, and no duplicate: b.png, same template, other content; 1 more"
    assert decided[0].in_words() == said


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"SCHEMA_REGISTRY_URL": "foo"}, "SCHEMA_REGISTRY_URL is 'foo'"),
        ({"SCHEMA_REGISTRY_URL": "http://nowhere.invalid:1"}, "no schema registry answers at nowhere.invalid:1 "),
        ({"SCHEMA_REGISTRY_URL": "http://127.0.0.1:1"}, "no schema registry answers at 127.0.0.1:1 "),
        ({"SCHEMA_REGISTRY_URL": "http://me:geheim@127.0.0.1:1", "IMAGES_DIR": ""}, "answers at 127.0.0.1:1 "),
        ({"TOPIC_PREFIX": "nobody-made."}, "imagetools topics create"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "nobody"}, "no Kafka answers"),
        ({"IMAGES_DIR": "/nowhere"}, "no such folder"),
    ],
    ids=str,
)
def test_what_is_missing_is_one_line_within_seconds(kafka, here, settings, said):
    if "KAFKA_BOOTSTRAP_SERVERS" in settings:
        settings = {"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_ports(1)[0]}"}
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(sys.path),
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "TOPIC_PREFIX": kafka.prefix,
        "IMAGES_DIR": "imgs",
        **settings,
    }
    command = [sys.executable, "-m", "imagetools", "produce", "imgs/a.png"]
    began = time.monotonic()
    run = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=60)
    assert time.monotonic() - began < 15
    assert run.returncode == REFUSED, run.stderr
    assert said in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_a_silent_load_shows_how_far_the_encoders_are_until_they_have_done_all(kafka, here, monkeypatch):
    monkeypatch.setattr("cli.job_progress.PLAIN_FIRST_S", -1.0)
    monkeypatch.setattr("cli.job_progress.PLAIN_EVERY_S", -1.0)
    images = here / "collection"
    write_groups(images, 1)
    with answering(kafka, *stages(kafka, images, here / "index")), encoder_of(kafka, images):
        said = produce(kafka, "collection", "--no-alert").stderr
    reader = Reader(kafka, EMBEDDINGS).settled(0.1)
    reader.close()
    assert len(reader.seen["embeddings"]) == 3
    assert "3 images announced\n" in said
    assert said.splitlines()[-2].startswith("encoded 3 of 3")
    assert said.endswith("the encoders have done all 3\n")


def test_a_silent_load_waits_for_no_encoder_where_none_runs_or_none_is_to_be_waited_for(kafka, here):
    assert "no encoder runs" in produce(kafka, "imgs", "--no-alert", "--images-dir", "imgs").stderr
    with encoder_of(kafka, here / "imgs"):
        assert produce(kafka, "imgs", "--no-alert", "--no-progress").stderr == "2 images announced\n"
    assert "--no-progress is for --no-alert" in produce(kafka, "imgs", "--no-progress", code=2).output


def test_a_silent_load_that_is_interrupted_says_what_stays_announced(kafka, here):
    words = ["--no-alert", "--kafka-bootstrap-servers", kafka.bootstrap, "--topic-prefix", kafka.prefix]
    with encoder_of(kafka, here / "imgs"), (here / "log").open("wb") as out:
        command = [sys.executable, "-m", "imagetools", "produce", "imgs", *words]
        loading = subprocess.Popen(command, stdout=out, stderr=out)
        eventually(lambda: "no search runs" in (here / "log").read_text())
        loading.send_signal(signal.SIGINT)
        assert loading.wait(20) == 130
    assert "2 of 2 are not encoded yet; they stay announced" in (here / "log").read_text()
