"""The single node: its version, its settings and its data folder."""

import json
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path

from imagetools.errors import PrerequisiteMissing
from imagetools.process_logs import keep_copy
from imagetools.scratch import Scratch
from local_kafka.process import JavaProcess
from local_kafka.programs import Program

VERSION = "4.4.0"
KAFKA = Program(
    f"Apache Kafka {VERSION}",
    # Kafka logs through slf4j 1.7 and brings no backend; the simple one writes to standard error
    (f"org.apache.kafka:kafka_2.13:{VERSION}", "org.slf4j:slf4j-simple:1.7.36"),
    megabytes=43,
)

START_S = 60.0
FRUGAL = "-XX:TieredStopAtLevel=1"
"""Compile less: over 3,000 images in a minute, full optimization took a third of the broker's processor time."""

NODE_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    # the defaults ask for three replicas; one node has one
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # the default of 50 suits clusters; each partition is a folder to create, and to load at a restart
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    # a misspelt topic is an error, not a new topic
    "auto.create.topics.enable": "false",
    # members join one after the other: wait for none, and notice a dead one soon
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.min.heartbeat.interval.ms": "200",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.heartbeat.interval.ms": "1000",
    # the open transaction of a killed stage blocks readers until the broker times it out
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    # a year: a service that was off for a while resumes where it stopped
    "offsets.retention.minutes": "525600",
}
"""Settings that differ from Kafka's defaults."""

LOGGING = [
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
]


class BrokerUnavailable(PrerequisiteMissing):
    """No Kafka can be started; the message says what is missing and how to get it."""


def configure(folder: Path, ports: list[int], properties: Mapping[str, str]) -> None:
    """Write server.properties.

    ports       of the broker and of the controller
    properties  override NODE_SETTINGS
    """
    broker, controller = (f"127.0.0.1:{port}" for port in ports)
    settings = {
        **NODE_SETTINGS,
        "listeners": f"PLAINTEXT://{broker},CONTROLLER://{controller}",
        "advertised.listeners": f"PLAINTEXT://{broker},CONTROLLER://{controller}",
        "controller.quorum.bootstrap.servers": controller,
        "log.dirs": str(folder / "data"),
        **properties,
    }
    # Java takes what JSON escapes: it reads properties as Latin-1
    text = "".join(f"{name}={json.dumps(value)[1:-1]}\n" for name, value in settings.items())
    (folder / "server.properties").write_text(text, "ascii")


def format_data(folder: Path, class_path: str, scratch: Path | None) -> None:
    """Give an empty data folder a cluster id; does nothing if it has one. BrokerUnavailable if that fails."""
    if (folder / "data" / "meta.properties").exists():
        return
    cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
    tool = JavaProcess(
        [
            "-Xmx128m", FRUGAL, *LOGGING, "-cp", class_path, "kafka.tools.StorageTool", "format",
            "--standalone", "--cluster-id", cluster, "--config", str(folder / "server.properties"),
        ],
        log=folder / "kafka.log",
        scratch=scratch,
    )  # fmt: skip
    deadline = time.monotonic() + START_S
    while tool.alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    tool.stop(0)
    if not (folder / "data" / "meta.properties").exists():
        log = log_path(folder, scratch)
        raise BrokerUnavailable(f"{KAFKA.title} cannot prepare {folder}: {tool.words()}; its log: {log}")


def log_path(folder: Path, scratch: Scratch | Path | None) -> Path:
    """Return where the log can be read, even after a temporary folder is gone."""
    return keep_copy(folder / "kafka.log") if scratch else folder / "kafka.log"
