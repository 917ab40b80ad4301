"""What the matcher says of colour variants, of bursts and of edited copies, in the words of a verdict.

    python -m bench.said [--photos FOLDER] [--count N] [--side fit]

`bench.quality` prints the same table, with a fifth of its photos.
"""

import random
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import click
import cv2
import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Column, Table

from bench.bursts import BURSTS
from bench.colour_variants import LIGHT, VARIANTS
from bench.pairs import SHARED, PhotoSides, Side
from imagetools.edits import EDITS
from imagetools.features.extract import extract
from imagetools.matching.config import MatcherConfig
from imagetools.matching.verify import Verification, verify

WORDS: Final = ("recoloured", "without colour", "colours adjusted", "same scene, moved", "re-encoded")

WIDTH: Final = 150
"""Characters of a line: the words are long."""

Said = tuple[str, Verification]
"""The kind of a pair, and its verdict."""


def judge(photos: PhotoSides, side: Side, count: int, seed: int, config: MatcherConfig) -> list[Said]:
    """Return the verdicts on every variant, burst and edit of `count` photos."""
    paths = photos.sample(side, count, seed)
    cv2.setNumThreads(1)
    with ThreadPoolExecutor() as pool:
        judged = pool.map(lambda i: list(_of_photo(photos, paths, i, seed, config)), range(len(paths)))
        return [one for some in judged for one in some]


def _of_photo(photos: PhotoSides, paths: Sequence[str], i: int, seed: int, config: MatcherConfig) -> Iterator[Said]:
    photo, other = photos.picture(paths[i]).make(), photos.picture(paths[i - 1]).make()

    def chance(kind: str) -> random.Random:
        return random.Random(zlib.crc32(f"{seed} {kind} {paths[i]}".encode()))

    for kind, colour in (VARIANTS | LIGHT).items():
        yield kind, _verdict(colour(photo, chance(kind)), photo, config)
    for kind, burst in BURSTS.items():
        yield f"burst, {kind}", _verdict(*burst(photo, other, chance(kind)), config)
    for kind, edit in EDITS.items():
        yield kind, _verdict(edit(photo, chance(kind), other), photo, config)


def _verdict(candidate: Image.Image, neighbor: Image.Image, config: MatcherConfig) -> Verification:
    looks = (lambda box: candidate), (lambda box: neighbor)
    return verify(extract(candidate, config), extract(neighbor, config), config, looks)


def table(said: Sequence[Said]) -> Table:
    """One row a kind: how many are found, what is said of them, and by how far the colours differ."""
    found = Table(
        Column("kind", no_wrap=True),
        "pairs",
        "found, %",
        *(f"“{word}”, %" for word in WORDS),
        "ΔE, median",
        title="said of them",
    )
    for kind in dict.fromkeys(kind for kind, _ in said):
        verdicts = [verdict for one, verdict in said if one == kind]
        copies = [verdict for verdict in verdicts if verdict.duplicate]
        shares = [
            f"{100 * sum(word in verdict.edit for verdict in copies) / max(1, len(copies)):.0f}" for word in WORDS
        ]
        gap = f"{np.median([verdict.recoloured for verdict in copies]):.1f}" if copies else ""
        found.add_row(kind, str(len(verdicts)), f"{100 * len(copies) / len(verdicts):.1f}", *shares, gap)
    return found


@click.command()
@click.option(
    "--photos", default=SHARED, type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of photos."
)
@click.option("--count", default=40, show_default=True, help="Photos.")
@click.option("--seed", default=2, show_default=True)
@click.option("--side", type=click.Choice(["report", "fit"]), default="report", show_default=True)
def main(photos: Path, count: int, seed: int, side: Any) -> None:
    """Print what the matcher says."""
    Console(width=WIDTH).print(table(judge(PhotoSides(photos), side, count, seed, MatcherConfig())))


if __name__ == "__main__":
    main()
