"""Grouping at the end of a job: with the stages' features, with lines on how far it is, and as it is interrupted."""

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from cli.file_contents import FileContents
from cli.find_results import FindResults
from cli.report.find_report import FindJob
from cli.report.group_alerts import StoppableComparer
from cli.slow_progress import SlowProgress
from imagetools.features.cache import FeatureCache
from imagetools.features.store import FeatureStore
from imagetools.folder import Tally
from imagetools.folder_storage import file_state
from imagetools.grouping.records import ImageKey
from imagetools.grouping.relations import Relation
from imagetools.image_root import ImageRoot
from imagetools.matching.config import MatcherConfig
from schemas.records import Duplicate, Duplicates, Verdict, VerdictOutcome
from tests.support.streaming import scene

CONFIG = MatcherConfig()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder behind a link, with three copies of one picture."""
    (tmp_path / "real").mkdir()
    (tmp_path / "report").mkdir()
    folder = tmp_path / "images"
    folder.symlink_to("real")
    for number, name in enumerate(("a.png", "b.png", "c.png")):
        scene(1, (240 + number, 180)).save(folder / name)
    return folder


def finished(
    folder: Path, stopped: bool = False, open_store: Callable[[], FeatureStore | None] = lambda: None
) -> tuple[list[list[str]], str]:
    """Return the groups, and what was said, where no alert tells of a.png and c.png."""
    console = Console(file=StringIO(), width=200)
    alerts = [
        Duplicates(1, candidate, (Duplicate(neighbor, 1.0, relation="same"),))
        for candidate, neighbor in (("b.png", "a.png"), ("c.png", "b.png"))
    ]
    results = FindResults(3, alerts=alerts)
    for name in ("a.png", "b.png", "c.png"):
        results.verdicts[name] = Verdict(1, name, VerdictOutcome.CLEAR)
    report = folder.parent / "report"
    job = FindJob(
        folder, report, results, Tally(), console, open_store=open_store, stopped=lambda: stopped,
        paths=("a.png", "b.png", "c.png"),
    )  # fmt: skip
    job.finish("")
    lines = (report / "groups.jsonl").read_text("utf-8").splitlines()
    assert isinstance(console.file, StringIO)
    return [[member["path"] for member in json.loads(line)["members"]] for line in lines], console.file.getvalue()


def store_of(folder: Path) -> FeatureStore:
    return FeatureStore(folder.parent / "features", 10**9, CONFIG)


def test_pairs_are_compared_with_the_features_that_the_stages_stored(folder):
    real = folder.resolve()
    scene(2).save(real / "other.png")
    state = file_state(real, "c.png")
    assert state is not None
    store = store_of(folder)
    # features of another picture show that nobody computed them from this one
    store.put(ImageRoot(real), "c.png", state, FeatureCache(CONFIG).get(ImageRoot(real), "other.png"))
    store.close()
    assert finished(folder)[0] == [["a.png", "b.png", "c.png"]]
    assert finished(folder, open_store=lambda: store_of(folder))[0] == [["a.png", "b.png"], ["c.png"]]


def test_a_store_that_cannot_be_opened_is_named_and_done_without(folder):
    (folder.parent / "features").write_text("in the way")
    groups, said = finished(folder, open_store=lambda: store_of(folder))
    assert groups == [["a.png", "b.png", "c.png"]]
    assert "the grouping computes features itself: the folder of features" in said


def test_interrupted_it_compares_nothing_more_and_says_so(folder):
    groups, said = finished(folder, stopped=True)
    assert groups == [["a.png", "b.png"], ["c.png"]]
    assert "Interrupted while pairs were compared for the groups: 3 of 3 images were done" in said
    assert "1 pair was not compared for the groups, so that a group may lack some of its images" in said
    summary = json.loads((folder.parent / "report" / "summary.json").read_text())
    assert (summary["complete"], summary["ended"]) == (False, "interrupted while pairs were compared for the groups")
    assert "This report is partial." in (folder.parent / "report" / "report.html").read_text("utf-8")


def test_an_interrupt_that_leaves_nothing_out_is_no_partial_report(folder):
    for name in ("b.png", "c.png"):
        (folder / name).write_bytes((folder / "a.png").read_bytes())
    groups, said = finished(folder, stopped=True)
    assert groups == [["a.png", "b.png", "c.png"]]
    assert "Interrupted" not in said


def test_slow_work_says_how_far_it_is(folder):
    said: list[str] = []
    comparer = StoppableComparer(lambda left, right: Relation.SAME, SlowProgress(said.append, 0.0), lambda: False)
    for name in ("b", "c"):
        assert comparer(ImageKey("a", "a"), ImageKey(name, name)) is Relation.SAME
    assert said == ["grouping: comparing pairs that no alert tells of, 0 compared"]
    read: list[tuple[int, int]] = []
    FileContents(ImageRoot(folder)).read_all(["a.png", "b.png", "gone.png"], on_read=lambda *of: read.append(of))
    assert read == [(1, 3), (2, 3), (3, 3)]
    quick: list[str] = []
    SlowProgress(quick.append).show("early")
    assert quick == []
