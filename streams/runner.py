"""The loop of every stage: poll a batch, run the stage, commit outputs, dead letters and offsets in one transaction.

A crash at any point neither loses an output nor doubles one, for readers with isolation.level=read_committed:
- outputs and offsets commit together or not at all;
- a batch is computed before its transaction begins, so that no transaction stays open for long;
- the group's generation is taken before the batch is polled. When the member has lost its partitions meanwhile, the
  broker refuses the commit, the transaction is aborted, and the consumer goes back to the committed offsets, which
  librdkafka does not do by itself;
- an unknown outcome of a commit is asked for again by the same call; where that cannot tell either, or does not come
  back, the process ends.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, Generic

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from imagetools.errors import ImageRootUnavailable, ImageToolsError, MessageError, RegistryAway
from schemas.codec import Codec, R, codec
from schemas.records import State, Verdict, VerdictOutcome
from streams.config import KafkaConfig
from streams.kafka import clients
from streams.kafka.errors import OffsetsLost, no_offsets, no_topic
from streams.kafka.log_reader import LogReader
from streams.kafka.messages import headers, path_of, read_message
from streams.kafka.stuck_calls import StuckCalls
from streams.requests.server import RequestServerFactory
from streams.stage import Headers, Output, Received, Stage
from streams.topics import DEAD_LETTERS, VERDICTS

log = logging.getLogger(__name__)

MAX_DEAD_LETTER_BYTES = 64 * 1024
MAX_REASON_CHARS = 2000
POLL_S = 0.1
BACKOFF_S = (0.5, 30.0)
"""First and longest pause while inputs are away."""

TROUBLE_S = 15.0
"""How long an error of the client is told: it repeats what lasts."""

LOOK_BACK = 200
"""Offsets before a message in which to look for one that can be read."""

OnState = Callable[..., None]
"""Gets the runner's state and, where there is one, the reason."""


def _ignore_state(_state: State, _reason: str = "") -> None:
    """Nobody watches."""


class Runner(Generic[R]):
    """Runs one stage until it is told to stop."""

    def __init__(
        self,
        stage: Stage[R],
        kafka: KafkaConfig,
        *,
        dead_letter_limit: int = 0,
        request_server: RequestServerFactory | None = None,
        on_state: OnState = _ignore_state,
        producer: Callable[[dict[str, Any]], Producer] = Producer,
    ) -> None:
        """Nothing is joined or sent before `run`.

        dead_letter_limit  after this many dead letters in a row, the stage waits unless inputs that are known to be
                           good can be had; 0: never
        tell               told what the runner does, whenever that changes
        request_server     makes a context that is open while the loop runs and closes before the stage does; its
                           argument is `stop`
        """
        self.stage: Stage[R] = stage
        self.kafka = kafka
        self.dead_letter_limit = dead_letter_limit
        self._on_state = on_state
        self._request_server = request_server(self.stop) if request_server else nullcontext()
        self._codec: Codec = codec(kafka.registry)
        self._consumer = clients.stage_consumer(kafka, stage.name)
        self._producer = clients.transactional_producer(kafka, stage.name, producer)
        self._batch: list[Message] = []
        self._rebalanced = False
        self._failure: Exception | None = None
        self._restoring: dict[int, Iterator[str]] = {}
        self._restored = ""
        self._held_until: float | None = None
        self._backoff = BACKOFF_S[0]
        self._dead_in_a_row = 0
        self._decodes: set[tuple[str, int]] = set()
        self._trouble = ("", 0.0)
        self._running = True

    def stop(self) -> None:
        """End the loop after the batch at hand; may be called from a signal handler."""
        self._running = False

    def run(self) -> None:
        """Loop until `stop`; then leave the group.

        Raises OffsetsLost, and KafkaException where the client cannot go on, for instance when another process took its
        transactional id.
        """
        log.info("%s: starting on %s", self.stage.name, self.kafka.bootstrap)
        self._watch = StuckCalls(self.kafka)
        try:
            self._producer.init_transactions(60)
            self._consumer.subscribe(
                [self.kafka.topic(self.stage.source.name)],
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_revoke,
            )
            with self._request_server:
                while self._running:
                    self.step()
        finally:
            self._running = False
            self._consumer.close()
            self.stage.close()
            self._watch.close()
        log.info("%s: stopped", self.stage.name)

    def step(self) -> None:
        """Take what is there, at most one batch, through the stage and into one transaction."""
        self._restore_a_little()
        self._resume_if_due()
        metadata, batch = self._poll(0 if self._restoring else POLL_S)
        self._report_state(member=metadata is not None)
        if not batch:
            self.stage.idle()
            return
        try:
            self._take(metadata, batch)
        except (ImageRootUnavailable, RegistryAway) as exc:
            self._hold(str(exc))

    def _take(self, metadata: Any, batch: list[Message]) -> None:
        received = [self._read(message) for message in batch]
        good = [one for one in received if isinstance(one, Received)]
        outcomes = iter(self.stage.run(good) if good else ())
        ready = [next(outcomes) if isinstance(one, Received) else one for one in received]
        dead = self._count_dead(ready)
        if self.dead_letter_limit and max(dead) >= self.dead_letter_limit and (reason := self._doubt(batch, ready)):
            self._hold(f"{max(dead)} dead letters in a row, the last: {self._last_of(ready)}; {reason}")
            return
        if self._commit(metadata, batch, received, ready):
            self._backoff, self._dead_in_a_row = BACKOFF_S[0], dead[-1]
            self._log_dead(batch, ready)
            self.stage.committed(int(batch[-1].offset() or 0) + 1)
        else:
            self.stage.aborted()
            self._rewind()

    # polling

    def _poll(self, timeout_s: float) -> tuple[Any, list[Message]]:
        """A batch, and the group membership that it was polled under."""
        self._batch, self._rebalanced = [], False
        metadata = self._membership()
        message = self._consumer.poll(timeout_s)
        while message is not None:
            if message.error() is None:
                self._batch.append(message)
            else:
                self._heed(message.error())
            if len(self._batch) >= self.stage.batch_size or self._rebalanced:
                break
            message = self._consumer.poll(0)
        if self._failure is not None:
            raise self._failure
        batch, self._batch = self._batch, []
        if batch and (metadata is None or self._rebalanced):
            # these may belong to a generation that `metadata` does not name: ask for them again
            self._rewind()
            return None, []
        return metadata, batch

    def _membership(self) -> Any:
        """What fences a zombie: the member and its generation, None while this process is no member.

        Without a member id the broker would take any commit, so the id must be there before and after.
        """
        before = self._consumer.memberid()
        metadata = self._consumer.consumer_group_metadata()
        return metadata if before and self._consumer.memberid() == before else None

    def _heed(self, error: KafkaError | None) -> None:
        if error is None:
            return
        match error.code():
            case KafkaError._AUTO_OFFSET_RESET:
                raise OffsetsLost(f"{no_offsets(self.kafka, self.stage.name, self.stage.source.name)} ({error.str()})")
            case KafkaError.UNKNOWN_TOPIC_OR_PART:
                topic = self.kafka.topic(self.stage.source.name)
                self._note(no_topic(topic))
            case KafkaError.TOPIC_AUTHORIZATION_FAILED | KafkaError.GROUP_AUTHORIZATION_FAILED:
                raise KafkaException(error)
            case _ if error.fatal():
                raise KafkaException(error)
            case _:
                self._note(error.str())

    def _note(self, trouble: str) -> None:
        """Log a client's error, and tell it for a while: the client gets over it by itself, without saying so."""
        if trouble != self._trouble[0] or time.monotonic() > self._trouble[1]:
            log.warning("%s: %s", self.stage.name, trouble)
        self._trouble = trouble, time.monotonic() + TROUBLE_S

    def _report_state(self, *, member: bool) -> None:
        if self._held_until is not None:
            return
        trouble, until = self._trouble
        if trouble and time.monotonic() < until:
            self._on_state(State.WAITING, trouble)
        elif self._restoring:
            self._on_state(State.STARTING, self._restored)
        elif member:
            self._on_state(State.RUNNING)

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._rebalanced = True
        if not self._running:
            # a consumer that closes is still told of partitions, but its questions for offsets are answered no more
            consumer.incremental_assign(partitions)
            return
        try:
            owned = [self._starting_point(part) for part in consumer.committed(partitions, timeout=60)]
            consumer.incremental_assign(owned)
            for part in owned:
                restoring = self.stage.restore(part.partition, part.offset)
                if restoring is not None:
                    consumer.pause([part])
                    self._restoring[part.partition] = restoring
        except (KafkaException, OffsetsLost, OSError) as exc:
            self._failure = exc

    def _starting_point(self, part: TopicPartition) -> TopicPartition:
        if part.error is not None:
            raise KafkaException(part.error)
        if part.offset >= 0:
            return part
        if self.kafka.start_from is None:
            raise OffsetsLost(no_offsets(self.kafka, self.stage.name, self.stage.source.name))
        low, high = self._consumer.get_watermark_offsets(part, timeout=60)
        return TopicPartition(part.topic, part.partition, low if self.kafka.start_from == "earliest" else high)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._rebalanced = True
        for part in partitions:
            self._restoring.pop(part.partition, None)
            self.stage.released(part.partition)
        consumer.incremental_unassign(partitions)
        gone = {(part.topic, part.partition) for part in partitions}
        self._batch = [m for m in self._batch if (m.topic(), m.partition()) not in gone]

    def _rewind(self) -> None:
        """Back to the committed offsets; a seek that fails ends the process, lest a message be skipped."""
        owned = self._consumer.assignment()
        for part in self._consumer.committed(owned, timeout=60) if owned else []:
            self._consumer.seek(self._starting_point(part))

    def _restore_a_little(self) -> None:
        for partition, steps in list(self._restoring.items()):
            where = next(steps, None)
            self._restored = where or ""
            if where is None:
                del self._restoring[partition]
                self._consumer.resume([TopicPartition(self.kafka.topic(self.stage.source.name), partition)])

    # waiting for inputs

    def _hold(self, reason: str) -> None:
        log.error("%s: %s; trying again in %.1f s", self.stage.name, reason, self._backoff)
        self._on_state(State.WAITING, reason)
        self.stage.aborted()
        self._consumer.pause(self._consumer.assignment())
        self._held_until = time.monotonic() + self._backoff
        self._backoff = min(2 * self._backoff, BACKOFF_S[1])

    def _resume_if_due(self) -> None:
        if self._held_until is not None and time.monotonic() >= self._held_until:
            self._held_until = None
            self._consumer.resume(self._consumer.assignment())
            self._rewind()

    # reading and writing

    def _read(self, message: Message) -> Received[R] | ImageToolsError:
        try:
            received = read_message(message, self._codec, self.stage.kind)
        except MessageError as exc:
            return exc
        if received.record is None and not self.stage.tombstones:
            return MessageError("has no value")
        self._decodes.add((message.topic() or "", message.partition() or 0))
        return received

    def _count_dead(self, ready: Sequence[Any]) -> list[int]:
        """How many dead letters in a row end at each message."""
        counts, dead = [], self._dead_in_a_row
        for outcome in ready:
            dead = dead + 1 if isinstance(outcome, ImageToolsError) else 0
            counts.append(dead)
        return counts

    def _doubt(self, batch: Sequence[Message], ready: Sequence[Any]) -> str | None:
        """Why not the messages, but something else may be to blame for their becoming dead letters.

        None where it is them: others in their place are good. So no client can stop a stage by announcing nonsense.
        """
        errors = [outcome for outcome in ready if isinstance(outcome, ImageToolsError)]
        if all(isinstance(error, MessageError) for error in errors):
            return self._unreadable(batch[0])
        away = self.stage.inputs_away()
        return away and f"{away}. DEAD_LETTER_LIMIT=0 sets them aside all the same"

    def _unreadable(self, message: Message) -> str | None:
        """Whether no message of a partition can be read, as where a registry is set on one side alone."""
        topic, partition, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
        if (topic, partition) in self._decodes:
            return None
        reader = LogReader(self.kafka, self.stage.source.name, self.stage.kind, partition)
        try:
            if any(received for received in reader.read(max(0, offset - LOOK_BACK), offset)):
                self._decodes.add((topic, partition))
                return None
        finally:
            reader.close()
        return (
            f"no earlier message of {topic} partition {partition} can be read either: is SCHEMA_REGISTRY_URL the "
            "producers' own? DEAD_LETTER_LIMIT=0 sets them aside all the same"
        )

    def _last_of(self, ready: Sequence[Any]) -> ImageToolsError:
        return next(outcome for outcome in reversed(ready) if isinstance(outcome, ImageToolsError))

    def _log_dead(self, batch: Sequence[Message], ready: Sequence[Any]) -> None:
        for message, outcome in zip(batch, ready, strict=True):
            if isinstance(outcome, ImageToolsError):
                place = f"{message.topic()} partition {message.partition()} offset {message.offset()}"
                log.warning("%s: dead letter (%s): %s", self.stage.name, place, outcome)

    def _commit(self, metadata: Any, batch: list[Message], received: Sequence[Any], ready: Sequence[Any]) -> bool:
        """True when committed; False when the transaction was aborted and the batch must be polled again."""
        producer = self._producer
        producer.begin_transaction()
        try:
            for message, one, outcome in zip(batch, received, ready, strict=True):
                if isinstance(outcome, ImageToolsError):
                    self._set_aside(message, one, outcome)
                else:
                    for output in outcome:
                        self._send(output, headers(message))
            ends = {(m.topic() or "", m.partition() or 0): (m.offset() or 0) + 1 for m in batch}
            offsets = [TopicPartition(topic, number, offset) for (topic, number), offset in ends.items()]
            self._again_while_retriable(lambda: producer.send_offsets_to_transaction(offsets, metadata))
            self._again_while_retriable(producer.commit_transaction)
        except RegistryAway:
            self._again_while_retriable(producer.abort_transaction)
            raise
        except KafkaException as exc:
            if not exc.args[0].txn_requires_abort():
                raise
            log.warning("%s: transaction aborted: %s", self.stage.name, exc.args[0].str())
            self._again_while_retriable(producer.abort_transaction)
            return False
        return True

    def _again_while_retriable(self, call: Callable[[], object]) -> None:
        """The client's rule for transactional calls: what is retriable is asked by the same call again."""
        while True:
            try:
                with self._watch:
                    call()
                return
            except KafkaException as exc:
                if not exc.args[0].retriable() or exc.args[0].txn_requires_abort():
                    raise
                log.warning("trying again: %s", exc.args[0].str())

    def _send(self, output: Output, headers: Headers) -> None:
        topic = self.kafka.topic(output.topic.name)
        value = None if output.record is None else self._codec.encode(topic, output.record)
        self._produce(topic, output.path.encode(), value, (*headers, *output.headers), output.timestamp)

    def _produce(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers, timestamp: int | None = None
    ) -> None:
        when = {} if timestamp is None else {"timestamp": timestamp}
        self._producer.produce(topic, value, key, headers=list(headers), **when)  # type: ignore[arg-type]

    def _set_aside(self, message: Message, one: Any, reason: ImageToolsError) -> None:
        """The message to dead-letters, with its reason and origin; and a verdict, where it is known whose."""
        text = str(reason)[:MAX_REASON_CHARS]
        origin: dict[str, object] = {
            "stage": self.stage.name,
            "topic": message.topic(),
            "partition": message.partition(),
            "offset": message.offset(),
            "error-type": type(reason).__name__,
            "error-message": text,
        }
        why = (*headers(message), *((name, str(value).encode()) for name, value in origin.items()))
        value = message.value()
        value = value if value is None else bytes(value)[:MAX_DEAD_LETTER_BYTES]
        key = message.key()
        self._produce(self.kafka.topic(DEAD_LETTERS.name), key if key is None else bytes(key), value, why)
        request_id, path = self._whose(message, one)
        if path is not None:
            verdict = Verdict(request_id, path, VerdictOutcome.DEAD_LETTER, f"{type(reason).__name__}: {text}")
            self._send(Output(VERDICTS, path, verdict), headers(message))

    def _whose(self, message: Message, one: Any) -> tuple[int | None, str | None]:
        """The announcement that a dead letter ends: by its record, else by its key."""
        if isinstance(one, Received) and one.record is not None:
            return one.record.request_id, one.path
        value = message.value()
        if value is not None:
            try:
                record = self._codec.decode(message.topic() or "", self.stage.kind, value)
                return record.request_id, path_of(record)
            except MessageError:
                log.debug("no record to name the announcement: going by the key")
        try:
            return None, bytes(message.key() or b"").decode() or None
        except UnicodeDecodeError:
            return None, None
