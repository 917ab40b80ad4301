"""What the encoders have done of one run's announcements, among those of others."""

from contextlib import closing
from io import StringIO

import pytest
from rich.console import Console

from cli.announcing.announce import Announcer, announce
from cli.announcing.encoder_progress import EncoderProgress
from cli.announcing.sources import NamedImage
from cli.job_progress import JobProgress
from streams.config import KafkaConfig
from streams.kafka.admin import GroupOffsets, end_offsets
from streams.kafka.clients import admin_client
from streams.topics import IMAGES_NEW


def test_only_announcements_of_this_run_count(kafka: KafkaConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.announcing.encoder_progress.LOOK_EVERY_S", 0.0)
    ours = [f"ours {n}.jpg" for n in range(20)]
    others = [f"others {n}.jpg" for n in range(30)]
    ends = []
    with (
        closing(GroupOffsets(kafka, "encoder")) as encoders,
        closing(EncoderProgress(kafka, JobProgress(Console(file=StringIO()), "encoded"))) as progress,
    ):
        for start in range(0, 20, 5):
            announce(kafka, others[start : start + 5])
            announcer = Announcer(kafka)
            announcer.announce(map(NamedImage, ours[start : start + 5]), on_delivered=progress.delivered)
            ends.append(end_offsets(admin_client(kafka), kafka.topic(IMAGES_NEW.name)))
        announce(kafka, others[20:])
        assert progress.announced == 20
        progress.show()
        assert progress.done == 0
        for done, offsets in zip((5, 10, 15, 20), ends, strict=True):
            encoders.set(offsets)
            progress.show()
            assert progress.done == done


def test_without_a_terminal_lines_have_the_rate_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.job_progress.PLAIN_FIRST_S", -1.0)
    monkeypatch.setattr("cli.job_progress.PLAIN_EVERY_S", -1.0)
    file = StringIO()
    with JobProgress(Console(file=file, width=100), "encoded") as progress:
        for done in (0, 100, 200, 300):
            progress.show(done, 10_000)
    lines = file.getvalue().splitlines()
    assert lines[0] == "encoded 0 of 10,000"
    assert lines[-1].startswith("encoded 300 of 10,000, ")
    assert lines[-1].endswith(" left")
