"""How often the suggestion of what to keep is the original, beside one copy that was edited.

    python -m bench.keep [--photos FOLDER] [--count N] [--side report] [--quality 92] [--saved 95]

Originals are photos at four fifths of their size, so that no earlier compression shows, saved as JPEG. Copies are made
from what such a file shows, and saved as JPEG. Each pair is judged in both orders of announcement. Copies that are not
found, or show a part or more of the picture, are no members of the group, and do not count.
"""

import io
import random
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
import cv2
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from rich.console import Console
from rich.table import Table

from bench.pairs import SHARED, PhotoSides
from bench.scans import through_jpeg
from imagetools.edits import EDITS
from imagetools.features.extract import Features, extract
from imagetools.formats import open_image
from imagetools.grouping.keep import FileFacts, suggest
from imagetools.grouping.quality import measure
from imagetools.grouping.records import ImageKey
from imagetools.grouping.relations import Relation
from imagetools.matching.config import MatcherConfig
from imagetools.matching.verify import verify
from imagetools.overlays import OVERLAYS
from schemas.records import Duplicate
from streams.grouping.pair_marks import marks_of
from streams.pair_evidence import evidence_of

Copies = Mapping[str, Callable[[Image.Image, random.Random, Image.Image], Image.Image]]

SHRUNK: Final = 0.8
CORNERS: Final = {"la": (0.03, 0.03), "ra": (0.97, 0.03), "ld": (0.03, 0.97), "rd": (0.97, 0.97)}
CONFIG: Final = MatcherConfig()


def _sale(image: Image.Image, rng: random.Random, other: Image.Image) -> Image.Image:
    """A line of text in a corner."""
    copy = image.copy()
    anchor = rng.choice(sorted(CORNERS))
    at = CORNERS[anchor][0] * image.width, CORNERS[anchor][1] * image.height
    colour, font = rng.choice(["white", "red", "yellow", "black"]), ImageFont.load_default(max(8, image.height / 10))
    ImageDraw.Draw(copy).text(at, "SALE 50 %", fill=colour, font=font, anchor=anchor)
    return copy


def _filtered(image: Image.Image, rng: random.Random, other: Image.Image, kind: ImageFilter.Filter) -> Image.Image:
    return image.filter(kind)


def _slightly_blurred(image: Image.Image, rng: random.Random, other: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(max(image.size) / 200))


def _overlaid(image: Image.Image, rng: random.Random, other: Image.Image, name: str) -> Image.Image:
    return OVERLAYS[name](image, rng)


def _as_it_is(image: Image.Image, rng: random.Random, other: Image.Image) -> Image.Image:
    return image


EDITED: Final[Copies] = {
    **EDITS,
    "sharpened, 150 %": partial(_filtered, kind=ImageFilter.UnsharpMask(2, 150)),
    "sharpened, 300 %": partial(_filtered, kind=ImageFilter.UnsharpMask(2, 300)),
    "blur of half a percent": _slightly_blurred,
    "text in a corner": _sale,
    **{name: partial(_overlaid, name=name) for name in ("logo", "meme", "watermark")},
}
"""Saved at one quality."""

QUALITIES: Final = (50, 70, 88, 95)
"""The original is saved again at these."""


@dataclass(frozen=True)
class SavedFile:
    """A JPEG, with what is known of it."""

    features: Features
    facts: FileFacts


def read(data: bytes, name: str) -> SavedFile:
    """Look at a file as the grouping stage does."""
    header = open_image(data, name)
    features = extract(Image.open(io.BytesIO(data)).convert("RGB"), CONFIG)
    quality = measure(data, name, Image.fromarray(features.close), features.colours, header)
    return SavedFile(features, FileFacts(*header.size, len(data), header.format or "", quality=quality))


def kept(original: SavedFile, copy: SavedFile) -> tuple[bool, ...] | None:
    """Return whether the original is kept where it was announced first, and where the copy was; None for no group."""
    ours, theirs = ImageKey("original", "1"), ImageKey("copy", "2")
    found = evidence_of("original", verify(copy.features, original.features, CONFIG))
    if not isinstance(found, Duplicate) or found.relation != Relation.SAME:
        return None
    marks = marks_of(found, Relation.SAME)
    facts = {
        ours: _marked(original.facts, written_on=marks.framed[1]),
        theirs: _marked(copy.facts, written_on=marks.framed[0]),
    }
    return tuple(suggest(order, facts).keep == ours for order in ([ours, theirs], [theirs, ours]))


def _marked(facts: FileFacts, *, written_on: bool) -> FileFacts:
    return FileFacts(facts.width, facts.height, facts.bytes, facts.format, written_on=written_on, quality=facts.quality)


def _of_photo(photos: PhotoSides, paths: list[str], i: int, quality: int, saved: int) -> Iterator[tuple[str, Any]]:
    photo, other = photos.picture(paths[i]).make(), photos.picture(paths[i - 1]).make()
    size = round(SHRUNK * photo.width), round(SHRUNK * photo.height)
    data = _jpeg(photo.resize(size, Image.Resampling.LANCZOS), quality)
    original, shown = read(data, paths[i]), Image.open(io.BytesIO(data)).convert("RGB")
    for name, edit in EDITED.items():
        rng = random.Random(zlib.crc32(f"{name} {paths[i]}".encode()))
        yield name, kept(original, read(_jpeg(edit(shown, rng, other), saved), paths[i]))
    for again in QUALITIES:
        yield f"saved again at {again}", kept(original, read(_jpeg(shown, again), paths[i]))
    twice = _jpeg(through_jpeg(shown, 70), 88)
    yield "saved again at 70, then 88", kept(original, read(twice, paths[i]))


def _jpeg(image: Image.Image, quality: int) -> bytes:
    packed = io.BytesIO()
    image.save(packed, "JPEG", quality=quality)
    return packed.getvalue()


@click.command()
@click.option(
    "--photos", default=SHARED, type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of photos."
)
@click.option("--count", default=40, show_default=True, help="Photos.")
@click.option("--seed", default=2, show_default=True)
@click.option("--side", type=click.Choice(["report", "fit"]), default="report", show_default=True)
@click.option("--quality", default=92, show_default=True, help="Of the originals.")
@click.option("--saved", default=95, show_default=True, help="Quality of the copies.")
def main(photos: Path, count: int, seed: int, side: Any, quality: int, saved: int) -> None:
    """Print how often the original is kept."""
    sides = PhotoSides(photos)
    paths = sides.sample(side, count, seed)
    cv2.setNumThreads(1)
    with ThreadPoolExecutor() as pool:
        judged = pool.map(lambda i: list(_of_photo(sides, paths, i, quality, saved)), range(len(paths)))
        results = [one for some in judged for one in some]
    table = Table("copy", "pairs", "original kept where it came first, %", "where the copy came first, %")
    counts, both = Counter[str](), {name: Counter[int]() for name, _ in results}
    for name, found in results:
        if found is not None:
            counts[name] += 1
            both[name].update(number for number, is_kept in enumerate(found) if is_kept)
    for name, found_by_order in both.items():
        shares = (f"{100 * found_by_order[order] / max(1, counts[name]):.0f}" for order in (0, 1))
        table.add_row(name, str(counts[name]), *shares)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
