"""The report: pages of groups of duplicates, each pair side by side with the points that match."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import jinja2

from cli.output_checks import make_report_files
from cli.report.alike import SHOWN_SETS, AlikeSet
from cli.report.file_looks import FileLook
from cli.report.found_groups import FoundGroup, Pair
from cli.report.group_cards import FIRST_PAIRS, LISTED_FILES, GroupCard, make_cards, make_pages
from cli.report.reported_pair import ReportedPair, Shown, reported_pair
from cli.report.unreadable import Unreadable
from imagetools.folder import REPORT_DATA, REPORT_FILES, Tally
from imagetools.matching.relation_words import relation_in_words
from imagetools.paths import printable

LISTED: Final = 500
"""Rows that the page shows of files that could not be read, and of those that were not looked at; files have more."""

STRIP: Final = 8
"""Thumbnails in a group's headline."""

_PARTS: Final = ("crop", "contains", "overlap")
"""Relations that the words for the edit do not name."""


@dataclass(frozen=True)
class ReportContents:
    """What the report shows.

    groups         in the order in which they are shown
    alerts         evidence of each reported pair; `same_file`: two names of one file
    looks          of all images that are shown
    stats          shown at the top, with these names and in this order
    ended          headline of a partial report: why it is partial
    not_looked_at  listed at the end
    unreadable     images that could not be read, listed at the end, too
    alike          sets of images that are alike and no duplicates
    alike_count    number of all such pairs
    alike_kept     number of those in similar.jsonl
    models         that made the fingerprints
    thresholds     from which pairs are reported
    frames         number of thumbnails of later frames
    """

    title: str
    groups: Sequence[FoundGroup]
    alerts: Mapping[Pair, Mapping[str, Any]]
    looks: Mapping[str, FileLook]
    stats: Mapping[str, Any]
    ended: str = ""
    not_looked_at: Tally | None = None
    unreadable: Sequence[Unreadable] = ()
    alike: Sequence[AlikeSet] = ()
    alike_count: int = 0
    alike_kept: int = 0
    models: Sequence[str] = ()
    thresholds: Sequence[float] = ()
    frames: int = 0


def write_report(folder: Path, images: Path | None, contents: ReportContents) -> None:
    """Write report.html and the pages behind it; they open from disk and need no network.

    images  the folder of images, which the pages link to; None where they are in a store: then to the thumbnails
    """
    files = make_report_files(folder)
    base = os.path.relpath(images.resolve(), folder.resolve()) if images is not None else None
    shown = {
        path: Shown(
            path, look.thumbnail if base is None else quote(f"{base}/{path}"), look.thumbnail, look.size, look.reason
        )
        for path, look in contents.looks.items()
    }
    pages = make_pages(make_cards(contents.groups, contents.alerts, contents.looks, shown))
    common = _common(folder, contents, shown) | {"pages": len(pages)}
    template = _template()
    for number, cards in enumerate(pages, 1):
        page = template.render(common, cards=cards, page=number, up="" if number == 1 else "../")
        _replace(folder / page_name(number), page)
    _replace(files / "paths.js", _paths(pages))
    _remove_stale(files, len(contents.looks), contents.frames, len(pages))


def page_name(number: int) -> str:
    """Return a page's place in the report's folder."""
    return "report.html" if number == 1 else f"{REPORT_FILES}/page-{number:04}.html"


def _common(folder: Path, contents: ReportContents, shown: Mapping[str, Shown]) -> dict[str, Any]:
    """Return what all pages show."""
    stats = {
        name: f"{value:,}" if isinstance(value, int | float) else str(value) for name, value in contents.stats.items()
    }
    alike = contents.alike[:SHOWN_SETS]
    return {
        "title": printable(contents.title),
        "ended": printable(contents.ended),
        "stats": stats,
        "copied": sum(group.file_count > 1 for group in contents.groups),
        "not_looked_at": contents.not_looked_at or Tally(),
        "unreadable": contents.unreadable,
        "listed": LISTED,
        "alike": [(one, [_alike_pair(shown, pair) for pair in one.pairs]) for one in alike],
        "alike_sets": len(contents.alike),
        "alike_count": contents.alike_count,
        "alike_kept": contents.alike_kept,
        "models": contents.models,
        "thresholds": contents.thresholds,
        "files": [name for name in REPORT_DATA if (folder / name).exists()],
        "first_pairs": FIRST_PAIRS,
        "listed_files": LISTED_FILES,
        "strip": STRIP,
    }


def _paths(pages: Sequence[Sequence[GroupCard]]) -> str:
    """Return a script that hands all paths to the page, which loads it when the reader looks for one."""
    listed = [[page, card.number, card.title, card.names] for page, cards in enumerate(pages, 1) for card in cards]
    return f"takePaths({json.dumps(listed)});\n"


def _replace(file: Path, text: str) -> None:
    draft = file.with_name(f".{file.name}.part")
    draft.write_text(text, "utf-8")
    os.replace(draft, file)


def _remove_stale(files: Path, thumbnails: int, frames: int, pages: int) -> None:
    """Remove thumbnails and pages of an earlier, longer report."""
    ends = {r"(\d{6,})\.jpg": thumbnails, r"frame-(\d{6,})\.jpg": frames, r"page-(\d{4,})\.html": pages + 1}
    for file in files.iterdir():
        found = ((re.fullmatch(pattern, file.name), end) for pattern, end in ends.items())
        if any(named and int(named[1]) >= end for named, end in found):
            file.unlink()


def _alike_pair(shown: Mapping[str, Shown], one: Mapping[str, Any]) -> ReportedPair:
    return reported_pair(shown[one["relative_path"]], shown[one["candidate"]], one)


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = lambda share: "all" if share >= 0.995 else f"{100 * share:.0f} %"
    environment.filters["printable"] = partial(printable, keep="\t\n")
    environment.filters["counted"] = lambda number, one, many: f"{number:,} {one if number == 1 else many}"
    environment.filters["relation"] = lambda relation: (
        relation_in_words(relation, "the right one", "the left one") if relation in _PARTS else ""
    )
    return environment.from_string((resources.files("cli.report") / "report.html.j2").read_text("utf-8"))
