"""The search stage with local codes: candidates by shared detail, with their reason, from the log alone."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from imagetools.errors import IndexMismatch
from imagetools.local_codes import FEW_CODES, LocalCodes, pack_codes
from schemas.neighbor_records import NeighborReason
from schemas.records import Candidates, Embedding, Envelope, ReplyOutcome, SearchRequest
from streams.config import Config
from streams.search_consumer import SearchStage
from streams.stage import Outcome, Received
from streams.topics import CANDIDATES, EMBEDDINGS
from tests.imagetools.index.local_pictures import both, codes_of, view_of
from tests.streams.test_search_stage import embedding, has_candidates, newest_is, vectors
from tests.support.streaming import Reader, running, send

FAR = vectors(30)


def record(n: int, codes: LocalCodes | None = None, *, alert: bool = True) -> Embedding:
    """An image of its own fingerprint and bytes, by default with the codes of picture `n`."""
    packed = pack_codes(codes_of(n) if codes is None else codes)
    return replace(embedding(f"{n}.jpg", FAR[n], n, alert=alert), codes=packed)


def received(records: list[Embedding], first: int = 0) -> list[Received[Embedding]]:
    return [Received(one.relative_path, one, 0, first + i, 1_000 + i) for i, one in enumerate(records)]


def found_in(outcome: Outcome) -> list[tuple[str, str, int]]:
    assert not isinstance(outcome, Exception)
    candidates = outcome[0].record
    assert isinstance(candidates, Candidates)
    return [(n.relative_path, n.reason.value, n.rank) for n in candidates.neighbors]


def stage_in(folder: Path, **settings: int) -> SearchStage:
    return SearchStage(Config(index_dir=folder, **({"nb_neighbors": 1, "nb_plain": 0} | settings)))  # type: ignore[arg-type]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[SearchStage]:
    stage = stage_in(tmp_path)
    yield stage
    stage.close()


def test_a_collage_finds_the_photos_in_it_within_its_batch_and_after_it(stage):
    collage = both(view_of(codes_of(3), 3), view_of(codes_of(4), 4, larger=-16))
    batch = received([*(record(n) for n in range(8)), record(8, collage)])
    outcomes = stage.run(batch)
    fingerprint, *local = found_in(outcomes[8])
    assert fingerprint[1:] == ("fingerprint", 1)
    assert {path for path, *_ in local} | {fingerprint[0]} >= {"3.jpg", "4.jpg"}
    assert [one[1:] for one in local] == [("local", rank) for rank in range(1, len(local) + 1)]
    stage.committed(9)
    later = stage.run(received([record(9, view_of(codes_of(4), 9))], 9))
    assert {"4.jpg", "8.jpg"} <= {path for path, *_ in found_in(later[0])}


def test_a_batch_of_one_answers_as_a_batch_of_many(tmp_path):
    records = [record(n, view_of(codes_of(n % 6), n)) for n in range(24)]
    whole, single = stage_in(tmp_path / "whole"), stage_in(tmp_path / "single")
    together = [found_in(outcome) for outcome in whole.run(received(records))]
    apart = []
    for n, one in enumerate(records):
        apart += [found_in(outcome) for outcome in single.run(received([one], n))]
        single.committed(n + 1)
    # the graph is searched otherwise than the batch; what local codes add is the same
    assert [[one for one in found if one[1] == "local"] for found in together] == [
        [one for one in found if one[1] == "local"] for found in apart
    ]
    assert sum(len(found) for found in together) > 40
    whole.close()
    single.close()


def test_a_dropped_batch_is_computed_again_alike(stage):
    stage.run(received([record(0), record(1)]))
    stage.committed(2)
    batch = received([record(2, view_of(codes_of(0), 2)), record(3, view_of(codes_of(0), 3))], 2)
    first = [found_in(outcome) for outcome in stage.run(batch)]
    stage.aborted()
    assert [found_in(outcome) for outcome in stage.run(batch)] == first
    assert ("2.jpg", "local", 2) in first[1] or ("2.jpg", "fingerprint", 1) in first[1]


def test_unchanged_silent_and_code_free_images_find_nothing_by_detail(stage):
    stage.run(
        received([record(0), record(0), record(1, view_of(codes_of(0), 1), alert=False), embedding("2", FAR[2], 2)])
    )
    stage.committed(4)
    outcomes = stage.run(received([record(0), embedding("3", FAR[3], 3), record(4, codes_of(4))], 4))
    assert found_in(outcomes[0]) == []
    assert [reason for _, reason, _ in found_in(outcomes[1])] == ["fingerprint"]
    assert [reason for _, reason, _ in found_in(outcomes[2])] == ["fingerprint"]


def test_nb_local_bounds_what_detail_adds(tmp_path):
    for nb_local in (0, 2):
        stage = stage_in(tmp_path / str(nb_local), nb_local=nb_local)
        stage.run(received([record(n, view_of(codes_of(0), n)) for n in range(8)]))
        stage.committed(8)
        outcome = stage.run(received([record(8, codes_of(0))], 8))[0]
        local = [one for one in found_in(outcome) if one[1] == "local"]
        assert nb_local - 1 <= len(local) <= nb_local
        stage.close()


def test_an_image_without_detail_is_compared_with_more(tmp_path):
    stage = stage_in(tmp_path, nb_neighbors=2, nb_plain=4, nb_local=0)
    stage.run(received([record(n) for n in range(12)]))
    stage.committed(12)
    many, few, none = view_of(codes_of(0, FEW_CODES), 1), view_of(codes_of(0, FEW_CODES - 1), 1), codes_of(0, 0)
    outcomes = stage.run(received([record(12, many), record(13, few), record(14, none)], 12))
    assert [len(found_in(outcome)) for outcome in outcomes] == [2, 6, 6]
    stage.close()


def test_codes_of_a_wrong_length_are_a_dead_letter_and_change_nothing(stage):
    outcomes = stage.run(received([replace(record(0), codes=b"x" * 33), record(1)]))
    assert isinstance(outcomes[0], IndexMismatch)
    assert "33 bytes of codes" in str(outcomes[0])
    stage.committed(2)
    assert [entry.relative_path for entry in stage.log_index.index.entries()] == ["1.jpg"]


def test_a_request_with_codes_is_answered_both_ways(kafka, tmp_path):
    stage = SearchStage(Config(kafka=kafka, index_dir=tmp_path / "index", nb_neighbors=1, nb_plain=2))
    reader = Reader(kafka, CANDIDATES)
    with running(stage, kafka=kafka):
        send(kafka, EMBEDDINGS, [(f"{n}.jpg", record(n)) for n in range(6)])
        reader.until(has_candidates(6))
        # the index has the first six once it has answered for the seventh
        send(kafka, EMBEDDINGS, [("6.jpg", record(6))])
        reader.until(has_candidates(7))
        envelope = Envelope("1", "b", 0, datetime.now(UTC) + timedelta(minutes=1))
        asked = SearchRequest(envelope, FAR[1], 1, codes=pack_codes(view_of(codes_of(3), 1)))
        (reply,) = stage.answer([asked])
        (plain,) = stage.answer([replace(asked, codes=b"")])
        (upload,) = stage.answer([replace(asked, digest=bytes(32), codes=b"")])
        (refused,) = stage.answer([replace(asked, codes=b"x")])
    reader.close()
    assert [(n.relative_path, n.reason) for n in reply.neighbors] == [
        ("1.jpg", NeighborReason.FINGERPRINT),
        ("3.jpg", NeighborReason.LOCAL),
    ]
    assert [n.relative_path for n in plain.neighbors] == ["1.jpg"]
    assert len(upload.neighbors) == 3, "an image without detail; a vector gets as many neighbors as it asks for"
    assert refused.outcome == ReplyOutcome.REFUSED
    assert "1 bytes of codes" in refused.error_message


def test_detail_is_found_again_from_a_snapshot_and_from_the_log_alone(kafka, tmp_path):
    config = Config(kafka=kafka, index_dir=tmp_path / "index", nb_neighbors=1, nb_plain=0, batch_size=4)
    reader = Reader(kafka, CANDIDATES)
    with running(SearchStage(config), kafka=kafka):
        records = [record(n) for n in range(12)]
        send(kafka, EMBEDDINGS, [(one.relative_path, one) for one in records])
        send(kafka, EMBEDDINGS, [("7.jpg", None)])
        reader.until(has_candidates(12))
    asked = both(view_of(codes_of(3), 1), view_of(codes_of(7), 2))
    for n, folder in ((20, "index"), (21, "elsewhere")):
        with running(SearchStage(replace(config, index_dir=tmp_path / folder)), kafka=kafka):
            send(kafka, EMBEDDINGS, [(f"{n}.jpg", record(n, asked))])
            newest = reader.until(newest_is(f"{n}.jpg")).seen["candidates"][-1]
            by_detail = [one.relative_path for one in newest.neighbors if one.reason == NeighborReason.LOCAL]
            assert "3.jpg" in by_detail or newest.neighbors[0].relative_path == "3.jpg"
            assert "7.jpg" not in by_detail
            send(kafka, EMBEDDINGS, [(f"{n}.jpg", None)])
    reader.close()
