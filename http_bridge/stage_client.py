"""Requests to the stages for HTTP clients: limited in number, with failures as HttpError."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

from http_bridge.errors import RETRY_AFTER, STATUS_OF_OUTCOME, HttpError
from schemas.records import EncodeRequest, MatchRequest, Reply, ReplyOutcome, Request, SearchRequest
from streams.requests.client import NotAnswered, RequestClient, RequestTooLarge, ShardsSilent

STAGE_NAMES: dict[type[Request], str] = {EncodeRequest: "encoder", SearchRequest: "search", MatchRequest: "matcher"}


class StageClient:
    """Asks the stages on behalf of the handlers.

    in_flight  HTTP requests that hold a slot
    """

    def __init__(self, client: RequestClient, *, timeout_s: float, max_in_flight: int) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._max_in_flight = max_in_flight
        self.in_flight = 0

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold one of the slots for HTTP requests that wait for stages. HttpError 429 when none is free."""
        if self.in_flight >= self._max_in_flight:
            raise HttpError(429, f"{self._max_in_flight} requests are waiting already", RETRY_AFTER)
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    async def request(self, kind: type[Request], field: str, **fields: Any) -> Reply:
        """Take a slot, and ask the stage that answers this kind of request.

        field  of the client's body; an error message names it if the stage rejects the request
        HttpError 429, 504, and the stage's own failures as 404, 422, 500 or 503; BrokerAway.
        """
        with self.slot():
            return await self.request_in_slot(kind, field, **fields)

    async def request_in_slot(self, kind: type[Request], field: str, **fields: Any) -> Reply:
        """Do as `request` does, in a slot that the caller holds."""
        stage = STAGE_NAMES[kind]
        try:
            reply = await self._client.request(kind, self._timeout_s, **fields)
        except NotAnswered as exc:
            raise HttpError(504, f"the {stage} gave {exc}; is one running?") from exc
        except ShardsSilent as exc:
            # a part of the neighbors would look like all of them
            raise HttpError(503, f"the {stage} gave {exc}; is one running?", RETRY_AFTER) from exc
        except RequestTooLarge as exc:
            raise HttpError(413, str(exc)) from exc
        if reply.outcome is ReplyOutcome.SERVED:
            return reply
        status = STATUS_OF_OUTCOME[reply.outcome]
        at_fault = field if status < 500 else stage
        raise HttpError(status, f"{at_fault}: {reply.error_message}", RETRY_AFTER if status == 503 else None)


STAGE_CLIENT = web.AppKey("stage_client", StageClient)
