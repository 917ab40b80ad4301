"""POST /v1/duplicates: an image of the client's, which duplicates it has, and why. It is stored nowhere."""

import asyncio
import hashlib
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, ParamSpec, TypeVar

from aiohttp import web
from msgspec import Meta, Struct
from PIL import Image

from http_bridge.bodies import read_body
from http_bridge.contracts import Share
from http_bridge.forms import file_in
from http_bridge.refusals import Refusal, answered
from http_bridge.stages import STAGES, Stages
from imagetools.decode import ORIGINAL_SIZE, DecodeConfig, decode
from schemas.records import Duplicate, EncodeRequest, MatchRequest, SearchRequest

P = ParamSpec("P")
T = TypeVar("T")

UPLOAD = DecodeConfig(max_bytes=20 * 2**20, max_pixels=50_000_000)
"""What an upload may cost: bytes of the file, pixels as its header says."""

AROUND_FILE = 2**16
"""Bytes that a form may have around its file."""

SENT_SIDE = 1024
"""Longer side of what the stages get of it, pixels: they look at 160 at most."""

SENT_BYTES = 600_000
"""Most that they get, so that it fits one message."""


class Evidence(Struct):
    """A duplicate, and what tells that it is one.

    points  at most 64 pairs of matching points: x, y in the upload, x, y in this image, each in [0, 1]
    """

    relative_path: str
    score: Share
    inliers: int
    agreement: float
    mirrored: bool
    scale: float
    angle: float
    coverage_candidate: float
    coverage_neighbor: float
    edit: str
    points: list[Annotated[list[float], Meta(min_length=4, max_length=4)]]


class Duplicated(Struct):
    """The duplicates of an upload, best first.

    model  what made its fingerprint
    """

    duplicated: list[Evidence]
    model: str


class DuplicatesAnswer(Struct):
    """The envelope; error_message names neighbors that were left out."""

    global_status: int
    error_message: str
    response: Duplicated


@dataclass(frozen=True)
class Upload:
    """What the stages get of an upload.

    digest  SHA-256 of the bytes as they came
    size    (width, height) of the image as it came, pixels
    """

    image: bytes
    digest: bytes
    size: tuple[int, int]


class Uploads:
    """Reads and shrinks uploads; `neighbors` of each are looked at, in distinct fingerprints."""

    def __init__(self, pool: ThreadPoolExecutor, neighbors: int) -> None:
        self._pool = pool
        self.neighbors = neighbors

    async def receive(self, request: web.Request) -> bytes:
        """The file in a body, or in a form. Refusal."""
        if request.content_type != "multipart/form-data":
            return await read_body(request, UPLOAD.max_bytes)
        body = await read_body(request, UPLOAD.max_bytes + AROUND_FILE)
        file = await self._work(file_in, request.headers["Content-Type"], body)
        if len(file) > UPLOAD.max_bytes:
            raise Refusal(413, f"image: {len(file):,} bytes, the limit is {UPLOAD.max_bytes:,}")
        return file

    async def prepare(self, data: bytes) -> Upload:
        """What the stages get of a file. ImageError."""
        return await self._work(prepare, data)

    async def _work(self, work: Callable[P, T], *args: P.args, **_: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *args)


UPLOADS = web.AppKey("uploads", Uploads)


async def duplicates(request: web.Request) -> web.Response:
    """POST /v1/duplicates."""
    stages: Stages = request.app[STAGES]
    uploads = request.app[UPLOADS]
    # only a body that is there takes a place
    data = await uploads.receive(request)
    with stages.place():
        upload = await uploads.prepare(data)
        encoded = await stages.ask_on(EncodeRequest, "image", image=upload.image)
        searched = await stages.ask_on(
            SearchRequest,
            "image",
            fingerprint=encoded.fingerprint,
            nb_neighbors=uploads.neighbors,
            digest=upload.digest,
            model=encoded.model,
            parts=encoded.parts,
        )
        same = [n.relative_path for n in searched.neighbors if n.identical]
        other = tuple(n.relative_path for n in searched.neighbors if not n.identical)
        found = [Duplicate(path, 1.0, 0, 1.0, False, 1.0, 0.0, 1.0, 1.0, "the same file") for path in same]
        said = ""
        if other:
            width, height = upload.size
            matched = await stages.ask_on(
                MatchRequest,
                "image",
                image=upload.image,
                neighbors=other,
                original_width=width,
                original_height=height,
            )
            found += matched.duplicated
            said = matched.error_message
    return answered(DuplicatesAnswer(1, said, Duplicated([_evidence(one) for one in found], encoded.model)))


def prepare(data: bytes) -> Upload:
    """An image file's bytes as the stages get them: small enough for a message. ImageError."""
    digest = hashlib.sha256(data).digest()
    image = decode(data, "the image", box=(SENT_SIDE, SENT_SIDE), config=UPLOAD)
    size = image.info.get(ORIGINAL_SIZE, image.size)
    if max(image.size) <= SENT_SIDE and len(data) <= SENT_BYTES:
        # as it came: another compression would only take something away
        return Upload(data, digest, size)
    image.thumbnail((SENT_SIDE, SENT_SIDE), Image.Resampling.LANCZOS)
    while True:
        for quality in (92, 80, 60):
            out = io.BytesIO()
            image.save(out, "JPEG", quality=quality)
            if out.tell() <= SENT_BYTES:
                return Upload(out.getvalue(), digest, size)
        image = image.reduce(2)


def _evidence(one: Duplicate) -> Evidence:
    return Evidence(
        one.relative_path,
        min(1.0, max(0.0, one.score)),
        one.inliers,
        one.agreement,
        one.mirrored,
        one.scale,
        one.angle,
        one.coverage_candidate,
        one.coverage_neighbor,
        one.edit,
        [list(point) for point in one.points],
    )
