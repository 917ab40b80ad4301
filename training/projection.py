"""The projection: a linear map after the network, fitted to photos and their edited copies."""

import random
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from imagetools.edits import EDITS
from imagetools.fingerprint.config import DEFAULT_INPUT_SIZE
from training.augment.config import AugmentConfig
from training.augment.views import draw_views, pillow_copies, resize_photos
from training.photos import TrainingPhotos

Matrix = npt.NDArray[np.float64]

MAX_FITTED: Final = 2_000
"""Photos that a new projection is fitted to."""
HARD: Final = ("crop40", "patch", "collage", "screenshot")
"""Edits that change a fingerprint most: the fit sees each photo with one of them besides one of all edits."""
EQUALIZING = 0.5
"""How far a new projection equalizes the variances along the photos' main axes: 0 not at all, 1 fully. Measured: 0, ¼
and ½ put 93.7, 93.9 and 94.3 % of edited copies' originals among the first ten; no projection 91.4 %."""

BATCH: Final = 64


def fit_projection(
    describe: Callable[[torch.Tensor], torch.Tensor],
    photos: TrainingPhotos,
    rng: torch.Generator,
    config: AugmentConfig,
) -> tuple[Matrix, Matrix]:
    """Return a weight (d, d) and a bias (d,) that shrink what edits change in a vector and spread photos evenly.

    describe  float32 (n, 3, size, size), 0 to 1 → unit vectors (n, d)
    rng       on the device that describes

    The first step whitens the differences between copies and originals, the second partly whitens the originals
    themselves: linear discriminant analysis with one class per photo (Radenović et al. 2019, §3.4). The bias moves the
    originals' mean to 0: a network that ends in averages of nonnegative values has all vectors on one side, where half
    a collage weighs less than what all photos have in common.
    """
    seed = rng.initial_seed()
    count = min(len(photos), MAX_FITTED)
    chosen = np.random.default_rng(seed).permutation(len(photos))[:count]
    known, changed = [], []
    for part in np.array_split(chosen, max(1, count // BATCH)):
        pixels = torch.from_numpy(photos.pixels[np.sort(part)]).to(rng.device).permute(0, 3, 1, 2)
        aspects = torch.from_numpy(photos.aspects[np.sort(part)]).to(rng.device)
        originals = _rows(describe, resize_photos(pixels, DEFAULT_INPUT_SIZE))
        copies = [draw_views(pixels, aspects, DEFAULT_INPUT_SIZE, rng, config).pixels]
        for edits in (tuple(EDITS), HARD):
            made = pillow_copies(pixels, aspects, edits, random.Random(f"{seed} {part[0]}"))
            copies.append(resize_photos(made.to(rng.device), DEFAULT_INPUT_SIZE))
        known.append(originals)
        changed += [_rows(describe, copy) - originals for copy in copies]
    rows, differences = np.concatenate(known), np.concatenate(changed)
    mean = rows.mean(axis=0)
    weight = equalized(differences.T @ differences / len(differences), 1.0, 0.1).T
    centred = (rows - mean) @ weight.T
    weight = equalized(centred.T @ centred / count, EQUALIZING, 0.03).T @ weight
    # lengths near 1, like the network's own
    weight /= np.linalg.norm((rows - mean) @ weight.T, axis=1).mean()
    return weight, -weight @ mean


def _rows(describe: Callable[[torch.Tensor], torch.Tensor], pixels: torch.Tensor) -> Matrix:
    rows: Matrix = describe(pixels).double().cpu().numpy()
    return rows


def equalized(covariance: Matrix, power: float, floor: float) -> Matrix:
    """Return axes, one in each column, along which the variance v becomes v ** (1 − power).

    floor  share of the mean variance that is added to each, so that the thinnest axes are not blown up
    """
    spread, axes = np.linalg.eigh(covariance)
    stretched: Matrix = axes * (np.maximum(spread, 0) + floor * spread.mean()) ** (-power / 2)
    return stretched
