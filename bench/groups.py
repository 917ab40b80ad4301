"""Grouping: how fast a million pairs are replayed, and how much memory an image takes.

    python -m bench.groups [--pairs NUMBER] [--copies NUMBER] [--batch NUMBER]

The pictures have from one copy to 5,000, most of them one or two. Each copy has a pair with the first image of its
picture and with up to four others, as search finds them. One image in twenty also has a pair that shares a part of
another picture, and one in a hundred a pair that comparing contradicts.
"""

import random
import resource
import time
import tracemalloc
from collections.abc import Iterator

import click
from rich.console import Console
from rich.table import Table

from imagetools.grouping.grouping import Grouping
from imagetools.grouping.records import Edge, GroupingChange, ImageKey, Placed
from imagetools.grouping.relations import Relation

PAIRS_OF_A_COPY = 5
LINKS = 0.05
MISTAKES = 0.01


def log(pairs: int, most_copies: int, rng: random.Random) -> Iterator[GroupingChange]:
    """Yield images and pairs in the order of a log, until there are enough pairs."""
    pictures: list[list[ImageKey]] = []
    place = made = 0
    while made < pairs:
        copies = min(int(rng.paretovariate(1.0)) + 1, most_copies)
        # a picture's copies come at once, or long after the first
        images = pictures[rng.randrange(len(pictures))] if pictures and rng.random() < 0.2 else []
        if not images:
            pictures.append(images)
        for _ in range(copies):
            key = ImageKey(f"folder {place % 1000}/image {place}.jpg", f"{len(pictures)}:{place}")
            yield Placed(*key, place)
            found = images if len(images) <= PAIRS_OF_A_COPY else [images[0], *rng.sample(images, PAIRS_OF_A_COPY - 1)]
            found = list(dict.fromkeys(found))
            yield from (Edge(key, other, Relation.SAME, 0.99) for other in found)
            made += len(found)
            if rng.random() < LINKS + MISTAKES:
                other = rng.choice(rng.choice(pictures) or [key])
                if other != key and other not in found:
                    relation = Relation.CROP if rng.random() < LINKS / (LINKS + MISTAKES) else Relation.SAME
                    yield Edge(key, other, relation, 0.8)
                    made += 1
            images.append(key)
            place += 1


def contradict(left: ImageKey, right: ImageKey) -> Relation:
    """Compare as pictures would."""
    return Relation.SAME if left.content.split(":")[0] == right.content.split(":")[0] else Relation.NONE


def replay(changes: list[GroupingChange], batch: int) -> Grouping:
    """Apply a log in batches."""
    grouping = Grouping(contradict)
    for start in range(0, len(changes), batch):
        grouping.apply(changes[start : start + batch])
    return grouping


@click.command()
@click.option("--pairs", default=1_000_000, show_default=True, type=click.IntRange(1), help="Pairs to replay.")
@click.option("--copies", default=5000, show_default=True, type=click.IntRange(1), help="Copies of a picture, at most.")
@click.option("--batch", default=1000, show_default=True, type=click.IntRange(1), help="Changes in a batch.")
def main(pairs: int, copies: int, batch: int) -> None:
    """Replay pairs, and print rate and memory."""
    console = Console(width=120)
    changes = list(log(pairs, copies, random.Random(0)))
    edges = sum(isinstance(change, Edge) for change in changes)
    began, used = time.perf_counter(), time.process_time()
    grouping = replay(changes, batch)
    wall, cpu = time.perf_counter() - began, time.process_time() - used
    sizes = [len(group.members) for group in grouping.groups()]
    table = Table(
        "replayed in batches of", "pairs", "images", "groups", "largest", "s", "CPU s", "pairs/s", "steps/pair"
    )
    table.add_row(
        f"{batch:,}", f"{edges:,}", f"{len(grouping):,}", f"{len(sizes):,}", f"{max(sizes):,}", f"{wall:.1f}",
        f"{cpu:.1f}", f"{edges / wall:,.0f}", f"{grouping.steps:,}",
    )  # fmt: skip
    console.print(table)
    console.print(f"pairs that had to be compared: {grouping.compared:,}")
    images = len(grouping)
    del grouping
    tenth = changes[: len(changes) // 10]
    tracemalloc.start()
    kept = replay(tenth, batch)
    held = tracemalloc.get_traced_memory()[0]
    console.print(f"memory of the grouping alone, by a tenth: {held / len(kept):,.0f} bytes an image")
    console.print(
        f"resident at most: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024:,} MiB, {images:,} images"
    )


if __name__ == "__main__":
    main()
