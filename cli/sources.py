"""What to announce: the images of a folder, one image, or lines that name them."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from imagetools.decode import IMAGE_SUFFIXES
from imagetools.errors import ImageToolsError
from imagetools.folder import Skipped, find_images


class NoSuchSource(ImageToolsError):
    """There is nothing to announce there."""


def paths_of(
    source: str,
    lines: Iterable[str] | None,
    root: Path,
    *,
    on_skipped: Callable[[Skipped], None] | None = None,
) -> Iterator[str]:
    """Relative paths, as the stages take them.

    source      a folder, an image, or a text file with a path on each line; ignored where `lines` are given
    root        paths below it are made relative to it; a folder that is not below it counts as the root itself
    on_skipped  told of all in the folder that is not announced; as `find_images`'s
    """
    if lines is not None:
        return (_relative(line, root) for line in lines if line)
    place = Path(source)
    if place.is_dir():
        inside = _inside(place, root)
        return (str(inside / path) if inside else path for path in find_images(place, on_skipped=on_skipped))
    if not place.is_file():
        raise NoSuchSource(f"{source}: no such file or folder")
    if place.suffix.lower() in IMAGE_SUFFIXES:
        return iter([_relative(str(place), root)])
    return (_relative(line, root) for line in place.read_text("utf-8").splitlines() if line)


def _relative(line: str, root: Path) -> str:
    inside = _inside(Path(line), root) if os.path.isabs(line) or Path(line).exists() else None
    return str(inside) if inside else line


def _inside(place: Path, root: Path) -> Path | None:
    """The place relative to the root; None where it is not below it."""
    real, top = place.resolve(), root.resolve()
    return real.relative_to(top) if real.is_relative_to(top) and real != top else None
