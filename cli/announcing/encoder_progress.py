"""How much of what this run announced the encoders have done, by the offsets that they have committed."""

import time
from array import array
from bisect import bisect_left
from collections.abc import Callable
from typing import Final

from confluent_kafka import KafkaException, Message

from cli.job_progress import JobProgress
from streams.config import KafkaConfig
from streams.kafka.admin import GroupOffsets
from streams.kafka.authorization import REFUSALS

LOOK_EVERY_S: Final = 1.0
ANSWER_S: Final = 2.0


class EncoderProgress:
    """Counts the run's announcements, of which it keeps the offsets, 8 bytes each."""

    def __init__(self, kafka: KafkaConfig, progress: JobProgress) -> None:
        self._group = GroupOffsets(kafka, "encoder")
        self._progress = progress
        self._offsets: dict[int, array[int]] = {}
        self._due = 0.0
        self.done = 0

    @property
    def announced(self) -> int:
        """How many announcements the broker has taken."""
        return sum(map(len, self._offsets.values()))

    def announcing(self, _request_id: int, _path: str) -> None:
        """See that another image is announced now."""
        self.show()

    def delivered(self, message: Message) -> None:
        """Note an announcement; those of one partition come in their order."""
        self._offsets.setdefault(message.partition() or 0, array("q")).append(message.offset() or 0)

    def show(self) -> None:
        """Look how far the encoders are, and show it, once in LOOK_EVERY_S."""
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + LOOK_EVERY_S
        try:
            committed = self._group.read(ANSWER_S)
        except KafkaException as exc:
            if exc.args[0].code() in REFUSALS:
                raise
            # the watch over the connection says so
            return
        self.done = sum(bisect_left(ours, committed.get(n, 0)) for n, ours in self._offsets.items())
        self._progress.show(self.done, self.announced)

    def follow(self, wait: Callable[[], None]) -> None:
        """Return when the encoders have done everything.

        wait  returns after a moment
        """
        while self.done < self.announced:
            wait()
            self.show()

    def close(self) -> None:
        """Close the connection."""
        self._group.close()
