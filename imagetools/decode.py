"""Files and bytes → RGB pictures, from a folder that no path can leave.

A folder of images is other people's: every name and every byte in it may be wrong, by accident or on purpose. What the
input is to blame for is an `ImageError`; a folder that does not answer is `ImageRootUnavailable`.
"""

import ctypes
import errno
import os
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final, NoReturn, cast

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

from imagetools.errors import (
    BrokenImage,
    ImageRootUnavailable,
    ImageTooLarge,
    MissingImage,
    OutsideRoot,
    UnreadableImage,
    UnsupportedImage,
)
from imagetools.logs import image_at_hand
from imagetools.paths import open_file, read_capped, require_file, require_path, shown

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

ORIGINAL_SIZE: Final = "original size"
"""Key in a picture's `info`: (width, height) of the image as it came, pixels, where that is not the picture's own."""

_LARGE: Final = 20_000_000
"""Pixels from which images are decoded one at a time, so that a batch of huge ones does not end the process."""
_one_large = threading.Lock()

_NEARLY_WHITE: Final = 250
"""Level from which all of a picture on white is lost on it."""

_BMP_HEADERS: Final = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
"""Sizes of a BMP's second header; "BM" alone also begins plain text."""

# what Pillow and its plugins have been seen to raise on damaged bytes; MemoryError is here since the pixel cap bounds
# what a sound image needs, and Warning for programs that turn warnings into errors
_BAD_BYTES: Final = (
    OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError,
    AssertionError, MemoryError, struct.error, zlib.error, Warning,
)  # fmt: skip

_NO_SUCH_FILE: Final = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.ELOOP}
)
_NO_RIGHTS: Final = frozenset({errno.EACCES, errno.EPERM})
_FOLDER_AWAY: Final = frozenset(
    {
        errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ETIMEDOUT,
        errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH,
    }
)  # fmt: skip

_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation → what puts the picture upright. TIFF 6.0, page 36."""
_ORIENTATION: Final = 0x0112


@dataclass(frozen=True)
class DecodeConfig:
    """What one image may cost.

    max_bytes   bytes of a file: 64 MiB, four times what a 100-megapixel camera writes as JPEG
    max_pixels  width times height as the header says: 100 million; decoding so many takes up to 1.6 GB
    """

    max_bytes: int = 64 * 2**20
    max_pixels: int = 100_000_000


DEFAULT_CONFIG: Final = DecodeConfig()


class ImageRoot:
    """The folder that every relative path is relative to.

    Symbolic links inside it are followed as long as they stay inside. Nothing is kept open between calls, so that the
    folder can be unmounted and come back. Thread-safe.
    """

    def __init__(self, folder: Path, config: DecodeConfig = DEFAULT_CONFIG) -> None:
        self.folder = folder
        self.config = config

    def resolve(self, relative_path: str) -> Path:
        """The real path of an image file.

        MissingImage, OutsideRoot, UnsupportedImage where it is no plain file, ImageRootUnavailable. By the time that
        the path is used it may lead elsewhere: `read` checks while it opens.
        """
        name = shown(relative_path)
        with self._blame(name):
            root, parts = self._inside(name, relative_path)
            path = Path(root, *parts)
            require_file(name, os.stat(path, follow_symlinks=False).st_mode)
        return path

    def read(self, relative_path: str) -> bytes:
        """The bytes of an image file.

        As `resolve`, and ImageTooLarge. Never waits for a pipe or a device.
        """
        name = shown(relative_path)
        with self._blame(name):
            root, parts = self._inside(name, relative_path)
            with os.fdopen(open_file(name, root, parts), "rb", buffering=0) as file:
                return read_capped(name, file.fileno(), self.config.max_bytes)

    def open(self, relative_path: str, *, box: tuple[int, int] | None = None) -> Image.Image:
        """Read and `decode`; raises what both raise."""
        return decode(self.read(relative_path), shown(relative_path), box=box, config=self.config)

    def _inside(self, name: str, relative_path: str) -> tuple[str, Sequence[str]]:
        """The real root and the path's real parts below it."""
        require_path(name, relative_path)
        root = os.path.realpath(self.folder)
        path = os.path.realpath(os.path.join(root, relative_path))
        if os.path.commonpath((root, path)) != root:
            raise OutsideRoot(name, "leads out of the folder of images through a symbolic link")
        return root, Path(path).relative_to(root).parts

    @contextmanager
    def _blame(self, name: str) -> Iterator[None]:
        """Tell a file that is missing, or may not be read, from a folder that is."""
        try:
            yield
        except OSError as exc:
            if exc.errno in _NO_SUCH_FILE:
                self._require_root()
                raise MissingImage(name, "there is no such file") from exc
            if exc.errno in _NO_RIGHTS:
                self._require_root()
                raise UnreadableImage(name, f"may not be read by this user: {exc.strerror}") from exc
            if exc.errno in _FOLDER_AWAY:
                raise ImageRootUnavailable(f"{name} in {self.folder}: {exc.strerror}") from exc
            raise

    def _require_root(self) -> None:
        """An unmounted volume is a folder that is gone, or an empty one."""
        try:
            with os.scandir(self.folder) as entries:
                empty = next(entries, None) is None
        except OSError as exc:
            raise ImageRootUnavailable(f"the folder of images {self.folder}: {exc.strerror}") from exc
        if empty:
            raise ImageRootUnavailable(f"the folder of images {self.folder} is empty")


def decode(
    data: bytes, name: str, *, box: tuple[int, int] | None = None, config: DecodeConfig = DEFAULT_CONFIG
) -> Image.Image:
    """The picture in the bytes of an image file, mode RGB, upright as its EXIF orientation says.

    name  what errors call it; control characters are escaped
    box   (width, height) in pixels, the smallest picture that the caller needs: a JPEG is then decoded at a half, a
          quarter or an eighth of its size, never below the box on either side

    Where it was decoded smaller, `info[ORIGINAL_SIZE]` is the (width, height) that it came in.
    Alpha and transparent palette entries are laid on white, or on black where white would leave nothing to see; 16 bits
    scaled to 8, CMYK converted without a colour profile; of an animation and of a document with pages the first.
    UnsupportedImage, BrokenImage, ImageTooLarge. Thread-safe.
    """
    name = shown(name)
    if not data:
        raise BrokenImage(name, "the file is empty")
    if len(data) > config.max_bytes:
        raise ImageTooLarge(name, f"{len(data):,} bytes, the limit is {config.max_bytes:,}")
    with _blame_bytes(name):
        image = _open_image(data, name)
        width, height = image.size
        if width * height > config.max_pixels:
            raise ImageTooLarge(name, f"{width:,} × {height:,} pixels, the limit is {config.max_pixels:,} in all")
        if min(image.size) < 1:
            raise BrokenImage(name, "has no pixels")
        if box is not None:
            turned = _orientation(image) >= 5
            image.draft(None, (box[1], box[0]) if turned else box)
        with _one_large if image.width * image.height > _LARGE else nullcontext():
            image.load()
            # read again: some formats keep their EXIF behind the pixels, and some plugins turn the picture themselves
            orientation = _orientation(image)
            picture = _on_white(image, name)
            picture = picture.transpose(_TURNS[orientation]) if orientation in _TURNS else picture
    # a profile or EXIF left here would be written out with the pixels that it no longer describes
    picture.info.clear()
    if max(picture.size) != max(width, height):
        picture.info[ORIGINAL_SIZE] = (height, width) if orientation >= 5 else (width, height)
    return picture


@contextmanager
def _blame_bytes(name: str) -> Iterator[None]:
    """Name what a plugin raised. Only bytes in memory are read inside, so that no error of it is the machine's."""
    try:
        with image_at_hand(name):
            yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise ImageTooLarge(name, "asks for far more pixels than its size or the limit allows") from exc
    except _BAD_BYTES as exc:
        # libheif ends its messages with a line break
        said = " ".join(str(exc).split())
        raise BrokenImage(name, f"damaged or cut off: {said}" if said else "damaged or cut off") from exc


def _open_image(data: bytes, name: str) -> ImageFile.ImageFile:
    """Read the header by the first format that takes it.

    What `Image.open(formats=FORMATS)` does, less its warning about large images: the caller has its own limit.
    """
    first: BaseException | None = None
    for format_name in FORMATS:
        try:
            if _accepts(format_name, data):
                return Image.OPEN[format_name][0](BytesIO(data), "")
        except _BAD_BYTES as exc:
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


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1 (upright) where EXIF is absent or damaged, which is no reason to lose the picture."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except _BAD_BYTES:
        return 1
    return orientation if isinstance(orientation, int) else 1


def _on_white(image: Image.Image, name: str) -> Image.Image:
    """Any mode → RGB."""
    if image.mode.startswith(("I", "F")):
        return _to_8_bits(image)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        full = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
        alpha = full.getchannel("A")
        on_white = Image.new("RGB", image.size, "white")
        on_white.paste(full, mask=alpha)
        if _is_white(on_white) and not _is_even(alpha):
            # a white logo is seen on black alone
            on_white.paste("black", (0, 0, *image.size))
            on_white.paste(full, mask=alpha)
        return on_white
    if image.mode not in ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"):
        raise UnsupportedImage(name, f"colours of the kind {image.mode} are not read")
    return image.convert("RGB")


def _is_white(image: Image.Image) -> bool:
    return all(low >= _NEARLY_WHITE for low, _ in cast(tuple[tuple[int, int], ...], image.getextrema()))


def _is_even(alpha: Image.Image) -> bool:
    low, high = cast(tuple[int, int], alpha.getextrema())
    return high - low <= 255 - _NEARLY_WHITE


def _to_8_bits(image: Image.Image) -> Image.Image:
    """16 and 32 bits or floats → RGB grey, by the range that the values lie in; any other range is stretched to fit."""
    wide = image.convert("F")
    low, high = cast(tuple[float, float], wide.getextrema())
    if image.mode.startswith("I;16") or (low >= 0 and 255 < high <= 65535):
        low, high = 0.0, 65535.0
    elif image.mode == "F" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    elif low >= 0 and high <= 255:
        low, high = 0.0, 255.0
    scale = 255.0 / max(high - low, 1e-30)
    # + 0.5: conversion to 8 bits cuts fractions off
    return wide.point(lambda level: level * scale + (0.5 - low * scale)).convert("L").convert("RGB")
