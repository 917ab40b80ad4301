"""Search finds an animation by any of its frames, however many begin with the same one."""

import io
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from imagetools.fingerprint.encoder import Described, Encoder
from imagetools.index.entry import Entry
from imagetools.index.index import Index
from tests.support.pictures import SAMPLES, photo

BLACK = Image.new("RGB", (240, 180))


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.load()


def _gif(*frames: Image.Image) -> bytes:
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:], duration=100)
    return out.getvalue()


def _slide(number: int) -> Image.Image:
    return photo(SAMPLES[number]).resize((240, 180))


def _described(encoder: Encoder, files: Sequence[bytes]) -> list[Described]:
    return encoder.describe([encoder.read(file, "a") for file in files])


def test_later_frames_have_fingerprints_and_a_black_one_is_left_out(encoder):
    black_first, plain, still = _described(
        encoder, [_gif(BLACK, _slide(1), _slide(2)), _gif(_slide(3), _slide(1), _slide(2)), _gif(_slide(1))]
    )
    assert float(black_first.fingerprint @ still.fingerprint) > 0.99
    assert [len(one.later) for one in (black_first, plain, still)] == [1, 2, 0]
    assert float(plain.later[0] @ still.fingerprint) > 0.99
    (black,) = _described(encoder, [_gif(BLACK, BLACK, BLACK)])
    assert not black.later


def test_a_copy_and_a_still_are_found_among_thousands_of_one_beginning():
    """Fingerprints alone: animations whose first frames have one fingerprint."""
    rng, dimension, count = np.random.default_rng(1), 32, 1000
    title = rng.normal(size=dimension).astype(np.float32)
    frames = rng.normal(size=(count, 2, dimension)).astype(np.float32)
    index = Index()
    for start in range(0, count, 50):
        change = index.change()
        for number in range(start, start + 50):
            change.add(Entry(number, f"{number}.gif"), title, parts=list(frames[number]))
        change.apply()
    for number in (7, count // 2, count - 1):
        noise = rng.normal(scale=0.05, size=(2, dimension)).astype(np.float32)
        copy = index.change().search(title, 10, parts=list(frames[number] + noise))
        assert f"{number}.gif" in [hit.relative_path for hit in copy]
        # the earliest of the title, and three by each frame
        assert len(copy) <= 10 + 5 + 2 * 3
        still = index.change().search(frames[number][1] + noise[1], 10)
        assert still[0].relative_path == f"{number}.gif"
    index.close()
