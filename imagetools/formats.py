"""Image formats that are read: how files of them are named, how they begin, and how they are opened."""

import ctypes
import struct
import zlib
from contextlib import suppress
from io import BytesIO
from typing import Final, NoReturn

# a format is known to Pillow once its plugin is imported; Image.open would import all forty
from PIL import (
    AvifImagePlugin,  # noqa: F401
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    ImageFile,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
    _imaging,
)
from pillow_heif import register_heif_opener

from imagetools.errors import UnsupportedImage

register_heif_opener(thumbnails=False)

# libtiff writes what it finds wrong to the standard error output, in the middle of a console; its errors come to us
# anyhow. A Pillow that has it linked in, or none, has no such function to call
with suppress(AttributeError, OSError):
    for _handler in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
        getattr(ctypes.CDLL(_imaging.__file__), _handler)(None)

FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
"""What is read, by Pillow's names. HEIF stands after AVIF, whose plugin knows which of a common brand are its own."""

IMAGE_SUFFIXES: Final = frozenset(
    {
        ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif",
        ".heic", ".heif", ".hif",
    }
)  # fmt: skip
"""Endings of file names that are taken for images, in lower case. Decoding looks at the bytes alone."""

SIGNATURE_BYTES: Final = 32
"""Of a file that `begins_like_an_image` needs."""

_BMP_HEADERS: Final = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
"""Sizes of a BMP's second header; "BM" alone also begins plain text."""

# what Pillow and its plugins have been seen to raise on damaged bytes; MemoryError is here since the pixel cap bounds
# what a sound image needs, and Warning for programs that turn warnings into errors
BAD_BYTES: Final = (
    OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError,
    AssertionError, MemoryError, struct.error, zlib.error, Warning,
)  # fmt: skip


def open_image(data: bytes, name: str) -> ImageFile.ImageFile:
    """Read the header by the first format that takes it.

    What `Image.open(formats=FORMATS)` does, less its warning about large images: the caller has its own limit.
    """
    first: BaseException | None = None
    for format_name in FORMATS:
        try:
            if _accepts(format_name, data):
                return Image.OPEN[format_name][0](BytesIO(data), "")
        except BAD_BYTES as exc:
            first = first or exc
    if first is not None:
        raise first
    _refuse(name)


def begins_like_an_image(head: bytes) -> bool:
    """Whether the first SIGNATURE_BYTES of a file are those of a format that is read; the rest may be damaged."""
    return any(_accepts(format_name, head) for format_name in FORMATS)


def _accepts(format_name: str, data: bytes) -> bool:
    accepts = Image.OPEN[format_name][1]
    if accepts is not None and accepts(data[:16]) is not True:
        return False
    return format_name != "BMP" or _is_bmp(data)


def _refuse(name: str) -> NoReturn:
    raise UnsupportedImage(name, f"not an image of a format that is read ({', '.join(FORMATS)})")


def _is_bmp(data: bytes) -> bool:
    return int.from_bytes(data[14:18], "little") in _BMP_HEADERS
