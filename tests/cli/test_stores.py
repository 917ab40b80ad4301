"""Commands over images in a store."""

import json
import signal
import urllib.error
import urllib.request
from http import HTTPStatus

import pytest
from click.testing import CliRunner

from cli.main import main
from imagetools.decode import decode
from local_kafka.ports import free_ports
from streams.topics import DUPLICATES, VERDICTS
from tests.cli.test_produce import REFUSED, announced, encoder_of, produce
from tests.cli.test_whole import pairs_in
from tests.support.object_store import Bucket, ObjectServer
from tests.support.processes import start
from tests.support.streaming import Reader, group_pairs, pairs_of, scene, write_groups


@pytest.fixture
def bucket(object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    made = object_server.bucket()
    for name, value in made.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("IMAGES_DIR", raising=False)
    monkeypatch.setattr("cli.produce.STARTING_S", 0.5)
    return made


def test_a_store_is_announced_as_the_service_knows_it(kafka, bucket, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for key in ("a.png", "x/b.png", "x/y/c.png", "notes.txt"):
        bucket.put_as(f"pre/{key}", b"the encoder looks at them")
    root = f"{bucket.address}/pre"
    with encoder_of(kafka, root):
        assert "not looked at: 1 not an image\n3 images announced\n" in produce(kafka, root).output
        produce(kafka, f"{root}/x/")
        produce(kafka, f"{root}/x/b.png")
        produce(kafka, "a.png")
        produce(kafka, "-", lines=f"x/y/c.png\n{root}/a.png\n")
        assert "there is no such object" in produce(kafka, "-", lines="none.png\n", code=REFUSED).output
        for wrong in (bucket.address, f"{bucket.address}/prefix/a.png", "s3://other/pre"):
            assert f"is not below {root}" in produce(kafka, wrong, code=REFUSED).output
        (tmp_path / "here").mkdir()
        assert "is a folder here, and the service's images are in s3://" in produce(kafka, "here", code=REFUSED).output
        produce(kafka, "--remove", f"{root}/gone.png")
        # below the root, as the paths of images are
        assert "\n2 images announced\n" in "\n" + produce(kafka, "x").output
        assert f"neither here nor in {root}" in produce(kafka, "none", code=REFUSED).output
    assert announced(kafka, 12) == ["a.png"] * 3 + ["gone.png"] + ["x/b.png"] * 4 + ["x/y/c.png"] * 4


def test_an_address_is_refused_where_the_service_has_a_folder(kafka, bucket, tmp_path):
    (tmp_path / "images").mkdir()
    with encoder_of(kafka, tmp_path / "images"):
        output = produce(kafka, f"{bucket.address}/a.png", code=REFUSED).output
    assert f"the service's images are in the folder {tmp_path / 'images'}" in output


def test_a_web_server_is_announced_by_a_list_alone(kafka, tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGES_PRIVATE", "yes")
    monkeypatch.setattr("cli.produce.STARTING_S", 0.5)
    output = produce(kafka, "http://127.0.0.1:1/pre", code=REFUSED).output
    assert "a web server has no list of its files; announce them by a list of paths" in output


def test_find_reports_the_duplicates_of_a_store(kafka, bucket, tmp_path):
    folder, report = tmp_path / "images", tmp_path / "report"
    write_groups(folder, 3)
    for file in folder.iterdir():
        bucket.put_as(f"pre/{file.name}", file.read_bytes())
    bucket.put_as("pre/broken.jpg", b"no image")
    words = ["find", f"{bucket.address}/pre", "--report", report, "--broker", kafka.bootstrap]
    assert f"Report: {report}" in start(*words, log=tmp_path / "log", environ=bucket.environ).ends(0)
    assert set(pairs_in(report / "alerts.jsonl")) == group_pairs(3)
    summary = json.loads((report / "summary.json").read_text())
    assert (summary["complete"], summary["dead_letters"], summary["groups"]) == (True, 1, 3)
    page = (report / "report.html").read_text()
    assert f"Duplicates in {bucket.address}/pre" in page
    assert 'href="report-files/000000.jpg"' in page
    assert (report / "report-files" / "000000.jpg").stat().st_size > 0


def test_a_service_over_a_store_alerts_and_serves_requests_and_pictures(kafka, bucket, tmp_path, request):
    write_groups(tmp_path / "images", 2)
    for file in (tmp_path / "images").iterdir():
        bucket.put_as(f"pre/{file.name}", file.read_bytes())
    (http,) = free_ports(1)
    on_kafka = ["--kafka-bootstrap-servers", kafka.bootstrap, "--topic-prefix", kafka.prefix]
    words = ["--data", tmp_path / "data", "--images-dir", f"{bucket.address}/pre", "--server-port", str(http)]
    up = start("up", *words, *on_kafka, log=tmp_path / "up", environ=bucket.environ)
    # it ends with the test, also with one that fails
    request.addfinalizer(up.process.wait)
    request.addfinalizer(lambda: up.process.send_signal(signal.SIGINT))
    up.said("Ctrl-C stops it")
    assert f"images in {bucket.address}/pre" in up.text
    wait = start("produce", f"{bucket.address}/pre", "--wait", *on_kafka, log=tmp_path / "wait", environ=bucket.environ)
    wait.ends(0)
    reader = Reader(kafka, DUPLICATES, VERDICTS).until(lambda r: len(r.seen["verdicts"]) == 6)
    reader.close()
    assert set(pairs_of(reader.seen["duplicates"])) == group_pairs(2)

    def asked(path: str, body: object = None) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{http}{path}", data, timeout=30) as answer:
            return bytes(answer.read())

    encoded = json.loads(asked("/api-image-encoder", {"request_id": 7, "relative_path": "0.png"}))
    assert (encoded["global_status"], len(encoded["response"]["fingerprint"])) == (1, 512)
    pair = {"candidate": "0 resized.jpg", "neighbors": ["0.png", "1.png"]}
    found = json.loads(asked("/api-instance-matching", pair))["response"]["duplicated"]
    assert [one["relative_path"] for one in found] == ["0.png"]
    assert decode(asked("/v1/pictures/0.png?side=64"), "picture").size == (64, 48)
    with pytest.raises(urllib.error.HTTPError) as refused:
        asked("/v1/pictures/none.png")
    assert refused.value.code == HTTPStatus.NOT_FOUND
    refused.value.close()
    up.process.send_signal(signal.SIGINT)
    up.ends(0)


def test_a_store_that_lets_nobody_in_is_named_before_anything_is_announced(kafka, bucket, tmp_path, request):
    bucket.put_as("pre/a.png", b"some bytes")
    environ = bucket.environ | {"AWS_SECRET_ACCESS_KEY": "wrong", "SERVER_PORT": str(free_ports(1)[0])}
    words = ["--data", tmp_path / "data", "--images-dir", f"{bucket.address}/pre"]
    on_kafka = ["--kafka-bootstrap-servers", kafka.bootstrap, "--topic-prefix", kafka.prefix]
    up = start("up", *words, *on_kafka, log=tmp_path / "up", environ=environ)
    request.addfinalizer(up.process.wait)
    request.addfinalizer(lambda: up.process.send_signal(signal.SIGINT))
    up.said("The service waits for it")
    assert f"{bucket.address}/pre cannot be listed: " in up.text
    assert up.text.count("SignatureDoesNotMatch") == 1


def test_without_credentials_it_is_said_where_they_were_looked_for(bucket, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    # the address that a machine in a cloud asks for its own
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
    found = CliRunner().invoke(main, ["find", f"{bucket.address}/pre"])
    assert found.exit_code == REFUSED
    assert "no credentials are in the environment" in found.output


@pytest.mark.parametrize("address", ["ftp://a/b", "s3://", "s3://bucket/a?b"])
def test_a_wrong_address_is_said_before_anything_starts(address):
    found = CliRunner().invoke(main, ["find", address])
    assert found.exit_code == REFUSED
    assert f"{address}: " in found.output


def test_two_objects_are_compared_by_their_addresses(bucket, tmp_path):
    for key, seed in (("a.png", 1), ("b.png", 1), ("other.png", 2)):
        scene(seed).save(tmp_path / key)
        bucket.put_as(f"pre/{key}", (tmp_path / key).read_bytes())
    at = f"{bucket.address}/pre"

    def compared(one: str, two: str, code: int = 0) -> str:
        found = CliRunner().invoke(main, ["compare", one, two])
        assert found.exit_code == code, found.output
        return found.output

    assert "the same bytes" in compared(f"{at}/a.png", f"{at}/b.png")
    assert "no duplicate" in compared(f"{at}/a.png", str(tmp_path / "other.png"))
    assert "there is no such object" in compared(f"{at}/a.png", f"{at}/none.png", REFUSED)
