"""`dedupe`: a collection that was loaded silently gets its own pairs and groups, once, however often it is killed."""

import functools
import re
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import main
from schemas.records import Candidates, Embedding
from streams import encoder_consumer, grouping_consumer, matcher_consumer, search_consumer
from streams.config import Config, KafkaConfig
from streams.deduping import deduper
from streams.deduping.deduper import Deduper, DedupeReplaced, DedupeWriter, neighbor_requests
from streams.deduping.silent_images import read_silent_images
from streams.kafka.lag import LagSampler
from streams.kafka.log_reader import LogReader
from streams.kafka.resharding import reshard
from streams.requests.server import RequestServer
from streams.sharding.shards import Shard
from streams.stage import Output
from streams.topics import CANDIDATES, DUPLICATES, EMBEDDINGS, GROUPS, VERDICTS
from tests.support.bridging import eventually
from tests.support.streaming import Reader, group_pairs, pairs_of, running, scene, write_groups

SHARDS = 2


@contextmanager
def service(kafka: KafkaConfig, images: Path, index: Path) -> Iterator[None]:
    """All stages, in threads."""
    config = Config(kafka=kafka, images_dir=images, source_dir=images, target_dir=images)
    with ExitStack() as stack:
        for shard in (Shard(number, SHARDS) for number in range(SHARDS)):
            own = replace(kafka, shard=shard, member=f"search-{shard.index}")
            search = search_consumer.make(replace(config, kafka=own, index_dir=index))
            server = functools.partial(RequestServer, search, own)
            stack.enter_context(running(search, kafka=own, request_server=server))
        for make in (encoder_consumer.make, matcher_consumer.make, grouping_consumer.make):
            stack.enter_context(running(make(config), kafka=kafka))
        yield


def run(kafka: KafkaConfig, *words: str | Path) -> str:
    broker = ("--kafka-bootstrap-servers", kafka.bootstrap, "--topic-prefix", kafka.prefix)
    result = CliRunner().invoke(main, [*map(str, words), *broker])
    assert result.exit_code == 0, result.output
    return result.stderr


def produce(kafka: KafkaConfig, images: Path, path: Path, *words: str) -> None:
    run(kafka, "produce", path, "--images-dir", images, *words)
    with closing(LagSampler(kafka)) as sampler:
        eventually(lambda: not any(stage.lag for stage in sampler.sample()))


def killed_run(kafka: KafkaConfig) -> DedupeWriter:
    """A run that has committed one image, and has sent all others in a transaction that stays open."""
    writer = DedupeWriter(kafka).__enter__()
    images = read_silent_images(kafka, lambda _offset, _end: None)
    with closing(neighbor_requests(kafka, 5, print)) as requests:
        next(Deduper(images, requests.find).run(kafka, writer))
        deduper = Deduper(images, requests.find)
        with closing(LogReader(kafka, EMBEDDINGS.name, Embedding, 0)) as reader:
            log = [one for one in reader.read(0, 10**6) if one is not None]
        batch = [(one, one.record, place) for one in log if one.record and (place := deduper.wants(one)) is not None]
        outputs = deduper.outputs(batch)
    assert len([output for output, _ in outputs if isinstance(output.record, Candidates)]) >= 4
    producer = writer._producer
    producer.begin()
    for output, headers in outputs:
        producer.send(output, headers)
    # what is sent reaches the broker, and is not committed
    producer._producer.flush(10)
    return writer


def searched(said: str) -> int:
    """How many images a run has searched for."""
    return int(re.search(r"(\d+) searched for", said)[1])  # type: ignore[index]


def test_what_was_loaded_silently_gets_its_pairs_and_groups_once(kafka, tmp_path, monkeypatch):
    monkeypatch.setattr(deduper, "BATCH", 1)
    images = tmp_path / "images"
    write_groups(images, 2)
    scene(0).save(tmp_path / "late.webp", quality=80)
    reshard(kafka, SHARDS)
    reader = Reader(kafka, DUPLICATES, VERDICTS, GROUPS)
    with service(kafka, images, tmp_path / "index"):
        produce(kafka, images, images, "--no-alert", "--no-progress")
        (tmp_path / "late.webp").rename(images / "late.webp")
        produce(kafka, images, images / "late.webp")
        reader.until(lambda seen: len(seen.seen["verdicts"]) == 7)
        late = {frozenset(("late.webp", name)) for name in names(0)}
        assert set(pairs_of(reader.seen["duplicates"])) == late
        assert "6 of 7 images were loaded silently" in run(kafka, "dedupe", "--dry-run")

        killed = killed_run(kafka)
        assert "5 of 7 images were loaded silently" in run(kafka, "dedupe", "--dry-run")
        first = searched(run(kafka, "dedupe", "--prefix", "1"))
        assert first in (2, 3), "of the three, the killed run may have had one"
        killed.__exit__(None, None, None)
        with DedupeWriter(kafka) as replaced, DedupeWriter(kafka), pytest.raises(DedupeReplaced):
            replaced.commit([(Output(CANDIDATES, "0.png", Candidates(1, "0.png")), ())])
        assert first + searched(run(kafka, "dedupe")) == 5
        assert "nothing to search for" in run(kafka, "dedupe")
        # the same bytes again, in either way, alert nothing
        produce(kafka, images, images, "--no-alert", "--no-progress")
        assert "nothing to search for" in run(kafka, "dedupe")
        wanted = late | group_pairs(2)
        reader.until(lambda seen: set(pairs_of(seen.seen["duplicates"])) == wanted)
        whole = [sorted(("late.webp", *names(0))), sorted(names(1))]
        reader.until(lambda seen: sorted(groups_of(seen).values()) == whole, 60)
        reader.settled()
    reader.close()
    pairs = pairs_of(reader.seen["duplicates"])
    assert sorted(map(sorted, pairs)) == sorted(map(sorted, wanted)), "each once"


def names(group: int) -> list[str]:
    """What `write_groups` names the images of one scene."""
    return [f"{group}{end}" for end in (".png", " re-encoded.jpg", " resized.jpg")]


def groups_of(reader: Reader) -> dict[str, list[str]]:
    """The members of each group, by its id."""
    found = zip(reader.messages["groups"], reader.seen["groups"], strict=True)
    newest = {message.key().decode(): record for message, record in found}
    return {key: sorted(one.relative_path for one in record.members) for key, record in newest.items() if record}
