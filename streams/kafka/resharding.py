"""Moves the log of embeddings from one number of shards to another, while no search runs.

All shards have then answered for the log up to one offset, and those of the new number begin there. So each image is
answered for by one number of shards alone.
"""

from contextlib import closing
from dataclasses import replace

from confluent_kafka import KafkaError, KafkaException

from imagetools.errors import ConfigError
from streams.config import KafkaConfig
from streams.kafka.admin import TIMEOUT_S, GroupOffsets, delete_groups, shard_sets
from streams.kafka.clients import admin_client
from streams.shards import Shard


def reshard(kafka: KafkaConfig, count: int) -> int:
    """Let `count` shards go on where those there are have stopped; return the offset.

    ConfigError if there are none yet, if a search runs, or if they stand at different offsets. What was interrupted can
    be run again.
    """
    sets = shard_sets(kafka)
    old = {shard: offset for number, shards in sets.items() if number != count for shard, offset in shards.items()}
    new = sets.get(count, {})
    if not old and not new:
        raise ConfigError("no search has followed the log yet: `imagetools topics create --shards` says how many do")
    if running := _members(kafka, [*old, *new]):
        raise ConfigError(f"the search still runs ({', '.join(running)}): stop all of its processes first")
    places = {**old, **new}
    if len(set(places.values())) > 1:
        standing = ", ".join(f"{shard} at {offset}" for shard, offset in places.items())
        raise ConfigError(
            f"the shards stand at different places of the log ({standing}): stop the encoders, start the search again "
            "until `imagetools status` shows no lag, and stop it"
        )
    offset = next(iter(places.values()))
    for index in range(count):
        with closing(GroupOffsets(replace(kafka, shard=Shard(index, count)), "search")) as group:
            group.set({0: offset})
    # from here on a search of the old number does not start, nor of the new one before this is done
    admin = admin_client(kafka)
    delete_groups(admin, [replace(kafka, shard=shard).group("search") for shard in old])
    return offset


def _members(kafka: KafkaConfig, shards: list[Shard]) -> list[str]:
    """Return the shards whose groups have processes."""
    names = {replace(kafka, shard=shard).group("search"): shard for shard in shards}
    admin = admin_client(kafka)
    described = admin.describe_consumer_groups(list(names), request_timeout=TIMEOUT_S)
    found = []
    for name, future in described.items():
        try:
            if future.result().members:
                found.append(str(names[name]))
        except KafkaException as exc:
            if exc.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
                raise
    return found
