"""Encoding of records to message values and back, in Avro.

Without a registry: single-object encoding (Avro specification), which is C3 01, the CRC-64-AVRO fingerprint of the
writer's schema in eight bytes, and the body. Every message thus names its schema, and every version published in this
folder can be read. With a registry: Confluent framing.
"""

import io
import json
import re
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from typing import Any, Protocol, TypeVar, get_args
from urllib.parse import urlsplit

import fastavro
from fastavro.read import SchemaResolutionError
from fastavro.schema import fingerprint, to_parsing_canonical_form

from imagetools.errors import ConfigError, MessageError, RegistryAway
from schemas.records import ImageRecord, Record, from_plain, to_plain

R = TypeVar("R", bound=ImageRecord)
W = TypeVar("W", bound=Record)

KINDS: tuple[type[Record], ...] = get_args(Record)
MARKER = b"\xc3\x01"
REGISTRY_TIMEOUT_S = 4
"""Per attempt, of which there are two. The client's own default is to wait forever."""
AVRO_ERRORS = (EOFError, ValueError, TypeError, LookupError, OverflowError, SchemaResolutionError)
"""What fastavro raises when bytes do not fit the schema that they name."""


class Codec(Protocol):
    """Encodes records as message values, and decodes them."""

    def encode(self, topic: str, record: Record) -> bytes:
        """Return the value to produce to `topic`."""

    def decode(self, topic: str, kind: type[W], value: bytes) -> W:
        """Return the record in a message of `topic`; MessageError if it is not of that kind."""


def published_schemas(kind: type) -> tuple[dict[str, Any], ...]:
    """Return every published schema of a record as plain JSON, oldest first. Messages are written in the newest."""
    stem = re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()
    versions = [
        (int(found[1]), entry)
        for entry in files("schemas").iterdir()
        if (found := re.fullmatch(rf"{stem}\.v(\d+)\.avsc", entry.name))
    ]
    return tuple(json.loads(entry.read_text("utf-8")) for _, entry in sorted(versions, key=lambda v: v[0]))


class SingleObjectCodec:
    """Avro's single-object encoding; the topic does not matter to it."""

    def __init__(self) -> None:
        self._write: dict[type, tuple[bytes, Any]] = {}
        self._read: dict[bytes, tuple[type[Record], Any]] = {}
        for kind in KINDS:
            for schema in published_schemas(kind):
                digest = bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))
                parsed = fastavro.parse_schema(schema, named_schemas={})
                self._write[kind] = (MARKER + digest, parsed)
                self._read[digest] = (kind, parsed)

    def encode(self, topic: str, record: Record) -> bytes:
        """Return the value of a message."""
        head, schema = self._write[type(record)]
        out = io.BytesIO()
        out.write(head)
        fastavro.schemaless_writer(out, schema, to_plain(record))
        return out.getvalue()

    def decode(self, topic: str, kind: type[W], value: bytes) -> W:
        """Return the record; MessageError if the value has another encoding, holds another record or is damaged."""
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
        return from_plain(kind, plain)


class ConfluentCodec:
    """Confluent framing: a zero byte, the schema's id in the registry in four bytes, and the body.

    url     base address of the registry
    config  more settings for confluent-kafka's SchemaRegistryClient, such as basic.auth.user.info

    The first message to a topic registers its schema under `<topic>-value`; the registry refuses an incompatible one.
    """

    def __init__(self, url: str, config: Mapping[str, Any] | None = None) -> None:
        from confluent_kafka.schema_registry import SchemaRegistryClient  # noqa: PLC0415 - only where one is used
        from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer  # noqa: PLC0415

        self._hosts = ", ".join(map(_without_login, url.split(",")))
        settings = {"url": url, "timeout": REGISTRY_TIMEOUT_S, "max.retries": 1, **(config or {})}
        try:
            client = SchemaRegistryClient(settings)
        except (ValueError, TypeError) as exc:
            raise ConfigError(f"SCHEMA_REGISTRY_URL: {exc}") from exc
        # otherwise its connections stay open
        weakref.finalize(self, client.close)
        self._encode: dict[type, Any] = {}
        self._decode: dict[type, Any] = {}
        for kind in KINDS:
            schema = json.dumps(published_schemas(kind)[-1])
            self._encode[kind] = AvroSerializer(client, schema, lambda record, _: to_plain(record))
            self._decode[kind] = AvroDeserializer(client, schema)

    def encode(self, topic: str, record: Record) -> bytes:
        """Return the value of a message to `topic`; registers the schema the first time. RegistryAway."""
        from confluent_kafka.serialization import MessageField, SerializationContext  # noqa: PLC0415

        with self._access():
            value: bytes = self._encode[type(record)](record, SerializationContext(topic, MessageField.VALUE))
        return value

    def decode(self, topic: str, kind: type[W], value: bytes) -> W:
        """Return the record; MessageError if it is not of that kind, RegistryAway."""
        from confluent_kafka.schema_registry.error import SchemaRegistryError  # noqa: PLC0415
        from confluent_kafka.serialization import (  # noqa: PLC0415
            MessageField,
            SerializationContext,
            SerializationError,
        )

        if len(value) < 6 or value[0] != 0:
            raise MessageError(f"not Avro in Confluent framing: begins with {value[:10].hex(' ') or 'nothing'}")
        try:
            with self._access():
                plain = self._decode[kind](value, SerializationContext(topic, MessageField.VALUE))
        except SchemaRegistryError as exc:
            if exc.http_status_code != 404:
                raise
            number = int.from_bytes(value[1:5])
            raise MessageError(f"names schema {number}, which the registry does not know") from exc
        except (SerializationError, *AVRO_ERRORS) as exc:
            raise MessageError(f"not a {kind.__name__}: {exc}") from exc
        return from_plain(kind, plain)

    @contextmanager
    def _access(self) -> Iterator[None]:
        """Raise RegistryAway if the registry does not answer, is down behind a proxy, or denies access."""
        # for a connection that fails, the client lets the error of its HTTP library through
        from confluent_kafka.schema_registry.common._httpx_compat import httpx  # noqa: PLC0415
        from confluent_kafka.schema_registry.error import SchemaRegistryError  # noqa: PLC0415

        try:
            yield
        except httpx.TransportError as exc:
            said = str(exc) or type(exc).__name__
            raise RegistryAway(f"no schema registry answers at {self._hosts} (SCHEMA_REGISTRY_URL): {said}") from exc
        except SchemaRegistryError as exc:
            if exc.http_status_code in (401, 403) or exc.http_status_code >= 500:
                raise RegistryAway(f"the schema registry at {self._hosts} refuses: {exc}") from exc
            raise


def _without_login(url: str) -> str:
    """Return host and port of an address, which may hold a password in front of them."""
    return urlsplit(url.strip()).netloc.rpartition("@")[2] or url


def codec(registry_url: str | None = None, config: Mapping[str, Any] | None = None) -> Codec:
    """Return the encoding in force: Confluent framing with a registry, single-object encoding without."""
    return ConfluentCodec(registry_url, config) if registry_url else _single_object_codec()


@cache
def _single_object_codec() -> SingleObjectCodec:
    """Return the one that all share: it takes 15 ms to parse the schemas, and does not change afterwards."""
    return SingleObjectCodec()
