"""The two sides that bench.bridge compares: the running service, and the library called in process."""

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import click
import numpy as np

from cli.announcing.announce import Announcer
from cli.announcing.sources import NamedImage
from cli.supervising.supervisor import Supervisor
from imagetools.folder import find_images
from imagetools.image_root import ImageRoot
from imagetools.index.entry import Entry
from imagetools.index.index import Index
from local_kafka.broker import LocalKafka
from local_kafka.ports import free_ports
from schemas.records import EncodeRequest, Envelope, MatchRequest, Reply, Request
from streams import matcher_consumer
from streams.config import Config, KafkaConfig
from streams.encoder_consumer import EncoderStage
from streams.encoding import load_encoder
from streams.kafka.admin import create_topics, reach
from streams.kafka.follower import Follower
from streams.topics import VERDICTS

READY_S = 120.0
# as the command line sets it for the stages; torch reads it when it loads
os.environ.setdefault("GOMP_SPINCOUNT", "3000")


class RunningService:
    """Kafka, the three stages and a bridge, each a process."""

    def __init__(self, images: Path, home: Path) -> None:
        self._stack = ExitStack()
        broker = LocalKafka.start(home / "kafka")
        self._stack.callback(broker.stop)
        self.kafka = reach(KafkaConfig(broker.bootstrap))
        create_topics(self.kafka)
        (self.port,) = free_ports(1)
        environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("KAFKA_", "BRIDGE_"))},
            "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap,
            "IMAGES_DIR": str(images),
            "INDEX_DIR": str(home / "index"),
            "SERVER_PORT": str(self.port),
        }
        supervisor = Supervisor(environ, home / "logs")
        self._stack.callback(supervisor.stop)
        for stage in ("encoder", "search", "matcher", "bridge"):
            supervisor.start(stage)
        self._verdicts = self._stack.enter_context(closing(Follower(self.kafka, [VERDICTS], from_beginning=True)))
        self._announcer = Announcer(self.kafka)
        self._decided = 0
        self._connection = HTTPConnection("127.0.0.1", self.port)

    def announce(self, paths: Sequence[str], *, alert: bool) -> None:
        """Announce images; return when the broker has them."""
        self._announcer.announce(map(NamedImage, paths), alert=alert)

    def decided(self, timeout_s: float = 0.1) -> int:
        """Return the number of images with a verdict so far."""
        self._decided += sum(1 for _ in self._verdicts.read(timeout_s))
        return self._decided

    def ask(self, path: str, body: bytes) -> Any:
        """Send a request on the open connection and return the response; ClickException if it is not served."""
        self._connection.request("POST", path, body)
        answer = self._connection.getresponse()
        told = json.loads(answer.read())
        if answer.status != 200:
            raise click.ClickException(f"{path}: {answer.status}, {told['error_message']}")
        return told["response"]

    def wait(self, path: str, body: bytes) -> None:
        """Repeat a request until it is served."""
        deadline = time.monotonic() + READY_S
        while True:
            try:
                self.ask(path, body)
                return
            except (click.ClickException, OSError):
                self._connection.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def close(self) -> None:
        """Stop everything."""
        self._connection.close()
        self._stack.close()


class LibraryCalls:
    """The library behind the endpoints, without Kafka and HTTP."""

    def __init__(self, images: Path, fingerprints: dict[str, Any]) -> None:
        config = Config(images_dir=images, source_dir=images, target_dir=images)
        self._encoder = EncoderStage(load_encoder(config), ImageRoot(images))
        self._matcher = matcher_consumer.make(config)
        self._index = Index()
        change = self._index.change()
        for order, (path, vector) in enumerate(fingerprints.items()):
            change.add(Entry(order, path), np.asarray(vector, np.float32))
        change.apply()
        self._envelope = Envelope("", "", 0, datetime.now(UTC) + timedelta(days=1))

    def run(self, endpoint: str, body: Any) -> object:
        """Do what the endpoint does."""
        match endpoint:
            case "encoder":
                return _served(self._encoder.answer, EncodeRequest(self._envelope, body["relative_path"]))
            case "search":
                return self._index.search(np.asarray(body["vec_features"], np.float32), body["nb_neighbors"])
            case _:
                neighbors = tuple(body["neighbors"])
                return _served(self._matcher.answer, MatchRequest(self._envelope, body["candidate"], neighbors))

    def close(self) -> None:
        """End the threads."""
        self._encoder.close()
        self._matcher.close()
        self._index.close()


def _served(answer: Callable[[Sequence[Request]], Sequence[Reply]], request: Request) -> Reply:
    (reply,) = answer([request])
    return reply


def lay_out(photos: Path, images: Path, indexed: int, backlog: int) -> tuple[Path, list[str], list[str]]:
    """Fill a folder with photos, under as many names as the backlog needs; return it, the indexed and the waiting."""
    paths = list(find_images(photos))
    # a mix of all kinds, the same each time
    paths = [paths[k] for k in np.random.default_rng(0).permutation(len(paths))]
    held, rest = paths[:indexed], paths[indexed:] or paths
    waiting = [f"waiting/{k // len(rest)}/{rest[k % len(rest)]}" for k in range(backlog)]
    for path in (*held, *waiting):
        target = images / path
        target.parent.mkdir(parents=True, exist_ok=True)
        first = images / "waiting/0" / path.split("/", 2)[-1]
        if path.startswith("waiting/") and first.exists():
            os.link(first, target)
        else:
            shutil.copyfile(photos / path.removeprefix("waiting/0/"), target)
    return images, held, waiting
