"""The states of the announced images, from the view of the topics and the bridge's own announcements."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from http_bridge.image_state import ImageState, announced_state, image_state
from http_bridge.image_tables import SELECT_ROW, ImageTables, image_row
from http_bridge.topic_view import TopicView
from schemas.records import ImageNew


class ImageStates:
    """The state of each image; an announcement of the bridge counts before it is read from its topic."""

    def __init__(self, view: TopicView, tables: ImageTables) -> None:
        """tables: a part of the view."""
        self._view = view
        self._tables = tables

    @property
    def dead_letters(self) -> int:
        """How many messages were set aside, as far back as the topic goes."""
        return self._tables.dead_letters

    @contextmanager
    def announcing(self, path: str, record: ImageNew | None) -> Iterator[None]:
        """Show an image as announced before the topic is read; forget it if the announcement fails.

        record  None: the image is removed
        """
        if self._view.trouble:
            yield
            return
        self._tables.announcing[path] = record, int(time.time() * 1000)
        try:
            yield
        except BaseException:
            self._tables.announcing.pop(path, None)
            raise

    def state(self, path: str) -> ImageState | None:
        """Return an image's state; None if nothing is known about it. HttpError 503 if the view is damaged."""
        rows = self._view.query(SELECT_ROW, [path])
        announcing = self._tables.announcing.get(path)
        if announcing is not None:
            record, announced = announcing
            return announced_state(path, announced, record)
        return image_state(path, image_row(rows[0]), int(time.time() * 1000)) if rows else None


IMAGE_STATES = web.AppKey("image_states", ImageStates)
