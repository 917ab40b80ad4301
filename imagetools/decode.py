"""Bytes of an image file → an RGB picture.

Every byte may be wrong, by accident or on purpose. Errors that the bytes are to blame for are an `ImageError`.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Final

from PIL import Image, ImageFile

from imagetools.errors import BrokenImage, ImageError, ImageTooLarge
from imagetools.formats import BAD_BYTES, open_image
from imagetools.frames import later_frames
from imagetools.logs import warnings_about
from imagetools.paths import shown
from imagetools.pixel_modes import to_rgb

log = logging.getLogger(__name__)

Size = tuple[int, int]
"""Width and height, pixels."""

Box = Size | Callable[[Size], Size]
"""The smallest picture that a caller needs; or a function that returns it for a picture of some size, upright."""

ORIGINAL_SIZE: Final = "original size"
"""Key in a picture's `info`: (width, height) of the whole image, pixels, where it was decoded smaller."""

_LARGE_PIXELS: Final = 20_000_000
"""Pixels from which images are decoded one at a time, so that a batch of huge ones does not end the process."""
_one_large = threading.Lock()

_WITH_LUMINANCE: Final = frozenset({"L", "RGB", "RGBA", "P"})
"""Modes whose pixels have the brightness that their "L" has."""

_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation → the turn that puts the picture upright. TIFF 6.0, page 36."""
_ORIENTATION: Final = 0x0112


@dataclass(frozen=True)
class DecodeConfig:
    """Limits of one image.

    max_bytes   of a file: 64 MiB, four times what a 100-megapixel camera writes as JPEG
    max_pixels  width times height, by the header: 100 million, which take up to 1.6 GB to decode
    """

    max_bytes: int = 64 * 2**20
    max_pixels: int = 100_000_000


DEFAULT_CONFIG: Final = DecodeConfig()


def decode(data: bytes, name: str, *, box: Box | None = None, config: DecodeConfig = DEFAULT_CONFIG) -> Image.Image:
    """Decode an image file to RGB, turned upright by its EXIF orientation.

    name  of the image in errors; control characters are escaped
    box   the smallest picture that the caller needs: a JPEG is then decoded at a half, a quarter or an eighth of its
          size, never below the box on either side

    Where it was decoded smaller, `info[ORIGINAL_SIZE]` is the (width, height) of the whole.
    Transparency is laid on white, or on black where white would leave nothing to see; 16 bits are scaled to 8; CMYK is
    converted without a colour profile. Of an animation, or a document with pages, the first is taken.
    UnsupportedImage, BrokenImage, ImageTooLarge. Thread-safe.
    """
    name = shown(name)
    with _blame_bytes(name):
        return _picture(_opened(data, name, config), name, box, config)


def decode_frames(
    data: bytes, name: str, *, box: Box | None = None, config: DecodeConfig = DEFAULT_CONFIG
) -> tuple[Image.Image, ...]:
    """Decode a still, or of an animation or a document with pages the first, a middle and a late frame (`frames`).

    All else is as in `decode`. An animation whose three frames are equal counts as a still, and so does one of which a
    later frame is damaged or too large: the first one then stands for it, and a line in the log says why.
    `max_pixels` limits the first frame, and all frames up to the last one together; half of it a later page. Frames
    after the first `frames.MAX_FRAMES` are not looked at.
    """
    name = shown(name)
    with _blame_bytes(name):
        image = _opened(data, name, config)
        first = _picture(image, name, box, config)
    # up to three pictures are kept at a time
    half = replace(config, max_pixels=config.max_pixels // 2)
    try:
        with _blame_bytes(name):
            chosen = later_frames(image, data, config.max_pixels)
            later = {number: _picture(image, name, box, half, number) for number in sorted({*(chosen or ())} - {0})}
    except ImageError as exc:
        log.warning("%s, in a later frame: the first frame alone is looked at", exc)
        return (first,)
    if chosen is None or all(frame.tobytes() == first.tobytes() for frame in later.values()):
        return (first,)
    return (first, *(later.get(number, first) for number in chosen))


def decode_luminance(data: bytes, name: str, *, max_pixels: int) -> Image.Image | None:
    """Decode the brightness that a file holds, mode "L", not turned by its EXIF orientation.

    A JPEG's is that of its blocks, which no conversion of colours has rounded. None for a picture with more than
    `max_pixels`, and for one of 16 bits or in CMYK. UnsupportedImage, BrokenImage, ImageTooLarge. Thread-safe.
    """
    name = shown(name)
    with _blame_bytes(name):
        image = open_image(data, name)
        if image.width * image.height > max_pixels or image.mode not in _WITH_LUMINANCE:
            return None
        image.draft("L", image.size)
        image.load()
        return image.convert("L")


def _opened(data: bytes, name: str, config: DecodeConfig) -> ImageFile.ImageFile:
    if not data:
        raise BrokenImage(name, "the file is empty")
    if len(data) > config.max_bytes:
        raise ImageTooLarge(name, f"{len(data):,} bytes, the limit is {config.max_bytes:,}")
    return open_image(data, name)


def _picture(
    image: ImageFile.ImageFile, name: str, box: Box | None, config: DecodeConfig, frame: int = 0
) -> Image.Image:
    """Return a frame of an opened image, as RGB and upright. Frames are taken in ascending order."""
    _check_size(image, name, config)
    with _one_large if image.width * image.height > _LARGE_PIXELS else nullcontext():
        if frame:
            image.seek(frame)
            # pages of a document differ in size
            _check_size(image, name, config)
        width, height = image.size
        if box is not None:
            turned = _orientation(image) >= 5
            needed = box((height, width) if turned else (width, height)) if callable(box) else box
            image.draft(None, (needed[1], needed[0]) if turned else needed)
        image.load()
        # read again: some formats keep their EXIF behind the pixels, and some plugins turn the picture themselves
        orientation = _orientation(image)
        picture = to_rgb(image, name)
        picture = picture.transpose(_TURNS[orientation]) if orientation in _TURNS else picture
    # a profile or EXIF left here would be written out with the pixels that it no longer describes
    picture.info.clear()
    if max(picture.size) != max(width, height):
        picture.info[ORIGINAL_SIZE] = (height, width) if orientation >= 5 else (width, height)
    return picture


def _check_size(image: Image.Image, name: str, config: DecodeConfig) -> None:
    width, height = image.size
    if width * height > config.max_pixels:
        raise ImageTooLarge(name, f"{width:,} × {height:,} pixels, the limit is {config.max_pixels:,} in all")
    if min(image.size) < 1:
        raise BrokenImage(name, "has no pixels")


@contextmanager
def _blame_bytes(name: str) -> Iterator[None]:
    """Turn errors of a plugin into an ImageError: it reads memory alone, so that they are never the machine's."""
    try:
        with warnings_about(name):
            yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise ImageTooLarge(name, "asks for far more pixels than its size or the limit allows") from exc
    except BAD_BYTES as exc:
        # libheif ends its messages with a line break
        said = " ".join(str(exc).split())
        raise BrokenImage(name, f"damaged or cut off: {said}" if said else "damaged or cut off") from exc


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation; 1 (upright) where EXIF is missing or damaged: the picture may be sound."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except BAD_BYTES:
        return 1
    return orientation if isinstance(orientation, int) else 1
