"""Relative paths as keys of objects, and as parts of addresses."""

import posixpath

from imagetools.errors import MissingImage, UnsupportedImage
from imagetools.paths import require_path, shown


def key_of(path: str) -> str:
    """Return the key below the prefix that a path means, as a folder would.

    MissingImage, OutsideRoot, UnsupportedImage.
    """
    name = shown(path)
    require_path(name, path)
    key = posixpath.normpath(path)
    if key == "." or not path:
        raise UnsupportedImage(name, "is a folder, not a file")
    try:
        key.encode()
    except UnicodeEncodeError as exc:
        raise MissingImage(name, "the name is no valid Unicode") from exc
    if any(ord(char) < 32 or ord(char) == 127 for char in key):
        raise UnsupportedImage(name, "the name has control characters, with which no object can be asked for")
    return key
