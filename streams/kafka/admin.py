"""Topics and groups on the cluster: whether they are there, their creation and removal, their offsets."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec  # type: ignore[attr-defined]

from streams.config import KafkaConfig
from streams.kafka.authorization import REFUSALS, refusal
from streams.kafka.clients import admin_client, group_offsets_client
from streams.kafka.errors import with_remedy
from streams.kafka.probe import ClusterProbe
from streams.kafka.retries import until_ready
from streams.kafka.topic_facts import group_names
from streams.permissions import Operation, Resource, Right
from streams.sharding.marks import ShardGroup, ShardGroups
from streams.sharding.shards import Shard, shards_named
from streams.topics import ALSO_READS, ANSWERS, EMBEDDINGS, GROUPING_STATE, READS, TOPICS, Topic, requests_group

CONNECT_TIMEOUT_S = 4.0
TIMEOUT_S = 30.0
ANSWER_S = 3.0
"""For an answer of the brokers that lead a topic's partitions; then it is asked who does."""


def reach(kafka: KafkaConfig) -> KafkaConfig:
    """Return a cluster that answers.

    PrerequisiteMissing, with what is wrong, when it does not within CONNECT_TIMEOUT_S.
    """
    probe = ClusterProbe(kafka, "reach")
    try:
        probe.ask(CONNECT_TIMEOUT_S)
    except KafkaException as exc:
        raise with_remedy(kafka, exc, probe.reason()) from exc
    finally:
        probe.close()
    return kafka


def topic_exists(kafka: KafkaConfig, topic: Topic) -> bool:
    """Whether the topic is on the cluster."""
    try:
        end_offsets(admin_client(kafka), kafka.topic(topic.name))
    except KafkaException as exc:
        if exc.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return False
        raise
    return True


def require_topics(kafka: KafkaConfig, *topics: Topic) -> None:
    """Raise PrerequisiteMissing when one of the topics is missing."""
    admin = admin_client(kafka)
    try:
        for topic in topics:
            end_offsets(admin, kafka.topic(topic.name))
    except KafkaException as exc:
        raise with_remedy(kafka, exc) from exc


# creation and removal


def create_topics(
    kafka: KafkaConfig, *, replication: int = -1, topics: Iterable[Topic] = TOPICS, only_new_groups: bool = False
) -> list[str]:
    """Create the missing topics, commit the groups' first offsets, and return the names of the new topics.

    replication      copies of each partition; -1: the broker's default
    only_new_groups  skip a group without offsets whose topic holds messages: it may have lost its offsets, and from
                     the beginning it would repeat every alert. That of the grouping stage
                     is new as long as there is no state, though its topics may hold messages of earlier versions
    A group that has offsets keeps them, so a second call changes nothing.
    """
    admin = admin_client(kafka)
    wanted = list(topics)
    made = _create_missing(admin, kafka, wanted, replication)
    for stage, topic in READS.items():
        # in a second log that already exists, `reencode --switch` sets where search begins
        second = topic is EMBEDDINGS and kafka.in_second_log and kafka.topic(topic.name) not in made
        if topic in wanted and not second:
            only_new = only_new_groups and (stage not in ALSO_READS or has_grouped(admin, kafka))
            if topic is EMBEDDINGS and shard_groups(kafka).counts not in ([], [kafka.shard.count]):
                # another number of shards would repeat every alert; `reshard` says where it goes on
                continue
            for member in kafka.shards if topic is EMBEDDINGS else [kafka]:
                commit_first_offsets(admin, member, stage, topic, only_new=only_new)
    for stage, topic in ((stage, topic) for stage, further in ALSO_READS.items() for topic in further):
        if topic is EMBEDDINGS and kafka.in_second_log and topic in wanted:
            _begin_in_second_log(admin, kafka, stage)
        elif topic in wanted:
            only_new = only_new_groups and has_grouped(admin, kafka)
            commit_first_offsets(admin, kafka, stage, topic, only_new=only_new)
    return made


def shard_groups(kafka: KafkaConfig) -> ShardGroups:
    """Return the groups that follow the log of embeddings as shards, those of all numbers. KafkaException."""
    if not until_ready(lambda: topic_exists(kafka, EMBEDDINGS)):
        # a group outlives a topic that was deleted, its offsets there do not
        return ShardGroups()
    whole = replace(kafka, shard=Shard())
    names = until_ready(lambda: group_names(kafka))
    found = []
    for shard in shards_named(whole.group("search"), names):
        group = GroupOffsets(replace(kafka, shard=shard), "search")
        try:
            committed = until_ready(group.read_noted).get(0)
        finally:
            group.close()
        if committed is not None:
            found.append(ShardGroup(shard, *committed))
    return ShardGroups(tuple(found))


def has_grouped(admin: AdminClient, kafka: KafkaConfig) -> bool:
    """Return whether the grouping stage has a state. KafkaException when its topic is missing."""
    return any(until_ready(lambda: end_offsets(admin, kafka.topic(GROUPING_STATE.name))).values())


def switch_mark(kafka: KafkaConfig, stage: str) -> "GroupOffsets":
    """Return the group in which `reencode --switch` notes where a stage with one group for both logs goes on.

    The stage's own group has members at that time, so that nobody else can commit for it.
    kafka  with the second log
    """
    return GroupOffsets(kafka, f"{stage}.{kafka.embeddings}", EMBEDDINGS)


def _begin_in_second_log(admin: AdminClient, kafka: KafkaConfig, stage: str) -> None:
    """Commit a stage's first offsets in the second log: where the switch says, or its beginning without a state."""
    mark = switch_mark(kafka, stage)
    try:
        begin = until_ready(mark.read)
    finally:
        mark.close()
    if begin or not has_grouped(admin, kafka):
        commit_first_offsets(admin, kafka, stage, EMBEDDINGS, begin=begin)


def _create_missing(admin: AdminClient, kafka: KafkaConfig, wanted: Iterable[Topic], replication: int) -> list[str]:
    # where other people make the topics, this user may not
    present = admin.list_topics(timeout=TIMEOUT_S).topics
    definitions = [
        NewTopic(kafka.topic(t.name), num_partitions=t.partitions, replication_factor=replication, config=t.config)
        for t in wanted
        if kafka.topic(t.name) not in present
    ]
    made, refused = [], []
    for name, future in (admin.create_topics(definitions, request_timeout=TIMEOUT_S) if definitions else {}).items():
        try:
            future.result()
            made.append(name)
        except KafkaException as exc:
            if exc.args[0].code() in REFUSALS:
                refused.append(Right(Operation.CREATE, Resource.TOPIC, name))
            elif exc.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
    if refused:
        raise refusal(kafka, *refused)
    return made


def commit_first_offsets(
    admin: AdminClient,
    kafka: KafkaConfig,
    stage: str,
    topic: Topic,
    *,
    only_new: bool = False,
    begin: Mapping[int, int] = MappingProxyType({}),
) -> None:
    """Commit the topic's first offsets for a stage's group where it has none.

    only_new  as only_new_groups of `create_topics`
    begin     instead of the first offset, by partition
    """
    group = GroupOffsets(kafka, stage, topic)
    try:
        known = until_ready(group.read)
        firsts = until_ready(lambda: end_offsets(admin, kafka.topic(topic.name), earliest=True))
        missing = {number: begin.get(number, first) for number, first in firsts.items() if number not in known}
        if only_new and not known and firsts != until_ready(lambda: end_offsets(admin, kafka.topic(topic.name))):
            return
        if missing:
            until_ready(lambda: group.set(missing))
    finally:
        group.close()


def delete_topics(kafka: KafkaConfig) -> None:
    """Remove the topics and groups under the prefix. KafkaException when a group still has members.

    The broker counts a member that left while joining until its session ends; that is waited for.
    """
    admin = admin_client(kafka)
    groups = [kafka.group(stage) for stage in READS if stage != "search"]
    groups += [replace(kafka, shard=group.shard).group("search") for group in shard_groups(kafka)]
    groups += [requests_group(kafka, stage) for stage in ANSWERS]
    groups += [kafka.group(f"{stage}.{kafka.embeddings}") for stage in ALSO_READS]
    until_ready(lambda: delete_groups(admin, groups), {KafkaError.NON_EMPTY_GROUP})
    for topic in admin.delete_topics([kafka.topic(t.name) for t in TOPICS], request_timeout=TIMEOUT_S).values():
        _ignore(topic, KafkaError.UNKNOWN_TOPIC_OR_PART)


def delete_groups(admin: AdminClient, names: list[str]) -> None:
    """Remove groups; one that is not there is no error. KafkaException where one has members."""
    for future in admin.delete_consumer_groups(names, request_timeout=TIMEOUT_S).values():
        _ignore(future, KafkaError.GROUP_ID_NOT_FOUND)


def _ignore(future: object, code: int) -> None:
    try:
        future.result()  # type: ignore[attr-defined]
    except KafkaException as exc:
        if exc.args[0].code() != code:
            raise


# what the cluster holds


class GroupOffsets:
    """The committed offsets of one stage's group, read and set without joining the group."""

    def __init__(self, kafka: KafkaConfig, stage: str, topic: Topic | None = None) -> None:
        """topic: what the stage reads; None: its topic in READS."""
        self._topic = kafka.topic((topic or READS[stage]).name)
        self._consumer = group_offsets_client(kafka, stage)

    def read(self, timeout_s: float = TIMEOUT_S) -> dict[int, int]:
        """Return the committed offset of each partition that has one. KafkaException when the topic is missing."""
        return {number: offset for number, (offset, _) in self.read_noted(timeout_s).items()}

    def read_noted(self, timeout_s: float = TIMEOUT_S) -> dict[int, tuple[int, str]]:
        """Return the committed offset of each partition that has one, and what is noted beside it."""
        found = self._consumer.list_topics(self._topic, timeout=timeout_s).topics[self._topic]
        if found.error is not None:
            raise KafkaException(found.error)
        asked = [TopicPartition(self._topic, number) for number in found.partitions]
        parts = self._consumer.committed(asked, timeout_s)
        return {part.partition: (part.offset, part.metadata or "") for part in parts if part.offset >= 0}

    def set(self, offsets: Mapping[int, int], note: str = "") -> None:
        """Commit offsets for a group without members, and a note beside each."""
        parts = [TopicPartition(self._topic, number, offset, note) for number, offset in offsets.items()]
        for part in self._consumer.commit(offsets=parts, asynchronous=False) or ():
            if part.error is not None:
                raise KafkaException(part.error)

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()


def end_offsets(admin: AdminClient, topic: str, *, earliest: bool = False) -> dict[int, int]:
    """Return each partition's end offset, one past its last message.

    topic     its name on the cluster
    earliest  return the first offsets instead
    """
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            return _end_offsets(admin, topic, earliest)
        except KafkaException as exc:
            if exc.args[0].code() != KafkaError._TIMED_OUT or time.monotonic() > deadline:
                raise


def _end_offsets(admin: AdminClient, topic: str, earliest: bool) -> dict[int, int]:
    # each time, so that the client learns of leaders that have moved: it would go on asking a broker that is gone
    found = admin.list_topics(topic, timeout=TIMEOUT_S).topics[topic]
    if found.error is not None:
        raise KafkaException(found.error)
    spec = OffsetSpec.earliest() if earliest else OffsetSpec.latest()  # type: ignore[no-untyped-call]
    asked = {TopicPartition(topic, number): spec for number in found.partitions}
    answers = admin.list_offsets(asked, request_timeout=ANSWER_S)
    return {part.partition: future.result().offset for part, future in answers.items()}
