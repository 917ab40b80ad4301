"""Errors as HTTP: which status stands for which."""

from aiohttp import web
from confluent_kafka import KafkaException

from imagetools.errors import (
    ImageError,
    ImageRootUnavailable,
    ImageTooLarge,
    MissingImage,
    RegistryAway,
    UnsupportedImage,
)
from schemas.records import ReplyOutcome
from streams.config import KafkaConfig
from streams.kafka.errors import BrokerAway, reason_of, with_remedy
from streams.requests.client import NotAnswered, RequestTooLarge

MAX_PARSER_CHARS = 200
RETRY_AFTER = {"Retry-After": "1"}


class HttpError(Exception):
    """A request that fails with an HTTP status.

    reason  for people; if one field is at fault, it begins with the field's name
    """

    def __init__(self, status: int, reason: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = headers or {}


STATUS_OF_OUTCOME = {
    ReplyOutcome.MISSING: 404,
    ReplyOutcome.REFUSED: 422,
    ReplyOutcome.UNAVAILABLE: 503,
    ReplyOutcome.FAILED: 500,
}
"""For a stage's reply."""

STATUS_OF_ERROR: tuple[tuple[type[Exception], int, dict[str, str]], ...] = (
    (BrokerAway, 503, RETRY_AFTER),
    (ImageRootUnavailable, 503, RETRY_AFTER),
    (RegistryAway, 503, RETRY_AFTER),
    (NotAnswered, 504, {}),
    (RequestTooLarge, 413, {}),
    (ImageTooLarge, 413, {}),
    (MissingImage, 404, {}),
    (UnsupportedImage, 415, {}),
    (ImageError, 422, {}),
)
"""For an exception, with headers; the first match counts."""


def as_http_error(exc: Exception) -> HttpError | None:
    """Translate an exception; None for a fault of the bridge."""
    if isinstance(exc, HttpError):
        return exc
    if isinstance(exc, web.HTTPException):
        allowed = {name: value for name, value in exc.headers.items() if name == "Allow"}
        return HttpError(exc.status, exc.reason, allowed)
    if isinstance(exc, web.RequestPayloadError):
        return HttpError(400, f"the body cannot be read: {first_line(str(exc))}")
    for kind, status, headers in STATUS_OF_ERROR:
        if isinstance(exc, kind):
            return HttpError(status, str(exc), headers)
    return None


def kafka_trouble(kafka: KafkaConfig, exc: Exception) -> str:
    """Say why Kafka or the registry cannot be used, and what to do."""
    return reason_of(with_remedy(kafka, exc) if isinstance(exc, KafkaException) else exc)


def first_line(message: str) -> str:
    """Shorten a parser's message to its first line; the others show the bytes."""
    return message.strip().partition("\n")[0].rstrip(":")[:MAX_PARSER_CHARS]
