"""Starts bridges in processes of their own, and the stages that answer them."""

import functools
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from PIL import Image

from streams import encoder_consumer, matcher_consumer, search_consumer
from streams.config import Config, KafkaConfig
from streams.exit_codes import EXIT_REFUSED
from streams.requests.server import RequestServer
from streams.stage import Stage
from streams.traces.base import NO_TRACES, Traces
from tests.support.streaming import running

ENCODER, SEARCH, MATCHER = "/api-image-encoder", "/api-contextual-search", "/api-instance-matching"
UPLOADS = "/v1/duplicates"
NOWHERE = KafkaConfig("127.0.0.1:1")
"""A broker that no bridge can reach."""

DEADLINE_S = 60.0
START = """
import sys
from dataclasses import replace
from http_bridge.server import main
from streams.config import BridgeConfig
main(replace(BridgeConfig.from_env(), contract_ports=(0, 0, 0)))
"""
"""Runs the bridge on free ports instead of the documented ones."""


def eventually(condition: Callable[[], Any], deadline_s: float = DEADLINE_S) -> Any:
    """Wait until the condition is true, and return its value; AssertionError after the deadline."""
    deadline = time.monotonic() + deadline_s
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


@dataclass(frozen=True)
class Answer:
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Bridge:
    """A running bridge.

    ports  of encoder, search and matcher, or the one port
    """

    process: "subprocess.Popen[bytes]"
    log: Path
    ports: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Any = None,
        *,
        port: int | None = None,
        headers: Mapping[str, str] = {},
    ) -> Answer:
        """Send one request; a body that is not bytes is sent as JSON."""
        connection = HTTPConnection("127.0.0.1", port or self.ports[0], timeout=DEADLINE_S)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        try:
            connection.request(method, path, data, {**self.headers, **headers})
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def post(self, path: str, body: Any, **more: Any) -> Answer:
        return self.ask("POST", path, body, **more)

    def get(self, path: str, **more: Any) -> Answer:
        return self.ask("GET", path, **more)

    def wait_ready(self) -> "Bridge":
        """Wait until the bridge is connected to Kafka."""
        eventually(lambda: self.get("/readyz").status == 200)
        return self


@contextmanager
def bridge(kafka: KafkaConfig, folder: Path, *, images: Path | None = None, **environ: str) -> Iterator[Bridge]:
    """Run a bridge process; its log is in the folder."""
    log = folder / f"bridge-{time.monotonic_ns()}.log"
    settings = _settings(kafka, images or folder / "images", environ)
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-c", START], env=settings, stdout=out, stderr=out)
    try:
        found = Bridge(process, log)

        def listening() -> list[int]:
            text = log.read_text()
            assert process.poll() is None, text
            said = text.partition("listening on ")[2].split("\n")[0]
            return [int(address.rstrip("/,").rpartition(":")[2]) for address in said.split()]

        found.ports = eventually(listening)
        yield found
        if process.poll() is None:
            process.terminate()
            assert process.wait(20) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


def refused_start(kafka: KafkaConfig, **environ: str) -> str:
    """Return the error output of a bridge that cannot start."""
    settings = _settings(kafka, Path(), environ)
    run = subprocess.run(
        [sys.executable, "-c", START], env=settings, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert run.returncode == EXIT_REFUSED, run.stderr
    return run.stderr


def _settings(kafka: KafkaConfig, images: Path, environ: Mapping[str, str]) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PYTHONWARNINGS": "error",
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "TOPIC_PREFIX": kafka.prefix,
        "IMAGES_DIR": str(images),
        **environ,
    }


def stages(kafka: KafkaConfig, images: Path, index: Path) -> list[Stage[Any]]:
    """Make the three stages."""
    config = Config(kafka=kafka, images_dir=images, source_dir=images, target_dir=images, index_dir=index)
    return [encoder_consumer.make(config), search_consumer.make(config), matcher_consumer.make(config)]


@contextmanager
def answering(kafka: KafkaConfig, *stages: Stage[Any], traces: Traces = NO_TRACES) -> Iterator[None]:
    """Run the stages, each in a thread with its request server."""
    with ExitStack() as stack:
        for stage in stages:
            server = functools.partial(RequestServer, stage, kafka, traces=traces)
            stack.enter_context(running(stage, kafka=kafka, request_server=server, traces=traces))
        yield


@dataclass
class Service:
    """A bridge with Kafka and all stages; three of its images are announced."""

    kafka: KafkaConfig
    images: Path
    bridge: Bridge
    folder: Path


def fingerprint_of(asked: Bridge, path: str) -> list[float]:
    answer = asked.post(ENCODER, {"request_id": 1, "relative_path": path})
    assert answer.status == 200, answer.body
    vector: list[float] = answer.json["response"]["fingerprint"]
    return vector


def png(image: Image.Image, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", **options)
    return out.getvalue()
