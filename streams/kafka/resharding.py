"""Moves the log of embeddings from one number of shards to another.

While searches run, the new shards first follow the log without answering, and a mark in the log lets them answer
instead of the old ones (streams/sharding/marks.py). While none runs, the new ones begin where the old ones have
stopped. Either way each image is answered for by one number of shards alone. What was interrupted can be run again.
"""

from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace

from confluent_kafka import KafkaError, KafkaException, Message

from imagetools.errors import ConfigError
from streams.config import KafkaConfig
from streams.kafka.admin import TIMEOUT_S, GroupOffsets, delete_groups, shard_groups
from streams.kafka.clients import admin_client, transactional_producer
from streams.sharding.marks import Mark, Role, ShardGroup, ShardGroups, new_key
from streams.sharding.shards import Shard
from streams.topics import EMBEDDINGS


def reshard(kafka: KafkaConfig, count: int) -> int:
    """Let `count` shards go on where those that answer have stopped; return the offset.

    ConfigError if there are none yet, if a search runs, or if they stand at different offsets.
    """
    groups = shard_groups(kafka)
    if not groups.groups:
        raise ConfigError("no search has followed the log yet: `imagetools topics create --shards` says how many do")
    if running := processes(kafka, groups):
        names = ", ".join(map(str, running))
        raise ConfigError(f"the search still runs ({names}): stop all of its processes first")
    # none answers only where this was interrupted
    standing = [group for group in groups if group.role is Role.ANSWERS] or groups.of(count)
    if len({group.offset for group in standing}) > 1:
        places = ", ".join(f"{group.shard} at {group.offset}" for group in standing)
        raise ConfigError(
            f"the shards stand at different places of the log ({places}): stop the encoders, start the search again "
            "until `imagetools status` shows no lag, and stop it; or leave it running and reshard meanwhile"
        )
    offset = standing[0].offset
    # until the old groups are gone no search of the new number starts, and then none of the old one
    _set(kafka, count, offset, Mark(0))
    remove(kafka, [group.shard for group in groups if group.shard.count != count])
    _set(kafka, count, offset, Mark(count))
    return offset


def prepare(kafka: KafkaConfig, count: int) -> int:
    """Let `count` shards follow the log beside those that answer; return how many answer.

    A shard that follows it already is left alone. ConfigError where none answers.
    """
    groups = shard_groups(kafka)
    answering = groups.answering
    if answering is None:
        raise ConfigError("no search answers: stop all of its processes, and run this again")
    present = {group.shard for group in groups}
    # a place that one of them has committed, so that all messages before it are there; marks before it are in its note
    furthest = max((group for group in groups if group.mark.answering), key=lambda group: group.offset)
    for index in range(count):
        if (shard := Shard(index, count)) not in present:
            _set_one(kafka, shard, furthest.offset, Mark(answering, count))
    return answering


def write_mark(kafka: KafkaConfig, mark: Mark) -> int:
    """Write a mark to the log; return its offset.

    KafkaException where another program writes marks: the later one fences the earlier.
    """
    written: list[int] = []

    def delivered(error: KafkaError | None, message: Message) -> None:
        if error is None:
            written.append(message.offset() or 0)

    producer = transactional_producer(replace(kafka, member="reshard"), EMBEDDINGS.name)
    producer.init_transactions(TIMEOUT_S)
    producer.begin_transaction()
    topic, headers = kafka.topic(EMBEDDINGS.name), list(mark.headers)
    producer.produce(topic, None, new_key(), headers=headers, on_delivery=delivered)  # type: ignore[arg-type]
    producer.flush(TIMEOUT_S)
    producer.commit_transaction(TIMEOUT_S)
    return written[0]


def processes(kafka: KafkaConfig, groups: Iterable[ShardGroup]) -> list[Shard]:
    """Return the shards whose groups have processes."""
    names = {replace(kafka, shard=group.shard).group("search"): group.shard for group in groups}
    if not names:
        return []
    admin = admin_client(kafka)
    described = admin.describe_consumer_groups(list(names), request_timeout=TIMEOUT_S)
    found = []
    for name, future in described.items():
        try:
            if future.result().members:
                found.append(names[name])
        except KafkaException as exc:
            if exc.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
                raise
    return found


def remove(kafka: KafkaConfig, shards: Iterable[Shard]) -> None:
    """Remove the groups of shards, so that these do not start again. KafkaException where one has processes."""
    delete_groups(admin_client(kafka), [replace(kafka, shard=shard).group("search") for shard in shards])


def without_marks(groups: ShardGroups, count: int, offset: int) -> list[Shard]:
    """Return the shards that have passed a mark and noted none: processes of a version that knows no marks."""
    return [group.shard for group in groups.of(count) if group.offset > offset and not group.note]


def _set(kafka: KafkaConfig, count: int, offset: int, mark: Mark) -> None:
    for index in range(count):
        _set_one(kafka, Shard(index, count), offset, mark)


def _set_one(kafka: KafkaConfig, shard: Shard, offset: int, mark: Mark) -> None:
    with closing(GroupOffsets(replace(kafka, shard=shard), "search")) as group:
        group.set({0: offset}, mark.note)
