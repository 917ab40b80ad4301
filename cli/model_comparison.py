"""What models find, side by side: edited copies of photos that were kept apart, among many."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from imagetools.edits import EDITS
from imagetools.image_root import ImageRoot
from training.retrieval import AT, Describer, Recall, measure

GALLERY = 2_000
"""Photos at most among which the originals are sought: more make it harder, and slower."""


def compare(
    models: Mapping[str, Describer],
    folder: Path,
    held_out: Sequence[str],
    strangers: Sequence[str],
    *,
    seed: int,
    console: Console,
) -> dict[str, Recall]:
    """Recall by model, also shown as a table. Photos that are gone meanwhile are an ImageError.

    held_out   paths of the photos whose copies are looked for
    strangers  paths of others in the folder; as many of them as the gallery still takes are looked among
    """
    chosen = random.Random(seed).sample(strangers, min(len(strangers), GALLERY - len(held_out)))
    gallery = sorted([*held_out, *chosen])
    console.print(f"measuring: {len(held_out)} photos × {len(EDITS)} edits, among {len(gallery):,}")
    found = measure(models, ImageRoot(folder), held_out, gallery)
    console.print(compared(found))
    return found


def compared(recalls: Mapping[str, Recall]) -> Table:
    """Recall in %, over all and by edit, a column for each model."""
    shown = Table("edit", title=" ".join(f"R@{n}" for n in AT) + ", %")
    for name in recalls:
        shown.add_column(name, justify="right")
    for edit in (None, *EDITS):
        cells = (" ".join(f"{100 * recall.at(n, edit):5.1f}" for n in AT) for recall in recalls.values())
        shown.add_row(edit or "all", *cells, end_section=edit is None)
    return shown
