import io
from importlib import resources
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from cli.demo_images import COPIES_OF_A_KIND, KINDS, LOOKALIKES, Plan, measure, prepare, score
from imagetools.edits import EDITS
from imagetools.errors import ConfigError
from imagetools.folder import find_images
from imagetools.image_root import ImageRoot


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "images"


@pytest.fixture(scope="module")
def plan(folder: Path) -> Plan:
    return prepare(folder)


def printed(plan: Plan, pairs: list[tuple[str, str]]) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(score(plan, measure(plan, pairs)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def all_true(plan: Plan) -> list[tuple[str, str]]:
    return [(copy.relative_path, copy.original) for copy in plan.copies]


class TestSamples:
    def test_they_name_their_licence_and_are_small(self) -> None:
        files = list(resources.files("cli.samples").iterdir())
        photos = [file for file in files if file.name.endswith(".jpg")]
        assert 25 <= len(photos) <= 50
        assert sum(len(photo.read_bytes()) for photo in photos) < 1_500_000
        readme = (resources.files("cli.samples") / "README.md").read_text("utf-8")
        assert "Clothing dataset (small) by Alexey Grigorev and contributors" in readme
        assert "CC0 1.0" in readme
        assert {stem for pair in LOOKALIKES for stem in pair} <= {photo.name.removesuffix(".jpg") for photo in photos}


class TestPrepare:
    def test_every_kind_of_copy_is_there_and_can_be_read(self, folder: Path, plan: Plan) -> None:
        assert set(KINDS.values()) - {""} == set(EDITS)
        assert [copy.kind for copy in plan.copies] == [kind for kind in KINDS for _ in range(COPIES_OF_A_KIND)]
        written = sorted([*plan.originals, *(copy.relative_path for copy in plan.copies)])
        assert sorted(find_images(folder)) == written
        assert len(set(written)) == len(written)
        assert all(min(ImageRoot(folder).open(path).size) > 50 for path in written)

    def test_the_plan_lies_beside_the_images(self, folder: Path, plan: Plan) -> None:
        assert msgspec.json.decode((folder.parent / "planted.json").read_bytes(), type=Plan) == plan

    def test_the_same_seed_writes_the_same_files(self, folder: Path, plan: Plan, tmp_path: Path) -> None:
        assert prepare(tmp_path / "again") == plan
        for path in find_images(folder):
            assert (tmp_path / "again" / path).read_bytes() == (folder / path).read_bytes()
        assert prepare(tmp_path / "other", seed=8) != plan

    def test_names_do_not_tell_copies_from_originals(self, plan: Plan) -> None:
        """Whatever a name begins with, originals have it as well as copies."""
        copies = {path.rsplit("/", 1)[-1][:3] for path, _ in all_true(plan)} & {"IMG", "DSC", "pho", "202"}
        originals = {path.rsplit("/", 1)[-1][:3] for path in plan.originals} & {"IMG", "DSC", "pho", "202"}
        assert copies == originals == {"IMG", "DSC", "pho", "202"}

    def test_copies_show_their_originals(self, folder: Path, plan: Plan) -> None:
        images = ImageRoot(folder)
        for copy in plan.copies:
            if copy.kind in ("re-encoded", "resized", "blurred", "the same file", "stretched to a square"):
                one, two = (
                    np.asarray(images.open(path).resize((32, 32), Image.Resampling.BOX), dtype=float)
                    for path in (copy.relative_path, copy.original)
                )
                assert np.abs(one - two).mean() < 8, copy

    def test_a_folder_in_use_is_left_alone(self, folder: Path, plan: Plan) -> None:
        with pytest.raises(ConfigError, match="not empty"):
            prepare(folder)


class TestScore:
    def test_all_found(self, plan: Plan) -> None:
        text = printed(plan, all_true(plan))
        assert f"precision: {len(plan.copies)} of {len(plan.copies)} reported pairs show one photo (100.0%)" in text
        assert "look-alikes: 0 of 7 pairs reported" in text
        assert "missed" not in text

    def test_nothing_found(self, plan: Plan) -> None:
        text = printed(plan, [])
        assert "precision: 0 of 0 reported pairs show one photo\n" in text
        assert text.count("missed: ") == len(plan.copies)

    def test_copies_of_one_photo_are_duplicates_of_each_other(self, plan: Plan) -> None:
        families: dict[str, list[str]] = {}
        for copy in plan.copies:
            families.setdefault(copy.original, []).append(copy.relative_path)
        original, copies = next((k, v) for k, v in families.items() if len(v) >= 2)
        seen = measure(plan, [(copies[0], copies[1]), (original, copies[1])])
        assert not seen.false
        assert {c.relative_path for found in seen.found.values() for c in found} == set(copies[:2])
        alone = measure(plan, [(copies[0], copies[1])])
        assert not alone.false
        assert not any(alone.found.values())

    def test_a_pair_told_twice_or_the_other_way_round_counts_once(self, plan: Plan) -> None:
        one, two = all_true(plan)[0]
        assert len(measure(plan, [(one, two), (two, one), (one, two)]).true) == 1

    def test_false_pairs_are_named_and_never_make_a_copy_found(self, plan: Plan) -> None:
        text = printed(plan, [plan.lookalikes[0], (plan.copies[0].relative_path, plan.copies[-1].original)])
        assert "look-alikes: 1 of 7 pairs reported" in text
        assert text.count("false alarm: ") == 2
        assert "precision: 0 of 2" in text
        # a false pair in the middle joins nothing
        copy = plan.copies[0]
        elsewhere = plan.lookalikes[0][0]
        seen = measure(plan, [(copy.relative_path, elsewhere), (elsewhere, copy.original)])
        assert copy not in seen.found[copy.kind]
