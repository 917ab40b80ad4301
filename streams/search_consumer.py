"""embeddings → candidates: find every new image's neighbors, and keep the index in step with the log.

Neighbors are near by fingerprint, or share local codes where the records have any.

The topic is the truth and the index a view of it at one offset. A record sees only those before it; searching changes
nothing, and a batch reaches the index after its transaction has committed.

A shard whose turn it is not follows the log without output (streams/sharding/marks.py).
"""

import logging
from collections.abc import Iterable, Iterator, Sequence

from imagetools.errors import ConfigError, IndexMismatch
from imagetools.index.change import Change
from imagetools.index.search import Findings
from schemas.neighbor_records import ShardAnswer, ShardImage
from schemas.records import Embedding, Reply, ReplyOutcome, Request, SearchRequest
from streams.config import Config
from streams.embeddings_log import check_log, check_shards
from streams.requests.protocol import reply_to
from streams.requests.scheduling import BatchSlicer, SliceScheduler
from streams.search.figures import index_figures
from streams.search.log_index import LogIndex, codes_of, fingerprints_of, put_record
from streams.search.outputs import candidates, end_of_answers, found_in_shard, limits, more_neighbors, to_neighbors
from streams.search.stand_by import StandBy
from streams.service import serve
from streams.sharding.marks import Mark, Role, Turn, mark_in
from streams.stage import Figure, Outcome, Received, Stage
from streams.topics import EMBEDDINGS

log = logging.getLogger(__name__)


class SearchStage(Stage[Embedding]):
    """Finds each new fingerprint's neighbors among those before it in the log."""

    name = "search"
    source = EMBEDDINGS
    kind = Embedding
    tombstones = True
    # a whole batch reaches the graph in one go, at some 1 ms an image, and requests wait for it
    batch_size = 32

    def __init__(self, config: Config) -> None:
        self._config = config
        self._shard = config.kafka.shard
        self._turn = Turn(self._shard)
        self.log_index = LogIndex(config)
        self._stand_by = StandBy(config.kafka, self.log_index)
        self._pending: Change | None = None
        # the index is for one thread at a time; NGT holds the GIL anyway
        self._scheduler = SliceScheduler()
        self._slicer = BatchSlicer(self._scheduler, self.batch_size)
        self._owns_log = False
        # why requests get no answer now; empty: they get one
        self._unavailable = "this process has no index yet"

    def run(self, batch: Sequence[Received[Embedding]]) -> Sequence[Outcome]:
        """Find the candidates of each image; none for one that is gone."""
        self._turn.begin()
        change = self.log_index.index.change()
        outcomes = self._slicer.map(lambda piece: self._take_all(change, piece), batch)
        self._pending = change
        return outcomes

    def _take_all(self, change: Change, piece: Sequence[Received[Embedding]]) -> list[Outcome]:
        # a search for neighbors finds an equal fingerprint, too; one that comes silently gets no search
        silent = (one.record for one in piece if one.record and not one.record.alert and self._shard.holds(one.path))
        change.look_ahead([record.fingerprint for record in silent])
        return [self._take(change, received) for received in piece]

    def _take(self, change: Change, received: Received[Embedding]) -> Outcome:
        """Put a record into the change, and answer where it is this shard's turn."""
        if (mark := mark_in(received)) is not None:
            return self._heed(received, mark)
        if self._turn.role is not Role.ANSWERS:
            self.log_index.follow(change, received)
            return ()
        if self._shard.holds(received.path):
            return self._put(change, received)
        record = received.record
        return () if record is None else self._answer_for_another_shard(change, received, record)

    def _put(self, change: Change, received: Received[Embedding]) -> Outcome:
        """Search for an image of this shard, and add it; remove it where it is gone."""
        record = received.record
        nb_neighbors, nb_local = (0, 0) if record is None else self._wanted(record)
        try:
            result = put_record(change, received, nb_neighbors, nb_local)
        except IndexMismatch as exc:
            if len(self.log_index.index) == 0 and self._config.dimension is not None:
                # the log was empty when this process started: is it this record that is wrong, or the setting?
                check_log(self._config)
            return exc
        if record is None:
            return ()
        if self._shard.is_whole or not record.alert:
            # an image that was loaded silently has no neighbors, and its shard alone answers for it
            return candidates(received, record, neighbors=to_neighbors(change, result.neighbors))
        image = ShardImage(result.outcome)
        return candidates(received, record, shard=self._answers(change, received, record, result.found, image))

    def _heed(self, received: Received[Embedding], mark: Mark) -> Outcome:
        """Let other shards answer from here on, or this one; one that has answered says that it ends."""
        has_ended = self._turn.take(mark)
        log.info("search: %d shards answer from offset %d on", mark.answering, received.offset)
        return end_of_answers(received, self._shard, self.log_index.log_id) if has_ended else ()

    def _answer_for_another_shard(self, change: Change, received: Received[Embedding], record: Embedding) -> Outcome:
        """Search for an image that another shard holds, and sets aside where it does not fit."""
        parts = fingerprints_of(record.parts)
        try:
            change.check(record.fingerprint, model=record.model, parts=parts)
            codes = codes_of(record.codes)
        except IndexMismatch as exc:
            log.debug("offset %d: %s", received.offset, exc)
            return ()
        change.note_model(record.model)
        if not record.alert:
            return ()
        nb_neighbors, nb_local = self._wanted(record)
        found = change.find(
            record.fingerprint, nb_neighbors, digest=record.digest, parts=parts, codes=codes, nb_local=nb_local
        )
        answer = self._answers(change, received, record, found, ShardImage.ELSEWHERE)
        return candidates(received, record, shard=answer)

    def _wanted(self, record: Embedding) -> tuple[int, int]:
        """How many neighbors an image gets, by fingerprints and by local codes."""
        if not record.alert:
            return 0, 0
        return self._config.nb_neighbors + more_neighbors(record.codes, self._config), self._config.nb_local

    def _answers(
        self, change: Change, received: Received[Embedding], record: Embedding, found: Findings, image: ShardImage
    ) -> ShardAnswer:
        return ShardAnswer(
            self._shard.index,
            self._shard.count,
            self.log_index.log_id,
            received.offset,
            image,
            *found_in_shard(change, found),
            *limits(*self._wanted(record), len(record.parts)),
        )

    def committed(self, offset: int) -> None:
        """Apply the committed batch to the index."""
        if self._pending is not None:
            with self._scheduler.batch_slice():
                self.log_index.apply(self._pending)
            self._pending = None
        self._turn.committed()
        self.log_index.offset = offset
        self.log_index.save_if_due()

    def aborted(self) -> None:
        """Drop the batch."""
        self._pending = None

    # following the log

    def note(self, partition: int) -> str:
        """Return which shards answer."""
        return self._turn.note

    @property
    def concern(self) -> str:
        """Say that this process has nothing to do any more."""
        if not self._owns_log or self._turn.role is not Role.NOT_NEEDED:
            return ""
        many = f"{self._turn.answering} shards answer" if self._turn.answering > 1 else "one search answers"
        return f"{many} now: this process with SHARD={self._shard} is not needed any more, stop it"

    def restore(self, partition: int, offset: int, note: str = "") -> Iterator[str]:
        """Bring the index to exactly the committed offset: from itself, a snapshot, or the log's beginning."""
        self._stand_by.stop()
        self._owns_log, self._pending = True, None
        self._turn.restore(note)
        self._stop_answering("replaying, 0 %")
        return self._restore(partition, offset)

    def _restore(self, partition: int, offset: int) -> Iterator[str]:
        for progress in self.log_index.restore(partition, offset):
            self._unavailable = progress
            yield progress if self._shard.is_whole else f"shard {self._shard}: {progress}"
        self._unavailable = ""

    def released(self, partition: int) -> None:
        """Stop answering: the log went to another process, which answers from now on."""
        self._owns_log = False
        self._stop_answering("this process has no index")

    def idle(self) -> None:
        """Follow the log while another process owns it, to take over at once."""
        if not self._owns_log:
            self._stand_by.step()

    def close(self) -> None:
        """Save what is not saved yet, and close the index."""
        self._stand_by.stop()
        self.log_index.close()

    def figures(self) -> Iterable[Figure]:
        """Return the index's size, place in the log, newest snapshot, engine and model."""
        return index_figures(self.log_index, self._shard)

    # requests

    def owns_requests(self) -> bool | None:
        """While this process owns the log: in any other, the index is older or empty.

        A shard that has not answered yet does not serve requests: its index may be far behind.
        """
        return self._owns_log and self._turn.serves

    def answer(self, requests: Sequence[Request]) -> Sequence[Reply]:
        """Find the neighbors of each fingerprint in the index, which the current batch has not reached yet."""
        return [self._answer(request) for request in requests if isinstance(request, SearchRequest)]

    def _answer(self, request: SearchRequest) -> Reply:
        with self._scheduler.request():
            if self._unavailable:
                return self._reply(request, ReplyOutcome.UNAVAILABLE, self._unavailable)
            index = self.log_index.index
            # a change is dropped without a trace
            change = index.change()
            try:
                fingerprint, *parts = change.check(
                    request.fingerprint, model=request.model, parts=fingerprints_of(request.parts)
                )
                # a request for an image has a digest; one for a vector gets as many neighbors as it names
                more = more_neighbors(request.codes, self._config) if request.digest else 0
                nb_neighbors = request.nb_neighbors + more
                found = change.find(
                    fingerprint,
                    nb_neighbors,
                    digest=request.digest,
                    parts=parts,
                    codes=codes_of(request.codes),
                    nb_local=self._config.nb_local,
                )
            except IndexMismatch as exc:
                return self._reply(request, ReplyOutcome.REFUSED, str(exc))
            model = index.model or ""
            if self._shard.is_whole:
                return reply_to(request, neighbors=to_neighbors(change, found.hits), model=model)
            near, local = found_in_shard(change, found)
            most = limits(nb_neighbors, self._config.nb_local, len(parts))
            answer = ShardAnswer(self._shard.index, self._shard.count, "", -1, ShardImage.ELSEWHERE, near, local, *most)
            return reply_to(request, model=model, shard=answer)

    def _reply(self, request: SearchRequest, outcome: ReplyOutcome, reason: str) -> Reply:
        """Reply to a request that is not served; a shard names itself."""
        shard = None if self._shard.is_whole else ShardAnswer(self._shard.index, self._shard.count)
        return reply_to(request, outcome, reason, shard=shard)

    def _stop_answering(self, reason: str) -> None:
        """Reply with the reason from now on; returns when no request is being answered any more."""
        with self._scheduler.batch_slice():
            self._unavailable = reason


def make(config: Config) -> SearchStage:
    """Make the stage, ready to run.

    ConfigError where INDEX_DIR cannot be written, DIMENSION is not the log's, or other shards follow it.
    """
    check_log(config)
    check_shards(config.kafka)
    try:
        return SearchStage(config)
    except OSError as exc:
        raise ConfigError(f"INDEX_DIR is {config.index_dir}: {exc.strerror or exc}") from exc


def main(config: Config | None = None) -> None:
    """Run until SIGTERM or SIGINT."""
    serve(SearchStage, make, config)


if __name__ == "__main__":
    main()
