"""Checks of output paths before the work begins, so that hours of work do not end at a read-only folder."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from PIL import Image

from imagetools.errors import CannotWrite
from imagetools.folder import BESIDE_THUMBNAILS, REPORT_FILES, REPORT_MARK
from imagetools.paths import shown


def check_folder(folder: Path, option: str) -> None:
    """Create the folder if it is missing, and try to write a file in it. CannotWrite."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except FileExistsError as exc:
        raise CannotWrite(f"{option} {shown(str(folder))}: is a file, not a folder") from exc
    except OSError as exc:
        raise CannotWrite(f"{option} {shown(str(folder))}: cannot be written: {exc.strerror}") from exc


def check_file(file: Path, option: str) -> None:
    """Check that a file can be written there; its folder must exist. CannotWrite."""
    name = f"{option} {shown(str(file))}"
    if file.is_dir():
        raise CannotWrite(f"{name}: is a folder, not a file")
    if not file.parent.is_dir():
        raise CannotWrite(f"{name}: there is no folder {shown(str(file.parent))}")
    try:
        if os.path.lexists(file):
            with file.open("ab"):
                return
        with file.open("xb"):
            file.unlink()
    except OSError as exc:
        raise CannotWrite(f"{name}: cannot be written: {exc.strerror}") from exc


def check_picture(file: Path, option: str) -> None:
    """Check that a picture can be written there, in the format of the name's suffix. CannotWrite."""
    Image.init()
    format_name = Image.registered_extensions().get(file.suffix.lower())
    if format_name is None or format_name not in Image.SAVE:
        raise CannotWrite(f"{option} {shown(str(file))}: this suffix names no picture format; use .png or .jpg")
    check_file(file, option)


def check_report(folder: Path) -> None:
    """Create a report's folder, and mark the part of it that is ours. CannotWrite.

    Other people's files may be in it, and stay; one that has the name of ours is in the way.
    """
    check_folder(folder, "--report")
    files = folder / REPORT_FILES
    if not (files / REPORT_MARK).exists():
        taken = sorted(name for name in (REPORT_FILES, *BESIDE_THUMBNAILS) if os.path.lexists(folder / name))
        if taken:
            raise CannotWrite(
                f"--report {shown(str(folder))}: {taken[0]} in it is not of a report that this command wrote; "
                "name another folder, or remove that"
            )
    try:
        make_report_files(folder)
    except OSError as exc:
        raise CannotWrite(f"--report {shown(str(folder))}: cannot be written: {exc.strerror}") from exc


@contextmanager
def report_folder(folder: Path) -> Iterator[None]:
    """As `check_report`; a folder that was made for a report, and that got none, goes again."""
    made = not folder.exists()
    check_report(folder)
    try:
        yield
    finally:
        files = folder / REPORT_FILES
        # what cannot be removed stays: how the work ended matters more
        with suppress(OSError):
            if made and os.listdir(folder) == [REPORT_FILES] and os.listdir(files) == [REPORT_MARK]:
                (files / REPORT_MARK).unlink()
                files.rmdir()
                folder.rmdir()


def make_report_files(folder: Path) -> Path:
    """Create the folder of a report's thumbnails, with the mark that identifies it as ours."""
    files = folder / REPORT_FILES
    files.mkdir(parents=True, exist_ok=True)
    (files / REPORT_MARK).write_text("Thumbnails of a report by imagetools, which replaces them.\n", "utf-8")
    return files
