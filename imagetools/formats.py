"""Image formats that are read: how files of them are named, how they begin, and how they are opened."""

import ctypes
import struct
import zlib
from contextlib import suppress
from io import BytesIO
from typing import Final

# Pillow knows a format once its plugin is imported; Image.open would import all forty
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

# libtiff writes its complaints to standard error, into the console; its errors are raised anyhow. A Pillow that has
# libtiff linked in, or has none, has no such function
with suppress(AttributeError, OSError):
    for _handler in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
        getattr(ctypes.CDLL(_imaging.__file__), _handler)(None)

FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
"""Formats that are read, by Pillow's names. AVIF stands before HEIF: its plugin tells which files of a shared brand are
its own."""

IMAGE_SUFFIXES: Final = frozenset(
    {
        ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif",
        ".heic", ".heif", ".hif",
    }
)  # fmt: skip
"""Endings of file names that mark images, in lower case. Decoding goes by the bytes alone."""

SIGNATURE_BYTES: Final = 32
"""First bytes of a file that `begins_like_an_image` needs."""

_BMP_HEADERS: Final = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
"""Sizes of a BMP's second header; "BM" alone also begins plain text."""

# Errors that Pillow and its plugins have been seen to raise on damaged bytes. MemoryError: the pixel limit bounds the
# memory of a sound image. Warning: a program may turn warnings into errors
BAD_BYTES: Final = (
    OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError,
    AssertionError, MemoryError, struct.error, zlib.error, Warning,
)  # fmt: skip


def open_image(data: bytes, name: str) -> ImageFile.ImageFile:
    """Read the header by the first format that takes it.

    As `Image.open(formats=FORMATS)`, without its warning about large images: the caller has its own limit.
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
    raise UnsupportedImage(name, f"not an image of a format that is read ({', '.join(FORMATS)})")


def begins_like_an_image(head: bytes) -> bool:
    """Tell whether a file begins like one of FORMATS, by its first SIGNATURE_BYTES; the rest may be damaged."""
    return any(_accepts(format_name, head) for format_name in FORMATS)


def _accepts(format_name: str, data: bytes) -> bool:
    accepts = Image.OPEN[format_name][1]
    if accepts is not None and accepts(data[:16]) is not True:
        return False
    return format_name != "BMP" or _is_bmp(data)


def _is_bmp(data: bytes) -> bool:
    return int.from_bytes(data[14:18], "little") in _BMP_HEADERS
