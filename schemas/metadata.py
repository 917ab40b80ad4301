"""An image's metadata: its producer's own names and values, which come back with it."""

from collections.abc import Mapping
from typing import Final

MAX_METADATA_BYTES: Final = 4096
"""Of one image, names and values together, in UTF-8."""

INSTEAD: Final = "send less, such as the key under which your own database has the rest"


def metadata_problem(metadata: Mapping[str, str]) -> str | None:
    """Return what is wrong with an image's metadata and how to do it right; None where it is right."""
    if "" in metadata:
        return "a name is empty; each value needs a name"
    try:
        size = metadata_bytes(metadata)
    except UnicodeEncodeError:
        return "a name or a value is not valid UTF-8"
    if size > MAX_METADATA_BYTES:
        return f"{size:,} bytes of names and values, and {MAX_METADATA_BYTES:,} are possible; {INSTEAD}"
    return None


def metadata_bytes(metadata: Mapping[str, str]) -> int:
    """Return how many bytes names and values have in UTF-8. UnicodeEncodeError."""
    return sum(len(name.encode()) + len(value.encode()) for name, value in metadata.items())
