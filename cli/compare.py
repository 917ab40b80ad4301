"""`imagetools compare`: verdict, evidence and a picture of one pair."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.output_checks import check_picture
from cli.picture import SIDE, pair_picture
from imagetools.decode import decode
from imagetools.features.extract import extract
from imagetools.matching.config import MatcherConfig
from imagetools.matching.verify import ImageOpener, verify
from imagetools.paths import one_file, shown

_NAMED: Final = 8
"""Number of regions that are printed."""


def compare(a: Path, b: Path, picture: Path | None, config: MatcherConfig) -> None:
    """Print the matcher's verdict on A and B; ImageError if one cannot be read."""
    if picture is not None:
        check_picture(picture, "--picture")
    # from the same pixels as in a stage, which decodes an image no larger than features need
    looks = _look(a), _look(b)
    box = config.width, config.height
    found = verify(extract(looks[0](box), config), extract(looks[1](box), config), config, looks)
    console = Console()
    verdict = "duplicate" if found.duplicate else "no duplicate"
    console.print(Text(f"{verdict}: score {found.score:.3f}, threshold {config.threshold}", style="bold"))
    table = Table("evidence", "", show_header=False)
    how = one_file(a, b)
    rows = {"edit": f"the same file, {how}: nothing to delete" if how else found.edit, "stopped at": found.gate}
    if found.coverage_candidate:
        rows |= {
            "inliers": str(found.inliers) if found.inliers else "none, whole pictures compared",
            "agreement": f"{found.agreement:.2f}",
            "mirrored": "yes" if found.mirrored else "no",
            "scale": f"{found.scale:.2f}",
            "angle": f"{round(found.angle, 1) + 0.0:.1f}°",  # no -0.0
            "covered of A": f"{found.coverage_candidate:.0%}",
            "covered of B": f"{found.coverage_neighbor:.0%}",
        }
    if found.regions:
        rows["differs at"] = "\n".join(_place(one) for one, _ in found.regions[:_NAMED])
    for name, text in rows.items():
        if text:
            table.add_row(name, Text(text))
    console.print(table)
    if picture is not None:
        images = [look((SIDE, SIDE)) for look in looks]
        pair_picture(images[0], images[1], found.points, f"{verdict}, {found.score:.2f} {found.edit}").save(picture)
        console.print(Text(f"Picture: {shown(str(picture))}"))


def _look(path: Path) -> ImageOpener:
    data, name = path.read_bytes(), shown(str(path))
    return lambda box: decode(data, name, box=box)


def _place(box: Sequence[float]) -> str:
    left, top, right, bottom = (f"{share:.0%}" for share in box)
    return f"{left} to {right} across, {top} to {bottom} down in A"
