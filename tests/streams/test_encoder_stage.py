"""The encoder looks at each file once: for its fingerprint, its codes, and the features that the matcher needs."""

import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imagetools import decode as decoding
from imagetools import folder_storage
from imagetools.errors import BrokenImage, ImageError, ImageToolsError, MissingImage
from imagetools.features import cache
from imagetools.features.cache import FeatureCache
from imagetools.features.config import FeatureConfig
from imagetools.features.local_codes import local_codes
from imagetools.features.pack import pack
from imagetools.features.read import box_of, features_of
from imagetools.features.store import FeatureStore
from imagetools.fingerprint.encoder import Encoder
from imagetools.folder_storage import file_state
from imagetools.formats import open_image
from imagetools.hardware import usable_cores
from imagetools.image_root import ImageRoot
from imagetools.local_codes import pack_codes
from imagetools.matching.config import MatcherConfig
from imagetools.paths import read_capped
from schemas.neighbor_records import Neighbor
from schemas.records import Candidates, Duplicates, Embedding, EncodeRequest, Envelope, ImageNew, ReplyOutcome
from streams import encoding
from streams.encoder_consumer import EncoderStage
from streams.encoding import ImageReader, readers_of
from streams.matcher_consumer import MatcherStage
from streams.reencoding import ReencoderStage, second_log
from streams.stage import Outcome, Received
from tests.support.pictures import photos
from tests.support.streaming import scene

ROOM = 10**9
ROTATED = 6
NAMES = ("small.png", "large.jpg", "turned.jpg", "grey.png", "strip.jpg", "collage.jpg", "plain.png", "moving.gif")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.load()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One image of each kind that is decoded in its own way."""
    folder = tmp_path_factory.mktemp("images")
    first, second, third, fourth = photos(4)
    scene(1, (90, 70)).save(folder / "small.png")
    large = first.resize((1500, 1100))
    large.save(folder / "large.jpg", quality=90)
    exif = Image.Exif()
    exif[0x0112] = ROTATED
    large.save(folder / "turned.jpg", quality=90, exif=exif)
    second.convert("L").save(folder / "grey.png")
    third.resize((1800, 200)).save(folder / "strip.jpg", quality=90)
    collage = Image.new("RGB", (1230, 1230), "white")
    for i, one in enumerate((first, second, third, fourth)):
        collage.paste(one.resize((600, 600)), (10 + 610 * (i % 2), 10 + 610 * (i // 2)))
    collage.save(folder / "collage.jpg", quality=90)
    Image.new("RGB", (50, 40), "red").save(folder / "plain.png")
    frames = [Image.new("RGB", (300, 240)), *(one.resize((300, 240)) for one in (first, second, third))]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:], duration=100)
    return folder


def config_of(side: int) -> MatcherConfig:
    return MatcherConfig(width=side, height=side)


def announced(*paths: str) -> list[Received[ImageNew]]:
    return [Received(path, ImageNew(i, path), 0, i, 0) for i, path in enumerate(paths)]


def embeddings(outcomes: Any) -> list[Embedding]:
    found = []
    for outcome in outcomes:
        assert not isinstance(outcome, ImageToolsError), outcome
        (output,) = outcome
        assert isinstance(output.record, Embedding)
        found.append(output.record)
    return found


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The name of every image that is decoded."""
    names: list[str] = []

    def noted(data: bytes, name: str) -> Image.Image:
        names.append(name)
        return open_image(data, name)

    monkeypatch.setattr(decoding, "open_image", noted)
    return names


@pytest.mark.parametrize("side", [160, 208, 100])
def test_the_encoders_features_are_the_matchers_bit_for_bit(encoder, folder, tmp_path, side):
    """At 100 pixels the network needs a finer picture than the features."""
    config, images = config_of(side), ImageRoot(folder)
    stage = EncoderStage(encoder, images, features=config, store=FeatureStore(tmp_path, ROOM, config))
    found = dict(zip(NAMES, embeddings(stage.run(announced(*NAMES))), strict=True))
    stage.close()
    store, plain = FeatureStore(tmp_path, ROOM, config), FeatureCache(config)
    for name in NAMES:
        ours, theirs = store.get(images, name, file_state(folder, name) or ""), plain.get(images, name)
        assert ours is not None, name
        assert pack(ours) == pack(theirs), name
        assert found[name].codes == pack_codes(local_codes(theirs)), name
    store.close()
    assert found["plain.png"].codes == b""
    # the middle frame is the whole, since the first is black; its features count for the matcher all the same
    late = found["moving.gif"].parts[0]
    assert (late.left, late.top, late.right, late.bottom) == (0, 0, 1, 1)
    assert found["moving.gif"].codes


def test_fingerprints_are_those_of_the_encoder_alone(encoder, folder):
    stage = EncoderStage(encoder, ImageRoot(folder))
    found = embeddings(stage.run(announced(*NAMES)))
    files = {name: (folder / name).read_bytes() for name in NAMES}
    # of a JPEG, the size that it is decoded at changes the pixels
    frames = {name: decoding.decode_frames(data, name, box=box_of(FeatureConfig())) for name, data in files.items()}
    alone = encoder.describe([encoder.read(files[name], name, frames=frames[name]) for name in NAMES])
    stage.close()
    for one, other in zip(found, alone, strict=True):
        assert float(one.fingerprint @ other.fingerprint) > 0.9999
        assert len(one.parts) == len(other.later)


def matched(folder: Path, store: FeatureStore | None) -> list[Outcome]:
    stage = MatcherStage(MatcherConfig(), ImageRoot(folder), workers=2, store=store)
    near = tuple(Neighbor(name, 0.5) for name in NAMES[2:])
    outcomes = list(stage.run([Received(name, Candidates(1, name, near, "m"), 0, 0, 0) for name in NAMES[:2]]))
    stage.close()
    return outcomes


def evidence(outcomes: list[Outcome]) -> list[object]:
    records: list[Any] = []
    for outcome in outcomes:
        assert not isinstance(outcome, ImageToolsError)
        records += [output.record for output in outcome]
    return [one.duplicated if isinstance(one, Duplicates) else one for one in records]


def test_each_file_is_decoded_once_by_the_encoder_and_never_by_the_matcher(
    encoder, folder, tmp_path, opened, monkeypatch
):
    config = MatcherConfig()
    expected = evidence(matched(folder, None))
    opened.clear()
    stage = EncoderStage(encoder, ImageRoot(folder), features=config, store=FeatureStore(tmp_path, ROOM, config))
    stage.run(announced(*NAMES))
    # the stage is still open: what the matcher finds is what a batch leaves behind
    assert sorted(opened) == sorted(NAMES)
    opened.clear()
    monkeypatch.setattr(cache, "read_features", lambda *_: pytest.fail("computed, although the encoder has"))
    assert evidence(matched(folder, FeatureStore(tmp_path, ROOM, config))) == expected
    assert opened == []
    stage.close()


def test_of_a_file_that_changes_while_it_is_read_no_features_are_kept(encoder, folder, tmp_path, monkeypatch):
    images = tmp_path / "images"
    images.mkdir()
    scene(3).save(images / "a.png")
    before = file_state(images, "a.png")
    config = FeatureConfig()

    def touched(*args: Any) -> bytes:
        data = read_capped(*args)
        os.utime(images / "a.png", ns=(1, 1))
        return data

    monkeypatch.setattr(folder_storage, "read_capped", touched)
    store = FeatureStore(tmp_path / "features", ROOM, config)
    stage = EncoderStage(encoder, ImageRoot(images), features=config, store=store)
    (found,) = embeddings(stage.run(announced("a.png")))
    assert found.codes
    assert store.count() == 0
    assert store.get(ImageRoot(images), "a.png", str(before)) is None
    stage.close()


def test_an_image_that_cannot_be_used_is_the_error_that_it_was(encoder, folder, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    (images / "cut.jpg").write_bytes((folder / "large.jpg").read_bytes()[:3000])
    scene(1).save(images / "good.png")
    config = FeatureConfig()
    store = FeatureStore(tmp_path / "features", ROOM, config)
    stage = EncoderStage(encoder, ImageRoot(images), features=config, store=store)
    cut, gone, good = stage.run(announced("cut.jpg", "gone.jpg", "good.png"))
    assert isinstance(cut, BrokenImage)
    assert isinstance(gone, MissingImage)
    assert embeddings([good])[0].codes
    assert store.count() == 1
    stage.close()


def test_where_only_the_smaller_picture_cannot_be_decoded_the_image_has_no_codes_and_the_matcher_judges(
    encoder, folder, monkeypatch
):
    decode_frames = decoding.decode_frames

    def fails_small(data: bytes, name: str, *, box: Any, **more: Any) -> tuple[Image.Image, ...]:
        if callable(box) and box((800, 800)) == (100, 100):
            raise BrokenImage(name, "damaged in what only a smaller picture reads")
        return decode_frames(data, name, box=box, **more)

    monkeypatch.setattr(encoding, "decode_frames", fails_small)
    stage = EncoderStage(encoder, ImageRoot(folder), features=config_of(100))
    (found,) = embeddings(stage.run(announced("large.jpg")))
    assert found.codes == b""
    assert found.fingerprint.shape == (encoder.dimension,)
    stage.close()


def test_many_files_are_read_at_a_time_and_no_more_are_computed_than_there_are_cores(encoder, tmp_path, monkeypatch):
    readers = readers_of(ImageRoot(tmp_path))
    for number in range(readers):
        scene(number, (120, 90)).save(tmp_path / f"{number}.png")
    together = threading.Barrier(readers)
    lock, running, most = threading.Lock(), 0, 0

    class SlowRoot(ImageRoot):
        """A folder where no read ends before as many have begun as may."""

        def read_with_state(self, relative_path: str) -> tuple[bytes, str | None]:
            together.wait(30)
            return super().read_with_state(relative_path)

    def counted(*args: Any) -> Any:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        features = features_of(*args)
        with lock:
            running -= 1
        return features

    monkeypatch.setattr(encoding, "features_of", counted)
    stage = EncoderStage(encoder, SlowRoot(tmp_path))
    found = embeddings(stage.run(announced(*(f"{number}.png" for number in range(readers)))))
    stage.close()
    assert all(one.codes for one in found)
    assert readers >= 8
    assert 0 < most <= usable_cores()


def request(**asked: Any) -> EncodeRequest:
    deadline = datetime.now(UTC) + timedelta(minutes=1)
    return EncodeRequest(Envelope("c", "b", 0, deadline), **asked)


def test_a_reply_has_the_codes_of_the_embedding(encoder, folder):
    stage = EncoderStage(encoder, ImageRoot(folder))
    (embedding,) = embeddings(stage.run(announced("large.jpg")))
    data = (folder / "large.jpg").read_bytes()
    by_path, sent, gone, broken = stage.answer(
        [
            request(relative_path="large.jpg"),
            request(image=data),
            request(relative_path="gone.jpg"),
            request(image=data[:2000]),
        ]
    )
    stage.close()
    for reply in (by_path, sent):
        assert reply.codes == embedding.codes != b""
        np.testing.assert_allclose(reply.fingerprint, embedding.fingerprint, atol=1e-3)
    assert (gone.outcome, broken.outcome) == (ReplyOutcome.MISSING, ReplyOutcome.REFUSED)
    assert gone.codes == broken.codes == b""


def test_of_large_images_no_frames_wait_for_the_codes(encoder, tmp_path):
    large = scene(3).resize((2400, 1800))
    large.save(tmp_path / "large.png", compress_level=1)
    scene(3).save(tmp_path / "small.png")
    stage = EncoderStage(encoder, ImageRoot(tmp_path))
    (embedding,) = embeddings(stage.run(announced("large.png")))
    (reply,) = stage.answer([request(relative_path="large.png")])
    stage.close()
    assert reply.codes == embedding.codes != b""
    reader = ImageReader(encoder, ImageRoot(tmp_path), FeatureConfig())
    small, look = (reader.look_at((tmp_path / name).read_bytes(), name) for name in ("small.png", "large.png"))
    assert small.frames
    assert not look.frames
    assert not look.data
    assert reader.codes_of(look) == embedding.codes
    assert reader.codes_of(small) != b""


def test_a_reencoded_record_gets_codes(encoder, folder, tmp_path):
    old = Embedding(1, "large.jpg", np.full(4, 0.5, np.float32), "older", bytes(32))
    stage = ReencoderStage(encoder, ImageRoot(folder), second_log("embeddings.2"))
    ((output,),) = stage.run([Received("large.jpg", old, 0, 0, 0)])  # type: ignore[misc]
    stage.close()
    features = FeatureCache(FeatureConfig()).get(ImageRoot(folder), "large.jpg")
    assert isinstance(output.record, Embedding)
    assert output.record.codes == pack_codes(local_codes(features))
    assert output.record.digest == old.digest


@pytest.mark.parametrize("error", [MemoryError("no memory"), RuntimeError("a fault of the program")])
def test_a_fault_that_the_image_did_not_cause_blames_no_image(encoder, folder, monkeypatch, error):
    def fails(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(encoding, "features_of", fails)
    stage = EncoderStage(encoder, ImageRoot(folder))
    with pytest.raises(type(error)) as caught:
        stage.run(announced("large.jpg"))
    assert not isinstance(caught.value, ImageError)
    stage.close()
