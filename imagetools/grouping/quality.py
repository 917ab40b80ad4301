"""Measure how good a file's rendering of its picture is: compression, blur and colour."""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imagetools.decode import decode_luminance
from imagetools.grouping.compression import earlier_step
from imagetools.grouping.keep import Quality

_SIDE: Final = 256
_LOSSLESS: Final = frozenset({"PNG", "BMP", "TIFF", "GIF"})
# Larger pictures are not decoded once more in full: 20 MB
_MAX_PIXELS: Final = 20_000_000
_TILES: Final = (16, 16)


def measure(data: bytes, name: str, grey: Image.Image, colours: NDArray[np.float32], header: Image.Image) -> Quality:
    """Measure the quality of a file. What is wrong with its bytes is an ImageError.

    data     the file
    grey     its picture, of 256 pixels on the longer side or more, if it has them
    colours  (height, width, 3), its picture shrunk to some 16 pixels, 0 to 255
    header   as Pillow opens it, before it is converted
    """
    sharp, fine = sharpness(grey)
    step, earlier = quantization_step(header), None
    if step is not None:
        luminance = decode_luminance(data, name, max_pixels=_MAX_PIXELS)
        table = None if header.format in _LOSSLESS else _table(header)
        earlier = None if luminance is None else earlier_step(np.asarray(luminance, dtype=np.uint8), table)
    return Quality(sharp, fine, step, earlier, colourfulness(colours))


def quantization_step(image: Image.Image) -> float | None:
    """Return the mean step of a JPEG's luminance quantization, 1 for a format without loss; None: not known.

    image  as Pillow opens it, before it is converted

    libjpeg's quality 95 has a mean step of 5.8, 80 of 23, 50 of 58.
    """
    if image.format in _LOSSLESS:
        return 1.0
    table = _table(image)
    return None if table is None else float(table.mean())


def _table(image: Image.Image) -> NDArray[np.int64] | None:
    tables: dict[int, list[int]] | None = getattr(image, "quantization", None)
    return np.array(tables[min(tables)], dtype=np.int64).reshape(8, 8) if tables else None


def sharpness(image: Image.Image) -> tuple[float, float]:
    """Return how much detail a picture shows for its contrast, in percent, and how much finer detail for each of it.

    At 256 pixels on the longer side, so that pictures of one subject can be compared. The detail lies between Gaussians
    of 1 and 2 pixels: the blocks of a JPEG and its noise are finer. The finer detail lies below 1 pixel. A blur takes
    it first, and sharpening adds to both. Of 80 photos of the fit side, 98 in 100 have a fineness of .89 or more, and
    as many of their copies with a blur of half a percent .69 or less. A plain picture has 0 of both.
    """
    scale = _SIDE / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    grey = np.asarray(image.convert("L").resize(size, Image.Resampling.LANCZOS), np.float32)
    if min(grey.shape) < 3:
        return 0.0, 0.0
    soft, softer = (cv2.GaussianBlur(grey, (0, 0), deviation) for deviation in (1.0, 2.0))
    detail = float(np.abs(soft - softer).mean())
    if detail < 1e-3:
        return 0.0, 0.0
    contrast = max(float(np.abs(grey - grey.mean()).mean()), 1.0)
    return 100 * detail / contrast, float(np.abs(grey - soft).mean()) / detail


def colourfulness(colours: NDArray[np.float32]) -> float:
    """Return the mean difference between the strongest and the weakest channel, 0 to 255.

    colours  (height, width, 3), 0 to 255
    """
    return float(np.ptp(colours, axis=2).mean())


def thumbnail(image: Image.Image) -> NDArray[np.float32]:
    """Return an RGB picture at 16 x 16 pixels, for `colourfulness`."""
    return np.asarray(image.resize(_TILES, Image.Resampling.BOX), dtype=np.float32)
