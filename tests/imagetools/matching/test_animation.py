"""Animations are one where their frames are; a still is one frame of one."""

import random

import pytest
from PIL import Image, ImageDraw, ImageOps

from bench import animations
from imagetools.edits import EDITS
from imagetools.features.pack import pack, unpack
from imagetools.features.read import read_features
from imagetools.matching.config import MatcherConfig
from imagetools.matching.verify import Verification, verify
from imagetools.opener import FileOpener
from tests.support.pictures import SAMPLES, photo

CONFIG = MatcherConfig()


def _opener(data: bytes) -> FileOpener:
    return FileOpener(lambda: data, "a")


def _verify(one: bytes, two: bytes) -> Verification:
    openers = _opener(one), _opener(two)
    there = verify(read_features(openers[0], CONFIG), read_features(openers[1], CONFIG), CONFIG, openers)
    back = verify(read_features(openers[1], CONFIG), read_features(openers[0], CONFIG), CONFIG, openers[::-1])
    assert (there.score, there.gate) == (back.score, back.gate)
    return there


def _slides(*numbers: int) -> list[Image.Image]:
    return [photo(SAMPLES[number]).resize((180, 240)) for number in numbers]


def _write(page: Image.Image, at: tuple[int, int], text: str) -> None:
    ImageDraw.Draw(page).text(at, text, fill="black", font_size=24)


def test_one_beginning_and_other_content_are_no_copies():
    for kind, one, two in animations.different(3, 5):
        found = _verify(one, two)
        assert not found.duplicate, kind
        assert "frame: " in found.gate


@pytest.mark.parametrize("name", animations.COPIES)
def test_a_copy_in_another_format_size_or_rate_is_found(name):
    for make in animations.KINDS.values():
        frames = make(3, 1)
        found = _verify(animations.COPIES[name](frames), animations.packed(frames))
        assert found.duplicate, found
        assert found.relation == ("crop" if name == "cropped" else "same")


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_animation_is_found_as_a_photo_is(name):
    slides = [Image.new("RGB", (180, 240)), *_slides(0, 4, 8, 9)]
    edited = [EDITS[name](slide, random.Random(1), slides[-1]) for slide in slides]
    assert _verify(animations.packed(edited), animations.packed(slides)).duplicate


def test_one_other_frame_is_other_content():
    same = _slides(0, 1, 2)
    assert not _verify(animations.packed(same), animations.packed([*same[:2], _slides(3)[0]])).duplicate
    assert not _verify(animations.packed(same), animations.packed([same[0], _slides(3)[0], same[2]])).duplicate


def test_a_still_is_one_frame_of_its_animation():
    frames = [Image.new("RGB", (180, 240)), *_slides(0, 1, 2)]
    animation = animations.packed(frames)
    for at in (1, 3):
        found = _verify(animations.still(frames, at), animation)
        assert found.duplicate
        assert found.edit == "one frame of an animation"
        assert found.relation == "crop"
        assert _verify(animation, animations.still(frames, at)).relation == "contains"
    mirrored = _verify(animations.still([ImageOps.mirror(frames[3])], 0), animation)
    assert mirrored.edit == "one frame of an animation, mirrored"
    assert not _verify(animations.still(_slides(7), 0), animation).duplicate


def test_a_blank_still_is_no_frame_of_what_begins_blank():
    frames = [Image.new("RGB", (180, 240)), *_slides(0, 1)]
    assert not _verify(animations.still(frames, 0), animations.packed(frames)).duplicate


def test_drawn_frames_are_opened_where_they_are_compared():
    """The detail of the first page would decide for all."""
    pages = [Image.new("RGB", (800, 1100), "white") for _ in range(4)]
    cover = _slides(0)[0].resize((800, 1100))
    for page, text in zip(pages, ("Total 413", "Total 418", "Total 413", "Total 413"), strict=True):
        for row in range(20):
            _write(page, (80, 100 + 45 * row), f"Row {row} of the report, as last year")
        _write(page, (80, 1040), text)
    first, other, *_ = (animations.packed([cover, page, cover], "TIFF") for page in pages)
    assert _verify(first, animations.packed([cover, pages[2], cover], "PNG")).duplicate
    found = _verify(first, other)
    assert found.gate == "middle frame: same template, other content"


def test_features_of_frames_come_back_bit_for_bit_and_count():
    features = read_features(_opener(animations.packed(_slides(0, 1, 2))), CONFIG)
    assert len(features.later) == 2
    back = unpack(pack(features))
    assert pack(back) == pack(features)
    assert [one.key for one in back.frames] == [one.key for one in features.frames]
    assert features.nbytes > 2 * features.later[0].nbytes
    with pytest.raises(ValueError, match="smaller"):
        unpack(pack(features)._replace(data=pack(features).data[:-1]))
