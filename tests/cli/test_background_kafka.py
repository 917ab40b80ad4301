"""`imagetools kafka start --registry` and `kafka stop`: both run in the background, and their data outlasts them."""

from pathlib import Path

from confluent_kafka.admin import AdminClient

from local_kafka.broker import LocalKafka
from local_kafka.ports import free_ports, is_free
from local_kafka.registry import LocalRegistry
from schemas.codec import codec
from schemas.records import ImageNew
from tests.support.processes import start


def test_kafka_and_a_registry_run_until_they_are_stopped_and_schemas_keep_their_numbers(tmp_path: Path) -> None:
    data = tmp_path / "kafka; data"
    port, registry_port = free_ports(2)
    command: list[str | Path] = ["kafka", "start", "--data", data, "--port", str(port), "--registry"]
    try:
        first = start(*command, "--registry-port", str(registry_port), log=tmp_path / "first").ends(0)
        url = f"http://127.0.0.1:{registry_port}/apis/ccompat/v7"
        assert first.splitlines()[-2:] == [f"127.0.0.1:{port}", f"export SCHEMA_REGISTRY_URL={url}"]
        assert AdminClient({"bootstrap.servers": f"127.0.0.1:{port}"}).list_topics(timeout=30).brokers
        value = codec(url).encode("images.new", ImageNew(1, "a.jpg"))

        again = start(*command, "--registry-port", str(registry_port), log=tmp_path / "again").ends(0)
        assert again.splitlines() == first.splitlines()[-2:]
    finally:
        stopped = start("kafka", "stop", "--data", data, log=tmp_path / "stop").ends(0)
    assert stopped == "stopped\n"
    assert is_free(port)
    assert is_free(registry_port)
    none = start("kafka", "stop", "--data", data, log=tmp_path / "none").ends(0)
    assert none == f"none runs with its data in {data}\n"

    with LocalRegistry.start(data / "registry") as later:
        assert codec(later.url).decode("images.new", ImageNew, value) == ImageNew(1, "a.jpg")


def test_a_registry_that_cannot_start_leaves_no_kafka_behind(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    # the broker takes the port that the registry is to have
    command: list[str | Path] = [
        "kafka",
        "start",
        "--data",
        tmp_path,
        "--port",
        str(port),
        "--registry",
        "--registry-port",
        str(port),
    ]
    said = start(*command, log=tmp_path / "log").ends(2)
    assert f"127.0.0.1:{port} is taken by another program: --registry-port names another" in " ".join(said.split())
    assert "Traceback" not in said
    assert LocalKafka.attach(tmp_path) is None
    assert is_free(port)
