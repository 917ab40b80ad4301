"""The local index as it grows: adds, searches and bytes.

    python -m bench.index [--images N ...] [--photos FOLDER] [--count N]

The codes are those of photos, and beyond their number codes drawn from all of them with a fourth of their bits flipped,
which agree with nothing. Images come in batches, as a stage adds them; "longest" is the slowest batch, in which
segments merged. Searches are for edited copies of photos of the index. All times are those of the processor.
"""

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from bench.pairs import SAMPLES, SHARED
from imagetools.edits import EDITS
from imagetools.features.config import FeatureConfig
from imagetools.features.extract import extract
from imagetools.features.local_codes import local_codes
from imagetools.folder import find_images
from imagetools.image_root import ImageRoot
from imagetools.index.local_index import LocalChange, LocalIndex
from imagetools.index.local_votes import bits_for, count_votes
from imagetools.local_codes import LocalCodes

BATCH = 32
SEARCHES = 200
FLIPPED = 32
"""Bits of a code, of 128: beyond the distance at which codes count as alike."""

MASKS = 1 << 16
"""How many ways to flip them are drawn."""


@dataclass(frozen=True)
class IndexCost:
    """What an index of some images costs.

    add       milliseconds an image, merging included
    longest   seconds, the slowest batch
    search    milliseconds, at the median
    slow      milliseconds, of 99 in 100 searches
    looked    codes looked at by a search
    found     share of the searches with the original first
    nbytes    an image
    """

    images: int
    add: float
    longest: float
    search: float
    slow: float
    looked: float
    found: float
    nbytes: float


def measure(
    known: Sequence[LocalCodes], asked: Sequence[tuple[int, LocalCodes]], sizes: Sequence[int]
) -> Iterator[IndexCost]:
    """Yield the cost at each of the ascending sizes; `asked` has the number of the original with each search."""
    index, unknown = LocalIndex(), Unknown(known)
    spent = longest = 0.0
    for size in sizes:
        while index.next_number < size:
            numbers = range(index.next_number, min(size, index.next_number + BATCH))
            batch = [known[n] if n < len(known) else unknown.draw() for n in numbers]
            began = time.process_time()
            change = LocalChange(index)
            for codes in batch:
                change.add(codes)
            change.apply()
            took = time.process_time() - began
            spent, longest = spent + took, max(longest, took)
        times, first = [], 0
        for number, codes in asked:
            began = time.process_time()
            hits = index.search(codes, 10)
            times.append(1000 * (time.process_time() - began))
            first += bool(hits) and hits[0].number == number
        bits = bits_for(len(index))
        looked = [count_votes(index.segments(), codes, bits=bits, gone=(), least=1).looked for _, codes in asked]
        yield IndexCost(
            size,
            1000 * spent / size,
            longest,
            float(np.median(times)),
            float(np.quantile(times, 0.99)),
            float(np.mean(looked)),
            first / len(asked),
            index.nbytes / size,
        )


class Unknown:
    """Images that have the codes of no photo."""

    def __init__(self, known: Sequence[LocalCodes]) -> None:
        self._known = known
        self._codes = np.concatenate([codes.own for codes in known])
        self._rng = np.random.default_rng(0)
        bits = np.zeros((MASKS, 128), np.bool_)
        bits[:, :FLIPPED] = True
        self._masks = np.packbits(self._rng.permuted(bits, axis=1), axis=1)

    def draw(self) -> LocalCodes:
        """Return the codes of one more image, as many as a photo has."""
        rng, like = self._rng, self._known[int(self._rng.integers(len(self._known)))]
        own = self._codes[rng.integers(0, len(self._codes), len(like))]
        own ^= self._masks[rng.integers(0, MASKS, len(like))]
        return LocalCodes(own, like.mirrored, like.size, like.direction)


@click.command()
@click.option("--images", "sizes", multiple=True, type=int, default=(10_000, 100_000), show_default=True)
@click.option("--photos", type=click.Path(exists=True, file_okay=False, path_type=Path), help="A folder of photos.")
@click.option("--count", default=2000, show_default=True, help="Photos to take codes of, at most.")
def main(sizes: Sequence[int], photos: Path | None, count: int) -> None:
    folder = photos or (SHARED if SHARED.is_dir() else SAMPLES)
    root, rng = ImageRoot(folder), random.Random(0)
    paths = sorted(find_images(folder))
    paths = rng.sample(paths, min(count, len(paths)))
    config = FeatureConfig()
    known = [local_codes(extract(root.open(path), config)) for path in paths]
    asked = []
    for _ in range(SEARCHES):
        number, edit = rng.randrange(len(paths)), rng.choice(list(EDITS))
        copy = EDITS[edit](root.open(paths[number]), rng, root.open(rng.choice(paths)))
        asked.append((number, local_codes(extract(copy, config))))
    table = Table(
        "images", "add, ms", "longest batch, s", "search, ms", "99 %", "looked at", "first, %", "bytes an image"
    )
    for cost in measure(known, asked, sorted(sizes)):
        table.add_row(
            f"{cost.images:,}",
            f"{cost.add:.2f}",
            f"{cost.longest:.1f}",
            f"{cost.search:.1f}",
            f"{cost.slow:.1f}",
            f"{cost.looked:,.0f}",
            f"{100 * cost.found:.1f}",
            f"{cost.nbytes:,.0f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
