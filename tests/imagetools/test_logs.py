"""Names and messages that a terminal shows and does not obey, and a console that libraries do not write to."""

import json
import logging
import os
import signal
import subprocess
import sys
from datetime import datetime
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from cli.alerts import as_line, as_text
from cli.json_lines import json_line
from cli.main import main
from imagetools.logs import FORMAT, JsonLine, OneLine
from imagetools.paths import printable, shown
from schemas.records import Duplicate, Duplicates

HOSTILE = "a\x1b[31m\nb\x07\u202egpj.exe\x9b\u2028.jpg"
ESCAPED = r"a\x1b[31m\nb\x07\u202egpj.exe\x9b\u2028.jpg"
CONTROLS = set(map(chr, [*range(32), *range(127, 160), 0x61C, *range(0x200E, 0x2010), *range(0x2028, 0x202F)]))


def test_a_name_is_shown_with_what_a_terminal_would_obey_escaped():
    assert shown(HOSTILE) == ESCAPED
    assert shown("caf\udce9.jpg") == r"caf\udce9.jpg"
    assert not set(printable("".join(map(chr, range(0x3000))))) & CONTROLS


@pytest.mark.parametrize("name", ["Zoë/写真 (1).jpg", "👨‍👩‍👧.jpg", r"back\slash 'quoted'.jpg", "می‌خواهم.jpg"])
def test_a_name_of_any_language_is_shown_as_it_is(name):
    assert shown(name) == name


def test_what_is_to_be_kept_is_kept():
    assert printable("one\ntwo\x1b", keep="\n") == "one\ntwo\\x1b"


def test_a_record_is_one_line_and_a_traceback_keeps_its_lines():
    formatter = OneLine("%(levelname)s %(message)s")
    record = logging.LogRecord("x", logging.ERROR, "f", 1, "%s: not read", (HOSTILE,), None)
    assert formatter.format(record) == f"ERROR {ESCAPED}: not read"
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "failed", (), sys.exc_info())
    text = formatter.format(record)
    assert text.splitlines()[1].startswith("Traceback")
    assert not set(text) & (CONTROLS - {"\n"})


def test_a_record_in_json_is_one_line_with_its_exception_and_all_that_was_given():
    place = {"topic": "images.new", "partition": 3, "offset": 17}
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        record = logging.getLogger("x").makeRecord(
            "x", logging.ERROR, "f", 1, "%s: not read", (HOSTILE,), sys.exc_info(), extra=place
        )
    line = JsonLine().format(record)
    assert line.isascii()
    assert line.isprintable()
    fields = json.loads(line)
    assert fields.pop("exception").endswith(f"ValueError: {ESCAPED}")
    assert datetime.fromisoformat(fields.pop("time")).timestamp() == pytest.approx(record.created, abs=0.001)
    assert fields == {"level": "ERROR", "logger": "x", "message": f"{HOSTILE}: not read", **place}


def warned_of(folder: Path) -> Path:
    """A JPEG whose EXIF is cut off, which Pillow warns of."""
    file = folder / "a\x1b[31m\nb.jpg"
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"
    Image.new("RGB", (64, 64), "red").save(file, "JPEG", exif=exif)
    return file


def damaged_tiff(folder: Path) -> Path:
    """A TIFF that libtiff writes of to the standard error output."""
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    out = BytesIO()
    Image.fromarray(noise).convert("1").save(out, "TIFF", compression="group4")
    data = bytearray(out.getvalue())
    for place in range(50, 2000, 37):
        data[place] ^= 0x5A
    (folder / "bad.tif").write_bytes(data)
    return folder / "bad.tif"


def python(code: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    environ = {name: text for name, text in os.environ.items() if name != "PYTHONWARNINGS"}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], check=True, capture_output=True, text=True, env=environ
    )


DECODE_TWICE = """
import sys
from pathlib import Path
from imagetools import logs
from imagetools.decode import decode
from imagetools.paths import shown
logs.{}()
for path in sys.argv[1:] * 2:
    decode(Path(path).read_bytes(), shown(Path(path).name))
"""


def test_a_stage_logs_what_pillow_warns_of_in_one_line_with_the_image_for_each_image(tmp_path):
    lines = python(DECODE_TWICE.format("configure"), warned_of(tmp_path)).stderr.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert r" INFO a\x1b[31m\nb.jpg: UserWarning: Corrupt EXIF data." in line


def test_a_console_shows_neither_warnings_nor_the_chatter_of_c_libraries(tmp_path):
    run = python(DECODE_TWICE.format("keep_console_clear"), warned_of(tmp_path), damaged_tiff(tmp_path))
    assert run.stderr == ""


def test_a_stage_that_crashes_says_so_in_lines_that_are_safe():
    code = f"from imagetools import logs; logs.configure(); raise ValueError({HOSTILE!r})"
    run = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert run.returncode == 1
    assert "Traceback" in run.stderr
    assert not set(run.stderr) & (CONTROLS - {"\n"})


def test_a_process_that_a_library_kills_says_where_it_was():
    code = "import faulthandler\nfrom imagetools import logs\nlogs.configure()\nfaulthandler._sigsegv()"
    run = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert run.returncode == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in run.stderr
    assert 'File "<string>", line 4' in run.stderr


def test_commands_show_names_escaped_in_alerts_and_in_errors_of_ours_and_of_click(tmp_path):
    alert = Duplicates(1, HOSTILE, (Duplicate(HOSTILE, 1.0, edit="re-encoded"),))
    assert as_text(alert) == [f"{ESCAPED}  duplicates  {ESCAPED}  1.00  re-encoded"]
    assert json.loads(as_line(alert, {}))["candidate"] == HOSTILE
    (tmp_path / HOSTILE).write_text("no image")
    for words in (
        ("compare", tmp_path / HOSTILE, tmp_path / HOSTILE),
        ("compare", tmp_path / f"none{HOSTILE}", tmp_path / HOSTILE),
        ("find", tmp_path, HOSTILE),
        ("find", tmp_path, "--report", f"/proc/{HOSTILE}"),
        (HOSTILE,),
        ("find", tmp_path, f"--{HOSTILE}"),
    ):
        result = CliRunner().invoke(main, [str(word) for word in words])
        assert result.exit_code
        assert r"\x1b[31m\nb" in result.output
        assert not set(result.output) & (CONTROLS - {"\n"})


def test_a_message_of_several_lines_begins_no_line_of_its_own() -> None:
    stream = StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(OneLine(FORMAT))
    log = logging.Logger("test")
    log.addHandler(handler)
    try:
        raise ValueError("a\n2026-01-01 ERROR forged\x1b")
    except ValueError:
        log.exception("fault")
    lines = stream.getvalue().splitlines()
    assert lines[0].endswith("ERROR fault")
    assert lines[-1] == r"ValueError: a\n2026-01-01 ERROR forged\x1b"
    assert all(line.startswith("  ") for line in lines[2:-1])


@pytest.mark.parametrize("text", ["a\u2028b\x9b\u202e\x7f\n\x1b", '\U000e0067 é 写真 "\\\\'])
def test_lines_of_json_are_exact_and_can_be_shown(text: str) -> None:
    line = json_line({"path": text})
    assert json.loads(line) == {"path": text}
    assert line.decode()[:-1].isprintable()
