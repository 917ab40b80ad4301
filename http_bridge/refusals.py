"""Everything that a client is told in place of an answer, in the envelope of the contracts."""

from typing import Any

import msgspec
from aiohttp import web

from imagetools.errors import (
    ImageError,
    ImageRootUnavailable,
    ImageTooLarge,
    MissingImage,
    RegistryAway,
    UnsupportedImage,
)
from imagetools.paths import shown
from schemas.records import ReplyOutcome
from streams.kafka.async_producer import BrokerAway
from streams.requests.client import NotAnswered, RequestTooLarge


class Refusal(Exception):
    """A request that is not served.

    status  HTTP's
    reason  in plain words; where one field is to blame it begins with the field's name
    """

    def __init__(self, status: int, reason: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = headers or {}


RETRY = {"Retry-After": "1"}

STATUS = {
    ReplyOutcome.MISSING: 404,
    ReplyOutcome.REFUSED: 422,
    ReplyOutcome.UNAVAILABLE: 503,
    ReplyOutcome.FAILED: 500,
}
"""HTTP's word for what a stage says of a request."""


def answered(body: Any, status: int = 200) -> web.Response:
    """A JSON answer."""
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json")


def first_line(said: str) -> str:
    """What a parser says, without its picture of the bytes."""
    return said.strip().partition("\n")[0].rstrip(":")[:200]


def refused(refusal: Refusal) -> web.Response:
    """The envelope of a request that was not served."""
    response = answered({"global_status": 0, "error_message": shown(refusal.reason), "response": {}}, refusal.status)
    response.headers.update(refusal.headers)
    return response


ERRORS: tuple[tuple[type[Exception], int, dict[str, str]], ...] = (
    (BrokerAway, 503, RETRY),
    (ImageRootUnavailable, 503, RETRY),
    (RegistryAway, 503, RETRY),
    (NotAnswered, 504, {}),
    (RequestTooLarge, 413, {}),
    (ImageTooLarge, 413, {}),
    (MissingImage, 404, {}),
    (UnsupportedImage, 415, {}),
    (ImageError, 422, {}),
)
"""HTTP's word for what is raised; of those that fit, the first."""


def as_refusal(exc: Exception) -> Refusal | None:
    """What to tell the client of an error; None for a fault of ours."""
    if isinstance(exc, Refusal):
        return exc
    if isinstance(exc, web.HTTPException):
        allowed = {name: value for name, value in exc.headers.items() if name == "Allow"}
        return Refusal(exc.status, exc.reason, allowed)
    if isinstance(exc, web.RequestPayloadError):
        return Refusal(400, f"the body cannot be read: {first_line(str(exc))}")
    for kind, status, headers in ERRORS:
        if isinstance(exc, kind):
            return Refusal(status, str(exc), headers)
    return None
