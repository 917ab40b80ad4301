"""Reads request bodies: decompressed, up to a limit, and as the type that the endpoint expects."""

import asyncio
import gzip
import io
import json
import math
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import msgspec
from aiohttp import web

from http_bridge.errors import HttpError
from http_bridge.incoming_bodies import INCOMING_BODIES

T = TypeVar("T")

MAX_JSON_BYTES = 2**20
"""Of a JSON body; one Kafka message holds a little less."""

CHUNK_BYTES = 2**16


async def read_body(request: web.Request, limit: int) -> bytes:
    """Read and decompress a body of at most `limit` bytes. HttpError 400, 408, 413, 415."""
    coding = request.headers.get("Content-Encoding", "").strip().lower()
    if coding not in DECODERS:
        known = ", ".join(sorted(set(DECODERS) - {""}))
        raise HttpError(
            415, f"the Content-Encoding {coding[:50]!r} is not known; these are: {known}", ACCEPTED_ENCODINGS
        )
    declared = request.content_length
    if declared is not None and declared > limit:
        raise HttpError(413, f"the body has {declared:,} bytes, the limit is {limit:,}")
    body = bytearray()
    async with request.app[INCOMING_BODIES].limit(request.content) as received:
        async for chunk in request.content.iter_chunked(CHUNK_BYTES):
            body += chunk
            received(len(chunk))
            if len(body) > limit:
                raise HttpError(413, f"the body has more than {limit:,} bytes")
    decoder = DECODERS[coding]
    if decoder is None:
        return bytes(body)
    try:
        decoded = await asyncio.to_thread(decoder, bytes(body), limit + 1)
    except (OSError, EOFError, zlib.error) as exc:
        raise HttpError(400, f"the body is not {coding}: {exc}") from exc
    if len(decoded) > limit:
        raise HttpError(413, f"the body has more than {limit:,} bytes when it is unpacked")
    return decoded


def _gunzip(body: bytes, max_bytes: int) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(body)) as file:
        return file.read(max_bytes)


def _inflate(body: bytes, max_bytes: int) -> bytes:
    # in zlib's format (RFC 1950), or raw, as some clients send it
    has_header = bool(body) and body[0] & 15 == zlib.DEFLATED
    decompressor = zlib.decompressobj(zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)
    found = decompressor.decompress(body, max_bytes)
    if len(found) < max_bytes and not decompressor.eof:
        raise EOFError("it ends early")
    return found


DECODERS: Final[dict[str, Callable[[bytes, int], bytes] | None]] = {
    "": None,
    "identity": None,
    "gzip": _gunzip,
    "x-gzip": _gunzip,
    "deflate": _inflate,
}
"""By Content-Encoding; each decompresses up to a number of bytes."""

ACCEPTED_ENCODINGS: Final = {"Accept-Encoding": "gzip, deflate"}


async def read_json(request: web.Request, kind: type[T]) -> T:
    """Read a JSON body of type `kind`. HttpError 400 if it is not JSON, 422 with the wrong field, as `read_body`."""
    body = await read_body(request, MAX_JSON_BYTES)
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as exc:
        raise HttpError(422, _field_first(str(exc))) from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        for field, value in _fields(body):
            if isinstance(value, float) and not math.isfinite(value):
                raise HttpError(422, f"{field} is not a finite number") from exc
            if isinstance(value, str) and _has_half_a_pair(value):
                raise HttpError(422, f"{field} is not valid Unicode: it has half of a surrogate pair") from exc
        raise HttpError(400, f"the body is not valid JSON: {exc}") from exc


def _field_first(message: str) -> str:
    """Put the field in front of msgspec's message."""
    reason, _, path = message.partition(" - at `$")
    field = path.rstrip("`").lstrip(".")
    return f"{field}: {reason}" if field else reason


def _fields(body: bytes) -> Iterator[tuple[str, Any]]:
    """Yield names and values of a body that is not valid JSON, as many clients write it and Python still reads it."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return
    stack: list[tuple[str, Any]] = [("", parsed)]
    while stack:
        field, value = stack.pop()
        match value:
            case dict():
                yield from ((field or "the body", name) for name in value)
                stack += [(f"{field}.{name}".lstrip("."), inner) for name, inner in value.items()]
            case list():
                stack += [(f"{field}[{n}]", inner) for n, inner in reversed(list(enumerate(value)))]
            case _:
                yield field or "the body", value


def _has_half_a_pair(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
