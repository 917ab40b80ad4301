"""POST /v1/duplicates: finds the duplicates of an uploaded image, with the evidence. The image is not stored."""

import asyncio
import hashlib
import io
import math
from collections.abc import Callable, Sequence
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
from imagetools.decode import ORIGINAL_SIZE, DecodeConfig, Size, decode_frames
from schemas.records import Duplicate, EncodeRequest, MatchRequest, SearchRequest, Similar

P = ParamSpec("P")
T = TypeVar("T")

UPLOAD = DecodeConfig(max_bytes=20 * 2**20, max_pixels=50_000_000)
"""Limits of an upload: bytes of the file, pixels by its header."""

FORM_OVERHEAD_BYTES = 2**16
"""What a form may have around its file."""

MAX_SENT_SIDE = 1500
"""Longer side of an image that is shrunk for the stages, pixels: the matcher opens drawn pictures at this size."""

MAX_STRIP_SIDE = 2048
"""The same of a strip, more than three times as long as wide, of which the matcher keeps more."""

MAX_SENT_BYTES = 600_000
"""Of the image that the stages receive, so that it fits into one message."""

MAX_SENT_PIXELS = 4_000_000
"""Of a picture that is sent as it came, as decoded, so that no stage has to decode a huge one."""

QUALITIES = (92, 80, 60)
"""Of the JPEG or WebP that a large image is sent as."""


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
    """Decode an image file, and shrink it where it does not fit into a message as it came. ImageError."""
    digest = hashlib.sha256(data).digest()
    frames = list(decode_frames(data, "the image", box=_sent_size, config=UPLOAD))
    size = frames[0].info.get(ORIGINAL_SIZE, frames[0].size)
    if len(data) <= MAX_SENT_BYTES and frames[0].width * frames[0].height <= MAX_SENT_PIXELS:
        # the verdict is that of the stream: from the same bytes
        return Upload(data, digest, size)
    side = _sent_side(size)
    for frame in frames:
        frame.thumbnail((side, side), Image.Resampling.LANCZOS)
    while True:
        for quality in QUALITIES:
            packed = _pack(frames, quality)
            if len(packed) <= MAX_SENT_BYTES:
                return Upload(packed, digest, size)
        frames = [frame.reduce(2) for frame in frames]


def _sent_side(size: Size) -> int:
    return MAX_STRIP_SIDE if max(size) > 3 * min(size) else MAX_SENT_SIDE


def _sent_size(size: Size) -> Size:
    scale = min(1.0, _sent_side(size) / max(size))
    return math.ceil(scale * size[0]), math.ceil(scale * size[1])


def _pack(frames: Sequence[Image.Image], quality: int) -> bytes:
    """Return a JPEG of a still, or a WebP that moves."""
    out = io.BytesIO()
    if len(frames) == 1:
        frames[0].save(out, "JPEG", quality=quality)
    else:
        # frames of one size, as pages of a document may not be
        fitted = [frame.resize(frames[0].size) for frame in frames]
        fitted[0].save(out, "WEBP", quality=quality, save_all=True, append_images=fitted[1:], duration=100)
    return out.getvalue()
