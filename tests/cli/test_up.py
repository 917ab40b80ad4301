"""The service on one machine when its surroundings fail: Kafka killed, ports taken, offsets lost."""

import json
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from cli.announcing.announce import announce
from local_kafka.ports import free_ports
from schemas.group_records import FactKind, GroupingFact
from schemas.records import ImageNew, State
from streams.config import KafkaConfig
from streams.kafka.admin import GroupOffsets, create_topics
from streams.kafka.errors import no_offsets
from streams.topics import DUPLICATES, EMBEDDINGS, GROUPING_STATE, IMAGES_NEW, VERDICTS
from streams.watching.states import read_states
from tests.support.grouping_messages import embedding, image
from tests.support.processes import Running, broken, kafka_of, start
from tests.support.streaming import Reader, group_pairs, pairs_of, scene, send, write_groups
from tests.support.watching import Watched, ports_in_a_row

IN_USE = "Address already in use (by another imagetools, perhaps)"


def test_a_kafka_that_is_killed_is_started_again_and_no_alert_is_lost_or_doubled(tmp_path):
    images = tmp_path / "images"
    paths = write_groups(images, 60)
    port, http = free_ports(2)
    words = ["--images-dir", images, "--server-port", str(http)]
    up = start("up", "--data", tmp_path / "data", "--port", str(port), *words, log=tmp_path / "up")
    up.said("Ctrl-C stops it")
    up.said("Ready: every stage runs")
    _second_services_are_refused(tmp_path, port, http)

    kafka = KafkaConfig(f"127.0.0.1:{port}")
    announce(kafka, paths[:90])
    reader = Reader(kafka, DUPLICATES, VERDICTS).until(lambda r: r.seen["duplicates"])
    reader.close()
    kafka_of(up).kill()
    assert up.said("Kafka died (SIGKILL)") < 5
    up.said("Kafka runs again")
    announce(kafka, paths[90:], first=91)
    reader = Reader(kafka, DUPLICATES, VERDICTS).until(lambda r: len(r.seen["verdicts"]) >= len(paths)).settled()
    pairs = pairs_of(reader.seen["duplicates"])
    assert len(reader.seen["verdicts"]) == len(paths)
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == group_pairs(60)
    reader.close()

    meta = tmp_path / "data" / "kafka" / "data" / "meta.properties"
    meta.write_text("version=none\n")
    kafka_of(up).kill()
    text = up.ends(1, 60)
    assert "cannot be started again" in text
    assert str(tmp_path / "data" / "kafka" / "kafka.log") in text
    assert "Traceback" not in text


def test_ctrl_c_is_heard_while_kafka_is_started_again(tmp_path):
    write_groups(tmp_path / "images", 1)
    port, http = free_ports(2)
    words = ["--images-dir", tmp_path / "images", "--server-port", str(http)]
    up = start("up", "--data", tmp_path / "data", "--port", str(port), *words, log=tmp_path / "up")
    up.said("Ctrl-C stops it")
    assert f"`KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:{port} imagetools produce`" in up.text
    kafka_of(up).kill()
    up.said("starting it again")
    up.process.send_signal(signal.SIGINT)
    text = up.ends(0, 10)
    assert "Kafka runs again" not in text
    assert "Traceback" not in text


def _second_services_are_refused(tmp_path: Path, port: int, http: int) -> None:
    """While one runs: on the same data, at the same ports."""
    ports = free_ports(2)

    def refused(name: str, *words: str | Path) -> str:
        running = start(*words, log=tmp_path / name)
        text = running.ends(2, 30)
        assert "Traceback" not in text
        return " ".join(text.split())

    def up(name: str, data: str, kafka: int, server: int) -> str:
        words: list[str | Path] = [
            "--images-dir",
            tmp_path / "images",
            "--port",
            str(kafka),
            "--server-port",
            str(server),
        ]
        return refused(name, "up", "--data", tmp_path / data, *words)

    for name, both in (("same data", ports), ("same ports", (port, http))):
        said = up(name, "data", *both)
        assert "another `imagetools up` runs with its data in" in said
        assert "this service runs already" in said
    assert f"port {http} on 127.0.0.1: {IN_USE}; SERVER_PORT or --server-port" in up("http", "other", ports[0], http)
    assert f"127.0.0.1:{port} is taken by another program: --port names another" in up("kafka", "other", port, ports[1])
    assert "--port names another" in refused("k", "kafka", "start", "--data", tmp_path / "third", "--port", str(port))
    (tmp_path / "file").touch()
    assert f"--data is {tmp_path / 'file'}: File exists" in up("file", "file", *ports)


@pytest.fixture
def service(kafka: KafkaConfig, tmp_path: Path) -> list[str | Path]:
    """The words of `up` on the tests' broker."""
    (tmp_path / "images").mkdir()
    scene(1).save(tmp_path / "images" / "a.png")
    (http,) = free_ports(1)
    return [
        "up", "--data", tmp_path / "data", "--images-dir", tmp_path / "images", "--server-port", str(http),
        "--kafka-bootstrap-servers", kafka.bootstrap, "--topic-prefix", kafka.prefix,
    ]  # fmt: skip


def test_offsets_that_are_lost_end_the_service_with_the_way_to_go_on(kafka, service, tmp_path):
    send(kafka, IMAGES_NEW, [("a.png", ImageNew(1, "a.png", True))])
    group = kafka.group("encoder")
    admin = AdminClient(kafka.client())
    admin.delete_consumer_groups([group], request_timeout=30)[group].result(30)
    text = start(*service, log=tmp_path / "lost").ends(2, 60)
    assert f"encoder-0 stopped: group {group} has no committed offset" in text
    assert "--from earliest" in text
    metrics = ports_in_a_row(4)
    watching = ["--metrics-port", str(metrics), "--log-format", "json"]
    up = start(*service, "--from", "earliest", *watching, log=tmp_path / "up")
    reader = Reader(kafka, VERDICTS).until(lambda r: r.seen["verdicts"])
    reader.close()
    for number, stage in enumerate(("encoder", "search", "matcher", "grouping")):
        _until(up, Watched(metrics + number).is_ready)
        lines = (tmp_path / "data" / "logs" / f"{stage}-0.log").read_text("utf-8").splitlines()
        messages = [json.loads(line)["message"] for line in lines if line.startswith("{")]
        assert f"{stage}: metrics on 127.0.0.1 port {metrics + number}" in messages
    up.process.terminate()
    up.ends(0)


def test_a_stage_that_dies_and_dies_is_told_on_the_terminal_and_on_the_topic_of_states(kafka, service, tmp_path):
    up = start(*service, log=tmp_path / "up", environ=broken(tmp_path / "broken", "matcher"))
    reason = "exit code 1: ModuleNotFoundError: No module named 'packaging'"
    up.said("matcher-0 died", 30)
    _until(up, lambda: up.text.count(f"matcher-0 died ({reason}); starting it again") >= 4)
    (state,) = [one for one in read_states(kafka) if one.process == "matcher-0"]
    assert (state.stage, state.state, state.reason) == ("matcher", State.DIED, reason)
    assert state.restarts >= 2
    up.process.terminate()
    up.ends(0)


def _until(running: Running, condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, running.text
        time.sleep(0.05)


def test_a_second_log_that_is_not_there_is_not_made_by_mistake(kafka, service, tmp_path):
    text = start(*service, log=tmp_path / "up", environ={"EMBEDDINGS_TOPIC": "embeddings.9"}).ends(2, 30)
    assert "EMBEDDINGS_TOPIC is embeddings.9: no topic" in text
    assert "imagetools reencode --to embeddings.9" in text
    admin = AdminClient(kafka.client())
    assert f"{kafka.prefix}embeddings.9" not in admin.list_topics(timeout=10).topics


def test_a_group_that_has_lost_its_offsets_is_left_alone_where_that_is_asked_for(kafka):
    admin = AdminClient(kafka.client())
    group = kafka.group("encoder")

    def offsets_after(records: int, *, only_new_groups: bool) -> dict[int, int]:
        send(kafka, IMAGES_NEW, [("a.png", ImageNew(1, "a.png", True))] * records)
        admin.delete_consumer_groups([group], request_timeout=30)[group].result()
        create_topics(kafka, only_new_groups=only_new_groups)
        offsets = GroupOffsets(kafka, "encoder")
        try:
            return offsets.read()
        finally:
            offsets.close()

    firsts = dict.fromkeys(range(IMAGES_NEW.partitions), 0)
    assert offsets_after(0, only_new_groups=True) == firsts
    assert offsets_after(1, only_new_groups=True) == {}
    create_topics(kafka)
    assert offsets_after(0, only_new_groups=False) == firsts


def test_a_grouping_that_has_lost_its_offsets_is_left_alone_once_it_has_a_state(kafka):
    admin = AdminClient(kafka.client())
    group = kafka.group("grouping")
    send(kafka, EMBEDDINGS, [("a.png", embedding(image("a.png")))])

    def offsets() -> dict[int, int]:
        admin.delete_consumer_groups([group], request_timeout=30)[group].result()
        create_topics(kafka, only_new_groups=True)
        offsets = GroupOffsets(kafka, "grouping", EMBEDDINGS)
        try:
            return offsets.read()
        finally:
            offsets.close()

    assert offsets() == {0: 0}, "a service of a version without groups gets them for all of its images"
    fact = GroupingFact("a.png", FactKind.IMAGE, (image("a.png"),))
    send(kafka, GROUPING_STATE, [(fact.id, fact)])
    assert offsets() == {}
    assert "takes images of the past for new ones" in no_offsets(kafka, "grouping", "embeddings")


def test_the_index_is_divided_among_searches_and_stays_so(kafka, service, tmp_path):
    paths = write_groups(tmp_path / "images", 4)
    up = start(*service, "--shards", "2", "--replicas", "2", log=tmp_path / "up")
    up.said("The index moves to 2 shards")
    announce(kafka, paths)
    reader = Reader(kafka, DUPLICATES, VERDICTS).until(lambda r: len(r.seen["verdicts"]) == len(paths))
    assert set(pairs_of(reader.seen["duplicates"])) == group_pairs(4)
    _until(up, lambda: sum(one.stage == "search" for one in read_states(kafka)) == 4)
    up.process.send_signal(signal.SIGINT)
    up.ends(0)
    again = start(*service, log=tmp_path / "again")
    announce(kafka, paths[:1], first=100)
    reader.until(lambda r: len(r.seen["verdicts"]) == len(paths) + 1)
    _until(again, lambda: {one.process for one in read_states(kafka)} >= {"search-0", "search-1"})
    assert "moves" not in again.text
    again.process.send_signal(signal.SIGINT)
    again.ends(0)
    reader.close()


def test_the_index_of_a_running_service_moves_to_more_shards_by_one_command(kafka, service, tmp_path):
    paths = write_groups(tmp_path / "images", 6)
    up = start(*service, "--shards", "2", log=tmp_path / "up")
    up.said("The index moves to 2 shards")
    announce(kafka, paths[:9])
    reader = Reader(kafka, DUPLICATES, VERDICTS).until(lambda r: len(r.seen["verdicts"]) == 9)
    settings = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "TOPIC_PREFIX": kafka.prefix}
    moves = start("reshard", "3", log=tmp_path / "moves", environ=settings)
    up.said("The index moves to 3 shards: starting them")
    moves.said("Switched: from offset")
    announce(kafka, paths[9:], first=10)
    assert "Done: SHARD=0/3 to SHARD=2/3 answer" in moves.ends(0)
    up.said("Stopped 2 shards, which are not needed any more")
    reader.until(lambda r: len(r.seen["verdicts"]) == len(paths)).settled()
    pairs = pairs_of(reader.seen["duplicates"])
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == group_pairs(6)
    reader.close()
    up.process.send_signal(signal.SIGINT)
    up.ends(0)


def test_a_port_in_use_ends_a_bridge_with_the_flag_that_names_another(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        text = start("bridge", "--server-port", port, log=tmp_path / "log").ends(2, 20)
    assert f"port {port} on 127.0.0.1: {IN_USE}; SERVER_PORT or --server-port names another" in text
