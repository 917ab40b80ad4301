"""embeddings → candidates: look up every new fingerprint's neighbors, and keep the index what the log says.

The topic is the truth and the index a view of it at one offset. A record sees only those before it; searching changes
nothing, and a batch reaches the index after its transaction has committed.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from imagetools.errors import ConfigError, IndexMismatch
from imagetools.index.change import Change
from imagetools.index.config import IndexConfig
from imagetools.index.index import Index
from imagetools.index.state import Entry
from schemas.records import (
    Candidates,
    Embedding,
    Fingerprint,
    Neighbor,
    Part,
    Reply,
    ReplyOutcome,
    Request,
    SearchRequest,
)
from streams.config import Config
from streams.encoding import check_log
from streams.kafka.log_reader import LogReader
from streams.requests.protocol import reply_to
from streams.requests.scheduling import BatchSlicer, SliceScheduler
from streams.service import serve
from streams.snapshots import Snapshots
from streams.stage import Outcome, Output, Received, Stage
from streams.topics import ANNOUNCED_IN, CANDIDATES, EMBEDDINGS

log = logging.getLogger(__name__)

SNAPSHOT_EVERY_S = 600
SNAPSHOT_AT_LEAST = 1000
"""Changes that make a snapshot worth its time while the stage runs; at its end any change does."""

STEP_S = 0.05
"""How long a replay may keep the consumer from polling."""


class SearchStage(Stage[Embedding]):
    """Finds each new fingerprint's neighbors among those before it in the log.

    offset  of the log that the index stands at; None: at none yet
    """

    name = "search"
    source = EMBEDDINGS
    kind = Embedding
    tombstones = True
    # all of a batch reaches the graph in one go, at some 1 ms an image, and requests wait for it
    batch_size = 32

    def __init__(self, config: Config) -> None:
        self._config = config
        self._index_config = IndexConfig(config.distance_type, config.dimension)
        self._snapshots = Snapshots(config.index_dir, self._index_config)
        self._index = Index(self._index_config, self._snapshots.scratch)
        self._pending: Change | None = None
        self.offset: int | None = None
        self._unsaved = 0
        self._saved_at = time.monotonic()
        self._log_id = ""
        # the index is for one thread at a time; NGT holds the GIL anyway
        self._scheduler = SliceScheduler()
        self._slicer = BatchSlicer(self._scheduler, self.batch_size)
        self._owns = False
        self._not_live = "this process has no index yet"

    def run(self, batch: Sequence[Received[Embedding]]) -> Sequence[Outcome]:
        """The candidates of each image; none for one that is gone."""
        change = self._index.change()
        outcomes = self._slicer.map(lambda piece: [self._outcome(change, received) for received in piece], batch)
        self._pending = change
        return outcomes

    def answer(self, requests: Sequence[Request]) -> Sequence[Reply]:
        """The neighbors of each fingerprint in the index as it stands, which a batch at hand has not reached yet."""
        return [self._answer(request) for request in requests if isinstance(request, SearchRequest)]

    def owns_requests(self) -> bool | None:
        """While the log is this process's own: another one's index is older, or empty."""
        return self._owns

    def committed(self, offset: int) -> None:
        """Let the index have what the committed batch brought."""
        if self._pending is not None:
            with self._scheduler.batch_slice():
                self._apply(self._pending)
            self._pending = None
        self.offset = offset
        if self._unsaved >= SNAPSHOT_AT_LEAST and time.monotonic() - self._saved_at > SNAPSHOT_EVERY_S:
            self._save()

    def aborted(self) -> None:
        """Forget the batch."""
        self._pending = None

    def restore(self, partition: int, offset: int) -> Iterator[str]:
        """Bring the index to exactly the committed offset: from itself, a snapshot, or the log's beginning."""
        self._owns, self._pending = True, None
        self._rest("replaying, 0 %")
        return self._restore(partition, offset)

    def released(self, partition: int) -> None:
        """The log went to another process: it answers from now on."""
        self._owns = False
        self._rest("this process has no index")

    def _restore(self, partition: int, offset: int) -> Iterator[str]:
        reader = LogReader(self._config.kafka, EMBEDDINGS.name, Embedding, partition)
        try:
            self._log_id = reader.log_id
            self._start_from(offset)
            yield "loaded"
            began, first = time.monotonic(), self.offset or 0
            change, replayed = self._index.change(), 0
            for received in reader.read(first, offset):
                if received is not None:
                    self._replay(change, received)
                    replayed += 1
                if len(change) >= self._config.batch_size:
                    self._apply(change)
                    change = self._index.change()
                if received is not None:
                    self._not_live = f"replaying, {100 * (received.offset - first) // (offset - first)} %"
                if received is None or time.monotonic() - began > STEP_S:
                    yield self._not_live
                    began = time.monotonic()
            self._apply(change)
            self.offset = offset
            self._not_live = ""
            log.info("search: at offset %d with %d images, %d records replayed", offset, len(self._index), replayed)
        finally:
            reader.close()

    def close(self) -> None:
        """Keep what is not saved yet, and let go."""
        if self._unsaved:
            self._save()
        self._index.close()
        self._snapshots.close()

    def _rest(self, reason: str) -> None:
        """Answer nobody from now on, but for saying why; returns when an answer at hand has been given."""
        with self._scheduler.batch_slice():
            self._not_live = reason

    def _answer(self, request: SearchRequest) -> Reply:
        with self._scheduler.request():
            if self._not_live:
                return reply_to(request, ReplyOutcome.UNAVAILABLE, self._not_live)
            try:
                # looked at, and dropped
                view = self._index.change()
                fingerprint, *parts = view.check(
                    request.fingerprint, model=request.model, parts=_fingerprints(request.parts)
                )
                found = view.search(fingerprint, request.nb_neighbors, digest=request.digest, parts=parts)
            except IndexMismatch as exc:
                return reply_to(request, ReplyOutcome.REFUSED, str(exc))
        neighbors = tuple(Neighbor(n.relative_path, n.score, n.identical) for n in found)
        return reply_to(request, neighbors=neighbors, model=self._index.model or "")

    def _outcome(self, change: Change, received: Received[Embedding]) -> Outcome:
        try:
            return self._take(change, received, search=True)
        except IndexMismatch as exc:
            if len(self._index) == 0 and self._config.dimension is not None:
                # the log was empty when this process began: is it this record, or the setting?
                check_log(self._config)
            return exc

    def _apply(self, change: Change) -> None:
        self._unsaved += len(change)
        change.apply()

    def _start_from(self, offset: int) -> None:
        if self.offset is not None and self.offset <= offset:
            return
        self._index.close()
        loaded = self._snapshots.newest(self._log_id, at_most=offset)
        self._index, self.offset = loaded or (Index(self._index_config, self._snapshots.scratch), 0)
        self._unsaved = 0

    def _replay(self, change: Change, received: Received[Embedding]) -> None:
        try:
            self._take(change, received, search=False)
        except IndexMismatch as exc:
            # it was set aside when it came; here it is passed over again
            log.debug("offset %d: %s", received.offset, exc)

    def _take(self, change: Change, received: Received[Embedding], *, search: bool) -> Outcome:
        """Let the change have one record of the log; its candidates, when asked for."""
        held = change.entry(received.path)
        source = _announced_in(received)
        stale = held is not None and source != held.source and received.timestamp < held.announced
        record = received.record
        if record is None:
            if not stale:
                change.remove(received.path)
            return ()
        neighbors: tuple[Neighbor, ...] = ()
        entry = Entry(received.offset, received.path, received.timestamp, record.digest, source)
        fingerprint, parts, model = record.fingerprint, _fingerprints(record.parts), record.model
        if held is not None and held.digest == record.digest:
            # unchanged bytes: nothing to report, and it keeps its place in the order
            if not stale:
                change.add(replace(entry, order=held.order), fingerprint, model=model, parts=parts)
        elif not stale:
            change.check(fingerprint, model=model, parts=parts)
            change.remove(received.path)
            if search and record.alert:
                found = change.search(fingerprint, self._config.nb_neighbors, digest=record.digest, parts=parts)
                neighbors = tuple(Neighbor(n.relative_path, n.score, n.identical) for n in found)
            change.add(entry, fingerprint, model=model, parts=parts)
        if not search:
            return ()
        candidates = Candidates(record.request_id, received.path, neighbors, record.model)
        return (Output(CANDIDATES, received.path, candidates),)

    def _save(self) -> None:
        if self.offset is None:
            return
        self._snapshots.save(self._index, self._log_id, self.offset)
        self._unsaved, self._saved_at = 0, time.monotonic()


def _fingerprints(parts: Sequence[Part]) -> list[Fingerprint]:
    return [part.fingerprint for part in parts]


def _announced_in(received: Received[Embedding]) -> int:
    """The partition of images.new that a record goes back to; -1 where it does not say."""
    for name, value in received.headers:
        if name == ANNOUNCED_IN and value is not None and value.isdigit():
            return int(value)
    return -1


def make(config: Config) -> SearchStage:
    """The stage, ready to run; ConfigError where INDEX_DIR cannot be written, or the log is none for DIMENSION."""
    check_log(config)
    try:
        return SearchStage(config)
    except OSError as exc:
        raise ConfigError(f"INDEX_DIR is {config.index_dir}: {exc.strerror or exc}") from exc


def main(config: Config | None = None) -> None:
    """Run until SIGTERM or SIGINT."""
    serve(SearchStage, make, config)


if __name__ == "__main__":
    main()
