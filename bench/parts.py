"""Parts: how many pictures inside pictures are found, how many photographs have a false one, and the time.

    python -m bench.parts [--photos FOLDER] [--count N]

A part counts as found if it shows at least 60 % of the inserted photo, and little else.
"""

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np
from PIL import Image, ImageOps
from rich.console import Console
from rich.table import Table

from bench.pairs import SAMPLES, SERIES, SHARED
from imagetools.edits import padding
from imagetools.fingerprint.parts import PartBox, find_parts
from imagetools.folder import find_images
from imagetools.image_root import ImageRoot
from imagetools.overlays import screenshot

SIZE = (600, 450)

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, as shares of width and height."""

Maker = Callable[[Image.Image, list[Image.Image], random.Random], tuple[Image.Image, Box | None]]


def collage(columns: int, rows: int, gap: int) -> Maker:
    """Return a maker of collages with the photo in one cell and others in the rest."""

    def make(photo: Image.Image, others: list[Image.Image], rng: random.Random) -> tuple[Image.Image, Box]:
        width, height = columns * SIZE[0] + (columns - 1) * gap, rows * SIZE[1] + (rows - 1) * gap
        canvas = Image.new("RGB", (width, height), "white")
        own = rng.randrange(columns * rows)
        for cell in range(columns * rows):
            x, y = (cell % columns) * (SIZE[0] + gap), (cell // columns) * (SIZE[1] + gap)
            canvas.paste(photo if cell == own else rng.choice(others), (x, y))
            if cell == own:
                box = (x / width, y / height, (x + SIZE[0]) / width, (y + SIZE[1]) / height)
        return canvas, box

    return make


def on_a_screen(photo: Image.Image, others: list[Image.Image], rng: random.Random) -> tuple[Image.Image, None]:
    """Put a photo on a phone's screen. Its place depends on its shape, so any part counts."""
    return screenshot(photo, rng), None


MAKERS: dict[str, Maker] = {
    "2 cells, a line between them": collage(2, 1, 8),
    "4 cells, lines between them": collage(2, 2, 8),
    "9 cells, lines between them": collage(3, 3, 8),
    "2 cells, no line": collage(2, 1, 0),
    "4 cells, no line": collage(2, 2, 0),
    "screenshot (any part)": on_a_screen,
    "letterbox or border (any part)": lambda photo, others, rng: (padding(photo, rng), None),
}


@click.command()
@click.option("--photos", type=click.Path(exists=True, file_okay=False, path_type=Path), help="A folder of photos.")
@click.option("--count", default=300, show_default=True, help="Photos to take, at most.")
def main(photos: Path | None, count: int) -> None:
    folder = photos or (SHARED if SHARED.is_dir() else SAMPLES)
    # without the slices of a tomography, which have no edges like a photo's
    paths = [path for path in find_images(folder) if not path.startswith(SERIES)]
    chosen = random.Random(0).sample(paths, min(count, len(paths)))
    images = [ImageOps.fit(ImageRoot(folder).open(path), SIZE) for path in chosen]
    table = Table("", "found, %", "parts an image", "ms", title=f"{len(images)} photos of {folder}")
    for name, make in MAKERS.items():
        rng = random.Random(name)
        made = [make(image, images, rng) for image in images]
        _row(table, name, made, lambda box, parts: any(_close(part, box) for part in parts) if box else bool(parts))
    _row(
        table, "photographs as they are (any part: none is there)", [(i, None) for i in images], lambda _, parts: parts
    )
    Console(width=120).print(table)


def _row(table: Table, name: str, made: Sequence[tuple[Image.Image, object]], good: Callable[..., object]) -> None:
    began = time.perf_counter()
    found = [find_parts(image) for image, _ in made]
    spent = (time.perf_counter() - began) / len(made) * 1000
    hits = np.mean([bool(good(box, parts)) for (_, box), parts in zip(made, found, strict=True)])
    table.add_row(name, f"{100 * hits:.1f}", f"{np.mean([len(parts) for parts in found]):.2f}", f"{spent:.1f}")


def _close(part: PartBox, box: Box) -> bool:
    left, top, right, bottom = box
    across = min(part.right, right) - max(part.left, left)
    down = min(part.bottom, bottom) - max(part.top, top)
    shared = max(0.0, across) * max(0.0, down)
    return shared >= 0.6 * (right - left) * (bottom - top) and shared >= 0.9 * part.area


if __name__ == "__main__":
    main()
