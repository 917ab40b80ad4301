"""The matcher's cost of an image with its neighbors' features computed, read from disk, or in memory.

    python -m bench.store [--photos FOLDER] [--candidates N]

Each candidate has ten random neighbors, as in a collection far larger than memory. Nearly all pairs are of different
pictures, so the cost is that of getting features. All sides verify the same pairs in one run, on fresh stages, and must
find the same. "On disk, cold" follows a request to the system to drop the file from its cache.
"""

import os
import random
import sqlite3
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from bench.pairs import SAMPLES, SHARED
from imagetools.features.store import FILE, FeatureStore
from imagetools.image_root import ImageRoot
from imagetools.matching.config import MatcherConfig
from schemas.neighbor_records import Neighbor
from schemas.records import Candidates, Verdict
from streams.config import Config
from streams.matcher_consumer import MatcherStage
from streams.service import keep_freed_memory
from streams.stage import Outcome, Received

LIMIT_BYTES = 10**10


def asked(root: ImageRoot, count: int) -> list[Received[Candidates]]:
    """Return candidates with ten neighbors each, all different while the photos last."""
    paths = list(root.images())
    random.Random(1).shuffle(paths)
    each = 1 + Config().nb_neighbors
    if len(paths) < each:
        raise click.UsageError(f"{root.name} has {len(paths)} photos, at least {each} are needed")
    groups = [paths[start : start + each] for start in range(0, len(paths) - each + 1, each)][:count]
    return [
        Received(own, Candidates(1, own, tuple(Neighbor(path, 0.5) for path in near), "model"), 0, number, 0)
        for number, (own, *near) in enumerate(groups)
    ]


def forget(folder: Path) -> None:
    """Ask the system, if it can be asked, to drop a file from its cache."""
    if not hasattr(os, "posix_fadvise"):
        return
    for file in folder.iterdir():
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def taken(stage: MatcherStage, batch: Sequence[Received[Candidates]]) -> tuple[float, float, list[str]]:
    """Return wall and CPU milliseconds for each candidate, and the outcomes."""
    wall, cpu = time.perf_counter(), time.process_time()
    size = stage.batch_size
    found = [one for start in range(0, len(batch), size) for one in stage.run(batch[start : start + size])]
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return 1000 * wall / len(batch), 1000 * cpu / len(batch), [told(outcome) for outcome in found]


def told(outcome: Outcome) -> str:
    if isinstance(outcome, Exception):
        return repr(outcome)
    # without the alert's time
    return repr([one.record if isinstance(one.record, Verdict) else one.record.duplicated for one in outcome])  # type: ignore[union-attr]


@click.command()
@click.option("--photos", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--candidates", default=256, show_default=True)
def main(photos: Path | None, candidates: int) -> None:
    keep_freed_memory()
    root = ImageRoot(photos or (SHARED if SHARED.is_dir() else SAMPLES))
    batch = asked(root, candidates)
    config, workers = MatcherConfig(), root.readers
    rows: list[tuple[str, float, float, list[str]]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)

        def stage(kept: bool) -> MatcherStage:
            store = FeatureStore(folder, LIMIT_BYTES, config) if kept else None
            return MatcherStage(config, root, workers, store=store)

        # read the image files once before anything is timed
        with closing(stage(False)) as plain:
            plain.run(batch)
        with closing(stage(False)) as plain:
            rows.append(("nowhere: computed", *taken(plain, batch)))
        with closing(stage(True)) as keeping:
            rows.append(("nowhere: computed, and kept on disk", *taken(keeping, batch)))
        # the store notes the first use in a day
        with closing(sqlite3.connect(folder / FILE)) as connection, connection:
            connection.execute("UPDATE images SET used = used - 1")
        forget(folder)
        with closing(stage(True)) as cold:
            rows.append(("on disk, cold", *taken(cold, batch)))
        with closing(stage(True)) as warm:
            rows.append(("on disk", *taken(warm, batch)))
            rows.append(("in memory", *taken(warm, batch)))
        with closing(stage(False)) as plain:
            rows.append(("nowhere: computed, again", *taken(plain, batch)))
        with closing(FeatureStore(folder, LIMIT_BYTES, config)) as store:
            each = (folder / FILE).stat().st_size / store.count()
    table = Table("features", "ms an image", "CPU ms", "of computing them", title=f"{len(batch)} images, each with ten")
    for name, wall, cpu, _ in rows:
        table.add_row(name, f"{wall:.1f}", f"{cpu:.1f}", f"{wall / rows[0][1]:.3f}")
    console = Console(width=100)
    console.print(table)
    console.print(f"{each / 1000:.0f} KB of disk an image")
    if any(row[3] != rows[0][3] for row in rows):
        raise SystemExit("the sides found different things")


if __name__ == "__main__":
    main()
