"""How often an edited copy finds its original among the nearest fingerprints of many photos.

The copies are made by `imagetools.edits` from the files themselves, with Pillow, and not by the augmentations of the
training: a network is measured on edits as people and programs make them.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import cpu_count
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from imagetools.decode import ImageRoot
from imagetools.edits import EDITS

Vectors = npt.NDArray[np.float32]

AT = (1, 10, 100)
"""The numbers of neighbors that recall is given for; 10 is what a stage asks for by default."""

BATCH = 64
"""Images that are read ahead and described together."""


class Describer(Protocol):
    """Turns images into vectors that are compared by their cosine. `imagetools.fingerprint.Encoder` is one."""

    def prepare(self, image: Image.Image) -> Any:
        """What is kept of an RGB image; called in threads."""
        ...

    def encode_prepared(self, pixels: Sequence[Any]) -> Vectors:
        """Unit vectors of what `prepare` gave: float32 (n, d)."""
        ...


@dataclass(frozen=True)
class Recall:
    """Ranks of the originals.

    ranks  by edit, one a copy: 1 is the nearest of all photos; a tie counts as its middle
    """

    ranks: Mapping[str, npt.NDArray[np.float64]]

    def at(self, neighbors: int, edit: str | None = None) -> float:
        """Share of the copies whose original is among the first `neighbors`, 0 to 1; of one edit or of all."""
        ranks = np.concatenate(list(self.ranks.values())) if edit is None else self.ranks[edit]
        return float((ranks <= neighbors).mean())


def ranks_of(copies: Vectors, gallery: Vectors, originals: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The rank of each copy's original by dot product, from 1; float64 (n,).

    copies     (n, d)
    gallery    (m, d)
    originals  (n,) rows of the gallery
    """
    found = np.empty(len(copies))
    for i, original in enumerate(originals):
        scores = gallery @ copies[i]
        nearer = (scores > scores[original]).sum()
        found[i] = 1 + nearer + ((scores == scores[original]).sum() - 1) / 2
    return found


def edited(images: ImageRoot, path: str, edit: str, others: Sequence[str]) -> Image.Image:
    """One copy of a photo. The same names give the same copy; its second picture is one of `others`."""
    rng = random.Random(f"{edit} {path}")
    other = images.open(rng.choice([name for name in others if name != path] or [path]))
    return EDITS[edit](images.open(path), rng, other)


def measure(
    describers: Mapping[str, Describer], images: ImageRoot, queries: Sequence[str], gallery: Sequence[str]
) -> dict[str, Recall]:
    """Recall of the originals of all 17 edited copies of each query among the gallery, by describer.

    queries  paths of photos, each of them in the gallery too
    gallery  paths of all photos; the second picture of a collage or a patch is one of them, and stays among them, so
             that a perfect fingerprint may still put that one first

    Every image is decoded once for all describers.
    """
    row = {path: i for i, path in enumerate(gallery)}
    originals = np.array([row[path] for path in queries])
    known = _describe(describers, [lambda path=path: images.open(path) for path in gallery])
    recalls: dict[str, dict[str, npt.NDArray[np.float64]]] = {name: {} for name in describers}
    for edit in EDITS:
        copies = _describe(
            describers,
            [lambda path=path, edit=edit: edited(images, path, edit, gallery) for path in queries],
        )
        for name in describers:
            recalls[name][edit] = ranks_of(copies[name], known[name], originals)
    return {name: Recall(ranks) for name, ranks in recalls.items()}


def _describe(describers: Mapping[str, Describer], sources: Sequence[Any]) -> dict[str, Vectors]:
    rows: dict[str, list[Vectors]] = {name: [] for name in describers}

    def prepared(source: Any) -> list[Any]:
        image = source()
        return [describer.prepare(image) for describer in describers.values()]

    with ThreadPoolExecutor(cpu_count() or 1, "decode") as pool:
        for batch in _batches(sources):
            for name, pixels in zip(describers, zip(*pool.map(prepared, batch), strict=True), strict=True):
                rows[name].append(describers[name].encode_prepared(pixels))
    return {name: np.concatenate(parts) for name, parts in rows.items()}


def _batches(sources: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (sources[i : i + BATCH] for i in range(0, len(sources), BATCH))
