"""What the report says of each file: facts, and a thumbnail."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from PIL import Image

from imagetools.decode import ORIGINAL_SIZE, decode
from imagetools.errors import ImageError, ImageRootUnavailable
from imagetools.folder import REPORT_FILES
from imagetools.formats import open_image
from imagetools.grouping.keep import Quality
from imagetools.grouping.quality import measure, thumbnail
from imagetools.hardware import usable_cores
from imagetools.image_root import ImageRoot
from imagetools.paths import shown

THUMBNAIL_SIDE: Final = 480
"""Pixels of a thumbnail's longer side; two fit side by side on a wide screen."""


@dataclass(frozen=True)
class FileLook:
    """One file.

    thumbnail  relative to the report's folder; empty if the image cannot be read, then with a `reason`
    size       (width, height) of the thumbnail in pixels
    width      of the picture as it is shown, in pixels; 0 if the image cannot be read
    modified   time of the file's last change; None where there is no file
    quality    as it was measured
    """

    path: str
    thumbnail: str = ""
    size: tuple[int, int] = (4, 3)
    reason: str = ""
    width: int = 0
    height: int = 0
    bytes: int = 0
    format: str = ""
    modified: datetime | None = None
    quality: Quality = Quality()


def look_at_all(report: Path, images: ImageRoot, paths: Iterable[str]) -> dict[str, FileLook]:
    """Look at files, and write their thumbnails into the report's folder, named by number."""
    listed = list(paths)

    def look(number: int, path: str) -> FileLook:
        # named by number: a path may be longer than a file's name, or have a meaning in a URL
        return look_at(images, path, report, f"{REPORT_FILES}/{number:06}.jpg")

    with ThreadPoolExecutor(threads_for(images)) as pool:
        return dict(zip(listed, pool.map(look, range(len(listed)), listed), strict=True))


def threads_for(images: ImageRoot) -> int:
    """Return how many threads read and look at files: for a store, more wait than compute."""
    return usable_cores() if images.folder is not None else images.readers


def look_at(images: ImageRoot, path: str, report: Path, thumbnail_path: str) -> FileLook:
    """Look at one file. An image that has disappeared keeps its place, with the reason."""
    try:
        data = images.read(path)
        image = decode(data, shown(path), box=(THUMBNAIL_SIDE, THUMBNAIL_SIDE), config=images.config)
        header = open_image(data, shown(path))
        quality = measure(data, shown(path), image, thumbnail(image), header)
        modified = images.status(path).modified
    except (ImageError, ImageRootUnavailable) as exc:
        return FileLook(path, reason=exc.reason if isinstance(exc, ImageError) else str(exc))
    except FileNotFoundError:
        return FileLook(path, reason="there is no such file")
    width, height = image.info.get(ORIGINAL_SIZE, image.size)
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    image.save(report / thumbnail_path, quality=82)
    return FileLook(
        path,
        thumbnail_path,
        image.size,
        width=width,
        height=height,
        bytes=len(data),
        format=header.format or "",
        modified=modified,
        quality=quality,
    )
