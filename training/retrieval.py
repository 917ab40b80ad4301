"""Retrieval: how often an edited copy finds its original among the nearest fingerprints of many photos.

`imagetools.edits` makes the copies from the files, with Pillow; the training's augmentations play no part, so the
measurement is on edits as people and programs make them.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from imagetools.edits import EDITS
from imagetools.hardware import usable_cores
from imagetools.image_root import ImageRoot

Vectors = npt.NDArray[np.float32]

AT = (1, 10, 100)
"""Numbers of neighbors to report recall for; a stage asks for 10 by default."""

BATCH = 64
"""Images that are read and described together."""


class Describer(Protocol):
    """Turns images into vectors to compare by cosine, like `imagetools.fingerprint.encoder.Encoder`."""

    def prepare(self, image: Image.Image) -> Any:
        """Return what is needed of an RGB image; called in threads."""
        ...

    def encode_prepared(self, pixels: Sequence[Any]) -> Vectors:
        """Return unit vectors of what `prepare` returned: float32 (n, d)."""
        ...


@dataclass(frozen=True)
class Recall:
    """Ranks of the originals.

    ranks  by edit, one for each copy: 1 is the nearest of all photos; a tie counts as its middle
    """

    ranks: Mapping[str, npt.NDArray[np.float64]]

    def at(self, neighbors: int, edit: str | None = None) -> float:
        """Return the share of copies with their original among the first `neighbors`, of one edit or of all."""
        ranks = np.concatenate(list(self.ranks.values())) if edit is None else self.ranks[edit]
        return float((ranks <= neighbors).mean())


def ranks_of(copies: Vectors, gallery: Vectors, originals: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the rank of each copy's original by dot product, from 1: float64 (n,).

    copies     (n, d)
    gallery    (m, d)
    originals  (n,) rows of the gallery
    """
    found = np.empty(len(copies))
    for i, original in enumerate(originals):
        found[i] = _rank(gallery @ copies[i], original)
    return found


def edited_copy(images: ImageRoot, path: str, edit: str, others: Sequence[str]) -> Image.Image:
    """Return a copy of a photo; one of `others` is its second picture. The same names give the same copy."""
    rng = random.Random(f"{edit} {path}")
    other = images.open(rng.choice([name for name in others if name != path] or [path]))
    return EDITS[edit](images.open(path), rng, other)


def measure(
    describers: Mapping[str, Describer], images: ImageRoot, queries: Sequence[str], gallery: Sequence[str]
) -> dict[str, Recall]:
    """Return, by describer, the recall of the originals of 17 edited copies of each query.

    queries  paths of photos, each of them in the gallery too
    gallery  paths of all photos, with those that serve as second pictures of collages and patches: a perfect
             fingerprint may find one of these first

    Each image is decoded once for all describers.
    """
    row = {path: i for i, path in enumerate(gallery)}
    originals = np.array([row[path] for path in queries])
    known = _describe(describers, [lambda path=path: images.open(path) for path in gallery])
    recalls: dict[str, dict[str, npt.NDArray[np.float64]]] = {name: {} for name in describers}
    for edit in EDITS:
        copies = _describe(
            describers, [lambda path=path, edit=edit: edited_copy(images, path, edit, gallery) for path in queries]
        )
        for name in describers:
            recalls[name][edit] = ranks_of(copies[name], known[name], originals)
    return {name: Recall(ranks) for name, ranks in recalls.items()}


def _describe(describers: Mapping[str, Describer], sources: Sequence[Any]) -> dict[str, Vectors]:
    rows: dict[str, list[Vectors]] = {name: [] for name in describers}

    def prepared(source: Any) -> list[Any]:
        image = source()
        return [describer.prepare(image) for describer in describers.values()]

    with ThreadPoolExecutor(usable_cores(), "decode") as pool:
        for batch in _batches(sources):
            for name, pixels in zip(describers, zip(*pool.map(prepared, batch), strict=True), strict=True):
                rows[name].append(describers[name].encode_prepared(pixels))
    return {name: np.concatenate(found) for name, found in rows.items()}


def _rank(scores: npt.NDArray[np.float32], original: int) -> float:
    """Return the rank of one of the scores, from 1; a tie counts as its middle."""
    own = scores[original]
    return float(1 + (scores > own).sum() + ((scores == own).sum() - 1) / 2)


def _batches(sources: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (sources[i : i + BATCH] for i in range(0, len(sources), BATCH))
