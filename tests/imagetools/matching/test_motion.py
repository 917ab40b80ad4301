import random

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from bench.bursts import BURSTS, cut_out
from imagetools.edits import EDITS
from imagetools.features.extract import extract
from imagetools.matching import motion, overlap
from imagetools.matching.config import MatcherConfig
from imagetools.matching.motion import Motion
from imagetools.matching.verify import Verification, verify
from tests.support.pictures import SAMPLES, photo

CONFIG = MatcherConfig()
STILL = MatcherConfig(alert_moved=False)
Grey = NDArray[np.uint8]


def _verify(candidate: Image.Image, neighbor: Image.Image, config: MatcherConfig = CONFIG) -> Verification:
    return verify(extract(candidate, config), extract(neighbor, config), config)


def _texture(seed: int, side: int) -> Grey:
    noise = np.random.default_rng(seed).uniform(0, 255, (side // 4, side // 4)).astype(np.float32)
    return np.clip(cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)


def _scene(subject: Grey, at: tuple[int, int]) -> Grey:
    ground = _texture(1, 256)
    ground[at[1] : at[1] + len(subject), at[0] : at[0] + len(subject)] = subject
    return ground


def _find(one: Grey, two: Grey) -> Motion:
    found = overlap.cut_out(np.eye(2, 3), (one,), (two,), motion.SIDE)
    assert found is not None
    return motion.find_motion(found)


@pytest.mark.parametrize("step", [(4, 0), (-7, 5), (12, -9)])
def test_what_moved_is_found(step: tuple[int, int]) -> None:
    subject = _texture(2, 72)
    found = _find(_scene(subject, (90, 90)), _scene(subject, (90 + step[0], 90 + step[1])))
    assert 0.03 < found.moved <= found.differing < 0.3


def test_what_covers_is_no_motion() -> None:
    found = _find(_texture(1, 256), _scene(_texture(2, 72), (90, 90)))
    assert found.differing > 0.03
    assert found.moved == 0


def test_another_subject_in_its_place_is_no_motion() -> None:
    assert _find(_scene(_texture(2, 72), (90, 90)), _scene(_texture(3, 72), (97, 90))).moved == 0


def test_equal_pictures_do_not_differ() -> None:
    assert _find(_texture(1, 256), _texture(1, 256)) == Motion(0, 0)


@pytest.mark.parametrize("name", BURSTS)
def test_frames_of_a_burst_are_one_scene_that_moved(name: str) -> None:
    seen = [
        _verify(*BURSTS[name](photo(SAMPLES[number]), photo(SAMPLES[number - 3]), random.Random(number)))
        for number in (4, 8, 12, 20)
    ]
    copies = [found for found in seen if found.duplicate]
    assert len(copies) >= 2
    assert sum(found.edit.startswith("same scene, moved") and found.moved > 0 for found in copies) >= len(copies) - 1


def test_a_setting_keeps_the_frames_of_a_burst() -> None:
    frames = cut_out(photo(SAMPLES[8]), photo(SAMPLES[5]), random.Random(8))
    assert _verify(*frames).duplicate
    for pair in (frames, frames[::-1]):
        found = _verify(*pair, STILL)
        assert (found.duplicate, found.relation, found.gate, found.edit) == (False, "moved", "moved", "")


@pytest.mark.parametrize("name", EDITS)
def test_no_edit_is_a_motion(name: str) -> None:
    for number in (4, 8, 20):
        original = photo(SAMPLES[number])
        found = _verify(EDITS[name](original, random.Random(number), photo(SAMPLES[number - 1])), original, STILL)
        assert found.duplicate
        assert found.moved == 0
