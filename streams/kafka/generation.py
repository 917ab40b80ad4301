"""The generation of a consumer group, under which a stage commits."""

from typing import Any

from confluent_kafka import Consumer

Generation = Any
"""librdkafka's group metadata: the member and its generation."""


def generation_of(consumer: Consumer) -> Generation | None:
    """Return the member and its generation, which fence a zombie; None while this process is no member.

    The broker accepts any commit without a member id, so the id must be the same before and after the call.
    """
    before = consumer.memberid()
    metadata = consumer.consumer_group_metadata()
    return metadata if before and consumer.memberid() == before else None
