"""Asking the stages on behalf of HTTP clients: bounded, and with every outcome that is no answer as a Refusal."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

from http_bridge.refusals import RETRY, STATUS, Refusal
from schemas.records import EncodeRequest, MatchRequest, Reply, ReplyOutcome, Request, SearchRequest
from streams.requests.client import NotAnswered, RequestClient, RequestTooLarge

NAMES: dict[type[Request], str] = {EncodeRequest: "encoder", SearchRequest: "search", MatchRequest: "matcher"}


class Stages:
    """What the handlers ask.

    in_flight  requests of clients that wait at the moment
    """

    def __init__(self, client: RequestClient, *, timeout_s: float, bound: int) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._bound = bound
        self.in_flight = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place among those who wait; Refusal 429 where there is none left."""
        if self.in_flight >= self._bound:
            raise Refusal(429, f"{self._bound} requests are waiting already", RETRY)
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    async def ask(self, kind: type[Request], field: str, **fields: Any) -> Reply:
        """The reply of the stage that answers this kind, served.

        field  of the client's body, which is to blame where the stage refuses
        Refusal 429; what the stage says as 404, 422, 500 or 503; BrokerAway; 504.
        """
        with self.place():
            return await self.ask_on(kind, field, **fields)

    async def ask_on(self, kind: type[Request], field: str, **fields: Any) -> Reply:
        """As `ask`, from a place that is taken already."""
        try:
            reply = await self._client.request(kind, self._timeout_s, **fields)
        except NotAnswered as exc:
            raise Refusal(504, f"the {NAMES[kind]} gave {exc}; does one run?") from exc
        except RequestTooLarge as exc:
            raise Refusal(413, str(exc)) from exc
        if reply.outcome is ReplyOutcome.SERVED:
            return reply
        status = STATUS[reply.outcome]
        said = f"{field}: {reply.error_message}" if status < 500 else f"{NAMES[kind]}: {reply.error_message}"
        raise Refusal(status, said, RETRY if status == 503 else None)


STAGES = web.AppKey("stages", Stages)
