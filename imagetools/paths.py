"""Relative paths from other people, and the plain files that they lead to.

No name is trusted: it is checked as text, then opened part by part, so that nobody can swap a folder for a symbolic
link in between.
"""

import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from imagetools.errors import ImageTooLarge, MissingImage, OutsideRoot, UnsupportedImage

MAX_PATH_BYTES: Final = 4096
"""Longest relative path, in UTF-8: the limit of Linux, and of a Kafka key here."""

# O_PATH needs no right to list a folder; systems without it open it for reading
_WALK: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW
# O_NONBLOCK: opening a pipe, put there after the check, would wait for its other end
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


# control characters, separators of lines and paragraphs, marks of text direction, and lone surrogates; the joiners of
# emoji and of Persian belong to a name
_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def printable(text: str, *, keep: str = "") -> str:
    """Escape every character that a terminal would obey instead of show, except those in `keep`.

    An escaped newline keeps a message on one line, so that no file name passes for a line of the program.
    """
    return _UNPRINTABLE.sub(lambda found: found[0] if found[0] in keep else ascii(found[0])[1:-1], text)


def shown(path: str) -> str:
    """Return a path fit for a message: `printable`, and cut where it is longer than any path."""
    text = printable(path)
    return text if len(text) <= MAX_PATH_BYTES else f"{text[:200]}… ({len(text):,} characters)"


def one_file(one: Path, two: Path) -> str:
    """Return how two paths lead to one file, such as "by a symbolic link"; empty for two files, or where one is gone.

    Such paths name the same bytes on disk: deleting one frees nothing, or leaves a link that leads nowhere.
    """
    try:
        own = identity(one)
        if own is None or own != identity(two):
            return ""
        if os.path.abspath(one) == os.path.abspath(two):
            return "by the same path"
        return "by a symbolic link" if os.path.realpath(one) == os.path.realpath(two) else "by a hard link"
    except OSError:
        return ""


def identity(path: Path) -> tuple[int, ...] | None:
    """Return what is equal for two paths to one file, and for no others; None where the path leads nowhere."""
    try:
        status = path.stat()
    except OSError:
        return None
    # a file system without inodes may number all files alike, so size and time must agree too
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns) if status.st_ino else None


def require_path(name: str, path: str) -> None:
    """Refuse a text that cannot be a path below a folder. MissingImage, OutsideRoot."""
    if "\0" in path:
        raise MissingImage(name.replace("\0", "\\0"), "no file can have a name with a NUL")
    try:
        length = len(os.fsencode(path))
    except UnicodeEncodeError as exc:
        raise MissingImage(name, "the name is no valid Unicode") from exc
    if length > MAX_PATH_BYTES:
        raise MissingImage(name, f"the path has {length:,} bytes, the limit is {MAX_PATH_BYTES:,}")
    if os.path.isabs(path):
        raise OutsideRoot(name, "is an absolute path; paths are relative to the folder of images")
    depth = 0
    for part in path.split("/"):
        depth += {"": 0, ".": 0, "..": -1}.get(part, 1)
        if depth < 0:
            raise OutsideRoot(name, "leads out of the folder of images by '..'")


def require_utf8(path: str) -> None:
    """Refuse a path that fits no message. UnsupportedImage."""
    try:
        path.encode()
    except UnicodeEncodeError as exc:
        raise UnsupportedImage(shown(path), "the file's name is not valid UTF-8; rename it") from exc


def require_file(name: str, mode: int) -> None:
    """Refuse anything but a plain file, by its `st_mode`. MissingImage, UnsupportedImage."""
    if stat.S_ISREG(mode):
        return
    if stat.S_ISLNK(mode):
        raise MissingImage(name, "its symbolic link leads nowhere")
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
    raise UnsupportedImage(name, f"is {kinds.get(stat.S_IFMT(mode), 'a device')}, not a file")


def open_file(name: str, root: str, parts: Sequence[str]) -> int:
    """Open a file for reading, part by part below the root, following no link that was put there meanwhile.

    root   an absolute path without links
    parts  the path below it, without links
    UnsupportedImage where it is no plain file; OSError as the system gives it.
    """
    if not parts:
        raise UnsupportedImage(name, "is a folder, not a file")
    folder = os.open(root, _WALK)
    try:
        for part in parts[:-1]:
            inner = os.open(part, _WALK, dir_fd=folder)
            os.close(folder)
            folder = inner
        # checked before it is opened: opening a device can set it going
        require_file(name, os.stat(parts[-1], dir_fd=folder, follow_symlinks=False).st_mode)
        return os.open(parts[-1], _READ, dir_fd=folder)
    finally:
        os.close(folder)


def read_capped(name: str, descriptor: int, limit: int) -> bytes:
    """Return the bytes of an open file, at most `limit`.

    ImageTooLarge, UnsupportedImage; OSError as the system gives it.
    """
    status = os.fstat(descriptor)
    require_file(name, status.st_mode)
    if status.st_size > limit:
        raise ImageTooLarge(name, f"{status.st_size:,} bytes, the limit is {limit:,}")
    chunks = []
    left = limit + 1
    while left and (chunk := os.read(descriptor, min(left, max(status.st_size + 1, 65536)))):
        chunks.append(chunk)
        left -= len(chunk)
    if not left:
        raise ImageTooLarge(name, f"more than {limit:,} bytes, and growing")
    return b"".join(chunks)
