"""A folder as people have it: what is found in it, and word of everything that is passed over."""

import os
import socket
from pathlib import Path

import pytest
from PIL import Image

from imagetools import folder as folders
from imagetools.folder import NO_IMAGE, REPORT_FILES, REPORT_MARK, Skipped, Tally, find_images


def look(folder: Path) -> tuple[list[str], Tally]:
    tally = Tally()
    return list(find_images(folder, on_skipped=tally.add)), tally


def kinds(tally: Tally) -> dict[str, str]:
    return {one.path: one.kind for one in tally.listed}


def test_formats_that_are_not_read_are_listed_with_what_to_do(tmp_path: Path) -> None:
    for name in ("a.CR2", "b.dng", "c.svg", "d.pdf", "e.psd", "f.jp2", "g.jxl", "h.ico"):
        (tmp_path / name).touch()
    found, tally = look(tmp_path)
    assert found == []
    assert list(kinds(tally).values()) == [
        "camera raw", "camera raw", "SVG", "PDF", "Photoshop", "JPEG 2000", "JPEG XL", "icon",
    ]  # fmt: skip
    assert all("export it as JPEG" in one.reason for one in tally.listed)
    assert str(tally) == ("not looked at: 2 camera raw, 1 JPEG 2000, 1 JPEG XL, 1 PDF, 1 Photoshop, 1 SVG, 1 icon")


def test_files_that_are_no_images_are_one_number(tmp_path: Path) -> None:
    for name in ("notes.txt", "a.zip", "a.jpg.xmp", "a.json", "Thumbs.db", ".DS_Store", "film.mp4"):
        (tmp_path / name).touch()
    _, tally = look(tmp_path)
    assert tally.listed == []
    assert str(tally) == "not looked at: 7 not images"
    one = Tally()
    one.add(Skipped("a.txt", NO_IMAGE, ""))
    assert str(one) == "not looked at: 1 not an image"


def test_a_file_without_an_extension_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    for number, kind in enumerate(("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")):
        Image.new("RGB", (8, 8)).save(tmp_path / f"saved{number}", kind)
    (tmp_path / "README").write_text("BM is how a bitmap begins, and this text begins with it.")
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nowhere").symlink_to("gone")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(tmp_path / "socket"))
        found, tally = look(tmp_path)
    assert found == [f"saved{number}" for number in range(8)]
    assert kinds(tally) == dict.fromkeys(["README", "empty", "nowhere", "pipe", "socket"], folders.NO_EXTENSION)


def test_what_is_hidden_is_listed_and_a_hidden_folder_counts_once(tmp_path: Path) -> None:
    (tmp_path / ".trash" / "deep").mkdir(parents=True)
    for path in (".trash/deep/a.jpg", ".trash/b.jpg", "._c.jpg", ".gitignore"):
        (tmp_path / path).touch()
    found, tally = look(tmp_path)
    assert found == []
    assert kinds(tally) == {".trash": folders.HIDDEN, "._c.jpg": folders.HIDDEN}
    assert tally.counts[folders.NO_IMAGE] == 1


def test_links_that_lead_out_are_listed_and_those_that_stay_are_followed_or_found_elsewhere(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    for path in (tmp_path / "out" / "x.jpg", root / "sub" / "a.jpg"):
        path.touch()
    (root / "file.jpg").symlink_to("../out/x.jpg")
    (root / "folder").symlink_to("../out")
    (root / "text.txt").symlink_to("../out/x.txt")
    (root / "again").symlink_to("sub")
    (root / "b.jpg").symlink_to("sub/a.jpg")
    found, tally = look(root)
    assert found == ["b.jpg", "sub/a.jpg"]
    assert kinds(tally) == {"file.jpg": folders.LEADS_OUT, "folder": folders.LEADS_OUT}
    assert tally.counts[folders.NO_IMAGE] == 1


def test_thumbnails_of_an_earlier_report_are_passed_over_wherever_it_lies(tmp_path: Path) -> None:
    for report in (tmp_path, tmp_path / "2024" / "report"):
        files = report / REPORT_FILES
        files.mkdir(parents=True)
        (files / REPORT_MARK).touch()
        (files / "000000.jpg").touch()
        (report / "report.html").touch()
        (report / "alerts.jsonl").touch()
        # of the person whose folder it is
        (report / "holiday.jpg").touch()
    found, tally = look(tmp_path)
    assert found == ["2024/report/holiday.jpg", "holiday.jpg"]
    assert kinds(tally) == dict.fromkeys([f"2024/report/{REPORT_FILES}", REPORT_FILES], folders.EARLIER_REPORT)
    assert tally.counts.total() == 2


def test_a_folder_of_any_size_fits_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "MAX_LISTED", 10)
    tally = Tally()
    for number in range(25):
        tally.add(Skipped(f"{number}.svg", "SVG", "SVG is not read"))
        tally.add(Skipped(f"{number}.txt", folders.NO_IMAGE, "no image"))
    assert [one.path for one in tally.listed] == [f"{number}.svg" for number in range(10)]
    assert tally.unlisted == 15
    assert tally.words == "25 SVG, 25 not images"
