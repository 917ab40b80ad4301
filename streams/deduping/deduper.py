"""Searches for images that were loaded silently, and sends them to be compared with those that stand before them.

Nothing is encoded again: fingerprints and codes come from the log. Candidates, and which images are done, commit in one
transaction, so a run that is killed and repeated sends nothing twice.
"""

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from types import TracebackType
from typing import Final

from confluent_kafka import KafkaError, KafkaException

from imagetools.errors import ImageToolsError, RegistryAway
from imagetools.paths import shown
from schemas.codec import codec
from schemas.records import Candidates, Deduped, Embedding, Reply, ReplyOutcome
from streams.config import KafkaConfig
from streams.deduping.neighbor_requests import NeighborRequests
from streams.deduping.silent_images import SilentImages
from streams.kafka.log_reader import LogReader
from streams.kafka.transactional_producer import TransactionalProducer
from streams.stage import Headers, Output, Received
from streams.topics import ANNOUNCED_AT, ANNOUNCED_IN, CANDIDATES, DEDUPED, EMBEDDINGS
from streams.traces.base import TRACEPARENT, TRACESTATE

log = logging.getLogger(__name__)

BATCH: Final = 64
"""Images of one transaction."""

OF_ITS_TIME: Final = (ANNOUNCED_AT, ANNOUNCED_IN, TRACEPARENT, TRACESTATE)
"""Headers that belong to an announcement of long ago."""

FENCED: Final = {KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED}

Find = Callable[[Sequence[Embedding]], Sequence[Reply]]
"""Returns the neighbors of images."""


class DedupeReplaced(ImageToolsError):
    """Another run has begun, which goes on where this one was."""


class DedupeWriter:
    """Sends what was found, in transactions, and ends earlier runs when it starts.

    What an earlier run has left open is aborted then, so `deduped` can be read after it, and holds.
    """

    def __init__(self, kafka: KafkaConfig) -> None:
        self._producer = TransactionalProducer(replace(kafka, member="run"), "dedupe", codec(kafka.registry))

    def __enter__(self) -> "DedupeWriter":
        self._producer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._producer.close()

    def commit(self, outputs: Sequence[tuple[Output, Headers]]) -> None:
        """Send all or nothing. DedupeReplaced, KafkaException, RegistryAway."""
        try:
            self._producer.begin()
            try:
                for output, headers in outputs:
                    self._producer.send(output, headers)
                self._producer.commit_messages()
            except RegistryAway:
                self._producer.abort()
                raise
        except KafkaException as exc:
            if exc.args[0].code() in FENCED:
                raise DedupeReplaced("another `imagetools dedupe` has begun; it goes on where this one was") from exc
            if exc.args[0].txn_requires_abort():
                self._producer.abort()
            raise


class Deduper:
    """One run over the log.

    searched   images that were searched for
    compared   of these, those that are sent to be compared with others
    refused    images that the search does not take
    """

    def __init__(self, images: SilentImages, find: Find, *, prefix: str = "") -> None:
        """prefix: only images whose paths begin with it are searched for."""
        self._images = images
        self._find = find
        self._prefix = prefix
        self.searched = self.compared = self.refused = 0

    def wants(self, received: Received[Embedding]) -> int | None:
        """Return the place of an image that is to be searched for, the first time it is asked for; else None."""
        record = received.record
        if record is None or not received.path.startswith(self._prefix):
            return None
        return self._images.take(received.path, record.digest, alert=record.alert)

    def outputs(self, batch: Sequence[tuple[Received[Embedding], Embedding, int]]) -> list[tuple[Output, Headers]]:
        """Search for images, and return what to send.

        batch  messages of the log, their records, and the places of their images
        """
        outputs: list[tuple[Output, Headers]] = [
            (Output(DEDUPED, path, None), ()) for path in sorted(self._images.take_outdated())
        ]
        replies = self._find([record for _, record, _ in batch])
        for (received, record, place), reply in zip(batch, replies, strict=True):
            if reply.outcome is ReplyOutcome.REFUSED:
                log.warning("left out: %s: %s", shown(received.path), reply.error_message)
                self.refused += 1
                continue
            self.searched += 1
            neighbors = self._images.before(received.path, reply.neighbors)
            if neighbors:
                self.compared += 1
                candidates = Candidates(
                    record.request_id, received.path, neighbors, record.model, record.digest, record.metadata
                )
                outputs.append((Output(CANDIDATES, received.path, candidates), _of_producer(received.headers)))
            outputs.append((Output(DEDUPED, received.path, Deduped(received.path, record.digest, place)), ()))
        return outputs

    def run(self, kafka: KafkaConfig, writer: DedupeWriter) -> Iterator[None]:
        """Go through the log to its end; yields after each transaction."""
        batch: list[tuple[Received[Embedding], Embedding, int]] = []
        with closing(LogReader(kafka, EMBEDDINGS.name, Embedding, 0)) as reader:
            for received in reader.read(0, sys.maxsize):
                if received is None or received.record is None or (place := self.wants(received)) is None:
                    continue
                batch.append((received, received.record, place))
                if len(batch) == BATCH:
                    writer.commit(self.outputs(batch))
                    batch = []
                    yield
        if outputs := self.outputs(batch):
            writer.commit(outputs)
            yield


def neighbor_requests(kafka: KafkaConfig, nb_neighbors: int, on_wait: Callable[[str], None]) -> NeighborRequests:
    """Connect to the search.

    nb_neighbors  of a new image
    """
    # the image finds itself, and of the others about half stand behind it
    return NeighborRequests(kafka, 2 * nb_neighbors + 1, on_wait)


def _of_producer(headers: Headers) -> Headers:
    """Return the headers of the producer; the time since the announcement, and its trace, say nothing here."""
    return tuple(header for header in headers if header[0] not in OF_ITS_TIME)
