"""The records on the wire; one frozen dataclass for each published Avro schema, with the schema's own field names.

What each field means stands once, in the `.avsc` beside this file.
"""

from collections.abc import Callable
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
class Part:
    """A picture inside an image: its box, as shares of width and height, and its fingerprint."""

    left: float
    top: float
    right: float
    bottom: float
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """embeddings: the fingerprint of one image at one content."""

    request_id: int
    relative_path: str
    fingerprint: Fingerprint
    model: str
    digest: bytes
    alert: bool = True
    parts: tuple[Part, ...] = ()


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


@dataclass(frozen=True, slots=True)
class Envelope:
    """Whose request it is, and where its reply goes."""

    correlation_id: str
    bridge: str
    partition: int
    deadline: datetime


@dataclass(frozen=True, slots=True)
class EncodeRequest:
    """encode.requests: ask for an image's fingerprint."""

    envelope: Envelope
    relative_path: str = ""
    image: bytes | None = None


@dataclass(frozen=True, slots=True, eq=False)
class SearchRequest:
    """search.requests: ask for a fingerprint's neighbors."""

    envelope: Envelope
    fingerprint: Fingerprint
    nb_neighbors: int
    digest: bytes = b""
    model: str = ""
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class MatchRequest:
    """match.requests: ask which neighbors show the candidate's picture."""

    envelope: Envelope
    candidate: str = ""
    neighbors: tuple[str, ...] = ()
    image: bytes | None = None
    original_width: int = 0
    original_height: int = 0


class Answered(StrEnum):
    """What became of a request."""

    SERVED = "served"
    MISSING = "missing"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, eq=False)
class Reply:
    """replies: the answer to one request."""

    correlation_id: str
    bridge: str
    outcome: Answered = Answered.SERVED
    error_message: str = ""
    model: str = ""
    fingerprint: Fingerprint = field(default_factory=lambda: np.empty(0, np.float32))
    parts: tuple[Part, ...] = ()
    neighbors: tuple[Neighbor, ...] = ()
    duplicated: tuple[Duplicate, ...] = ()


class State(StrEnum):
    """What a process of a stage is doing."""

    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting"
    DIED = "died"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class StageState:
    """stage.states: what one process of a stage is doing."""

    stage: str
    process: str
    host: str
    state: State
    reason: str = ""
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    restarts: int = 0
    images_dir: str = ""


Request = EncodeRequest | SearchRequest | MatchRequest
Record = (
    ImageNew
    | Embedding
    | Candidates
    | Duplicates
    | Verdict
    | EncodeRequest
    | SearchRequest
    | MatchRequest
    | Reply
    | StageState
)


def to_plain(record: Record) -> dict[str, Any]:
    """The record as the dictionaries, lists and numbers that Avro and JSON are written from."""
    return {name: _plain(getattr(record, name)) for name in record.__dataclass_fields__}


def _plain(value: Any) -> Any:
    match value:
        case np.ndarray():
            return value.tolist()
        case StrEnum():
            return value.value
        case tuple() if value and isinstance(value[0], Neighbor | Duplicate):
            return [_fields(one) for one in value]
        case tuple() if value and isinstance(value[0], Part):
            return [{name: _plain(field) for name, field in _fields(one).items()} for one in value]
        case Envelope():
            return _fields(value)
        case _:
            return value


def from_plain(kind: type[Any], plain: dict[str, Any]) -> Any:
    """The record of that kind, from what an Avro reader gives."""
    converted = {name: _FROM_PLAIN[name](value) for name, value in plain.items() if name in _FROM_PLAIN}
    if "outcome" in plain:
        converted["outcome"] = (Outcome if kind is Verdict else Answered)(plain["outcome"])
    if kind is StageState:
        converted["state"] = State(plain["state"])
    return kind(**plain | converted)


def _duplicate(plain: dict[str, Any]) -> Duplicate:
    return Duplicate(**{**plain, "points": tuple(tuple(point) for point in plain["points"])})


def _part(plain: dict[str, Any]) -> Part:
    return Part(**{**plain, "fingerprint": np.asarray(plain["fingerprint"], np.float32)})


# in every record that has a field of such a name, it is of the one kind
_FROM_PLAIN: dict[str, Callable[[Any], Any]] = {
    "fingerprint": lambda numbers: np.asarray(numbers, dtype=np.float32),
    "neighbors": lambda items: tuple(n if isinstance(n, str) else Neighbor(**n) for n in items),
    "duplicated": lambda items: tuple(map(_duplicate, items)),
    "parts": lambda items: tuple(map(_part, items)),
    "unreadable": tuple,
    "envelope": lambda plain: Envelope(**plain),
}


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}
