"""Kafka messages as records: the key is the path, the value Avro; both are checked."""

from itertools import islice
from typing import Any, Final

from confluent_kafka import Message

from imagetools.errors import MessageError
from schemas.codec import Codec, R
from schemas.group_records import DecisionRecord, GroupingFact, GroupRecord
from schemas.records import Candidates, Duplicates, Record
from streams.stage import Headers, Received
from streams.topics import ANNOUNCED_AT, ANNOUNCED_IN, REPLAYED, REPLAYED_LETTER

MAX_KEY_BYTES = 4096

MAX_HEADERS, MAX_HEADER_CHARS = 64, 1000
"""Of an announcement's headers, where they are shown as text."""

Place = tuple[str, int]
"""A topic's name on the cluster, and a partition."""


def read_message(message: Message, codec: Codec, kind: type[R], topic: str = "") -> Received[R]:
    """Decode a message. MessageError says what is wrong with its key or value.

    topic  where it was read, without a prefix
    """
    path, value = path_of_key(message), message.value()
    record = None
    if value is not None:
        record = codec.decode(message.topic() or "", kind, value)
        if path_of(record) != path:
            raise MessageError(f"its key is {path[:200]!r}, and its path {path_of(record)[:200]!r}")
    _, timestamp = message.timestamp()
    place = message.partition() or 0, message.offset() or 0
    return Received(path, record, *place, timestamp, headers(message), topic)


def path_of_key(message: Message) -> str:
    """Return the path in the message's key. MessageError when the key is no path."""
    key = message.key()
    if not key:
        raise MessageError("has no key; the key is the image's path")
    if len(key) > MAX_KEY_BYTES:
        raise MessageError(f"its key has {len(key):,} bytes; a path has at most {MAX_KEY_BYTES:,}")
    try:
        return bytes(key).decode()
    except UnicodeDecodeError as exc:
        raise MessageError(f"its key is not UTF-8: {exc}") from exc


def place_of(message: Message) -> Place:
    """Return the partition that holds the message."""
    return message.topic() or "", message.partition() or 0


def coordinates(message: Message) -> dict[str, Any]:
    """Return where the message stands, for a log record's `extra`."""
    return {"topic": message.topic(), "partition": message.partition(), "offset": message.offset()}


def path_of(record: Record) -> str:
    """Return the path of the image that a record is about, or the id of what it is about: the key of its message."""
    match record:
        case Candidates() | Duplicates():
            return record.candidate
        case GroupRecord() | DecisionRecord() | GroupingFact():
            return record.id
        case _:
            return record.relative_path  # type: ignore[union-attr]


_OURS: Final = (ANNOUNCED_AT, ANNOUNCED_IN, REPLAYED, REPLAYED_LETTER)
"""Headers of the stages and of replays."""


def announced_headers(message: Message) -> dict[str, str]:
    """Return the headers of the announcement that a message follows from, as text; of two of one name, the last.

    At most MAX_HEADERS, and of each value MAX_HEADER_CHARS; bytes that are no UTF-8 are replaced.
    """
    own = {name: (value or b"").decode("utf-8", "replace") for name, value in headers(message) if name not in _OURS}
    return {name: text[:MAX_HEADER_CHARS] for name, text in islice(own.items(), MAX_HEADERS)}


def headers(message: Message) -> Headers:
    """Return the message's headers, in order."""
    return tuple(message.headers() or ())  # type: ignore[arg-type]
