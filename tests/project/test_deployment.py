"""The deployment files: what the compose file runs is run here, as processes instead of containers."""

import json
import logging
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import click
import pytest
import yaml
from confluent_kafka.admin import AdminClient
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from cli.main import main
from local_kafka import registry
from local_kafka.broker import LocalKafka
from local_kafka.node import KAFKA, VERSION
from local_kafka.ports import free_ports
from local_kafka.process import JavaProcess
from local_kafka.programs import fetch, java
from streams.config import BridgeConfig, Config, KafkaConfig
from streams.sharding.shards import Shard
from streams.topics import DUPLICATES, GROUPS, VERDICTS
from tests.support.streaming import Reader, group_pairs, pairs_of, write_groups

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
PROFILES: dict[str, Any] = {name: service for name, service in SERVICES.items() if "profiles" in service}
MONITORING = ROOT / "monitoring"
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "imagetools"}
STAGES = ("encoder", "search", "matcher", "grouping")
DEADLINE_S = 60.0


def interpolated(text: str, **values: str) -> str:
    """What Compose makes of ${NAME:-default} and ${NAME:?reason}."""
    return re.sub(r"\$\{(\w+):[-?]([^}]*)\}", lambda found: values.get(found[1], found[2]), text)


def environment(service: Mapping[str, Any]) -> dict[str, str]:
    return {name: interpolated(value) for name, value in service.get("environment", {}).items()}


def mounts(service: Mapping[str, Any]) -> dict[str, str]:
    """Where a volume is seen inside, and how it may be used."""
    found = {}
    for volume in service.get("volumes", []):
        _, inside, *mode = interpolated(volume, HOST_IMAGES="photos").split(":")
        found[inside] = mode[0] if mode else "rw"
    return found


class Noting(dict[str, str]):
    """An environment that notes the names that were asked for."""

    def __init__(self, values: Mapping[str, str]) -> None:
        super().__init__(values)
        self.asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)


def test_the_compose_file_keeps_to_the_compose_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    subprocess.run([*command, str(ROOT / "docker-compose.yml")], check=True, capture_output=True)


def test_the_compose_file_of_shards_has_a_search_for_each() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    subprocess.run([*command, str(ROOT / "docker-compose.shards.yml")], check=True, capture_output=True)
    services = yaml.safe_load((ROOT / "docker-compose.shards.yml").read_text())["services"]
    *_, count = services["topics"]["command"]
    searches = [name for name in services if name.startswith("search")]
    shards = [KafkaConfig.from_env(environment(services[name])).shard for name in searches]
    assert shards == [Shard(index, int(count)) for index in range(int(count))]
    assert all(services[name]["extends"]["service"] == "search" for name in searches[1:])
    with main.make_context("imagetools", ["--help"], resilient_parsing=True) as context:
        create = main.get_command(context, "topics").get_command(context, "create")  # type: ignore[union-attr]
        assert create.make_context("create", services["topics"]["command"][2:]).params["shards"] == int(count)


def test_the_dockerfile_passes_hadolint() -> None:
    hadolint = shutil.which("hadolint", path=sysconfig.get_path("scripts"))
    if hadolint is None:
        pytest.skip("there is no hadolint for this platform on the package index")
    checked = subprocess.run([hadolint, str(ROOT / "Dockerfile")], check=False, capture_output=True, text=True)
    assert (checked.returncode, checked.stdout) == (0, "")


def test_all_stages_and_the_creation_of_topics_are_there() -> None:
    assert {tuple(service["command"]) for service in OURS.values()} == {
        ("topics", "create"), ("bridge",), *((stage,) for stage in STAGES)
    }  # fmt: skip
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{VERSION}"


@pytest.mark.parametrize("name", OURS)
def test_every_command_is_one_of_the_command_line(name: str) -> None:
    command: click.Command = main
    context = click.Context(main)
    arguments = list(OURS[name]["command"])
    while isinstance(command, click.Group):
        found = command.get_command(context, arguments.pop(0))
        assert found is not None
        command = found
    with command.make_context(name, arguments) as parsed:
        assert parsed.args == []


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_one_that_is_read(name: str, caplog: pytest.LogCaptureFixture) -> None:
    given = Noting(environment(OURS[name]))
    with caplog.at_level(logging.WARNING):
        config = (BridgeConfig if name == "bridge" else Config).from_env(given)
    assert caplog.records == []
    assert config.kafka.bootstrap == "kafka:19092"
    passed_on = {"KAFKA_" + setting.upper().replace(".", "_") for setting in config.kafka.settings}
    assert set(given) <= given.asked | passed_on


def test_every_volume_is_where_its_stage_looks() -> None:
    default = Config()
    images, models, index = map(str, (default.images_dir, default.models_dir, default.index_dir))
    assert mounts(SERVICES["search"]) == {index: "rw"}
    features = environment(SERVICES["matcher"])["FEATURES_DIR"]
    assert mounts(SERVICES["matcher"]) == mounts(SERVICES["grouping"]) == {images: "ro", features: "rw"}
    assert environment(SERVICES["grouping"])["FEATURES_DIR"] == features
    assert mounts(SERVICES["encoder"]) == {images: "ro", models: "ro", features: "rw"}
    assert environment(SERVICES["encoder"])["FEATURES_DIR"] == features
    kept = environment(SERVICES["bridge"])["BRIDGE_DIR"]
    assert mounts(SERVICES["bridge"]) == {images: "ro", kept: "rw"}
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert all(path in dockerfile for path in (images, models, index, features, kept))


def test_stages_start_after_the_topics_and_the_topics_after_kafka() -> None:
    assert SERVICES["topics"]["depends_on"] == {"kafka": {"condition": "service_healthy"}}
    for stage in (*STAGES, "bridge"):
        assert SERVICES[stage]["depends_on"] == {"topics": {"condition": "service_completed_successfully"}}


def test_the_documented_ports_of_the_bridge_are_open_to_this_machine_alone() -> None:
    ports = {int(port.split(":")[2]): port.split(":")[0] for port in SERVICES["bridge"]["ports"]}
    assert ports == dict.fromkeys(BridgeConfig().contract_ports, "127.0.0.1")
    assert environment(SERVICES["bridge"])["BRIDGE_HOST"] == "0.0.0.0"


def test_the_image_holds_every_file_of_the_packages(tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {name.split(".")[0] for name in project["tool"]["setuptools"]["packages"]}
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert packages | {"pyproject.toml", "README.md"} <= allowed
    for name in allowed:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, tmp_path)
    expected = {str(f.relative_to(tmp_path)) for p in packages for f in (tmp_path / p).rglob("*") if f.is_file()}
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", "wheel", "."]
    subprocess.run(build, cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = (tmp_path / "wheel").glob("*.whl")
    assert expected <= set(zipfile.ZipFile(wheel).namelist())


def certificate(folder: Path) -> Path:
    """A key and a certificate for 127.0.0.1, signed by itself, in one file; Kafka reads it, and clients trust it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    both = folder / "broker.pem"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    both.write_bytes(secret + signed.public_bytes(Encoding.PEM))
    trusted = folder / "ca.pem"
    trusted.write_bytes(signed.public_bytes(Encoding.PEM))
    return both


def test_a_cluster_with_a_password_and_tls_is_reached_by_variables(tmp_path: Path) -> None:
    plain, team, controller = (f"127.0.0.1:{port}" for port in free_ports(3))
    login = 'org.apache.kafka.common.security.plain.PlainLoginModule required user_team="a secret";'
    properties = {
        "listeners": f"PLAINTEXT://{plain},TEAM://{team},CONTROLLER://{controller}",
        "advertised.listeners": f"PLAINTEXT://{plain},TEAM://{team},CONTROLLER://{controller}",
        "controller.quorum.bootstrap.servers": controller,
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,TEAM:SASL_SSL",
        "listener.name.team.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.team.plain.sasl.jaas.config": login,
        "listener.name.team.ssl.keystore.type": "PEM",
        "listener.name.team.ssl.keystore.location": str(certificate(tmp_path)),
    }
    variables = {
        "PATH": os.environ["PATH"],
        "KAFKA_BOOTSTRAP_SERVERS": team,
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "PLAIN",
        "KAFKA_SASL_USERNAME": "team",
        "KAFKA_SASL_PASSWORD": "a secret",
        "KAFKA_SSL_CA_LOCATION": str(tmp_path / "ca.pem"),
        "TOPIC_PREFIX": "team.",
    }
    create = [sys.executable, "-m", "imagetools", "topics", "create"]
    with LocalKafka.start(port=int(plain.split(":")[1]), properties=properties):
        made = subprocess.run(create, env=variables, check=False, capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
        assert "team.images.new" in made.stdout.split()


def test_what_the_profiles_add_is_pinned_and_open_to_this_machine_alone() -> None:
    assert {name: service["profiles"] for name, service in PROFILES.items()} == {
        "registry": ["registry"], "prometheus": ["monitoring"], "grafana": ["monitoring"]
    }  # fmt: skip
    assert SERVICES["registry"]["image"].endswith(f":{registry.VERSION}")
    for service in PROFILES.values():
        assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+\.\d+", service["image"])
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_every_file_that_the_compose_file_mounts_is_there() -> None:
    mounted = [volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])]
    files = [path for path in mounted if path.startswith("./")]
    assert len(files) == 5
    assert all((ROOT / path).is_file() for path in files)
    assert all(name in COMPOSE["volumes"] for name in mounted if re.fullmatch(r"\w+", name))


def test_prometheus_asks_every_container_where_it_serves_its_metrics() -> None:
    config = yaml.safe_load((MONITORING / "compose" / "prometheus.yml").read_text())
    jobs = {job["job_name"]: job["dns_sd_configs"][0] for job in config["scrape_configs"]}
    assert set(jobs) == {"imagetools-stages", "imagetools-bridge"}
    assert set(jobs["imagetools-stages"]["names"]) == set(STAGES)
    for stage in STAGES:
        own = Config.from_env(environment(SERVICES[stage]))
        assert (own.metrics_host, own.metrics_port) == ("0.0.0.0", jobs["imagetools-stages"]["port"])
    assert jobs["imagetools-bridge"]["names"] == ["bridge"]
    assert jobs["imagetools-bridge"]["port"] in BridgeConfig().contract_ports
    assert config["rule_files"] == ["alerts.yml"]
    there = mounts(SERVICES["prometheus"])
    assert {"/etc/prometheus/prometheus.yml", "/etc/prometheus/alerts.yml", "/prometheus"} == set(there)
    shards = yaml.safe_load((ROOT / "docker-compose.shards.yml").read_text())["services"]
    assert shards["search-1"]["networks"]["default"]["aliases"] == ["search"]


def test_grafana_finds_its_prometheus_and_the_dashboard() -> None:
    there = mounts(SERVICES["grafana"])
    (source,) = yaml.safe_load((MONITORING / "compose" / "datasource.yml").read_text())["datasources"]
    assert (source["type"], source["isDefault"]) == ("prometheus", True)
    host, port = source["url"].removeprefix("http://").split(":")
    assert SERVICES[host]["ports"] == [f"127.0.0.1:{port}:{port}"]
    (provider,) = yaml.safe_load((MONITORING / "compose" / "dashboards.yml").read_text())["providers"]
    home = environment(SERVICES["grafana"])["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert provider["type"] == "file"
    assert provider["options"]["path"] == str(Path(home).parent)
    assert home in there
    for kind in ("datasources", "dashboards"):
        assert f"/etc/grafana/provisioning/{kind}/imagetools.yml" in there


class Compose:
    """The compose file's services as processes: their commands and environments, on free ports and in a folder.

    outside  Kafka as the programs of the host see it
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = dict(zip(("19092", "9092", "9093"), map(str, free_ports(3)), strict=True))
        self.outside = f"localhost:{self._ports['9092']}"

    def here(self, text: str) -> str:
        """Ports, host names and folders of the containers' network as they are on this machine."""
        text = re.sub(r"\b(19092|9092|9093)\b", lambda found: self._ports[found[1]], text)
        return text.replace("kafka:", "localhost:").replace("/var/lib/kafka/data", str(self._folder / "kafka"))

    def kafka(self) -> JavaProcess:
        """The broker, configured by the program that the image starts with."""
        settings = {name: self.here(value) for name, value in environment(SERVICES["kafka"]).items()}
        defaults, mounted, final = (self._folder / name for name in ("defaults", "mounted", "final"))
        for folder in (defaults, mounted, final):
            folder.mkdir()
        for name in ("server.properties", "log4j2.yaml", "tools-log4j2.yaml"):
            (defaults / name).touch()
        class_path = f"{fetch(KAFKA)}/*"
        wrapper = [
            "kafka.docker.KafkaDockerWrapper",
            "setup",
            "-D",
            str(defaults),
            "-M",
            str(mounted),
            "-F",
            str(final),
        ]
        subprocess.run([str(java()), "-cp", class_path, *wrapper], env=settings, check=True, capture_output=True)
        log = self._folder / "kafka.log"
        return JavaProcess(["-Xmx512m", "-cp", class_path, "kafka.Kafka", str(final / "server.properties")], log=log)

    def registry(self) -> "subprocess.Popen[bytes]":
        """The schema registry, configured by the variables that its image reads."""
        settings = {name: self.here(value) for name, value in environment(SERVICES["registry"]).items()}
        port, management = free_ports(2)
        settings |= {"QUARKUS_HTTP_PORT": str(port), "QUARKUS_MANAGEMENT_PORT": str(management)}
        jar = fetch(registry.REGISTRY) / "quarkus-run.jar"
        self.registry_url = f"http://127.0.0.1:{port}/apis/ccompat/v7"
        with (self._folder / "registry.log").open("wb") as log:
            return subprocess.Popen([str(java()), "-Xmx256m", "-jar", str(jar)], env=settings, stdout=log, stderr=log)

    def healthy(self) -> bool:
        """Whether Kafka's health check passes."""
        kind, *command = SERVICES["kafka"]["healthcheck"]["test"]
        assert kind == "CMD"
        tried = subprocess.run([self.here(word) for word in command], check=False, capture_output=True)
        return tried.returncode == 0

    def start(self, name: str, **more: object) -> "subprocess.Popen[bytes]":
        """One of our services; `more` names the places of its volumes, and a free port, by their variables."""
        settings = {variable: self.here(value) for variable, value in environment(OURS[name]).items()}
        with (self._folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "imagetools", *OURS[name]["command"]],
                env={"PATH": os.environ["PATH"], **settings, **{k: str(v) for k, v in more.items()}},
                stdout=log,
                stderr=log,
            )


@pytest.fixture
def compose(tmp_path: Path) -> Iterator[Compose]:
    found = Compose(tmp_path)
    broker = found.kafka()
    deadline = time.monotonic() + DEADLINE_S
    while not found.healthy():
        assert broker.alive(), broker.tail()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    yield found
    broker.stop()


def sizes_of_groups(reader: Reader) -> list[int]:
    """Return the sizes of the groups that there are now: the first image in the log leads each."""
    newest = {m.key(): record for m, record in zip(reader.messages["groups"], reader.seen["groups"], strict=True)}
    return sorted(record.member_count for record in newest.values() if record is not None)


def subjects_of(url: str, registry: "subprocess.Popen[bytes]", folder: Path) -> set[str]:
    """Return the subjects of a registry, as soon as it answers."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            with urlopen(f"{url}/subjects") as answer:
                return set(json.loads(answer.read()))
        except OSError:
            said = (folder / "registry.log").read_text()
            assert registry.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.1)


def test_what_the_compose_file_runs_finds_duplicates(compose: Compose, tmp_path: Path) -> None:
    """With the profile "registry"."""
    images = tmp_path / "images"
    write_groups(images, 2)
    port, *metrics = free_ports(1 + len(STAGES))
    with ExitStack() as stack:
        running = compose.registry()
        stack.callback(running.wait)
        stack.callback(running.kill)
        topics = compose.start("topics")
        assert topics.wait(DEADLINE_S) == 0, (tmp_path / "topics.log").read_text()
        subjects_of(compose.registry_url, running, tmp_path)
        more: dict[str, dict[str, object]] = {
            "encoder": {"IMAGES_DIR": images},
            "search": {"INDEX_DIR": tmp_path / "location"},
            "matcher": {"IMAGES_DIR": images},
            "grouping": {"IMAGES_DIR": images},
        }
        stages = {
            name: compose.start(name, **more[name], METRICS_PORT=own, SCHEMA_REGISTRY_URL=compose.registry_url)
            for name, own in zip(STAGES, metrics, strict=True)
        }
        stages["bridge"] = compose.start(
            "bridge",
            IMAGES_DIR=images,
            SERVER_PORT=port,
            BRIDGE_DIR=tmp_path / "bridge",
            SCHEMA_REGISTRY_URL=compose.registry_url,
        )
        for stage in stages.values():
            stack.callback(stage.wait)
            stack.callback(stage.kill)
        host = {
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": compose.outside,
            "SCHEMA_REGISTRY_URL": compose.registry_url,
            "IMAGES_DIR": str(images),
        }
        outside = KafkaConfig(compose.outside, registry=compose.registry_url)
        subprocess.run([sys.executable, "-m", "imagetools", "produce", str(images)], env=host, check=True)
        reader = Reader(outside, DUPLICATES, VERDICTS)
        reader.until(lambda seen: len(seen.seen["verdicts"]) == 6)
        reader.close()
        with urlopen(f"http://127.0.0.1:{port}/v1/duplicates", (images / "0.png").read_bytes()) as answer:
            found = json.loads(answer.read())["response"]["duplicated"]
        assert "0 re-encoded.jpg" in {one["relative_path"] for one in found}
        assert set(pairs_of(reader.seen["duplicates"])) == group_pairs(2)
        groups = Reader(outside, GROUPS)
        groups.until(lambda seen: sizes_of_groups(seen) == [3, 3])
        groups.close()
        assert {"images.new-value", "duplicates-value", "groups-value"} <= subjects_of(
            compose.registry_url, running, tmp_path
        )
        assert "kafkasql-journal" in AdminClient(outside.client()).list_topics(timeout=DEADLINE_S).topics
        for own in metrics:
            with urlopen(f"http://127.0.0.1:{own}/metrics") as answer:
                assert b"imagetools_records_in_total" in answer.read()
        for stage in stages.values():
            stage.terminate()
        for name, stage in stages.items():
            grace_s = int(SERVICES[name]["stop_grace_period"].removesuffix("s"))
            assert stage.wait(grace_s) == 0, (tmp_path / f"{name}.log").read_text()
