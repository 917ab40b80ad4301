import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from PIL import ImageOps

from bench.documents import document
from bench.scans import reencoded
from imagetools import opener
from imagetools.decode import decode_frames
from imagetools.errors import ConfigError, ImageToolsError
from imagetools.features import cache
from imagetools.features.extract import Features, extract
from imagetools.features.read import read_features
from imagetools.features.store import FeatureStore
from imagetools.image_root import ImageRoot
from imagetools.matching.config import MatcherConfig
from schemas.neighbor_records import Neighbor
from schemas.records import (
    Candidates,
    Duplicate,
    Duplicates,
    Envelope,
    MatchRequest,
    ReplyOutcome,
    Similar,
    Verdict,
    VerdictOutcome,
)
from streams import matcher_consumer
from streams.config import Config
from streams.matcher_consumer import MatcherStage
from streams.pair_evidence import MAX_SIMILAR, similar_among
from streams.stage import Outcome, Received
from tests.support.streaming import scene


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for seed in range(3):
        scene(seed).save(tmp_path / f"{seed}.png")
    ImageOps.mirror(scene(0)).save(tmp_path / "mirrored.png")
    return tmp_path


@pytest.fixture
def stage(images: Path) -> Iterator[MatcherStage]:
    stage = MatcherStage(MatcherConfig(), ImageRoot(images), workers=8)
    yield stage
    stage.close()


def _ask(candidate: str, *neighbors: str) -> Received[Candidates]:
    near = tuple(Neighbor(path, 0.9) for path in neighbors)
    return Received(candidate, Candidates(1, candidate, near, "model"), 0, 0, 0)


def _records(outcome: Outcome) -> list[object]:
    assert not isinstance(outcome, ImageToolsError)
    return [output.record for output in outcome]


def test_a_copy_becomes_an_alert_with_its_evidence_and_a_stranger_does_not(stage: MatcherStage) -> None:
    (outcome,) = stage.run([_ask("0.png", "mirrored.png", "1.png")])
    verdict, alert = _records(outcome)
    assert isinstance(verdict, Verdict)
    assert verdict.outcome is VerdictOutcome.DUPLICATE
    assert isinstance(alert, Duplicates)
    (found,) = alert.duplicated
    assert (found.relative_path, found.mirrored, found.edit) == ("mirrored.png", True, "mirrored")
    assert found.inliers >= len(found.points) > 10
    assert all(len(point) == 4 and 0 <= min(point) <= max(point) <= 1 for point in found.points)


def test_features_are_computed_once_and_again_when_the_file_changes(
    stage: MatcherStage, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[Features] = []

    def counted(*args: Any) -> Features:
        features = read_features(*args)
        computed.append(features)
        return features

    monkeypatch.setattr(cache, "read_features", counted)
    stage.run([_ask("0.png", "1.png", "2.png"), _ask("1.png", "0.png", "2.png")])
    assert len(computed) == 3
    stage.run([_ask("2.png", "0.png", "1.png")])
    assert len(computed) == 3
    scene(0).save(images / "2.png")
    os.utime(images / "2.png", ns=(1, 1))
    (outcome,) = stage.run([_ask("2.png", "0.png", "1.png")])
    assert len(computed) == 4
    assert isinstance(_records(outcome)[1], Duplicates)


def test_after_a_restart_features_come_from_disk_and_the_verdicts_are_the_same(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [_ask("0.png", "mirrored.png", "1.png"), _ask("2.png", "1.png", "gone.png")]

    def told(store: FeatureStore | None) -> list[object]:
        stage = MatcherStage(MatcherConfig(), ImageRoot(images), workers=8, store=store)
        records = [record for outcome in stage.run(asked) for record in _records(outcome)]
        stage.close()
        return [one.duplicated if isinstance(one, Duplicates) else one for one in records]

    def store() -> FeatureStore:
        return FeatureStore(tmp_path / "features", 10**9, MatcherConfig())

    plain = told(None)
    assert told(store()) == plain
    monkeypatch.setattr(cache, "read_features", lambda *_: pytest.fail("computed although it is on disk"))
    assert told(store()) == plain


def test_a_folder_of_features_that_cannot_be_used_stops_it_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file"):
        matcher_consumer.make(Config(features_dir=tmp_path / "file"))


def test_the_cache_is_bounded_by_bytes(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = extract(ImageRoot(images).open("0.png"), MatcherConfig()).nbytes
    assert 20_000 < one < 200_000
    monkeypatch.setattr(matcher_consumer, "MAX_CACHED_BYTES", int(2.5 * one))
    stage = MatcherStage(MatcherConfig(), ImageRoot(images), workers=2)
    try:
        (outcome,) = stage.run([_ask("0.png", "mirrored.png", "1.png", "2.png")])
        assert len(_records(outcome)) == 2
        assert 0 < len(stage._cache) < 4
        assert stage._cache.nbytes <= 2.5 * one
    finally:
        stage.close()


@pytest.fixture
def forms(tmp_path: Path) -> Path:
    """Two forms of one template with other entries, and the first of them re-encoded."""
    first, second = document("form", 2, 2), document("form", 2, 3)
    first.save(tmp_path / "first.png")
    second.save(tmp_path / "second.png")
    reencoded(first, 0).save(tmp_path / "again.png")
    return tmp_path


def _is_template(found: Similar, path: str) -> None:
    assert (found.relative_path, found.relation) == (path, "template")
    assert found.reason.startswith("same template, other content at ")
    assert found.score < MatcherConfig().threshold
    assert 1 < len(found.regions) <= 16
    for left, top, right, bottom, *there in found.regions:
        assert 0 <= left < right <= 1
        assert 0 <= top < bottom <= 1
        # both pictures have the template in the same place
        assert there == pytest.approx([left, top, right, bottom], abs=0.01)


def test_one_template_with_other_content_is_on_record_for_a_clear_image_and_beside_an_alert(forms: Path) -> None:
    stage = MatcherStage(MatcherConfig(), ImageRoot(forms), workers=2)
    try:
        outcomes = stage.run([_ask("second.png", "first.png"), _ask("again.png", "second.png", "first.png")])
    finally:
        stage.close()
    ((clear,), (beside, alert)) = map(_records, outcomes)
    assert isinstance(clear, Verdict)
    assert clear.outcome is VerdictOutcome.CLEAR
    (found,) = clear.similar
    _is_template(found, "first.png")
    assert isinstance(beside, Verdict)
    assert isinstance(alert, Duplicates)
    assert beside.outcome is VerdictOutcome.DUPLICATE
    (found,) = beside.similar
    _is_template(found, "second.png")
    (duplicate,) = alert.duplicated
    assert (duplicate.relative_path, duplicate.relation, duplicate.regions) == ("first.png", "same", ())


def test_a_reply_has_the_similar_images_as_well(forms: Path) -> None:
    stage = MatcherStage(MatcherConfig(), ImageRoot(forms), workers=2)
    envelope = Envelope("c-1", "c", 0, datetime.now(UTC) + timedelta(minutes=1))
    try:
        (reply,) = stage.answer([MatchRequest(envelope, "again.png", ("second.png", "first.png"))])
    finally:
        stage.close()
    assert reply.outcome is ReplyOutcome.SERVED
    assert [(one.relative_path, one.relation) for one in reply.duplicated] == [("first.png", "same")]
    (found,) = reply.similar
    _is_template(found, "second.png")


def test_frames_of_a_drawn_animation_are_decoded_once_for_all_its_neighbors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = [document("form", seed, seed) for seed in range(3)]
    names = [f"{number}.tiff" for number in range(4)]
    for name in names:
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
    stage = MatcherStage(MatcherConfig(), ImageRoot(tmp_path), workers=4)
    asked = [_ask(names[0], *names[1:])]
    expected = stage.run(asked)
    taken = 0

    def counted(*args: Any, **more: Any) -> Any:
        nonlocal taken
        taken += 1
        return decode_frames(*args, **more)

    monkeypatch.setattr(opener, "decode_frames", counted)
    # the features are known by now
    (outcome,) = stage.run(asked)
    stage.close()
    verdict, alert = _records(outcome)
    assert isinstance(alert, Duplicates)
    assert len(alert.duplicated) == 3
    assert _records(expected[0])[0] == verdict
    assert taken == len(names)


def test_unrelated_pictures_are_not_on_record(stage: MatcherStage) -> None:
    (outcome,) = stage.run([_ask("0.png", "1.png", "2.png")])
    assert _records(outcome) == [Verdict(1, "0.png", VerdictOutcome.CLEAR)]


def test_the_same_bytes_are_identical(stage: MatcherStage) -> None:
    near = (Neighbor("1.png", 1.0, identical=True),)
    (outcome,) = stage.run([Received("0.png", Candidates(1, "0.png", near, "model"), 0, 0, 0)])
    _, alert = _records(outcome)
    assert isinstance(alert, Duplicates)
    assert [(one.relation, one.edit) for one in alert.duplicated] == [("identical", "the same file")]


def test_a_verdict_names_the_best_of_many_similar_images() -> None:
    many = [Similar(f"{n}.png", "template", score=n / 100) for n in range(3 * MAX_SIMILAR)]
    found = similar_among([*many, Duplicate("copy.png", 1.0), None])
    assert list(found) == many[: -MAX_SIMILAR - 1 : -1]
