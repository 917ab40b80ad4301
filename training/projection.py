"""A linear map after the network, fitted to photos and what edits make of their fingerprints."""

import random
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from imagetools.edits import EDITS
from imagetools.fingerprint.config import DEFAULT_INPUT_SIZE
from training.augment import AugmentConfig, edited, pillow_copies, plain
from training.photos import Photos

Matrix = npt.NDArray[np.float64]

FITTED: Final = 2_000
"""Photos at most that a new projection is fitted to."""
HARD: Final = ("crop40", "patch", "collage", "screenshot")
"""Edits that change a fingerprint most, and so have to be shrunk most: each photo is fitted with one of them, too."""
EVENING = 0.5
"""How far a new projection evens out the variances along the photos' main axes: 0 not at all, 1 to the same. Measured:
0, ¼ and ½ of it put 93.7, 93.9 and 94.3 % of edited copies' originals among the first ten, none at all 91.4 %."""

BATCH: Final = 64


def fit_projection(
    describe: Callable[[torch.Tensor], torch.Tensor], photos: Photos, rng: torch.Generator, config: AugmentConfig
) -> tuple[Matrix, Matrix]:
    """Weight (d, d) and bias (d,) that shrink what edits change in a vector, and even out how far photos spread.

    describe  float32 (n, 3, size, size), 0 to 1 → unit vectors (n, d)
    rng       on the device that describes

    First the differences between copies and their originals are made as wide in all directions, then the originals'
    main axes in part: linear discriminant analysis with a class a photo, as Radenović et al. 2019, §3.4, whiten. All is
    centred on the originals' mean: a network that ends in averages of what is never negative has its vectors on one
    side, where the half of a collage weighs less than what all photos have in common.
    """
    seed = rng.initial_seed()
    count = min(len(photos), FITTED)
    chosen = np.random.default_rng(seed).permutation(len(photos))[:count]
    known, changed = [], []
    for part in np.array_split(chosen, max(1, count // BATCH)):
        pixels = torch.from_numpy(photos.pixels[np.sort(part)]).to(rng.device).permute(0, 3, 1, 2)
        aspects = torch.from_numpy(photos.aspects[np.sort(part)]).to(rng.device)
        originals = _rows(describe, plain(pixels, DEFAULT_INPUT_SIZE))
        copies = [edited(pixels, aspects, DEFAULT_INPUT_SIZE, rng, config).pixels]
        for edits in (tuple(EDITS), HARD):
            made = pillow_copies(pixels, aspects, edits, random.Random(f"{seed} {part[0]}"))
            copies.append(plain(made.to(rng.device), DEFAULT_INPUT_SIZE))
        known.append(originals)
        changed += [_rows(describe, copy) - originals for copy in copies]
    rows, differences = np.concatenate(known), np.concatenate(changed)
    mean = rows.mean(axis=0)
    weight = _evened(differences.T @ differences / len(differences), 1.0, 0.1).T
    centred = (rows - mean) @ weight.T
    weight = _evened(centred.T @ centred / count, EVENING, 0.03).T @ weight
    # lengths near 1, as the network's own
    weight /= np.linalg.norm((rows - mean) @ weight.T, axis=1).mean()
    return weight, -weight @ mean


def _rows(describe: Callable[[torch.Tensor], torch.Tensor], pixels: torch.Tensor) -> Matrix:
    rows: Matrix = describe(pixels).double().cpu().numpy()
    return rows


def _evened(covariance: Matrix, power: float, least: float) -> Matrix:
    """Axes, one a column, along which the variance v becomes v ** (1 − power).

    least  share of the mean variance that is added to each, so that the thinnest axes are not blown up
    """
    spread, axes = np.linalg.eigh(covariance)
    stretched: Matrix = axes * (np.maximum(spread, 0) + least * spread.mean()) ** (-power / 2)
    return stretched
