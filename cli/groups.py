"""`imagetools groups`: the groups of a running service, as a table, JSON, CSV, or one in full."""

import csv
import io
import sys
from collections.abc import Iterable
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from cli.alerts import metadata_text
from cli.cells import as_cell
from cli.group_log import GroupLog, read_groups
from cli.json_lines import json_line
from cli.tables import print_table
from imagetools.errors import ImageToolsError
from imagetools.grouping.records import GroupState
from imagetools.paths import shown
from schemas.group_records import DecisionRecord, GroupEdge, GroupRecord
from streams.config import KafkaConfig

ALL: Final = "all"

_COLUMNS: Final = (
    "group",
    "state",
    "keep",
    "path",
    "relation",
    "width",
    "height",
    "bytes",
    "format",
    "content",
    "metadata",
)


class NoSuchGroup(ImageToolsError):
    """There is no group with this id, and none that holds this image."""


def show_groups(kafka: KafkaConfig, state: str, output: str) -> None:
    """Print the groups of a state (open, decided or all): as json, csv or, for people, text."""
    log = read_groups(kafka)
    chosen = sorted((one for one in log.groups.values() if _fits(one, state)), key=lambda one: one.id)
    if output == "json":
        for group in chosen:
            sys.stdout.buffer.write(json_line(fields(group)))
        return
    if output == "csv":
        sys.stdout.buffer.write(_csv(chosen))
        return
    console = Console()
    rows = [(shown(one.id), f"{one.member_count:,}", str(one.state), shown(_kept(one))) for one in chosen]
    if chosen:
        print_table(console, ("group", "images", "state", "keep"), rows)
    console.print(_count(len(chosen), state))


def _fits(group: GroupRecord, state: str) -> bool:
    if state == GroupState.OPEN:
        return group.waits
    return state in (ALL, str(group.state))


def show_group(kafka: KafkaConfig, name: str, *, as_json: bool) -> None:
    """Print a group by its id, or by one of its images. NoSuchGroup."""
    log = read_groups(kafka)
    group = log.groups.get(name) or next((one for one in log.groups.values() if name in _paths(one)), None)
    if group is None:
        raise NoSuchGroup(f"no group holds {shown(name)}")
    said = _decisions(log, group)
    if as_json:
        sys.stdout.buffer.write(json_line(fields(group) | {"decisions": [decision_fields(one) for one in said]}))
        return
    _print_group(Console(), group, said)


def show_decisions(kafka: KafkaConfig, *, as_json: bool) -> None:
    """Print each decision that stands, by its time."""
    console, said = Console(), sorted(read_groups(kafka).decisions.values(), key=lambda one: one.when)
    for one in said:
        if as_json:
            sys.stdout.buffer.write(json_line(decision_fields(one)))
        else:
            console.print(Text(in_words(one)), soft_wrap=True)
    if not said and not as_json:
        console.print("no decisions")


def fields(group: GroupRecord) -> dict[str, Any]:
    """Return a group as one line of JSON holds it."""
    return {
        "id": group.id,
        "state": str(group.state),
        "blank": group.blank,
        "keep": _kept(group) or None,
        "chosen": group.chosen,
        "reasons": list(group.reasons),
        "member_count": group.member_count,
        "members": [_member_fields(group, n) for n in range(len(group.members))],
        "doubtful": [_edge_fields(edge) for edge in group.doubtful],
        "linked": [{"group": link.group, **_edge_fields(link.edge)} for link in group.linked],
        "time": group.time.isoformat(timespec="milliseconds"),
    }


def decision_fields(one: DecisionRecord) -> dict[str, Any]:
    """Return a decision as JSON holds it."""
    return {
        "decision": str(one.decision),
        "images": [{"path": image.relative_path, "content": image.content.hex()} for image in one.images],
        "keep": list(one.keep),
        "group": one.group,
        "who": one.who,
        "when": one.when.isoformat(timespec="milliseconds"),
        "note": one.note,
    }


def _member_fields(group: GroupRecord, number: int) -> dict[str, Any]:
    member = group.members[number]
    return {
        "path": member.relative_path,
        "relation": member.relation,
        "keep": member.keep,
        "decided": member.decided,
        "width": member.width or None,
        "height": member.height or None,
        "bytes": member.bytes or None,
        "format": member.format or None,
        "content": member.content.hex(),
        "metadata": member.metadata,
    }


def _edge_fields(edge: GroupEdge) -> dict[str, Any]:
    return {
        "left": edge.left.relative_path,
        "right": edge.right.relative_path,
        "relation": edge.relation,
        "score": round(edge.score, 4),
    }


def _csv(groups: Iterable[GroupRecord]) -> bytes:
    """Return a table with a line for each image; text that a spreadsheet takes for a formula gets an apostrophe."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, _COLUMNS, extrasaction="ignore")
    writer.writeheader()
    for group in groups:
        for number in range(len(group.members)):
            row = _member_fields(group, number)
            row |= {"group": group.id, "state": str(group.state), "keep": "keep" if row["keep"] else ""}
            row["metadata"] = json_line(row["metadata"]).decode().strip() if row["metadata"] else ""
            writer.writerow({name: as_cell(value) for name, value in row.items()})
    return out.getvalue().encode()


def _print_group(console: Console, group: GroupRecord, said: Iterable[DecisionRecord]) -> None:
    reasons = f" ({', '.join(group.reasons)})" if group.reasons else ""
    kept = f", {'chosen' if group.chosen else 'suggested'}: {shown(_kept(group))}{reasons}" if _kept(group) else ""
    console.print(Text(f"{shown(group.id)}: {group.member_count:,} images, {group.state}{kept}"), soft_wrap=True)
    columns = ["image", "relation", "dimensions", "bytes", "format", "decided"]
    if any(member.metadata for member in group.members):
        columns.append("metadata")
    rows = []
    for member in group.members:
        size = f"{member.width:,} × {member.height:,}" if member.width else ""
        row = [shown(member.relative_path), member.relation, size, f"{member.bytes:,}" if member.bytes else ""]
        row += [member.format, "yes" if member.decided else "", metadata_text(member.metadata)]
        rows.append(row[: len(columns)])
    print_table(console, columns, rows)
    for edge in group.doubtful:
        console.print(Text(f"doubtful: {_pair_in_words(edge)}; another group"), soft_wrap=True)
    for link in group.linked:
        console.print(Text(f"linked: {_pair_in_words(link.edge)}; group {shown(link.group)}"), soft_wrap=True)
    for one in said:
        console.print(Text(in_words(one)), soft_wrap=True)


def _pair_in_words(edge: GroupEdge) -> str:
    return f"{shown(edge.left.relative_path)} {edge.relation} {shown(edge.right.relative_path)}, {edge.score:.2f}"


def in_words(one: DecisionRecord) -> str:
    """Describe a decision in one line."""
    names = ", ".join(shown(image.relative_path) for image in one.images[:3])
    more = f" and {len(one.images) - 3:,} more" if len(one.images) > 3 else ""
    keep = f", keep {', '.join(map(shown, one.keep))}" if one.keep else ""
    note = f" ({shown(one.note)})" if one.note else ""
    when = one.when.astimezone().strftime("%Y-%m-%d %H:%M")
    return f"{when}  {shown(one.who) or 'somebody'}: {one.decision.replace('_', '-')}{keep}: {names}{more}{note}"


def _decisions(log: GroupLog, group: GroupRecord) -> list[DecisionRecord]:
    members = {(member.relative_path, member.content) for member in group.members}
    named = [({(i.relative_path, i.content) for i in one.images}, one) for one in log.decisions.values()]
    return [one for images, one in named if len(images & members) >= 2]


def _kept(group: GroupRecord) -> str:
    return next((member.relative_path for member in group.members if member.keep), "")


def _paths(group: GroupRecord) -> set[str]:
    return {member.relative_path for member in group.members}


def _count(count: int, state: str) -> str:
    of_state = "" if state == ALL else f" {state}"
    return f"{count:,}{of_state} {'group' if count == 1 else 'groups'}" if count else f"no{of_state} groups"
