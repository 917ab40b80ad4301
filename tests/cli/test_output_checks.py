"""Places for results are tried before the work, and other people's files are left alone."""

import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import main
from cli.output_checks import check_file, check_folder, check_picture, check_report, report_folder
from imagetools.errors import CannotWrite
from imagetools.folder import REPORT_FILES, REPORT_MARK
from imagetools.image_root import ImageRoot
from tests.support.reporting import write_plain_report
from tests.support.streaming import scene


def refused(*words: str | Path) -> str:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 2, result.output
    assert len(result.output.splitlines()) == 1, result.output
    return result.output


def test_a_report_that_cannot_be_written_is_refused_before_kafka_is_started(tmp_path):
    scene(1).save(tmp_path / "a.png")
    assert "--report /proc/nope: cannot be written" in refused("find", tmp_path, "--report", "/proc/nope")


def test_a_demo_a_picture_and_a_model_that_cannot_be_written_are_refused_first(tmp_path):
    scene(1).save(tmp_path / "a.png")
    assert "/proc/nope" in refused("demo", "--folder", "/proc/nope")
    pair = (tmp_path / "a.png", tmp_path / "a.png")
    assert "no folder" in refused("compare", *pair, "--picture", tmp_path / "none" / "pair.png")
    assert ".png" in refused("compare", *pair, "--picture", tmp_path / "pair.docx")
    assert "/proc/pair.png" in refused("compare", *pair, "--picture", "/proc/pair.png")
    assert "/proc/mine.th" in refused("train", tmp_path, "--out", "/proc/mine.th")
    assert "/proc/mine.onnx" in refused("quantize", tmp_path, "--out", "/proc/mine.onnx")


def test_a_trial_leaves_nothing_and_changes_nothing(tmp_path):
    check_folder(tmp_path / "new" / "deep", "--out")
    check_file(tmp_path / "new" / "file.th", "--out")
    assert [path.name for path in tmp_path.rglob("*")] == ["new", "deep"]
    (tmp_path / "pair.png").write_text("as it was")
    check_picture(tmp_path / "pair.png", "--picture")
    assert (tmp_path / "pair.png").read_text() == "as it was"
    with pytest.raises(CannotWrite, match="is a folder"):
        check_file(tmp_path / "new", "--out")
    with pytest.raises(CannotWrite, match="is a file"):
        check_folder(tmp_path / "pair.png", "--report")


@pytest.mark.parametrize("name", ["report.html", "alerts.jsonl", REPORT_FILES])
def test_a_report_takes_no_file_that_is_not_of_a_report_of_ours(tmp_path, name):
    (tmp_path / name).mkdir() if name == REPORT_FILES else (tmp_path / name).write_text("mine")
    with pytest.raises(CannotWrite, match=name):
        check_report(tmp_path)
    assert not (tmp_path / REPORT_FILES / REPORT_MARK).exists()


def test_a_report_in_a_folder_with_other_files_leaves_them(tmp_path):
    (tmp_path / "holiday.jpg").write_text("mine")
    for _ in range(2):
        check_report(tmp_path)
    assert (tmp_path / "holiday.jpg").read_text() == "mine"


def test_a_report_holds_no_thumbnail_of_an_earlier_one(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for number in range(4):
        scene(number).save(images / f"{number}.png")

    def write(*pairs: tuple[str, str]) -> set[str]:
        shown = {"score": 1.0, "edit": "", "inliers": 0, "agreement": 1.0, "coverage_candidate": 1.0}
        shown["coverage_neighbor"] = 1.0
        alerts = [{"candidate": a, "duplicated": [{"relative_path": b, **shown}], "threshold": 0.75} for a, b in pairs]
        write_plain_report(tmp_path / "report", alerts, ImageRoot(images))
        return {path.name for path in (tmp_path / "report" / REPORT_FILES).iterdir()}

    assert write(("0.png", "1.png"), ("2.png", "3.png")) == {
        REPORT_MARK,
        "paths.js",
        *(f"00000{n}.jpg" for n in range(4)),
    }
    (tmp_path / "report" / REPORT_FILES / "note.txt").write_text("mine")
    assert write(("0.png", "1.png")) == {REPORT_MARK, "paths.js", "000000.jpg", "000001.jpg", "note.txt"}


@pytest.mark.parametrize(
    "words",
    [
        ("find", ".", "--report", ""), ("demo", "--folder", ""), ("up", "--data", ""), ("train", ".", "--out", ""),
        ("quantize", ".", "--out", ""), ("kafka", "start", "--data", ""),
    ],
    ids=lambda words: words[0],
)  # fmt: skip
def test_an_empty_path_is_refused_and_is_not_the_current_folder(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2, result.output
    assert "an empty path names nothing" in result.output
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_made_for_a_report_goes_again_without_one(tmp_path: Path) -> None:
    for name, before, wrote, stays in (
        ("made", False, False, False),
        ("was there", True, False, True),
        ("written", False, True, True),
    ):
        folder = tmp_path / name
        if before:
            folder.mkdir()
        with suppress(KeyboardInterrupt), report_folder(folder):
            assert folder.is_dir()
            if wrote:
                (folder / "report.html").write_text("a report")
            raise KeyboardInterrupt
        assert folder.exists() == stays, name


def test_a_report_folder_that_is_deleted_meanwhile_hides_no_error(tmp_path: Path) -> None:
    def work() -> None:
        with report_folder(tmp_path / "report"):
            shutil.rmtree(tmp_path / "report")
            raise RuntimeError("the work")

    with pytest.raises(RuntimeError, match="the work"):
        work()
