"""The bridge's own view of the topics, kept in SQLite and followed on a thread."""

import logging
import sqlite3
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from aiohttp import web
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from http_bridge.background import RETRY_S, Background
from http_bridge.errors import HttpError, kafka_trouble
from http_bridge.view_file import ViewFile, ViewPart
from imagetools.errors import PrerequisiteMissing, RegistryAway
from streams.config import KafkaConfig
from streams.kafka.admin import end_offsets, reach
from streams.kafka.authorization import REFUSALS
from streams.kafka.clients import admin_client
from streams.kafka.errors import reason_of
from streams.kafka.follower import Follower
from streams.kafka.topic_facts import log_id, retention_ms

log = logging.getLogger(__name__)

POLL_S = 0.2
CHECK_EVERY_S = 60.0
"""How often to check whether a topic was deleted and created again, and to delete rows that the topics forgot."""

RETRY_AFTER = {"Retry-After": "2"}


class TopicView:
    """Follows the topics of its parts on a thread; any thread may query."""

    def __init__(self, kafka: KafkaConfig, folder: Path | None, parts: Sequence[ViewPart]) -> None:
        """folder: keeps the view across restarts; None: nothing does. ConfigError if it cannot be written."""
        self._kafka = kafka
        self._parts = parts
        self._topics = list({topic.name: topic for part in parts for topic in part.topics}.values())
        self._file = ViewFile(folder, parts)
        self._trouble = "the topics have not been read yet"
        self._kept_because = ""
        self._background = Background("reading the topics", self._follow)

    @property
    def trouble(self) -> str:
        """Why the view cannot be used, with the progress of reading; empty when it is up to date."""
        return self._background.fault or self._trouble

    @property
    def fault(self) -> str:
        """What went wrong on the thread; empty while it works."""
        return self._background.fault

    def start(self) -> None:
        """Begin to follow the topics."""
        self._background.start()

    def require_ready(self) -> None:
        """HttpError 503 while the view is not up to date."""
        if self.trouble:
            raise HttpError(503, self.trouble, RETRY_AFTER)

    def query(self, statement: str, values: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a SELECT; HttpError 503 if the file is damaged."""
        try:
            return self._file.query(statement, values)
        except sqlite3.DatabaseError as exc:
            raise HttpError(503, f"the topics are being read again: {exc}", RETRY_AFTER) from exc

    def delete_before(self, time: int) -> None:
        """Delete what is older than `time`, milliseconds since 1970, and no newest state."""
        self._file.delete_before(time)

    def close(self) -> None:
        """Stop the thread, and close the connections and the file."""
        self._background.close()
        self._file.close()

    # on the thread

    def _follow(self) -> None:
        try:
            self._read(reach(self._kafka))
        except sqlite3.DatabaseError as exc:
            self._trouble = "the topics are being read again"
            self._file.recreate(exc)
        except (PrerequisiteMissing, KafkaException, RegistryAway) as exc:
            trouble = kafka_trouble(self._kafka, exc)
            if trouble != self._trouble:
                log.warning("view of the topics: %s", trouble)
            self._trouble = trouble
            self._background.wait(RETRY_S)

    def _read(self, kafka: KafkaConfig) -> None:
        """Read until a topic is created again, or the bridge stops."""
        admin = admin_client(kafka)
        names = [kafka.topic(topic.name) for topic in self._topics]
        log_ids = {name: log_id(admin, name) for name in names}
        resume_at = self._file.resume(log_ids)
        follower = Follower(
            kafka, self._topics, from_beginning=True, resume_at=resume_at, patient=True, include_invalid=True
        )
        with closing(follower):
            ends = {(name, n): end for name in names for n, end in end_offsets(admin, name).items()}
            total = sum(end - follower.starts.get(place, 0) for place, end in ends.items())
            next_check, count = 0.0, 0
            while not self._background.closing:
                if time.monotonic() >= next_check:
                    next_check = time.monotonic() + CHECK_EVERY_S
                    if {name: log_id(admin, name) for name in names} != log_ids:
                        return
                    self._delete_expired(admin)
                count += self._take(follower)
                progress = f"{count:,} of about {max(total, count):,} messages"
                self._background.working()
                self._trouble = "" if follower.caught_up else f"the topics are being read: {progress}"

    def _take(self, follower: Follower) -> int:
        if self._file.damaged:
            raise sqlite3.DatabaseError("found while reading")
        live = follower.caught_up
        batch = list(follower.read(POLL_S))
        if batch:
            self._file.take(batch)
            for part in self._parts:
                part.committed([one for one in batch if one.topic in part.topics], live=live)
        return len(batch)

    def _delete_expired(self, admin: AdminClient) -> None:
        """Delete what is older than the topics' retention; a compacted topic has none."""
        names = [self._kafka.topic(topic.name) for topic in self._topics if "cleanup.policy" not in topic.config]
        try:
            retention = retention_ms(admin, names)
        except KafkaException as exc:
            # reading topic settings may not be permitted: keep everything
            words = f"what the topics have forgotten is kept, since their retention is not known: {reason_of(exc)}"
            if exc.args[0].code() in REFUSALS:
                words += "; DescribeConfigs on " + ", ".join(names) + " is missing"
            if words != self._kept_because:
                log.warning("%s", words)
            self._kept_because = words
            return
        if retention is not None:
            self.delete_before(int(time.time() * 1000) - retention)


TOPIC_VIEW = web.AppKey("topic_view", TopicView)
