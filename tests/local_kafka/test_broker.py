"""A real Kafka and a real registry, from pip alone."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, SchemaRegistryError

import local_kafka.broker
from local_kafka.broker import LocalKafka
from local_kafka.container import ContainerKafka, NoContainer
from local_kafka.node import NODE_SETTINGS, VERSION, BrokerUnavailable
from local_kafka.ports import free_ports
from local_kafka.process import Identity
from local_kafka.provider import provide_broker
from local_kafka.registry import LocalRegistry

TIMEOUT_S = 30.0


def make_topic(bootstrap: str, name: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(name, 1)])[name].result(TIMEOUT_S)


def committed(bootstrap: str, topic: str) -> list[bytes | None]:
    """All that a reader of committed records sees, to the end of the partition."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "reader",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    values = []
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        message = consumer.poll(1)
        if message is None:
            continue
        error = message.error()
        if error is not None:
            assert error.code() == KafkaError._PARTITION_EOF, error
            break
        values.append(message.value())
    consumer.close()
    return values


def offset_of(bootstrap: str, group: str, topic: str) -> int:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
    (found,) = consumer.committed([TopicPartition(topic, 0)], TIMEOUT_S)
    consumer.close()
    return int(found.offset)


def move_on(bootstrap: str, *, commit: bool) -> None:
    """Read `in` in a group, and write to `out` with the group's offset, in one transaction."""
    settings = {"group.id": "mover", "auto.offset.reset": "earliest", "enable.auto.commit": False}
    consumer = Consumer({"bootstrap.servers": bootstrap, **settings})
    consumer.subscribe(["in"])
    message = consumer.poll(TIMEOUT_S)
    assert message is not None
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": "mover"})
    producer.init_transactions(TIMEOUT_S)
    producer.begin_transaction()
    producer.produce("out", message.value())
    offsets = [TopicPartition("in", 0, (message.offset() or 0) + 1)]
    producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), TIMEOUT_S)
    if commit:
        producer.commit_transaction(TIMEOUT_S)
    else:
        producer.abort_transaction(TIMEOUT_S)
    consumer.close()


def test_data_and_transactions_outlast_a_restart_and_a_taken_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    folder = tmp_path / "Köln 北京 \\1"
    with LocalKafka.start(folder) as kafka:
        first = kafka.bootstrap
        for topic in ("in", "out"):
            make_topic(first, topic)
        producer = Producer({"bootstrap.servers": first})
        producer.produce("in", b"a")
        assert producer.flush(TIMEOUT_S) == 0
        move_on(first, commit=False)
        assert (committed(first, "out"), offset_of(first, "mover", "in")) == ([], -1001)
        move_on(first, commit=True)
        assert (committed(first, "out"), offset_of(first, "mover", "in")) == ([b"a"], 1)
    assert not kafka.alive()

    with LocalKafka.start(folder) as kafka:
        assert kafka.bootstrap == first
        assert (committed(first, "out"), offset_of(first, "mover", "in")) == ([b"a"], 1)

    with socket.create_server(("127.0.0.1", int(first.split(":")[1]))), LocalKafka.start(folder) as kafka:
        assert kafka.bootstrap != first
        assert (committed(kafka.bootstrap, "out"), offset_of(kafka.bootstrap, "mover", "in")) == ([b"a"], 1)
    assert list(tmp_path.iterdir()) == [folder]


def test_a_topic_that_nobody_made_is_an_error(bootstrap: str) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    asked = producer.list_topics("misspelt", timeout=TIMEOUT_S).topics["misspelt"]
    assert asked.error is not None
    assert asked.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART
    assert "misspelt" not in producer.list_topics(timeout=TIMEOUT_S).topics


def test_brokers_started_at_once_are_two_and_leave_nothing(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        brokers = list(pool.map(lambda _: LocalKafka.start(), range(2)))
    try:
        one, two = brokers
        make_topic(one.bootstrap, "of-one")
        assert listening(one.pid) == {"127.0.0.1"}
        assert "of-one" not in AdminClient({"bootstrap.servers": two.bootstrap}).list_topics(timeout=TIMEOUT_S).topics
    finally:
        for each in brokers:
            each.stop()
            each.stop()
    assert not any(each.alive() or each.data_dir.exists() for each in brokers)


def test_a_port_that_another_takes_in_the_meantime_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        lost = other.getsockname()[1]
        offers = [[lost, *free_ports(1)]]
        monkeypatch.setattr(local_kafka.broker, "free_ports", lambda n: offers.pop() if offers else free_ports(n))
        with LocalKafka.start() as kafka:
            assert kafka.bootstrap != f"127.0.0.1:{lost}"
            assert offers == []
            with pytest.raises(BrokerUnavailable, match=f"127.0.0.1:{lost} is taken"):
                LocalKafka.start(port=lost)


def test_a_broker_that_does_not_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(BrokerUnavailable, match=r"num\.io\.threads"):
        LocalKafka.start(tmp_path, properties={"num.io.threads": "none"})


def test_a_killed_starter_leaves_no_broker(tmp_path: Path) -> None:
    code = """
import signal
from local_kafka.broker import LocalKafka
kafka = LocalKafka.start()
print(kafka.pid, kafka.data_dir, flush=True)
signal.pause()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        pid, folder = starter.stdout.readline().split()
        java = Identity.of(int(pid))
        starter.kill()
        starter.wait()
    deadline = time.monotonic() + TIMEOUT_S
    while java.alive() or Path(folder).exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_broker_whose_folder_is_deleted_still_says_how_it_died(tmp_path: Path) -> None:
    with LocalKafka.start(tmp_path / "data") as broker:
        os.kill(broker.pid, signal.SIGKILL)
        shutil.rmtree(tmp_path / "data")
        deadline = time.monotonic() + 10
        while not (failure := broker.failure()):
            assert time.monotonic() < deadline
    assert failure.startswith("Kafka died (SIGKILL)")


def test_a_detached_broker_is_found_by_its_folder(tmp_path: Path) -> None:
    assert LocalKafka.attach(tmp_path) is None
    code = f"""
from pathlib import Path
from local_kafka.broker import LocalKafka
print(LocalKafka.start(Path({str(tmp_path)!r}), detached=True).bootstrap)
"""
    answer = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    kafka = LocalKafka.attach(tmp_path)
    assert kafka is not None
    assert kafka.bootstrap == answer.stdout.strip()
    make_topic(kafka.bootstrap, "a")
    with pytest.raises(BrokerUnavailable, match="runs already"):
        LocalKafka.start(tmp_path)
    assert LocalKafka.stop_detached(tmp_path)
    assert not kafka.alive()
    assert LocalKafka.attach(tmp_path) is None
    assert not LocalKafka.stop_detached(tmp_path)


def test_a_folder_whose_broker_is_gone_names_none_even_if_its_process_id_is_used_again(tmp_path: Path) -> None:
    me = Identity.of(os.getpid())
    Identity(me.pid, me.started - 3600).save(tmp_path / "kafka.json", port=9092, controller=9093)
    assert LocalKafka.attach(tmp_path) is None
    assert not LocalKafka.stop_detached(tmp_path)


def test_where_no_broker_can_be_had_both_reasons_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = free_ports(1)[0]
    (tmp_path / "jgo.conf").write_text(
        f"[settings]\ncache_dir = {tmp_path / 'cache'}\n[repositories]\ncentral = http://127.0.0.1:{nobody}\n"
    )
    monkeypatch.setenv("JGO_CONFIG_FILE", str(tmp_path / "jgo.conf"))
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{nobody}")
    with (
        pytest.raises(BrokerUnavailable, match=r"(?s)could not be fetched.*Docker.*refused.*Or name a broker"),
        provide_broker(),
    ):
        pass


def test_a_container_serves_where_an_engine_answers() -> None:
    try:
        kafka = ContainerKafka(VERSION, NODE_SETTINGS)
    except NoContainer as exc:
        pytest.skip(f"no Docker engine answers: {exc}")
    with kafka:
        make_topic(kafka.bootstrap, "a")


def test_nobody_outside_this_machine_reaches_the_registry(registry: LocalRegistry) -> None:
    assert listening(registry.pid) == {"127.0.0.1"}


def listening(pid: int) -> set[str]:
    """The addresses that a program listens on."""
    found = psutil.Process(pid).net_connections()
    return {c.laddr.ip.removeprefix("::ffff:") for c in found if c.status == psutil.CONN_LISTEN}


def record(**fields: dict[str, object]) -> Schema:
    parts = [{"name": name, **rest} for name, rest in fields.items()]
    return Schema(json.dumps({"type": "record", "name": "Seen", "fields": parts}), "AVRO")


def test_the_registry_takes_a_compatible_schema_and_refuses_another(registry: LocalRegistry) -> None:
    with SchemaRegistryClient({"url": registry.url}) as client:
        first = client.register_schema("seen-value", record(path={"type": "string"}))
        more = record(path={"type": "string"}, size={"type": "int", "default": 0})
        second = client.register_schema("seen-value", more)
        assert first != second
        assert client.register_schema("seen-value", more) == second
        for refused in (
            record(path={"type": "int"}),
            record(path={"type": "string"}, size={"type": "int"}, w={"type": "int"}),
        ):
            with pytest.raises(SchemaRegistryError, match="ncompatible") as caught:
                client.register_schema("seen-value", refused)
            assert caught.value.http_status_code == 409
        assert client.get_versions("seen-value") == [1, 2]


def test_a_registry_port_that_another_takes_is_given_up(
    registry: LocalRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = int(registry.url.split(":")[2].split("/")[0])
    offers = [[lost, *free_ports(1)]]
    monkeypatch.setattr("local_kafka.registry.free_ports", lambda n: offers.pop() if offers else free_ports(n))
    with LocalRegistry.start() as other:
        assert other.url != registry.url
    assert offers == []
