"""`imagetools watch`: alerts, dead letters and troubles of the stages as they arrive."""

import sys
import time
from dataclasses import replace
from datetime import UTC, datetime

import msgspec
from rich.console import Console
from rich.text import Text

from cli.alerts import as_line, as_text, clock, clock_at, local_time
from imagetools.paths import shown
from schemas.records import Duplicates, State
from streams.config import KafkaConfig
from streams.kafka.dead_letters import read_dead_letter
from streams.kafka.follower import ConsumedMessage, Follower
from streams.kafka.messages import announced_headers
from streams.topics import DEAD_LETTERS, DUPLICATES, STAGE_STATES
from streams.watching.states import StageStates, in_words


def watch(kafka: KafkaConfig, *, as_lines: bool, from_beginning: bool) -> None:
    """Print each alert and dead letter until Ctrl-C; troubles of the stages go to standard error.

    as_lines  as JSON, one line each: an alert's has the field candidate, a dead letter's is {"dead_letter": {…}}
    """
    topics = [DUPLICATES, DEAD_LETTERS, STAGE_STATES]
    follower = Follower(kafka, topics, from_beginning=from_beginning, patient=True)
    watching = _Watching(as_lines)
    if not as_lines:
        watching.errors.print(f"watching {kafka.topic(DUPLICATES.name)} on {kafka.bootstrap}; Ctrl-C ends")
    try:
        while True:
            for seen in follower.read(1.0):
                watching.take(seen)
    except KeyboardInterrupt:
        return
    finally:
        follower.close()


class _Watching:
    def __init__(self, as_lines: bool) -> None:
        self._as_lines = as_lines
        self._console, self.errors = Console(), Console(stderr=True)
        self._states = StageStates()
        self._in_trouble: set[str] = set()
        self._began = time.time()

    def take(self, seen: ConsumedMessage) -> None:
        """Print one message."""
        if seen.topic is STAGE_STATES:
            self._take_state(seen)
        elif seen.topic is DEAD_LETTERS:
            self._print_dead(read_dead_letter(seen.message))
        elif isinstance(seen.record, Duplicates) and self._as_lines:
            self._write(as_line(seen.record, announced_headers(seen.message)))
        elif isinstance(seen.record, Duplicates):
            for line in as_text(seen.record):
                self._console.print(Text(f"{local_time(seen.record)}  {line}"), soft_wrap=True)

    def _print_dead(self, letter: dict[str, str]) -> None:
        if self._as_lines:
            self._write(msgspec.json.encode({"dead_letter": letter}) + b"\n")
            return
        why = f"{letter['error_type']}: {letter['error_message']}"
        line = f"{clock(letter['time'])}  {shown(letter['relative_path'])}  dead letter of {letter['stage']}  {why}"
        self._console.print(Text(line, "yellow"), soft_wrap=True)

    def _take_state(self, seen: ConsumedMessage) -> None:
        """Print the beginning and the end of a trouble."""
        state = self._states.take(seen)
        sent = seen.message.timestamp()[1] / 1000
        if state is None or sent < self._began:
            return
        told = state
        if state.state is State.DIED:
            # what is known to have died and starts again has not died once more; each death is one line
            again = seen.record.state is State.STARTING
            told = seen.record if again else replace(state, restarts=0)
        line = f"{clock_at(datetime.fromtimestamp(sent, UTC))}  {in_words(told)}"
        if state.state in (State.WAITING, State.DIED):
            self._in_trouble.add(state.process)
            self.errors.print(Text(line, "yellow"), soft_wrap=True)
        elif state.process in self._in_trouble:
            self._in_trouble.discard(state.process)
            self.errors.print(Text(line), soft_wrap=True)

    def _write(self, line: bytes) -> None:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
