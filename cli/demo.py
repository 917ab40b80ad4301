"""The main job on sample photos with planted copies, and how much of them it finds."""

import os
import shutil
from pathlib import Path

from rich.console import Console

from cli.demo_images import prepare, score
from cli.find import check, find


def run(folder: Path) -> None:
    """Prepare `folder`, find its duplicates, and print precision and recall by kind of edit."""
    console = Console()
    check(os.environ)
    for part in ("images", "report"):
        shutil.rmtree(folder / part, ignore_errors=True)
    plan = prepare(folder / "images")
    findings = find(folder / "images", folder / "report", console=console)
    pairs = [(alert.candidate, d.relative_path) for alert in findings.alerts for d in alert.duplicated]
    console.print(score(plan, pairs))
