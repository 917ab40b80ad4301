"""Groups as `find` writes them: what to keep, what is extra, and never a link as a copy."""

import csv
import hashlib
import io
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import animations
from bench.documents import document
from cli.report.found_groups import FoundGroup
from cli.report.group_files import as_csv, extras, group_fields
from imagetools.features.cache import FeatureCache
from imagetools.grouping.records import Edge, ImageKey
from imagetools.grouping.relations import Relation
from imagetools.image_root import ImageRoot
from imagetools.matching.config import MatcherConfig
from schemas.records import Duplicate
from streams.grouping.announced_files import AnnouncedFiles
from streams.grouping.pair_comparer import PairComparer, relation_of_duplicate
from tests.support.reporting import write_plain_report
from tests.support.streaming import scene


def pair(candidate: str, neighbor: str, **evidence: Any) -> Mapping[str, Any]:
    found = {"relative_path": neighbor, "score": 1.0, "edit": "", "inliers": 0, "agreement": 1.0}
    found |= {"coverage_candidate": 1.0, "coverage_neighbor": 1.0} | evidence
    return {"candidate": candidate, "duplicated": [found], "threshold": 0.75}


@pytest.fixture
def images(tmp_path: Path) -> ImageRoot:
    folder = tmp_path / "images"
    folder.mkdir()
    scene(1).save(folder / "a.png")
    scene(1).resize((480, 360)).save(folder / "large.png")
    os.link(folder / "large.png", folder / "link.png")
    (folder / "soft.png").symlink_to("large.png")
    return ImageRoot(folder)


def groups(tmp_path: Path, images: ImageRoot, *pairs: Mapping[str, Any]) -> list[FoundGroup]:
    return write_plain_report(tmp_path / "report", pairs, images)


def listed(found: list[FoundGroup]) -> list[str]:
    return extras(found)[0].decode().splitlines()


def test_other_names_of_the_one_to_keep_are_not_extra(tmp_path, images):
    pairs = [pair(name, "a.png") for name in ("large.png", "link.png", "soft.png")]
    (found,) = groups(tmp_path, images, *pairs)
    assert (found.keep, found.reasons, found.file_count) == ("large.png", ("largest picture", "earliest"), 2)
    assert [file.path for file in found.files if file.same_file] == ["link.png", "soft.png"]
    assert listed([found]) == ["a.png"]


def test_a_link_is_not_kept_instead_of_its_file(tmp_path, images):
    (images.folder / "0.png").symlink_to("large.png")
    (found,) = groups(tmp_path, images, pair("large.png", "0.png"), pair("a.png", "0.png"))
    assert found.group.id.path == "0.png"
    assert found.keep == "large.png"
    assert listed([found]) == ["a.png"]


def test_names_of_one_file_are_no_group_of_copies(tmp_path, images):
    (found,) = groups(tmp_path, images, pair("link.png", "large.png"))
    assert (found.keep, found.file_count) == ("", 1)
    assert listed([found]) == []


def test_blank_pictures_are_nobodys_copies(tmp_path, images):
    (found,) = groups(tmp_path, images, pair("large.png", "a.png", relation="blank"))
    assert found.group.blank
    assert (found.keep, listed([found])) == ("", [])


def test_a_part_is_never_extra(tmp_path, images):
    found = groups(tmp_path, images, pair("large.png", "a.png", relation="contains"))
    assert listed(found) == []
    by_id = {one.group.id.path: group_fields(one) for one in found}
    assert [link["relation"] for link in by_id["a.png"]["linked"]] == ["crop"]
    assert by_id["large.png"]["linked"] == [
        {"group": "a.png", "left": "large.png", "right": "a.png", "relation": "contains", "score": 1.0}
    ]


def test_a_frame_and_a_cover_that_one_image_has_count_against_it(tmp_path, images):
    for name in ("b.png", "c.png"):
        scene(1).save(images.folder / name)
    (found,) = groups(tmp_path, images, pair("b.png", "a.png", coverage_neighbor=0.7))
    assert (found.keep, found.reasons[0]) == ("b.png", "nothing over it or around it")
    covered = [pair("a.png", "b.png", edit="partly covered"), pair("c.png", "a.png", edit="partly covered")]
    (found,) = groups(tmp_path, images, *covered, pair("c.png", "b.png"))
    assert (found.keep, found.reasons) == ("b.png", ("nothing over it or around it", "earliest"))
    # of two, nobody knows which one is covered
    (found,) = groups(tmp_path, images, covered[0])
    assert (found.keep, found.reasons) == ("a.png", ("earliest",))


def test_what_was_added_to_one_of_two_counts_against_it(tmp_path, images):
    scene(1).save(images.folder / "b.png")
    (found,) = groups(tmp_path, images, pair("b.png", "a.png", edit="partly covered, something added"))
    assert (found.keep, found.reasons) == ("a.png", ("nothing over it or around it",))
    (found,) = groups(tmp_path, images, pair("b.png", "a.png", edit="something removed"))
    assert (found.keep, found.reasons) == ("b.png", ("nothing over it or around it",))


def test_a_group_with_a_doubtful_edge_has_no_extra_files(tmp_path, images):
    (found,) = groups(tmp_path, images, pair("large.png", "a.png"))
    edge = Edge(ImageKey("a.png", "1"), ImageKey("other.png", "2"), Relation.SAME, 0.9)
    doubted = replace(found, group=replace(found.group, doubtful=(edge,)))
    assert listed([doubted]) == []
    assert listed([found, doubted]) == ["a.png"]


def test_a_path_with_a_line_break_is_counted_and_left_out(tmp_path, images):
    scene(1).save(images.folder / "b\nrm -rf x.png", "PNG")
    found = groups(tmp_path, images, pair("b\nrm -rf x.png", "a.png"))
    assert extras(found) == (b"", 1)


def test_the_table_has_a_line_for_each_file(tmp_path, images):
    found = groups(tmp_path, images, pair("large.png", "a.png", relation="identical"))
    rows = list(csv.DictReader(io.StringIO(as_csv(found).decode(), newline="")))
    assert [(row["group"], row["path"], row["keep"], row["relation"], row["width"]) for row in rows] == [
        ("a.png", "a.png", "", "identical", "240"),
        ("a.png", "large.png", "keep", "identical", "480"),
    ]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_a_spreadsheet_takes_no_path_in_the_table_for_a_formula(tmp_path, images, start):
    name = f"{start}HYPERLINK(1).png"
    scene(1).save(images.folder / name)
    scene(1).save(images.folder / "b=1.png")
    found = groups(tmp_path, images, pair("b=1.png", name))
    rows = list(csv.DictReader(io.StringIO(as_csv(found).decode(), newline="")))
    assert [(row["group"], row["path"]) for row in rows] == [(f"'{name}", f"'{name}"), (f"'{name}", "b=1.png")]
    assert name in {member["path"] for group in map(group_fields, found) for member in group["members"]}


def test_a_line_of_json_has_all_of_a_group(tmp_path, images):
    (found,) = groups(tmp_path, images, pair("large.png", "a.png"))
    group = json.loads(json.dumps(group_fields(found)))
    assert {name: group[name] for name in ("id", "state", "keep", "reasons")} == {
        "id": "a.png", "state": "open", "keep": "large.png", "reasons": ["largest picture"],
    }  # fmt: skip
    assert [(m["path"], m["relation"], m["width"], m["height"], m["format"]) for m in group["members"]] == [
        ("a.png", "same", 240, 180, "PNG"),
        ("large.png", "identical", 480, 360, "PNG"),
    ]


@pytest.mark.parametrize(
    ("duplicate", "relation"),
    [
        (Duplicate("b", 1.0, relation="overlap"), Relation.OVERLAP),
        (Duplicate("b", 1.0, edit="the same file"), Relation.IDENTICAL),
        (Duplicate("b", 1.0, coverage_candidate=1.0, coverage_neighbor=0.99), Relation.SAME),
        (Duplicate("b", 1.0, coverage_candidate=1.0, coverage_neighbor=0.4), Relation.CROP),
        (Duplicate("b", 1.0, coverage_candidate=0.4, coverage_neighbor=1.0), Relation.CONTAINS),
        (Duplicate("b", 1.0, relation="of a later version"), Relation.NONE),
    ],
)
def test_an_older_record_has_its_relation_from_the_coverage(duplicate, relation):
    assert relation_of_duplicate(duplicate) is relation


def key_of(images, name):
    return ImageKey(name, hashlib.sha256((images.folder / name).read_bytes()).hexdigest())


def test_files_are_compared_as_the_matcher_would(tmp_path, images):
    compare = PairComparer(AnnouncedFiles(images), MatcherConfig(), FeatureCache(MatcherConfig()))
    scene(1).crop((0, 0, 150, 120)).save(images.folder / "crop.png")
    scene(2).save(images.folder / "other.png")
    keys = {name: key_of(images, name) for name in ("a.png", "large.png", "crop.png", "other.png")}
    keys["gone.png"] = ImageKey("gone.png", keys["a.png"].content)
    assert compare(keys["a.png"], keys["large.png"]) is Relation.SAME
    assert compare(keys["crop.png"], keys["a.png"]) is Relation.CROP
    assert compare(keys["a.png"], keys["crop.png"]) is Relation.CONTAINS
    assert compare(keys["a.png"], keys["other.png"]) is Relation.NONE
    assert compare(keys["a.png"], keys["gone.png"]) is None, "it may come back"


def test_a_file_that_has_other_bytes_than_were_announced_is_not_compared(images):
    announced = AnnouncedFiles(images)
    compare = PairComparer(announced, MatcherConfig(), FeatureCache(MatcherConfig()))
    keys = [key_of(images, name) for name in ("a.png", "large.png")]
    assert compare(*keys) is Relation.SAME
    scene(2).save(images.folder / "a.png")
    assert compare(*keys) is None
    assert compare(key_of(images, "a.png"), keys[1]) is Relation.NONE


def test_a_file_that_changes_while_it_is_compared_gives_no_answer(images):
    keys = [key_of(images, name) for name in ("a.png", "large.png")]

    def change(root, path):
        if path == "large.png":
            scene(2).save(images.folder / "a.png")

    cache = FeatureCache(MatcherConfig(), on_read=change)
    assert PairComparer(AnnouncedFiles(images), MatcherConfig(), cache)(*keys) is None


def test_later_frames_of_animations_are_compared_in_detail(images):
    forms = [document("form", 2, number) for number in (2, 3)]
    pages = [[scene(1, form.size), form] for form in forms]
    for name, frames in (("first.png", pages[0]), ("other.png", pages[1]), ("again.webp", pages[0])):
        (images.folder / name).write_bytes(animations.packed(frames, "WEBP" if "webp" in name else "PNG"))
    compare = PairComparer(AnnouncedFiles(images), MatcherConfig(), FeatureCache(MatcherConfig()))
    first, other, again = (key_of(images, name) for name in ("first.png", "other.png", "again.webp"))
    assert compare(first, other) is Relation.NONE
    assert compare(first, again) is Relation.SAME
