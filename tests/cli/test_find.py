"""`find` on a folder as people have it, and as it is interrupted."""

import json
import os
import signal
from pathlib import Path

import pytest

from bench.documents import document
from cli import find as find_command
from imagetools.scratch import LOCK
from streams.config import Config, KafkaConfig
from tests.cli.test_whole import ENVIRON, alive, descendants, pairs_in, start, wait_for
from tests.support.streaming import scene, write_groups

HOSTILE = "a\x1b[31m\nb.jpg"
CUT_OFF_EXIF = b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"


def everyday(folder: Path) -> None:
    """Copies, links, odd names, one form twice, a file that Pillow warns of, and much that is no image."""
    folder.mkdir()
    scene(1).save(folder / "original.png")
    scene(1).save(folder / HOSTILE, "JPEG", quality=80, exif=CUT_OFF_EXIF)
    scene(2).save(folder / "saved without extension", "PNG")
    os.link(folder / "saved without extension", folder / "hard.png")
    document("form", 2, 2).save(folder / "form.png")
    document("form", 2, 3).save(folder / "form filled in otherwise.png")
    (folder / "broken\x1b[2J.jpg").write_bytes(b"not an image")
    for name in ("raw.NEF", "drawing.svg", "paper.pdf", ".hidden.jpg", "Makefile", "notes.txt"):
        (folder / name).write_text("nothing to see")
    (folder.parent / "outside.jpg").write_bytes((folder / "original.png").read_bytes())
    (folder / "out.jpg").symlink_to("../outside.jpg")
    (Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.jpg"))).touch()


def test_a_folder_as_people_have_it(tmp_path):
    folder, log = tmp_path / "images", tmp_path / "log"
    everyday(folder)
    report = folder / "report"
    for run in range(2):
        find = start("find", folder, "--report", report, log=log)
        assert find.wait(120) == 0, log.read_text()
        text = log.read_text()
        assert "\x1b" not in text
        assert r"a\x1b[31m\nb.jpg" in text
        assert "Corrupt EXIF" not in text
        assert "the same file, by a hard link" in text
        summary = json.loads((report / "summary.json").read_text())
        # the report of the first run lies in the folder of the second
        assert (summary["images"], summary["complete"]) == (7, True)
        assert (summary["duplicates"], summary["same_file"], summary["dead_letters"]) == (1, 1, 1)
        kinds = {
            "camera raw": 1, "SVG": 1, "PDF": 1, "hidden": 1, "without extension": 1, "not images": 1,
            "outside by a link": 1, "with an unusable name": 1,
        }  # fmt: skip
        assert summary["not_looked_at"] == kinds | ({"of earlier reports": 1} if run else {})
        assert "1 pair is alike, and no duplicates" in text
        (alike,) = [json.loads(line) for line in (report / "similar.jsonl").read_text().splitlines()]
        assert {alike["candidate"], alike["relative_path"]} == {"form.png", "form filled in otherwise.png"}
        assert alike["relation"] == "template"
        assert len(alike["regions"]) > 1
        log.write_text("")
    assert frozenset((HOSTILE, "original.png")) in pairs_in(report / "alerts.jsonl")
    (letter,) = [json.loads(line) for line in (report / "dead-letters.jsonl").read_text().splitlines()]
    assert letter["relative_path"] == "broken\x1b[2J.jpg"
    assert "\x1b" not in letter["error_message"]


@pytest.mark.parametrize("named", [{}, {"FEATURES_DIR": ""}, {"FEATURES_DIR": "/mine"}])
def test_its_stages_share_a_store_of_features_in_a_folder_of_its_own_or_in_the_one_that_is_named(tmp_path, named):
    settings = find_command._settings(named, KafkaConfig(), None, tmp_path, tmp_path / "home")
    config = Config.from_env(settings)
    assert config.features_dir == Path(named.get("FEATURES_DIR") or tmp_path / "home" / "features")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_writes_a_partial_report(tmp_path, number):
    write_groups(tmp_path / "images", 60)
    log, report = tmp_path / "log", tmp_path / "report"
    find = start("find", tmp_path / "images", "--report", report, log=log)
    wait_for(lambda: "duplicates" in log.read_text())
    started = descendants(find)
    find.send_signal(number)
    assert find.wait(60) == 130, log.read_text()
    wait_for(lambda: not alive(started), 40)
    summary = json.loads((report / "summary.json").read_text())
    assert not summary["complete"]
    assert summary["ended"] == "interrupted"
    assert 0 < summary["done"] < summary["images"] == 180
    alerts = [json.loads(line) for line in (report / "alerts.jsonl").read_text().splitlines()]
    # each verdict of a duplicate has its alert
    assert len(alerts) == summary["duplicates"] > 0
    assert "<title>Partial: " in (report / "report.html").read_text("utf-8")
    assert f"Interrupted: {summary['done']} of 180 images were done" in log.read_text()
    assert "Traceback" not in log.read_text()


def test_a_second_interrupt_stops_at_once(tmp_path):
    write_groups(tmp_path / "images", 60)
    log, report = tmp_path / "log", tmp_path / "report"
    find = start("find", tmp_path / "images", "--report", report, log=log)
    wait_for(lambda: "duplicates" in log.read_text())
    started = descendants(find)
    # its stages are held up, so that none can end in order
    for process in started:
        if "matcher" in process.cmdline():
            process.suspend()
    find.send_signal(signal.SIGINT)
    wait_for(lambda: "Ctrl-C again stops at once" in log.read_text())
    find.send_signal(signal.SIGINT)
    assert find.wait(5) == 130
    wait_for(lambda: not alive(started), 40)
    assert not (report / "report.html").exists()


def test_an_interrupt_before_anything_is_done_says_so(tmp_path):
    write_groups(tmp_path / "images", 1)
    log = tmp_path / "log"
    find = start("find", tmp_path / "images", "--report", tmp_path / "report", log=log)
    wait_for(lambda: "starting Apache Kafka" in log.read_text())
    find.send_signal(signal.SIGINT)
    assert find.wait(60) == 130, log.read_text()
    assert "before any image was done: everything is stopped, no report was written" in log.read_text()
    assert "Traceback" not in log.read_text()


def test_what_a_killed_one_leaves_goes_at_the_next_start(tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setitem(ENVIRON, "TMPDIR", str(scratch))
    write_groups(tmp_path / "images", 1)
    killed = start("find", tmp_path / "images", log=tmp_path / "killed")
    wait_for(lambda: any("matcher" in process.cmdline() for process in alive(descendants(killed))))
    started = descendants(killed)
    killed.kill()
    killed.wait()
    wait_for(lambda: not alive(started), 40)
    assert [folder for folder in scratch.iterdir() if (folder / LOCK).exists()]
    again = start("find", tmp_path / "images", log=tmp_path / "again")
    assert again.wait(120) == 0, (tmp_path / "again").read_text()
    assert list(scratch.glob("imagetools-*")) == []


def test_a_folder_with_nothing_to_look_at_says_what_is_in_it(tmp_path):
    (tmp_path / "raw.NEF").touch()
    find = start("find", tmp_path, log=tmp_path / "log.txt")
    assert find.wait(60) != 0
    assert "no image in it; not looked at: 1 camera raw, 1 not an image" in (tmp_path / "log.txt").read_text()
