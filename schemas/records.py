"""The records on the wire; one frozen dataclass for each published Avro schema, with the schema's own field names.

What each field means stands once, in the `.avsc` beside this file.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

Fingerprint = npt.NDArray[np.float32]
"""float32 (d,), of unit length."""


@dataclass(frozen=True, slots=True)
class ImageNew:
    """images.new: an image was added or changed."""

    request_id: int
    relative_path: str
    alert: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """embeddings: the fingerprint of one image at one content."""

    request_id: int
    relative_path: str
    fingerprint: Fingerprint
    model: str
    digest: bytes
    alert: bool = True


@dataclass(frozen=True, slots=True)
class Neighbor:
    """An index hit."""

    relative_path: str
    score: float
    identical: bool = False


@dataclass(frozen=True, slots=True)
class Candidates:
    """candidates: the pairs to verify for one image."""

    request_id: int
    candidate: str
    neighbors: tuple[Neighbor, ...] = ()
    model: str = ""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A verified pair, seen from the candidate, with its evidence."""

    relative_path: str
    score: float
    inliers: int = 0
    agreement: float = 0.0
    mirrored: bool = False
    scale: float = 1.0
    angle: float = 0.0
    coverage_candidate: float = 0.0
    coverage_neighbor: float = 0.0
    edit: str = ""
    points: tuple[tuple[float, float, float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Duplicates:
    """duplicates: an alert."""

    request_id: int
    candidate: str
    duplicated: tuple[Duplicate, ...]
    model: str = ""
    threshold: float = 0.75
    time: datetime = field(default_factory=lambda: datetime.now(UTC))
    unreadable: tuple[str, ...] = ()


class Outcome(StrEnum):
    """What became of one announced image."""

    CLEAR = "clear"
    DUPLICATE = "duplicate"
    DEAD_LETTER = "dead_letter"


@dataclass(frozen=True, slots=True)
class Verdict:
    """verdicts: one for every announced image."""

    request_id: int | None
    relative_path: str
    outcome: Outcome
    reason: str = ""


Record = ImageNew | Embedding | Candidates | Duplicates | Verdict


def to_plain(record: Record) -> dict[str, Any]:
    """The record as the dictionaries, lists and numbers that Avro and JSON are written from."""
    match record:
        case Embedding():
            plain = {name: getattr(record, name) for name in record.__dataclass_fields__}
            return plain | {"fingerprint": record.fingerprint.tolist()}
        case Candidates():
            neighbors = [_fields(n) for n in record.neighbors]
            return _fields(record) | {"neighbors": neighbors}
        case Duplicates():
            return _fields(record) | {"duplicated": [_fields(d) for d in record.duplicated]}
        case Verdict():
            return _fields(record) | {"outcome": record.outcome.value}
        case _:
            return _fields(record)


def from_plain(kind: type[Any], plain: dict[str, Any]) -> Any:
    """The record of that kind, from what an Avro reader gives."""
    if kind is Embedding:
        plain = plain | {"fingerprint": np.asarray(plain["fingerprint"], dtype=np.float32)}
    elif kind is Candidates:
        plain = plain | {"neighbors": tuple(Neighbor(**n) for n in plain["neighbors"])}
    elif kind is Duplicates:
        duplicated = tuple(
            Duplicate(**{**d, "points": tuple(tuple(p) for p in d["points"])}) for d in plain["duplicated"]
        )
        plain = plain | {"duplicated": duplicated, "unreadable": tuple(plain["unreadable"])}
    elif kind is Verdict:
        plain = plain | {"outcome": Outcome(plain["outcome"])}
    return kind(**plain)


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}
