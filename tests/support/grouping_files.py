"""Image files for the grouping stage, which looks only at files with the bytes that were announced."""

import hashlib
import io
import os
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from schemas.group_records import ImageContent


def png(picture: Image.Image, version: str = "") -> bytes:
    """Return a PNG file; one picture has other bytes in each version."""
    note, file = PngInfo(), io.BytesIO()
    note.add_text("version", version)
    picture.save(file, "PNG", pnginfo=note)
    return file.getvalue()


def content_of(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def write(folder: Path, path: str, data: bytes) -> ImageContent:
    """Write a file at once, so that nobody reads a part of it, and return the image that it is."""
    new = folder / f".{path}.new"
    new.write_bytes(data)
    os.replace(new, folder / path)
    return ImageContent(path, content_of(data))
