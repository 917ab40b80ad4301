"""Crowds in a collection: what they cost search and the matcher, and whether every other copy still finds its group.

    python -m bench.crowds [--folder FOLDER] [--saved N] [--pages N] [--logos N] [--cache FILE]

Three crowds come after some photos: one photo saved N times, each slightly cropped, at another quality; N nearly blank
pages; and N of the photos with one logo. Images come as the encoder describes them,
in batches as search takes them. A thousand before and after a crowd show what it changes: the time of search, and how
many neighbors an image has, each of which the matcher compares. "Found" is the share of edited copies of photos whose
original is among the neighbors; for logos the copies have the logo, too.
"""

import io
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

import click
import cv2
from PIL import Image
from rich.console import Console
from rich.table import Table

from bench.candidates import EditedCopy, described, gather, search
from bench.embedding_cache import Cache
from bench.pairs import SAMPLES, SHARED, PhotoSides
from bench.sheets import CONTENTS, SHEETS, sheet
from imagetools.fingerprint.encoder import Encoder
from imagetools.image_root import ImageRoot
from imagetools.index.index import Index
from imagetools.overlays import logo
from schemas.records import Embedding
from streams.config import Config
from streams.encoder_consumer import EncoderStage
from streams.search.log_index import put_record
from streams.search.outputs import more_neighbors
from streams.search_consumer import SearchStage
from streams.stage import Received

AT_ONCE = 256
STEPS = 5

Drawn = Callable[[int], Image.Image]


def saved(photo: Image.Image) -> Drawn:
    """One photo, in files that differ."""

    def draw(number: int) -> Image.Image:
        rng = random.Random(number)
        left, top, right, bottom = (rng.uniform(0, 0.01) for _ in range(4))
        width, height = photo.size
        box = (round(left * width), round(top * height), round((1 - right) * width), round((1 - bottom) * height))
        packed = io.BytesIO()
        photo.crop(box).save(packed, "JPEG", quality=rng.randrange(50, 96))
        return Image.open(packed).convert("RGB")

    return draw


def page(number: int) -> Image.Image:
    """A nearly blank page; no two are equal."""
    kinds = list(SHEETS)
    kind, style = kinds[number % len(kinds)], number // len(kinds)
    return sheet(kind, style // CONTENTS, style % CONTENTS)


def with_logo(root: ImageRoot, paths: Sequence[str]) -> Drawn:
    """Photos with one logo."""

    def draw(number: int) -> Image.Image:
        return logo(root.open(paths[number % len(paths)]), random.Random("one logo"))

    return draw


def describe(name: str, draw: Drawn, count: int, encoder: Encoder, cache: Cache) -> Iterator[Embedding]:
    """Yield images as the encoder describes them."""
    for start in range(0, count, AT_ONCE):
        names = [f"{name} {number:06}.jpg" for number in range(start, min(count, start + AT_ONCE))]
        if missing := cache.missing(names):
            with tempfile.TemporaryDirectory() as folder:
                for one in missing:
                    draw(int(one[-10:-4])).save(Path(folder, one), quality=90)
                with closing(EncoderStage(encoder, ImageRoot(Path(folder)))) as stage:
                    for record in described(stage, missing):
                        cache.add(record.relative_path, record)
            cache.save()
        yield from (known for one in names if (known := cache.get(one)) is not None)


class Crowd:
    """An index that gets images as search does."""

    def __init__(self) -> None:
        self._index = Index()
        self._config = Config()
        self._orders = iter(range(1 << 62))

    def add(self, records: Sequence[Embedding]) -> tuple[float, float]:
        """Search for images and add them; return CPU milliseconds and neighbors, an image."""
        began, neighbors = time.process_time(), 0
        for start in range(0, len(records), SearchStage.batch_size):
            change = self._index.change()
            for record in records[start : start + SearchStage.batch_size]:
                received = Received(record.relative_path, record, 0, next(self._orders), 0)
                wanted = self._config.nb_neighbors + more_neighbors(record.codes, self._config)
                neighbors += len(put_record(change, received, wanted, self._config.nb_local).neighbors)
            change.apply()
        return 1000 * (time.process_time() - began) / len(records), neighbors / len(records)

    def found(self, copies: Sequence[EditedCopy]) -> float:
        """Return the share of copies whose original is among the neighbors."""
        change, found = self._index.change(), 0
        for copy in copies:
            wanted = self._config.nb_neighbors + more_neighbors(copy.record.codes, self._config)
            hits = search(change, copy.record, wanted, self._config.nb_local)
            found += any(hit.relative_path == copy.original for hit in hits)
        return found / len(copies)

    def __len__(self) -> int:
        return len(self._index)

    def close(self) -> None:
        """Free its memory."""
        self._index.close()


def report(
    name: str, photos: Sequence[Embedding], crowd: Iterator[Embedding], count: int, copies: Sequence[EditedCopy]
) -> Table:
    """Return what images cost as a crowd grows."""
    table = Table("images", "search, CPU ms", "neighbors", "copies found, %", title=f"{count:,} {name}")
    with closing(Crowd()) as index:
        cost = index.add(photos)
        table.add_row(f"{len(index):,}", *(f"{one:.2f}" for one in cost), f"{100 * index.found(copies):.2f}")
        for _ in range(STEPS):
            cost = index.add(list(islice(crowd, -(-count // STEPS))))
            table.add_row(f"{len(index):,}", *(f"{one:.2f}" for one in cost), f"{100 * index.found(copies):.2f}")
    return table


@click.command()
@click.option("--folder", type=click.Path(exists=True, file_okay=False, path_type=Path), help="A folder of photos.")
@click.option("--saved", "nb_saved", default=1000, show_default=True, help="Files of one photo.")
@click.option("--pages", default=1000, show_default=True, help="Nearly blank pages.")
@click.option("--logos", default=500, show_default=True, help="Photos with one logo.")
@click.option("--count", default=91, show_default=True, help="Photos to edit, at most.")
@click.option(
    "--cache", "file", type=click.Path(dir_okay=False, path_type=Path), help="A file to keep descriptions in."
)
def main(folder: Path | None, nb_saved: int, pages: int, logos: int, count: int, file: Path | None) -> None:
    """Print what each crowd costs."""
    cv2.setNumThreads(1)
    chosen, cache, encoder = folder or (SHARED if SHARED.is_dir() else SAMPLES), Cache(file), Encoder.load()
    sides, root, console = PhotoSides(chosen), ImageRoot(chosen), Console(width=100)
    asked = sides.sample("report", count, 0)
    photos, copies = gather([chosen], asked, cache, lambda path: sides.side_of(path) == "report")
    others = [one.relative_path for one in photos if one.relative_path not in set(asked)] or list(asked)
    crowds: dict[str, tuple[Drawn, int]] = {
        "files of one photo": (saved(root.open(others[0])), nb_saved),
        "nearly blank pages": (page, pages),
        "photos with one logo": (with_logo(root, others), min(logos, len(others))),
    }
    for name, (draw, number) in crowds.items():
        console.print(report(name, photos, describe(name, draw, number, encoder, cache), number, copies))
    draw = with_logo(root, asked)
    marked = list(describe("asked with the logo", draw, len(asked), encoder, cache))
    last = list(crowds)[-1]
    with closing(Crowd()) as index:
        index.add(photos)
        index.add(list(describe(last, *crowds[last], encoder, cache)))
        also = [EditedCopy(path, "logo", record) for path, record in zip(asked, marked, strict=True)]
        console.print(f"copies with the logo, beside all that have it: {100 * index.found(also):.1f} % found")


if __name__ == "__main__":
    main()
