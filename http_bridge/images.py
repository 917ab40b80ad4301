"""Endpoints for one image by its path: announce it, remove it, get its state or a small picture of it."""

import asyncio
import hashlib
import io
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated
from urllib.parse import unquote_to_bytes

from aiohttp import web
from msgspec import Meta, Struct
from PIL import Image

from http_bridge.bodies import read_json
from http_bridge.contracts import ImagePath, Int64
from http_bridge.errors import HttpError
from http_bridge.image_state import ImageStateAnswer, iso_time
from http_bridge.image_states import IMAGE_STATES
from http_bridge.responses import json_response
from http_bridge.topic_view import TOPIC_VIEW, TopicView
from imagetools.errors import ImageError, ImageRootUnavailable, UnreadableImage
from imagetools.image_root import ImageRoot
from imagetools.paths import require_path, require_utf8, shown
from schemas.codec import codec
from schemas.metadata import metadata_problem
from schemas.records import ImageNew
from streams.config import KafkaConfig
from streams.kafka.async_producer import AsyncProducer
from streams.kafka.clients import ANNOUNCING
from streams.topics import IMAGES_NEW
from streams.traces.base import NO_TRACES, Traces

log = logging.getLogger(__name__)

IMAGES_ROUTE = "/v1/images/"
PICTURES_ROUTE = "/v1/pictures/"
"""URL prefixes, followed by the image's path."""

MIN_SIDE, DEFAULT_SIDE, MAX_SIDE = 64, 640, 2048
"""Limits and default of a picture's longer side, pixels."""

JPEG_QUALITY = 82
MAX_AGE_S = 300
"""How long a browser may cache a picture."""


MetadataName = Annotated[str, Meta(min_length=1)]


class ImageBody(Struct, forbid_unknown_fields=True):
    """An image to announce.

    request_id  the producer's own number, which every record about the image repeats; the time in milliseconds if
                it is missing
    alert       false: add the image silently, without a comparison
    metadata    names and values of your own, at most 4,096 bytes, which come back in alerts and groups
    """

    relative_path: ImagePath
    request_id: Int64 | None = None
    alert: bool = True
    metadata: dict[MetadataName, str] = {}


class Announcement(Struct):
    """An announcement that Kafka has stored."""

    relative_path: str
    request_id: int | None


class AnnounceAnswer(Struct):
    """The envelope of an announcement."""

    global_status: int
    error_message: str
    response: Announcement


class Images:
    """Announces and removes images on their topic, and renders pictures from their folder."""

    def __init__(
        self, kafka: KafkaConfig, root: ImageRoot, pool: ThreadPoolExecutor, *, traces: Traces = NO_TRACES
    ) -> None:
        self._topic = kafka.topic(IMAGES_NEW.name)
        self._encode = codec(kafka.registry).encode
        self._root = root
        self._pool = pool
        self._producer = AsyncProducer(kafka, traces=traces, **ANNOUNCING)

    async def require(self, relative_path: str) -> None:
        """Check that a path leads to a file. MissingImage, OutsideRoot, UnsupportedImage.

        If this process cannot see the folder of images, the check is left to the stages.
        """
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._pool, self._root.status, relative_path)
        except (ImageRootUnavailable, UnreadableImage) as exc:
            log.debug("cannot check whether the file exists: %s", exc)

    async def announce(self, record: ImageNew) -> None:
        """Announce an image; return once Kafka has stored the message. BrokerAway, RegistryAway."""
        await self._producer.send(self._topic, self._encode(self._topic, record), record.relative_path.encode())

    async def remove(self, relative_path: str) -> None:
        """Announce that an image is removed. BrokerAway."""
        await self._producer.send(self._topic, None, relative_path.encode())

    async def picture(self, relative_path: str, side: int) -> bytes:
        """Render a JPEG with sides of at most `side` pixels. ImageError, ImageRootUnavailable."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._render, relative_path, side)

    async def modified(self, relative_paths: Sequence[str]) -> list[str | None]:
        """Return when each file was changed last, ISO 8601; None where this process cannot see it."""
        loop = asyncio.get_running_loop()
        # a store takes a while for each
        times = (loop.run_in_executor(self._pool, self._modified, path) for path in relative_paths)
        return await asyncio.gather(*times)

    async def digest(self, relative_path: str) -> bytes:
        """Return the SHA-256 of a file's bytes. ImageError, ImageRootUnavailable."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: hashlib.sha256(self._root.read(relative_path)).digest())

    def close(self) -> None:
        """Close the producer."""
        self._producer.close()

    def _modified(self, relative_path: str) -> str | None:
        try:
            time = self._root.status(relative_path).modified
        except (ImageError, ImageRootUnavailable, OSError) as exc:
            log.debug("the time of a file is not known: %s", exc)
            return None
        return None if time is None else iso_time(int(time.timestamp() * 1000))

    def _render(self, relative_path: str, side: int) -> bytes:
        image = self._root.open(relative_path, box=(side, side))
        image.thumbnail((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
        out = io.BytesIO()
        image.save(out, "JPEG", quality=JPEG_QUALITY)
        return out.getvalue()


IMAGES = web.AppKey("images", Images)


async def announce(request: web.Request) -> web.Response:
    """Handle POST /v1/images."""
    body = await read_json(request, ImageBody)
    path = _require_sendable("relative_path", body.relative_path)
    if problem := metadata_problem(body.metadata):
        raise HttpError(422, f"metadata: {problem}")
    number = int(time.time() * 1000) if body.request_id is None else body.request_id
    images = request.app[IMAGES]
    await images.require(path)
    record = ImageNew(number, path, body.alert, body.metadata)
    with request.app[IMAGE_STATES].announcing(path, record):
        await images.announce(record)
    return json_response(AnnounceAnswer(1, "", Announcement(path, number)), 202)


async def remove(request: web.Request) -> web.Response:
    """Handle DELETE /v1/images/{path}."""
    path = _path_without_query(request)
    with request.app[IMAGE_STATES].announcing(path, None):
        await request.app[IMAGES].remove(path)
    return json_response(AnnounceAnswer(1, "", Announcement(path, None)), 202)


async def state(request: web.Request) -> web.Response:
    """Handle GET /v1/images/{path}. HttpError 404 if nothing is known about it, 503 while the topics are being read."""
    path = _path_without_query(request)
    request.app[TOPIC_VIEW].require_ready()
    found = await asyncio.to_thread(request.app[IMAGE_STATES].state, path)
    if found is None:
        raise HttpError(404, f"path: {path} has not been announced, as far back as the topics go")
    if found.state != "removed":
        found.group = await asyncio.to_thread(group_of, request.app[TOPIC_VIEW], path)
    return json_response(ImageStateAnswer(1, "", found))


def group_of(view: TopicView, path: str) -> str:
    """Return the id of the group that an image is in; empty where it is in none."""
    return next((group for (group,) in view.query("SELECT group_id FROM members WHERE path = ?", [path])), "")


async def picture(request: web.Request) -> web.Response:
    """Handle GET /v1/pictures/{path}: a new JPEG, never the file itself."""
    text = request.query.get("side", str(DEFAULT_SIDE))
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and MIN_SIDE <= int(text) <= MAX_SIDE):
        raise HttpError(422, f"side: a whole number from {MIN_SIDE} to {MAX_SIDE} is needed")
    data = await request.app[IMAGES].picture(image_path(request, PICTURES_ROUTE), int(text))
    headers = {"Cache-Control": f"private, max-age={MAX_AGE_S}"}
    return web.Response(body=data, content_type="image/jpeg", headers=headers)


def _path_without_query(request: web.Request) -> str:
    """Return the image's path; HttpError 422 if the URL has a query."""
    if request.rel_url.raw_query_string:
        raise HttpError(422, "path: this URL has no query; a '?' in a path is sent as %3F")
    return _require_sendable("path", image_path(request, IMAGES_ROUTE))


def image_path(request: web.Request, route: str) -> str:
    """Decode the image's path, which follows `route` in the URL. HttpError 422 if it is not UTF-8.

    The raw URL is decoded, so that it can name every path that a JSON body can.
    """
    try:
        return unquote_to_bytes(request.rel_url.raw_path.removeprefix(route)).decode()
    except UnicodeDecodeError as exc:
        raise HttpError(422, "path: it is not valid UTF-8; rename the file") from exc


def _require_sendable(field: str, path: str) -> str:
    try:
        require_path(shown(path), path)
        require_utf8(path)
    except ImageError as exc:
        raise HttpError(422, f"{field}: {exc}") from exc
    if not path.strip("/."):
        raise HttpError(422, f"{field}: {path!r} is not the path of a file")
    return path
