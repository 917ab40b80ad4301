"""Fit the matcher's score, on photos that `bench.quality` does not report on, and write its weights.

    python -m bench.calibrate [--photos FOLDER] [--count N] [--seed N] [--documents N]

Copies: all edits of the photos, strong ones too, and of plain pictures, with equal weights. Others: random pairs,
look-alikes, shared overlays, different plain pictures and web pages with another photo, a fifth each. Both sides weigh
the same. Pairs without a map score 0 and play no part in the fit. Of a copy, the best evidence of its keypoints counts,
and that of the whole pictures only where it is better, since a crop laid over the whole picture shows nothing; of
another pair, all evidence counts.

With --documents, drawn pages are in the mix too, that number of styles of each kind, with their scans and nearly blank
sheets. No file is written then: it is for comparison with the fit on photos alone, of which the same table is printed.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
import cv2
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from scipy.optimize import minimize

from bench import pairs as known
from bench.detectors import Detector, matcher
from bench.document_pairs import drawn_pairs
from bench.pairs import SHARED, Pair, PhotoSides, Picture
from imagetools.matching import calibration
from imagetools.matching.calibration import WAYS, Evidence, Way
from imagetools.matching.config import MatcherConfig
from imagetools.matching.verify import collect_evidence

WRITTEN: Final = Path(calibration.__file__).with_name("coefficients.py")
RANDOM: Final = 30_000
ROUNDS: Final = 6
UNTAUGHT: Final = ("waves", "negative")
"""Edits whose keypoints teach nothing: no map follows waves, and a negative's match by chance."""

WEIGHT: Final = {"page": 2}
"""How much more a kind of pairs weighs in the fit: pages with another photo are the hardest to tell."""

DRAWN_SEED: Final = 7000
"""Of drawn pages; `bench.quality` draws its own from another."""

RIDGE: Final = 1e-5
"""Ridge penalty; keeps the weights finite if one term separates the sides."""

Plane = npt.NDArray[np.float64]


def look_at(pairs: Iterable[Pair], compared: Sequence[Detector]) -> dict[str, tuple[Any, ...]]:
    """Return what each detector keeps of every picture of the pairs, by the picture's name; on all cores."""
    pictures = {picture.name: picture for pair in pairs for picture in (pair.first, pair.second)}
    cv2.setNumThreads(1)

    def look(picture: Picture) -> tuple[Any, ...]:
        image = picture.make()
        return tuple(detector.look(image) for detector in compared)

    with ThreadPoolExecutor() as pool:
        return dict(zip(pictures, pool.map(look, pictures.values()), strict=True))


def weights_of(pairs: Sequence[Pair]) -> Plane:
    """Return each pair's weight: copies and others each sum to 1, and each kind of either weighs the same."""
    groups = [(pair.copy, pair.name if pair.kind in ("copy", "strong copy") else pair.kind) for pair in pairs]
    size, kinds = Counter(groups), Counter(copy for copy, _ in set(groups))
    return np.array([1 / (size[group] * kinds[group[0]]) for group in groups])


def fit(evidence: Sequence[Sequence[Evidence]], copy: Sequence[bool], weight: Plane) -> dict[Way, tuple[float, ...]]:
    """Return the weights of the terms for each way of laying a pair over each other."""
    weights: dict[Way, tuple[float, ...]] = {}
    for _ in range(ROUNDS):
        rows: dict[Way, list[tuple[tuple[float, ...], bool, float]]] = {way: [] for way in WAYS}
        for ways, truth, share in zip(evidence, copy, weight, strict=True):
            for one in _taught(ways, weights) if truth else ways:
                rows[one.way].append((calibration.terms_of(one), truth, share))
        weights = {way: _regress(*zip(*rows[way], strict=True)) for way in WAYS}
    return weights


def _taught(ways: Sequence[Evidence], weights: dict[Way, tuple[float, ...]]) -> list[Evidence]:
    """Return what a copy teaches: the best by keypoints, from afar and closer, and as wholes where that is best."""
    plausible = partial(_plausibility, weights)
    best: dict[Way, Evidence] = {}
    for one in sorted(ways, key=plausible):
        best[one.way] = one
    if "whole" in best and len(best) > 1 and max(ways, key=plausible).way != "whole":
        del best["whole"]
    return list(best.values())


def _plausibility(weights: dict[Way, tuple[float, ...]], evidence: Evidence) -> float:
    # before there are weights, the way with keypoints
    if not weights:
        return float(not evidence.whole)
    return calibration.logistic(calibration.terms_of(evidence), weights[evidence.way])


def _regress(terms: Sequence[Sequence[float]], truth: Sequence[bool], weight: Sequence[float]) -> tuple[float, ...]:
    """Fit a weighted logistic regression with a ridge; only the constant's weight, the first, may be negative."""
    x, y, w = np.array(terms), np.array(truth, dtype=float), np.array(weight)

    def cost(beta: Plane) -> tuple[float, Plane]:
        logit = x @ beta
        loss = float(w @ (np.logaddexp(0, logit) - y * logit)) + RIDGE * float(beta[1:] @ beta[1:])
        slope = x.T @ (w * (1 / (1 + np.exp(-np.clip(logit, -60, 60))) - y))
        slope[1:] += 2 * RIDGE * beta[1:]
        return loss, slope

    limits = [(None, None), *[(0.0, None)] * (x.shape[1] - 1)]
    found = minimize(cost, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", bounds=limits, options={"maxiter": 5000})
    if not found.success:
        raise click.ClickException(f"the fit did not converge: {found.message}")
    return tuple(round(float(value), 4) for value in found.x)


def gather(photos: PhotoSides, side: known.Side, count: int, seed: int, unrelated: int) -> list[Pair]:
    """Return pairs of every kind from one side."""
    paths = photos.sample(side, count, seed)
    # photos are cheap here, and make more random pairs
    wide = photos.sample(side, max(count, math.ceil(math.sqrt(2 * unrelated)) + 1), seed)
    return [
        *known.copies(photos, paths, seed),
        *known.strongly_edited(photos, paths, seed),
        *known.pages(photos, paths, count // 4, seed),
        *known.lookalikes(photos, side),
        *known.overlaid(photos, paths, count // 2, seed),
        *known.plain(photos, paths, count // 2, seed),
        *known.unrelated(photos, wide, unrelated, seed),
    ]


def called(
    pairs: Sequence[Pair], evidence: Sequence[Sequence[Evidence]], weights: Mapping[Way, tuple[float, ...]]
) -> Table:
    """Return how many pairs of each kind the score alone would call copies, before any detail is compared."""
    counts: dict[tuple[str, bool], list[bool]] = defaultdict(list)
    for pair, ways in zip(pairs, evidence, strict=True):
        score = max((calibration.score_of(one, weights) for one in ways), default=0.0)
        counts[pair.kind, pair.copy].append(score >= MatcherConfig().threshold)
    table = Table("pairs", "are", "number", "called copies, %", title="by score alone, on the pairs of the fit")
    for (kind, copy), said in counts.items():
        table.add_row(kind, "copies" if copy else "none", f"{len(said):,}", f"{100 * sum(said) / len(said):.2f}")
    return table


@click.command()
@click.option(
    "--photos", default=SHARED, type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of photos."
)
@click.option("--count", default=300, show_default=True, help="Photos to edit.")
@click.option("--seed", default=1, show_default=True)
@click.option("--documents", default=0, help="Styles of each kind of drawn page in the mix; writes nothing.")
def main(photos: Path, count: int, seed: int, documents: int) -> None:
    """Fit the score and write imagetools/matching/coefficients.py."""
    config, console = MatcherConfig(), Console()
    pairs = [pair for pair in gather(PhotoSides(photos), "fit", count, seed, RANDOM) if pair.name not in UNTAUGHT]
    if documents:
        pairs += drawn_pairs(documents, DRAWN_SEED)
    looks = look_at(pairs, [matcher(config)])
    evidence = [collect_evidence(looks[pair.first.name][0], looks[pair.second.name][0]) for pair in pairs]
    weight = weights_of(pairs) * np.array([WEIGHT.get(pair.kind, 1) for pair in pairs])
    weights = fit(evidence, [pair.copy for pair in pairs], weight)
    copies = sum(pair.copy for pair in pairs)
    made = f"python -m bench.calibrate --count {count} --seed {seed}"
    text = f'''"""The weights of `calibration`, in the order of its terms.

Fitted by `{made}`
at {config.width} × {config.height}, on {len(pairs):,} pairs, of which {copies:,} are copies.
"""

KEYPOINTS = {weights["keypoints"]}
CLOSER = {weights["closer"]}
WHOLE = {weights["whole"]}
'''
    if not documents:
        WRITTEN.write_text(text)
    console.print(text, markup=False)
    console.print(called(pairs, evidence, weights))


if __name__ == "__main__":
    main()
