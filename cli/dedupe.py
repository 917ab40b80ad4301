"""`imagetools dedupe`: alerts for the duplicates inside what was loaded silently."""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from rich.console import Console

from cli.job_progress import JobProgress
from cli.slow_progress import SlowProgress
from cli.standard_error import say
from cli.troubles import Troubles
from streams.config import KafkaConfig
from streams.deduping.deduper import Deduper, DedupeWriter, neighbor_requests
from streams.deduping.silent_images import Came, SilentImages, read_silent_images
from streams.exit_codes import EXIT_INTERRUPTED
from streams.kafka.admin import GroupOffsets, end_offsets, require_topics, shard_groups
from streams.kafka.clients import admin_client
from streams.kafka.lag import LagSampler
from streams.topics import DECISIONS, DEDUPED, EMBEDDINGS
from streams.watching.states import StateFollower

LOOK_S: Final = 0.5


@dataclass(frozen=True)
class DedupeOptions:
    """What to search for.

    nb_neighbors  of a new image
    prefix        only images whose paths begin with it
    dry_run       count them instead
    """

    nb_neighbors: int
    prefix: str = ""
    dry_run: bool = False


def dedupe(kafka: KafkaConfig, options: DedupeOptions) -> int:
    """Search for what was loaded silently; return the exit code. PrerequisiteMissing, DedupeReplaced."""
    require_topics(kafka, EMBEDDINGS, DEDUPED)
    try:
        with closing(StateFollower(kafka)) as states:
            troubles = Troubles()
            wait_for_followers(kafka, lambda: troubles.tell(states.now()))
        if options.dry_run:
            _say_counts(read_silent_images(kafka, _reading()), options.prefix)
            return 0
        # it starts before anything is read: what an earlier run left open is settled then
        with DedupeWriter(kafka) as writer:
            return _run(kafka, writer, read_silent_images(kafka, _reading()), options)
    except KeyboardInterrupt:
        say("interrupted: what was searched for stays so, and the same command goes on")
        return EXIT_INTERRUPTED


def wait_for_followers(kafka: KafkaConfig, tell: Callable[[], None]) -> None:
    """Return when search and grouping have seen what is in the log now.

    tell  called now and then meanwhile
    """
    end = end_offsets(admin_client(kafka), kafka.topic(EMBEDDINGS.name))[0]
    progress = SlowProgress(say)
    sampler = LagSampler(kafka, {"search": EMBEDDINGS, "grouping": DECISIONS})
    try:
        with closing(GroupOffsets(kafka, "grouping", EMBEDDINGS)) as grouping:
            while True:
                # by the lag, too: the last offset is a transaction's marker, which no group commits
                lags = sampler.sample()
                offsets = _offsets(kafka, grouping)
                if all(not one.lag or offset >= end for one, offset in zip(lags, offsets, strict=True)):
                    return
                tell()
                behind = ", ".join(f"{one.stage} {one.lag:,}" for one in lags)
                progress.show(f"waiting until search and grouping have seen the log; they are behind: {behind}")
                time.sleep(LOOK_S)
    finally:
        sampler.close()


def _offsets(kafka: KafkaConfig, grouping: GroupOffsets) -> tuple[int, int]:
    """Return how far search and grouping are in the log."""
    groups = shard_groups(kafka)
    answering = groups.of(groups.answering or 1)
    return min((group.offset for group in answering), default=0), grouping.read().get(0, 0)


def _run(kafka: KafkaConfig, writer: DedupeWriter, images: SilentImages, options: DedupeOptions) -> int:
    total = images.count(Came.SILENT, options.prefix) + images.count(Came.UNKNOWN, options.prefix)
    said: list[str] = []

    def tell_wait(reason: str) -> None:
        if said[-1:] != [reason]:
            say(reason)
            said.append(reason)

    with (
        closing(neighbor_requests(kafka, options.nb_neighbors, tell_wait)) as requests,
        JobProgress(Console(stderr=True), "searched") as progress,
    ):
        deduper = Deduper(images, requests.find, prefix=options.prefix)
        for _ in deduper.run(kafka, writer):
            said.clear()
            progress.show(deduper.searched + deduper.refused, total)
    left_out = f"; {deduper.refused:,} do not fit the index, as its log says" if deduper.refused else ""
    say(
        f"{deduper.searched:,} searched for, {deduper.compared:,} sent to be compared{left_out}: alerts come as the "
        "matcher finds duplicates"
        if deduper.searched or deduper.refused
        else "nothing to search for: no image was loaded silently since the last run"
    )
    return 0


def _say_counts(images: SilentImages, prefix: str) -> None:
    silent, unknown = (images.count(came, prefix) for came in (Came.SILENT, Came.UNKNOWN))
    say(f"{silent:,} of {len(images):,} images were loaded silently and not searched for yet")
    if unknown:
        say(f"of {unknown:,} more, from before an upgrade, the log says so when it is read")


def _reading() -> Callable[[int, int], None]:
    progress = SlowProgress(say)
    return lambda offset, end: progress.show(f"reading the state of the grouping stage, {100 * offset // end} %")
