"""The groups of the report as cards, and the cards as pages."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cli.report.file_looks import FileLook
from cli.report.found_groups import FoundGroup, GroupedFile, Pair
from cli.report.reported_pair import ReportedPair, Shown, reported_pair
from imagetools.grouping.relations import JOINING, Relation

PAGE_GROUPS: Final = 50
"""Groups of a page, at most."""

PAGE_PAIRS: Final = 200
"""A page is full with this many pairs, which take some 4 KB each, so that it loads quickly."""

FIRST_PAIRS: Final = 12
"""Pairs of a group that are shown before the reader asks for the rest."""

MOST_PAIRS: Final = 60
"""Pairs of a group that the page holds; alerts.jsonl has all."""

LISTED_FILES: Final = 200
"""Files of a group that the page lists; groups.csv has all."""

_RELATIONS: Final = {
    Relation.IDENTICAL: "identical",
    Relation.SAME: "the same picture",
    Relation.BLANK: "blank, too",
    Relation.CROP: "shows a part of it",
    Relation.CONTAINS: "shows more than it",
    Relation.OVERLAP: "shares a part with it",
    Relation.NONE: "has something in common with it",
}


@dataclass(frozen=True)
class FileRow:
    """A file in a group's list."""

    shown: Shown
    relation: str
    pixels: str
    bytes: str
    format: str
    date: str
    keep: bool = False


@dataclass(frozen=True)
class GroupCard:
    """One group on the page, or what has no copies and still something to show.

    number    from 1 on, over all pages
    title     its headline: groups of copies, which come first, are numbered, and nothing else is
    rows      its files
    others    files outside it that share a part with it
    pairs     inside, by falling score
    shared    with images outside that share a part
    doubtful  with images outside that one pair calls the same, and their groups' earliest images do not
    """

    number: int
    title: str
    found: FoundGroup
    rows: tuple[FileRow, ...]
    others: tuple[FileRow, ...]
    pairs: tuple[ReportedPair, ...]
    shared: tuple[ReportedPair, ...]
    doubtful: tuple[ReportedPair, ...]

    @property
    def names(self) -> list[str]:
        """All paths on the card."""
        pairs = (*self.pairs, *self.shared, *self.doubtful)
        paths = [row.shown.path for row in (*self.rows, *self.others)]
        return list(dict.fromkeys([*paths, *(one.path for pair in pairs for one in (pair.left, pair.right))]))

    @property
    def pair_count(self) -> int:
        """Number of reported pairs, of which the card may hold fewer."""
        return len(self.found.pairs) + len(self.found.related)


def make_cards(
    groups: Iterable[FoundGroup],
    alerts: Mapping[Pair, Mapping[str, Any]],
    looks: Mapping[str, FileLook],
    shown: Mapping[str, Shown],
) -> Iterator[GroupCard]:
    """Yield a card for each group that has something to show: files, or pairs that no other card shows.

    groups  those of copies first
    """
    number = 0
    for found in groups:
        if len(found.files) > 1 or found.related:
            number += 1
            yield _card(number, found, alerts, looks, shown)


def make_pages(cards: Iterable[GroupCard]) -> list[list[GroupCard]]:
    """Cut the cards into pages; one page at least."""
    pages: list[list[GroupCard]] = [[]]
    pairs = 0
    for card in cards:
        if pages[-1] and (len(pages[-1]) == PAGE_GROUPS or pairs >= PAGE_PAIRS):
            pages.append([])
            pairs = 0
        pages[-1].append(card)
        pairs += len(card.pairs) + len(card.shared) + len(card.doubtful)
    return pages


def _card(
    number: int,
    found: FoundGroup,
    alerts: Mapping[Pair, Mapping[str, Any]],
    looks: Mapping[str, FileLook],
    shown: Mapping[str, Shown],
) -> GroupCard:
    def laid_out(pairs: Sequence[Pair]) -> tuple[ReportedPair, ...]:
        return tuple(reported_pair(shown[one], shown[two], alerts[one, two]) for one, two in pairs[:MOST_PAIRS])

    doubtful = [pair for pair in found.related if alerts[pair]["relation"] in JOINING]
    shared = [pair for pair in found.related if alerts[pair]["relation"] not in JOINING]
    members = {file.path for file in found.files}
    others: dict[str, FileRow] = {}
    for pair in shared[:LISTED_FILES]:
        neighbor, candidate = pair
        relation = Relation(alerts[pair]["relation"])
        outside, seen = (candidate, relation) if neighbor in members else (neighbor, relation.turned)
        others.setdefault(outside, _row(shown[outside], looks[outside], _RELATIONS[seen]))
    rows = tuple(
        _row(shown[file.path], file.look, _words(file, found.reference), keep=file.keep)
        for file in found.files[:LISTED_FILES]
    )
    return GroupCard(
        number,
        _title(number, found, bool(shared)),
        found,
        rows,
        tuple(others.values()),
        laid_out(found.pairs),
        laid_out(shared),
        laid_out(doubtful),
    )


def _title(number: int, found: FoundGroup, shares: bool) -> str:
    if found.file_count > 1:
        return f"Group {number:,}"
    if shares:
        return "Shares a part with others"
    return "In doubt" if found.related else "One file, several names"


def _words(file: GroupedFile, reference: str) -> str:
    if file.same_file:
        return "another name of a file above"
    return "" if file.path == reference else _RELATIONS[file.relation]


def _row(shown: Shown, look: FileLook, relation: str, *, keep: bool = False) -> FileRow:
    return FileRow(
        shown,
        relation,
        f"{look.width:,} × {look.height:,}" if look.width else "cannot be read",
        _size(look.bytes) if look.bytes else "",
        look.format,
        look.modified.astimezone().strftime("%Y-%m-%d %H:%M") if look.modified else "",
        keep,
    )


def _size(count: int) -> str:
    if count < 1000:
        return f"{count} B"
    return f"{count / 1000:.0f} KB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"
