"""What the stream's tests share: scenes to announce, stages in threads, topics read to a condition."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Consumer, KafkaError, TopicPartition
from PIL import Image, ImageDraw, ImageFilter

from schemas.codec import codec
from schemas.records import Duplicates, Record
from streams.config import KafkaConfig
from streams.kafka.admin import end_offsets
from streams.kafka.clients import announcing_producer
from streams.runner import Runner
from streams.stage import Stage
from streams.topics import Topic

DEADLINE_S = 200.0


def scene(seed: int, size: tuple[int, int] = (240, 180)) -> Image.Image:
    """A picture full of corners, unlike that of any other seed."""
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    image = Image.fromarray(low).resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(60):
        x, y = int(rng.integers(0, size[0])), int(rng.integers(0, size[1]))
        w, h = (int(v) for v in rng.integers(6, 50, 2))
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        match int(rng.integers(0, 3)):
            case 0:
                draw.rectangle([x, y, x + w, y + h], fill=colour)
            case 1:
                draw.ellipse([x, y, x + w, y + h], fill=colour)
            case _:
                draw.polygon([(x, y), (x + w, y + h // 3), (x + w // 4, y + h)], fill=colour)
    return image.filter(ImageFilter.GaussianBlur(0.6))


def write_groups(folder: Path, groups: int) -> list[str]:
    """`groups` scenes, each as it is, re-encoded, and resized; the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for seed in range(groups):
        image = scene(seed)
        image.save(folder / f"{seed}.png")
        image.save(folder / f"{seed} re-encoded.jpg", quality=60)
        image.resize((180, 135)).save(folder / f"{seed} resized.jpg", quality=85)
        paths += [f"{seed}.png", f"{seed} re-encoded.jpg", f"{seed} resized.jpg"]
    return paths


def group_pairs(groups: int) -> set[frozenset[str]]:
    """The duplicate pairs among what `write_groups` wrote."""
    pairs = set()
    for seed in range(groups):
        a, b, c = f"{seed}.png", f"{seed} re-encoded.jpg", f"{seed} resized.jpg"
        pairs |= {frozenset((a, b)), frozenset((a, c)), frozenset((b, c))}
    return pairs


def send(kafka: KafkaConfig, topic: Topic, records: Sequence[tuple[str, Record | None]], **options: Any) -> None:
    """Produce records by path, None for a removal; returns when the broker has them."""
    name = kafka.topic(topic.name)
    encode = codec(kafka.registry).encode
    send_raw(kafka, topic, [(p.encode(), None if r is None else encode(name, r)) for p, r in records], **options)


def send_raw(
    kafka: KafkaConfig, topic: Topic, messages: Sequence[tuple[bytes | None, bytes | None]], **options: Any
) -> None:
    """Produce keys and values as they are."""
    failed: list[object] = []

    def delivered(error: object, _message: object) -> None:
        if error:
            failed.append(error)

    producer = announcing_producer(kafka, message_max_bytes=5_000_000)
    for key, value in messages:
        producer.produce(kafka.topic(topic.name), value, key, on_delivery=delivered, **options)
        producer.poll(0)
    assert producer.flush(60) == 0
    assert not failed


class Reader:
    """Everything that a reader of committed records sees on some topics, from their beginning."""

    def __init__(
        self, kafka: KafkaConfig, *topics: Topic, isolation_level: str = "read_committed", group: str = "reader"
    ) -> None:
        from confluent_kafka.admin import AdminClient  # noqa: PLC0415

        self._topics = {kafka.topic(topic.name): topic for topic in topics}
        self._codec = codec(kafka.registry)
        self.seen: dict[str, list[Any]] = {topic.name: [] for topic in topics}
        self.messages: dict[str, list[Any]] = {topic.name: [] for topic in topics}
        self._consumer = Consumer(
            kafka.client(
                group_id=group,
                enable_auto_commit=False,
                isolation_level=isolation_level,
                auto_offset_reset="earliest",
                enable_partition_eof=True,
            )
        )
        admin = AdminClient(kafka.client())
        parts = [TopicPartition(name, n, 0) for name in self._topics for n in end_offsets(admin, name)]
        # those whose end was not reached yet
        self._unread = {(part.topic, part.partition) for part in parts}
        self._consumer.assign(parts)

    def until(self, condition: Callable[["Reader"], object], deadline_s: float = DEADLINE_S) -> "Reader":
        """Read on until the condition holds; AssertionError with what was seen where it does not in time."""
        deadline = time.monotonic() + deadline_s
        while not condition(self):
            assert time.monotonic() < deadline, {name: len(seen) for name, seen in self.seen.items()}
            self.more(0.2)
        return self

    def settled(self, quiet_s: float = 1.0) -> "Reader":
        """Read to the ends, and on until nothing has come for a while: there must not be more than was waited for."""
        began = last = time.monotonic()
        while self._unread or time.monotonic() - last < quiet_s:
            assert time.monotonic() < began + DEADLINE_S, self._unread
            if self.more(0.1):
                last = time.monotonic()
        return self

    def more(self, timeout_s: float) -> int:
        """Take what is there; how many."""
        count = 0
        for message in self._consumer.consume(500, timeout_s):
            error, name, value = message.error(), str(message.topic()), message.value()
            if error is not None and error.code() == KafkaError._PARTITION_EOF:
                self._unread.discard((name, message.partition()))
                continue
            assert error is None, error
            topic = self._topics[name]
            record = self._codec.decode(name, topic.kind, value) if topic.kind and value else None
            self.seen[topic.name].append(record)
            self.messages[topic.name].append(message)
            count += 1
        return count

    def close(self) -> None:
        self._consumer.close()


def pairs_of(alerts: Sequence[Duplicates]) -> list[frozenset[str]]:
    """Every reported pair, as often as it was reported."""
    return [frozenset((alert.candidate, d.relative_path)) for alert in alerts for d in alert.duplicated]


@contextmanager
def running(*stages: Stage[Any], kafka: KafkaConfig, **options: Any) -> Iterator[list[Runner[Any]]]:
    """The stages, each in a thread of its own, stopped at the end; what one raised is raised here."""
    runners = [Runner(stage, kafka, **options) for stage in stages]
    raised: list[BaseException] = []

    def run(runner: Runner[Any]) -> None:
        try:
            runner.run()
        except BaseException as exc:
            raised.append(exc)

    threads = [threading.Thread(target=run, args=(runner,), daemon=True) for runner in runners]
    for thread in threads:
        thread.start()
    try:
        yield runners
    except AssertionError as exc:
        # what a stage raised explains what the test waited for in vain
        if raised:
            raise raised[0] from exc
        raise
    finally:
        for runner in runners:
            runner.stop()
        for thread in threads:
            thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    if raised:
        raise raised[0]
