"""Small pictures of which it is known which show the same, and a few files that are none."""

import io
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Final

from PIL import Image, ImageEnhance, ImageOps

from tests.support.streaming import scene

SIZE: Final = (256, 192)
MOST_COPIES: Final = 3
COPIED: Final = 0.4
"""Of the scenes, those of which there are copies."""

BROKEN_EVERY: Final = 500
CHUNK: Final = 100


def _resized(image: Image.Image, rng: random.Random) -> Image.Image:
    share = rng.uniform(0.6, 0.9)
    return image.resize((round(image.width * share), round(image.height * share)))


def _cropped(image: Image.Image, rng: random.Random) -> Image.Image:
    share = rng.uniform(0.8, 0.95)
    width, height = round(image.width * share), round(image.height * share)
    x, y = rng.randrange(image.width - width), rng.randrange(image.height - height)
    return image.crop((x, y, x + width, y + height))


EDITS: Final[tuple[Callable[[Image.Image, random.Random], Image.Image], ...]] = (
    lambda image, rng: image,
    _resized,
    _cropped,
    lambda image, rng: ImageOps.mirror(image),
    lambda image, rng: ImageEnhance.Brightness(image).enhance(rng.uniform(0.7, 1.3)),
)


@dataclass(frozen=True)
class Planned:
    """One file. scene None: it is no image."""

    path: str
    scene: int | None
    copy: int


def plan(count: int, seed: int) -> list[Planned]:
    """Return the files in the order in which they are announced: some copies follow soon, others late."""
    rng = random.Random(seed)
    placed: list[tuple[float, Planned]] = []
    number = 0
    while len(placed) < count:
        at = rng.random()
        if number % BROKEN_EVERY == BROKEN_EVERY - 1:
            placed.append((at, Planned(f"broken/{number}.jpg", None, 0)))
        copies = rng.randint(1, MOST_COPIES) if rng.random() < COPIED else 0
        for copy in range(1 + copies):
            when = at if copy == 0 else rng.uniform(at, 1.0) if rng.random() < 0.5 else at + rng.uniform(0, 0.01)
            placed.append((when, Planned(f"{number % 97}/{number}-{copy}.jpg", number, copy)))
        number += 1
    placed = placed[:count]
    return [planned for _, planned in sorted(placed, key=lambda one: (one[0], one[1].path))]


def true_pairs(planned: list[Planned]) -> set[frozenset[str]]:
    """Return every pair of files that show one scene."""
    by_scene: dict[int, list[str]] = {}
    for one in planned:
        if one.scene is not None:
            by_scene.setdefault(one.scene, []).append(one.path)
    return {frozenset(pair) for paths in by_scene.values() for pair in combinations(paths, 2)}


def write(planned: list[Planned], folder: Path, seed: int, processes: int) -> None:
    """Write all files, on several processes."""
    for one in planned:
        (folder / one.path).parent.mkdir(exist_ok=True)
    chunks = [planned[i : i + CHUNK] for i in range(0, len(planned), CHUNK)]
    with ProcessPoolExecutor(processes) as pool:
        for _ in pool.map(partial(_write_chunk, folder, seed), chunks):
            pass


def _write_chunk(folder: Path, seed: int, chunk: list[Planned]) -> None:
    for one in chunk:
        (folder / one.path).write_bytes(_bytes_of(one, seed))


def _bytes_of(one: Planned, seed: int) -> bytes:
    if one.scene is None:
        return b"\xff\xd8 this is no image"
    rng = random.Random(f"{seed} {one.path}")
    image = scene(seed * 1_000_000 + one.scene, SIZE)
    out = io.BytesIO()
    if one.copy == 0:
        image.save(out, "JPEG", quality=90)
    else:
        rng.choice(EDITS)(image, rng).save(out, "JPEG", quality=rng.randint(60, 85))
    return out.getvalue()


def paths(planned: list[Planned]) -> Iterator[str]:
    """Yield the path of each file."""
    return (one.path for one in planned)
