"""Extracts the file from a multipart/form-data body."""

import asyncio
import warnings

from aiohttp import (
    BadContentDispositionHeader,
    BadContentDispositionParam,
    BodyPartReader,
    MultipartReader,
    StreamReader,
)
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError

from http_bridge.errors import HttpError, first_line

MAX_PARTS = 100
CHUNK_BYTES = 2**20

BAD_HEADERS = (BadContentDispositionHeader, BadContentDispositionParam)
for _warning in BAD_HEADERS:
    # otherwise aiohttp logs a line and treats the part as one without a file name
    warnings.filterwarnings("error", category=_warning)


def extract_file(content_type: str, body: bytes) -> bytes:
    """Return the one part with a file name, or the one named image.

    HttpError 422 if there is none or more than one, or if the form cannot be parsed. A hostile form can take long to
    parse: call this on a thread.
    """
    try:
        return asyncio.run(_extract_file(content_type, body))
    except (ValueError, RuntimeError, AssertionError, HttpProcessingError, *BAD_HEADERS) as exc:
        reason = exc.message if isinstance(exc, HttpProcessingError) else str(exc)
        if isinstance(exc, BAD_HEADERS):
            reason = f"a part has the Content-Disposition {reason!r}"
        raise HttpError(422, f"image: the form cannot be read: {first_line(reason)}") from exc


async def _extract_file(content_type: str, body: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    content = StreamReader(BaseProtocol(loop), len(body) + 1, loop=loop)
    content.feed_data(body)
    content.feed_eof()
    found: bytes | None = None
    count = 0
    async for part in MultipartReader({"Content-Type": content_type}, content):
        count += 1
        if count > MAX_PARTS:
            raise HttpError(422, f"image: the form has more than {MAX_PARTS} parts")
        if not isinstance(part, BodyPartReader):
            raise HttpError(422, "image: the form has another form inside; send the file itself")
        data = await _read(part)
        # a browser sends a file field without a chosen file with an empty name and no bytes
        if not (part.filename or part.name == "image" or (part.filename is not None and data)):
            continue
        if found is not None:
            raise HttpError(422, "image: the form has more than one file; send one request for each")
        found = data
    if found is None:
        raise HttpError(422, "image: the form has no file")
    return found


async def _read(part: BodyPartReader) -> bytes:
    chunks = []
    while chunk := await part.read_chunk(CHUNK_BYTES):
        chunks.append(bytes(chunk))
    return b"".join(chunks)
