"""`imagetools compare`: verdict, evidence and a picture of one pair."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.output_checks import check_picture
from cli.picture import SIDE, pair_picture
from imagetools.features.read import read_features
from imagetools.image_root import ImageRoot
from imagetools.matching.animation import PLACES
from imagetools.matching.config import MatcherConfig
from imagetools.matching.detail import Box
from imagetools.matching.relation_words import relation_in_words, why_no_duplicate
from imagetools.matching.verify import Verification, verify
from imagetools.opener import FileOpener
from imagetools.paths import one_file, shown

_NAMED: Final = 8
"""Number of regions that are printed."""

_SAME_PLACE: Final = 0.015
"""Shares of width and height that print the same, but for rounding."""


def compare(
    a: Path | str, b: Path | str, picture: Path | None, config: MatcherConfig, *, private: bool = False
) -> None:
    """Print the matcher's verdict on A and B, files or addresses in stores; ImageError if one cannot be read.

    private  as in `ImageRoot`
    ImageRootUnavailable where a store is away.
    """
    if picture is not None:
        check_picture(picture, "--picture")
    # as in a stage, so that the verdict is the same
    data = _read(a, private), _read(b, private)
    openers = _opener(a, data[0]), _opener(b, data[1])
    found = verify(read_features(openers[0], config), read_features(openers[1], config), config, openers)
    console = Console()
    verdict = "duplicate" if found.duplicate else "no duplicate"
    console.print(Text(f"{verdict}: score {found.score:.3f}, threshold {config.threshold}", style="bold"))
    table = Table("evidence", "", show_header=False)
    how = one_file(a, b) if isinstance(a, Path) and isinstance(b, Path) else ""
    same_bytes = not how and data[0] == data[1]
    edit = "the same bytes" if same_bytes else found.edit
    rows = {
        "relation": relation_in_words(found.relation, "A", "B"),
        "edit": f"the same file, {how}: nothing to delete" if how else edit,
        "why": "" if found.duplicate else why_no_duplicate(found),
    } | _measures(found)
    for name, text in rows.items():
        if text:
            table.add_row(name, Text(text))
    console.print(table)
    if picture is not None:
        images = [opener.frame(n)((SIDE, SIDE)) for opener, n in zip(openers, found.frames, strict=True)]
        words = edit if found.duplicate else why_no_duplicate(found)
        caption = f"{verdict}, {found.score:.2f}: {words}{_frames(found)}"
        # lines between what agrees would hide what does not
        points = found.points if found.duplicate else ()
        pair_picture(images[0], images[1], points, caption, found.regions).save(picture)
        console.print(Text(f"Picture: {shown(str(picture))}"))


def _frames(found: Verification) -> str:
    """Return which later frames the picture shows, in words."""
    return "".join(f"; {PLACES[n]} frame of {name}" for name, n in zip("AB", found.frames, strict=True) if n)


def _read(place: Path | str, private: bool) -> bytes:
    if isinstance(place, Path):
        return place.read_bytes()
    root, _, name = place.rpartition("/")
    return ImageRoot(root, private=private).read(name)


def _opener(place: Path | str, data: bytes) -> FileOpener:
    return FileOpener(lambda: data, shown(str(place)))


def _measures(found: Verification) -> dict[str, str]:
    """Return what was measured of two pictures that could be laid over each other."""
    if not found.coverage_candidate:
        return {}
    return {
        "inliers": str(found.inliers) if found.inliers else "none, whole pictures compared",
        "agreement": f"{found.agreement:.2f}",
        "mirrored": "yes" if found.mirrored else "no",
        "scale": f"{found.scale:.2f}",
        "angle": f"{round(found.angle, 1) + 0.0:.1f}°",  # no -0.0
        "covered of A": f"{found.coverage_candidate:.0%}",
        "covered of B": f"{found.coverage_neighbor:.0%}",
        "colours differ by": f"{found.recoloured:.0f} (CIE76)" if found.recoloured >= 1 else "",
        "differs at": "\n".join(_places(found.regions)),
    }


def _places(regions: Sequence[tuple[Box, Box]]) -> list[str]:
    """Return the largest regions in both pictures, a line each, and the number of the others."""
    lines = [_place(*pair) for pair in regions[:_NAMED]]
    rest = len(regions) - _NAMED
    return [*lines, f"{rest} more"] if rest > 0 else lines


def _place(in_a: Box, in_b: Box) -> str:
    a, b = _sides(in_a), _sides(in_b)
    away = max(abs(one - two) for one, two in zip(in_a, in_b, strict=True))
    return f"{a} of both" if away < _SAME_PLACE else f"{a} of A\n{b} of B"


def _sides(box: Box) -> str:
    left, top, right, bottom = (f"{100 * share:.0f}" for share in box)
    return f"{left}–{right} % across, {top}–{bottom} % down"
