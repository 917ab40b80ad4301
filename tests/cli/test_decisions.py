"""Decisions of an earlier run: read from a file, held at their contents, and gone with other bytes."""

import csv
import io
import json
from io import StringIO
from pathlib import Path

import pytest
from click.testing import CliRunner
from confluent_kafka import Message
from rich.console import Console

from cli.cells import as_cell
from cli.decision_file import BadDecisions, read_decisions
from cli.decisions import Decided, decision_fields
from cli.file_contents import FileContents
from cli.find_results import FindResults
from cli.main import main
from cli.report.find_report import FindJob
from imagetools.folder import Tally
from imagetools.grouping.records import Choice
from imagetools.image_root import ImageRoot
from schemas.records import Duplicate, Duplicates, Verdict, VerdictOutcome
from streams.kafka.follower import ConsumedMessage
from streams.topics import DUPLICATES, VERDICTS
from tests.support.streaming import scene

DIGEST = "0123456789abcdef" * 4


def lines(*records: object) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def refused(file: Path, text: str) -> str:
    file.write_text(text, "utf-8")
    with pytest.raises(BadDecisions) as refusal:
        read_decisions(file)
    return str(refusal.value)


class TestTheFile:
    def test_json_lines_and_csv_say_the_same(self, tmp_path):
        (tmp_path / "a.jsonl").write_text(
            lines(
                {"left": "Zoë 1.jpg", "right": "b,c.jpg", "decision": "not_duplicate", "who": "me"},
                {"left": "x.jpg", "right": "y.jpg", "decision": "later", "contents": [DIGEST, DIGEST[::-1]]},
            )
            + "\n",
            "utf-8",
        )
        (tmp_path / "a.csv").write_text(
            "left,right,decision,who,left_content,right_content\r\n"
            'Zoë 1.jpg,"b,c.jpg",not_duplicate,me,,\r\n'
            f"x.jpg,y.jpg,later,,{DIGEST},{DIGEST[::-1]}\r\n",
            "utf-8-sig",
        )
        read = [read_decisions(tmp_path / name) for name in ("a.jsonl", "a.csv")]
        assert read[0] == read[1]
        assert [one.choice for one in read[0]] == [Choice.NOT_DUPLICATE, Choice.LATER]
        assert read[0][1].contents == (DIGEST, DIGEST[::-1])
        assert decision_fields(read[0][0]) == {
            "left": "Zoë 1.jpg", "right": "b,c.jpg", "decision": "not_duplicate", "who": "me",
        }  # fmt: skip

    def test_each_wrong_line_is_named_with_what_is_wrong(self, tmp_path):
        good = {"left": "a", "right": "b", "decision": "later"}
        told = refused(
            tmp_path / "a.jsonl",
            lines(good)
            + "{left\n"
            + lines(
                [1],
                {"left": "a"},
                good | {"right": "a"},
                good | {"decision": "no"},
                good | {"contents": ["abc", "def"]},
            ),
        )
        assert told.splitlines()[1:] == [
            "line 2: is no JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
            "line 3: is no JSON object",
            "line 4: has no right and no decision",
            "line 5: left and right are the same path, a",
            "line 6: the decision no is not known; it is one of duplicate, not_duplicate, later, undo",
            "line 7: contents are the SHA-256 of left and right, each as 64 digits and letters a to f, or are left out",
        ]

    def test_of_many_wrong_lines_the_first_are_named(self, tmp_path):
        told = refused(tmp_path / "a.jsonl", "no\n" * 25)
        assert len(told.splitlines()) == 12
        assert told.endswith("and 15 more lines")

    def test_a_table_without_its_header_is_refused(self, tmp_path):
        assert "line 1: is a header without left, right, decision" in refused(tmp_path / "a.csv", "a.jpg,b.jpg,later\n")
        assert "line 3: has no decision" in refused(tmp_path / "a.csv", "left,right,decision\na,b,later\na,b,\n")

    @pytest.mark.parametrize("delimiter", [",", ";", "\t"])
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
    def test_spreadsheets_separate_cells_in_several_ways(self, tmp_path, delimiter, encoding):
        rows = [["left", "right", "decision", "keep", "who"], ["ä,1.jpg", "b;2.jpg", "duplicate", "b;2.jpg", "Zoë"]]
        text = io.StringIO()
        csv.writer(text, delimiter=delimiter).writerows(rows)
        (tmp_path / "a.csv").write_text(text.getvalue(), encoding)
        (one,) = read_decisions(tmp_path / "a.csv")
        assert (one.left, one.right, one.choice) == ("ä,1.jpg", "b;2.jpg", Choice.DUPLICATE)
        assert (one.keep, one.who) == (("b;2.jpg",), "Zoë")

    @pytest.mark.parametrize("path", ["=cmd|calc.jpg", "-1.jpg", "'=a.jpg", "''+a.jpg", "'a.jpg", "a'=b.jpg"])
    def test_a_path_that_a_table_of_ours_has_is_read_as_it_is(self, tmp_path, path):
        text = io.StringIO()
        csv.writer(text).writerows([["left", "right", "decision"], [as_cell(path), "b.jpg", "later"]])
        (tmp_path / "a.csv").write_text(text.getvalue(), "utf-8")
        (one,) = read_decisions(tmp_path / "a.csv")
        assert one.left == path

    def test_no_column_and_no_key_is_dropped_in_silence(self, tmp_path):
        told = refused(tmp_path / "a.csv", "left,right,decision,whom,why\na,b,later,Zoë,\n")
        assert "line 1: has the columns whom, why, which are not known; known are left, right, decision, keep" in told
        told = refused(tmp_path / "a.jsonl", lines({"left": "a", "right": "b", "decision": "later", "kept": "a"}))
        assert "line 1: has the key kept, which is not known; known are left, right, decision, keep" in told
        told = refused(tmp_path / "a.csv", "left,right,decision,\na,b,later,\na,b,later,x\na,b,later,,y\n")
        assert told.splitlines()[1:] == [f"line {n}: has a cell in a column without a name" for n in (3, 4)]

    def test_what_is_said_besides_is_checked(self, tmp_path):
        word = {"left": "a", "right": "b", "decision": "duplicate"}
        told = refused(
            tmp_path / "a.jsonl",
            lines(
                word | {"keep": "c"},
                word | {"keep": ["a"], "decision": "later"},
                word | {"who": 5},
                word | {"when": "yesterday"},
            ),
        )
        assert told.splitlines()[1:] == [
            "line 1: keep names left or right, by its path",
            "line 2: keep goes with duplicate alone",
            "line 3: who is no text",
            "line 4: when is no time such as 2026-01-31T12:00:00+00:00: yesterday",
        ]

    def test_undo_takes_back_what_an_earlier_line_says(self, tmp_path):
        word = {"left": "a.png", "right": "b.png"}
        turned, other = {"left": "b.png", "right": "a.png"}, {"left": "a.png", "right": "c.png"}
        no, undo = {"decision": "not-duplicate"}, {"decision": "undo"}
        (tmp_path / "a.jsonl").write_text(lines(word | no, other | no, turned | undo))
        decided = Decided(read_decisions(tmp_path / "a.jsonl"), FileContents(ImageRoot(tmp_path)))
        assert [decision_fields(one) for one in decided.for_next_run()] == [other | {"decision": "not_duplicate"}]

    def test_a_file_that_is_no_text_is_refused(self, tmp_path):
        (tmp_path / "a.jsonl").write_bytes(b"\xff\xfe")
        with pytest.raises(BadDecisions, match="cannot be read"):
            read_decisions(tmp_path / "a.jsonl")

    def test_what_could_not_be_written_again_is_refused(self, tmp_path):
        start = '{"left": "a", "right": "b", "decision": "later", "note": '
        told = refused(tmp_path / "a.jsonl", f'{start}"\\ud800"}}\n{start}{"[" * 100_000}{"]" * 100_000}}}\n')
        assert told.splitlines()[1:] == [
            r"line 1: has half of a surrogate pair, such as \ud800, which is no character",
            "line 2: is nested too deeply",
        ]

    def test_a_table_that_cannot_be_read_names_the_line(self, tmp_path):
        told = refused(tmp_path / "a.csv", f"left,right,decision,note\na,b,later,\na,c,later,{'x' * 131_073}\n")
        assert told.splitlines()[1:] == ["line 3: is no CSV that can be read: field larger than field limit (131072)"]
        told = refused(tmp_path / "a.csv", f"left,right,decision,{'x' * 131_073}\n")
        assert told.splitlines()[1:] == ["line 1: is no CSV that can be read: field larger than field limit (131072)"]

    def test_it_is_refused_before_anything_is_started(self, tmp_path):
        scene(1).save(tmp_path / "a.png")
        (tmp_path / "d.jsonl").write_text("no\n")
        result = CliRunner().invoke(main, ["find", str(tmp_path), "--decisions", str(tmp_path / "d.jsonl")])
        assert result.exit_code == 2
        assert "line 1: is no JSON" in result.output
        assert "Kafka" not in result.output


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number, name in enumerate(("a.png", "b.png", "c.png")):
        scene(1, (240 + number, 180)).save(folder / name)
    (tmp_path / "report").mkdir()
    return folder


def run(folder: Path, decisions: Path | None = None) -> tuple[FindJob, str]:
    """A run in which b and c were found to be copies of a, and c of b."""
    console = Console(file=StringIO(), width=200)
    read = read_decisions(decisions) if decisions else []
    job = FindJob(folder, folder.parent / "report", FindResults(3), Tally(), console, decisions=read)
    for candidate, neighbors in (("b.png", ("a.png",)), ("c.png", ("a.png", "b.png"))):
        duplicates = tuple(
            Duplicate(
                one, 1.0, 9, 1.0, coverage_candidate=1.0, coverage_neighbor=1.0, relation="same", edit="re-encoded"
            )
            for one in neighbors
        )
        job.take(ConsumedMessage(DUPLICATES, Duplicates(1, candidate, duplicates), Message()))
        job.take(ConsumedMessage(VERDICTS, Verdict(1, candidate, VerdictOutcome.DUPLICATE), Message()))
    job.take(ConsumedMessage(VERDICTS, Verdict(1, "a.png", VerdictOutcome.CLEAR), Message()))
    job.finish("")
    assert isinstance(console.file, StringIO)
    return job, console.file.getvalue()


def members(folder: Path) -> list[list[str]]:
    text = (folder.parent / "report" / "groups.jsonl").read_text("utf-8")
    return [[member["path"] for member in json.loads(line)["members"]] for line in text.splitlines()]


class TestARun:
    def test_a_pair_called_different_is_neither_reported_nor_grouped(self, folder):
        file = folder.parent / "d.jsonl"
        file.write_text(
            lines(
                {"left": "a.png", "right": "b.png", "decision": "not_duplicate"},
                {"left": "c.png", "right": "b.png", "decision": "not_duplicate"},
            )
        )
        _, said = run(folder, file)
        assert "b.png  duplicates" not in said
        assert "c.png  duplicates  a.png" in said
        assert "1 duplicate earlier ones (1 pair, 1 group), 2 clear" in said
        assert "2 pairs are left out by your decisions" in said
        assert members(folder) == [["a.png", "c.png"]]
        assert "b.png" not in (folder.parent / "report" / "alerts.jsonl").read_text()

    def test_new_bytes_reopen_the_pair(self, folder):
        file = folder.parent / "d.jsonl"
        contents = FileContents(ImageRoot(folder))
        digests = [contents.of("a.png"), contents.of("b.png")]
        word = {"left": "a.png", "right": "b.png", "decision": "not_duplicate", "contents": digests}
        file.write_text(lines(word))
        run(folder, file)
        assert members(folder) == [["a.png", "c.png"], ["b.png"]]
        scene(2).save(folder / "b.png")
        run(folder, file)
        assert members(folder) == [["a.png", "b.png", "c.png"]]

    def test_the_reports_decisions_hold_for_the_next_run(self, folder):
        file = folder.parent / "d.csv"
        file.write_text("left,right,decision,note\nb.png,a.png,not_duplicate,no\nx.png,a.png,later,\n")
        run(folder, file)
        held = folder.parent / "report" / "decisions.jsonl"
        line, waiting = [json.loads(line) for line in held.read_text().splitlines()]
        contents = FileContents(ImageRoot(folder))
        assert waiting == {"left": "x.png", "right": "a.png", "decision": "later"}
        assert line == {
            "left": "b.png", "right": "a.png", "decision": "not_duplicate", "note": "no",
            "contents": [contents.of("b.png"), contents.of("a.png")],
        }  # fmt: skip
        kept = folder.parent / "kept.jsonl"
        kept.write_bytes(held.read_bytes())
        assert "1 pair is left out" in run(folder, kept)[1]

    def test_a_decision_waits_from_report_to_report_until_its_file_is_back(self, folder):
        contents = FileContents(ImageRoot(folder))
        digests = [contents.of("b.png"), contents.of("a.png")]
        word = {"left": "b.png", "right": "a.png", "decision": "not_duplicate", "note": "no"}
        file = folder.parent / "d.jsonl"
        file.write_text(lines(word | {"contents": digests}))
        held = folder.parent / "report" / "decisions.jsonl"
        b = (folder / "b.png").read_bytes()
        (folder / "b.png").unlink()
        run(folder, file)
        scene(2).save(folder / "b.png")
        run(folder, held)
        assert "left out by your decisions" not in run(folder, held)[1]
        (folder / "b.png").write_bytes(b)
        assert "1 pair is left out by your decisions" in run(folder, held)[1]
        assert json.loads(held.read_text()) == word | {"contents": digests}

    def test_a_decision_that_a_later_one_replaces_does_not_come_back(self, folder):
        contents = FileContents(ImageRoot(folder))
        now = [contents.of("a.png"), contents.of("b.png")]
        word = {"left": "a.png", "right": "b.png"}
        turned = {"left": "b.png", "right": "a.png"}
        no, yes, later = ({"decision": one} for one in ("not_duplicate", "duplicate", "later"))
        other = {"contents": [DIGEST, now[1]]}
        file, held = folder.parent / "d.jsonl", folder.parent / "report" / "decisions.jsonl"
        file.write_text(
            lines(
                word | no, turned | yes, word | other | no, turned | yes | {"contents": now[::-1]}, word | other | later
            )
        )
        run(folder, file)
        kept = [turned | yes, turned | yes | {"contents": now[::-1]}, word | other | later]
        assert [json.loads(line) for line in held.read_text().splitlines()] == kept
        file.write_text(lines(word | other | no, turned | yes))
        run(folder, file)
        assert [json.loads(line) for line in held.read_text().splitlines()] == [turned | yes | {"contents": now[::-1]}]

    def test_the_last_word_on_a_pair_counts(self, folder):
        file = folder.parent / "d.jsonl"
        word = {"left": "a.png", "right": "b.png", "decision": "not_duplicate"}
        file.write_text(lines(word, word | {"decision": "duplicate"}))
        run(folder, file)
        assert members(folder) == [["a.png", "b.png", "c.png"]]

    def test_a_group_that_is_decided_says_so(self, folder):
        file = folder.parent / "d.jsonl"
        words = [{"left": "a.png", "right": right, "decision": "duplicate"} for right in ("b.png", "c.png")]
        file.write_text(lines(*words))
        run(folder, file)
        (group,) = map(json.loads, (folder.parent / "report" / "groups.jsonl").read_text().splitlines())
        assert group["state"] == "decided"
        assert "3 images, 3 pairs, decided" in (folder.parent / "report" / "report.html").read_text("utf-8")
