"""News of the stages as lines for a terminal."""

import time
from dataclasses import dataclass, field

from schemas.records import StageState, State

REPLAY_EVERY_S = 5.0
"""Interval of lines about a search that replays its log; the first one waits too, since most replays are short."""

READY = "Ready: every stage runs"


@dataclass
class StageMessages:
    """Lines about processes that wait, and about their continuing. The supervisor reports their deaths.

    awaited  processes that have not run yet; a line says when the last of them does
    """

    awaited: set[str] = field(default_factory=set)
    waiting: dict[str, str] = field(default_factory=dict)
    replaying: dict[str, float] = field(default_factory=dict)

    def take(self, state: StageState) -> str | None:
        """Return the line about a process's state; None if it is no news."""
        name = state.process
        if state.state is State.STARTING and state.reason:
            return self._replay(name, state.reason)
        self.replaying.pop(name, None)
        if state.state is State.WAITING:
            known = self.waiting.get(name)
            self.waiting[name] = state.reason
            return None if known == state.reason else f"{name} waits: {state.reason}"
        if state.state is not State.RUNNING:
            return None
        went_on = self.waiting.pop(name, None) is not None
        if name in self.awaited:
            self.awaited.discard(name)
            if not self.awaited:
                return READY
        return f"{name} goes on" if went_on else None

    def _replay(self, name: str, progress: str) -> str | None:
        now = time.monotonic()
        if now < self.replaying.setdefault(name, now + REPLAY_EVERY_S):
            return None
        self.replaying[name] = now + REPLAY_EVERY_S
        return f"{name} brings its index to where it was: {progress}"
