"""What keeps stages from working, as lines on the terminal."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import click

from schemas.records import StageState, State
from streams.watching.states import absent, in_words, trouble

SAY_AFTER_S: Final = 1.0


@dataclass
class Troubles:
    """Prints what stops a stage, or is missing, when that begins."""

    _told: list[str] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic)

    def tell(self, states: list[StageState]) -> None:
        """Print what is new; nothing in the first second, in which a stage may still start."""
        if time.monotonic() < self._began + SAY_AFTER_S:
            return
        lines = list(self._lines(states))
        for line in lines:
            if line not in self._told:
                click.echo(line, err=True)
        self._told = lines

    def _lines(self, states: list[StageState]) -> Iterator[str]:
        yield from (f"no {stage} runs" for stage in absent(states))
        yield from (in_words(state) for state in trouble(states))
        yield from (in_words(state) for state in states if state.state is State.STARTING and state.reason)
