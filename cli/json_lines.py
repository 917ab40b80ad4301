"""Records as lines of JSON that are safe to show on a terminal."""

import json
import unicodedata
from typing import Any, Final

import msgspec

_ESCAPED: Final = frozenset({"Cc", "Cf", "Zl", "Zp"})


def json_line(record: Any) -> bytes:
    """Encode a record as one line; control characters beyond ASCII are escaped, too."""
    text = msgspec.json.encode(record).decode()
    if not text.isprintable():
        text = "".join(json.dumps(char)[1:-1] if unicodedata.category(char) in _ESCAPED else char for char in text)
    return text.encode() + b"\n"
