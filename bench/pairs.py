"""Pairs with known answers, from any folder of photos: edited copies, look-alikes, shared overlays, plain pictures.

Photos are split in two, one side to fit on and one to report on, so that no photo, and no photo that looks like it, is
on both: by connected component of the look-alikes, and a folder named `heldout` is only ever reported on.
"""

import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from bench.scans import through_jpeg
from bench.strong_edits import SITES, STRONG, StrongEdit, page_with
from imagetools.edits import EDITS
from imagetools.folder import find_images
from imagetools.image_root import ImageRoot
from imagetools.matching.verify import ImageOpener
from imagetools.overlays import OVERLAYS

Side = Literal["fit", "report"]

SHARED: Final = Path(__file__).resolve().parents[2] / "shared" / "photos"
SAMPLES: Final = Path(__file__).resolve().parents[1] / "cli" / "samples"
LOOKALIKES: Final = "lookalikes.tsv"
HELD_OUT: Final = "heldout"
# Slices of one tomography of a rock, 256 × 256 and grey: neighbors look alike, so a sample has one of them at most
SERIES: Final = ("various/voc",)


@dataclass(frozen=True)
class Picture:
    """An image that can be made again: the name says which, `make` returns it in RGB."""

    name: str
    make: Callable[[], Image.Image]

    def look(self, box: tuple[int, int]) -> Image.Image:
        """Make it, at any box in full."""
        return self.make()


@dataclass(frozen=True)
class Pair:
    """Two pictures and the truth about them.

    kind  copy, strong copy, random, look-alike, overlay, page, plain copy or plain
    name  of the edit, the overlay or the kind of plain picture
    copy  the right answer
    """

    kind: str
    name: str
    copy: bool
    first: Picture
    second: Picture

    @property
    def openers(self) -> tuple[ImageOpener, ImageOpener]:
        """What opens both."""
        return self.first.look, self.second.look


class PhotoSides:
    """A folder of photos, with the look-alikes listed in it, split into sides."""

    def __init__(self, folder: Path) -> None:
        self._root = ImageRoot(folder)
        self.paths = sorted(find_images(folder))
        known = set(self.paths)
        listed = folder / LOOKALIKES
        lines = listed.read_text().splitlines() if listed.is_file() else []
        pairs = [(one, two) for one, two in (line.split("\t")[:2] for line in lines) if {one, two} <= known]
        series = [[path for path in self.paths if path.startswith(prefix)] for prefix in SERIES]
        self._component = _components(self.paths, [*pairs, *((of[0], path) for of in series for path in of)])
        self.lookalikes: Sequence[tuple[str, str]] = pairs

    def side_of(self, path: str) -> Side:
        """Tell which side a photo is on."""
        if path.startswith(f"{HELD_OUT}/"):
            return "report"
        return "report" if zlib.crc32(self._component[path].encode()) % 2 else "fit"

    def sample(self, side: Side, count: int, seed: int) -> list[str]:
        """Return `count` photos of the side, no two of which look alike; the held-out ones first."""
        paths = [path for path in self.paths if self.side_of(path) == side]
        random.Random(seed).shuffle(paths)
        paths.sort(key=lambda path: not path.startswith(f"{HELD_OUT}/"))
        unlike = {self._component[path]: path for path in reversed(paths)}
        return [path for path in paths if unlike[self._component[path]] == path][:count]

    def picture(self, path: str) -> Picture:
        """Return the photo as it is."""
        return Picture(path, lambda: self._root.open(path))


def copies(photos: PhotoSides, paths: Sequence[str], seed: int) -> Iterator[Pair]:
    """Every edit of every photo, with its photo."""
    for i, path in enumerate(paths):
        photo, other = photos.picture(path), photos.picture(paths[i - 1])
        for name in EDITS:
            yield Pair("copy", name, True, photo, _with_other(name, EDITS[name], photo, other, seed))


def strongly_edited(photos: PhotoSides, paths: Sequence[str], seed: int) -> Iterator[Pair]:
    """Every strong edit of every photo, with its photo."""
    for i, path in enumerate(paths):
        photo, other = photos.picture(path), photos.picture(paths[i - 1])
        for name, edit in STRONG.items():
            yield Pair("strong copy", name, True, photo, _with_other(name, edit, photo, other, seed))


def pages(photos: PhotoSides, paths: Sequence[str], count: int, seed: int) -> Iterator[Pair]:
    """`count` pairs of web pages of one site that show different photos, for each site."""
    rng = random.Random(seed)
    for site in range(SITES):
        for _ in range(count):
            one, two = (photos.picture(path) for path in rng.sample(paths, 2))
            yield Pair("page", "web page", False, _on_page(one, site), _on_page(two, site))


def unrelated(photos: PhotoSides, paths: Sequence[str], count: int, seed: int) -> Iterator[Pair]:
    """`count` different pairs of different photos; fewer if there are no more."""
    rng = random.Random(seed)
    possible = len(paths) * (len(paths) - 1) // 2
    pictures = [photos.picture(path) for path in paths]
    for number in rng.sample(range(possible), min(count, possible)):
        # the number of a cell below the diagonal, row by row
        row = int((1 + (1 + 8 * number) ** 0.5) / 2)
        yield Pair("random", "photos", False, pictures[row], pictures[number - row * (row - 1) // 2])


def lookalikes(photos: PhotoSides, side: Side) -> Iterator[Pair]:
    """The listed pairs of the side."""
    for one, two in photos.lookalikes:
        if photos.side_of(one) == side:
            yield Pair("look-alike", "photos", False, photos.picture(one), photos.picture(two))


def overlaid(photos: PhotoSides, paths: Sequence[str], count: int, seed: int) -> Iterator[Pair]:
    """`count` pairs of different photos of one size under the same overlay, for each overlay."""
    rng = random.Random(seed)
    for name in OVERLAYS:
        for number in range(count):
            one, two = (photos.picture(path) for path in rng.sample(paths, 2))
            style = seed + number
            yield Pair("overlay", name, False, _overlaid(name, one, one, style), _overlaid(name, two, one, style))


def plain(photos: PhotoSides, paths: Sequence[str], count: int, seed: int) -> Iterator[Pair]:
    """Pictures with few or no keypoints: copies of `count` of each kind, and `count` pairs of different ones."""
    for name, make in PLAIN.items():
        pictures = [_plain(name, make, photos.picture(path), seed + i) for i, path in enumerate(paths[:count])]
        for i, picture in enumerate(pictures):
            for edit in PLAIN_EDITS:
                yield Pair("plain copy", f"{name}, {edit}", True, picture, _plainly_edited(edit, picture))
            if len(pictures) > 1:
                yield Pair("plain", name, False, picture, pictures[i - 1])


def _with_other(name: str, edit: StrongEdit, photo: Picture, other: Picture, seed: int) -> Picture:
    def make() -> Image.Image:
        rng = random.Random(zlib.crc32(f"{seed} {name} {photo.name}".encode()))
        return edit(photo.make(), rng, other.make())

    return Picture(f"{photo.name}, {name} {seed}", make)


def _on_page(photo: Picture, site: int) -> Picture:
    return Picture(f"{photo.name} on site {site}", lambda: page_with(photo.make(), site))


def _overlaid(name: str, photo: Picture, size_of: Picture, style: int) -> Picture:
    def make() -> Image.Image:
        fitted = ImageOps.fit(photo.make(), size_of.make().size)
        return OVERLAYS[name](fitted, random.Random(style))

    return Picture(f"{photo.name}, {name} {style} as {size_of.name}", make)


def _plain(name: str, make: "_PlainMaker", photo: Picture, seed: int) -> Picture:
    return Picture(f"{photo.name}, {name} {seed}", lambda: make(photo.make(), np.random.default_rng(seed)))


def _plainly_edited(edit: str, picture: Picture) -> Picture:
    return Picture(f"{picture.name}, {edit}", lambda: PLAIN_EDITS[edit](picture.make()))


_PlainMaker = Callable[[Image.Image, np.random.Generator], Image.Image]


def _gradient(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    corners = Image.fromarray(rng.integers(0, 256, (2, 2, 3), dtype=np.uint8))
    # from middle to middle of the four, so that the colours run to the edges
    return corners.resize(photo.size, Image.Resampling.BILINEAR, box=(0.5, 0.5, 1.5, 1.5))


def _sky(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    top, bottom = np.array([90, 140, 210]) + rng.integers(-40, 40, 3), np.array([190, 210, 235])
    down = np.linspace(0, 1, photo.height)[:, np.newaxis, np.newaxis]
    clouds = Image.fromarray(rng.integers(0, 256, (4, 5), dtype=np.uint8)).resize(photo.size, Image.Resampling.BICUBIC)
    white = np.asarray(clouds, dtype=np.float64)[..., np.newaxis] / 255 * rng.uniform(0.05, 0.35)
    sky = (top + (bottom - top) * down) * (1 - white) + 255 * white + rng.normal(0, 1.5, (*photo.size[::-1], 1))
    return Image.fromarray(np.clip(sky, 0, 255).astype(np.uint8))


def _out_of_focus(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    return photo.filter(ImageFilter.GaussianBlur(max(photo.size) * rng.uniform(0.04, 0.08)))


def _dark(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    dim = np.asarray(photo, dtype=np.float64) * rng.uniform(0.03, 0.1)
    return Image.fromarray(np.clip(dim + rng.normal(0, 1, dim.shape), 0, 255).astype(np.uint8))


PLAIN: Final[dict[str, _PlainMaker]] = {
    "gradient": _gradient,
    "sky": _sky,
    "out of focus": _out_of_focus,
    "dark": _dark,
}


def _shrunk(image: Image.Image, by: int) -> Image.Image:
    return image.resize((max(1, image.width // by), max(1, image.height // by)), Image.Resampling.LANCZOS)


def _cropped(image: Image.Image) -> Image.Image:
    """80 % of the area, from the upper left of the middle."""
    width, height = round(image.width * 0.8**0.5), round(image.height * 0.8**0.5)
    left, top = (image.width - width) // 3, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


PLAIN_EDITS: Final[dict[str, Callable[[Image.Image], Image.Image]]] = {
    "re-encoded": partial(through_jpeg, quality=50),
    "half size": partial(_shrunk, by=2),
    "mirrored": ImageOps.mirror,
    "JPEG 25": partial(through_jpeg, quality=25),
    "a fifth of the size": partial(_shrunk, by=5),
    "cropped to 80 %": _cropped,
}


def _components(paths: Sequence[str], pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return for each path the first path that it is connected with by pairs."""
    leader = {path: path for path in paths}

    def lead(path: str) -> str:
        while leader[path] != path:
            path = leader[path]
        return path

    for one, two in pairs:
        first, second = sorted((lead(one), lead(two)))
        leader[second] = first
    return {path: lead(path) for path in paths}
