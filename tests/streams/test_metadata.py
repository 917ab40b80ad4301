"""What a producer says of its images comes back: metadata in records, headers on messages."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imagetools.errors import MessageError
from imagetools.fingerprint.encoder import Encoder
from imagetools.image_root import ImageRoot
from imagetools.matching.config import MatcherConfig
from schemas.metadata import MAX_METADATA_BYTES, metadata_problem
from schemas.records import Embedding, ImageNew
from streams.config import Config, KafkaConfig
from streams.encoder_consumer import EncoderStage
from streams.grouping_consumer import GroupingStage
from streams.matcher_consumer import MatcherStage
from streams.reencoding import ReencoderStage, second_log
from streams.search_consumer import SearchStage
from streams.stage import Received, Stage
from streams.topics import (
    CANDIDATES,
    DEAD_LETTERS,
    DUPLICATES,
    EMBEDDINGS,
    GROUPS,
    IMAGES_NEW,
    VERDICTS,
    Topic,
)
from tests.support.streaming import Reader, running, scene, send

FIRST = {"sku": "4711", "shop": "Zoë & Söhne"}
SECOND = {"sku": "0815", "note": "<b>résumé</b>"}
TRACE = ("trace", b"\x00\xff, or any bytes")
TOO_MUCH = {"note": "x" * MAX_METADATA_BYTES}


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.load()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    scene(1).save(folder / "a.png")
    scene(1).save(folder / "b.jpg", quality=70)
    return folder


def announce(kafka: KafkaConfig, path: str, number: int, metadata: dict[str, str]) -> None:
    headers = [TRACE, ("trace", str(number).encode())]
    send(kafka, IMAGES_NEW, [(path, ImageNew(number, path, metadata=metadata))], headers=headers)


def members(record: object) -> dict[str, object]:
    return {one.relative_path: one.metadata for one in record.members}  # type: ignore[attr-defined]


def test_metadata_and_headers_come_back_in_all_that_follows(kafka, encoder, images, tmp_path):
    root = ImageRoot(images)
    stages: list[Stage[Any]] = [
        EncoderStage(encoder, root, threads=2),
        SearchStage(Config(kafka=kafka, index_dir=tmp_path / "index")),
        MatcherStage(MatcherConfig(), root, workers=2),
    ]
    reader = Reader(kafka, EMBEDDINGS, CANDIDATES, DUPLICATES, VERDICTS, DEAD_LETTERS, GROUPS)

    def verdicts(count: int) -> None:
        reader.until(lambda r: len(r.seen["verdicts"]) == count)

    def groups(count: int) -> None:
        reader.until(lambda r: len(r.seen["groups"]) == count)

    with running(*stages, kafka=kafka):
        with running(GroupingStage(kafka, MatcherConfig(), root), kafka=kafka):
            for number, (path, metadata) in enumerate([("a.png", FIRST), ("b.jpg", SECOND)], 1):
                announce(kafka, path, number, metadata)
                verdicts(number)
            groups(1)
            assert members(reader.seen["groups"][0]) == {"a.png": FIRST, "b.jpg": SECOND}
            # unchanged bytes, other metadata
            announce(kafka, "a.png", 3, {"sku": "4712"})
            groups(2)
            announce(kafka, "gone.png", 4, {})
            announce(kafka, "b.jpg", 5, TOO_MUCH)
            verdicts(5)
        # another process takes the groups over
        with running(GroupingStage(kafka, MatcherConfig(), root), kafka=kafka):
            announce(kafka, "b.jpg", 6, {})
            groups(3)
            verdicts(6)
    reader.settled()

    seen = reader.seen
    assert [one.metadata for one in seen["embeddings"]] == [FIRST, SECOND, {"sku": "4712"}, {}]
    assert sorted((one.request_id, *one.metadata.values()) for one in seen["candidates"]) == [
        (1, *FIRST.values()), (2, *SECOND.values()), (3, "4712"), (6,)
    ]  # fmt: skip
    (alert,) = seen["duplicates"]
    assert (alert.candidate, alert.metadata) == ("b.jpg", SECOND), "and no alert again"
    assert [one.event for one in seen["groups"]] == ["born", "changed", "changed"]
    assert members(seen["groups"][1]) == {"a.png": {"sku": "4712"}, "b.jpg": SECOND}
    assert members(seen["groups"][2]) == {"a.png": {"sku": "4712"}, "b.jpg": {}}, "the state was read from its log"
    said = [one.reason for one in seen["verdicts"] if one.request_id == 5]
    assert said == [
        "MessageError: metadata: 4,100 bytes of names and values, and 4,096 are possible; send less, such as the key "
        "under which your own database has the rest"
    ]

    def traces(topic: Topic) -> list[list[bytes]]:
        return [[value for name, value in one.headers() if name == "trace"] for one in reader.messages[topic.name]]

    for topic in (EMBEDDINGS, CANDIDATES, DUPLICATES, VERDICTS):
        assert traces(topic) == [[TRACE[1], str(one.request_id).encode()] for one in seen[topic.name]]
    assert sorted(traces(DEAD_LETTERS)) == [[TRACE[1], b"4"], [TRACE[1], b"5"]]
    reader.close()


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        ({}, None),
        ({"a": ""}, None),
        ({"é": "x" * (MAX_METADATA_BYTES - 2)}, None),
        ({"é": "x" * (MAX_METADATA_BYTES - 1)}, "4,097 bytes of names and values, and 4,096 are possible"),
        ({"": "x"}, "a name is empty"),
        ({"a": "\ud800"}, "not valid UTF-8"),
    ],
)
def test_metadata_has_limits(metadata, problem):
    found = metadata_problem(metadata)
    assert found is None if problem is None else problem in (found or "")


def test_what_exceeds_the_limit_is_set_aside_before_its_file_is_read(encoder, images):
    stage = EncoderStage(encoder, ImageRoot(images), threads=1)
    batch = [Received("a.png", ImageNew(1, "a.png", metadata=m), 0, 0, 0) for m in (TOO_MUCH, {"": "x"}, FIRST)]
    much, nameless, good = stage.run(batch)
    stage.close()
    assert isinstance(much, MessageError)
    assert isinstance(nameless, MessageError)
    assert good[0].record.metadata == FIRST  # type: ignore[index, union-attr]


def test_another_model_keeps_the_metadata(encoder, images):
    old = Embedding(1, "a.png", np.full(4, 0.5, np.float32), "older", bytes(32), metadata=FIRST)
    stage = ReencoderStage(encoder, ImageRoot(images), second_log("embeddings.2"))
    ((output,),) = stage.run([Received("a.png", old, 0, 0, 0)])  # type: ignore[misc]
    stage.close()
    assert output.record.metadata == FIRST  # type: ignore[union-attr]
