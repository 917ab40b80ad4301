"""The partitions assigned to a stage's process: where reading starts, and what happens on a rebalance.

librdkafka calls back during the consumer's poll:
1. Partitions revoked or lost: the runner drops their messages from its batch, the stage gets `released`, and they are
   unassigned.
2. Partitions assigned: each starts at its committed offset, and pauses if the stage has a state to restore.
3. Back from the poll: if the runner's batch still holds messages, the runner discards it and calls `rewind`.
4. Before each further poll: `restore_step` advances each restore, and resumes a partition whose restore is done.
"""

from collections.abc import Callable, Collection, Iterator
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from streams.config import KafkaConfig
from streams.kafka.errors import OffsetsLost, no_offsets
from streams.kafka.messages import Place
from streams.stage import Stage

TIMEOUT_S = 60.0


class Partitions:
    """Follows the group's rebalances for one consumer; for the thread that polls it.

    progress  how far the current restore is, in the stage's words
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
        self._consumer = consumer
        self._kafka = kafka
        self._stage = stage
        self._topic = kafka.topic(stage.source.name)
        self._on_rebalance = on_rebalance
        self._restoring: dict[int, Iterator[str]] = {}
        self._failure: Exception | None = None
        self._stopping = False
        self._paused = False

    @property
    def restoring(self) -> bool:
        """Whether any partition waits for the stage's state to be restored."""
        return bool(self._restoring)

    def subscribe(self) -> None:
        """Join the stage's group."""
        self._consumer.subscribe(
            [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
        )

    def restore_step(self) -> None:
        """Advance each restore by one step, and resume the partitions whose restore is done."""
        for partition, steps in list(self._restoring.items()):
            progress = next(steps, None)
            self.progress = progress or ""
            if progress is None:
                del self._restoring[partition]
                if not self._paused:
                    self._consumer.resume([TopicPartition(self._topic, partition)])

    def rewind(self) -> None:
        """Go back to the committed offsets. A seek that fails ends the process: no message may be skipped."""
        owned = self._consumer.assignment()
        for part in self._consumer.committed(owned, timeout=TIMEOUT_S) if owned else []:
            self._consumer.seek(self._starting_point(part))

    def pause(self) -> None:
        """Stop reading all partitions."""
        self._paused = True
        self._consumer.pause(self._consumer.assignment())

    def resume(self) -> None:
        """Read all partitions again, but for those whose stage is still being restored."""
        self._paused = False
        owned = self._consumer.assignment()
        self._consumer.resume([part for part in owned if part.partition not in self._restoring])

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
            owned = [self._starting_point(part) for part in consumer.committed(partitions, timeout=TIMEOUT_S)]
            consumer.incremental_assign(owned)
            for part in owned:
                restoring = self._stage.restore(part.partition, part.offset)
                if restoring is not None:
                    consumer.pause([part])
                    self._restoring[part.partition] = restoring
        except (KafkaException, OffsetsLost, OSError) as exc:
            self._failure = exc

    def _starting_point(self, part: TopicPartition) -> TopicPartition:
        """Return the partition at its committed offset, or where `start_from` says. OffsetsLost without either."""
        if part.error is not None:
            raise KafkaException(part.error)
        if part.offset >= 0:
            return part
        if self._kafka.start_from is None:
            raise OffsetsLost(no_offsets(self._kafka, self._stage.name, self._stage.source.name))
        low, high = self._consumer.get_watermark_offsets(part, timeout=TIMEOUT_S)
        return TopicPartition(part.topic, part.partition, low if self._kafka.start_from == "earliest" else high)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._on_rebalance({(part.topic, part.partition) for part in partitions})
        for part in partitions:
            self._restoring.pop(part.partition, None)
            self._stage.released(part.partition)
        consumer.incremental_unassign(partitions)
