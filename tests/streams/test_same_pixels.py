"""One pair of files gets one score, to the last digit, whichever way it reaches the matcher."""

import contextlib
import io
import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from bench import animations
from cli import compare as cli_compare
from http_bridge.duplicates import MAX_SENT_SIDE, prepare
from imagetools import ImageRoot, MatcherConfig, read_features, verify
from imagetools.errors import ImageToolsError
from imagetools.features.store import FeatureStore
from imagetools.fingerprint.encoder import Encoder
from imagetools.matching import detail
from schemas.neighbor_records import Neighbor
from schemas.records import Candidates, Duplicates, Envelope, MatchRequest
from streams.encoding import ImageReader
from streams.matcher_consumer import MatcherStage
from streams.stage import Received
from tests.support.pictures import SAMPLES, photo

# every pair is reported, however low its score
CONFIG = MatcherConfig(threshold=0.0)


def _warped(image: Image.Image, rng: random.Random) -> Image.Image:
    """Corners moved by up to 6 %."""
    width, height = image.size
    corners = [(x * width, y * height) for x, y in ((0, 0), (0, 1), (1, 1), (1, 0))]
    moved = [x + rng.uniform(-0.06, 0.06) * (width, height)[i % 2] for i, x in enumerate(sum(corners, ()))]
    return image.transform(image.size, Image.Transform.QUAD, moved, Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs named one and two: large JPEGs and PNGs, strips, drawn pages, animations."""
    folder, rng = tmp_path_factory.mktemp("pairs"), random.Random(4)
    for number, size in enumerate(((1600, 2100), (1900, 1300), (2400, 3200))):
        large = photo(SAMPLES[3 * number]).resize(size)
        large.save(folder / f"jpeg {number} one.jpg", quality=90)
        _warped(large, rng).save(folder / f"jpeg {number} two.jpg", quality=80)
    _warped(photo(SAMPLES[1]).resize((900, 1200)), rng).save(folder / "png one.png")
    photo(SAMPLES[1]).resize((900, 1200)).save(folder / "png two.jpg", quality=92)
    strip = Image.new("RGB", (4000, 330), "navy")
    for number in range(12):
        strip.paste(photo(SAMPLES[number]).resize((300, 300)), (20 + 330 * number, 15))
    strip.save(folder / "strip one.jpg", quality=90)
    _warped(strip, rng).save(folder / "strip two.jpg", quality=85)
    page = Image.new("RGB", (1000, 1400), "white")
    for row in range(24):
        ImageDraw.Draw(page).text((90, 80 + 52 * row), f"Line {row}: {rng.randrange(10**9)}", "black", font_size=26)
    page.save(folder / "page one.png")
    page.resize((800, 1120)).save(folder / "page two.jpg", quality=60)
    frames = animations.black_first(5)
    (folder / "animation one.gif").write_bytes(animations.packed(frames))
    (folder / "animation two.webp").write_bytes(animations.COPIES["half the size"](frames))
    return folder


@pytest.fixture(scope="module")
def pairs(folder: Path) -> list[tuple[str, str]]:
    paths = sorted(path.name for path in folder.iterdir())
    return list(zip(paths[::2], paths[1::2], strict=True))


@pytest.fixture(scope="module")
def expected(folder: Path, pairs: list[tuple[str, str]]) -> dict[str, float]:
    """The library's scores, as in README."""
    images = ImageRoot(folder)
    scores = {}
    for names in pairs:
        openers = images.opener(names[0]), images.opener(names[1])
        features = [read_features(opener, CONFIG) for opener in openers]
        scores[names[0]] = verify(features[0], features[1], CONFIG, openers).score
    return scores


@pytest.fixture(scope="module")
def stage(folder: Path) -> Iterator[MatcherStage]:
    stage = MatcherStage(CONFIG, ImageRoot(folder), workers=2)
    yield stage
    stage.close()


def _ask(stage: MatcherStage, one: str, two: str) -> float:
    (outcome,) = stage.run([Received(one, Candidates(1, one, (Neighbor(two, 0.9),), "model"), 0, 0, 0)])
    assert not isinstance(outcome, ImageToolsError)
    (alert,) = [output.record for output in outcome if isinstance(output.record, Duplicates)]
    return alert.duplicated[0].score


def _post(stage: MatcherStage, one: bytes, size: tuple[int, int], two: str) -> float:
    envelope = Envelope("1", "bridge", 0, datetime.now(UTC) + timedelta(minutes=1))
    request = MatchRequest(envelope, image=one, neighbors=(two,), original_width=size[0], original_height=size[1])
    (reply,) = stage.answer([request])
    assert not reply.error_message
    return reply.duplicated[0].score


def test_the_stage_gives_the_score_of_the_library(folder, pairs, expected, stage):
    assert {one: _ask(stage, one, two) for one, two in pairs} == expected


def test_features_that_the_encoder_hands_over_give_it(folder, pairs, expected, tmp_path):
    store = FeatureStore(tmp_path, 10**9, CONFIG)
    reader = ImageReader(Encoder.load(), ImageRoot(folder), CONFIG, store)
    for name in (name for pair in pairs for name in pair):
        reader.read_file(name)
    store.flush()
    assert store.count() == 2 * len(pairs)
    stage = MatcherStage(CONFIG, ImageRoot(folder), workers=2, store=store)
    try:
        assert {one: _ask(stage, one, two) for one, two in pairs} == expected
    finally:
        stage.close()


def test_compare_prints_it(folder, pairs, expected):
    for one, two in pairs:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            cli_compare.compare(folder / one, folder / two, None, CONFIG)
        found = re.search(r"score (\d\.\d{3})", printed.getvalue())
        assert found is not None
        assert found[1] == f"{expected[one]:.3f}"


def test_a_posted_file_that_travels_as_it_came_gets_it(folder, pairs, expected, stage):
    travelled = 0
    for one, two in pairs:
        upload = prepare((folder / one).read_bytes())
        if upload.image == (folder / one).read_bytes():
            travelled += 1
            assert _post(stage, upload.image, upload.size, two) == expected[one]
    assert travelled >= 4


def test_a_posted_file_that_travels_smaller_differs_little(folder, pairs, expected, stage, monkeypatch):
    monkeypatch.setattr("http_bridge.duplicates.MAX_SENT_PIXELS", 0)
    for one, two in pairs:
        upload = prepare((folder / one).read_bytes())
        assert upload.image != (folder / one).read_bytes()
        assert abs(_post(stage, upload.image, upload.size, two) - expected[one]) < 0.05, one


def test_what_is_sent_is_as_large_as_the_matcher_opens():
    assert MAX_SENT_SIDE == detail.SIDE


@pytest.mark.parametrize("size", [(1400, 5000), (900, 9000), (700, 12_000)])
def test_a_strip_is_decoded_as_large_as_it_is_kept(tmp_path, size):
    noise = np.random.default_rng(3).integers(0, 256, (size[1] // 20, size[0] // 20, 3), dtype=np.uint8)
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(tmp_path / "strip.jpg", quality=95)
    with Image.open(tmp_path / "strip.jpg") as image:
        image.convert("RGB").save(tmp_path / "strip.bmp")
    images = ImageRoot(tmp_path)
    reduced, whole = (read_features(images.opener(f"strip.{name}"), CONFIG) for name in ("jpg", "bmp"))
    for one, two in ((reduced.pyramid[0], whole.pyramid[0]), (reduced.close, whole.close)):
        assert max(one.shape) >= max(two.shape) - 2
