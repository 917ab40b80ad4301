"""Holds the shards' answers for an image until all are there, for one partition of `candidates`.

All answers for an image have its path as key, so they come to one partition. A shard sends its answers in the order of
the embeddings log, so with its answer for one image it has given, or passed over, those for all before it. So an image
is complete as soon as every shard has come as far, and everything that is held is known from two numbers: how far all
shards have come, and where the first answer lies that is still held. These two are committed with the offset.
"""

import heapq
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from imagetools.errors import MessageError
from schemas.neighbor_records import ShardAnswer, ShardImage
from schemas.records import Candidates
from streams.sharding.answers import merge
from streams.sharding.marks import is_key
from streams.sharding.shards import Shard
from streams.stage import Headers, Received

log = logging.getLogger(__name__)

LATE_MS = 30_000
"""How far the answers of one shard may lie behind those of another before the stage says so."""

MAX_SERIES = 8
"""Of one partition; the oldest that hold nothing are forgotten."""


@dataclass(frozen=True, slots=True)
class Whole:
    """An image with the answers of all shards.

    record       as one index would have sent it
    headers      of its messages
    passed_over  the shards that gave no answer for it, in words
    """

    record: Candidates
    headers: Headers
    passed_over: str = ""


@dataclass
class Series:
    """The answers of one number of shards to one log of embeddings.

    reached  the last place in the log that each shard has answered; -1: none
    held     answers by place in the log and shard; places in the order in which they came
    """

    log_id: str
    reached: list[int]
    held: dict[int, dict[int, Received[Candidates]]] = field(default_factory=dict)
    places: list[int] = field(default_factory=list)
    repeats: int = 0

    @property
    def first_held(self) -> Received[Candidates] | None:
        """The earliest answer that is held."""
        return next((next(iter(answers.values())) for answers in self.held.values()), None)

    def take(self, received: Received[Candidates], answer: ShardAnswer) -> Iterator[Whole]:
        """Take an answer, and yield the images that are complete now, in the order of the log."""
        if answer.sequence <= self.reached[answer.shard]:
            self._note_repeat(answer)
            return
        self.reached[answer.shard] = answer.sequence
        if answer.sequence not in self.held:
            self.held[answer.sequence] = {}
            heapq.heappush(self.places, answer.sequence)
        self.held[answer.sequence][answer.shard] = received
        while self.places and self.places[0] <= min(self.reached):
            whole = _joined(self.held.pop(heapq.heappop(self.places)))
            if whole is not None:
                yield whole

    def _note_repeat(self, answer: ShardAnswer) -> None:
        if not self.repeats:
            log.warning(
                "matcher: shard %d of %d answers again what it has answered before; its repeats are left out",
                answer.shard,
                answer.shards,
            )
        self.repeats += 1


class PartitionJoin:
    """The answers that are held of one partition.

    first_offset  of what is held, None where nothing is
    """

    def __init__(self, note: str = "") -> None:
        """note: what `note` returned when the offset was committed. What was held then has to be taken again."""
        self._series: dict[tuple[str, int], Series] = {}
        self.first_offset: int | None = None
        for one in json.loads(note) if note else ():
            reached = [one["reached"]] * one["shards"]
            self._series[one["log"], one["shards"]] = Series(one["log"], reached)
            if one["from"] is not None:
                self.first_offset = min(one["from"], one["from"] if self.first_offset is None else self.first_offset)

    @property
    def waiting(self) -> int:
        """How many images wait for answers."""
        return sum(len(series.held) for series in self._series.values())

    def note(self) -> str:
        """Return what has to be committed with the offset; at most some 100 bytes for each series."""
        self._forget()
        notes = []
        for (log_id, count), series in self._series.items():
            first = series.first_held
            start = None if first is None else first.offset
            notes.append({"log": log_id, "shards": count, "reached": min(series.reached), "from": start})
        return json.dumps(notes, separators=(",", ":")) if notes else ""

    def take(self, received: Received[Candidates]) -> list[Whole]:
        """Take a message, and return the images that are complete now: most often one, its own, or none.

        MessageError for the answer of a shard that there cannot be.
        """
        record = received.record
        assert record is not None
        if (answer := record.shard) is None:
            return [Whole(record, received.headers)]
        if not 0 <= answer.shard < answer.shards:
            raise MessageError(f"is the answer of shard {answer.shard} of {answer.shards}")
        key = answer.log, answer.shards
        if key not in self._series:
            self._series[key] = Series(answer.log, [-1] * answer.shards)
        return list(self._series[key].take(received, answer))

    def take_again(self, received: Received[Candidates]) -> None:
        """Take a message that was taken before the offset was committed: it is held if it was held then."""
        record = received.record
        if record is None or (answer := record.shard) is None:
            return
        series = self._series.get((answer.log, answer.shards))
        if series is None or not 0 <= answer.shard < answer.shards or answer.sequence <= series.reached[answer.shard]:
            return
        if list(series.take(received, answer)):
            raise AssertionError(f"{received.path} was complete when the offset was committed")

    def late(self, now_ms: int) -> Shard | None:
        """Return the shard for which images have waited longer than LATE_MS, if any."""
        for (_, count), series in self._series.items():
            first = series.first_held
            if first is not None and now_ms - first.timestamp > LATE_MS:
                return Shard(series.reached.index(min(series.reached)), count)
        return None

    def _forget(self) -> None:
        idle = [key for key, series in self._series.items() if not series.held]
        for key in idle[: max(0, len(self._series) - MAX_SERIES)]:
            del self._series[key]


def _joined(answers: dict[int, Received[Candidates]]) -> Whole | None:
    """Return the image; None where the shard that holds it has none: it set the image aside, with a verdict.

    None, too, for the end of the shards' answers.
    """
    given = [(received, received.record, received.record.shard) for received in answers.values() if received.record]
    shards = [answer for _, _, answer in given if answer is not None]
    count = shards[0].shards
    owner = next((one for one in given if one[2] is not None and one[2].image is not ShardImage.ELSEWHERE), None)
    if owner is None:
        if is_key(given[0][1].candidate):
            # the end of their answers, in every partition: nothing of these shards waits any longer
            return None
        log.warning("matcher: the shard that holds %s passed it over", given[0][1].candidate)
        return None
    received, record, answer = owner
    # announced again with the same bytes, or overtaken by a later announcement: nothing to report
    new = answer is not None and answer.image is ShardImage.PLACED
    missing = [f"{index} of {count}" for index in range(count) if index not in answers]
    words = f"not compared with the images of shard {', '.join(missing)}, which passed it over" if missing else ""
    return Whole(replace(record, neighbors=merge(shards) if new else (), shard=None), received.headers, words)
