"""What each process and command may have to do on the cluster, where it has ACLs: one table.

docs/deploy.md shows the same table (tests/project/test_permissions.py), and the tests give each process just this.
Kafka lets nobody read, write, delete or alter who may not describe, so these include it here as they do there.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from streams.config import KafkaConfig
from streams.topics import (
    ALSO_READS,
    ANSWERS,
    CANDIDATES,
    DEAD_LETTERS,
    DECISIONS,
    DEDUPED,
    DUPLICATES,
    EMBEDDINGS,
    GROUPING_STATE,
    GROUPS,
    IMAGES_NEW,
    READS,
    REPLIES,
    STAGE_STATES,
    TOPICS,
    VERDICTS,
    WRITES,
    Topic,
)


class Operation(StrEnum):
    """An operation, as Kafka names it."""

    READ = "Read"
    WRITE = "Write"
    CREATE = "Create"
    DELETE = "Delete"
    DESCRIBE = "Describe"
    DESCRIBE_CONFIGS = "DescribeConfigs"
    ALTER_CONFIGS = "AlterConfigs"


class Resource(StrEnum):
    """A kind of resource."""

    TOPIC = "topic"
    GROUP = "group"
    TRANSACTIONAL_ID = "transactional id"


@dataclass(frozen=True, order=True)
class Right:
    """One right.

    name      without TOPIC_PREFIX; it may hold placeholders such as {target}
    prefixed  it holds for all names that begin with `name`
    outside   the name is one of another team's, to which TOPIC_PREFIX does not belong
    """

    operation: Operation
    resource: Resource
    name: str
    prefixed: bool = False
    outside: bool = False

    def __str__(self) -> str:
        """Return the right in words."""
        return f"{self.operation} on {self.resource} {self.name}{'*' if self.prefixed else ''}"


Rights = tuple[Right, ...]


def _topics(operation: Operation, topics: Iterable[Topic]) -> Rights:
    return tuple(Right(operation, Resource.TOPIC, topic.name) for topic in topics)


def _read(*topics: Topic) -> Rights:
    return _topics(Operation.READ, topics)


def _write(*topics: Topic) -> Rights:
    return _topics(Operation.WRITE, topics)


def _group(operation: Operation, *names: str) -> Rights:
    return tuple(Right(operation, Resource.GROUP, name) for name in names)


def _transactions(name: str, *, prefixed: bool = True) -> Rights:
    return (Right(Operation.WRITE, Resource.TRANSACTIONAL_ID, name, prefixed),)


_SOURCES: Final = tuple({t.name: t for t in (*READS.values(), *(t for ts in ALSO_READS.values() for t in ts))}.values())
"""What the stages read, and commit offsets in."""

_STAGE_READS: Final = {
    # an encoder compares its model with the log's, a grouping stage reads its state
    "encoder": (EMBEDDINGS,),
    "search": (),
    "matcher": (DECISIONS,),
    "grouping": (*ALSO_READS["grouping"], GROUPING_STATE),
}
"""Beside the topics in READS and ANSWERS."""


def _stage(stage: str) -> Rights:
    answers = (ANSWERS[stage],) if stage in ANSWERS else ()
    # a search reads its requests without a group, since its processes do not share them
    requests = _group(Operation.READ, f"{stage}.requests") if answers and stage != "search" else ()
    return (
        *_read(READS[stage], *_STAGE_READS[stage], *answers),
        *_write(*WRITES[stage]),
        *_group(Operation.READ, stage),
        *requests,
        *_transactions(f"{stage}-"),
    )


_REPLAY: Final = (
    *_read(DEAD_LETTERS, IMAGES_NEW, CANDIDATES),
    *_write(IMAGES_NEW, CANDIDATES),
    *_transactions("dead-letters-replay", prefixed=False),
)
_LAG: Final = (*_read(*_SOURCES), *_group(Operation.DESCRIBE, *READS))

TARGET: Final = "{target}"
EVENTS: Final = "{topic}"

PERMISSIONS: Final[Mapping[str, Rights]] = {
    **{stage: _stage(stage) for stage in READS},
    "bridge": (
        *_read(REPLIES, VERDICTS, GROUPS, DEAD_LETTERS, STAGE_STATES),
        *_write(*WRITES["bridge"]),
        *_LAG,
    ),
    "bridge, to send dead letters back": _REPLAY,
    "bridge, to forget what the topics have forgotten": _topics(
        Operation.DESCRIBE_CONFIGS, (IMAGES_NEW, VERDICTS, DUPLICATES, DEAD_LETTERS)
    ),
    "topics create": (
        *_topics(Operation.CREATE, TOPICS),
        *_read(*_SOURCES),
        *_topics(Operation.DESCRIBE, (topic for topic in TOPICS if topic not in _SOURCES)),
        *_group(Operation.READ, *READS),
    ),
    "topics create, after an upgrade": (
        *_topics(Operation.DESCRIBE_CONFIGS, (GROUPS, GROUPING_STATE)),
        *_topics(Operation.ALTER_CONFIGS, (GROUPS, GROUPING_STATE)),
    ),
    "reshard": (
        *_read(EMBEDDINGS, STAGE_STATES),
        *_write(EMBEDDINGS),
        *(
            Right(operation, Resource.GROUP, "search", prefixed=True)
            for operation in (Operation.READ, Operation.DELETE)
        ),
        *_transactions("embeddings-reshard", prefixed=False),
    ),
    "reencode": (
        *_read(IMAGES_NEW, EMBEDDINGS, DECISIONS, DUPLICATES),
        *_topics(Operation.DESCRIBE, (GROUPING_STATE,)),
        *(
            Right(operation, Resource.TOPIC, TARGET)
            for operation in (Operation.READ, Operation.WRITE, Operation.CREATE)
        ),
        *_write(DEAD_LETTERS),
        *_group(Operation.DESCRIBE, "encoder", "search", "grouping"),
        *_group(Operation.READ, f"reencoder.{TARGET}", f"search.{TARGET}", f"grouping.{TARGET}"),
        *_transactions(f"reencoder.{TARGET}-"),
    ),
    "dedupe": (
        *_read(EMBEDDINGS, GROUPING_STATE, DEDUPED, REPLIES, STAGE_STATES, DECISIONS, DUPLICATES),
        *_write(*WRITES["dedupe"]),
        *_group(Operation.DESCRIBE, "search", "grouping"),
        *_transactions("dedupe-run", prefixed=False),
    ),
    "produce": (*_write(IMAGES_NEW), *_read(STAGE_STATES)),
    "produce --wait": _read(VERDICTS, DUPLICATES),
    "produce --no-alert": _group(Operation.DESCRIBE, "encoder"),
    "produce --from-topic": (
        Right(Operation.READ, Resource.TOPIC, EVENTS, outside=True),
        *_write(DEAD_LETTERS),
        *_group(Operation.READ, f"produce.{EVENTS}"),
    ),
    "watch": _read(DUPLICATES, DEAD_LETTERS, STAGE_STATES),
    "groups": _read(GROUPS, DECISIONS),
    "decide": (*_read(GROUPS, DECISIONS, STAGE_STATES), *_write(DECISIONS)),
    "index": (*_LAG, *_read(STAGE_STATES)),
    "status": (*_LAG, *_read(STAGE_STATES, DEAD_LETTERS)),
    "dead-letters list": _read(DEAD_LETTERS, IMAGES_NEW, CANDIDATES),
    "dead-letters show": _read(DEAD_LETTERS),
    "dead-letters replay": _REPLAY,
    "your producer": _write(IMAGES_NEW),
    "your consumer": _read(DUPLICATES, VERDICTS),
}
"""The rights of each process and command, on a service whose index has one shard. What is only needed with an option
or for a part of the work stands apart, and is needed besides."""


def rights_of(kafka: KafkaConfig, *names: str, **placeholders: str) -> list[Right]:
    """Return the rights of processes and commands, with the names that topics, groups and ids have on the cluster.

    names         keys of PERMISSIONS; an unknown one has none
    placeholders  what stands for {target} and {topic}
    """
    found = dict.fromkeys(right for name in names for right in PERMISSIONS.get(name, ()))
    return [_on_cluster(kafka, right, placeholders) for right in found]


def _on_cluster(kafka: KafkaConfig, right: Right, placeholders: Mapping[str, str]) -> Right:
    name = right.name.format(**placeholders)
    if right.outside:
        return replace(right, name=name)
    match right.resource:
        case Resource.GROUP if name == "search" and not right.prefixed:
            return replace(right, name=kafka.group(name))
        case Resource.TOPIC:
            return replace(right, name=kafka.topic(name))
        case _:
            return replace(right, name=kafka.prefix + name)
