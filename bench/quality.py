"""How well copies are told from what is none: this matcher, the plain ratio test and a perceptual hash in one run.

    python -m bench.quality [--photos FOLDER ...] [--count N] [--random N] [--width W --height H] [--failures FOLDER]
    python -m bench.quality --documents
    python -m bench.quality --animations

Each pair of images is judged alone, with no search before it. The pairs come from photos that `bench.calibrate` did
not see, and from documents and animations that are drawn; with --documents or --animations, from these alone.
Milliseconds are CPU time of one thread, with features cached.
"""

import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import click
import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.console import Console
from rich.table import Table
from scipy.special import betaincinv

from bench import animations, detectors, said
from bench.calibrate import gather, look_at, weights_of
from bench.detectors import Detector
from bench.document_pairs import drawn_pairs
from bench.pairs import SHARED, Pair, PhotoSides
from cli.picture import pair_picture
from imagetools.decode import decode
from imagetools.features.extract import extract
from imagetools.features.read import read_features
from imagetools.matching.config import MatcherConfig
from imagetools.matching.verify import ImageOpener, verify
from imagetools.opener import FileOpener
from streams.service import keep_freed_memory

TIMED: Final = 300
"""Pairs of each sort, and images, whose time is taken."""

BINS: Final = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)


@dataclass(frozen=True)
class Judged:
    """What one detector said of all pairs."""

    detector: Detector
    scores: npt.NDArray[np.float64]

    @property
    def called(self) -> npt.NDArray[np.bool_]:
        """Which pairs it calls copies."""
        return self.scores >= self.detector.threshold


def bounds(hits: int, of: int) -> tuple[float, float]:
    """Return the Clopper-Pearson interval of a share, 95 % each side."""
    low = float(betaincinv(hits, of - hits + 1, 0.05)) if hits else 0.0
    high = float(betaincinv(hits + 1, of - hits, 0.95)) if hits < of else 1.0
    return low, high


def judge(pairs: Sequence[Pair], detector: Detector, looks: dict[str, Any]) -> Judged:
    """Score every pair."""
    with ThreadPoolExecutor() as pool:
        scored = pool.map(
            lambda pair: detector.score(looks[pair.first.name], looks[pair.second.name], pair.openers), pairs
        )
        return Judged(detector, np.fromiter(scored, dtype=np.float64, count=len(pairs)))


def rates(pairs: Sequence[Pair], judged: Sequence[Judged]) -> Table:
    """One row a group: how many pairs, and the share that each detector calls copies."""
    table = Table("pairs", "", "number", *(one.detector.name for one in judged), title="called copies, % (95 % bound)")
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, pair in enumerate(pairs):
        groups[pair.kind, "all"].append(i)
        groups[pair.kind, pair.name].append(i)
    for (kind, name), rows in groups.items():
        if name != "all" and rows == groups[kind, "all"]:
            continue
        cells = []
        for one in judged:
            hits = int(one.called[rows].sum())
            low, high = bounds(hits, len(rows))
            bound = f"≥ {100 * low:.2f}" if pairs[rows[0]].copy else f"≤ {100 * high:.3f}"
            cells.append(f"{100 * hits / len(rows):.2f} ({bound})")
        table.add_row(kind, name, f"{len(rows):,}", *cells)
    return table


def precision(pairs: Sequence[Pair], judged: Sequence[Judged]) -> Iterator[str]:
    """Precision and recall of each detector on the bench's mix, with as many copies as others."""
    truth, weight = np.array([pair.copy for pair in pairs]), weights_of(pairs)
    for one in judged:
        found, false = weight[truth & one.called].sum(), weight[~truth & one.called].sum()
        yield f"{one.detector.name}: precision {found / max(found + false, 1e-12):.4f}, recall {found:.4f}"


def reliability(pairs: Sequence[Pair], judged: Judged) -> Table:
    """What a score is worth: of the pairs in each range, the weight of those that are copies."""
    table = Table("score", "pairs", "mean score", "share of copies", title="the score against the truth, at even odds")
    truth, weight = np.array([pair.copy for pair in pairs]), weights_of(pairs)
    for low, high in itertools.pairwise(BINS):
        rows = (judged.scores >= low) & ((judged.scores < high) | (high == 1.0))
        if total := weight[rows].sum():
            mean, share = (weight * judged.scores)[rows].sum() / total, weight[rows & truth].sum() / total
            table.add_row(f"{low} to {high}", f"{rows.sum():,}", f"{mean:.3f}", f"{share:.3f}")
    return table


def times(
    pairs: Sequence[Pair], looks: Sequence[dict[str, Any]], judged: Sequence[Judged], config: MatcherConfig
) -> Table:
    """Median and 90th percentile of CPU milliseconds.

    Features: of an image as it came, and of one that was decoded at no more pixels than are needed, as a stage does.
    """
    table = Table("CPU ms, median (90 %)", *(one.detector.name for one in judged))
    kinds = {"copy": "a copy", "random": "a random pair", "look-alike": "a look-alike"}
    kinds |= {"scan": "a document's copy", "document": "two documents of one template"}
    for kind, words in kinds.items():
        rows = [i for i, pair in enumerate(pairs) if pair.kind == kind]
        rows = rows[:: max(1, len(rows) // TIMED)]
        if not rows:
            continue
        cells = []
        for one, seen in zip(judged, looks, strict=True):
            named = [(seen[pairs[i].first.name], seen[pairs[i].second.name], _filed(pairs[i])) for i in rows]
            cells.append(_spread([_timed(one.detector.score, *pair) for pair in named]))
        table.add_row(words, *cells)
    pictures = {pair.first.name: pair.first for pair in pairs if pair.kind in ("copy", "scan")}
    whole = [picture.make() for picture in list(pictures.values())[:TIMED]]
    box = config.width, config.height
    for words, images in (
        ("an image's features", whole),
        ("of a JPEG, as a stage decodes it", [decode(_jpeg(image), "", box=box) for image in whole]),
    ):
        cells = [_spread([_timed(one.detector.look, image) for image in images]) for one in judged]
        table.add_row(words, *cells)
    return table


def animation_rates(count: int, seed: int, config: MatcherConfig) -> Table:
    """One row a kind of animations: how many pairs, and the share that the matcher calls copies."""
    table = Table("animations", "", "number", "matcher", title="called copies, % (95 % bound)")
    for kind, copy, files in (
        ("other content", False, animations.different(count, seed)),
        ("copies", True, animations.copies(count, seed)),
    ):
        called: dict[str, list[bool]] = defaultdict(list)
        for name, one, two in files:
            called[name].append(_verified(one, two, config))
        everything = itertools.chain.from_iterable(called.values())
        for name, verdicts in [("all", list(everything)), *called.items()]:
            hits = sum(verdicts)
            low, high = bounds(hits, len(verdicts))
            bound = f"≥ {100 * low:.2f}" if copy else f"≤ {100 * high:.3f}"
            table.add_row(kind, name, f"{len(verdicts):,}", f"{100 * hits / len(verdicts):.2f} ({bound})")
    return table


def _verified(one: bytes, two: bytes, config: MatcherConfig) -> bool:
    openers = FileOpener(lambda: one, "one"), FileOpener(lambda: two, "two")
    first, second = (read_features(opener, config) for opener in openers)
    return verify(first, second, config, openers).duplicate


def _filed(pair: Pair) -> tuple[ImageOpener, ImageOpener]:
    """Return what opens both pictures of a pair as a stage does, from JPEGs in memory."""
    first, second = _jpeg(pair.first.make()), _jpeg(pair.second.make())
    return lambda box: decode(first, "", box=box), lambda box: decode(second, "", box=box)


def _jpeg(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "JPEG", quality=95)
    return file.getvalue()


def _timed(work: Callable[..., Any], *of: Any) -> float:
    began = time.thread_time()
    work(*of)
    return 1000 * (time.thread_time() - began)


def _spread(milliseconds: Sequence[float]) -> str:
    middle, long = np.percentile(milliseconds, [50, 90])
    return f"{middle:.2f} ({long:.2f})"


def save_failures(folder: Path, pairs: Sequence[Pair], judged: Judged, config: MatcherConfig) -> int:
    """Write a picture of each pair that the matcher gets wrong; returns how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    wrong = [i for i, pair in enumerate(pairs) if judged.called[i] != pair.copy]
    for i in wrong[:200]:
        pair = pairs[i]
        images: list[Image.Image] = [pair.first.make(), pair.second.make()]
        found = verify(extract(images[0], config), extract(images[1], config), config, pair.openers)
        says = f"{pair.kind} ({pair.name}): {found.score:.2f} {found.edit or found.gate}, {found.inliers} inliers"
        pair_picture(images[0], images[1], found.points, says).save(folder / f"{pair.kind} {pair.name} {i}.png")
    return len(wrong)


@click.command()
@click.option("--photos", "folders", multiple=True, type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Folders of photos, look-alikes listed in lookalikes.tsv.  [default: ../shared/photos]")  # fmt: skip
@click.option(
    "--count", default=200, show_default=True, help="Photos to edit; half as many overlay and plain pairs of each sort."
)
@click.option("--random", "unrelated", default=50_000, show_default=True, help="Random pairs at most.")
@click.option("--drawn", default=20, show_default=True, help="Documents and animations of each kind.")
@click.option("--documents", is_flag=True, help="Documents only, without photos.")
@click.option("--animations", "animated", is_flag=True, help="Animations only, without the rest.")
@click.option("--seed", default=2, show_default=True)
@click.option("--width", default=MatcherConfig().width, show_default=True, help="Of the matcher's box, pixels.")
@click.option("--height", default=MatcherConfig().height, show_default=True)
@click.option("--side", type=click.Choice(["report", "fit"]), default="report", show_default=True,
              help="The photos that the fit did not see, or those that it saw, to choose settings with.")  # fmt: skip
@click.option("--alone", is_flag=True, help="The matcher without the two others.")
@click.option("--failures", type=click.Path(path_type=Path), help="Write a picture of each wrong verdict here.")
def main(
    folders: tuple[Path, ...], count: int, unrelated: int, drawn: int, documents: bool, animated: bool, seed: int,
    width: int, height: int, side: Any, alone: bool, failures: Path | None,
) -> None:  # fmt: skip
    """Measure the matcher."""
    console = Console()
    config = MatcherConfig(width=width, height=height)
    # as the matcher stage has it
    cv2.setNumThreads(1)
    if animated:
        console.print(animation_rates(drawn, seed, config))
        return
    photos = () if documents else folders or (SHARED,)
    pairs = [pair for folder in photos for pair in gather(PhotoSides(folder), side, count, seed, unrelated)]
    pairs += drawn_pairs(drawn, seed)
    compared = [detectors.matcher(config)]
    if not alone:
        compared += [detectors.ratio_test(), detectors.perceptual_hash()]
    # as the stage, too
    keep_freed_memory()
    looked = look_at(pairs, compared)
    looks = [{name: seen[i] for name, seen in looked.items()} for i in range(len(compared))]
    judged = [judge(pairs, detector, seen) for detector, seen in zip(compared, looks, strict=True)]
    console.print(
        f"{len(pairs):,} pairs of {len(looks[0]):,} pictures, box {width} × {height}, threshold {config.threshold}"
    )
    console.print(rates(pairs, judged))
    console.print(animation_rates(drawn, seed, config))
    for line in precision(pairs, judged):
        console.print(line)
    console.print(reliability(pairs, judged[0]))
    console.print(times(pairs, looks, judged, config))
    for folder in photos:
        console.print(said.table(said.judge(PhotoSides(folder), side, max(1, count // 5), seed, config)))
    if failures is not None:
        console.print(f"{save_failures(failures, pairs, judged[0], config)} wrong verdicts, pictured in {failures}")


if __name__ == "__main__":
    main()
