"""Images by their path: announced, removed, what became of them, and small pictures of them."""

import asyncio
import io
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated
from urllib.parse import unquote_to_bytes

from aiohttp import web
from msgspec import Meta, Struct
from PIL import Image

from http_bridge import image_states
from http_bridge.bodies import read_json
from http_bridge.contracts import Path, Whole
from http_bridge.image_states import IMAGE_STATES
from http_bridge.refusals import Refusal, answered
from imagetools.decode import ImageRoot
from imagetools.errors import ImageError, ImageRootUnavailable, UnreadableImage
from imagetools.paths import require_path, require_utf8, shown
from schemas.codec import codec
from schemas.records import ImageNew
from streams.config import KafkaConfig
from streams.kafka.async_producer import Outbox
from streams.topics import IMAGES_NEW

log = logging.getLogger(__name__)

ROUTE = "/v1/images/"
PICTURES = "/v1/pictures/"
"""What stands before an image's path."""

SIDES = (64, 2048)
"""Least and largest longer side of a picture that is shown, pixels."""

DEFAULT_SIDE = 640
SHOWN_S = 300
"""How long a browser may keep a picture."""


class ImageBody(Struct, forbid_unknown_fields=True):
    """An image that is there now.

    request_id  the announcer's own number, which comes back in every record that follows; without it, the time in
                milliseconds
    alert       false: load it silently, compared with nothing
    """

    relative_path: Path
    request_id: Whole | None = None
    alert: bool = True


class Announced(Struct):
    """What the broker has taken."""

    relative_path: str
    request_id: int | None


class AnnounceAnswer(Struct):
    """The envelope of an announcement."""

    global_status: int
    error_message: str
    response: Announced


Side = Annotated[int, Meta(ge=SIDES[0], le=SIDES[1])]


class Images:
    """The folder of images, and the topic that they are announced on."""

    def __init__(self, kafka: KafkaConfig, root: ImageRoot, pool: ThreadPoolExecutor) -> None:
        self._topic = kafka.topic(IMAGES_NEW.name)
        self._encode = codec(kafka.registry).encode
        self._root = root
        self._pool = pool
        # one path's messages stay in order
        self._outbox = Outbox(kafka, enable_idempotence=True)

    async def require(self, relative_path: str) -> None:
        """Refuse a path that leads to no file. MissingImage, OutsideRoot, UnsupportedImage.

        Where the folder of images is not here, or this process may not look into it, the stages find out.
        """
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._pool, self._root.resolve, relative_path)
        except (ImageRootUnavailable, UnreadableImage) as exc:
            log.debug("whether it is there is not known here: %s", exc)

    async def announce(self, record: ImageNew) -> None:
        """Announce an image; returns when the broker has it. BrokerAway, RegistryAway."""
        await self._outbox.send(self._topic, self._encode(self._topic, record), record.relative_path.encode())

    async def remove(self, relative_path: str) -> None:
        """Announce that an image is gone. BrokerAway."""
        await self._outbox.send(self._topic, None, relative_path.encode())

    async def shown(self, relative_path: str, side: int) -> bytes:
        """A JPEG of at most `side` pixels. ImageError, ImageRootUnavailable."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._shown, relative_path, side)

    def close(self) -> None:
        """Let go of the connection."""
        self._outbox.close()

    def _shown(self, relative_path: str, side: int) -> bytes:
        image = self._root.open(relative_path, box=(side, side))
        image.thumbnail((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
        out = io.BytesIO()
        image.save(out, "JPEG", quality=82)
        return out.getvalue()


IMAGES = web.AppKey("images", Images)


async def announce(request: web.Request) -> web.Response:
    """POST /v1/images."""
    body = await read_json(request, ImageBody)
    path = _fit_for_a_message("relative_path", body.relative_path)
    number = int(time.time() * 1000) if body.request_id is None else body.request_id
    images = request.app[IMAGES]
    await images.require(path)
    with request.app[IMAGE_STATES].expecting(path, number):
        await images.announce(ImageNew(number, path, body.alert))
    return answered(AnnounceAnswer(1, "", Announced(path, number)), 202)


async def remove(request: web.Request) -> web.Response:
    """DELETE /v1/images/{path}."""
    path = _path_alone(request)
    with request.app[IMAGE_STATES].expecting(path, None):
        await request.app[IMAGES].remove(path)
    return answered(AnnounceAnswer(1, "", Announced(path, None)), 202)


async def state(request: web.Request) -> web.Response:
    """GET /v1/images/{path}: what became of it."""
    return await image_states.answer(request, _path_alone(request))


async def show(request: web.Request) -> web.Response:
    """GET /v1/pictures/{path}: never the file itself, always a picture made of it."""
    text = request.query.get("side", str(DEFAULT_SIDE))
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and SIDES[0] <= int(text) <= SIDES[1]):
        raise Refusal(422, f"side: a whole number from {SIDES[0]} to {SIDES[1]} is needed")
    data = await request.app[IMAGES].shown(path_in(request, PICTURES), int(text))
    keep = {"Cache-Control": f"private, max-age={SHOWN_S}"}
    return web.Response(body=data, content_type="image/jpeg", headers=keep)


def _path_alone(request: web.Request) -> str:
    """The image's path in an address that holds nothing else; Refusal 422."""
    if request.rel_url.raw_query_string:
        raise Refusal(422, "path: nothing is asked after a '?' here; one in a path is sent as %3F")
    return _fit_for_a_message("path", path_in(request, ROUTE))


def path_in(request: web.Request, route: str) -> str:
    """The image's path after `route` in a request's address, as it was before it was percent-encoded.

    Taken from the address as it came: every path that a JSON body can name can be named here. Refusal 422 where its
    bytes are no UTF-8.
    """
    try:
        return unquote_to_bytes(request.rel_url.raw_path.removeprefix(route)).decode()
    except UnicodeDecodeError as exc:
        raise Refusal(422, "path: its bytes are not valid UTF-8; a name that is not is to be changed") from exc


def _fit_for_a_message(field: str, path: str) -> str:
    try:
        require_path(shown(path), path)
        require_utf8(path)
    except ImageError as exc:
        raise Refusal(422, f"{field}: {exc}") from exc
    if not path.strip("/."):
        raise Refusal(422, f"{field}: {path!r} is no file's path")
    return path
