"""Damaged snapshots of every kind: none is read wrongly, none ends the stage, and all cost only time."""

import logging
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from imagetools.checksums import SUMS
from imagetools.errors import IndexMismatch, SnapshotDamaged
from imagetools.index.config import IndexConfig
from imagetools.index.entry import Entry
from imagetools.index.index import Index
from schemas.records import Embedding
from streams.config import Config, KafkaConfig
from streams.search.snapshots import MAX_DAMAGED, Snapshots
from streams.search_consumer import SearchStage
from streams.topics import CANDIDATES, EMBEDDINGS
from tests.support.streaming import Reader, running, send

FLIPS = 200
FILES = {
    "index.json",
    "entries.npz",
    "local/numbers.npz",
    SUMS,
    "graph/hnsw",
}
LOG = "abc"


def rows(n: int, d: int = 16, seed: int = 0) -> np.ndarray:
    made = np.random.default_rng(seed).normal(size=(n, d))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def filled(n: int) -> Index:
    index = Index()
    change = index.change()
    for order, row in enumerate(rows(n)):
        change.add(Entry(order, f"{order}.jpg", order, bytes([order]) * 32), row, model="m")
    change.apply()
    return index


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    index = filled(12)
    index.save(tmp_path / "saved", {"saved": 1})
    index.close()
    return tmp_path / "saved"


def damage(folder: Path, name: str) -> None:
    """Turn one bit in the middle of a file."""
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)


def test_a_bit_that_turned_in_any_file_is_found_out(saved: Path) -> None:
    names = {str(path.relative_to(saved)) for path in saved.rglob("*") if path.is_file()}
    assert names == FILES
    chance = random.Random(7)
    for name in sorted(names):
        good = (saved / name).read_bytes()
        for _ in range(FLIPS):
            data, place = bytearray(good), chance.randrange(8 * len(good))
            data[place // 8] ^= 1 << place % 8
            (saved / name).write_bytes(data)
            with pytest.raises(SnapshotDamaged, match=str(saved)):
                Index.load(saved)
        (saved / name).write_bytes(good)
    index, info = Index.load(saved)
    assert (len(index), info) == (12, {"saved": 1})
    index.close()


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _link(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


WAYS: dict[str, Callable[[Path], object]] = {
    "gone": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: os.truncate(path, path.stat().st_size - 1),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "overwritten": lambda path: path.write_bytes(b"\xff" * path.stat().st_size),
    "a pipe": _pipe,
    "a link to the very file": _link,
    "a folder": _folder,
}


@pytest.mark.parametrize("name", sorted(FILES))
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_file_that_is_gone_cut_or_another_kind_is_found_out(
    saved: Path, way: Callable[[Path], None], name: str
) -> None:
    way(saved / name)
    with pytest.raises(SnapshotDamaged):
        Index.load(saved)


def test_what_does_not_belong_there_is_found_out(saved: Path) -> None:
    for name in ("more", "graph/more", "more/more", "lines\nin a name", os.fsdecode(b"\xff")):
        more = saved / name
        more.parent.mkdir(exist_ok=True)
        more.write_bytes(b"")
        with pytest.raises(SnapshotDamaged, match="not part of it"):
            Index.load(saved)
        more.unlink()
        if not any(more.parent.iterdir()):
            more.parent.rmdir()
    (saved / "graph" / "more").mkdir()
    with pytest.raises(SnapshotDamaged, match="empty"):
        Index.load(saved)


def test_the_checksums_of_another_snapshot_and_other_lines_are_found_out(saved: Path) -> None:
    text = (saved / SUMS).read_text()
    lines = text.splitlines(keepends=True)
    for other in ("".join(reversed(lines)), text + lines[0], text + "\n", text.replace("  ", " *"), text.upper()):
        (saved / SUMS).write_text(other)
        with pytest.raises(SnapshotDamaged):
            Index.load(saved)


def test_sha256sum_agrees(saved: Path) -> None:
    run = subprocess.run(["sha256sum", "--check", "--strict", SUMS], cwd=saved, capture_output=True, check=False)
    assert run.returncode == 0, run.stderr


def test_a_folder_that_cannot_be_read_now_is_no_damage(tmp_path: Path) -> None:
    with pytest.raises(IndexMismatch) as caught:
        Index.load(tmp_path / "away")
    assert not isinstance(caught.value, SnapshotDamaged)


@pytest.fixture
def snapshots(tmp_path: Path) -> Iterator[Snapshots]:
    made = Snapshots(tmp_path / "index", IndexConfig())
    yield made
    made.close()


def keep(snapshots: Snapshots, offset: int) -> Path:
    """Save a snapshot of this many images at that offset."""
    index = filled(offset)
    snapshots.save(index, LOG, offset)
    index.close()
    return snapshots.scratch.parent / f"index-{LOG}-{offset}"


def newest(snapshots: Snapshots) -> int | None:
    """The offset of the newest snapshot; what it holds is what was saved there."""
    loaded = snapshots.newest(LOG, at_most=1000)
    if loaded is None:
        return None
    index, offset = loaded
    assert sorted(entry.order for entry in index.entries()) == list(range(offset))
    assert index.search(rows(1)[0], 1)[0].score == pytest.approx(1, abs=1e-6)
    index.close()
    return offset


@pytest.mark.parametrize("name", sorted(FILES))
def test_the_next_older_one_takes_the_place_of_a_damaged_one_and_then_the_log(
    snapshots: Snapshots, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    older, newer = keep(snapshots, 10), keep(snapshots, 20)
    assert newest(snapshots) == 20
    damage(newer, name)
    assert newest(snapshots) == 10
    # a checksum that is damaged itself no longer fits the file that it is of
    assert (name if name != SUMS else "cannot be read") in caplog.text
    assert "loses nothing" in caplog.text
    assert not newer.exists()
    assert newer.with_name(newer.name + ".damaged").is_dir()
    # its name is free again
    keep(snapshots, 20)
    assert newest(snapshots) == 20
    for folder in (older, newer):
        damage(folder, name)
    assert newest(snapshots) is None


def test_damaged_ones_do_not_pile_up(snapshots: Snapshots) -> None:
    for offset in range(10, 16):
        damage(keep(snapshots, offset), "entries.npz")
        assert newest(snapshots) is None
    left = sorted(path.name for path in snapshots.scratch.parent.glob("index-*"))
    assert left == [f"index-{LOG}-{offset}.damaged" for offset in (14, 15)]
    assert len(left) == MAX_DAMAGED


def test_anything_in_the_place_of_a_snapshot_is_set_aside(snapshots: Snapshots, tmp_path: Path) -> None:
    folder = snapshots.scratch.parent
    keep(snapshots, 10)
    (folder / f"index-{LOG}-20").write_text("a file")
    (folder / f"index-{LOG}-30").mkdir()
    (folder / f"index-{LOG}-40").symlink_to(tmp_path)
    os.mkfifo(folder / f"index-{LOG}-50")
    assert newest(snapshots) == 10
    assert tmp_path.is_dir()
    keep(snapshots, 20)
    assert newest(snapshots) == 20


def test_a_snapshot_without_checksums_is_set_aside(snapshots: Snapshots, caplog: pytest.LogCaptureFixture) -> None:
    (keep(snapshots, 10) / SUMS).unlink()
    assert newest(snapshots) is None
    assert "before checksums" in caplog.text


def test_a_snapshot_that_cannot_be_written_ends_nothing(snapshots: Snapshots, caplog: pytest.LogCaptureFixture) -> None:
    keep(snapshots, 10)
    index = filled(20)
    shutil.rmtree(snapshots.scratch)
    snapshots.save(index, LOG, 20)
    index.close()
    assert "no snapshot at offset 20" in caplog.text


KILLED = """
import os, signal, sys
from pathlib import Path
from imagetools.index.config import IndexConfig
from imagetools.index.index import Index
from streams.search.snapshots import Snapshots
made = Snapshots(Path(sys.argv[1]), IndexConfig())
index = Index(IndexConfig(dimension=4), made.scratch)
(made.scratch / ".index-draft").mkdir()
print(made.scratch.name, flush=True)
sys.stdin.read()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_goes_and_what_a_running_one_has_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    folder = tmp_path / "index"
    command = [sys.executable, "-c", KILLED, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        name = other.stdout.readline().strip()
        beside = Snapshots(folder, IndexConfig())
        assert (folder / name / ".index-draft").is_dir(), "it runs"
        other.communicate()
    assert (folder / name).is_dir()
    third = Snapshots(folder, IndexConfig())
    assert not (folder / name).exists()
    assert name in caplog.text
    assert sorted(folder.iterdir()) == sorted([beside.scratch, third.scratch])
    for one in (beside, third):
        one.close()
    assert list(folder.iterdir()) == []


def test_what_has_no_lock_goes_when_it_is_old(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    for name in (".running-old", ".index-1-2-old", ".running-new", ".index-1-2-new"):
        (folder / name / "graph").mkdir(parents=True)
        if name.endswith("old"):
            for path in (folder / name / "graph", folder / name):
                os.utime(path, (0, 0))
    (folder / "mine").mkdir()
    made = Snapshots(folder, IndexConfig())
    left = {path.name for path in folder.iterdir()}
    assert left == {".running-new", ".index-1-2-new", "mine", made.scratch.name}
    made.close()


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(37, "No locks available")

    first = Snapshots(tmp_path, IndexConfig())
    monkeypatch.setattr("fcntl.flock", refused)
    second = Snapshots(tmp_path, IndexConfig())
    assert first.scratch.is_dir()
    monkeypatch.undo()
    third = Snapshots(tmp_path, IndexConfig())
    assert second.scratch.is_dir(), "it may run"
    for one in (first, second, third):
        one.close()


@pytest.mark.parametrize("name", ["entries.npz", "graph/hnsw", "index.json"])
def test_search_starts_on_a_damaged_snapshot_with_the_right_candidates(
    kafka: KafkaConfig, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = Config(kafka=kafka, index_dir=tmp_path / "index", nb_neighbors=3, nb_plain=0)
    vectors = rows(40, d=32)

    def embedding(n: int, vector: np.ndarray) -> Embedding:
        return Embedding(1, str(n), vector, "test:1:160", n.to_bytes(32, "big"), True)

    reader = Reader(kafka, CANDIDATES)
    for first in (0, 20):
        with running(SearchStage(config), kafka=kafka):
            batch = [(str(n), embedding(n, vectors[n])) for n in range(first, first + 20)]
            send(kafka, EMBEDDINGS, batch)
            reader.until(lambda r, n=first + 20: len(r.seen["candidates"]) == n)  # type: ignore[misc]
    kept = sorted((tmp_path / "index").glob("index-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    assert len(kept) == 2
    damage(kept[-1], name)
    caplog.set_level("INFO")
    with running(SearchStage(config), kafka=kafka):
        send(kafka, EMBEDDINGS, [(str(100 + n), embedding(100 + n, vectors[n])) for n in (3, 33)])
        reader.until(lambda r: len(r.seen["candidates"]) == 42)
    assert "set aside" in caplog.text
    assert "with 40 images, 20 records replayed" in caplog.text, "from the older snapshot"
    found = {one.candidate: one.neighbors[0] for one in reader.seen["candidates"][-2:]}
    assert {path: neighbor.relative_path for path, neighbor in found.items()} == {"103": "3", "133": "33"}
    assert all(neighbor.score == pytest.approx(1, abs=1e-5) for neighbor in found.values())
    reader.close()
