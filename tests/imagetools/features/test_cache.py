"""Features come from memory, then from disk, then they are computed."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from imagetools import folder_storage
from imagetools.errors import BrokenImage, MissingImage
from imagetools.features import cache as feature_cache
from imagetools.features.cache import FeatureCache
from imagetools.features.config import FeatureConfig
from imagetools.features.extract import Features, extract
from imagetools.features.read import read_features
from imagetools.features.store import FeatureStore
from imagetools.image_root import ImageRoot
from imagetools.opener import FileOpener
from imagetools.paths import read_capped
from tests.support.streaming import scene

CONFIG = FeatureConfig()


@pytest.fixture
def root(tmp_path: Path) -> ImageRoot:
    folder = tmp_path / "images"
    folder.mkdir()
    for seed in range(3):
        scene(seed).save(folder / f"{seed}.png")
    return ImageRoot(folder)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[Features]:
    """All features that are computed."""
    made: list[Features] = []

    def recorded(opener: FileOpener, config: FeatureConfig) -> Features:
        made.append(read_features(opener, config))
        return made[-1]

    monkeypatch.setattr(feature_cache, "read_features", recorded)
    return made


def with_store(folder: Path) -> FeatureCache:
    return FeatureCache(CONFIG, store=FeatureStore(folder / "features", 10**9, CONFIG))


def test_memory_answers_while_the_file_stays_as_it_is(root, computed):
    cache = FeatureCache(CONFIG)
    first = cache.get(root, "0.png")
    assert cache.get(root, "0.png") is first
    assert (len(cache), cache.nbytes) == (1, first.nbytes)
    os.utime(root.folder / "0.png", ns=(1, 1))
    assert cache.get(root, "0.png").key == first.key
    assert len(computed) == 2


def test_disk_answers_after_a_restart(root, tmp_path, computed):
    cache = with_store(tmp_path)
    first = cache.get(root, "0.png")
    cache.close()
    again = with_store(tmp_path)
    assert again.get(root, "0.png").key == first.key
    assert len(computed) == 1
    again.close()


def test_a_file_that_changes_while_it_is_read_is_kept_nowhere(root, tmp_path, monkeypatch):
    cache = with_store(tmp_path)
    times = iter([1, 2])

    def touched(name: str, descriptor: int, limit: int) -> bytes:
        data = read_capped(name, descriptor, limit)
        time = next(times)
        os.utime(root.folder / "0.png", ns=(time, time))
        return data

    with monkeypatch.context() as patch:
        patch.setattr(folder_storage, "read_capped", touched)
        cache.get(root, "0.png")
    assert len(cache) == 0
    cache.close()
    monkeypatch.setattr(feature_cache, "read_features", lambda *_: pytest.fail("computed"))
    again = with_store(tmp_path)
    with pytest.raises(pytest.fail.Exception):
        again.get(root, "0.png")
    again.close()


def test_an_error_is_raised_and_not_kept(root):
    cache = FeatureCache(CONFIG)
    (root.folder / "broken.png").write_bytes((root.folder / "0.png").read_bytes()[:200])
    with pytest.raises(BrokenImage):
        cache.get(root, "broken.png")
    with pytest.raises(MissingImage):
        cache.get(root, "gone.png")
    assert len(cache) == 0
    scene(4).save(root.folder / "broken.png")
    assert cache.get(root, "broken.png").count


def test_the_least_recently_used_leave_memory(root):
    size = extract(root.open("0.png"), CONFIG).nbytes
    cache = FeatureCache(CONFIG, max_bytes=int(2.5 * size))
    for path in ("0.png", "1.png", "0.png", "2.png"):
        cache.get(root, path)
    assert len(cache) == 2
    assert cache.nbytes <= 2.5 * size
    small = FeatureCache(CONFIG, max_bytes=size // 2)
    assert small.get(root, "0.png").count
    assert len(small) == 0


def test_every_file_that_is_read_is_reported(root):
    read: list[tuple[ImageRoot, str]] = []
    cache = FeatureCache(CONFIG, on_read=lambda *of: read.append(of))
    for path in ("0.png", "0.png", "1.png"):
        cache.get(root, path)
    with pytest.raises(MissingImage):
        cache.get(root, "gone.png")
    assert read == [(root, "0.png"), (root, "1.png")]


def test_a_file_that_is_as_it_was_when_it_was_read_is_reported_too(root, tmp_path):
    first = with_store(tmp_path)
    first.get(root, "0.png")
    first.close()
    known: list[str] = []
    store = FeatureStore(tmp_path / "features", 10**9, CONFIG)
    cache = FeatureCache(CONFIG, store=store, on_read=lambda _, path: known.append(path))
    cache.get(root, "0.png")
    assert known == ["0.png"]
    cache.close()


def test_no_more_threads_compute_than_are_allowed(root, monkeypatch):
    lock, running, most = threading.Lock(), 0, 0

    def counted(opener: FileOpener, config: FeatureConfig) -> Features:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        features = read_features(opener, config)
        with lock:
            running -= 1
        return features

    monkeypatch.setattr(feature_cache, "read_features", counted)
    for number in range(12):
        scene(number, (60, 50)).save(root.folder / f"small {number}.png")
    cache = FeatureCache(CONFIG, max_computing=2)
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda n: cache.get(root, f"small {n}.png").key, range(12)))
    assert len(set(keys)) == 12
    assert most <= 2
