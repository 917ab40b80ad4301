"""The one file of a form, multipart/form-data."""

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

from http_bridge.refusals import Refusal, first_line

MOST_PARTS = 100

UNREADABLE = (BadContentDispositionHeader, BadContentDispositionParam)
for _warning in UNREADABLE:
    # a part whose header cannot be read would otherwise be taken for no file, with a line in the log
    warnings.filterwarnings("error", category=_warning)


def file_in(content_type: str, body: bytes) -> bytes:
    """The file in a form: the one part with a file name, or the one called image.

    Refusal 422 where there is none, more than one, or the form cannot be read. It works for as long as a hostile form
    makes it, so it belongs on a thread.
    """
    try:
        return asyncio.run(_file_in(content_type, body))
    except (ValueError, RuntimeError, AssertionError, HttpProcessingError, *UNREADABLE) as exc:
        said = exc.message if isinstance(exc, HttpProcessingError) else str(exc)
        if isinstance(exc, UNREADABLE):
            said = f"a part has the Content-Disposition {said!r}"
        raise Refusal(422, f"image: the form cannot be read: {first_line(said)}") from exc


async def _file_in(content_type: str, body: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    content = StreamReader(BaseProtocol(loop), len(body) + 1, loop=loop)
    content.feed_data(body)
    content.feed_eof()
    found: bytes | None = None
    seen = 0
    async for part in MultipartReader({"Content-Type": content_type}, content):
        seen += 1
        if seen > MOST_PARTS:
            raise Refusal(422, f"image: the form has more than {MOST_PARTS} parts")
        if not isinstance(part, BodyPartReader):
            raise Refusal(422, "image: the form has another one inside; send the file itself")
        data = await _read(part)
        # a browser sends a field that no file was chosen for as one without a name and without bytes
        if not (part.filename or part.name == "image" or (part.filename is not None and data)):
            continue
        if found is not None:
            raise Refusal(422, "image: the form has more than one file; send each in a request of its own")
        found = data
    if found is None:
        raise Refusal(422, "image: the form has no file")
    return found


async def _read(part: BodyPartReader) -> bytes:
    chunks = []
    while chunk := await part.read_chunk(2**20):
        chunks.append(bytes(chunk))
    return b"".join(chunks)
