"""Keeps the index in step with the embeddings log: restores it to an offset, applies changes, saves snapshots."""

import logging
import time
from collections.abc import Generator, Sequence
from typing import Any

from imagetools.errors import IndexMismatch
from imagetools.index.change import Change, PutResult
from imagetools.index.config import IndexConfig
from imagetools.index.entry import Entry
from imagetools.index.index import Index
from imagetools.local_codes import LocalCodes, unpack_codes
from schemas.records import Embedding, Fingerprint, Part
from streams.config import Config
from streams.kafka.log_reader import LogReader
from streams.search.snapshots import PendingSnapshot, Snapshots
from streams.stage import Received
from streams.topics import ANNOUNCED_IN, EMBEDDINGS

log = logging.getLogger(__name__)

SNAPSHOT_EVERY_S = 600
SNAPSHOT_AT_LEAST = 1000
"""Changes. A running stage saves once it has passed both limits, and a stopping one after any change."""

STEP_S = 0.05
"""How long a step of a replay may take: the consumer does not poll meanwhile."""


class LogIndex:
    """The index of the embeddings log up to one offset.

    index   holds every image of the log before `offset` that belongs to its shard
    offset  the next one of the log to apply; None before the first restore
    log_id  of the topic; empty before the first restore
    """

    def __init__(self, config: Config) -> None:
        """OSError where INDEX_DIR cannot be made or written."""
        self._config = config
        self._index_config = IndexConfig(config.distance_type, config.dimension, config.index_engine)
        self._shard = config.kafka.shard
        self._snapshots = Snapshots(config.index_dir / self._shard.name, self._index_config)
        self.index = Index(self._index_config, self._snapshots.scratch)
        self.offset: int | None = None
        self._unsaved = 0
        self._saved_at = time.monotonic()
        self.log_id = ""
        self._saving: PendingSnapshot | None = None

    @property
    def newest_snapshot(self) -> float:
        """When the newest snapshot of this log was written, seconds since 1970; 0 where there is none."""
        return self._snapshots.newest_time(self.log_id) if self.log_id else 0.0

    def apply(self, change: Change) -> None:
        """Apply a change to the index. The caller sets `offset`."""
        self._unsaved += len(change)
        change.apply()

    def save_if_due(self) -> None:
        """Begin a snapshot if the last one is old and many changes have come since; it is written beside the work."""
        if self._saving is not None:
            if self._saving.is_written():
                self._finish_saving()
        elif self._unsaved >= SNAPSHOT_AT_LEAST and time.monotonic() - self._saved_at > SNAPSHOT_EVERY_S:
            assert self.offset is not None
            self._saving = self._snapshots.begin(self.index, self.log_id, self.offset)
            self._unsaved, self._saved_at = 0, time.monotonic()

    def restore(self, partition: int, offset: int, *, level: int = logging.INFO) -> Generator[str, None, None]:
        """Bring the index to exactly `offset`: from itself, a snapshot, or the log's beginning.

        Works in steps of about STEP_S and yields how far it is. Where it is closed before its end, the index is at an
        earlier offset.
        level  of the line in the log that says where it is
        """
        reader = LogReader(self._config.kafka, EMBEDDINGS.name, Embedding, partition)
        try:
            self.log_id = reader.log_id
            self._load_for(offset)
            progress = "replaying, 0 %"
            yield progress
            began, first = time.monotonic(), self.offset or 0
            batch, replayed = list[Received[Embedding]](), 0
            for received in reader.read(first, offset):
                if received is not None:
                    batch.append(received)
                    replayed += 1
                    progress = f"replaying, {100 * (received.offset - first) // (offset - first)} %"
                if len(batch) >= self._config.batch_size:
                    self._replay_all(batch)
                    batch = []
                if received is None or time.monotonic() - began > STEP_S:
                    yield progress
                    began = time.monotonic()
            self._replay_all(batch)
            self.offset = offset
            words = "search: at offset %d with %d images, %d records replayed"
            log.log(level, words, offset, len(self.index), replayed)
        finally:
            reader.close()

    def close(self) -> None:
        """Write a snapshot of what is not saved yet, and close the index."""
        self._finish_saving()
        if self._unsaved:
            self._save()
        self.index.close()
        self._snapshots.close()

    def _load_for(self, offset: int) -> None:
        """Make sure that the index is not ahead of `offset`: keep it, load a snapshot, or start empty."""
        if self.offset is not None and self.offset <= offset:
            return
        self.index.close()
        loaded = self._snapshots.newest(self.log_id, at_most=offset)
        self.index, self.offset = loaded or (Index(self._index_config, self._snapshots.scratch), 0)
        self._unsaved = 0

    def _replay_all(self, batch: Sequence[Received[Embedding]]) -> None:
        if not batch:
            return
        change = self.index.change()
        here = (received.record for received in batch if self._shard.holds(received.path))
        change.look_ahead([record.fingerprint for record in here if record is not None])
        for received in batch:
            self.follow(change, received)
        self.apply(change)
        self.offset = batch[-1].offset + 1

    def follow(self, change: Change, received: Received[Embedding]) -> None:
        """Put a record into a change without searching; one that does not fit is passed over."""
        record = received.record
        try:
            if self._shard.holds(received.path):
                put_record(change, received)
            elif record is not None:
                change.check(record.fingerprint, model=record.model, parts=fingerprints_of(record.parts))
                change.note_model(record.model)
        except IndexMismatch as exc:
            # it becomes a dead letter where it is answered for
            log.debug("offset %d: %s", received.offset, exc)

    def _finish_saving(self) -> None:
        if self._saving is not None:
            self._saving.finish()
            self._saving = None

    def _save(self) -> None:
        if self.offset is None:
            return
        self._snapshots.save(self.index, self.log_id, self.offset)
        self._unsaved, self._saved_at = 0, time.monotonic()


def put_record(change: Change, received: Received[Embedding], nb_neighbors: int = 0, nb_local: int = 0) -> PutResult:
    """Put one record of the log into a change, and return what became of it. IndexMismatch.

    nb_neighbors  how many to search for if the image is added; 0: none
    nb_local      how many to search for by local codes, too
    """
    record = received.record
    entry = Entry(
        order=received.offset,
        relative_path=received.path,
        announced=received.timestamp,
        digest=b"" if record is None else record.digest,
        source=announced_in(received),
    )
    if record is None:
        return change.put(entry, None)
    parts = fingerprints_of(record.parts)
    return change.put(
        entry,
        record.fingerprint,
        model=record.model,
        parts=parts,
        codes=codes_of(record.codes),
        nb_neighbors=nb_neighbors,
        nb_local=nb_local,
    )


def fingerprints_of(parts: Sequence[Part]) -> list[Fingerprint]:
    """Return the fingerprint of each part."""
    return [part.fingerprint for part in parts]


def codes_of(data: bytes) -> LocalCodes | None:
    """Return local codes from a record, None where it has none. IndexMismatch where they are none."""
    try:
        return unpack_codes(data) if data else None
    except ValueError as exc:
        raise IndexMismatch(str(exc)) from exc


def announced_in(received: Received[Any]) -> int:
    """Return the partition of images.new where the image was announced; -1 if no header names it."""
    for name, value in received.headers:
        if name == ANNOUNCED_IN and value is not None and value.isdigit():
            return int(value)
    return -1
