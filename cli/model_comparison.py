"""Comparison of models: how many edited copies of held-out photos find their original."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from imagetools.edits import EDITS
from imagetools.image_root import ImageRoot
from training.retrieval import AT, Describer, Recall, measure

GALLERY = 2_000
"""Maximum number of photos to search among; more make it harder, and slower."""


def compare(
    models: Mapping[str, Describer],
    folder: Path,
    held_out: Sequence[str],
    strangers: Sequence[str],
    *,
    seed: int,
    console: Console,
) -> dict[str, Recall]:
    """Measure and print the recall of each model. A photo that has disappeared is an ImageError.

    held_out   paths of the photos whose copies are searched for
    strangers  paths of other photos in the folder, which fill the gallery
    """
    chosen = random.Random(seed).sample(strangers, min(len(strangers), GALLERY - len(held_out)))
    gallery = sorted([*held_out, *chosen])
    console.print(f"measuring: {len(held_out)} photos × {len(EDITS)} edits, among {len(gallery):,}")
    found = measure(models, ImageRoot(folder), held_out, gallery)
    console.print(compared(found))
    return found


def compared(recalls: Mapping[str, Recall]) -> Table:
    """Return a table of recall in %, overall and by edit, with a column for each model."""
    shown = Table("edit", title=" ".join(f"R@{n}" for n in AT) + ", %")
    for name in recalls:
        shown.add_column(name, justify="right")
    for edit in (None, *EDITS):
        cells = (" ".join(f"{100 * recall.at(n, edit):5.1f}" for n in AT) for recall in recalls.values())
        shown.add_row(edit or "all", *cells, end_section=edit is None)
    return shown
