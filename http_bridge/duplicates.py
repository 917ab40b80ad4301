"""POST /v1/duplicates: finds the duplicates of an uploaded image, with the evidence. The image is not stored."""

import asyncio
import hashlib
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from aiohttp import web
from msgspec import Struct
from PIL import Image

from http_bridge.bodies import read_body
from http_bridge.errors import HttpError
from http_bridge.evidence import DuplicateEvidence, SimilarEvidence, duplicate_evidence, similar_evidence
from http_bridge.forms import extract_file
from http_bridge.responses import json_response
from http_bridge.stage_client import STAGE_CLIENT
from imagetools.decode import ORIGINAL_SIZE, DecodeConfig, decode
from schemas.records import Duplicate, EncodeRequest, MatchRequest, SearchRequest, Similar

P = ParamSpec("P")
T = TypeVar("T")

UPLOAD = DecodeConfig(max_bytes=20 * 2**20, max_pixels=50_000_000)
"""Limits of an upload: bytes of the file, pixels by its header."""

FORM_OVERHEAD_BYTES = 2**16
"""What a form may have around its file."""

MAX_SENT_SIDE = 1024
"""Longer side of the image that the stages receive, pixels; they use 160 at most."""

MAX_SENT_BYTES = 600_000
"""Of the image that the stages receive, so that it fits into one message."""

JPEG_QUALITIES = (92, 80, 60)


class UploadDuplicates(Struct):
    """The duplicates of an upload, best first.

    model    of the upload's fingerprint
    similar  images that are alike and no duplicates, at most 16
    """

    duplicated: list[DuplicateEvidence]
    model: str
    similar: list[SimilarEvidence]


class DuplicatesAnswer(Struct):
    """The envelope; error_message names neighbors that could not be read."""

    global_status: int
    error_message: str
    response: UploadDuplicates


@dataclass(frozen=True)
class Upload:
    """An upload as the stages receive it.

    digest  SHA-256 of the original bytes
    size    (width, height) of the original image, pixels
    """

    image: bytes
    digest: bytes
    size: tuple[int, int]


class Uploads:
    """Reads and shrinks uploads on a pool of threads.

    neighbors  how many distinct fingerprints to compare with each upload
    """

    def __init__(self, pool: ThreadPoolExecutor, neighbors: int) -> None:
        self._pool = pool
        self.neighbors = neighbors

    async def receive(self, request: web.Request) -> bytes:
        """Read the file from a body, or from a form in it. HttpError."""
        if request.content_type != "multipart/form-data":
            return await read_body(request, UPLOAD.max_bytes)
        body = await read_body(request, UPLOAD.max_bytes + FORM_OVERHEAD_BYTES)
        file = await self._run(extract_file, request.headers["Content-Type"], body)
        if len(file) > UPLOAD.max_bytes:
            raise HttpError(413, f"image: {len(file):,} bytes, the limit is {UPLOAD.max_bytes:,}")
        return file

    async def prepare(self, data: bytes) -> Upload:
        """Decode and shrink a file. ImageError."""
        return await self._run(prepare, data)

    async def _run(self, work: Callable[P, T], *args: P.args, **_: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *args)


UPLOADS = web.AppKey("uploads", Uploads)


async def duplicates(request: web.Request) -> web.Response:
    """Handle POST /v1/duplicates."""
    stages = request.app[STAGE_CLIENT]
    uploads = request.app[UPLOADS]
    # an upload takes a slot only once it has arrived
    data = await uploads.receive(request)
    with stages.slot():
        upload = await uploads.prepare(data)
        encoded = await stages.request_in_slot(EncodeRequest, "image", image=upload.image)
        searched = await stages.request_in_slot(
            SearchRequest,
            "image",
            fingerprint=encoded.fingerprint,
            nb_neighbors=uploads.neighbors,
            digest=upload.digest,
            model=encoded.model,
            parts=encoded.parts,
            codes=encoded.codes,
        )
        same = [n.relative_path for n in searched.neighbors if n.identical]
        other = tuple(n.relative_path for n in searched.neighbors if not n.identical)
        found = [
            Duplicate(path, 1.0, 0, 1.0, False, 1.0, 0.0, 1.0, 1.0, "the same file", relation="identical")
            for path in same
        ]
        similar: tuple[Similar, ...] = ()
        error_message = ""
        if other:
            width, height = upload.size
            matched = await stages.request_in_slot(
                MatchRequest,
                "image",
                image=upload.image,
                neighbors=other,
                original_width=width,
                original_height=height,
            )
            found += matched.duplicated
            similar = matched.similar
            error_message = matched.error_message
    result = UploadDuplicates(list(map(duplicate_evidence, found)), encoded.model, list(map(similar_evidence, similar)))
    return json_response(DuplicatesAnswer(1, error_message, result))


def prepare(data: bytes) -> Upload:
    """Decode an image file, and shrink it until it fits into a message. ImageError."""
    digest = hashlib.sha256(data).digest()
    image = decode(data, "the image", box=(MAX_SENT_SIDE, MAX_SENT_SIDE), config=UPLOAD)
    size = image.info.get(ORIGINAL_SIZE, image.size)
    if max(image.size) <= MAX_SENT_SIDE and len(data) <= MAX_SENT_BYTES:
        # compressing it again would only lose detail
        return Upload(data, digest, size)
    image.thumbnail((MAX_SENT_SIDE, MAX_SENT_SIDE), Image.Resampling.LANCZOS)
    while True:
        for quality in JPEG_QUALITIES:
            out = io.BytesIO()
            image.save(out, "JPEG", quality=quality)
            if out.tell() <= MAX_SENT_BYTES:
                return Upload(out.getvalue(), digest, size)
        image = image.reduce(2)
