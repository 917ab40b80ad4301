"""The cost of the stream: the whole pipeline on a real Kafka against the same library in one plain loop.

    python -m bench.pipeline [--photos FOLDER] [--images N]

Both sides see the same images in the same order, with the same batch sizes, threads and neighbors. One run measures
plain, stream, plain, so that a drift of the machine shows. Each side first takes a few images that do not count, which
leaves out the start-up. The figures are wall seconds, and CPU seconds of all processes, Kafka's included.
"""

import hashlib
import itertools
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import click
import cv2
import psutil
from cachetools import LRUCache
from PIL import Image
from rich.console import Console
from rich.table import Table

from bench.pairs import SERIES
from cli.announcing.announce import Announcer
from cli.announcing.sources import NamedImage
from cli.supervising.supervisor import Supervisor
from imagetools.decode import decode_frames
from imagetools.features.cache import MAX_BYTES
from imagetools.features.extract import Features
from imagetools.features.local_codes import local_codes
from imagetools.features.read import box_of, features_of, read_features
from imagetools.fingerprint.encoder import Encoder, Prepared
from imagetools.folder import find_images
from imagetools.hardware import usable_cores
from imagetools.image_root import ImageRoot
from imagetools.index.entry import Entry
from imagetools.index.index import Index
from imagetools.index.search import Hit
from imagetools.matching.verify import verify
from local_kafka.broker import LocalKafka
from schemas.records import Duplicates, Verdict
from streams.config import Config, KafkaConfig
from streams.encoder_consumer import EncoderStage
from streams.kafka.admin import create_topics, reach
from streams.kafka.follower import Follower
from streams.matcher_consumer import HANDFUL
from streams.service import keep_freed_memory
from streams.topics import DUPLICATES, VERDICTS

T = TypeVar("T")

WARM_UP = 64
ALONE = 30
"""Images announced one by one, each after the verdict on the one before."""

STAGES = ("encoder", "search", "matcher")
SHARED = Path(__file__).resolve().parents[2] / "shared" / "photos"
DEADLINE_S = 1800


@dataclass
class Cost:
    """Seconds of one side, in total and by part."""

    wall: float = 0.0
    cpu: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)
    pairs: set[frozenset[str]] = field(default_factory=set)


class PlainLoop:
    """The library alone: encode, search and match batch after batch, in one process."""

    def __init__(self, config: Config, images: Path) -> None:
        self._config = config
        self._images = ImageRoot(images)
        self._encoder = Encoder.load()
        self._index = Index()
        self._features: LRUCache[str, Features] = LRUCache(MAX_BYTES, getsizeof=lambda seen: seen.nbytes)
        self._decoders = ThreadPoolExecutor(usable_cores())
        self._matchers = ThreadPoolExecutor(usable_cores())
        self._order = itertools.count()
        cv2.setNumThreads(1)

    def run(self, paths: Sequence[str]) -> Cost:
        """Process all paths; the cost by part is wall time."""
        cost = Cost(parts=dict.fromkeys(STAGES, 0.0))
        began, cpu = time.monotonic(), time.process_time()
        for batch in _batches(paths, EncoderStage.batch_size):
            start = time.monotonic()
            read = list(self._decoders.map(self._read, batch))
            self._features.update((path, features) for path, (_, features) in zip(batch, read, strict=True))
            described = self._encoder.describe([prepared for prepared, _ in read])
            encoded = time.monotonic()
            change = self._index.change()
            found: list[tuple[str, list[Hit]]] = []
            for path, seen, (_, features) in zip(batch, described, read, strict=True):
                entry = Entry(next(self._order), path, digest=seen.digest)
                placed = change.put(
                    entry,
                    seen.fingerprint,
                    parts=seen.later,
                    codes=local_codes(features),
                    nb_neighbors=self._config.nb_neighbors,
                    nb_local=self._config.nb_local,
                )
                found.append((path, list(placed.neighbors)))
            change.apply()
            searched = time.monotonic()
            cost.pairs |= self._match(found)
            ended = time.monotonic()
            for part, seconds in zip(STAGES, (encoded - start, searched - encoded, ended - searched), strict=True):
                cost.parts[part] += seconds
        cost.wall, cost.cpu = time.monotonic() - began, time.process_time() - cpu
        return cost

    def close(self) -> None:
        """End the threads."""
        self._decoders.shutdown()
        self._matchers.shutdown()
        self._index.close()

    def _read(self, path: str) -> tuple[Prepared, Features]:
        """Look at a file once, as the encoder does."""
        data = self._images.read(path)
        frames = decode_frames(data, path, box=box_of(self._config.matcher))
        prepared = self._encoder.read(data, path, frames=frames, digest=hashlib.sha256(data).digest())
        return prepared, features_of(frames, self._config.matcher)

    def _match(self, found: list[tuple[str, list[Hit]]]) -> set[frozenset[str]]:
        needed = dict.fromkeys(
            p for path, near in found if near for p in (path, *(n.relative_path for n in near if not n.identical))
        )
        seen = dict(zip(needed, self._matchers.map(self._look_at, needed), strict=True))
        pairs = [(path, neighbor) for path, near in found for neighbor in near]

        def same(pair: tuple[str, Hit]) -> bool:
            path, neighbor = pair
            if neighbor.identical:
                return True
            openers = self._images.opener(path), self._images.opener(neighbor.relative_path)
            return verify(seen[path], seen[neighbor.relative_path], self._config.matcher, openers).duplicate

        judged = self._matchers.map(lambda some: [same(pair) for pair in some], _batches(pairs, HANDFUL))
        verdicts = itertools.chain.from_iterable(judged)
        return {frozenset((p, n.relative_path)) for (p, n), yes in zip(pairs, verdicts, strict=True) if yes}

    def _look_at(self, path: str) -> Features:
        known = self._features.get(path)
        if known is None:
            known = self._features[path] = read_features(self._images.opener(path), self._config.matcher)
        return known


class Stream:
    """The whole pipeline: Kafka and three stages, each a process."""

    def __init__(self, images: Path, home: Path) -> None:
        self._stack = ExitStack()
        self._broker = LocalKafka.start(home / "kafka")
        self._stack.callback(self._broker.stop)
        self._kafka = reach(KafkaConfig(self._broker.bootstrap))
        create_topics(self._kafka)
        environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith("KAFKA_")},
            "KAFKA_BOOTSTRAP_SERVERS": self._broker.bootstrap,
            "IMAGES_DIR": str(images),
            "INDEX_DIR": str(home / "index"),
            "FEATURES_DIR": str(home / "features"),
        }
        self._supervisor = Supervisor(environ, home / "logs")
        self._stack.callback(self._supervisor.stop)
        for stage in STAGES:
            self._supervisor.start(stage)
        follower = Follower(self._kafka, (VERDICTS, DUPLICATES), from_beginning=True)
        self._follower = self._stack.enter_context(closing(follower))
        self._announcer = Announcer(self._kafka)
        self._announced = 0

    def run(self, paths: Sequence[str]) -> Cost:
        """Announce all paths and wait for their verdicts; the cost by part is CPU time."""
        cost = Cost()
        before, began, own = self._cpu(), time.monotonic(), time.process_time()
        self._announcer.announce(map(NamedImage, paths), first=self._announced + 1)
        self._announced += len(paths)
        left = set(paths)
        while left:
            for record in self._records():
                if isinstance(record, Verdict):
                    left.discard(record.relative_path)
                elif isinstance(record, Duplicates):
                    cost.pairs |= {frozenset((record.candidate, d.relative_path)) for d in record.duplicated}
            if news := self._supervisor.restart_dead():
                raise click.ClickException("; ".join(news))
            if time.monotonic() - began > DEADLINE_S:
                raise click.ClickException(f"{len(left)} images without a verdict")
        cost.wall = time.monotonic() - began
        after = self._cpu()
        cost.parts = {part: after[part] - before[part] for part in after}
        cost.parts["announcing and watching"] = time.process_time() - own
        cost.cpu = sum(cost.parts.values())
        return cost

    def alone(self, paths: Sequence[str]) -> list[float]:
        """Return the milliseconds from announcement to verdict of each image, one at a time."""
        return [1000 * self.run([path]).wall for path in paths]

    def close(self) -> None:
        """Stop everything."""
        self._stack.close()

    def _records(self) -> Iterator[object]:
        return (seen.record for seen in self._follower.read(0.2))

    def _cpu(self) -> dict[str, float]:
        """Return the CPU seconds of each process so far."""
        pids = {member.stage: member.process.pid for member in self._supervisor.members if member.process}
        pids["kafka"] = self._broker.pid
        return {name: sum(psutil.Process(pid).cpu_times()[:2]) for name, pid in pids.items()}


@click.command()
@click.option("--photos", type=click.Path(exists=True, file_okay=False, path_type=Path), help="A folder of photos.")
@click.option("--images", default=2000, show_default=True, help="Photos to process.")
def main(photos: Path | None, images: int) -> None:
    """Compare the stream with a plain loop over the same library."""
    # as the stages do
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        folder = photos or (SHARED if SHARED.is_dir() else made_photos(home / "photos", WARM_UP + images + ALONE))
        paths = [path for path in find_images(folder) if not path.startswith(SERIES)]
        wanted = WARM_UP + images + ALONE
        paths = paths[:: max(1, len(paths) // wanted)][:wanted]
        warm, counted, single = paths[:WARM_UP], paths[WARM_UP : WARM_UP + images], paths[WARM_UP + images :]
        plain = [_plain(folder, warm, counted)]
        with closing(Stream(folder, home)) as stream:
            stream.run(warm)
            streamed = stream.run(counted)
            alone = stream.alone(single)
        plain.append(_plain(folder, warm, counted))
    _print(plain, streamed, len(counted))
    if alone:
        low, high = sorted(alone)[len(alone) // 2], max(alone)
        Console().print(f"an image alone, from announcement to verdict: median {low:.0f} ms, longest {high:.0f} ms")


def _plain(folder: Path, warm: Sequence[str], counted: Sequence[str]) -> Cost:
    with closing(PlainLoop(Config(), folder)) as loop:
        loop.run(warm)
        return loop.run(counted)


def _print(plain: list[Cost], streamed: Cost, images: int) -> None:
    console = Console()
    wall, cpu = (sum(getattr(p, name) for p in plain) / len(plain) for name in ("wall", "cpu"))
    table = Table("", "plain loop, before", "plain loop, after", "stream", "stream / plain", title=f"{images:,} images")
    table.add_row("wall s", *(f"{c.wall:.1f}" for c in (*plain, streamed)), f"{streamed.wall / wall:.3f}")
    table.add_row("CPU s", *(f"{c.cpu:.1f}" for c in (*plain, streamed)), f"{streamed.cpu / cpu:.3f}")
    table.add_row("ms an image", *(f"{1000 * c.wall / images:.1f}" for c in (*plain, streamed)), "")
    console.print(table)
    parts = Table("", "plain loop: wall s", "stream: CPU s", title="where the time goes")
    for part in dict.fromkeys([*STAGES, *streamed.parts]):
        mean = f"{sum(p.parts[part] for p in plain) / len(plain):.1f}" if part in STAGES else ""
        parts.add_row(part, mean, f"{streamed.parts[part]:.1f}")
    console.print(parts)
    ours, theirs = plain[0].pairs, streamed.pairs
    console.print(f"pairs: {len(ours)} in the plain loop, {len(theirs)} in the stream, {len(ours & theirs)} in both")


def made_photos(folder: Path, count: int) -> Path:
    """Make photos for lack of a folder: different crops of the package's samples."""
    samples = sorted((Path(__file__).resolve().parents[1] / "cli" / "samples").glob("*.jpg"))
    folder.mkdir(parents=True)
    for i in range(count):
        with Image.open(samples[i % len(samples)]) as photo:
            k = i // len(samples)
            x, y = (k * 37) % (photo.width // 2), (k * 53) % (photo.height // 2)
            photo.crop((x, y, x + photo.width // 2, y + photo.height // 2)).save(folder / f"{i}.jpg", quality=88)
    return folder


def _batches(items: Sequence[T], size: int) -> Iterable[Sequence[T]]:
    return (items[i : i + size] for i in range(0, len(items), size))


if __name__ == "__main__":
    main()
