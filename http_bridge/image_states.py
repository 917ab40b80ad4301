"""GET /v1/images/{path}: what became of an announced image, from a view of the topics that this bridge keeps."""

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import web
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from msgspec import Struct

from http_bridge.image_store import FOLLOWED, ImageStore, Known
from http_bridge.refusals import Refusal, answered
from imagetools.errors import PrerequisiteMissing, RegistryAway
from schemas.records import VerdictOutcome
from streams.config import KafkaConfig
from streams.kafka.follower import Follower, missing, reach
from streams.topics import end_offsets, log_id, retention_ms

log = logging.getLogger(__name__)

RETRY_S = 1.0
LOOK_EVERY_S = 60.0
"""How often to look whether a topic was deleted and made again, and what is older than it is kept there."""

SKEW_MS = 1000
"""By how much the clock of an announcer may be ahead of a stage's."""

TOGETHER_MS = 5000
"""A verdict and its alert are committed together; for so long the one may be known without the other."""


class FoundDuplicate(Struct):
    """An image that the announced one duplicates."""

    relative_path: str
    score: float
    edit: str


class ImageState(Struct):
    """What became of the newest announcement of an image.

    state       waiting, clear, duplicate, dead_letter or removed
    request_id  that it was announced with; null where that is not known, and of a removal
    announced   when; null where the announcement is no longer kept
    decided     when the verdict was reached; null where there is none
    duplicated  earlier images that show the same picture
    reason      of a dead letter
    """

    relative_path: str
    state: str
    request_id: int | None = None
    announced: str | None = None
    decided: str | None = None
    duplicated: list[FoundDuplicate] = []
    reason: str = ""


class ImageStateAnswer(Struct):
    """The envelope of an image's state."""

    global_status: int
    error_message: str
    response: ImageState


class ImageStates:
    """Follows the topics on a thread of its own; asked on the event loop.

    trouble  why nothing can be said at the moment, and how far the view is; empty where it is up to date
    """

    def __init__(self, kafka: KafkaConfig, folder: Path | None) -> None:
        """folder: where the view outlives this process; None: nowhere. ConfigError where it cannot be written."""
        self._kafka = kafka
        self._store = ImageStore(folder)
        self._expected: dict[str, tuple[int | None, int]] = {}
        self.trouble = "what became of the images has not been read yet"
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="image states")
        self._thread.start()

    @property
    def dead_letters(self) -> int:
        """How many messages have been set aside, as far as the topic goes back."""
        return self._store.dead_letters

    @contextmanager
    def expecting(self, path: str, request_id: int | None) -> Iterator[None]:
        """While an image is announced by this bridge, so that it is known of before the topic is read."""
        if self.trouble:
            yield
            return
        self._expected[path] = request_id, int(time.time() * 1000)
        try:
            yield
        except BaseException:
            self._expected.pop(path, None)
            raise

    def state(self, path: str) -> ImageState | None:
        """What became of an image; None where nothing is known of it. sqlite3.DatabaseError."""
        known = self._store.known(path)
        expected = self._expected.get(path)
        if expected is not None:
            request_id, announced = expected
            gone = request_id is None
            return ImageState(path, "removed" if gone else "waiting", request_id, _time(announced))
        return None if known is None else _state(path, known, int(time.time() * 1000))

    def close(self) -> None:
        """Let go of the topics and the file."""
        self._closing.set()
        self._thread.join()
        self._store.close()

    # on the thread

    def _follow(self) -> None:
        while not self._closing.is_set():
            try:
                self._read(reach(self._kafka))
            except sqlite3.DatabaseError as exc:
                self.trouble = "what became of the images is read again"
                self._store.renew(exc)
            except (PrerequisiteMissing, KafkaException, RegistryAway) as exc:
                said = missing(self._kafka, exc) if isinstance(exc, KafkaException) else exc
                if str(said) != self.trouble:
                    log.warning("what became of the images: %s", said)
                self.trouble = str(said)
                self._closing.wait(RETRY_S)

    def _read(self, kafka: KafkaConfig) -> None:
        """Until a topic was deleted and made again, or the bridge stops."""
        admin = AdminClient(kafka.client())
        names = [kafka.topic(topic.name) for topic in FOLLOWED]
        logs = {name: log_id(admin, name) for name in names}
        goes_on = self._store.begin(logs)
        follower = Follower(kafka, FOLLOWED, from_beginning=True, goes_on=goes_on, patient=True, whole=True)
        with closing(follower):
            ends = {(name, n): end for name in names for n, end in end_offsets(admin, name).items()}
            total = sum(end - follower.starts.get(place, 0) for place, end in ends.items())
            due, taken = 0.0, 0
            while not self._closing.is_set():
                if time.monotonic() >= due:
                    due = time.monotonic() + LOOK_EVERY_S
                    if {name: log_id(admin, name) for name in names} != logs:
                        return
                    self._forget(admin, names)
                taken += self._take(follower)
                reading = f"what became of the images is being read: {taken:,} of about {max(total, taken):,} messages"
                self.trouble = "" if follower.caught_up else reading

    def _take(self, follower: Follower) -> int:
        if self._store.damaged:
            raise sqlite3.DatabaseError("found while reading")
        batch = list(follower.read(0.2))
        for path in self._store.take(batch) if batch else ():
            self._expected.pop(path, None)
        return len(batch)

    def _forget(self, admin: AdminClient, names: list[str]) -> None:
        """Let go of what is older than anything that the topics keep."""
        try:
            kept = retention_ms(admin, names)
        except KafkaException as exc:
            # the right to describe settings may be withheld: then all is kept
            log.debug("for how long the topics keep messages is not known: %s", exc)
            return
        if kept is not None:
            self._store.forget(int(time.time() * 1000) - kept)


def _state(path: str, known: Known, now: int) -> ImageState:
    if known.gone:
        return ImageState(path, "removed", None, _time(known.announced))
    decided = known.decided is not None and (
        known.announced is None or (known.decided_id == known.request_id and known.decided >= known.announced - SKEW_MS)
    )
    if not decided:
        return ImageState(path, "waiting", known.request_id, _time(known.announced))
    found: list[FoundDuplicate] = []
    if known.outcome == VerdictOutcome.DUPLICATE:
        if known.alerted_id == known.decided_id and abs((known.alerted or 0) - (known.decided or 0)) < TOGETHER_MS:
            found = [FoundDuplicate(*one) for one in known.duplicated]
        elif now - (known.decided or 0) < TOGETHER_MS:
            return ImageState(path, "waiting", known.request_id, _time(known.announced))
    times = _time(known.announced), _time(known.decided)
    return ImageState(path, known.outcome or "", known.decided_id, *times, found, known.reason or "")


def _time(milliseconds: int | None) -> str | None:
    if milliseconds is None:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")


IMAGE_STATES = web.AppKey("image_states", ImageStates)


async def answer(request: web.Request, path: str) -> web.Response:
    """The state of an image. Refusal 404 where nothing is known of it, 503 while the topics are being read."""
    states = request.app[IMAGE_STATES]
    if states.trouble:
        raise Refusal(503, states.trouble, {"Retry-After": "2"})
    try:
        found = await asyncio.to_thread(states.state, path)
    except sqlite3.DatabaseError as exc:
        raise Refusal(503, f"what became of the images is read again: {exc}", {"Retry-After": "2"}) from exc
    if found is None:
        raise Refusal(404, f"path: {path} has not been announced, as far as the topics go back")
    return answered(ImageStateAnswer(1, "", found))
