"""The loop of every stage: poll a batch, run the stage, commit outputs, dead letters and offsets in one transaction.

A crash at any point neither loses nor repeats an output, for readers with isolation.level=read_committed:
- outputs and offsets commit together or not at all;
- a batch is computed before its transaction begins, so no transaction stays open for long;
- the group's generation is taken before the batch is polled. If the member loses its partitions meanwhile, the broker
  refuses the commit, the transaction is aborted, and the consumer goes back to the committed offsets, which librdkafka
  does not do by itself;
- a commit with an unknown outcome is repeated by the same call; if that cannot tell either, or does not return, the
  process ends.
"""

import logging
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, Generic, cast

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from imagetools.errors import ImageRootUnavailable, MessageError, RegistryAway
from schemas.codec import R, codec
from schemas.records import State
from streams.config import KafkaConfig
from streams.kafka import clients
from streams.kafka.authorization import REFUSALS
from streams.kafka.dead_letter_limit import DeadLetterLimit
from streams.kafka.errors import RECONNECTS, BrokerAway, ErrorLog, OffsetsLost, describe, no_offsets, no_topic
from streams.kafka.generation import Generation, generation_of
from streams.kafka.messages import Place, place_of, read_message
from streams.kafka.outcome_sender import OutcomeSender
from streams.kafka.partitions import Partitions
from streams.kafka.transactional_producer import TransactionalProducer
from streams.requests.server import RequestServerFactory
from streams.stage import Outcome, Received, Stage
from streams.traces.base import NO_TRACES, UNTRACED, BatchTrace, Traces
from streams.watching.observer import BatchStep, Observer, OnState, ignore_state

log = logging.getLogger(__name__)

POLL_S = 0.1
MIN_BACKOFF_S, MAX_BACKOFF_S = 0.5, 30.0
"""First and longest pause while inputs are away; each is twice the one before."""


class Runner(Generic[R]):
    """Runs one stage until `stop`."""

    def __init__(
        self,
        stage: Stage[R],
        kafka: KafkaConfig,
        *,
        dead_letter_limit: int = 0,
        request_server: RequestServerFactory | None = None,
        on_state: OnState = ignore_state,
        observer: Observer | None = None,
        traces: Traces = NO_TRACES,
        producer: Callable[[dict[str, Any]], Producer] = Producer,
    ) -> None:
        """Make the clients; nothing joins the group or sends before `run`.

        dead_letter_limit  after this many dead letters in a row the stage waits, unless known good inputs can still be
                           read; 0: never
        request_server     makes a context that is open while the loop runs and closes before the stage does; its
                           argument is `stop`
        on_state           called whenever the runner's state changes
        observer           sees the work
        traces             of the messages
        """
        self.stage: Stage[R] = stage
        self.kafka = kafka
        self._source = kafka.topic(stage.source.name)
        self._inputs = {kafka.topic(topic.name): topic for topic in (stage.source, *stage.also)}
        self._on_state = on_state
        self._observer = observer or Observer()
        self._traces = traces
        self._request_server = request_server(self.stop) if request_server else nullcontext()
        self._codec = codec(kafka.registry)
        away = partial(on_state, State.WAITING)
        self._producer = TransactionalProducer(kafka, stage.name, self._codec, producer, away)
        self._consumer = clients.stage_consumer(kafka, stage.name, self._producer.doubt)
        self._partitions = Partitions(self._consumer, kafka, stage, self._on_rebalance)
        self._sender = OutcomeSender(self._producer, stage, self._codec)
        self._dead_letter_limit = DeadLetterLimit(kafka, stage, dead_letter_limit)
        self._client_errors = ErrorLog(stage.name)
        self._batch: list[Message] = []
        self._rebalanced = False
        self._paused_until: float | None = None
        self._backoff_s, self._waiting = MIN_BACKOFF_S, False
        self._running = True

    def stop(self) -> None:
        """End the loop after the current batch; may be called from a signal handler."""
        self._running = False
        self._partitions.stop()

    def run(self) -> None:
        """Loop until `stop`, then leave the group.

        OffsetsLost; KafkaException when the client cannot go on, for instance because another process took its
        transactional id.
        """
        log.info("%s: starting on %s", self.stage.name, self.kafka.bootstrap)
        try:
            self._producer.start()
            self._partitions.subscribe()
            with self._request_server:
                while self._running:
                    self.step()
        finally:
            self.stop()
            self._consumer.close()
            self.stage.close()
            self._producer.close()
        log.info("%s: stopped", self.stage.name)

    def step(self) -> None:
        """Take at most one batch through the stage and into one transaction."""
        self._partitions.restore_step()
        self._partitions.take_added()
        self._resume_if_due()
        generation, batch = self._poll(0 if self._partitions.restoring else POLL_S)
        self._report_state(member=generation is not None)
        self._observer.turned(self._partitions, member=generation is not None)
        if not batch:
            self._keep_offsets(generation)
            self.stage.idle()
            return
        try:
            with self._traces.batch(batch, self.kafka.group(self.stage.name)) as trace:
                self._process(generation, batch, trace)
        except (ImageRootUnavailable, RegistryAway, BrokerAway) as exc:
            self._pause(str(exc))

    def _process(self, generation: Generation, batch: list[Message], trace: BatchTrace) -> None:
        with self._observer.timed(BatchStep.READ):
            received = [self._read(message) for message in batch]
        trace.step(BatchStep.RUN)
        with self._observer.timed(BatchStep.RUN):
            outcomes = self._run_stage(received)
        if reason := self._dead_letter_limit.reason_to_wait(batch, outcomes):
            trace.postponed(reason)
            self._pause(reason)
            return
        trace.step(BatchStep.COMMIT)
        with self._observer.timed(BatchStep.COMMIT):
            committed = self._commit(generation, batch, received, outcomes, trace)
        trace.ended(outcomes, committed=committed)
        if committed:
            self._backoff_s, self._waiting = MIN_BACKOFF_S, False
            self._dead_letter_limit.committed(outcomes)
            self._sender.log(batch, outcomes, trace)
            with self._observer.timed(BatchStep.APPLY):
                self.stage.committed(int(batch[-1].offset() or 0) + 1)
            self._observer.committed(received, outcomes)
        else:
            self._observer.aborted()
            self.stage.aborted()
            self._partitions.rewind()

    # poll

    def _poll(self, timeout_s: float) -> tuple[Generation | None, list[Message]]:
        """Return a batch and the generation that it was polled under; None while this process is no member."""
        self._batch, self._rebalanced = [], False
        generation = generation_of(self._consumer)
        message = self._consumer.poll(timeout_s)
        while message is not None:
            if (error := message.error()) is None:
                self._batch.append(message)
            else:
                self._check(error, message.topic() or self._source)
            if len(self._batch) >= self.stage.batch_size or self._rebalanced:
                break
            message = self._consumer.poll(0)
        self._partitions.raise_failure()
        batch, self._batch = self._batch, []
        if batch and (generation is None or self._rebalanced):
            # these may belong to a generation that `generation` does not name: poll them again
            self._partitions.rewind()
            return None, []
        return generation, batch

    def _on_rebalance(self, lost: Collection[Place]) -> None:
        """Note that `_poll`'s batch spans a rebalance, and drop the messages of partitions that were taken away."""
        self._rebalanced, self._waiting = True, False
        self._observer.rebalanced()
        self._batch = [message for message in self._batch if place_of(message) not in lost]

    def _check(self, error: KafkaError, topic: str) -> None:
        """Raise for an error that the consumer cannot recover from; log others.

        topic  that it is about, by its name on the cluster
        """
        match error.code():
            case KafkaError._AUTO_OFFSET_RESET:
                lost = no_offsets(self.kafka, self.stage.name, topic)
                raise OffsetsLost(f"{lost} ({error.str()})")
            case KafkaError.UNKNOWN_TOPIC_OR_PART:
                self._client_errors.note(no_topic(topic))
            case _ if error.fatal() or error.code() in REFUSALS:
                raise KafkaException(error)
            case _:
                self._client_errors.note(error.str())

    # stage

    def _read(self, message: Message) -> Received[R] | MessageError:
        try:
            topic = self._inputs[message.topic() or ""]
            received = read_message(message, self._codec, cast("type[R]", topic.kind), topic.name)
        except MessageError as exc:
            return exc
        if received.record is None and not self.stage.tombstones:
            return MessageError("has no value")
        self._dead_letter_limit.note_readable(message)
        return received

    def _run_stage(self, received: Sequence[Received[R] | MessageError]) -> list[Outcome]:
        """Return the outcome of each message; a message that cannot be read has its MessageError as outcome."""
        good = [one for one in received if isinstance(one, Received)]
        outcomes = iter(self.stage.run(good) if good else ())
        return [next(outcomes) if isinstance(one, Received) else one for one in received]

    # transaction

    def _commit(
        self,
        generation: Generation,
        batch: Sequence[Message],
        received: Sequence[Received[R] | MessageError],
        outcomes: Sequence[Outcome],
        trace: BatchTrace = UNTRACED,
    ) -> bool:
        """Send and commit the outcomes; False when the transaction was aborted and the batch must be polled again."""
        producer = self._producer
        producer.begin()
        try:
            self._sender.send(batch, received, outcomes, trace)
            ends = self._partitions.further | {place_of(message): (message.offset() or 0) + 1 for message in batch}
            producer.commit([self._end(place, offset) for place, offset in ends.items()], generation)
            self._partitions.committed(ends)
        except RegistryAway:
            producer.abort()
            raise
        except KafkaException as exc:
            if not exc.args[0].txn_requires_abort():
                raise
            log.warning("%s: transaction aborted: %s", self.stage.name, exc.args[0].str())
            producer.abort()
            if exc.args[0].code() in REFUSALS:
                raise
            return False
        return True

    def _end(self, place: Place, offset: int) -> TopicPartition:
        topic, partition = place
        note = self.stage.note(partition) if topic == self._source else ""
        return TopicPartition(topic, partition, offset, note)

    def _keep_offsets(self, generation: Generation | None) -> None:
        """Commit the offsets that Kafka would drop, without a batch, where that is due."""
        if generation is not None and self._partitions.keep_due:
            self._commit(generation, (), (), ())

    # waiting for inputs

    def _pause(self, reason: str) -> None:
        """Stop polling for a while; the batch will be polled again."""
        log.error("%s: %s; trying again in %.1f s", self.stage.name, reason, self._backoff_s)
        self._on_state(State.WAITING, reason)
        self.stage.aborted()
        self._partitions.pause()
        self._paused_until = time.monotonic() + self._backoff_s
        self._backoff_s, self._waiting = min(2 * self._backoff_s, MAX_BACKOFF_S), True

    def _resume_if_due(self) -> None:
        if self._paused_until is not None and time.monotonic() >= self._paused_until:
            self._paused_until = None
            self._partitions.resume()
            try:
                self._partitions.rewind()
            except KafkaException as exc:
                if exc.args[0].code() not in RECONNECTS:
                    raise
                self._pause(describe(self.kafka, exc.args[0]))

    def _report_state(self, *, member: bool) -> None:
        if self._paused_until is None and (error := self._client_errors.current or self._producer.trouble):
            self._on_state(State.WAITING, error)
        elif self._waiting or self._paused_until is not None:
            return  # while it is tried again, too: nothing is known to go on yet
        elif self._partitions.restoring:
            self._on_state(State.STARTING, self._partitions.progress)
        elif member:
            concern = self.stage.concern
            self._on_state(State.WAITING if concern else State.RUNNING, concern)
