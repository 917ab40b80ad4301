"""One pair: verdict, evidence, and a picture."""

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.outputs import try_picture
from cli.picture import pair_picture
from imagetools.decode import decode
from imagetools.matcher import MatcherConfig, extract, verify
from imagetools.paths import one_file, shown


def compare(a: Path, b: Path, picture: Path | None, config: MatcherConfig) -> None:
    """Print what the matcher says of A and B; ImageError where one cannot be read."""
    if picture is not None:
        try_picture(picture, "--picture")
    images = [decode(path.read_bytes(), shown(str(path))) for path in (a, b)]
    found = verify(extract(images[0], config), extract(images[1], config), config)
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
    for name, text in rows.items():
        if text:
            table.add_row(name, Text(text))
    console.print(table)
    if picture is not None:
        pair_picture(images[0], images[1], found.points, f"{verdict}, {found.score:.2f} {found.edit}").save(picture)
        console.print(Text(f"Picture: {shown(str(picture))}"))
