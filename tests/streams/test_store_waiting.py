"""A store that goes away in mid-stream: the stage waits and says so, and no image is blamed."""

import time
from datetime import timedelta
from pathlib import Path

import pytest

from imagetools import object_storage
from imagetools.fingerprint.encoder import Encoder
from imagetools.image_root import ImageRoot
from schemas.records import ImageNew, State
from streams.encoder_consumer import EncoderStage
from streams.topics import DEAD_LETTERS, EMBEDDINGS, IMAGES_NEW
from tests.support.breaking_proxy import BreakingProxy
from tests.support.object_store import Bucket, ObjectServer
from tests.support.streaming import Reader, running, send, write_groups

QUICK = {
    "max_retries": 2,
    "retry_timeout": timedelta(seconds=2),
    "backoff": {"init_backoff": timedelta(milliseconds=20)},
}


@pytest.fixture
def bucket(object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    made = object_server.bucket()
    for name, value in made.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(object_storage, "RETRY", QUICK)
    monkeypatch.setattr("streams.runner.MAX_BACKOFF_S", 0.5)
    return made


def fill(bucket: Bucket, folder: Path) -> None:
    for file in folder.iterdir():
        bucket.put_as(f"pre/{file.name}", file.read_bytes())


def test_throttled_cut_off_and_gone_it_is_waited_for_and_everything_is_done_once(kafka, bucket, tmp_path, monkeypatch):
    paths = write_groups(tmp_path / "images", 10)
    fill(bucket, tmp_path / "images")
    reader = Reader(kafka, DEAD_LETTERS, EMBEDDINGS)
    told: list[tuple[State, str]] = []

    def said(words: str) -> bool:
        return any(state is State.WAITING and words in reason for state, reason in told)

    def announce(some: list[str]) -> None:
        send(kafka, IMAGES_NEW, [(path, ImageNew(1, path)) for path in some])

    with BreakingProxy(bucket.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        stage = EncoderStage(Encoder.load(), ImageRoot(f"{bucket.address}/pre"))
        with running(stage, kafka=kafka, dead_letter_limit=5, on_state=lambda *state: told.append(state)):
            announce(paths[:10])
            reader.until(lambda r: len(r.seen["embeddings"]) >= 10)
            proxy.refusals = 100_000
            announce(paths[10:15])
            reader.until(lambda _: said("503 SlowDown"))
            began = len(told)
            while proxy.refusals > 100_000 - 15:
                # it tries again and again
                time.sleep(0.1)
            # and says that it goes on when it does
            assert {state for state, _ in told[began:]} <= {State.WAITING}
            proxy.refusals = 0
            proxy.cut_after, proxy.cuts = 300, 100_000
            reader.until(lambda r: said("s3://") or len(r.seen["embeddings"]) >= 15)
            proxy.cuts = 0
            reader.until(lambda r: len(r.seen["embeddings"]) >= 15)
            bucket.vanish()
            announce([*paths[15:], "never there.png"])
            reader.until(lambda _: said("NoSuchBucket"))
            bucket.folder.mkdir()
            reader.until(lambda _: said("is empty"))
            # all at once: while some are there and others are not yet, those are missing
            (tmp_path / "images").rename(bucket.folder / "pre")
            reader.until(lambda r: len(r.seen["embeddings"]) >= len(paths) and r.seen["dead-letters"]).settled()
    assert sorted(one.relative_path for one in reader.seen["embeddings"]) == sorted(paths)
    (letter,) = reader.messages["dead-letters"]
    assert letter.key() == b"never there.png"
    assert dict(letter.headers())["error-type"] == b"MissingImage"
    reader.close()
