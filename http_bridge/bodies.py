"""Bodies of requests: read up to a limit, and as the type that they are to be."""

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

from http_bridge.arrivals import ARRIVALS
from http_bridge.refusals import Refusal

T = TypeVar("T")

MOST_JSON = 2**20
"""Bytes of a JSON body; the largest that fits one Kafka message is a little less."""


async def read_body(request: web.Request, limit: int) -> bytes:
    """All bytes of a body, unpacked. Refusal 408, 413 where there are more than the limit, 415, 400."""
    coding = request.headers.get("Content-Encoding", "").strip().lower()
    if coding not in UNPACK:
        known = ", ".join(sorted(set(UNPACK) - {""}))
        raise Refusal(415, f"the Content-Encoding {coding[:50]!r} is not known; these are: {known}", ACCEPTED)
    declared = request.content_length
    if declared is not None and declared > limit:
        raise Refusal(413, f"the body has {declared:,} bytes, the limit is {limit:,}")
    body = bytearray()
    async with request.app[ARRIVALS].watch(request.content) as came:
        async for chunk in request.content.iter_chunked(2**16):
            body += chunk
            came(len(chunk))
            if len(body) > limit:
                raise Refusal(413, f"the body has more than {limit:,} bytes")
    unpack = UNPACK[coding]
    if unpack is None:
        return bytes(body)
    try:
        unpacked = await asyncio.to_thread(unpack, bytes(body), limit + 1)
    except (OSError, EOFError, zlib.error) as exc:
        raise Refusal(400, f"the body is not {coding}: {exc}") from exc
    if len(unpacked) > limit:
        raise Refusal(413, f"the body has more than {limit:,} bytes when it is unpacked")
    return unpacked


def _gunzip(body: bytes, most: int) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(body)) as file:
        return file.read(most)


def _inflate(body: bytes, most: int) -> bytes:
    # as RFC 1950 has it, or bare, as some clients send it
    wrapped = bool(body) and body[0] & 15 == zlib.DEFLATED
    unpacker = zlib.decompressobj(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)
    found = unpacker.decompress(body, most)
    if len(found) < most and not unpacker.eof:
        raise EOFError("it ends early")
    return found


UNPACK: Final[dict[str, Callable[[bytes, int], bytes] | None]] = {
    "": None,
    "identity": None,
    "gzip": _gunzip,
    "x-gzip": _gunzip,
    "deflate": _inflate,
}
"""By Content-Encoding: at most this many bytes of what is packed."""

ACCEPTED: Final = {"Accept-Encoding": "gzip, deflate"}


async def read_json(request: web.Request, kind: type[T]) -> T:
    """The body as that type; Refusal 400 where it is no JSON, 422 with the field that is wrong, or as `read_body`."""
    body = await read_body(request, MOST_JSON)
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as exc:
        raise Refusal(422, _plainly(str(exc))) from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        for where in _not_finite(body):
            raise Refusal(422, f"{where} is not a finite number") from exc
        raise Refusal(400, f"the body is no JSON: {exc}") from exc


def _plainly(said: str) -> str:
    """msgspec's words with the field in front."""
    reason, _, where = said.partition(" - at `$")
    field = where.rstrip("`").lstrip(".")
    return f"{field}: {reason}" if field else reason


def _not_finite(body: bytes) -> Iterator[str]:
    """Where NaN or an infinity stands, which some clients write though JSON does not know them."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return
    waiting: list[tuple[str, Any]] = [("", parsed)]
    while waiting:
        where, value = waiting.pop()
        match value:
            case dict():
                waiting += [(f"{where}.{name}".lstrip("."), inner) for name, inner in value.items()]
            case list():
                waiting += [(f"{where}[{n}]", inner) for n, inner in reversed(list(enumerate(value)))]
            case float() if not math.isfinite(value):
                yield where
