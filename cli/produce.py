"""`imagetools produce`: announce images and, on request, wait for their verdicts."""

import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field

import click
import msgspec
from rich.console import Console

from cli.announcing.announce import Announcer
from cli.announcing.encoder_progress import EncoderProgress
from cli.announcing.follow_bucket import follow_bucket
from cli.announcing.pending_verdicts import PendingVerdicts
from cli.announcing.sources import IMAGES_READER, NamedImage, Sources, root_of
from cli.job_progress import JobProgress
from cli.standard_error import say
from cli.troubles import Troubles
from imagetools.errors import ConfigError, ImageToolsError
from imagetools.folder import LEADS_OUT, UNLISTABLE, UNUSABLE_NAME, Skipped, Tally
from imagetools.image_root import ImageRoot
from imagetools.paths import shown
from schemas.records import StageState
from streams.config import KafkaConfig
from streams.exit_codes import EXIT_INTERRUPTED, EXIT_REFUSED
from streams.kafka.admin import require_topics
from streams.topics import IMAGES_NEW
from streams.traces.base import NO_TRACES, Traces
from streams.watching.states import StateFollower, absent

MAX_REFUSALS = 5
"""Maximum number of lines about refused paths; the rest are counted."""

CANNOT_BE = (UNUSABLE_NAME, LEADS_OUT, UNLISTABLE)
"""Kinds of skipped files that may be images."""

STARTING_S = 5.0
"""Time from an encoder's start to its first state."""

EXIT_DEAD_LETTERS = 3
"""All images have a verdict, and some could not be read."""

NO_ENCODER = "no encoder runs: it waits in images.new until one does"

EVERY_S = 10.0


@dataclass(frozen=True)
class ProduceOptions:
    """What to announce, and how.

    source    a folder, an image, a text file with an image on each line, or - for such lines from standard input
    given     IMAGES_DIR, if it is set
    private   IMAGES_PRIVATE
    wait      for the verdicts, and print them
    as_lines  print them as JSON
    progress  with `no_alert`: show how far the encoders are, until they have done all
    metadata  of all images
    """

    source: str
    given: str | None = None
    private: bool = False
    no_alert: bool = False
    remove: bool = False
    wait: bool = False
    as_lines: bool = False
    progress: bool = True
    metadata: Mapping[str, str] = field(default_factory=dict)


def produce(kafka: KafkaConfig, options: ProduceOptions, traces: Traces = NO_TRACES) -> int:
    """Announce the images; return the exit code. ImageToolsError if nothing can be announced."""
    require_topics(kafka, IMAGES_NEW)
    announcer = Announcer(kafka, traces=traces)
    if not options.remove:
        # first: without its registry, what the encoders say of their folder cannot be read either
        announcer.check_registry()
    with closing(StateFollower(kafka)) as states:
        known = states.now() if options.given else _with_encoder(states)
        root = root_of(options.given, known)
        if root is None:
            say("the service's place of images is not known here: paths are taken as they are; --images-dir names it")
        refused = RefusedPaths()
        sources = Sources(root, gone=options.remove, metadata=options.metadata, private=options.private)
        if options.source == "-":
            images = sources.lines(sys.stdin.buffer, on_refused=refused.note)
        else:
            images = sources.paths(
                options.source,
                on_refused=refused.note,
                on_skipped=refused.skip,
                on_list=lambda: say(f"{shown(options.source)} is read as a list: each line names an image"),
            )
        if options.wait:
            with closing(PendingVerdicts(kafka)) as pending:
                _announce(announcer, images, options, refused, pending)
                return _await(pending, states, options, refused.code)
        if options.no_alert and options.progress:
            with JobProgress(Console(stderr=True), "encoded") as bar, closing(EncoderProgress(kafka, bar)) as progress:
                count = _announce(announcer, images, options, refused, progress=progress)
                return _follow(progress, states, refused.code) if count else refused.code
        if _announce(announcer, images, options, refused) and not options.remove and IMAGES_READER in absent(known):
            say(NO_ENCODER)
        return refused.code


def follow(
    kafka: KafkaConfig,
    topic: str,
    given: str | None,
    private: bool,
    alert: bool,
    metadata: Mapping[str, str],
    traces: Traces = NO_TRACES,
) -> None:
    """Announce what a bucket's notifications tell, until Ctrl-C. ConfigError where the bucket is not known."""
    require_topics(kafka, IMAGES_NEW)
    with closing(StateFollower(kafka)) as states:
        root = root_of(given, states.now() if given else _with_encoder(states))
    if root is None:
        raise ConfigError("--from-topic: no encoder says where images are; name the bucket by IMAGES_DIR")
    images = ImageRoot(root, private=private)
    follow_bucket(kafka, topic, str(root), alert=alert, metadata=metadata, images=images, traces=traces)


def _with_encoder(states: StateFollower) -> list[StageState]:
    """Return the states of all processes; if there is no encoder, wait for one that is starting."""
    deadline = time.monotonic() + STARTING_S
    while IMAGES_READER in absent(known := states.now(0.2)) and time.monotonic() < deadline:
        continue
    return known


@dataclass
class RefusedPaths:
    """Counts paths that cannot be announced, and names the first ones.

    passed  what else a folder holds: files that are no images, or none that are read
    """

    count: int = 0
    passed: Tally = field(default_factory=Tally)

    def skip(self, skipped: Skipped) -> None:
        """Add something in a folder that is not announced."""
        if skipped.kind in CANNOT_BE:
            self.note(skipped)
        else:
            self.passed.add(skipped)

    def note(self, error: ImageToolsError | Skipped) -> None:
        """Add a refused path."""
        self.count += 1
        if self.count <= MAX_REFUSALS:
            say(f"not announced: {error}")

    def close(self) -> None:
        """Print the number of those that were not named."""
        if self.count > MAX_REFUSALS:
            say(f"not announced: {self.count - MAX_REFUSALS:,} more")
        if self.passed.counts:
            say(str(self.passed))

    @property
    def code(self) -> int:
        """The exit code."""
        return EXIT_REFUSED if self.count else 0


def _announce(
    announcer: Announcer,
    images: Iterable[NamedImage],
    options: ProduceOptions,
    refused: RefusedPaths,
    pending: PendingVerdicts | None = None,
    progress: EncoderProgress | None = None,
) -> int:
    # the time tells this run's announcements from those of all others
    first = int(time.time() * 1000)
    alert = not options.no_alert and not options.remove
    if pending:
        count = announcer.announce(images, alert=alert, first=first, on_announced=pending.expect)
    elif progress:
        count = announcer.announce(
            images, alert=alert, first=first, on_announced=progress.announcing, on_delivered=progress.delivered
        )
    else:
        count = announcer.announce(images, alert=alert, gone=options.remove, first=first)
    refused.close()
    if not count and not refused.count:
        empty = "no path came" if options.source == "-" else f"no image in {shown(options.source)}"
        say(f"nothing to announce: {empty}")
    else:
        gone = " as gone; it is not checked whether the service knows " if options.remove else ""
        gone += ("it" if count == 1 else "them") if gone else ""
        say(f"{count:,} {'image' if count == 1 else 'images'} announced{gone}")
    return count


def _await(pending: PendingVerdicts, states: StateFollower, options: ProduceOptions, code: int) -> int:
    """Print each verdict as it arrives, until all have; return the exit code."""
    said = WaitingMessages(pending)
    try:
        while pending.open:
            for decided in pending.read(0.2):
                if options.as_lines:
                    sys.stdout.buffer.write(msgspec.json.encode(decided) + b"\n")
                    sys.stdout.buffer.flush()
                else:
                    click.echo(decided.in_words())
            said.tell(states.now())
    except KeyboardInterrupt:
        say(f"interrupted: {pending.open:,} of {pending.expected:,} have no verdict yet; they stay announced")
        return EXIT_INTERRUPTED
    if pending.dead:
        say(f"{pending.dead:,} of {pending.expected:,} could not be used")
        return code or EXIT_DEAD_LETTERS
    return code


def _follow(progress: EncoderProgress, states: StateFollower, code: int) -> int:
    """Return the exit code when the encoders have done everything, or at once where none runs."""
    if IMAGES_READER in absent(states.now()):
        say(NO_ENCODER)
        return code
    troubles = Troubles()
    try:
        progress.follow(lambda: troubles.tell(states.now(0.2)))
    except KeyboardInterrupt:
        left = progress.announced - progress.done
        say(f"interrupted: {left:,} of {progress.announced:,} are not encoded yet; they stay announced")
        return EXIT_INTERRUPTED
    say(f"the encoders have done {'it' if progress.done == 1 else f'all {progress.done:,}'}")
    return code


@dataclass
class WaitingMessages:
    """Prints troubles when they begin, and the number of open verdicts every EVERY_S."""

    pending: PendingVerdicts
    _troubles: Troubles = field(default_factory=Troubles)
    _due: float = field(default_factory=lambda: time.monotonic() + EVERY_S)

    def tell(self, states: list[StageState]) -> None:
        """Print what is new."""
        if not self.pending.open:
            return
        self._troubles.tell(states)
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + EVERY_S
            say(f"waiting for {self.pending.open:,} of {self.pending.expected:,} verdicts")
