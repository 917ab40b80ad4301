"""Records to bytes and back: Avro in single-object encoding, or in Confluent framing where a registry is given.

Single-object encoding (Avro specification): C3 01, the writer schema's CRC-64-AVRO fingerprint in eight bytes, the
body; so every message names its schema without a registry. Every version published in this folder can be read.
"""

import io
import json
import re
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import fastavro
from fastavro.read import SchemaResolutionError
from fastavro.schema import fingerprint, to_parsing_canonical_form

from imagetools.errors import ConfigError, MessageError, RegistryAway
from schemas.records import (
    Candidates,
    Duplicates,
    Embedding,
    EncodeRequest,
    ImageNew,
    MatchRequest,
    Record,
    Reply,
    SearchRequest,
    StageState,
    Verdict,
    from_plain,
    to_plain,
)

R = TypeVar("R", ImageNew, Embedding, Candidates, Duplicates, Verdict)
"""A record about one image, as the stages read them."""

W = TypeVar(
    "W",
    ImageNew,
    Embedding,
    Candidates,
    Duplicates,
    Verdict,
    EncodeRequest,
    SearchRequest,
    MatchRequest,
    Reply,
    StageState,
)
"""Any record on the wire."""

MARKER = b"\xc3\x01"
KINDS: tuple[type[Record], ...] = (
    ImageNew,
    Embedding,
    Candidates,
    Duplicates,
    Verdict,
    EncodeRequest,
    SearchRequest,
    MatchRequest,
    Reply,
    StageState,
)
REGISTRY_TIMEOUT_S = 4
"""The client's own default is to wait for ever; after this it asks once more."""
AVRO_ERRORS = (EOFError, ValueError, TypeError, LookupError, OverflowError, SchemaResolutionError)
"""What fastavro raises on bytes that are not of the schema that they claim."""


class Codec(Protocol):
    """Turns a record into a message's value, and back."""

    def encode(self, topic: str, record: Record) -> bytes:
        """The value to produce to `topic`."""

    def decode(self, topic: str, kind: type[W], value: bytes) -> W:
        """The record in a message of `topic`; MessageError where it is not of that kind."""


def published(kind: type) -> tuple[dict[str, Any], ...]:
    """Every published schema of a record as plain JSON, the newest last; the newest is the one that is written."""
    stem = re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()
    versions = [
        (int(found[1]), entry)
        for entry in files("schemas").iterdir()
        if (found := re.fullmatch(rf"{stem}\.v(\d+)\.avsc", entry.name))
    ]
    return tuple(json.loads(entry.read_text("utf-8")) for _, entry in sorted(versions, key=lambda v: v[0]))


class SingleObject:
    """Avro's single-object encoding."""

    def __init__(self) -> None:
        self._write: dict[type[Record], tuple[bytes, Any]] = {}
        self._read: dict[bytes, tuple[type[Record], Any]] = {}
        for kind in KINDS:
            for schema in published(kind):
                digest = bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))
                parsed = fastavro.parse_schema(schema, named_schemas={})
                self._write[kind] = (MARKER + digest, parsed)
                self._read[digest] = (kind, parsed)

    def encode(self, topic: str, record: Record) -> bytes:
        """The value; the topic does not matter here."""
        head, schema = self._write[type(record)]
        out = io.BytesIO()
        out.write(head)
        fastavro.schemaless_writer(out, schema, to_plain(record))
        return out.getvalue()

    def decode(self, topic: str, kind: type[W], value: bytes) -> W:
        """The record; MessageError where the value is not this encoding, of another record, or damaged."""
        if value[:2] != MARKER or len(value) < 10:
            raise MessageError(f"not Avro in single-object encoding: begins with {value[:10].hex(' ') or 'nothing'}")
        known = self._read.get(value[2:10])
        if known is None:
            raise MessageError(f"names an Avro schema that is not known here, fingerprint {value[2:10].hex()}")
        written_as, schema = known
        if written_as is not kind:
            raise MessageError(f"is a record {written_as.__name__}; this topic holds {kind.__name__}")
        body = io.BytesIO(value)
        body.seek(10)
        try:
            plain: Any = fastavro.schemaless_reader(body, schema, self._write[kind][1])
        except AVRO_ERRORS as exc:
            raise MessageError(f"a damaged {kind.__name__}: {exc}") from exc
        if body.tell() != len(value):
            raise MessageError(f"a damaged {kind.__name__}: {len(value) - body.tell()} bytes too many")
        record: W = from_plain(kind, plain)
        return record


class Registry:
    """Confluent framing: a zero byte, the schema's number in the registry in four bytes, the body.

    url     the registry's base address
    config  further settings of confluent-kafka's SchemaRegistryClient, such as basic.auth.user.info

    The writer's schema is registered under `<topic>-value` on first use; an incompatible one is refused there.
    """

    def __init__(self, url: str, config: Mapping[str, Any] | None = None) -> None:
        from confluent_kafka.schema_registry import SchemaRegistryClient  # noqa: PLC0415 - only where one is used
        from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer  # noqa: PLC0415

        self._where = ", ".join(urlsplit(one).hostname or one for one in url.split(","))
        settings = {"url": url, "timeout": REGISTRY_TIMEOUT_S, "max.retries": 1, **(config or {})}
        try:
            client = SchemaRegistryClient(settings)
        except (ValueError, TypeError) as exc:
            raise ConfigError(f"SCHEMA_REGISTRY_URL: {exc}") from exc
        # its connections would stay open
        weakref.finalize(self, client.close)
        self._encode: dict[type[Record], Any] = {}
        self._decode: dict[type[Record], Any] = {}
        for kind in KINDS:
            schema = json.dumps(published(kind)[-1])
            self._encode[kind] = AvroSerializer(client, schema, lambda record, _: to_plain(record))
            self._decode[kind] = AvroDeserializer(client, schema)

    def encode(self, topic: str, record: Record) -> bytes:
        """The value; registers the schema for that topic on first use."""
        from confluent_kafka.serialization import MessageField, SerializationContext  # noqa: PLC0415

        with self._reached():
            value: bytes = self._encode[type(record)](record, SerializationContext(topic, MessageField.VALUE))
        return value

    def decode(self, topic: str, kind: type[W], value: bytes) -> W:
        """The record; MessageError where it is not of that kind, RegistryAway."""
        from confluent_kafka.schema_registry.error import SchemaRegistryError  # noqa: PLC0415
        from confluent_kafka.serialization import (  # noqa: PLC0415
            MessageField,
            SerializationContext,
            SerializationError,
        )

        if len(value) < 6 or value[0] != 0:
            raise MessageError(f"not Avro in Confluent framing: begins with {value[:10].hex(' ') or 'nothing'}")
        try:
            with self._reached():
                plain = self._decode[kind](value, SerializationContext(topic, MessageField.VALUE))
        except SchemaRegistryError as exc:
            if exc.http_status_code != 404:
                raise
            number = int.from_bytes(value[1:5])
            raise MessageError(f"names schema {number}, which the registry does not know") from exc
        except (SerializationError, *AVRO_ERRORS) as exc:
            raise MessageError(f"not a {kind.__name__}: {exc}") from exc
        record: W = from_plain(kind, plain)
        return record

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Name a registry that does not answer, is down behind a proxy, or does not let us in."""
        # the client has no error of its own for a connection that fails: it lets its HTTP library's through
        from confluent_kafka.schema_registry.common._httpx_compat import httpx  # noqa: PLC0415
        from confluent_kafka.schema_registry.error import SchemaRegistryError  # noqa: PLC0415

        try:
            yield
        except httpx.TransportError as exc:
            said = str(exc) or type(exc).__name__
            raise RegistryAway(f"no schema registry answers at {self._where} (SCHEMA_REGISTRY_URL): {said}") from exc
        except SchemaRegistryError as exc:
            if exc.http_status_code in (401, 403) or exc.http_status_code >= 500:
                raise RegistryAway(f"the schema registry at {self._where} refuses: {exc}") from exc
            raise


def codec(registry_url: str | None = None, config: Mapping[str, Any] | None = None) -> Codec:
    """The encoding in force: Confluent framing with a registry, single-object encoding without."""
    return Registry(registry_url, config) if registry_url else SingleObject()
