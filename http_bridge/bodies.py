"""Bodies of requests: read up to a limit, and as the type that they are to be."""

import json
import math
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from http_bridge.refusals import Refusal

T = TypeVar("T")

MOST_JSON = 2**20
"""Bytes of a JSON body; the largest that fits one Kafka message is a little less."""


async def read_capped(content: Any, limit: int) -> bytes:
    """All bytes of a body; Refusal 413 where there are more than the limit."""
    body = bytearray()
    async for chunk in content.iter_chunked(2**16):
        body += chunk
        if len(body) > limit:
            raise Refusal(413, f"the body has more than {limit:,} bytes")
    return bytes(body)


async def read_json(request: web.Request, kind: type[T]) -> T:
    """The body as that type; Refusal 400 where it is no JSON, 413, or 422 with the field that is wrong."""
    body = await read_capped(request.content, MOST_JSON)
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
