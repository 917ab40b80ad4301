"""Kafka's errors: the exceptions made of them, which of them are temporary, and one wording for people."""

import logging
import re
import time
from typing import Final

from confluent_kafka import KafkaError, KafkaException

from imagetools.errors import PrerequisiteMissing
from streams.config import EMBEDDINGS_TOPIC, KafkaConfig

log = logging.getLogger(__name__)

ERROR_LASTS_S = 15.0
"""librdkafka repeats an error while it lasts, and does not say when it is over."""


class OffsetsLost(Exception):
    """The group has no committed offset to go on from."""


class BrokerAway(Exception):
    """Kafka does not answer or lacks the topic; that may change."""


_CONNECTION: Final = re.compile(r"^\S+: ")
_TIMED_OUT: Final = KafkaError(KafkaError._TIMED_OUT).str()
_WHEN: Final = re.compile(r" \(after \d+ms in state \w+[^)]*\)")

UNREACHABLE = {KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN}
"""No broker answers."""

RECONNECTS = UNREACHABLE | {
    KafkaError._RESOLVE,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.NETWORK_EXCEPTION,
}
"""A broker is away; librdkafka reconnects by itself."""

NOT_READY = {
    KafkaError._TIMED_OUT,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    # a broker may learn of a new partition's leader later than its client
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
}
"""What was just created is not ready yet."""


def of_unused_group(error: KafkaError) -> bool:
    """Whether an error of a consumer without a group is only about the group whose name it bears.

    librdkafka looks up the coordinator of every group.id, which a cluster with ACLs refuses; nothing depends on it.
    """
    return error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED


def no_answer(kafka: KafkaConfig, why: str = "") -> str:
    """Say that the cluster cannot be reached and, where it is known, why."""
    return f"no Kafka answers at {kafka.bootstrap}" + (f" ({why})" if why else "")


def no_topic(name: str) -> str:
    """Say that a topic, by its name on the cluster, is missing."""
    return f"topic {name} does not exist: run `imagetools topics create`"


def no_offsets(kafka: KafkaConfig, stage: str, topic: str) -> str:
    """Say that a stage's group has no offset in a topic that it reads, by its name on the cluster, and what to do."""
    lost = f"group {kafka.group(stage)} has no committed offset in {topic}"
    if kafka.in_second_log and topic == kafka.topic(EMBEDDINGS_TOPIC):
        return f"{lost}: `imagetools reencode --switch` says where to begin"
    earliest = "repeats every alert"
    if stage == "grouping":
        earliest = "takes images of the past for new ones until it has caught up"
    return (
        f"{lost}: run `imagetools topics create` if it is new; if it had one, say where to go on with --from earliest "
        f"(which {earliest}) or --from latest"
    )


def not_taken(error: KafkaError) -> str:
    """Say that a message was not delivered."""
    return f"Kafka did not take the message: {error.str()}"


def describe(kafka: KafkaConfig, error: KafkaError) -> str:
    """Say in one line what an error of a client of this cluster means."""
    if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
        return f"the topics are not on {kafka.bootstrap} (prefix {kafka.prefix!r}): run `imagetools topics create`"
    if error.code() in UNREACHABLE:
        return no_answer(kafka)
    return f"Kafka: {error.str()}"


def with_remedy(kafka: KafkaConfig, exc: KafkaException, why: str = "") -> Exception:
    """Return a PrerequisiteMissing that says what to do about the error, or the error itself when nothing helps.

    why  what is known of a cluster that cannot be reached
    """
    error: KafkaError = exc.args[0]
    if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
        return PrerequisiteMissing(describe(kafka, error))
    if error.code() in UNREACHABLE and why:
        return PrerequisiteMissing(
            f"{no_answer(kafka, why)}: KAFKA_BOOTSTRAP_SERVERS and the other KAFKA_ variables say how it is reached"
        )
    if error.code() in UNREACHABLE:
        return PrerequisiteMissing(
            f"{no_answer(kafka)}: `imagetools up` or `imagetools kafka start` starts one here, "
            "KAFKA_BOOTSTRAP_SERVERS names another"
        )
    return exc


def told(error: KafkaError) -> str:
    """Return what a client's error says, without the connection's name and the time that it took."""
    return _WHEN.sub("", _CONNECTION.sub("", error.str()))


def reason_of(exc: BaseException) -> str:
    """Describe an exception in one line for people."""
    if isinstance(exc, KafkaException):
        error: KafkaError = exc.args[0]
        return "Kafka did not answer in time" if error.str() == _TIMED_OUT else f"Kafka: {error.str()}"
    if isinstance(exc, SystemExit) and exc.__cause__ is not None:
        return reason_of(exc.__cause__)
    return str(exc) or type(exc).__name__


class ErrorLog:
    """Logs errors that a client recovers from by itself, each once while it lasts.

    Several may last side by side, as those of several brokers.
    """

    def __init__(self, name: str) -> None:
        """name: whose client it is, for the log."""
        self._name = name
        self._lasting: dict[str, float] = {}

    @property
    def current(self) -> str:
        """The newest error, for ERROR_LASTS_S after it was last noted; then empty."""
        self._forget()
        return next(reversed(self._lasting), "")

    def note(self, text: str) -> None:
        """Note an error."""
        self._forget()
        if self._lasting.pop(text, None) is None:
            log.warning("%s: %s", self._name, text)
        self._lasting[text] = time.monotonic() + ERROR_LASTS_S

    def _forget(self) -> None:
        now = time.monotonic()
        self._lasting = {text: until for text, until in self._lasting.items() if until > now}
