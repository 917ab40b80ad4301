"""Ends a process whose Kafka client never returns from a call.

librdkafka's send_offsets_to_transaction has no timeout while it looks for the group's coordinator, and may wait for
ever for one that was restarted (its issues 5456 and 5511). The transaction is then open or aborted; the next start of
the process finds out, as after any other crash.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from types import TracebackType

from confluent_kafka import KafkaException

from streams.config import KafkaConfig
from streams.kafka.clients import probe_client
from streams.topics import STAGE_STATES

log = logging.getLogger(__name__)

LOOK_S = 1.0
SUSPECT_S = 5.0
"""A call may take this long before the watch asks whether Kafka answers."""

STUCK_S = 12.0
"""A call is stuck when Kafka has answered other calls for this long: a transaction ends within 10 s, either way."""


def exit_at_once(reason: str) -> None:
    """End this process without waiting for its threads."""
    log.critical("%s", reason)
    logging.shutdown()
    os._exit(1)


class StuckCalls:
    """Watches the calls of one thread, each in a `with` block, on a thread of its own until `close`."""

    def __init__(self, kafka: KafkaConfig, end: Callable[[str], None] = exit_at_once) -> None:
        """end: called once, with the reason, when a call is stuck."""
        self._kafka = kafka
        self._end = end
        self._since: float | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._look, name="stuck", daemon=True)
        self._thread.start()

    def __enter__(self) -> "StuckCalls":
        self._since = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._since = None

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._closed.wait(LOOK_S):
            since = self._since
            if since is not None and time.monotonic() - since > SUSPECT_S and self._stuck(since):
                self._end(
                    f"the Kafka client has not come back from a commit for {time.monotonic() - since:.0f} s, though "
                    f"Kafka at {self._kafka.bootstrap} answers: this process has to be started again"
                )
                return

    def _stuck(self, call: float) -> bool:
        """Wait until the call returns, or until Kafka has answered others for STUCK_S; whether the call is stuck."""
        client = probe_client(self._kafka, "stuck")
        answers_since: float | None = None
        try:
            while self._since == call and not self._closed.wait(LOOK_S):
                try:
                    client.list_topics(self._kafka.topic(STAGE_STATES.name), timeout=LOOK_S)
                except KafkaException:
                    answers_since = None
                    continue
                now = time.monotonic()
                answers_since = answers_since or now
                if now - answers_since > STUCK_S:
                    return self._since == call
            return False
        finally:
            client.close()
