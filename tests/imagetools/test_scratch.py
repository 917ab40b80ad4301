"""Temporary folders go with their process, and at the latest with the next one."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from imagetools.scratch import LOCK, Scratch, sweep

HOLD = """
import sys, time
from pathlib import Path
from imagetools.scratch import Scratch
scratch = Scratch("imagetools-test-", Path(sys.argv[1]))
(scratch.path / "deep").mkdir()
(scratch.path / "deep" / "file").write_text("kept")
print(scratch.path, flush=True)
sys.stdin.read()
"""


def holder(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(parent)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def end(process: subprocess.Popen[str], number: signal.Signals) -> None:
    process.send_signal(number)
    process.communicate()


def test_the_folder_goes_with_the_block(tmp_path):
    with Scratch(parent=tmp_path) as folder:
        (folder / "file").touch()
        assert folder.parent == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_goes_at_the_next_start_and_what_is_in_use_stays(tmp_path):
    killed, left = holder(tmp_path)
    running, used = holder(tmp_path)
    try:
        end(killed, signal.SIGKILL)
        assert left.exists()
        with Scratch(parent=tmp_path):
            assert not left.exists()
            assert (used / "deep" / "file").read_text() == "kept"
            assert sweep(tmp_path) == []
    finally:
        end(running, signal.SIGKILL)
    assert sweep(tmp_path) == [used]


@pytest.mark.parametrize("name", ["imagetools-mine", "other-prefix"])
def test_a_folder_without_our_lock_or_our_prefix_is_never_touched(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / ("file" if name.startswith("imagetools-") else LOCK)).touch()
    assert sweep(tmp_path) == []
    assert (tmp_path / name).exists()


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / LOCK).touch()
    (tmp_path / "imagetools-link").symlink_to("mine")
    (tmp_path / "imagetools-locklink").mkdir()
    (tmp_path / "imagetools-locklink" / LOCK).symlink_to("../mine/" + LOCK)
    assert sweep(tmp_path) == []
    assert (tmp_path / "mine" / LOCK).exists()


def test_a_sweep_that_was_cut_off_is_finished_by_the_next(tmp_path):
    killed, left = holder(tmp_path)
    end(killed, signal.SIGKILL)
    (left / "deep" / "file").unlink()
    assert sweep(tmp_path) == [left]
