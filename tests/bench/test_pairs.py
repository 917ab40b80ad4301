from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from bench import pairs as known
from bench.pairs import Pair, PhotoSides
from tests.support.streaming import scene


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    (folder / "heldout").mkdir()
    for seed in range(24):
        scene(seed, (120, 90)).save(folder / f"{seed:02}.png")
    for seed in range(24, 27):
        scene(seed, (120, 90)).save(folder / "heldout" / f"{seed}.png")
    chained = [("00.png", "01.png"), ("01.png", "02.png"), ("05.png", "02.png"), ("07.png", "08.png"), ("07.png", "no")]
    (folder / known.LOOKALIKES).write_text("".join(f"{one}\t{two}\n" for one, two in chained))
    return folder


def test_what_looks_alike_is_on_one_side(folder: Path) -> None:
    photos = PhotoSides(folder)
    assert len(photos.lookalikes) == 4, "a photo that is not there has no look-alike"
    assert len({photos.side_of(f"{seed:02}.png") for seed in (0, 1, 2, 5)}) == 1
    assert {photos.side_of(path) for path in photos.paths} == {"fit", "report"}
    assert all(photos.side_of(path) == "report" for path in photos.paths if path.startswith("heldout/"))
    fit, report = (set(photos.sample(side, 99, seed=1)) for side in ("fit", "report"))
    assert not fit & report
    listed = [frozenset(pair) for pair in photos.lookalikes]
    assert not {frozenset(pair) for side in (fit, report) for pair in combinations(side, 2)} & set(listed)
    of_both = [*known.lookalikes(photos, "fit"), *known.lookalikes(photos, "report")]
    assert len(of_both) == 4


def test_a_sample_takes_the_held_out_first_and_is_seeded(folder: Path) -> None:
    photos = PhotoSides(folder)
    first = photos.sample("report", 4, seed=1)
    assert {path for path in first if path.startswith("heldout/")} == {f"heldout/{seed}.png" for seed in (24, 25, 26)}
    assert first == photos.sample("report", 4, seed=1)
    assert first[:4] == photos.sample("report", 6, seed=1)[:4]


@pytest.mark.parametrize("count", [0, 1, 7, 10, 50])
def test_random_pairs_are_different_pairs_of_different_photos(folder: Path, count: int) -> None:
    photos = PhotoSides(folder)
    found = list(known.unrelated(photos, photos.paths[:5], count, seed=3))
    pairs = {frozenset((pair.first.name, pair.second.name)) for pair in found}
    assert len(found) == len(pairs) == min(count, 10)
    assert all(len(pair) == 2 for pair in pairs)


def test_every_kind_of_pair_can_be_made_and_made_again(folder: Path) -> None:
    photos = PhotoSides(folder)
    paths = photos.paths[:3]
    made: list[Pair] = [
        *known.copies(photos, paths[:1], 1), *known.overlaid(photos, paths, 1, 1), *known.plain(photos, paths, 2, 1)
    ]  # fmt: skip
    assert {(pair.kind, pair.copy) for pair in made} == {
        ("copy", True), ("overlay", False), ("plain copy", True), ("plain", False)
    }  # fmt: skip
    looks: dict[str, Any] = {}
    for pair in made:
        for picture in (pair.first, pair.second):
            image, again = picture.make(), picture.make()
            assert image.mode == "RGB"
            assert image.tobytes() == again.tobytes()
            # a name is what a picture's features are kept by
            assert looks.setdefault(picture.name, image.tobytes()) == image.tobytes()
        if pair.kind == "overlay":
            assert pair.first.make().size == pair.second.make().size
            assert pair.first.make().tobytes() != pair.second.make().tobytes()
