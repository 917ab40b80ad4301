"""The progress of the stages on the console."""

import time
from types import TracebackType
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from cli.find_results import FindResults

STAGES: Final = ("encoder", "search", "matcher")
PLAIN_EVERY_S: Final = 10.0
"""Interval of progress lines where no terminal shows bars."""

SAME_EVERY_S: Final = 60.0
"""Interval of such lines while nothing changes."""


class StageBars:
    """A progress bar for each stage, with rate and time left; without a terminal, a line every PLAIN_EVERY_S.

    Without a terminal, a line that says the same as the one before waits for SAME_EVERY_S.
    """

    def __init__(self, results: FindResults, console: Console) -> None:
        self._results = results
        self._console = console
        self._plain_at = time.monotonic()
        self._plain = ""
        self._began = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.description:8}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:>9}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "StageBars":
        for stage in STAGES:
            self._tasks[stage] = self._progress.add_task(stage, total=self._results.announced, rate="")
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self) -> None:
        """Show the current state."""
        results = self._results
        dead = results.dead_before_search
        done = {
            "encoder": results.encoded,
            "search": results.searched + dead,
            "matcher": len(results.verdicts),
        }
        elapsed = max(time.monotonic() - self._began, 1e-3)
        for stage, count in done.items():
            self._progress.update(self._tasks[stage], completed=count, rate=f"{count / elapsed:.0f}/s")
        if not self._console.is_terminal:
            text = ", ".join(f"{stage} {count:,}" for stage, count in done.items())
            self._show_plain(text if any(done.values()) else "none yet, the stages are starting")

    def _show_plain(self, text: str) -> None:
        every = SAME_EVERY_S if text == self._plain else PLAIN_EVERY_S
        if time.monotonic() - self._plain_at > every:
            self._plain_at, self._plain = time.monotonic(), text
            self._console.print(Text(f"of {self._results.announced:,} images: {text}"))
