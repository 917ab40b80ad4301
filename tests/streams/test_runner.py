"""The loop that every stage runs in."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from confluent_kafka.admin import AdminClient

from schemas.records import ImageNew
from streams.runner import Runner
from streams.stage import Stage
from streams.topics import IMAGES_NEW


class Idle(Stage[ImageNew]):
    """Stands in the encoder's place and is never given a message."""

    name, source, kind = "encoder", IMAGES_NEW, ImageNew


def given_out(admin: AdminClient, group: str) -> bool:
    """Whether the broker has given partitions to a member, who may not know it yet."""
    members = admin.describe_consumer_groups([group])[group].result().members
    return any(one is not None and one.topic_partitions for m in members for one in (m.assignment, m.target_assignment))


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_stage_that_stops_as_partitions_come_ends_at_once(kafka, protocol):
    """They are handed over while its consumer closes, and there nobody answers a question for offsets."""
    kafka = replace(kafka, group_protocol=protocol)
    admin = AdminClient(kafka.client())
    stopped = []

    @contextmanager
    def stopping_as_they_come(stop: Callable[[], None]) -> Iterator[None]:
        deadline = time.monotonic() + 30
        while not given_out(admin, kafka.group("encoder")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        stopped.append(time.monotonic())
        stop()
        yield

    Runner(Idle(), kafka, request_server=stopping_as_they_come).run()
    assert time.monotonic() - stopped[0] < 20
