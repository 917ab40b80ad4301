"""Notices that a cluster does not take what a stage sends, and ends a process whose client never returns from a call.

A call may wait for as long as Kafka is away; the watch says so. librdkafka's send_offsets_to_transaction has no timeout
while it looks for the group's coordinator, and may wait for ever for one that was restarted (its issues 5456 and 5511).
The transaction is then open or aborted; the next start of the process finds out, as after any other crash.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType

from confluent_kafka import KafkaException

from streams.config import KafkaConfig
from streams.kafka.probe import ClusterProbe
from streams.topics import STAGE_STATES

log = logging.getLogger(__name__)

LOOK_S = 1.0
SUSPECT_S = 5.0
"""A call may take this long before the watch asks whether Kafka answers."""

ANSWER_S = 3.0
"""A busy machine may need a second or two to answer."""

STUCK_S = 12.0
"""A call is stuck when Kafka has answered other calls for this long: a transaction ends within 10 s, either way."""

DOUBT_S = 30.0
"""A client that reports an error about a broker is asked after for this long."""


def exit_at_once(reason: str) -> None:
    """End this process without waiting for its threads."""
    log.critical("%s", reason)
    logging.shutdown()
    os._exit(1)


def ignore_trouble(_reason: str) -> None:
    """Do nothing: the log is enough."""


class StuckCalls:
    """Watches the calls of one thread, each in a `with` block, on a thread of its own until `close`.

    trouble  why Kafka takes nothing, as far as was looked; empty when it does
    """

    def __init__(
        self,
        kafka: KafkaConfig,
        end: Callable[[str], None] = exit_at_once,
        *,
        on_trouble: Callable[[str], None] = ignore_trouble,
    ) -> None:
        """Start the thread.

        end         called once, with the reason, when a call is stuck
        on_trouble  called on the thread with each new trouble
        """
        self.trouble = ""
        self._kafka = kafka
        self._end = end
        self._on_trouble = on_trouble
        self._since: float | None = None
        self._doubt_until = 0.0
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

    def doubt(self) -> None:
        """Look whether Kafka answers, though no call takes long: a client has lost a broker."""
        self._doubt_until = time.monotonic() + DOUBT_S

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._closed.wait(LOOK_S):
            if (self._suspicious() or time.monotonic() < self._doubt_until) and self._ask():
                return

    def _suspicious(self) -> bool:
        since = self._since
        return since is not None and time.monotonic() - since > SUSPECT_S

    def _ask(self) -> bool:
        """Ask after Kafka until there is no more reason to; return whether a call was stuck, and the process ends."""
        probe = ClusterProbe(self._kafka, "stuck")
        call, answers_since = self._since, time.monotonic()
        try:
            while True:
                whole, trouble = _look_at(probe, self._kafka)
                self._note(trouble)
                now = time.monotonic()
                if not whole or self._since != call:
                    call, answers_since = self._since, now
                elif self._suspicious() and now - answers_since > STUCK_S:
                    self._end(
                        f"the Kafka client has not come back from a commit for {now - (call or now):.0f} s, though "
                        f"Kafka at {self._kafka.bootstrap} answers: this process has to be started again"
                    )
                    return True
                if not (self.trouble or self._suspicious() or now < self._doubt_until) or self._closed.wait(LOOK_S):
                    return False
        finally:
            probe.close()

    def _note(self, trouble: str) -> None:
        before, self.trouble = self.trouble, trouble
        if trouble and trouble != before:
            log.warning("waits: %s", trouble)
            self._on_trouble(trouble)
        elif before and not trouble:
            log.info("Kafka at %s answers again", self._kafka.bootstrap)


def _look_at(probe: ClusterProbe, kafka: KafkaConfig) -> tuple[bool, str]:
    """Return whether all brokers that the cluster names answer, and why it takes nothing; empty when it does.

    One that was lost is named for some seconds, until others have taken over from it. A broker that is left alone goes
    on naming the others, since no controller tells it that they are gone. It cannot commit without a majority.
    """
    try:
        brokers = probe.ask(ANSWER_S, kafka.topic(STAGE_STATES.name)).brokers.values()
    except KafkaException:
        return False, probe.no_answer()
    away = sorted(f"{one.host}:{one.port}" for one in brokers if not _listens(str(one.host), one.port or 0))
    if 2 * len(away) >= len(brokers):
        return False, f"{len(away)} of {len(brokers)} brokers of Kafka do not answer: {', '.join(away)}"
    return not away, ""


def _listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), LOOK_S):
            return True
    except OSError:
        return False
