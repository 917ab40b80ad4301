"""The groups as files for programs: groups.jsonl, groups.csv, and the paths of all but the ones to keep."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from cli.cells import as_cell
from cli.report.found_groups import FoundGroup, GroupedFile
from imagetools.grouping.records import Edge

GROUPS_JSON: Final = "groups.jsonl"
GROUPS_CSV: Final = "groups.csv"
EXTRAS: Final = "extras.txt"

_COLUMNS: Final = (
    "group", "state", "keep", "path", "relation", "width", "height", "bytes", "format", "modified", "same_file",
    "content",
)  # fmt: skip


def group_fields(found: FoundGroup) -> dict[str, Any]:
    """Return a group as one line of JSON holds it."""
    group = found.group
    return {
        "id": group.id.path,
        "content": group.id.content,
        "state": str(group.state),
        "blank": group.blank,
        "keep": found.keep or None,
        "reasons": list(found.reasons),
        "members": [_file_fields(file) for file in found.files],
        "doubtful": [_edge_fields(edge) for edge in group.doubtful],
        "linked": [{"group": link.group.path, **_edge_fields(link.edge)} for link in group.linked],
    }


def as_csv(groups: Iterable[FoundGroup]) -> bytes:
    """Return a table with a line for each file of each group of two or more.

    Text that a spreadsheet would take for a formula begins with an apostrophe, such as a path that begins with =, +, -
    or @. The lines of JSON have all paths as they are.
    """
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, _COLUMNS, extrasaction="ignore")
    writer.writeheader()
    for found in groups:
        for file in found.files if len(found.files) > 1 else ():
            row = _file_fields(file) | {"group": found.group.id.path, "state": str(found.group.state)}
            row |= {"keep": "keep" if file.keep else "", "same_file": "yes" if file.same_file else ""}
            writer.writerow({name: as_cell(value) for name, value in row.items()})
    return out.getvalue().encode()


def extras(groups: Sequence[FoundGroup]) -> tuple[bytes, int]:
    """Return a line for each file that is a copy of one to keep, and how many paths fit no line.

    Other names of the one to keep are none, since without the file they lead nowhere, or free nothing. A group with a
    doubtful edge has none: somebody has to look at it first.
    """
    paths = list(_extra_paths(groups))
    fit = [path for path in paths if not set(path) & {"\n", "\r"}]
    return "".join(f"{path}\n" for path in fit).encode(), len(paths) - len(fit)


def _extra_paths(groups: Iterable[FoundGroup]) -> Iterator[str]:
    for found in groups:
        if not found.group.doubtful:
            yield from (file.path for file in found.files if file.extra)


def _file_fields(file: GroupedFile) -> dict[str, Any]:
    look = file.look
    return {
        "path": file.path,
        "relation": str(file.relation),
        "keep": file.keep,
        "same_file": file.same_file,
        "width": look.width or None,
        "height": look.height or None,
        "bytes": look.bytes or None,
        "format": look.format or None,
        "modified": look.modified.isoformat(timespec="seconds") if look.modified else None,
        "content": file.content,
    }


def _edge_fields(edge: Edge) -> dict[str, Any]:
    return {
        "left": edge.left.path,
        "right": edge.right.path,
        "relation": str(edge.relation),
        "score": edge.score,
    }
