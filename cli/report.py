"""The report page: groups of duplicates, each pair side by side with the points that match."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import jinja2
from PIL import Image

from cli.alike import SHOWN_SETS, alike_sets, paths_of
from cli.output_checks import make_report_files
from cli.reported_pair import ReportedPair, Shown, reported_pair
from cli.union_find import UnionFind
from imagetools.errors import ImageError, ImageRootUnavailable
from imagetools.folder import REPORT_FILES, Tally
from imagetools.image_root import ImageRoot
from imagetools.matching.relation_words import relation_in_words
from imagetools.paths import printable

DATA: Final = ("alerts.jsonl", "similar.jsonl", "dead-letters.jsonl", "not-looked-at.jsonl", "summary.json")
"""Files that the page links to."""

THUMBNAIL_SIDE: Final = 480
"""Pixels of a thumbnail's longer side; two fit side by side on a wide screen."""

OPEN_PAIRS: Final = 200
"""Groups start open until this many pairs are shown, so that a long page loads quickly."""

LISTED: Final = 500
"""Rows that the page shows of files that were not looked at; not-looked-at.jsonl has more."""

FIRST_PAIRS: Final = 12
"""Pairs of a group that are shown before the reader asks for the rest."""

STRIP: Final = 8
"""Thumbnails in a group's headline."""

_PARTS: Final = ("crop", "contains", "overlap")
"""Relations that the words for the edit do not name."""


@dataclass(frozen=True)
class PairGroup:
    """Images that pairs connect, and these pairs, by falling score.

    files  number of files that the members are names of
    """

    members: tuple[Shown, ...]
    pairs: tuple[ReportedPair, ...]
    files: int
    open: bool


def write_report(
    folder: Path,
    alerts: Sequence[Mapping[str, Any]],
    images: ImageRoot,
    *,
    title: str,
    stats: Mapping[str, Any],
    ended: str = "",
    not_looked_at: Tally | None = None,
    similar: Sequence[Mapping[str, Any]] = (),
    similar_count: int = 0,
) -> None:
    """Write report.html and its thumbnails; the page opens from disk and needs no network.

    alerts         as the JSON contract shapes them, with their evidence; `same_file` in a pair: two names of one file
    stats          shown at the top, with these names and in this order
    ended          headline of a partial report: why it is partial
    not_looked_at  listed at the end
    similar        images that are alike and no duplicates, as similar.jsonl holds them
    similar_count  number of all such pairs
    """
    files = make_report_files(folder)
    duplicates = _unordered(alerts)
    groups = UnionFind(duplicates).components()
    alike = alike_sets(similar)
    paths = list(dict.fromkeys([*(path for members in groups for path in members), *paths_of(alike[:SHOWN_SETS])]))
    shown = _show_all(folder, images, paths)
    page = _template().render(
        title=printable(title),
        ended=printable(ended),
        not_looked_at=not_looked_at or Tally(),
        listed=LISTED,
        stats={name: f"{value:,}" if isinstance(value, int | float) else str(value) for name, value in stats.items()},
        # groups that are one file under several names come last
        groups=sorted(_grouped(groups, duplicates, shown), key=lambda group: group.files == 1),
        alike=[(one, [_alike_pair(shown, pair) for pair in one.pairs]) for one in alike[:SHOWN_SETS]],
        alike_sets=len(alike),
        alike_count=similar_count,
        alike_kept=len(similar),
        models=sorted({str(alert["model"]) for alert in alerts if alert.get("model")}),
        thresholds=sorted({alert["threshold"] for alert in alerts}),
        files=[name for name in DATA if (folder / name).exists()],
        first_pairs=FIRST_PAIRS,
        strip=STRIP,
    )
    draft = folder / ".report.html.part"
    draft.write_text(page, "utf-8")
    os.replace(draft, folder / "report.html")
    _remove_stale(files, len(paths))


def _remove_stale(files: Path, count: int) -> None:
    """Remove thumbnails of an earlier, longer report."""
    for file in files.iterdir():
        if re.fullmatch(r"\d{6,}\.jpg", file.name) and int(file.stem) >= count:
            file.unlink()


def _unordered(alerts: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], Mapping[str, Any]]:
    """(neighbor, candidate) → evidence; a pair that is reported again, with newer contents, replaces the older."""
    duplicates: dict[tuple[str, str], Mapping[str, Any]] = {}
    for alert in sorted(alerts, key=lambda alert: str(alert.get("time", ""))):
        for duplicate in alert["duplicated"]:
            pair = (str(duplicate["relative_path"]), str(alert["candidate"]))
            duplicates.pop(pair[::-1], None)
            duplicates[pair] = duplicate
    return duplicates


def _grouped(
    groups: Iterable[list[str]], duplicates: Mapping[tuple[str, str], Mapping[str, Any]], shown: Mapping[str, Shown]
) -> Iterable[PairGroup]:
    group_of = {path: number for number, members in enumerate(groups) for path in members}
    pairs: dict[int, list[ReportedPair]] = {}
    for (neighbor, candidate), duplicate in duplicates.items():
        pairs.setdefault(group_of[neighbor], []).append(reported_pair(shown[neighbor], shown[candidate], duplicate))
    before = 0
    for number, members in enumerate(groups):
        of_group = sorted(pairs[number], key=lambda pair: -float(pair.found["score"]))
        one_file = UnionFind((pair.left.path, pair.right.path) for pair in of_group if pair.same_file).components()
        count = len(members) - sum(len(names) - 1 for names in one_file)
        yield PairGroup(tuple(shown[path] for path in members), tuple(of_group), count, before < OPEN_PAIRS)
        before += min(len(of_group), FIRST_PAIRS)


def _alike_pair(shown: Mapping[str, Shown], one: Mapping[str, Any]) -> ReportedPair:
    return reported_pair(shown[one["relative_path"]], shown[one["candidate"]], one)


def _show_all(folder: Path, images: ImageRoot, paths: Sequence[str]) -> dict[str, Shown]:
    base = os.path.relpath(images.folder.resolve(), folder.resolve())
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return dict(zip(paths, pool.map(partial(_show, folder, base, images), range(len(paths)), paths), strict=True))


def _show(folder: Path, base: str, images: ImageRoot, number: int, path: str) -> Shown:
    """Write the thumbnail. An image that has disappeared keeps its place, with the reason."""
    href = quote(f"{base}/{path}")
    try:
        image = images.open(path, box=(THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    except (ImageError, ImageRootUnavailable) as exc:
        return Shown(path, href, "", (4, 3), exc.reason if isinstance(exc, ImageError) else str(exc))
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    # named by number: a path may be longer than a file's name, or have a meaning in a URL
    place = f"{REPORT_FILES}/{number:06}.jpg"
    image.save(folder / place, quality=82)
    return Shown(path, href, place, image.size)


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
    return environment.from_string((resources.files("cli") / "report.html.j2").read_text("utf-8"))
