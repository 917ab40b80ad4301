"""Asks the search for the neighbors of images of the log, several at a time."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from imagetools.errors import ImageToolsError
from schemas.records import Embedding, Reply, ReplyOutcome, SearchRequest
from streams.config import KafkaConfig
from streams.kafka.errors import BrokerAway
from streams.requests.client import NotAnswered, RequestClient, ShardsSilent

AT_A_TIME: Final = 8
"""Requests of other clients wait for no more than these."""

ANSWER_S: Final = 10.0
CONNECT_S: Final = 10.0
AGAIN_S: Final = 1.0


class SearchFailed(ImageToolsError):
    """The search has a fault."""


class NeighborRequests:
    """Asks until there is an answer: one index answers, or all shards of one."""

    def __init__(self, kafka: KafkaConfig, nb_neighbors: int, on_wait: Callable[[str], None]) -> None:
        """Connect.

        nb_neighbors  to ask for, in distinct fingerprints
        on_wait       gets what is waited for, at each attempt
        """
        self._nb_neighbors = nb_neighbors
        self._on_wait = on_wait
        self._runner = asyncio.Runner()
        self._client = RequestClient(kafka)
        deadline = time.monotonic() + CONNECT_S
        while self._client.trouble and time.monotonic() < deadline:
            time.sleep(0.05)

    def find(self, records: Sequence[Embedding]) -> list[Reply]:
        """Return the reply for each image: SERVED, or REFUSED with the reason. SearchFailed, RegistryAway."""
        return self._runner.run(self._find(records))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        self._runner.close()

    async def _find(self, records: Sequence[Embedding]) -> list[Reply]:
        free = asyncio.Semaphore(AT_A_TIME)

        async def ask(record: Embedding) -> Reply:
            async with free:
                return await self._ask(record)

        return await asyncio.gather(*map(ask, records))

    async def _ask(self, record: Embedding) -> Reply:
        while True:
            try:
                reply = await self._client.request(
                    SearchRequest,
                    ANSWER_S,
                    fingerprint=record.fingerprint,
                    nb_neighbors=self._nb_neighbors,
                    digest=record.digest,
                    model=record.model,
                    parts=record.parts,
                    codes=record.codes,
                )
            except NotAnswered:
                reason = "the search does not answer"
            except (BrokerAway, ShardsSilent) as exc:
                reason = str(exc)
            else:
                if reply.outcome in (ReplyOutcome.SERVED, ReplyOutcome.REFUSED):
                    return reply
                if reply.outcome is not ReplyOutcome.UNAVAILABLE:
                    raise SearchFailed(f"the search failed at {record.relative_path}: {reply.error_message}")
                reason = f"the search cannot answer: {reply.error_message}"
            self._on_wait(reason)
            await asyncio.sleep(AGAIN_S)
