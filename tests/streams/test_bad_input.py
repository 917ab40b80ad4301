"""Bad input through the whole pipeline: each piece ends as a named dead letter, and the good ones around it pass."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagetools.fingerprint.encoder import Encoder
from imagetools.image_root import ImageRoot
from imagetools.matching.config import MatcherConfig
from schemas.codec import codec
from schemas.neighbor_records import Neighbor
from schemas.records import Candidates, ImageNew, State, Verdict
from streams.config import Config, KafkaConfig
from streams.embeddings_log import newest_paths
from streams.encoder_consumer import EncoderStage
from streams.matcher_consumer import MatcherStage
from streams.search_consumer import SearchStage
from streams.topics import CANDIDATES, DEAD_LETTERS, DUPLICATES, EMBEDDINGS, IMAGES_NEW, VERDICTS
from tests.support.streaming import Reader, pairs_of, running, scene, send, send_raw, write_groups


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.load()


def stages(kafka: KafkaConfig, encoder: Encoder, images: Path, home: Path) -> list:
    root = ImageRoot(images)
    return [
        EncoderStage(encoder, root, threads=2),
        SearchStage(Config(kafka=kafka, index_dir=home / "index")),
        MatcherStage(MatcherConfig(), root, workers=2),
    ]


def announce(kafka: KafkaConfig, paths: list[str]) -> None:
    send(kafka, IMAGES_NEW, [(path, ImageNew(i, path)) for i, path in enumerate(paths, 1)])


def bomb(path: Path) -> None:
    """A PNG of 20,000 × 20,000 in a few hundred KB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    row = bytes(1 + 20_000)
    data = b"".join(packer.compress(row) for _ in range(20_000)) + packer.flush()
    head = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b""))


def test_each_bad_image_is_a_named_dead_letter(kafka, encoder, tmp_path):
    images = tmp_path / "images"
    good = write_groups(images, 3)
    secret = tmp_path / "secret.png"
    scene(99).save(secret)
    (images / "empty.jpg").touch()
    (images / "text.jpg").write_text("no image at all, whatever its name says")
    whole = (images / "0 re-encoded.jpg").read_bytes()
    (images / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    bomb(images / "bomb.png")
    os.symlink(secret, images / "link.png")
    (images / "folder.jpg").mkdir()
    bad = {
        "missing.jpg": "MissingImage",
        "empty.jpg": "BrokenImage",
        "text.jpg": "UnsupportedImage",
        "truncated.jpg": "BrokenImage",
        "bomb.png": "ImageTooLarge",
        "../../etc/passwd": "OutsideRoot",
        "../secret.png": "OutsideRoot",
        str(secret): "OutsideRoot",
        "link.png": "OutsideRoot",
        "folder.jpg": "UnsupportedImage",
    }
    mixed = [path for pair in zip(bad, good, strict=False) for path in pair]
    paths = [*mixed, *(set(bad) - set(mixed)), *(set(good) - set(mixed))]
    reader = Reader(kafka, VERDICTS, DUPLICATES, DEAD_LETTERS)
    with running(*stages(kafka, encoder, images, tmp_path), kafka=kafka, dead_letter_limit=100):
        announce(kafka, paths)
        reader.until(lambda r: len(r.seen["verdicts"]) >= len(paths)).settled()
    told = {}
    for message in reader.messages["dead-letters"]:
        headers = {name: value.decode() for name, value in message.headers()}
        told[message.key().decode()] = headers["error-type"]
        assert headers["stage"] == "encoder"
        assert headers["topic"] == kafka.topic("images.new")
        assert message.key().decode() in headers["error-message"]
        assert int(headers["offset"]) >= 0
    assert told == bad
    verdicts: dict[str, Verdict] = {v.relative_path: v for v in reader.seen["verdicts"]}
    assert len(reader.seen["verdicts"]) == len(paths)
    assert {p for p, v in verdicts.items() if v.outcome == "dead_letter"} == set(bad)
    assert all(bad[path] in verdicts[path].reason for path in bad)
    assert len(pairs_of(reader.seen["duplicates"])) == 9
    reader.close()


def test_each_bad_message_is_a_named_dead_letter(kafka, encoder, tmp_path):
    images = tmp_path / "images"
    good = write_groups(images, 2)
    name, encode = kafka.topic("images.new"), codec().encode
    long_path = "long/" * 2000
    new = encode(name, ImageNew(5, "0.png"))
    bad = [
        (b"not avro", b'{"relative_path": "x"}', "not Avro"),
        (b"other schema", encode(name, Candidates(1, "other schema", (Neighbor("a", 0.5),))), "is a record Candidates"),
        (b"unknown schema", b"\xc3\x01" + bytes(8) + b"abc", "not known here"),
        (b"damaged", new[:-3], "damaged"),
        (long_path.encode(), encode(name, ImageNew(6, long_path)), "10,000 bytes"),
        (None, new, "has no key"),
        (b"another key", new, "its key is"),
        (b"\xff\xfe", new, "not UTF-8"),
        (b"", None, "has no key"),
    ]
    reader = Reader(kafka, VERDICTS, DUPLICATES, DEAD_LETTERS)
    with running(*stages(kafka, encoder, images, tmp_path), kafka=kafka, dead_letter_limit=100):
        for i, (key, value, _) in enumerate(bad):
            announce(kafka, good[i : i + 1])
            send_raw(kafka, IMAGES_NEW, [(key, value)])
        reader.until(lambda r: len(r.seen["dead-letters"]) >= len(bad) and len(pairs_of(r.seen["duplicates"])) >= 6)
        reader.settled()
    reasons = [dict(m.headers())["error-message"].decode() for m in reader.messages["dead-letters"]]
    assert len(reasons) == len(bad)
    for _, _, reason in bad:
        assert any(reason in told for told in reasons), (reason, reasons)
    originals = {(m.key(), m.value()) for m in reader.messages["dead-letters"]}
    assert originals == {(key or (None if key is None else b""), value) for key, value, _ in bad}
    dead = [v for v in reader.seen["verdicts"] if v.outcome == "dead_letter"]
    assert {v.relative_path for v in dead} == {
        "not avro",
        "other schema",
        "unknown schema",
        "damaged",
        long_path,
        "0.png",
    }
    assert {v.relative_path for v in reader.seen["verdicts"] if v.outcome != "dead_letter"} == set(good)
    reader.close()


def test_odd_but_good_images_pass(kafka, encoder, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    photo = scene(1)
    Image.new("RGB", (1, 1), "red").save(images / "one pixel.png")
    Image.new("RGB", (300, 200)).save(images / "black.png")
    grey16 = np.asarray(photo.convert("L"), np.uint16) * 257
    Image.fromarray(grey16).save(images / "sixteen bit.png")
    scene(2).convert("CMYK").save(images / "cmyk.jpg")
    frames = [scene(3), scene(4)]
    frames[0].save(images / "animated.gif", save_all=True, append_images=frames[1:])
    names = [
        "with space.png",
        "quote'\".png",
        "ünïcode-日本-🙂.png",
        "deep/er/file.png",
        "<script>alert(1)</script>.png",
    ]
    for i, name in enumerate(names):
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        scene(10 + i).save(images / name)
        scene(10 + i).save(images / f"{i} copy.jpg", quality=70)
    scene(3).save(images / "first frame.png")
    paths = sorted(p.relative_to(images).as_posix() for p in images.rglob("*") if p.is_file())
    reader = Reader(kafka, VERDICTS, DUPLICATES, DEAD_LETTERS)
    with running(*stages(kafka, encoder, images, tmp_path), kafka=kafka):
        announce(kafka, paths)
        reader.until(lambda r: len(r.seen["verdicts"]) >= len(paths)).settled()
    assert not reader.seen["dead-letters"]
    pairs = pairs_of(reader.seen["duplicates"])
    wanted = {frozenset((name, f"{i} copy.jpg")) for i, name in enumerate(names)}
    assert set(pairs) == wanted | {frozenset(("animated.gif", "first frame.png"))}
    reader.close()


def test_401_identical_and_401_re_encoded_files_are_all_reported(kafka, encoder, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    photo = scene(1, (160, 120))
    photo.save(tmp_path / "same.jpg", quality=90)
    same = (tmp_path / "same.jpg").read_bytes()
    other = scene(2, (160, 120))
    for i in range(401):
        (images / f"same {i}.jpg").write_bytes(same)
        other.resize((150 + i % 60, 110 + i % 41)).save(images / f"new {i}.jpg", quality=40 + i % 55)
    paths = sorted(p.name for p in images.iterdir())
    reader = Reader(kafka, VERDICTS, DUPLICATES)
    with running(*stages(kafka, encoder, images, tmp_path), kafka=kafka):
        announce(kafka, paths)
        reader.until(lambda r: len(r.seen["verdicts"]) >= len(paths)).settled()
    assert len(reader.seen["verdicts"]) == 802
    pairs = pairs_of(reader.seen["duplicates"])
    assert len(pairs) == len(set(pairs))
    for kind in ("same", "new"):
        in_any = {path for pair in pairs for path in pair if path.startswith(kind)}
        candidates = {alert.candidate for alert in reader.seen["duplicates"] if alert.candidate.startswith(kind)}
        assert len(in_any) == 401
        assert len(candidates) == 400
    assert all(len({p.split()[0] for p in pair}) == 1 for pair in pairs)
    assert len(pairs) < 802 * 60, "copies of copies do not make millions of pairs"
    reader.close()


def test_the_image_root_away_in_mid_stream_stops_the_stage_and_dead_letters_nothing(kafka, encoder, tmp_path, caplog):
    images = tmp_path / "images"
    paths = write_groups(images, 12)
    reader = Reader(kafka, VERDICTS, DEAD_LETTERS)
    with running(*stages(kafka, encoder, images, tmp_path), kafka=kafka, dead_letter_limit=5):
        announce(kafka, paths[:12])
        reader.until(lambda r: len(r.seen["verdicts"]) >= 12)
        images.rename(tmp_path / "away")
        announce(kafka, paths[12:24])
        reader.until(lambda _: "trying again" in caplog.text)
        reader.settled(2)
        assert len(reader.seen["verdicts"]) == 12
        images.mkdir()
        reader.settled(2)
        assert len(reader.seen["verdicts"]) == 12, "an empty mount point is no reason either"
        images.rmdir()
        (tmp_path / "away").rename(images)
        announce(kafka, paths[24:])
        reader.until(lambda r: len(r.seen["verdicts"]) >= 36).settled()
    assert not reader.seen["dead-letters"]
    assert len(reader.seen["verdicts"]) == 36
    reader.close()


def test_an_unreadable_neighbor_is_left_out_and_named(kafka, encoder, tmp_path):
    images = tmp_path / "images"
    a, b, c = write_groups(images, 1)
    reader = Reader(kafka, VERDICTS, DUPLICATES)
    with running(*stages(kafka, encoder, images, tmp_path), kafka=kafka):
        announce(kafka, [a, b])
        reader.until(lambda r: len(r.seen["verdicts"]) >= 2)
        (images / a).unlink()
        announce(kafka, [c])
        reader.until(lambda r: len(r.seen["verdicts"]) >= 3).settled()
    last = reader.seen["duplicates"][-1]
    assert last.candidate == c
    assert [d.relative_path for d in last.duplicated] == [b]
    assert last.unreadable == (a,)
    assert a in reader.seen["verdicts"][-1].reason
    reader.close()


def test_an_unreadable_candidate_is_a_dead_letter_of_the_matcher(kafka, tmp_path):
    images = tmp_path / "images"
    (a, *_) = write_groups(images, 1)
    reader = Reader(kafka, VERDICTS, DEAD_LETTERS)
    with running(MatcherStage(MatcherConfig(), ImageRoot(images), workers=2), kafka=kafka):
        send(
            kafka,
            CANDIDATES,
            [("gone.png", Candidates(7, "gone.png", (Neighbor(a, 0.9),))), (a, Candidates(8, a)), (a, None)],
        )
        reader.until(lambda r: len(r.seen["verdicts"]) >= 3).settled()
    outcomes = sorted((v.relative_path, v.outcome.value, v.request_id) for v in reader.seen["verdicts"] if v.request_id)
    assert outcomes == [(a, "clear", 8), ("gone.png", "dead_letter", 7)]
    assert [dict(m.headers())["stage"] for m in reader.messages["dead-letters"]] == [b"matcher"] * 2
    reader.close()


def test_names_that_are_wrong_stop_no_stage_however_many_there_are(kafka, encoder, tmp_path):
    images = tmp_path / "images"
    (a, *_) = write_groups(images, 1)
    reader = Reader(kafka, DEAD_LETTERS, EMBEDDINGS)
    announce(kafka, [f"missing {i}.jpg" for i in range(130)])
    stage = EncoderStage(encoder, ImageRoot(images), threads=2)
    with running(stage, kafka=kafka, dead_letter_limit=20):
        reader.until(lambda r: len(r.seen["dead-letters"]) >= 130)
        announce(kafka, [a])
        reader.until(lambda r: r.seen["embeddings"]).settled()
    assert len(reader.seen["dead-letters"]) == 130
    reader.close()


def test_a_folder_that_is_another_one_holds_the_stage_and_condemns_no_image(kafka, encoder, tmp_path, caplog):
    """None of the images that were there before is there: rather the folder is wrong than all names."""
    images = tmp_path / "images"
    paths = write_groups(images, 10)
    reader = Reader(kafka, DEAD_LETTERS, EMBEDDINGS)
    told = []
    stage = EncoderStage(encoder, ImageRoot(images), threads=2)
    with running(stage, kafka=kafka, dead_letter_limit=5, on_state=lambda *state: told.append(state)):
        announce(kafka, paths[:9])
        reader.until(lambda r: len(r.seen["embeddings"]) >= 9)
        images.rename(tmp_path / "away")
        images.mkdir()
        scene(99).save(images / "other.png")
        announce(kafka, paths[9:])
        reader.until(lambda _: "is it the right folder?" in caplog.text).settled(2)
        assert len(reader.seen["dead-letters"]) < 5, "those before the limit"
        assert any(state[0] is State.WAITING and "right folder" in state[1] for state in told)
        (images / "other.png").unlink()
        images.rmdir()
        (tmp_path / "away").rename(images)
        reader.until(lambda r: len(r.seen["embeddings"]) + len(r.seen["dead-letters"]) >= 30).settled()
    assert len(reader.seen["dead-letters"]) < 5
    assert told[-1][0] is State.RUNNING
    reader.close()


def test_after_a_restart_the_log_tells_which_images_should_be_there(kafka, encoder, tmp_path):
    images, other = tmp_path / "images", tmp_path / "other"
    paths = write_groups(images, 2)
    write_groups(other, 1)
    with running(EncoderStage(encoder, ImageRoot(images)), kafka=kafka):
        announce(kafka, paths[3:])
        reader = Reader(kafka, EMBEDDINGS).until(lambda r: len(r.seen["embeddings"]) >= 3)
    reader.close()

    def away(folder: Path) -> str | None:
        stage = EncoderStage(encoder, ImageRoot(folder), recorded=lambda: newest_paths(kafka))
        try:
            return stage.inputs_away()
        finally:
            stage.close()

    assert away(images) is None
    assert "right folder" in (away(other) or "")
    (tmp_path / "empty").mkdir()
    assert "is empty" in (away(tmp_path / "empty") or "")


def test_messages_that_are_no_records_stop_no_stage_where_others_can_be_read(kafka, encoder, tmp_path):
    images = tmp_path / "images"
    (a, *_) = write_groups(images, 1)
    reader = Reader(kafka, DEAD_LETTERS)
    announce(kafka, [a])
    stage = EncoderStage(encoder, ImageRoot(images), threads=2)
    with running(stage, kafka=kafka):
        Reader(kafka, EMBEDDINGS).until(lambda r: r.seen["embeddings"]).close()
    send_raw(kafka, IMAGES_NEW, [(a.encode(), b"nonsense")] * 30)
    with running(EncoderStage(encoder, ImageRoot(images), threads=2), kafka=kafka, dead_letter_limit=10):
        reader.until(lambda r: len(r.seen["dead-letters"]) >= 30)
    reader.close()


def test_where_no_message_can_be_read_the_stage_waits_and_names_the_setting(kafka, encoder, tmp_path, caplog):
    images = tmp_path / "images"
    (a, *_) = write_groups(images, 1)
    reader = Reader(kafka, DEAD_LETTERS)
    send_raw(kafka, IMAGES_NEW, [(a.encode(), b"\0\0\0\0\7of a registry")] * 30)
    with running(EncoderStage(encoder, ImageRoot(images), threads=2), kafka=kafka, dead_letter_limit=10):
        reader.until(lambda _: "SCHEMA_REGISTRY_URL" in caplog.text).settled(2)
        assert len(reader.seen["dead-letters"]) < 10, "those before the limit"
    reader.close()
