"""Embeddings that a benchmark has computed, in a file for its next run."""

import io
from collections.abc import Sequence
from pathlib import Path

import fastavro

from schemas.codec import SingleObjectCodec
from schemas.records import Embedding
from streams.topics import EMBEDDINGS


class Cache:
    """Records that were computed once, in one file; without one they are computed every time."""

    def __init__(self, file: Path | None) -> None:
        """Read the file, if there is one."""
        self._file = file
        self._codec = SingleObjectCodec()
        self._known: dict[str, Embedding] = {}
        if file is not None and file.is_file():
            with file.open("rb") as opened:
                for row in fastavro.reader(opened):
                    assert isinstance(row, dict)
                    self._known[row["key"]] = self._codec.decode(EMBEDDINGS.name, Embedding, row["record"])

    def missing(self, keys: Sequence[str]) -> list[str]:
        """Return the keys that have no record yet."""
        return [key for key in keys if key not in self._known]

    def add(self, key: str, record: Embedding) -> None:
        """Keep a record."""
        self._known[key] = record

    def get(self, key: str) -> Embedding | None:
        """Return a record, None where the image could not be read."""
        return self._known.get(key)

    def save(self) -> None:
        """Write the file."""
        if self._file is None:
            return
        schema = {
            "type": "record",
            "name": "Kept",
            "fields": [{"name": "key", "type": "string"}, {"name": "record", "type": "bytes"}],
        }
        rows = ({"key": key, "record": self._codec.encode(EMBEDDINGS.name, one)} for key, one in self._known.items())
        out = io.BytesIO()
        fastavro.writer(out, schema, rows)
        self._file.write_bytes(out.getvalue())
