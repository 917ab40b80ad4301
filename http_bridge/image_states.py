"""A view of the topics by image: the bridge's own, kept in SQLite and followed on a thread."""

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from aiohttp import web
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from http_bridge.errors import kafka_trouble
from http_bridge.image_state import ImageState, announced_state, image_state
from http_bridge.image_store import FOLLOWED, ImageStore
from imagetools.errors import PrerequisiteMissing, RegistryAway
from streams.config import KafkaConfig
from streams.kafka.admin import end_offsets, log_id, reach, retention_ms
from streams.kafka.clients import admin_client
from streams.kafka.follower import Follower

log = logging.getLogger(__name__)

POLL_S = 0.2
RETRY_S = 1.0
CHECK_EVERY_S = 60.0
"""How often to check whether a topic was deleted and created again, and to delete rows that the topics forgot."""


class ImageStates:
    """Follows the topics on a thread; the event loop asks for states.

    trouble  why no state is available, with the progress of reading; empty when the view is up to date
    """

    def __init__(self, kafka: KafkaConfig, folder: Path | None) -> None:
        """folder: keeps the view across restarts; None: nothing does. ConfigError if it cannot be written."""
        self._kafka = kafka
        self._store = ImageStore(folder)
        self._announcing: dict[str, tuple[int | None, int]] = {}
        self.trouble = "the states of the images have not been read yet"
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="image states")
        self._thread.start()

    @property
    def dead_letters(self) -> int:
        """How many messages were set aside, as far back as the topic goes."""
        return self._store.dead_letters

    @contextmanager
    def announcing(self, path: str, request_id: int | None) -> Iterator[None]:
        """Show an image as announced before the topic is read; forget it if the announcement fails.

        request_id  None: the image is removed
        """
        if self.trouble:
            yield
            return
        self._announcing[path] = request_id, int(time.time() * 1000)
        try:
            yield
        except BaseException:
            self._announcing.pop(path, None)
            raise

    def state(self, path: str) -> ImageState | None:
        """Return an image's state; None if nothing is known about it. sqlite3.DatabaseError."""
        row = self._store.row(path)
        announcing = self._announcing.get(path)
        if announcing is not None:
            request_id, announced = announcing
            return announced_state(path, request_id, announced, removed=request_id is None)
        return None if row is None else image_state(path, row, int(time.time() * 1000))

    def delete_before(self, time: int) -> None:
        """Delete what is older than `time`, milliseconds since 1970."""
        self._store.delete_before(time)

    def close(self) -> None:
        """Stop the thread, and close the connections and the file."""
        self._closing.set()
        self._thread.join()
        self._store.close()

    # on the thread

    def _follow(self) -> None:
        while not self._closing.is_set():
            try:
                self._read(reach(self._kafka))
            except sqlite3.DatabaseError as exc:
                self.trouble = "the states of the images are being read again"
                self._store.recreate(exc)
            except (PrerequisiteMissing, KafkaException, RegistryAway) as exc:
                trouble = kafka_trouble(self._kafka, exc)
                if trouble != self.trouble:
                    log.warning("states of the images: %s", trouble)
                self.trouble = trouble
                self._closing.wait(RETRY_S)

    def _read(self, kafka: KafkaConfig) -> None:
        """Read until a topic is created again, or the bridge stops."""
        admin = admin_client(kafka)
        names = [kafka.topic(topic.name) for topic in FOLLOWED]
        log_ids = {name: log_id(admin, name) for name in names}
        resume_at = self._store.resume(log_ids)
        follower = Follower(
            kafka, FOLLOWED, from_beginning=True, resume_at=resume_at, patient=True, include_invalid=True
        )
        with closing(follower):
            ends = {(name, n): end for name in names for n, end in end_offsets(admin, name).items()}
            total = sum(end - follower.starts.get(place, 0) for place, end in ends.items())
            next_check, count = 0.0, 0
            while not self._closing.is_set():
                if time.monotonic() >= next_check:
                    next_check = time.monotonic() + CHECK_EVERY_S
                    if {name: log_id(admin, name) for name in names} != log_ids:
                        return
                    self._delete_expired(admin, names)
                count += self._take(follower)
                progress = f"{count:,} of about {max(total, count):,} messages"
                reading = f"the states of the images are being read: {progress}"
                self.trouble = "" if follower.caught_up else reading

    def _take(self, follower: Follower) -> int:
        if self._store.damaged:
            raise sqlite3.DatabaseError("found while reading")
        batch = list(follower.read(POLL_S))
        for path in self._store.take(batch) if batch else ():
            self._announcing.pop(path, None)
        return len(batch)

    def _delete_expired(self, admin: AdminClient, names: list[str]) -> None:
        """Delete what is older than the topics' retention."""
        try:
            retention = retention_ms(admin, names)
        except KafkaException as exc:
            # reading topic settings may not be permitted: keep everything
            log.debug("the topics' retention is not known: %s", exc)
            return
        if retention is not None:
            self.delete_before(int(time.time() * 1000) - retention)


IMAGE_STATES = web.AppKey("image_states", ImageStates)
