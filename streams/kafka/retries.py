"""Calls to a cluster that is not ready yet: just started, with topics just made, or busy."""

import time
from collections.abc import Callable, Collection
from typing import Final, TypeVar

from confluent_kafka import KafkaException

from streams.kafka.errors import NOT_READY

T = TypeVar("T")

READY_S: Final = 30.0
"""How long a cluster may take until it is ready."""

RETRY_S: Final = 0.02


def until_ready(call: Callable[[], T], codes: Collection[int] = NOT_READY) -> T:
    """Repeat a call for up to READY_S while it fails with one of these codes. KafkaException."""
    deadline = time.monotonic() + READY_S
    while True:
        try:
            return call()
        except KafkaException as exc:
            if exc.args[0].code() not in codes or time.monotonic() > deadline:
                raise
        time.sleep(RETRY_S)
