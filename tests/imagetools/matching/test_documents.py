"""Documents of one template with other content are no duplicates; their scans are, and so is a copy written on."""

import io
import random

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from bench.document_pairs import near_blank
from bench.documents import DOCUMENTS, document
from bench.scans import reencoded, scanned
from bench.sheets import sheet
from imagetools.decode import decode
from imagetools.edits import Edit, caption
from imagetools.features.extract import extract
from imagetools.matching import detail
from imagetools.matching.config import MatcherConfig
from imagetools.matching.sheets import compare_sheets
from imagetools.matching.verify import Verification, verify
from tests.support.pictures import SAMPLES, photo

CONFIG = MatcherConfig()
ALIKE = ("form", "text page", "poster", "pie", "table", "invoice", "checkerboard")
"""Kinds whose pictures at 256 pixels look the same whatever their content."""


def _verify(one: Image.Image, two: Image.Image) -> Verification:
    return verify(extract(one, CONFIG), extract(two, CONFIG), CONFIG, (lambda box: one, lambda box: two))


def test_nearly_blank_pages_with_marks_in_other_places_are_not_opened() -> None:
    """Among ten thousand of them each is compared with dozens."""
    pages = [Image.new("RGB", (800, 1100), "white") for _ in range(3)]
    for page, place in zip(pages, ((200, 300), (600, 900), (204, 302)), strict=True):
        ImageDraw.Draw(page).ellipse((*place, place[0] + 12, place[1] + 12), fill="black")
    features = [extract(page, CONFIG) for page in pages]

    def unopened(box: object) -> Image.Image:
        raise AssertionError("was opened")

    found = verify(features[0], features[1], CONFIG, (unopened, unopened))
    assert (found.duplicate, found.gate) == (False, "same template, other content")
    with pytest.raises(AssertionError, match="was opened"):
        verify(features[0], features[2], CONFIG, (unopened, unopened))


@pytest.mark.parametrize("kind", ALIKE)
def test_one_template_with_other_content_is_no_duplicate(kind: str) -> None:
    one, two = document(kind, 2, 2), document(kind, 2, 3)
    # what the kept pictures show is not enough
    assert verify(extract(one, CONFIG), extract(two, CONFIG), CONFIG).duplicate
    found = _verify(one, two)
    assert not found.duplicate
    assert found.gate == "same template, other content"
    assert found.regions


def test_what_fills_the_frame_of_a_page_is_told_from_the_kept_pictures() -> None:
    one, two = document("web page", 2, 2), document("web page", 2, 3)
    assert not verify(extract(one, CONFIG), extract(two, CONFIG), CONFIG).duplicate
    assert _verify(one, two).gate == "same template, other content"


@pytest.mark.parametrize("kind", list(DOCUMENTS)[::3])
def test_a_scan_of_a_document_is_a_duplicate(kind: str) -> None:
    page = document(kind, 2, 3)
    assert _verify(page, scanned(page, 3)).duplicate
    assert _verify(reencoded(page, 0), page).duplicate


@pytest.mark.parametrize("kind", ["form", "poster", "table"])
def test_a_scan_of_another_document_is_no_duplicate(kind: str) -> None:
    assert not _verify(document(kind, 2, 2), scanned(document(kind, 2, 3), 3)).duplicate


def test_one_letter_is_seen() -> None:
    pages = [document("text page", 2, 2) for _ in range(2)]
    for page, total in zip(pages, "38", strict=True):
        ImageDraw.Draw(page).text((500, 1060), f"Total 41{total}.20", fill="black", font_size=24)
    found = _verify(*pages)
    assert found.gate == "same template, other content"
    for left, top, right, bottom in (box for boxes in found.regions for box in boxes):
        assert 500 / 800 < left < right < 700 / 800
        assert 1055 / 1100 < top < bottom <= 1


def test_nearly_blank_sheets_are_one_only_by_what_is_on_them() -> None:
    pairs = [pair for pair in near_blank(2) if not pair.copy][::11]
    assert not [pair for pair in pairs if _verify(pair.first.make(), pair.second.make()).duplicate]


@pytest.mark.parametrize("kind", ["dot", "rule", "number"])
def test_a_scan_of_a_nearly_blank_sheet_is_a_duplicate(kind: str) -> None:
    one = sheet(kind, 100, 2)
    found = _verify(one, scanned(one, 3))
    assert found.duplicate
    assert found.relation == "same"


@pytest.mark.parametrize(("kind", "style", "contents"), [("dots", 100, (3, 4)), ("number", 101, (1, 3))])
def test_one_dot_more_or_another_number_on_a_sheet_is_other_content(
    kind: str, style: int, contents: tuple[int, int]
) -> None:
    one, two = (sheet(kind, style, content) for content in contents)
    assert _verify(one, two).gate == "same template, other content"
    assert not _verify(one, scanned(two, 3)).duplicate


def test_it_does_not_matter_which_of_two_sheets_with_a_thin_line_is_turned() -> None:
    page = np.asarray(cv2.line(np.full((1100, 800), 255, np.uint8), (300, 400), (340, 400), (0,), 2), dtype=np.uint8)
    for degrees in (-0.3, 0.3):
        turn = cv2.getRotationMatrix2D((400, 550), degrees, 1)
        turned = np.asarray(cv2.warpAffine(page, turn, (800, 1100), borderValue=(255,)), dtype=np.uint8)
        assert compare_sheets(page, turned, detail.SIDE) is not None
        assert compare_sheets(turned, page, detail.SIDE) is not None


def test_a_dot_elsewhere_is_told_from_the_kept_pictures() -> None:
    one, two = sheet("dot", 100, 2), scanned(sheet("dot", 102, 2), 3)

    def look(box: tuple[int, int]) -> Image.Image:
        raise AssertionError("opened")

    assert not verify(extract(one, CONFIG), extract(two, CONFIG), CONFIG, (look, look)).duplicate


def test_both_blank_is_said() -> None:
    sheets = [Image.new("RGB", size, "white") for size in ((800, 1100), (400, 550), (800, 1100))]
    assert _verify(sheets[0], sheets[1]).gate == "both are blank"
    equal = _verify(sheets[0], sheets[2])
    assert equal.duplicate
    assert (equal.edit, equal.agreement) == ("both are blank", 1)


def test_a_page_that_was_stamped_stays_a_copy() -> None:
    page = document("invoice", 2, 2)
    stamped = page.copy()
    ImageDraw.Draw(stamped).text((420, 880), "PAID", fill=(180, 20, 20), font_size=60)
    found = _verify(stamped, page)
    assert found.duplicate
    assert found.edit == "something added"
    assert _verify(page, stamped).edit == "something removed"
    (box, _), *others = found.regions
    assert not others
    assert 0.5 < box[0] < box[2] < 0.75


def _sticker(image: Image.Image, rng: random.Random, other: Image.Image | None = None) -> Image.Image:
    assert other is not None
    copy = image.copy()
    copy.paste(other.resize((160, 120)), (220, 320))
    return copy


@pytest.mark.parametrize("edit", [caption, _sticker])
def test_an_overlay_on_a_photo_before_white_stays_a_copy(edit: Edit) -> None:
    shirt = Image.new("RGB", (400, 533), "white")
    shirt.paste(photo(SAMPLES[0]).resize((200, 260)), (100, 130))
    assert extract(shirt, CONFIG).drawn
    copy = edit(shirt, random.Random(3), photo(SAMPLES[1]))
    assert _verify(copy, shirt).duplicate


def test_the_verdict_on_documents_is_the_same_both_ways() -> None:
    one, two = document("form", 2, 2), scanned(document("form", 2, 3), 3)
    there, back = _verify(one, two), _verify(two, one)
    assert (there.score, there.gate) == (back.score, back.gate)
    assert there.regions == tuple((ours, theirs) for theirs, ours in back.regions)


def test_photos_are_not_opened_again() -> None:
    def look(box: tuple[int, int]) -> Image.Image:
        raise AssertionError("opened")

    features = extract(photo(SAMPLES[0]), CONFIG)
    assert verify(features, extract(photo(SAMPLES[0]).resize((300, 400)), CONFIG), CONFIG, (look, look)).duplicate


def test_a_white_logo_on_transparency_is_seen() -> None:
    logo, packed = Image.new("RGBA", (40, 40)), io.BytesIO()
    ImageDraw.Draw(logo).ellipse((10, 10, 30, 30), fill="white")
    logo.save(packed, "PNG")
    seen = decode(packed.getvalue(), "logo")
    assert (seen.getpixel((20, 20)), seen.getpixel((2, 2))) == ((255, 255, 255), (0, 0, 0))


def test_noise_alone_is_blank() -> None:
    noise = np.random.default_rng(1).normal(235, 5, (1100, 800)).clip(0, 255).astype(np.uint8)
    assert detail.is_blank(noise)
    assert not detail.is_blank(np.asarray(cv2.circle(noise.copy(), (400, 500), 4, (20,), -1), dtype=np.uint8))
