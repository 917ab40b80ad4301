"""What a job has come to: copies, other names of one file, and a report of a part."""

import json
import os
from io import StringIO
from pathlib import Path

import pytest
from click.testing import CliRunner
from confluent_kafka import Message
from rich.console import Console

from cli.find_results import MAX_KEPT_SIMILAR, FindResults, Links, totals
from cli.main import main
from cli.report.find_report import FindJob
from imagetools.errors import CannotWrite
from imagetools.folder import Skipped, Tally
from imagetools.paths import one_file
from schemas.records import Duplicate, Duplicates, Similar, Verdict, VerdictOutcome
from streams.kafka.follower import ConsumedMessage
from streams.topics import VERDICTS
from tests.support.streaming import scene


def duplicate(path: str) -> Duplicate:
    return Duplicate(path, 1.0, 0, 1.0, False, 1.0, 0.0, 1.0, 1.0, "the same file")


def alert(candidate: str, *originals: str) -> Duplicates:
    return Duplicates(1, candidate, tuple(map(duplicate, originals)))


def job(folder: Path, announced: int, *alerts: Duplicates, clear: tuple[str, ...] = (), report: bool = True) -> FindJob:
    results = FindResults(announced, alerts=list(alerts))
    for one in alerts:
        results.verdicts[one.candidate] = Verdict(1, one.candidate, VerdictOutcome.DUPLICATE)
    for path in clear:
        results.verdicts[path] = Verdict(1, path, VerdictOutcome.CLEAR)
    console = Console(file=StringIO(), width=200)
    return FindJob(folder, folder.parent / "report" if report else None, results, Tally(), console)


def said(of: FindJob) -> str:
    assert isinstance(of.console.file, StringIO)
    return of.console.file.getvalue()


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """a.png, a copy of it, a hard link to it and a symbolic one."""
    folder = tmp_path / "images"
    folder.mkdir()
    scene(1).save(folder / "a.png")
    (folder / "copy.png").write_bytes((folder / "a.png").read_bytes())
    os.link(folder / "a.png", folder / "hard.png")
    (folder / "soft.png").symlink_to("a.png")
    return folder


def test_two_names_of_one_file_are_told_from_two_files(linked):
    assert one_file(linked / "a.png", linked / "hard.png") == "by a hard link"
    assert one_file(linked / "a.png", linked / "soft.png") == "by a symbolic link"
    assert one_file(linked / "a.png", linked / ".." / "images" / "a.png") == "by the same path"
    assert one_file(linked / "a.png", linked / "copy.png") == ""
    assert one_file(linked / "gone.png", linked / "gone.png") == ""


@pytest.mark.parametrize(
    ("alerts", "duplicates", "pairs", "same_file"),
    [
        ([alert("hard.png", "a.png")], 0, 0, 1),
        ([alert("a.png", "soft.png"), alert("hard.png", "soft.png", "a.png")], 0, 0, 2),
        ([alert("copy.png", "a.png")], 1, 1, 0),
        # whichever comes first, one name stands for the file and is a copy, or has one
        ([alert("a.png", "copy.png"), alert("hard.png", "copy.png", "a.png")], 1, 2, 1),
        ([alert("copy.png", "a.png"), alert("hard.png", "copy.png", "a.png")], 1, 2, 1),
    ],
)
def test_other_names_of_a_file_are_no_duplicates(linked, alerts, duplicates, pairs, same_file):
    sums = totals(job(linked, 4, *alerts).results, Links(linked))
    assert (sums.duplicates, sums.pairs, sums.same_file) == (duplicates, pairs, same_file)


def test_links_are_named_on_the_console_in_the_page_and_in_the_data(linked):
    work = job(linked, 4, alert("hard.png", "a.png"), alert("soft.png", "a.png"), clear=("copy.png", "x.png"))
    (linked.parent / "report").mkdir()
    work.finish("")
    assert "2 the same file by a link" in said(work)
    assert "0 duplicate earlier ones (0 pairs)" in said(work)
    page = (linked.parent / "report" / "report.html").read_text("utf-8")
    assert "one file under 3 names, no copies" in page
    assert page.count("nothing to delete") == 2
    assert "the same file, by a symbolic link" in page
    assert "groups of duplicates" not in page
    lines = (linked.parent / "report" / "alerts.jsonl").read_text().splitlines()
    pairs = [d for line in lines for d in json.loads(line)["duplicated"]]
    assert [(d["same_file"], d["edit"]) for d in pairs] == [
        (True, "the same file, by a hard link"),
        (True, "the same file, by a symbolic link"),
    ]


def test_a_group_of_links_and_copies_counts_its_files(linked):
    work = job(linked, 3, alert("copy.png", "a.png"), alert("hard.png", "a.png", "copy.png"))
    (linked.parent / "report").mkdir()
    work.finish("")
    assert "2 files under 3 names, 3 pairs" in (linked.parent / "report" / "report.html").read_text("utf-8")
    lines = (linked.parent / "report" / "alerts.jsonl").read_text().splitlines()
    pairs = [d for line in lines for d in json.loads(line)["duplicated"]]
    assert [d["same_file"] for d in pairs] == [False, True, False]


def test_compare_says_that_both_are_one_file(linked):
    output = CliRunner().invoke(main, ["compare", str(linked / "a.png"), str(linked / "hard.png")]).output
    assert "the same file, by a hard link" in output


def test_a_partial_report_says_so_everywhere(linked):
    work = job(linked, 10, alert("copy.png", "a.png"), clear=("a.png",))
    (linked.parent / "report").mkdir()
    work.finish("interrupted")
    assert "Interrupted: 2 of 10 images were done" in said(work)
    assert "Report of what is done:" in said(work)
    page = (linked.parent / "report" / "report.html").read_text("utf-8")
    assert "<title>Partial: duplicates in" in page
    assert "<strong>This report is partial.</strong> Interrupted: 2 of 10 images were done." in page
    summary = json.loads((linked.parent / "report" / "summary.json").read_text())
    assert (summary["complete"], summary["ended"], summary["done"], summary["images"]) == (False, "interrupted", 2, 10)


def test_a_whole_report_does_not_say_that_it_is_partial(linked):
    work = job(linked, 1, alert("copy.png", "a.png"))
    (linked.parent / "report").mkdir()
    # interrupted when all was done
    work.finish("interrupted")
    assert "Interrupted" not in said(work)
    assert "partial" not in (linked.parent / "report" / "report.html").read_text("utf-8").split("<body>")[1]
    assert json.loads((linked.parent / "report" / "summary.json").read_text())["complete"] is True


def test_an_end_before_anything_is_done_is_said(linked):
    work = job(linked, 10)
    work.finish("interrupted")
    assert said(work).strip() == ("Interrupted before any image was done: everything is stopped, no report was written")
    assert not (linked.parent / "report").exists()


def test_what_is_not_looked_at_is_in_the_summary_the_page_and_a_file(linked):
    work = job(linked, 1, clear=("a.png",))
    work.not_looked_at.add(Skipped("a\x1b[31m\nb.cr2", "camera raw", "camera raw is not read"))
    work.not_looked_at.add(Skipped("caf\udce9.jpg", "with an unusable name", "rename it"))
    (linked.parent / "report").mkdir()
    work.finish("")
    assert "not looked at: 1 camera raw, 1 with an unusable name" in said(work)
    page = (linked.parent / "report" / "report.html").read_text("utf-8")
    assert "<td>camera raw is not read</td>" in page
    assert "\x1b" not in page
    lines = (linked.parent / "report" / "not-looked-at.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["relative_path"] for line in lines] == ["a\x1b[31m\nb.cr2", r"caf\udce9.jpg"]
    counts = json.loads((linked.parent / "report" / "summary.json").read_text())["not_looked_at"]
    assert counts == {"camera raw": 1, "with an unusable name": 1}


def message(record: Verdict) -> ConsumedMessage:
    return ConsumedMessage(VERDICTS, record, Message())


def test_what_is_alike_is_counted_listed_and_shown(linked):
    scene(2).save(linked / "b.png")
    work = job(linked, 2, clear=("a.png",))
    alike = Similar("a.png", "template", "same template, other content at 2 places", 0.01, ((0.125,) * 8, (0.25,) * 8))
    work.take(message(Verdict(1, "b.png", VerdictOutcome.CLEAR, similar=(alike,))))
    (linked.parent / "report").mkdir()
    work.finish("")
    assert "2 clear, 0 could not be read; 1 pair is alike, and no duplicates" in said(work)
    (line,) = (linked.parent / "report" / "similar.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "candidate": "b.png",
        "relative_path": "a.png",
        "relation": "template",
        "reason": "same template, other content at 2 places",
        "score": 0.01,
        "regions": [[0.125] * 8, [0.25] * 8],
    }
    assert json.loads((linked.parent / "report" / "summary.json").read_text())["alike"] == 1
    page = (linked.parent / "report" / "report.html").read_text("utf-8")
    assert "Alike, and no duplicates" in page
    assert "same template, other content at 2 places; outlined in blue" in page


def test_many_that_are_alike_are_counted_and_fit_into_memory():
    results = FindResults(1000)
    alike = tuple(Similar(f"{n}.png", "template") for n in range(16))
    for n in range(1000):
        results.take(message(Verdict(1, f"{n}.jpg", VerdictOutcome.CLEAR, similar=alike)))
    assert (results.similar_count, len(results.similar)) == (16_000, MAX_KEPT_SIMILAR)
    assert not any(verdict.similar for verdict in results.verdicts.values())
    assert results.done


def test_without_any_that_are_alike_nothing_is_said_of_them(linked):
    work = job(linked, 1, clear=("a.png",))
    (linked.parent / "report").mkdir()
    work.finish("")
    assert "alike" not in said(work)
    assert "no duplicates" not in (linked.parent / "report" / "report.html").read_text("utf-8").split("<body>")[1]


def broken(number: int) -> dict[str, str]:
    path = f"{number:04}.jpg"
    return {"relative_path": path, "error_type": "BrokenImage", "error_message": f"{path}: ends <early>"}


def test_what_cannot_be_read_is_named_with_its_reason(linked):
    work = job(linked, 2, clear=("a.png",))
    work.results.dead_letters += [broken(number) for number in range(7)][::-1]
    work.results.verdicts["0000.jpg"] = Verdict(1, "0000.jpg", VerdictOutcome.DEAD_LETTER)
    (linked.parent / "report").mkdir()
    work.finish("")
    lines = [line for line in said(work).splitlines() if line.startswith("could not be read")]
    assert lines[:2] == ["could not be read: 0000.jpg: ends <early>", "could not be read: 0001.jpg: ends <early>"]
    assert lines[5:] == [f"could not be read: 2 more; {linked.parent / 'report' / 'report.html'} lists them"]
    page = (linked.parent / "report" / "report.html").read_text("utf-8")
    assert page.count("<td>ends &lt;early&gt;</td>") == 7
    assert "<bdi>0006.jpg</bdi>" in page
    assert "<dt>could not be read</dt>" in page
    assert "dead letters" not in page


def test_without_a_report_the_terminal_says_how_to_see_all_that_cannot_be_read(linked):
    work = job(linked, 1, clear=("a.png",), report=False)
    work.results.dead_letters += [broken(number) for number in range(7)]
    work.finish("")
    assert "could not be read: 2 more; --report FOLDER lists them" in said(work)


def test_a_report_folder_that_goes_while_the_work_runs_is_named(linked):
    work = job(linked, 1, clear=("a.png",))
    (linked.parent / "report").write_text("in the way")
    with pytest.raises(CannotWrite, match="cannot be written: Not a directory"):
        work.finish("")
    assert "1 image in" in said(work)
