"""Features on disk: the same bit for bit, of the file as it is, within a bound, and no trouble when it is damaged."""

import dataclasses
import errno
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from imagetools.errors import ConfigError
from imagetools.features import retention, version
from imagetools.features.extract import Features, extract
from imagetools.features.pack import pack, unpack
from imagetools.features.store import FILE, FeatureStore
from imagetools.features.version import maker_of
from imagetools.folder_storage import file_state
from imagetools.image_root import ImageRoot
from imagetools.matching.config import MatcherConfig
from imagetools.matching.verify import verify
from tests.support.streaming import scene

CONFIG = MatcherConfig()
ROOM = 10**9


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for, and images are looked over when a test says so."""
    for name, value in {"GATHER_S": 0, "CHECK_S": 1e6, "SPARE_BYTES": 0}.items():
        monkeypatch.setattr(f"imagetools.features.writer.{name}", value)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for seed in range(3):
        scene(seed).save(folder / f"{seed}.png")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeatureStore]:
    store = FeatureStore(tmp_path / "features", ROOM, CONFIG)
    yield store
    store.close()


def of(images: Path, path: str) -> Features:
    return extract(ImageRoot(images).open(path), CONFIG)


def keep(store: FeatureStore, images: Path, *paths: str) -> None:
    for path in paths:
        store.put(ImageRoot(images), path, state(images, path), of(images, path))
    store.flush()


def kept(store: FeatureStore, images: Path, path: str) -> Features | None:
    return store.get(ImageRoot(images), path, state(images, path))


def state(images: Path, path: str) -> str:
    found = file_state(images, path)
    assert found is not None
    return found


def flat(thing: Any) -> list[Any]:
    """Every value inside, arrays as their bytes and kind."""
    if isinstance(thing, np.ndarray):
        return [thing.dtype, thing.shape, thing.tobytes()]
    if dataclasses.is_dataclass(thing):
        return [value for one in dataclasses.fields(thing) for value in flat(getattr(thing, one.name))]
    if isinstance(thing, tuple):
        return [value for one in thing for value in flat(one)]
    return [thing]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(width=st.integers(1, 700), height=st.integers(1, 700), seed=st.integers(0, 9), plain=st.booleans())
def test_features_are_the_same_bit_for_bit_when_they_come_back(width, height, seed, plain):
    image = Image.new("RGB", (width, height), (seed, 90, 200)) if plain else scene(seed, (width, height))
    made = extract(image, CONFIG)
    back = unpack(pack(made))
    assert flat(back) == flat(made)
    assert verify(back, made, CONFIG) == verify(made, made, CONFIG)


def test_data_of_another_length_is_refused():
    packed = pack(extract(scene(1), CONFIG))
    with pytest.raises(ValueError, match="not the"):
        unpack(packed._replace(data=packed.data + b"\0"))
    with pytest.raises(ValueError, match="smaller"):
        unpack(packed._replace(data=packed.data[:-1]))


def test_they_are_there_after_a_restart_and_for_the_process_beside(store, images, tmp_path):
    keep(store, images, "0.png", "1.png")
    beside = FeatureStore(tmp_path / "features", ROOM, CONFIG)
    found = kept(beside, images, "1.png")
    assert found is not None
    assert flat(found) == flat(of(images, "1.png"))
    assert kept(beside, images, "2.png") is None
    assert beside.get(ImageRoot(tmp_path), "1.png", state(images, "1.png")) is None, "another root"
    beside.close()


def set_back(file: Path, work: Callable[[], object]) -> None:
    """Change a file and give it the time that it had."""
    times = file.stat()
    work()
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("change", ["inode", "bytes", "time", "time set back"])
def test_another_file_at_the_path_is_not_taken_for_the_first(store, images, change):
    file = images / "0.png"
    keep(store, images, "0.png")
    before = state(images, "0.png")
    fields = dict(zip(("inode", "bytes", "time", "time set back"), before.split("-"), strict=True))
    match change:
        case "inode":
            set_back(file, lambda: (shutil.copy(file, images / "new"), (images / "new").rename(file)))
        case "bytes":
            set_back(file, lambda: file.write_bytes(file.read_bytes() + b" "))
        case "time":
            os.utime(file, ns=(1, 1))
        case "time set back":
            data = bytearray(file.read_bytes())
            data[-20] ^= 1
            set_back(file, lambda: file.write_bytes(data))
    after = dict(zip(fields, state(images, "0.png").split("-"), strict=True))
    assert after[change] != fields[change]
    assert store.get(ImageRoot(images), "0.png", before) is not None
    assert kept(store, images, "0.png") is None
    # each of them alone is enough
    for name in fields:
        assert store.get(ImageRoot(images), "0.png", "-".join({**fields, name: "1"}.values())) is None
    scene(1).save(file)
    keep(store, images, "0.png")
    assert flat(kept(store, images, "0.png")) == flat(of(images, "1.png"))
    assert store.get(ImageRoot(images), "0.png", before) is None
    assert store.count() == 1


@pytest.mark.parametrize("change", [{"width": 128}, {"height": 170}, {"max_keypoints": 100}, {"contrast": 0.04}])
def test_other_settings_make_other_features(store, images, tmp_path, change):
    keep(store, images, "0.png")
    other = FeatureStore(tmp_path / "features", ROOM, dataclasses.replace(CONFIG, **change))
    assert kept(other, images, "0.png") is None
    other.close()
    same = FeatureStore(tmp_path / "features", ROOM, dataclasses.replace(CONFIG, threshold=0.5))
    assert kept(same, images, "0.png") is not None
    same.close()


def test_another_version_makes_other_features(monkeypatch):
    before = maker_of(CONFIG)
    assert maker_of(MatcherConfig()) == before
    monkeypatch.setattr(version, "FEATURES_VERSION", version.FEATURES_VERSION + 1)
    assert maker_of(CONFIG) != before


def test_the_least_recently_used_go_when_the_file_is_full(images, tmp_path, monkeypatch):
    made = of(images, "0.png")
    limit = 40 * len(pack(made).data)
    store = FeatureStore(tmp_path / "features", limit, CONFIG)
    day = 1000
    monkeypatch.setattr("imagetools.features.retention.today", lambda: day)
    for number in range(100):
        day += 1
        store.put(ImageRoot(images), f"{number}.png", "state", made)
        store.flush()
        assert store.get(ImageRoot(images), "0.png", "state") is not None, "in use all the time"
        store.flush()
    assert 5 < store.count() < 45
    assert store.get(ImageRoot(images), "99.png", "state") is not None
    assert store.get(ImageRoot(images), "1.png", "state") is None
    store.close()
    assert (tmp_path / "features" / FILE).stat().st_size < 1.2 * limit


def bytes_of(store: FeatureStore) -> bytes:
    """All that is on disk, journal included."""
    return b"".join(file.read_bytes() for file in store._database.file.parent.iterdir())


def test_nothing_is_left_of_an_image_that_is_gone_or_changed(store, images, monkeypatch):
    keep(store, images, "0.png", "1.png", "2.png")
    rows = {path: of(images, path).pyramid[0][40].tobytes() for path in ("0.png", "1.png", "2.png")}
    assert all(row in bytes_of(store) for row in rows.values())
    (images / "0.png").unlink()
    os.utime(images / "1.png", ns=(1, 1))
    for _ in range(3):
        store._retention.delete_stale(2)
    assert store.count() == 1
    assert kept(store, images, "2.png") is not None
    monkeypatch.setattr("imagetools.features.retention.EMPTY_S", 0)
    store._retention.empty_journal()
    left = bytes_of(store)
    assert [path for path, row in rows.items() if row in left] == ["2.png"]


def test_nothing_is_left_of_what_another_state_or_room_was_made_for(images, tmp_path, monkeypatch):
    monkeypatch.setattr("imagetools.features.retention.EMPTY_S", 0)
    store = FeatureStore(tmp_path / "features", 20 * len(pack(of(images, "0.png")).data), CONFIG)
    row = of(images, "0.png").pyramid[0][40].tobytes()
    keep(store, images, "0.png")
    store._retention.empty_journal()
    assert row in bytes_of(store)
    store.put(ImageRoot(images), "0.png", "another state", extract(scene(1, (40, 30)), CONFIG))
    store.flush()
    store._retention.empty_journal()
    assert row not in bytes_of(store)
    keep(store, images, "0.png")
    store._retention.empty_journal()
    assert row in bytes_of(store)
    for number in range(60):
        store.put(ImageRoot(images), f"{number}.jpg", "state", of(images, "1.png"))
    store.flush()
    assert kept(store, images, "0.png") is None
    store._retention.empty_journal()
    assert row not in bytes_of(store)
    store.close()


def test_it_looks_over_and_empties_by_itself(images, tmp_path, monkeypatch):
    monkeypatch.setattr("imagetools.features.writer.CHECK_S", 0.02)
    monkeypatch.setattr("imagetools.features.retention.EMPTY_S", 0.02)
    store = FeatureStore(tmp_path / "features", ROOM, CONFIG)
    keep(store, images, "0.png", "1.png")
    row = of(images, "0.png").pyramid[0][40].tobytes()
    assert row in bytes_of(store)
    (images / "0.png").unlink()
    deadline = time.monotonic() + 30
    while row in bytes_of(store):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert store.count() == 1
    store.close()


def test_all_is_kept_while_the_folder_of_images_is_away(store, images, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    scene(5).save(other / "5.png")
    scene(6).save(other / "6.png")
    keep(store, images, "0.png", "1.png")
    keep(store, other, "5.png", "6.png")
    away = images.with_name("away")
    images.rename(away)
    (other / "5.png").unlink()
    store._retention.delete_stale(10)
    assert store.count() == 3, "of another folder what is gone goes"
    images.mkdir()
    store._retention.delete_stale(10)
    assert store.count() == 3
    images.rmdir()
    away.rename(images)
    store._retention.delete_stale(10)
    assert store.count() == 3
    images.rename(away)
    today = retention.today()
    monkeypatch.setattr("imagetools.features.retention.today", lambda: today + 31)
    store._retention.delete_stale(10)
    assert store.count() == 1, "for a month"


def test_a_file_that_cannot_be_asked_about_is_kept_and_shields_no_other(store, images, monkeypatch):
    keep(store, images, "0.png", "1.png")
    (images / "1.png").unlink()
    ask = os.stat

    def unclean(path: Any, **more: Any) -> os.stat_result:
        if str(path).endswith("0.png"):
            raise OSError(errno.EUCLEAN, "Structure needs cleaning")
        return ask(path, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", unclean)
        store._retention.delete_stale(10)
    assert store.count() == 1
    assert kept(store, images, "0.png") is not None


def test_what_other_settings_made_goes_after_two_days(store, images, tmp_path, monkeypatch):
    other = FeatureStore(tmp_path / "features", ROOM, dataclasses.replace(CONFIG, width=128))
    keep(other, images, "0.png")
    store._retention.delete_stale(10)
    assert store.count() == 1, "it may still run beside this"
    today = retention.today()
    monkeypatch.setattr("imagetools.features.retention.today", lambda: today + 2)
    other._retention.delete_stale(10)
    assert store.count() == 1
    store._retention.delete_stale(10)
    assert store.count() == 0
    other.close()


def test_many_threads_and_stores_at_once(images, tmp_path, caplog):
    """Made at the same moment, then read and written by all."""
    made = {path: of(images, path) for path in ("0.png", "1.png", "2.png")}
    expected = {path: flat(one) for path, one in made.items()}
    start, failed, found = threading.Barrier(8), [], []
    stores: list[FeatureStore] = []

    def work(number: int) -> None:
        try:
            start.wait()
            store = FeatureStore(tmp_path / "features", ROOM, CONFIG)
            stores.append(store)
            for turn in range(30):
                path = f"{(number + turn) % 3}.png"
                store.put(ImageRoot(images), path, "state", made[path])
                store.flush()
                back = store.get(ImageRoot(images), path, "state")
                assert back is not None
                assert flat(back) == expected[path]
                found.append(path)
        except BaseException as exc:
            failed.append(exc)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    with caplog.at_level(logging.WARNING):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for store in stores:
        store.close()
    assert not failed
    assert len(found) == 240
    assert not caplog.records


SECOND_PROCESS = """
import os
import sys
from pathlib import Path
from imagetools.features import writer
from imagetools.features.store import FeatureStore
from imagetools.image_root import ImageRoot
from imagetools.matching.config import MatcherConfig
from tests.imagetools.features.test_store import of

folder, images, until = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
store = FeatureStore(folder, 10**9, MatcherConfig())
made = of(images, "1.png")
if until == "in a write":
    def hang(*_):
        print("ready", flush=True)
        sys.stdin.read()

    # after the row of the image, before its features and the commit
    writer.checksum = hang
else:
    print("ready", flush=True)
number = 0
while True:
    number += 1
    store.put(ImageRoot(images), f"{os.getpid()} {number % 50}.png", "state", made)
    store.flush()
"""


@contextmanager
def writing(store: FeatureStore, images: Path, until: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that writes into the same store until it is killed."""
    command = [sys.executable, "-c", SECOND_PROCESS, str(store._database.file.parent), str(images), until]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
        process.kill()


def test_a_process_killed_in_a_write_leaves_nothing_locked_and_nothing_half_done(store, images, caplog):
    keep(store, images, "0.png")
    with writing(store, images, "in a write") as process, caplog.at_level(logging.WARNING):
        assert flat(kept(store, images, "0.png")) == flat(of(images, "0.png")), "read while the other writes"
        process.kill()
        process.wait()
        began = time.monotonic()
        keep(store, images, "2.png")
        assert time.monotonic() - began < 5
    assert kept(store, images, "2.png") is not None
    assert store.count() == 2
    assert not caplog.records


def test_two_processes_write_at_once_and_one_is_killed_again_and_again(store, images, caplog):
    made, theirs = of(images, "0.png"), flat(of(images, "1.png"))
    written = 0
    with caplog.at_level(logging.WARNING):
        for turn in range(3):
            with writing(store, images, "killed") as process:
                deadline, found = time.monotonic() + 60, None
                while found is None:
                    assert time.monotonic() < deadline, "the other process wrote nothing"
                    written += 1
                    store.put(ImageRoot(images), f"{written}.png", "state", made)
                    assert store.flush(10)
                    found = store.get(ImageRoot(images), f"{process.pid} {2 * turn + 1}.png", "state")
                process.kill()
            assert flat(found) == theirs
    assert all(flat(store.get(ImageRoot(images), f"{n}.png", "state")) == flat(made) for n in range(1, written + 1))
    with sqlite3.connect(store._database.file) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    assert not caplog.records


def test_a_flush_waits_for_what_was_put_and_not_for_the_gathering(store, images, monkeypatch):
    monkeypatch.setattr("imagetools.features.writer.GATHER_S", 60)
    made = of(images, "0.png")
    beside = FeatureStore(store._database.file.parent, ROOM, CONFIG)
    for turn in range(3):
        store.put(ImageRoot(images), "0.png", f"state {turn}", made)
        assert store.flush(30)
        assert beside.get(ImageRoot(images), "0.png", f"state {turn}") is not None
    beside.close()


def test_a_flush_gives_up_in_time_while_another_process_holds_the_file(store, images):
    with locked(store):
        store.put(ImageRoot(images), "0.png", "state", of(images, "0.png"))
        began = time.monotonic()
        assert not store.flush(0.2)
        assert time.monotonic() - began < 2
    assert store.flush()
    assert store.get(ImageRoot(images), "0.png", "state") is not None


@contextmanager
def locked(store: FeatureStore) -> Iterator[None]:
    """Another process writes, and takes its time."""
    code = (
        "import sqlite3, sys; connection = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "connection.execute('BEGIN IMMEDIATE'); print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(store._database.file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        yield
        process.communicate(b"")


def test_while_another_process_holds_the_file_it_is_read_and_nobody_waits(store, images, caplog, monkeypatch):
    monkeypatch.setattr("imagetools.features.database.BUSY_S", 0.5)
    keep(store, images, "0.png")
    today = retention.today()
    monkeypatch.setattr("imagetools.features.retention.today", lambda: today + 1)
    made = of(images, "1.png")
    store.close()
    store = FeatureStore(store._database.file.parent, ROOM, CONFIG)
    with locked(store), caplog.at_level(logging.WARNING):
        began = time.monotonic()
        for _ in range(20):
            assert kept(store, images, "0.png") is not None
            store.put(ImageRoot(images), "1.png", state(images, "1.png"), made)
        assert time.monotonic() - began < 0.5
        store.flush()
        beside = FeatureStore(store._database.file.parent, ROOM, CONFIG)
        assert kept(beside, images, "0.png") is not None
        beside.close()
    assert "locked" in caplog.text
    assert kept(store, images, "1.png") is None
    keep(store, images, "1.png")
    assert kept(store, images, "1.png") is not None
    store.close()


def test_a_disk_with_too_little_room_is_left_to_others(store, images, caplog, monkeypatch):
    keep(store, images, "0.png")
    free = shutil.disk_usage(images).free
    monkeypatch.setattr("imagetools.features.writer.SPARE_BYTES", free + 10**12)
    with caplog.at_level(logging.WARNING):
        keep(store, images, "1.png", "2.png")
    assert store.count() == 1
    assert kept(store, images, "0.png") is not None
    assert len(caplog.records) == 1
    assert "room" in caplog.text
    (images / "0.png").unlink()
    store._retention.delete_stale(10)
    assert store.count() == 0, "what is gone goes all the same"


def test_what_was_put_is_written_when_it_closes_and_what_is_too_much_is_not(store, images):
    made = of(images, "0.png")
    with locked(store):
        for number in range(400):
            store.put(ImageRoot(images), f"{number}.png", "state", made)
    store.close()
    again = FeatureStore(store._database.file.parent, ROOM, CONFIG)
    # those that wait, and those that the thread had taken already
    assert 256 <= again.count() <= 256 + 64
    again.close()


def test_a_lower_limit_gives_room_back(store, images):
    for number in range(80):
        store.put(ImageRoot(images), f"{number}.png", "state", of(images, "0.png"))
    store.close()
    limit = store._database.file.stat().st_size // 4
    FeatureStore(store._database.file.parent, limit, CONFIG).close()
    assert store._database.file.stat().st_size < 1.2 * limit


def test_nobody_else_may_read_it(store, images):
    keep(store, images, "0.png")
    folder = store._database.file.parent
    assert folder.stat().st_mode & 0o077 == 0
    assert len(list(folder.iterdir())) > 1, "the journal, too"
    assert all(file.stat().st_mode & 0o077 == 0 for file in folder.iterdir())


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE features SET data = CAST(x'00ff' || substr(data, 3) AS BLOB)",
        "UPDATE features SET data = CAST(data || x'00' AS BLOB)",
        "UPDATE features SET data = 5",
        "UPDATE features SET key = 7",
        "UPDATE features SET original_width = 1",
        "UPDATE features SET height = 9223372036854775807",
        "UPDATE images SET path = CASE path WHEN '0.png' THEN 'x' ELSE '0.png' END, state = (SELECT state FROM images)",
    ],
)
def test_damaged_features_are_computed_again(store, images, caplog, damage):
    keep(store, images, "0.png", "1.png")
    with sqlite3.connect(store._database.file) as connection:
        connection.execute(damage)
    connection.close()
    with caplog.at_level(logging.WARNING):
        assert kept(store, images, "0.png") is None
    assert FILE in caplog.text
    keep(store, images, "0.png")
    assert kept(store, images, "0.png") is not None


def test_a_damaged_file_is_logged_disturbs_nothing_and_is_begun_again(store, images, caplog):
    keep(store, images, "0.png", "1.png")
    store.close()
    size = store._database.file.stat().st_size
    with store._database.file.open("r+b") as file:
        file.seek(16384)
        file.write(np.random.default_rng(0).bytes(size - 16384))
    with caplog.at_level(logging.WARNING):
        beside = FeatureStore(store._database.file.parent, ROOM, CONFIG)
        for _ in range(10):
            assert kept(beside, images, "0.png") is None
            keep(beside, images, "2.png")
        beside.close()
    assert "begun again" in caplog.text
    assert len(caplog.records) < 5
    again = FeatureStore(store._database.file.parent, ROOM, CONFIG)
    keep(again, images, "0.png")
    assert kept(again, images, "0.png") is not None
    again.close()


def test_what_is_no_database_is_begun_again(tmp_path, images, caplog):
    (tmp_path / FILE).write_bytes(b"no database at all" * 1000)
    with caplog.at_level(logging.WARNING):
        store = FeatureStore(tmp_path, ROOM, CONFIG)
    assert "begun again" in caplog.text
    keep(store, images, "0.png")
    assert kept(store, images, "0.png") is not None
    store.close()


def test_a_folder_that_cannot_be_used_is_refused_by_name(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file: File exists"):
        FeatureStore(tmp_path / "file", ROOM, CONFIG)
    with pytest.raises(ConfigError, match="Not a directory"):
        FeatureStore(tmp_path / "file" / "inside", ROOM, CONFIG)
