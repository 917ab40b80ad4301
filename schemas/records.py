"""The records on the wire: a frozen dataclass for each published Avro schema, with the schema's field names.

The `.avsc` files beside this one document the fields.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from schemas.group_records import DecisionRecord, GroupingFact, GroupRecord
from schemas.neighbor_records import Neighbor, ShardAnswer

T = TypeVar("T")

Fingerprint = npt.NDArray[np.float32]
"""float32 (d,), of unit length."""


@dataclass(frozen=True, slots=True)
class ImageNew:
    """images.new: an image was added or changed."""

    request_id: int
    relative_path: str
    alert: bool = True
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A later frame of an animation, with the whole as its box, or in earlier records a picture inside the image.

    left … bottom  its box, as shares of the image's width and height
    """

    left: float
    top: float
    right: float
    bottom: float
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """embeddings: the fingerprint and the local codes of one image at one content."""

    request_id: int
    relative_path: str
    fingerprint: Fingerprint
    model: str
    digest: bytes
    alert: bool = True
    parts: tuple[Part, ...] = ()
    codes: bytes = b""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Candidates:
    """candidates: the pairs to verify for one image."""

    request_id: int
    candidate: str
    neighbors: tuple[Neighbor, ...] = ()
    model: str = ""
    content: bytes = b""
    metadata: Mapping[str, str] = field(default_factory=dict)
    shard: ShardAnswer | None = None


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
    points: tuple[tuple[float, ...], ...] = ()
    relation: str = ""
    recoloured: float = 0.0
    regions: tuple[tuple[float, ...], ...] = ()
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class Similar:
    """An image that is alike and no duplicate, seen from the candidate."""

    relative_path: str
    relation: str
    reason: str = ""
    score: float = 0.0
    regions: tuple[tuple[float, ...], ...] = ()


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
    content: bytes = b""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Deduped:
    """deduped: an image that was loaded silently has been searched for."""

    relative_path: str
    content: bytes
    place: int
    time: datetime = field(default_factory=lambda: datetime.now(UTC))


class VerdictOutcome(StrEnum):
    """The outcome for one announced image."""

    CLEAR = "clear"
    DUPLICATE = "duplicate"
    DEAD_LETTER = "dead_letter"


@dataclass(frozen=True, slots=True)
class Verdict:
    """verdicts: the outcome for one announced image."""

    request_id: int | None
    relative_path: str
    outcome: VerdictOutcome
    reason: str = ""
    similar: tuple[Similar, ...] = ()


@dataclass(frozen=True, slots=True)
class Envelope:
    """The head of a request: who sends it, and where the reply goes."""

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
    codes: bytes = b""


@dataclass(frozen=True, slots=True)
class MatchRequest:
    """match.requests: ask which neighbors show the candidate's picture."""

    envelope: Envelope
    candidate: str = ""
    neighbors: tuple[str, ...] = ()
    image: bytes | None = None
    original_width: int = 0
    original_height: int = 0


class ReplyOutcome(StrEnum):
    """The outcome of a request."""

    SERVED = "served"
    MISSING = "missing"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, eq=False)
class Reply:
    """replies: the reply to one request."""

    correlation_id: str
    bridge: str
    outcome: ReplyOutcome = ReplyOutcome.SERVED
    error_message: str = ""
    model: str = ""
    fingerprint: Fingerprint = field(default_factory=lambda: np.empty(0, np.float32))
    parts: tuple[Part, ...] = ()
    neighbors: tuple[Neighbor, ...] = ()
    duplicated: tuple[Duplicate, ...] = ()
    codes: bytes = b""
    similar: tuple[Similar, ...] = ()
    shard: ShardAnswer | None = None


class State(StrEnum):
    """The state of a stage's process."""

    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting"
    DIED = "died"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class StageState:
    """stage.states: the state of one process of a stage."""

    stage: str
    process: str
    host: str
    state: State
    reason: str = ""
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    restarts: int = 0
    images_dir: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


Request = EncodeRequest | SearchRequest | MatchRequest
ImageRecord = (
    ImageNew | Embedding | Candidates | Duplicates | Verdict | GroupRecord | DecisionRecord | GroupingFact | Deduped
)
"""A record about images, as the stages read and write them."""
Record = ImageRecord | Request | Reply | StageState
"""Any record on the wire; the one list of them."""


def to_plain(record: Record) -> dict[str, Any]:
    """Return the record as dictionaries, lists and numbers, of which Avro and JSON are written."""
    plain: dict[str, Any] = msgspec.to_builtins(record, builtin_types=(bytes, datetime), enc_hook=_numbers)
    return plain


def from_plain(kind: type[T], plain: dict[str, Any]) -> T:
    """Return the record of that kind from what an Avro reader gives; ValueError if it does not fit."""
    return msgspec.convert(plain, kind, dec_hook=_fingerprint)


def _numbers(fingerprint: Fingerprint) -> list[float]:
    numbers: list[float] = fingerprint.tolist()
    return numbers


def _fingerprint(_kind: type, numbers: list[float]) -> Fingerprint:
    return np.asarray(numbers, np.float32)
