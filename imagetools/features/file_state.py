"""Tell whether a file is still what it was."""

import os
from pathlib import Path


def file_state(root: Path, path: str) -> str | None:
    """Return inode, size and times of last change as one text; None without a file."""
    try:
        status = os.stat(os.path.join(root, path))
    except (OSError, ValueError):
        return None
    # a program may reset the time of modification, such as one that turns a photo by its EXIF, but not that of change
    return f"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"
