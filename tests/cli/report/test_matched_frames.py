"""The report shows the frames of animations that matched, with their points."""

from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from bench import animations
from cli.compare import compare
from cli.find_results import FindResults
from cli.report.find_report import FindJob
from imagetools.features.read import read_features
from imagetools.folder import REPORT_FILES, Tally
from imagetools.image_root import ImageRoot
from imagetools.matching.config import MatcherConfig
from imagetools.matching.verify import Verification, verify
from schemas.records import Duplicate, Duplicates, Verdict, VerdictOutcome
from streams.pair_evidence import evidence_of
from tests.cli.report.test_pages import Page
from tests.support.pictures import SAMPLES, photo

CONFIG = MatcherConfig()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An animation of three photos, and its last one as a still."""
    folder = tmp_path / "images"
    folder.mkdir()
    slides = [photo(SAMPLES[number]).resize((180, 240)) for number in (0, 4, 8)]
    (folder / "slides.gif").write_bytes(animations.packed(slides))
    slides[2].save(folder / "still.png")
    (tmp_path / "report").mkdir()
    return folder


def verified(folder: Path) -> Verification:
    images = ImageRoot(folder)
    openers = images.opener("still.png"), images.opener("slides.gif")
    return verify(read_features(openers[0], CONFIG), read_features(openers[1], CONFIG), CONFIG, openers)


def away(one: Image.Image, two: Image.Image) -> float:
    """Mean difference of two pictures, of 255."""
    small = [np.asarray(image.convert("RGB").resize((45, 60)), np.float32) for image in (one, two)]
    return float(np.abs(small[0] - small[1]).mean())


def test_the_report_shows_the_frame_that_matched_and_says_which(folder: Path) -> None:
    found = evidence_of("slides.gif", verified(folder))
    assert isinstance(found, Duplicate)
    assert found.inliers
    assert not found.points, "who reads the record shows the first frame"
    results = FindResults(2, alerts=[Duplicates(1, "still.png", (found,))])
    for path, outcome in (("slides.gif", VerdictOutcome.CLEAR), ("still.png", VerdictOutcome.DUPLICATE)):
        results.verdicts[path] = Verdict(1, path, outcome)
    report = folder.parent / "report"
    FindJob(folder, report, results, Tally(), Console(file=StringIO())).finish("")
    page = Page((report / "report.html").read_text("utf-8"))
    assert "Shown: the late frame of the left animation" in page.words
    (shown,) = [source for source in page.all("img", "src") if "frame-" in source]
    still = Image.open(folder / "still.png")
    assert away(Image.open(report / shown), still) < 12
    assert away(Image.open(report / REPORT_FILES / "000000.jpg"), still) > 24
    lines = page.all("path", "d")[0]
    assert lines.count("M") == min(64, found.inliers)


def test_the_picture_of_a_comparison_shows_it_too(folder: Path) -> None:
    assert verified(folder).frames == (0, 2)
    compare(folder / "still.png", folder / "slides.gif", folder.parent / "pair.png", CONFIG)
    picture = Image.open(folder.parent / "pair.png")
    # two frames of one size beside each other, and a caption below
    width = (picture.width - 3 * 16) // 2
    height = round(width * 240 / 180)
    left, right = (picture.crop((at, 16, at + width, 16 + height)) for at in (16, 32 + width))
    assert away(left, right) < 12
