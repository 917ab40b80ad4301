"""A stage on `candidates` that takes the answers of several shards as one record."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from imagetools.errors import ImageToolsError, MessageError
from schemas.records import Candidates, Verdict, VerdictOutcome
from streams.config import KafkaConfig
from streams.kafka.log_reader import LogReader
from streams.sharding.join import PartitionJoin, Whole
from streams.stage import Outcome, Output, Received, Stage
from streams.topics import CANDIDATES, VERDICTS

log = logging.getLogger(__name__)

STEP_S = 0.05
"""How long a step of a restore may take: the consumer does not poll meanwhile."""


class JoiningStage(Stage[Candidates]):
    """Holds the answers of shards until all are there, and concludes each image once.

    Records of a search without shards pass through. What is held is part of the stage's state: the offset where it
    begins is committed beside each batch's own, and a new owner of the partition reads it again from there.
    """

    source = CANDIDATES
    kind = Candidates
    # a batch may conclude an image that an earlier one brought; its outputs have the headers of that
    passes_headers = False

    def __init__(self, kafka: KafkaConfig) -> None:
        self._kafka = kafka
        self._joins: dict[int, PartitionJoin] = {}
        self._merged: dict[tuple[int, int], Candidates] = {}
        # partitions whose join has a batch that is not committed
        self._changed: set[int] = set()
        self._stale: set[int] = set()
        self._now_ms = 0
        self._concern = ""

    def conclude(self, records: Sequence[Candidates]) -> Sequence[Outcome]:
        """Return the outcome of each image, in order."""
        raise NotImplementedError

    def run(self, batch: Sequence[Received[Candidates]]) -> Sequence[Outcome]:
        """Return the outcome of each message: those of the images that it completes."""
        self._merged = {}
        self._now_ms = max((received.timestamp for received in batch), default=0)
        taken = [self._take(received) for received in batch]
        wholes = [whole for some in taken if not isinstance(some, MessageError) for whole in some]
        concluded = iter(self.conclude([whole.record for whole in wholes]))
        return [
            some
            if isinstance(some, MessageError)
            else self._outcome(received, [(whole, next(concluded)) for whole in some])
            for received, some in zip(batch, taken, strict=True)
        ]

    def _take(self, received: Received[Candidates]) -> Sequence[Whole] | MessageError:
        self._changed.add(received.partition)
        try:
            return self._joins.setdefault(received.partition, PartitionJoin()).take(received)
        except MessageError as exc:
            return exc

    def _outcome(self, received: Received[Candidates], concluded: Sequence[tuple[Whole, Outcome]]) -> Outcome:
        if len(concluded) == 1 and isinstance(concluded[0][1], ImageToolsError):
            whole, error = concluded[0]
            if whole.record.candidate == received.path:
                self._merged[received.partition, received.offset] = whole.record
                return error
        return [output for whole, outcome in concluded for output in _outputs(whole, outcome)]

    def letter(self, received: Received[Candidates]) -> Candidates | None:
        """Return the image with the answers of all shards, so that its dead letter can be sent back alone."""
        return self._merged.get((received.partition, received.offset))

    # the state

    @property
    def stale(self) -> bool:
        """After a batch that was not committed: its answers are held."""
        return bool(self._stale)

    def committed(self, offset: int) -> None:
        """Note that what is held is what was committed."""
        self._changed.clear()

    def aborted(self) -> None:
        """Note that what is held has a batch that was not committed."""
        self._stale |= self._changed
        self._changed.clear()

    def released(self, partition: int) -> None:
        """Forget what is held: another process owns the partition now."""
        self._joins.pop(partition, None)
        self._changed.discard(partition)
        self._stale.discard(partition)

    def note(self, partition: int) -> str:
        """Return how far all shards have come, and where what is held begins."""
        join = self._joins.get(partition)
        return "" if join is None else join.note()

    def restore(self, partition: int, offset: int, note: str = "") -> Iterator[str] | None:
        """Read again what was held when the offset was committed."""
        join = self._joins[partition] = PartitionJoin(note)
        self._changed.discard(partition)
        self._stale.discard(partition)
        if join.first_offset is None or join.first_offset >= offset:
            return None
        return self._restore(join, partition, join.first_offset, offset)

    def _restore(self, join: PartitionJoin, partition: int, first: int, offset: int) -> Iterator[str]:
        progress = "reading what waits for shards, 0 %"
        yield progress
        reader = LogReader(self._kafka, CANDIDATES.name, Candidates, partition)
        began, lowest = time.monotonic(), None
        try:
            for received in reader.read(first, offset):
                if received is not None:
                    lowest = received.offset if lowest is None else lowest
                    join.take_again(received)
                    progress = f"reading what waits for shards, {100 * (received.offset - first) // (offset - first)} %"
                if received is None or time.monotonic() - began > STEP_S:
                    yield progress
                    began = time.monotonic()
        finally:
            reader.close()
        log.info("matcher: %d images of partition %d wait for shards", join.waiting, partition)
        if lowest != first:
            log.error(
                "matcher: answers of shards from offset %d on, for which others were waited, are no longer in "
                "partition %d of candidates: it keeps messages for too short a time. The images get verdicts that "
                "name what is missing, or none", first, partition,
            )  # fmt: skip

    # what it waits for

    def idle(self) -> None:
        """Note the time: no message is there that could tell it."""
        self._now_ms = int(time.time() * 1000)

    @property
    def concern(self) -> str:
        """Say which shard images have waited for longer than LATE_MS."""
        late = next(filter(None, (join.late(self._now_ms) for join in self._joins.values())), None)
        text = f"images wait for shard {late}: does a search with SHARD={late} run?" if late is not None else ""
        if text and text != self._concern:
            log.warning("%s: %s", self.name, text)
        self._concern = text
        return text


def _outputs(whole: Whole, outcome: Outcome) -> Iterator[Output]:
    """Yield what is sent of an image; its messages' headers, and which shards are missing, come with it."""
    record = whole.record
    if isinstance(outcome, ImageToolsError):
        # the message belongs to another image, and can be no dead letter of this one
        reason = f"{type(outcome).__name__}: {outcome}"
        verdict = Verdict(record.request_id, record.candidate, VerdictOutcome.DEAD_LETTER, reason)
        outcome = [Output(VERDICTS, record.candidate, verdict)]
    for output in outcome:
        said = output.record
        if whole.passed_over and isinstance(said, Verdict):
            said = replace(said, reason="; ".join(filter(None, (said.reason, whole.passed_over))))
        yield replace(output, record=said, headers=(*whole.headers, *output.headers))
