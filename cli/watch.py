"""Alerts as they come."""

import sys

from rich.console import Console
from rich.text import Text

from cli.alerts import as_line, as_text, local_time
from schemas.records import Duplicates
from streams.config import KafkaConfig
from streams.follow import Follower
from streams.topics import DUPLICATES


def watch(kafka: KafkaConfig, *, as_lines: bool, from_beginning: bool) -> None:
    """Print each alert until Ctrl-C; `as_lines`: as JSON, one line each."""
    follower = Follower(kafka, [DUPLICATES], from_beginning=from_beginning, patient=True)
    console = Console()
    if not as_lines:
        Console(stderr=True).print(f"watching {kafka.topic(DUPLICATES.name)} on {kafka.bootstrap}; Ctrl-C ends")
    try:
        while True:
            for seen in follower.read(1.0):
                if not isinstance(seen.record, Duplicates):
                    continue
                if as_lines:
                    sys.stdout.buffer.write(as_line(seen.record))
                    sys.stdout.buffer.flush()
                else:
                    for line in as_text(seen.record):
                        console.print(Text(f"{local_time(seen.record)}  {line}"), soft_wrap=True)
    except KeyboardInterrupt:
        return
    finally:
        follower.close()
