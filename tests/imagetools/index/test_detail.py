"""The index with local codes: images found by the detail they share, beside those near by fingerprint."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagetools.checksums import SUMS, seal
from imagetools.errors import IndexMismatch, SnapshotDamaged
from imagetools.index.config import MAX_PER_NODE
from imagetools.index.entry import Entry
from imagetools.index.index import Index
from imagetools.index.local_segment import joined
from imagetools.index.search import Hit, Reason
from imagetools.local_codes import LocalCodes
from tests.imagetools.index.local_pictures import KEYPOINTS, both, codes_of, view_of
from tests.imagetools.index.test_index import random_vectors

VECTORS = random_vectors(40)


@pytest.fixture
def index():
    index = Index()
    yield index
    index.close()


def entry(name: str, order: int, digest: int | None = None) -> Entry:
    return Entry(order, name, digest=b"" if digest is None else digest.to_bytes(32, "big"))


def by_detail(index: Index, codes: LocalCodes, limit: int = 10) -> list[Hit]:
    """What local codes find alone."""
    return index.change().search(VECTORS[39], 0, codes=codes, nb_local=limit)


def names(hits: list[Hit]) -> list[str]:
    return [hit.relative_path for hit in hits]


def test_an_image_is_found_by_detail_where_its_fingerprint_is_far(index):
    for n in range(30):
        index.add(str(n), VECTORS[n], order=n, codes=codes_of(n))
    change = index.change()
    collage = both(view_of(codes_of(3), 3), view_of(codes_of(4), 4))
    hits = change.search(VECTORS[5], 1, codes=collage, nb_local=10)
    assert names(hits[:1]) == ["5"]
    assert (hits[0].reason, hits[0].rank) == (Reason.FINGERPRINT, 1)
    assert set(names(hits[1:])) == {"3", "4"}
    assert [(hit.reason, hit.rank) for hit in hits[1:]] == [(Reason.LOCAL, 1), (Reason.LOCAL, 2)]
    assert all(0.9 < hit.score < 1 for hit in hits[1:])
    assert names(change.search(VECTORS[5], 1, codes=collage, nb_local=1)[1:]) == [hits[1].relative_path]
    assert names(change.search(VECTORS[5], 1, codes=collage)) == ["5"], "only when asked for"
    assert names(change.search(VECTORS[3], 1, codes=codes_of(3), nb_local=10)) == ["3"], "found twice, shown once"


def test_each_hit_says_by_what_it_was_found(index):
    a, b, c = VECTORS[:3]
    change = index.change()
    change.add(entry("photo", 0, 1), a, codes=codes_of(0))
    change.add(entry("collage", 1, 2), b, parts=[c])
    change.add(entry("crop", 2, 3), VECTORS[3], codes=codes_of(1))
    found = {
        hit.relative_path: (hit.reason, hit.identical)
        for hit in change.search(
            a, 1, digest=(1).to_bytes(32, "big"), parts=[c], codes=view_of(codes_of(1), 0), nb_local=1
        )
    }
    assert found == {
        "photo": (Reason.IDENTICAL, True),
        "collage": (Reason.PART, False),
        "crop": (Reason.LOCAL, False),
    }


def test_a_change_sees_itself_and_a_dropped_one_leaves_no_trace(index):
    index.add("old", VECTORS[0], order=0, codes=codes_of(0))
    change = index.change()
    change.add(entry("new", 1), VECTORS[1], codes=codes_of(1))
    change.remove("old")
    asked = both(codes_of(0), codes_of(1))
    assert names(change.search(VECTORS[39], 0, codes=asked, nb_local=9)) == ["new"]
    assert names(index.change().search(VECTORS[39], 0, codes=asked, nb_local=9)) == ["old"]
    change.apply()
    assert names(index.change().search(VECTORS[39], 0, codes=asked, nb_local=9)) == ["new"]


def test_a_changed_image_is_not_found_by_its_former_self(index):
    index.add("a", VECTORS[0], order=0, codes=codes_of(0))
    change = index.change()
    result = change.put(entry("a", 1, 7), VECTORS[1], codes=view_of(codes_of(0), 1), nb_neighbors=3, nb_local=3)
    assert result.neighbors == []
    change.apply()
    index.add("b", VECTORS[2], order=2, codes=codes_of(5))
    assert names(by_detail(index, codes_of(0))) == ["a"]


def test_5000_equal_images_have_the_codes_of_one_and_yield_five(index):
    change = index.change()
    for n in range(5000):
        change.add(entry(f"{n:04}", n, 1), VECTORS[0], codes=codes_of(0))
    change.add(entry("other", 5000, 2), VECTORS[1], codes=codes_of(1))
    change.apply()
    hits = by_detail(index, both(view_of(codes_of(0), 1), view_of(codes_of(1), 1)))
    assert len(index.local) == 2 * KEYPOINTS
    assert sorted(names(hits)) == ["0000", "0001", "0002", "0003", "0004", "other"]


def test_codes_stay_while_an_equal_image_stands_and_go_with_the_last(index):
    for n in range(3):
        index.add(f"copy {n}", VECTORS[0], order=n, digest=b"1" * 32, codes=codes_of(0))
    index.add("collage", VECTORS[1], order=3, parts=[VECTORS[0]])
    index.remove("copy 0")
    assert names(by_detail(index, codes_of(0))) == ["copy 1", "copy 2"]
    index.remove("copy 1")
    index.remove("copy 2")
    # the collage still stands there, by a part
    assert names(by_detail(index, codes_of(0))) == []
    assert len(index.local) == 0
    index.add("copy 3", VECTORS[0], order=4, codes=codes_of(0))
    assert names(by_detail(index, codes_of(0))) == ["copy 3"]


def test_an_image_that_had_no_codes_gets_them_when_it_is_announced_again(index):
    index.add("a", VECTORS[0], order=0, digest=b"1" * 32)
    assert names(by_detail(index, codes_of(0))) == []
    change = index.change()
    assert change.put(Entry(1, "a", digest=b"1" * 32), VECTORS[0], codes=codes_of(0)).outcome == "unchanged"
    change.apply()
    assert names(by_detail(index, codes_of(0))) == ["a"]


def test_a_snapshot_keeps_the_codes(index, tmp_path: Path):
    for n in range(30):
        index.add(str(n), VECTORS[n], order=n, codes=codes_of(n))
    for n in range(0, 30, 3):
        index.remove(str(n))
    index.save(tmp_path / "saved")
    again, _ = Index.load(tmp_path / "saved")
    for n in range(30):
        asked = both(view_of(codes_of(n), n), view_of(codes_of(n + 1), n))
        assert by_detail(again, asked) == by_detail(index, asked)
        assert len(by_detail(again, asked)) == (n % 3 != 0) + ((n + 1) % 3 != 0 and n < 29)
    for one in (again, index):
        one.add("new", VECTORS[35], order=40, codes=codes_of(40))
        one.remove("1")
    assert names(by_detail(again, codes_of(40))) == ["new"]
    assert names(by_detail(again, codes_of(1))) == []
    assert len(again.local) == len(index.local)
    again.close()


def test_a_snapshot_without_tables_is_read(index, tmp_path: Path):
    """As the version before wrote it: the codes of all images, one after the other."""
    saved = tmp_path / "saved"
    for n in range(30):
        index.add(str(n), VECTORS[n], order=n, codes=codes_of(n))
    index.remove("3")
    index.save(saved)
    with np.load(saved / "local" / "numbers.npz") as table:
        numbers = dict(table)
    codes = joined(index.local.stored())
    arrays = {name: getattr(codes, name) for name in ("codes", "shapes", "numbers", "ends")}
    np.savez(saved / "local.npz", **arrays, nodes=numbers["nodes"], next_number=numbers["next_number"])
    shutil.rmtree(saved / "local")
    head = json.loads((saved / "index.json").read_text())
    (saved / "index.json").write_text(json.dumps(head | {"format": 5}))
    (saved / SUMS).unlink()
    seal(saved)
    again, _ = Index.load(saved)
    for n in range(30):
        assert by_detail(again, codes_of(n)) == by_detail(index, codes_of(n))
    assert names(by_detail(again, codes_of(4))) == ["4"]
    again.add("new", VECTORS[35], order=40, codes=codes_of(40))
    assert names(by_detail(again, codes_of(40))) == ["new"]
    again.close()


def test_a_snapshot_from_before_local_codes_is_refused(index, tmp_path: Path):
    """The log may hold codes that the version which wrote it passed over."""
    saved = tmp_path / "saved"
    index.add("a", VECTORS[0], order=0, codes=codes_of(0))
    index.save(saved)
    # as version 3 wrote it
    shutil.rmtree(saved / "local")
    head = json.loads((saved / "index.json").read_text())
    (saved / "index.json").write_text(json.dumps(head | {"format": 3}))
    (saved / SUMS).unlink()
    seal(saved)
    with pytest.raises(IndexMismatch, match="format 3, this version reads 5 and 6"):
        Index.load(saved)


def test_a_damaged_snapshot_is_refused(index, tmp_path: Path):
    index.add("a", VECTORS[0], order=0, codes=codes_of(0))
    index.save(tmp_path / "saved")
    damaged = tmp_path / "damaged"
    shutil.copytree(tmp_path / "saved", damaged)
    file = damaged / "local" / "00000-rows.npy"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(SnapshotDamaged, match=r"local/00000-rows\.npy is not what was saved"):
        Index.load(damaged)
    missing = tmp_path / "missing"
    shutil.copytree(tmp_path / "saved", missing)
    (missing / "local" / "00000-rows.npy").unlink()
    with pytest.raises(SnapshotDamaged, match=r"local/00000-rows\.npy is missing"):
        Index.load(missing)
    later = tmp_path / "later"
    shutil.copytree(tmp_path / "saved", later)
    head = json.loads((later / "index.json").read_text())
    (later / "index.json").write_text(json.dumps(head | {"format": 7}))
    (later / SUMS).unlink()
    seal(later)
    with pytest.raises(IndexMismatch, match="format 7, this version reads 5 and 6"):
        Index.load(later)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "remove", "apply", "drop", "reload"]), st.integers(0, 7), st.integers(0, 3)
    ),
    max_size=30,
)


@settings(max_examples=25, deadline=None)
@given(STEPS)
def test_any_sequence_of_changes_agrees_with_a_dictionary(tmp_path_factory, steps):
    """Adds, replacements and removals in any order, across changes, dropped changes and snapshots: local codes find
    exactly the images that show the picture, up to MAX_PER_NODE."""
    index = Index()
    committed: dict[str, int] = {}
    pending: dict[str, int] = {}
    change = index.change()
    for order, (step, name, picture) in enumerate(steps):
        path = f"{name}.jpg"
        match step:
            case "add":
                # equal fingerprints and equal codes go together, as equal bytes have both
                change.add(entry(path, order, picture), VECTORS[picture], codes=codes_of(picture))
                pending[path] = picture
            case "remove":
                change.remove(path)
                pending.pop(path, None)
            case "apply":
                change.apply()
                committed = dict(pending)
                change = index.change()
            case "drop" | "reload":
                pending = dict(committed)
                if step == "reload":
                    saved = tmp_path_factory.mktemp("saved") / "snapshot"
                    index.save(saved)
                    index.close()
                    index, _ = Index.load(saved)
                change = index.change()
        for held, view in ((pending, change), (committed, index.change())):
            for shown in range(4):
                hits = view.search(VECTORS[39], 0, codes=view_of(codes_of(shown), 5), nb_local=9)
                mine = {path for path, one in held.items() if one == shown}
                assert len(hits) == min(len(mine), MAX_PER_NODE)
                assert set(names(hits)) <= mine
    assert len(index.local) == KEYPOINTS * len(set(committed.values()))
    index.close()


def test_codes_change_nothing_for_an_index_without_them(index):
    index.add("a", VECTORS[0], order=0)
    assert np.isclose(index.change().search(VECTORS[0], 3, codes=codes_of(0), nb_local=9)[0].score, 1)
    assert index.change().search(VECTORS[0], 3, codes=codes_of(0, 0), nb_local=9) == index.search(VECTORS[0], 3)
