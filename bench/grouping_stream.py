"""The grouping stage on a real Kafka: CPU time and memory of an image.

    python -m bench.grouping_stream [--images NUMBER] [--files NUMBER]

The images and pairs are those of bench.groups, at most 50 copies of a picture, with random fingerprints. Of the first
part no files are there: the stage takes records, keeps its state and sends groups. Of the second part there are files,
small JPEGs, which the stage compares where pictures contradict, and looks at for their quality; their features are
stored before, as encoders do. The stage is a process of its own. CPU seconds are its own, those of Kafka beside them.
"""

import hashlib
import os
import random
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import psutil
from PIL import Image
from rich.console import Console
from rich.table import Table

from bench.groups import log
from cli.supervising.supervisor import Supervisor
from imagetools.features.cache import FeatureCache
from imagetools.grouping.records import Edge, Placed
from imagetools.image_root import ImageRoot
from local_kafka.broker import LocalKafka
from schemas.codec import codec
from schemas.records import Duplicate, Duplicates, Embedding
from streams.config import Config, KafkaConfig
from streams.feature_store import open_store
from streams.kafka.admin import create_topics, reach
from streams.kafka.clients import announcing_producer
from streams.kafka.lag import LagSampler
from streams.topics import DECISIONS, DUPLICATES, EMBEDDINGS, Topic

DIMENSION = 512
MOST_COPIES = 50
WARM_UP = 100
LOOK_S = 0.2
DEADLINE_S = 1800

Message = tuple[Topic, str, Embedding | Duplicates]


@dataclass(frozen=True)
class Used:
    """Seconds and bytes of the stage, and seconds of Kafka."""

    stage: float
    kafka: float
    resident: int


def images_and_pairs(images: int) -> list[Placed | Edge]:
    """Return a log with this many images."""
    changes = [one for one in log(images * 5, MOST_COPIES, random.Random(0)) if isinstance(one, Placed | Edge)]
    places = [number for number, one in enumerate(changes) if isinstance(one, Placed)]
    return changes[: places[images]] if images < len(places) else changes


def write_file(folder: Path, image: Placed) -> bytes:
    """Write a copy of a picture, each in a quality of its own, and return its SHA-256."""
    picture, copy = (int(part) for part in image.content.split(":"))
    rng = np.random.default_rng(picture)
    small = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    path = folder / image.path
    path.parent.mkdir(parents=True, exist_ok=True)
    small.resize((320, 240), Image.Resampling.BICUBIC).save(path, "JPEG", quality=60 + copy % 36, comment=str(copy))
    return hashlib.sha256(path.read_bytes()).digest()


def messages(changes: list[Placed | Edge], folder: Path | None) -> Iterator[Message]:
    """Yield the records of images and pairs; folder: where the files go, None for no files."""
    rng = np.random.default_rng(0)
    digests = dict[str, bytes]()
    for change in changes:
        if isinstance(change, Placed):
            made = hashlib.sha256(change.content.encode()).digest() if folder is None else write_file(folder, change)
            digests[change.path] = made
            fingerprint = rng.standard_normal(DIMENSION, np.float32)
            yield EMBEDDINGS, change.path, Embedding(1, change.path, fingerprint, "bench:1:112", made)
        else:
            one, two = change.left.path, change.right.path
            found = (Duplicate(two, change.score, relation=change.relation, content=digests[two]),)
            yield DUPLICATES, one, Duplicates(1, one, found, content=digests[one])


class Service:
    """Kafka and one grouping process."""

    def __init__(self, home: Path, images: Path) -> None:
        self._broker = LocalKafka.start(home / "kafka")
        self.kafka = reach(KafkaConfig(self._broker.bootstrap))
        create_topics(self.kafka)
        self.config = Config(kafka=self.kafka, images_dir=images, features_dir=home / "features")
        environ = {
            **{name: text for name, text in os.environ.items() if not name.startswith("KAFKA_")},
            "KAFKA_BOOTSTRAP_SERVERS": self._broker.bootstrap,
            "IMAGES_DIR": str(images),
            "FEATURES_DIR": str(home / "features"),
        }
        self._supervisor = Supervisor(environ, home / "logs")
        self._sampler = LagSampler(self.kafka, {"grouping": DECISIONS})

    def run(self, sent: list[Message]) -> tuple[Used, float]:
        """Send messages, and wait until all are taken; return what that took, and the wall time."""
        if not self._supervisor.members:
            self._supervisor.start("grouping")
        before, began = self._used(), time.monotonic()
        producer, encode = announcing_producer(self.kafka), codec().encode
        for topic, path, record in sent:
            producer.produce(self.kafka.topic(topic.name), encode(topic.name, record), path.encode())
            producer.poll(0)
        producer.flush()
        deadline = time.monotonic() + DEADLINE_S
        while self._sampler.sample()[0].lag:
            if time.monotonic() > deadline:
                raise TimeoutError("the stage has not taken all messages")
            time.sleep(LOOK_S)
        after = self._used()
        used = Used(after.stage - before.stage, after.kafka - before.kafka, after.resident - before.resident)
        return used, time.monotonic() - began

    def close(self) -> None:
        """Stop both."""
        self._sampler.close()
        self._supervisor.stop()
        self._broker.stop()

    def _used(self) -> Used:
        process = self._supervisor.members[0].process
        assert process is not None
        stage, kafka = psutil.Process(process.pid), psutil.Process(self._broker.pid)
        return Used(sum(stage.cpu_times()[:2]), sum(kafka.cpu_times()[:2]), stage.memory_info().rss)


def measure(images: int, *, files: bool) -> Mapping[str, str]:
    """Return one row of the table."""
    with tempfile.TemporaryDirectory() as made:
        home, folder = Path(made), Path(made) / "images"
        folder.mkdir()
        # an empty folder counts as away
        Image.new("RGB", (8, 8)).save(folder / "any image.png")
        changes = images_and_pairs(images + WARM_UP)
        sent = list(messages(changes, folder if files else None))
        first = [n for n, (topic, _, _) in enumerate(sent) if topic is EMBEDDINGS][WARM_UP]
        with closing(Service(home, folder)) as service:
            if files:
                keep_features(service.config, changes)
            service.run(sent[:first])
            used, wall = service.run(sent[first:])
    pairs = sum(topic is DUPLICATES for topic, _, _ in sent[first:])
    return {
        "files": "yes" if files else "no",
        "images": f"{images:,}",
        "pairs": f"{pairs:,}",
        "s": f"{wall:.0f}",
        "CPU ms an image": f"{1000 * used.stage / images:.2f}",
        "Kafka's CPU ms": f"{1000 * used.kafka / images:.2f}",
        "bytes more an image": f"{used.resident / images:,.0f}",
    }


def keep_features(config: Config, changes: list[Placed | Edge]) -> None:
    """Store the features of all files, as encoders do."""
    store = open_store(config)
    assert store is not None
    root, cache = ImageRoot(config.images_dir), FeatureCache(config.matcher, store=store)
    for change in changes:
        if isinstance(change, Placed):
            cache.get(root, change.path)
    store.flush()
    cache.close()


@click.command()
@click.option("--images", default=20_000, show_default=True, type=click.IntRange(1), help="Images without files.")
@click.option("--files", default=1000, show_default=True, type=click.IntRange(1), help="Images with files.")
def main(images: int, files: int) -> None:
    """Run the stage, and print what it takes."""
    rows = [measure(images, files=False), measure(files, files=True)]
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*row.values())
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
