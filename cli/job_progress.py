"""How far a long job is, with its rate and the time left."""

import time
from datetime import timedelta
from types import TracebackType
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

SPEED_OVER_S: Final = 120.0
"""The rate is that of the last two minutes: stages work in batches."""

PLAIN_FIRST_S: Final = 10.0
PLAIN_EVERY_S: Final = 60.0
"""Intervals of lines where no terminal shows a bar."""


class JobProgress:
    """A bar with rate and time left; without a terminal a line now and then."""

    def __init__(self, console: Console, what: str) -> None:
        """what: the work, such as `encoded`."""
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:>9}"),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
            speed_estimate_period=SPEED_OVER_S,
        )
        self._number = self._progress.add_task(what, total=None, rate="")
        self._plain_due = time.monotonic() + PLAIN_FIRST_S

    def __enter__(self) -> "JobProgress":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, done: int, total: int) -> None:
        """Show how much is done."""
        task = self._progress.tasks[self._number]
        rate = f"{task.speed:,.0f}/s" if task.speed else ""
        self._progress.update(self._number, completed=done, total=total, rate=rate)
        if not self._console.is_terminal and time.monotonic() >= self._plain_due:
            self._plain_due = time.monotonic() + PLAIN_EVERY_S
            self._console.print(Text(in_words(task)))


def in_words(task: Task) -> str:
    """Return a line on a task: its name, how much is done, the rate and the time left."""
    words = [f"{task.description} {task.completed:,.0f} of {task.total or 0:,.0f}"]
    if task.speed and task.time_remaining is not None:
        left = timedelta(seconds=round(task.time_remaining))
        words += [f"{task.speed:,.0f}/s", f"{left} left"]
    return ", ".join(words)
