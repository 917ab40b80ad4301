"""`imagetools demo`: find planted copies among sample photos, and score the result."""

import os
import shutil
from pathlib import Path

import msgspec
from rich.console import Console

from cli.demo_images import as_numbers, measure, prepare, score
from cli.find import check, find
from cli.output_checks import check_folder


def run(folder: Path) -> None:
    """Prepare `folder`, find its duplicates, and print precision and recall by kind of edit.

    score.json in the folder has the score for programs.
    """
    console = Console()
    check(os.environ)
    check_folder(folder, "--folder")
    for part in ("images", "report"):
        shutil.rmtree(folder / part, ignore_errors=True)
    plan = prepare(folder / "images")
    results = find(folder / "images", folder / "report", console=console)
    pairs = [(alert.candidate, d.relative_path) for alert in results.alerts for d in alert.duplicated]
    seen = measure(plan, pairs)
    console.print(score(plan, seen))
    numbers = msgspec.json.encode(as_numbers(plan, seen))
    (folder / "score.json").write_bytes(msgspec.json.format(numbers, indent=1))
