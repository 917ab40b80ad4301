"""Whether a stage's process is alive and ready, for probes; written by the runner's thread, read by any other."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from schemas.records import State


@dataclass(frozen=True, slots=True)
class Probe:
    """The answer to a probe, and what it rests on."""

    good: bool
    words: str


class StageHealth:
    """Alive: the loop turns. Ready: a member of the group, with its state restored and its last batch committed.

    A process that owns no partition stands by, and is ready: it takes over when another one is gone.
    """

    def __init__(self, max_turn_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """max_turn_s: how long one turn of the loop, or the start, may take."""
        self.max_turn_s = max_turn_s
        self.owned = 0
        self._clock = clock
        self._turned_at = clock()
        self._state, self._reason = State.STARTING, ""
        self._member = False
        self._committing = True

    @property
    def waiting(self) -> bool:
        """Whether the process waits for something that is away."""
        return self._state is State.WAITING

    def state(self, state: State, reason: str = "") -> None:
        """Take what the runner does now."""
        self._state, self._reason = state, reason

    def turned(self, owned: int, *, member: bool) -> None:
        """Note a turn of the loop.

        owned   partitions of the stage's source
        member  whether the process belongs to its group
        """
        self._turned_at = self._clock()
        self.owned, self._member = owned, member

    def committing(self, works: bool) -> None:
        """Note whether the last transaction was committed; after a rebalance none is owed."""
        self._committing = works

    def alive(self) -> Probe:
        """Return whether the loop turns."""
        silent_s = self._clock() - self._turned_at
        if silent_s > self.max_turn_s:
            return Probe(False, f"the loop has not turned for {silent_s:.0f} s")
        return Probe(True, "alive")

    def ready(self) -> Probe:
        """Return whether the process takes its part of the work, or could at once."""
        alive = self.alive()
        if not alive.good:
            return alive
        reason = f": {self._reason}" if self._reason else ""
        if self._state is not State.RUNNING:
            return Probe(False, f"{self._state}{reason}")
        if not self._member:
            return Probe(False, "no member of the consumer group at the moment")
        if not self._committing:
            return Probe(False, "the last transaction was aborted")
        return Probe(True, "ready" if self.owned else "standing by: other processes own all partitions")
