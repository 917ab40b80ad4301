"""The search stage on a real Kafka: what it finds, and that its index is in step with the log."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from schemas.records import Candidates, Embedding, Part
from streams.config import Config, KafkaConfig
from streams.runner import Runner
from streams.search_consumer import SearchStage
from streams.topics import ANNOUNCED_IN, CANDIDATES, DEAD_LETTERS, EMBEDDINGS, VERDICTS
from tests.support.streaming import Reader, running, send

MODEL = "test:1:160"


def newest_is(path: str) -> Callable[[Reader], bool]:
    return lambda reader: reader.seen["candidates"][-1].candidate == path


def has_candidates(count: int) -> Callable[[Reader], bool]:
    return lambda reader: len(reader.seen["candidates"]) >= count


def vectors(n: int, seed: int = 0, d: int = 32) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(n, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def embedding(path: str, vector: np.ndarray, digest: int, *, alert: bool = True, model: str = MODEL) -> Embedding:
    return Embedding(1, path, vector, model, digest.to_bytes(32, "big"), alert)


def collage(path: str, vector: np.ndarray, parts: list[np.ndarray], digest: int) -> Embedding:
    boxes = ((0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0))
    cells = tuple(Part(*box, cell) for box, cell in zip(boxes, parts, strict=True))
    return replace(embedding(path, vector, digest), parts=cells)


def config(kafka: KafkaConfig, folder: Path) -> Config:
    return Config(kafka=kafka, index_dir=folder / "index", nb_neighbors=3, nb_plain=0, batch_size=16)


def candidates(reader: Reader, n: int) -> dict[str, Candidates]:
    """The last `Candidates` of each image, when there are `n` records."""
    reader.until(lambda r: len(r.seen["candidates"]) >= n).settled(0.3)
    assert len(reader.seen["candidates"]) == n
    return {one.candidate: one for one in reader.seen["candidates"]}


def neighbors(found: Candidates) -> list[str]:
    return [n.relative_path for n in found.neighbors]


def test_an_image_sees_those_before_it_and_a_whole_batch_sees_itself(kafka, tmp_path):
    a, b, c = vectors(3)
    near = (a + 0.05 * b) / np.linalg.norm(a + 0.05 * b)
    send(kafka, EMBEDDINGS, [(p, embedding(p, v, i)) for i, (p, v) in enumerate([("a", a), ("b", b), ("near", near)])])
    reader = Reader(kafka, CANDIDATES)
    with running(SearchStage(config(kafka, tmp_path)), kafka=kafka):
        first = candidates(reader, 3)
        send(kafka, EMBEDDINGS, [("c", embedding("c", c, 9)), ("a2", embedding("a2", a, 0))])
        later = candidates(reader, 5)
    assert neighbors(first["a"]) == []
    assert neighbors(first["b"]) == ["a"]
    assert neighbors(first["near"])[0] == "a"
    assert first["near"].neighbors[0].score == pytest.approx(float(a @ near), abs=1e-4)
    assert not first["near"].neighbors[0].identical
    assert neighbors(later["a2"])[0] == "a"
    assert later["a2"].neighbors[0].identical
    reader.close()


def test_a_collage_finds_its_photos_and_a_later_photo_the_collage_also_after_a_restart(kafka, tmp_path):
    a, b, whole = vectors(3)
    reader = Reader(kafka, CANDIDATES)
    with running(SearchStage(config(kafka, tmp_path)), kafka=kafka):
        send(kafka, EMBEDDINGS, [(str(n), embedding(str(n), v, n)) for n, v in enumerate(vectors(20, seed=5))])
        send(kafka, EMBEDDINGS, [("a", embedding("a", a, 100)), ("collage", collage("collage", whole, [a, b], 101))])
        found = candidates(reader, 22)["collage"]
        assert found.neighbors[0].relative_path == "a"
        assert found.neighbors[0].score == pytest.approx(1, abs=1e-5)
        assert len(set(neighbors(found))) == len(found.neighbors) <= 3 * 3
    for folder in ("index", "elsewhere"):
        # from the snapshot, and from the log alone
        again = replace(config(kafka, tmp_path), index_dir=tmp_path / folder)
        with running(SearchStage(again), kafka=kafka):
            send(kafka, EMBEDDINGS, [(folder, embedding(folder, b, 200))])
            last = reader.until(newest_is(folder))
            assert neighbors(last.seen["candidates"][-1])[0] == "collage"
            send(kafka, EMBEDDINGS, [(folder, None)])
    reader.close()


def test_repeats_changes_removals_and_silent_loads(kafka, tmp_path):
    a, b, c = vectors(3)
    reader = Reader(kafka, CANDIDATES)
    with running(SearchStage(config(kafka, tmp_path)), kafka=kafka):
        send(kafka, EMBEDDINGS, [("old", embedding("old", a, 1, alert=False)), ("new", embedding("new", a, 2))])
        seen = candidates(reader, 2)
        assert neighbors(seen["old"]) == []
        assert neighbors(seen["new"]) == ["old"]

        send(kafka, EMBEDDINGS, [("new", embedding("new", a, 2))])
        assert neighbors(candidates(reader, 3)["new"]) == [], "unchanged bytes again"

        send(kafka, EMBEDDINGS, [("new", embedding("new", b, 3))])
        assert neighbors(candidates(reader, 4)["new"]) == ["old"], "changed bytes, compared with others only"

        send(kafka, EMBEDDINGS, [("old", None), ("third", embedding("third", a, 4))])
        assert neighbors(candidates(reader, 5)["third"]) == ["new"], "a removed image is nobody's neighbor"

        send(kafka, EMBEDDINGS, [("old", embedding("old", a, 1)), ("old", embedding("old", c, 5))])
        seen = candidates(reader, 7)
        assert neighbors(reader.seen["candidates"][5])[0] == "third"
        assert "old" not in neighbors(seen["old"])
    reader.close()


def test_an_older_announcement_from_another_partition_does_not_undo_a_newer_one(kafka, tmp_path):
    a, b = vectors(2)
    reader = Reader(kafka, CANDIDATES)
    stage = SearchStage(config(kafka, tmp_path))
    now = int(time.time() * 1000)
    with running(stage, kafka=kafka):
        send(kafka, EMBEDDINGS, [("x", embedding("x", a, 1))], timestamp=now, headers=[(ANNOUNCED_IN, b"0")])
        send(kafka, EMBEDDINGS, [("x", None)], timestamp=now - 5000, headers=[(ANNOUNCED_IN, b"1")])
        send(kafka, EMBEDDINGS, [("x", embedding("x", b, 2))], timestamp=now - 5000, headers=[(ANNOUNCED_IN, b"1")])
        send(kafka, EMBEDDINGS, [("y", embedding("y", a, 3))])
        assert neighbors(candidates(reader, 3)["y"]) == ["x"]
        assert candidates(reader, 3)["y"].neighbors[0].score == pytest.approx(1, abs=1e-5)
        # the same partition keeps its order whatever the clocks say
        send(kafka, EMBEDDINGS, [("x", None)], timestamp=now - 9000, headers=[(ANNOUNCED_IN, b"0")])
        send(kafka, EMBEDDINGS, [("z", embedding("z", a, 4))])
        assert neighbors(candidates(reader, 4)["z"]) == ["y"]
    reader.close()


def test_another_model_or_dimension_is_a_dead_letter_and_the_rest_goes_on(kafka, tmp_path):
    a, b = vectors(2)
    odd = vectors(1, d=16)[0]
    reader = Reader(kafka, CANDIDATES, DEAD_LETTERS, VERDICTS)
    with running(SearchStage(config(kafka, tmp_path)), kafka=kafka):
        send(
            kafka,
            EMBEDDINGS,
            [
                ("a", embedding("a", a, 1)),
                ("other", embedding("other", a, 2, model="another:2:160")),
                ("odd", embedding("odd", odd, 3)),
                ("b", embedding("b", b, 4)),
            ],
        )
        reader.until(lambda r: len(r.seen["dead-letters"]) == 2 and len(r.seen["candidates"]) == 2)
    reasons = [dict(message.headers())["error-message"].decode() for message in reader.messages["dead-letters"]]
    assert any("another:2:160" in reason for reason in reasons)
    assert any("16 dimensions" in reason for reason in reasons)
    assert {v.relative_path for v in reader.seen["verdicts"]} == {"other", "odd"}
    reader.close()


def entries(stage: SearchStage) -> dict[str, bytes]:
    return {entry.relative_path: entry.digest for entry in stage.log_index.index.entries()}


def brought_to(kafka: KafkaConfig, folder: Path, offset: int) -> SearchStage:
    """Make a stage and restore it to an offset."""
    stage = SearchStage(config(kafka, folder))
    for _ in stage.restore(0, offset):
        pass
    assert stage.log_index.offset == offset
    return stage


def test_a_restart_resumes_from_the_log_and_from_a_snapshot(kafka, tmp_path, caplog):
    rows = vectors(60)
    reader = Reader(kafka, CANDIDATES)
    first = SearchStage(config(kafka, tmp_path / "one"))
    with running(first, kafka=kafka):
        send(kafka, EMBEDDINGS, [(str(i), embedding(str(i), rows[i], i)) for i in range(50)])
        send(kafka, EMBEDDINGS, [("7", None), ("8", embedding("8", rows[55], 99))])
        candidates(reader, 51)
        held, offset = entries(first), first.log_index.offset
    assert offset is not None
    assert "7" not in held
    assert len(list((tmp_path / "one" / "index").glob("index-*"))) == 1, "a snapshot at the end"

    caplog.set_level("INFO")
    from_snapshot = brought_to(kafka, tmp_path / "one", offset)
    assert "0 records replayed" in caplog.text
    assert entries(from_snapshot) == held
    from_log = brought_to(kafka, tmp_path / "elsewhere", offset)
    assert entries(from_log) == held
    for query in vectors(10, seed=5):
        assert from_log.log_index.index.search(query, 3) == from_snapshot.log_index.index.search(query, 3)
    ahead = brought_to(kafka, tmp_path / "one", 20)
    assert sorted(entries(ahead)) == sorted(str(i) for i in range(20)), "an index ahead of the log is dropped"
    for stage in (from_snapshot, from_log, ahead):
        stage.close()
    reader.close()


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_two_members_take_over_from_each_other_under_load(kafka, tmp_path, protocol):
    """Ownership moves back and forth while embeddings come; each image gets its candidates once, all before it."""
    rows, copies = vectors(200), 3
    reader = Reader(kafka, CANDIDATES)
    order = [
        (f"{i}-{copy}", embedding(f"{i}-{copy}", rows[i], 1000 * copy + i))
        for copy in range(copies)
        for i in range(200)
    ]
    sent = 0
    kafka = replace(kafka, member=None, group_protocol=protocol)
    for turn in range(6):
        stage = SearchStage(config(kafka, tmp_path / str(turn % 2)))
        with running(stage, kafka=kafka):
            until = (turn + 1) * 100
            send(kafka, EMBEDDINGS, order[sent:until])
            sent = until
            reader.until(has_candidates(until - 40))
            other = SearchStage(config(kafka, tmp_path / "standby"))
            with running(other, kafka=kafka):
                reader.until(has_candidates(until))
    seen = candidates(reader, 600)
    assert len(seen) == 600
    for i in range(200):
        assert neighbors(seen[f"{i}-1"])[0] == f"{i}-0"
        assert set(neighbors(seen[f"{i}-2"])[:2]) == {f"{i}-0", f"{i}-1"}
    reader.close()


def log_of(kafka: KafkaConfig, *batches: tuple[bool, list[tuple[str, Embedding | None]]]) -> None:
    """Write transactions to the embeddings topic; False aborts one."""
    from confluent_kafka import Producer  # noqa: PLC0415

    from schemas.codec import codec  # noqa: PLC0415

    producer = Producer(kafka.client(transactional_id=f"{kafka.prefix}writer"))
    producer.init_transactions(30)
    name, encode = kafka.topic(EMBEDDINGS.name), codec().encode
    for commit, records in batches:
        producer.begin_transaction()
        for path, record in records:
            producer.produce(name, None if record is None else encode(name, record), path.encode())
        producer.flush(30)
        if commit:
            producer.commit_transaction(30)
        else:
            producer.abort_transaction(30)


def restored(kafka: KafkaConfig, folder: Path, offset: int) -> list[str]:
    stage = brought_to(kafka, folder, offset)
    held = sorted(entries(stage))
    stage.close()
    return held


def test_a_log_that_ends_in_an_aborted_transaction(kafka, tmp_path):
    a, b = vectors(2)
    log_of(kafka, (True, [("a", embedding("a", a, 1))]), (False, [("b", embedding("b", b, 2))]))
    # a, commit marker, b, abort marker
    for offset in (2, 3, 4):
        assert restored(kafka, tmp_path, offset) == ["a"]


def test_a_log_of_tombstones_only(kafka, tmp_path):
    log_of(kafka, (True, [("a", None), ("b", None)]), (True, [("a", None)]))
    assert restored(kafka, tmp_path, 5) == []


def test_a_log_whose_last_committed_record_was_compacted_away(bootstrap, kafka, tmp_path):
    """The record just before the committed offset is gone: the replay ends at the first one past it."""
    from confluent_kafka.admin import (  # type: ignore[attr-defined]  # noqa: PLC0415
        AdminClient,
        AlterConfigOpType,
        ConfigEntry,
        ConfigResource,
        ResourceType,
    )

    admin = AdminClient(kafka.client())
    eager = {
        "min.cleanable.dirty.ratio": "0.0",
        "segment.ms": "100",
        "min.compaction.lag.ms": "0",
        "segment.bytes": "1048576",
    }
    entries_ = [ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in eager.items()]
    topic = ConfigResource(ResourceType.TOPIC, kafka.topic(EMBEDDINGS.name), incremental_configs=entries_)
    for future in admin.incremental_alter_configs([topic]).values():
        future.result()
    a, b, c = vectors(3)
    log_of(kafka, (True, [("a", embedding("a", a, 1)), ("b", embedding("b", b, 2))]))
    committed = 2
    log_of(kafka, (True, [("b", embedding("b", c, 3))]))

    # another record rolls the segment, so that the cleaner takes the old one
    deadline = time.monotonic() + 60
    filler = 0
    while True:
        offsets = _offsets(kafka)
        # on a busy machine a reading may come back empty
        if offsets and 1 not in offsets:
            break
        assert time.monotonic() < deadline, offsets
        filler += 1
        log_of(kafka, (True, [("filler", embedding("filler", a, 10 + filler))]))
        Reader(kafka, EMBEDDINGS).settled(0.5).close()
    assert 0 in offsets
    assert restored(kafka, tmp_path, committed) == ["a"]


def _offsets(kafka: KafkaConfig) -> set[int]:
    reader = Reader(kafka, EMBEDDINGS).settled(0.5)
    reader.close()
    return {message.offset() for message in reader.messages["embeddings"]}


def test_the_runner_refuses_to_guess_where_a_group_goes_on(kafka, tmp_path):
    from confluent_kafka.admin import AdminClient  # noqa: PLC0415

    from streams.kafka.errors import OffsetsLost  # noqa: PLC0415

    admin = AdminClient(kafka.client())
    (gone,) = admin.delete_consumer_groups([kafka.topic("search")]).values()
    gone.result()
    runner = Runner(SearchStage(config(kafka, tmp_path)), kafka)
    with pytest.raises(OffsetsLost, match="--from earliest"):
        runner.run()
    a = vectors(1)[0]
    send(kafka, EMBEDDINGS, [("a", embedding("a", a, 1))])
    reader = Reader(kafka, CANDIDATES)
    kafka = replace(kafka, start_from="earliest")
    with running(SearchStage(config(kafka, tmp_path)), kafka=kafka):
        candidates(reader, 1)
    reader.close()
