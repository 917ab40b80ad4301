"""The partitions assigned to a stage's process: where reading starts, and what happens on a rebalance.

librdkafka calls back during the consumer's poll:
1. Partitions revoked or lost: the runner drops their messages from its batch, the stage gets `released`, and they are
   unassigned.
2. Partitions assigned: each starts at its committed offset, and pauses if the stage has a state to restore. A stage
   that also reads other topics gets all of their partitions together with the only one of its source: librdkafka
   assigns whatever the callback says, and their offsets belong to the same group and the same transactions. Brokers
   drop offsets of topics that an active group is not subscribed to (KIP-211), a week after their last commit by
   default: each transaction commits all of these again, and an idle runner does so now and then.
3. Back from the poll: if the runner's batch still holds messages, the runner discards it and calls `rewind`.
4. Before each further poll: `restore_step` advances each restore, and resumes the partitions whose restore is done.

Partitions that are added to a topic of the group come by a rebalance. Of further topics nobody tells the process: it
asks now and then, and reads the new ones from their beginning.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from streams.config import KafkaConfig
from streams.kafka.errors import NOT_READY, RECONNECTS, OffsetsLost, no_offsets
from streams.kafka.messages import Place
from streams.stage import Stage

log = logging.getLogger(__name__)

TIMEOUT_S = 60.0

LOOK_S = 30.0
"""How often to look for partitions that were added to topics that the group is not subscribed to."""

LOOK_TIMEOUT_S = 5.0

KEEP_S = 600.0
"""Offsets of topics that the group is not subscribed to are committed at least this often."""


@dataclass(frozen=True)
class Restore:
    """A restore of the stage's state.

    held   the partitions that wait for it
    steps  yields how far it is
    """

    held: list[TopicPartition]
    steps: Iterator[str]


class Partitions:
    """Follows the group's rebalances for one consumer; for the thread that polls it.

    progress  how far the current restore is, in the stage's words
    further   committed offsets of the partitions of topics that the group is not subscribed to
    """

    def __init__(
        self,
        consumer: Consumer,
        kafka: KafkaConfig,
        stage: Stage[Any],
        on_rebalance: Callable[[Collection[Place]], None],
    ) -> None:
        """on_rebalance: called during the consumer's poll, with the partitions that were taken away."""
        self.progress = ""
        self.further: dict[Place, int] = {}
        self._offsets: dict[Place, int] = {}
        self._committed_at = time.monotonic()
        self._looked_at = time.monotonic()
        self._consumer = consumer
        self._kafka = kafka
        self._stage = stage
        self._topic = kafka.topic(stage.source.name)
        self._also = [kafka.topic(topic.name) for topic in stage.also]
        self._on_rebalance = on_rebalance
        self._restoring: dict[int, Restore] = {}
        self._failure: Exception | None = None
        self._stopping = False
        self._paused = False

    @property
    def restoring(self) -> bool:
        """Whether any partition waits for the stage's state to be restored."""
        return bool(self._restoring)

    @property
    def owned(self) -> int:
        """How many partitions of the stage's source this process owns."""
        return sum(topic == self._topic for topic, _ in self._offsets)

    def lag(self) -> dict[Place, int]:
        """Return how far the committed offset of each partition is behind its end, where the end is known.

        A difference of offsets, so the markers of transactions count. Asks no broker: librdkafka learns the end with
        each fetch.
        """
        ends = {
            place: self._consumer.get_watermark_offsets(TopicPartition(*place), cached=True)[1]
            for place in self._offsets
        }
        return {place: max(0, end - self._offsets[place]) for place, end in ends.items() if end >= 0}

    @property
    def keep_due(self) -> bool:
        """Whether the offsets in `further` have to be committed again."""
        return bool(self.further) and time.monotonic() - self._committed_at > KEEP_S

    def committed(self, offsets: Mapping[Place, int]) -> None:
        """Note the offsets that a transaction has committed, those in `further` among them."""
        self.further = {place: offsets[place] for place in self.further}
        self._offsets |= offsets
        self._committed_at = time.monotonic()

    def subscribe(self) -> None:
        """Join the stage's group."""
        self._consumer.subscribe(
            [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
        )

    def restore_step(self) -> None:
        """Advance each restore by one step, and resume the partitions whose restore is done."""
        for partition, restore in list(self._restoring.items()):
            progress = next(restore.steps, None)
            self.progress = progress or ""
            if progress is None:
                del self._restoring[partition]
                if not self._paused:
                    self._consumer.resume(restore.held)

    def take_added(self) -> None:
        """Read partitions that were added to further topics, where it is time to look for any. KafkaException."""
        if not self.further or self._restoring or self._paused or time.monotonic() - self._looked_at < LOOK_S:
            return
        self._looked_at = time.monotonic()
        try:
            found = self._further_partitions(LOOK_TIMEOUT_S)
            added = [part for part in found if (part.topic, part.partition) not in self.further]
            if not added:
                return
            committed = self._consumer.committed(added, timeout=LOOK_TIMEOUT_S)
            starts = [self._starting_point(part, added=True) for part in committed]
        except KafkaException as exc:
            if not exc.args[0].retriable() and exc.args[0].code() not in RECONNECTS | NOT_READY:
                raise
            # nothing has changed: the next look finds them
            log.debug("%s: no look for more partitions: %s", self._stage.name, exc.args[0].str())
            return
        self._consumer.incremental_assign(starts)
        self._note_offsets(starts)
        names = ", ".join(f"{part.topic} {part.partition}" for part in starts)
        log.info("%s: reads partitions that were added: %s", self._stage.name, names)

    def rewind(self) -> None:
        """Go back to the committed offsets, and restore the stage's state if it is stale.

        A seek that fails ends the process: no message may be skipped.
        """
        owned = self._consumer.assignment()
        starts = self._starting_points(self._consumer.committed(owned, timeout=TIMEOUT_S)) if owned else []
        for start in starts:
            self._consumer.seek(start)
        self._note_offsets(starts)
        if self._stage.stale:
            self._begin_restoring(starts)

    def pause(self) -> None:
        """Stop reading all partitions."""
        self._paused = True
        self._consumer.pause(self._consumer.assignment())

    def resume(self) -> None:
        """Read all partitions again, but for those whose stage is still being restored."""
        self._paused = False
        held = {(part.topic, part.partition) for restore in self._restoring.values() for part in restore.held}
        owned = self._consumer.assignment()
        self._consumer.resume([part for part in owned if (part.topic, part.partition) not in held])

    def raise_failure(self) -> None:
        """Raise what failed during an assignment: an exception cannot leave librdkafka's callback."""
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Prepare for the consumer's close: partitions that are assigned from now on are not restored."""
        self._stopping = True

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._on_rebalance(())
        if self._stopping:
            # a closing consumer is still assigned partitions, but a call for offsets would never return
            consumer.incremental_assign(partitions)
            return
        try:
            wanted = [*partitions, *self._further_partitions()] if partitions else []
            owned = self._starting_points(consumer.committed(wanted, timeout=TIMEOUT_S))
            consumer.incremental_assign(owned)
            self._note_offsets(owned)
            self._begin_restoring(owned)
        except (KafkaException, OffsetsLost, OSError) as exc:
            self._failure = exc

    def _further_partitions(self, timeout_s: float = TIMEOUT_S) -> Iterator[TopicPartition]:
        for name in self._also:
            found = self._consumer.list_topics(name, timeout=timeout_s).topics[name]
            if found.error is not None:
                raise KafkaException(found.error)
            yield from (TopicPartition(name, number) for number in found.partitions)

    def _note_offsets(self, starts: Iterable[TopicPartition]) -> None:
        self.further |= {(part.topic, part.partition): part.offset for part in starts if part.topic in self._also}
        self._offsets |= {(part.topic, part.partition): part.offset for part in starts}

    def _begin_restoring(self, owned: Iterable[TopicPartition]) -> None:
        further = [part for part in owned if part.topic != self._topic]
        for part in owned:
            if part.topic != self._topic:
                continue
            steps = self._stage.restore(part.partition, part.offset, part.metadata or "")
            if steps is not None:
                restore = Restore([part, *further], steps)
                self._consumer.pause(restore.held)
                self._restoring[part.partition] = restore

    def _starting_points(self, parts: Sequence[TopicPartition]) -> list[TopicPartition]:
        """Return the partitions at their committed offsets, or where else to begin. OffsetsLost, KafkaException.

        Each transaction commits the offsets of all further partitions. So one without any, of a topic of which others
        have theirs, was added since, and nobody has read it.
        """
        known = {part.topic for part in parts if part.topic in self._also and part.offset >= 0}
        return [self._starting_point(part, added=part.topic in known) for part in parts]

    def _starting_point(self, part: TopicPartition, *, added: bool) -> TopicPartition:
        """Return the partition at its committed offset, or where `start_from` says; one that was added, at its start.

        OffsetsLost for another one.
        """
        if part.error is not None:
            raise KafkaException(part.error)
        if part.offset >= 0:
            return part
        if added:
            low, _ = self._consumer.get_watermark_offsets(part, timeout=TIMEOUT_S)
            return TopicPartition(part.topic, part.partition, low)
        if self._kafka.start_from is None:
            raise OffsetsLost(no_offsets(self._kafka, self._stage.name, part.topic))
        low, high = self._consumer.get_watermark_offsets(part, timeout=TIMEOUT_S)
        return TopicPartition(part.topic, part.partition, low if self._kafka.start_from == "earliest" else high)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # not asked of the consumer: while it closes it no longer answers
        further = [TopicPartition(*place) for place in self.further] if partitions else []
        self._on_rebalance({(part.topic, part.partition) for part in (*partitions, *further)})
        for part in partitions:
            self._restoring.pop(part.partition, None)
            self._stage.released(part.partition)
        for part in further:
            self.further.pop((part.topic, part.partition), None)
        for part in (*partitions, *further):
            self._offsets.pop((part.topic, part.partition), None)
        consumer.incremental_unassign([*partitions, *further])
