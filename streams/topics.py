"""The topics, the groups that read them, and their creation."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec  # type: ignore[attr-defined]

from schemas.records import (
    Candidates,
    Duplicates,
    Embedding,
    EncodeRequest,
    ImageNew,
    MatchRequest,
    Record,
    Reply,
    SearchRequest,
    StageState,
    Verdict,
)
from streams.config import EMBEDDINGS_TOPIC, KafkaConfig

T = TypeVar("T")

DAY_MS = 24 * 60 * 60 * 1000
PARTITIONS = 6
"""Of the topics that many processes share; enough for six of each, and more can be added."""


@dataclass(frozen=True)
class Topic:
    """One topic: what it holds, and how the broker keeps it."""

    name: str
    kind: type[Record] | None
    partitions: int
    config: dict[str, str] = field(default_factory=dict)


IMAGES_NEW = Topic("images.new", ImageNew, PARTITIONS)
EMBEDDINGS = Topic(
    EMBEDDINGS_TOPIC, Embedding, 1, {"cleanup.policy": "compact", "delete.retention.ms": str(30 * DAY_MS)}
)
CANDIDATES = Topic("candidates", Candidates, PARTITIONS)
DUPLICATES = Topic("duplicates", Duplicates, PARTITIONS)
VERDICTS = Topic("verdicts", Verdict, PARTITIONS)
DEAD_LETTERS = Topic("dead-letters", None, 1)

SHORT_LIVED = {"cleanup.policy": "delete", "retention.ms": "300000", "segment.ms": "300000"}
"""Nobody waits for an answer longer than this; a segment is only removed once it is closed."""

ENCODE_REQUESTS = Topic("encode.requests", EncodeRequest, PARTITIONS, SHORT_LIVED)
SEARCH_REQUESTS = Topic("search.requests", SearchRequest, 1, SHORT_LIVED)
MATCH_REQUESTS = Topic("match.requests", MatchRequest, PARTITIONS, SHORT_LIVED)
REPLIES = Topic("replies", Reply, 3, SHORT_LIVED)
STAGE_STATES = Topic("stage.states", StageState, 1, SHORT_LIVED)

TOPICS = (
    IMAGES_NEW,
    EMBEDDINGS,
    CANDIDATES,
    DUPLICATES,
    VERDICTS,
    DEAD_LETTERS,
    ENCODE_REQUESTS,
    SEARCH_REQUESTS,
    MATCH_REQUESTS,
    REPLIES,
    STAGE_STATES,
)

NOT_UP = {
    KafkaError._TIMED_OUT,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    # a broker may hear of a new partition's leader after its client
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
}

READS = {"encoder": IMAGES_NEW, "search": EMBEDDINGS, "matcher": CANDIDATES}
"""Each stage's consumer group, and the topic that it reads."""

ANSWERS = {"encoder": ENCODE_REQUESTS, "search": SEARCH_REQUESTS, "matcher": MATCH_REQUESTS}
"""Each stage, and the topic of the requests that it answers."""

ANNOUNCED_IN = "announced-partition"
"""Header of an embedding: the partition of images.new that it was announced in."""

TIMEOUT_S = 30.0
LOOK_S = 5.0
"""For questions that a process asks again and again while it must be able to stop."""


class GroupOffsets:
    """The committed offsets of one stage's group, seen from outside: nothing here joins the group.

    topic  that the stage reads, where it is none of READS
    """

    def __init__(self, kafka: KafkaConfig, stage: str, topic: Topic | None = None) -> None:
        self._topic = kafka.topic((topic or READS[stage]).name)
        self._consumer = Consumer(
            kafka.client(group_id=kafka.group(stage), enable_auto_commit=False, isolation_level="read_committed")
        )

    def read(self, timeout_s: float = TIMEOUT_S) -> dict[int, int]:
        """The committed offset of each partition that has one. KafkaException where the topic is not there."""
        found = self._consumer.list_topics(self._topic, timeout=timeout_s).topics[self._topic]
        if found.error is not None:
            raise KafkaException(found.error)
        asked = [TopicPartition(self._topic, number) for number in found.partitions]
        return {part.partition: part.offset for part in self._consumer.committed(asked, timeout_s) if part.offset >= 0}

    def set(self, offsets: Mapping[int, int]) -> None:
        """Commit offsets for a group without members."""
        parts = [TopicPartition(self._topic, number, offset) for number, offset in offsets.items()]
        for part in self._consumer.commit(offsets=parts, asynchronous=False) or ():
            if part.error is not None:
                raise KafkaException(part.error)

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()


def end_offsets(admin: AdminClient, topic: str, *, earliest: bool = False) -> dict[int, int]:
    """The first, or the one after the last, offset of each partition of a topic on the cluster."""
    described = admin.describe_topics(TopicCollection([topic]), request_timeout=TIMEOUT_S)[topic].result()
    spec = OffsetSpec.earliest() if earliest else OffsetSpec.latest()  # type: ignore[no-untyped-call]
    asked = {TopicPartition(topic, number): spec for number in (part.id for part in described.partitions)}
    answers = admin.list_offsets(asked, request_timeout=TIMEOUT_S)
    return {part.partition: future.result().offset for part, future in answers.items()}


def log_id(admin: AdminClient, topic: str) -> str:
    """What tells a topic on the cluster from one of the same name that was deleted before."""
    described = admin.describe_topics(TopicCollection([topic]), request_timeout=LOOK_S)
    identity = described[topic].result().topic_id
    # its text has slashes, which a folder's name cannot
    return f"{identity.get_most_significant_bits():x}{identity.get_least_significant_bits():x}"


def retention_ms(admin: AdminClient, topics: Iterable[str]) -> int | None:
    """How long the longest of these topics on the cluster keeps its messages; None where one keeps them for ever."""
    asked = [ConfigResource(ConfigResource.Type.TOPIC, topic) for topic in topics]
    answers = admin.describe_configs(asked, request_timeout=LOOK_S).values()
    kept = [int(answer.result()["retention.ms"].value) for answer in answers]
    return None if min(kept) < 0 else max(kept)


def create(
    kafka: KafkaConfig, *, replication: int = -1, topics: Iterable[Topic] = TOPICS, only_new_groups: bool = False
) -> list[str]:
    """Create the topics that are missing and commit the groups' first offsets; the names of the topics made.

    replication      -1 is the broker's default
    only_new_groups  leave a group without offsets where its topic holds messages: it may have lost them, and from the
                     beginning it would repeat every alert
    A group that has offsets keeps them: creating twice changes nothing.
    """
    admin = AdminClient(kafka.client())
    wanted = list(topics)
    futures = admin.create_topics(
        [
            NewTopic(kafka.topic(t.name), num_partitions=t.partitions, replication_factor=replication, config=t.config)
            for t in wanted
        ],
        request_timeout=TIMEOUT_S,
    )
    made = []
    for name, future in futures.items():
        try:
            future.result()
            made.append(name)
        except KafkaException as exc:
            if exc.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
    for stage, topic in READS.items():
        # where search begins in a second log that is there already, the switch to it says
        second = topic is EMBEDDINGS and kafka.in_second_log and kafka.topic(topic.name) not in made
        if topic in wanted and not second:
            commit_first(admin, kafka, stage, topic, only_new=only_new_groups)
    return made


def exists(kafka: KafkaConfig, topic: Topic) -> bool:
    """Whether the topic is on the cluster."""
    try:
        end_offsets(AdminClient(kafka.client()), kafka.topic(topic.name))
    except KafkaException as exc:
        if exc.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return False
        raise
    return True


def commit_first(admin: AdminClient, kafka: KafkaConfig, stage: str, topic: Topic, *, only_new: bool = False) -> None:
    """Commit the topic's first offsets for a stage's group, where it has none; as `create`."""
    group = GroupOffsets(kafka, stage, topic)
    try:
        known = _patiently(group.read)
        firsts = _patiently(lambda: end_offsets(admin, kafka.topic(topic.name), earliest=True))
        missing = {number: first for number, first in firsts.items() if number not in known}
        if only_new and not known and firsts != _patiently(lambda: end_offsets(admin, kafka.topic(topic.name))):
            return
        if missing:
            _patiently(lambda: group.set(missing))
    finally:
        group.close()


def requests_group(kafka: KafkaConfig, stage: str) -> str:
    """The group in which a stage's processes share its requests."""
    return kafka.topic(f"{stage}.requests")


def delete(kafka: KafkaConfig) -> None:
    """Remove the topics and the groups under the prefix; KafkaException where a group still has members.

    One that left while it was joining is known to the broker until its session ends, and is waited for.
    """
    admin = AdminClient(kafka.client())
    groups = [kafka.group(stage) for stage in READS] + [requests_group(kafka, stage) for stage in ANSWERS]
    _patiently(lambda: _delete_groups(admin, groups), {KafkaError.NON_EMPTY_GROUP})
    for topic in admin.delete_topics([kafka.topic(t.name) for t in TOPICS], request_timeout=TIMEOUT_S).values():
        _ignore(topic, KafkaError.UNKNOWN_TOPIC_OR_PART)


def _delete_groups(admin: AdminClient, names: list[str]) -> None:
    for future in admin.delete_consumer_groups(names, request_timeout=TIMEOUT_S).values():
        _ignore(future, KafkaError.GROUP_ID_NOT_FOUND)


def _patiently(ask: Callable[[], T], passing: Collection[int] = NOT_UP) -> T:
    """The answer, asked for again while what was made this moment is not up, or another error that passes."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            return ask()
        except KafkaException as exc:
            if exc.args[0].code() not in passing or time.monotonic() > deadline:
                raise
        time.sleep(0.02)


def _ignore(future: object, code: int) -> None:
    try:
        future.result()  # type: ignore[attr-defined]
    except KafkaException as exc:
        if exc.args[0].code() != code:
            raise
