"""The pages: their links, the paths that they name, and the README's length and library lines."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.streaming import scene

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = sorted([README, *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md"), *ROOT.glob("*/*/README.md")])
ROOMS = ("imagetools", "schemas", "local_kafka", "streams", "http_bridge", "training", "cli", "bench", "tests")

MAX_WORDS = 1000
MAX_LIBRARY_LINES = 8


def prose(page: Path) -> str:
    """The text of a page without its code blocks."""
    return re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_that_is_named_exists(page: Path) -> None:
    named = re.findall(rf"`((?:{'|'.join(ROOMS)})/[\w./]*)`", prose(page))
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_readme_is_short() -> None:
    assert len(README.read_text("utf-8").split()) < MAX_WORDS


def test_the_tree_names_every_room() -> None:
    tree = README.read_text("utf-8").partition("\n## The house\n")[2].split("```")[1]
    parents, named = [""], []
    for line in tree.strip().splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        parents[depth + 1 :] = [parents[depth] + line.split()[0]]
        named.append(parents[depth + 1])
    assert {f"{room}/" for room in (*ROOMS, "examples")} <= set(named)
    assert [room for room in named if not (ROOT / room).is_dir()] == []


def test_the_library_lines_run(tmp_path: Path) -> None:
    lines = README.read_text("utf-8").partition("\n## The library\n")[2].partition("```python\n")[2].partition("```")[0]
    assert len([line for line in lines.splitlines() if line]) <= MAX_LIBRARY_LINES
    photos = tmp_path / "photos"
    photos.mkdir()
    scene(0).save(photos / "a.jpg", quality=95)
    scene(0).save(photos / "b.jpg", quality=70)
    ran = subprocess.run(
        [sys.executable, "-c", lines],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == "re-encoded"
