"""docs/deploy.md shows the rights that streams/permissions.py holds, which tests/cluster grants and nothing more."""

import re
from collections import defaultdict
from pathlib import Path

from streams.permissions import PERMISSIONS, Operation, Resource, Right
from streams.topics import TOPICS

DEPLOY = Path(__file__).resolve().parents[2] / "docs" / "deploy.md"
HEAD = "| who | topics | groups | transactional ids |\n|---|---|---|---|\n"


def table() -> str:
    return HEAD + "".join(f"| {who} | {_cells(rights)} |\n" for who, rights in PERMISSIONS.items())


def _cells(rights: tuple[Right, ...]) -> str:
    return " | ".join(_cell([right for right in rights if right.resource is resource]) for resource in Resource)


def _cell(rights: list[Right]) -> str:
    names: defaultdict[Operation, list[Right]] = defaultdict(list)
    for right in rights:
        names[right.operation].append(right)
    return "; ".join(f"{operation} {_names(found)}" for operation, found in names.items())


def _names(rights: list[Right]) -> str:
    if {right.name for right in rights} == {topic.name for topic in TOPICS}:
        return "all topics of the service"
    return ", ".join(f"`{_shown(right)}`" for right in rights)


def _shown(right: Right) -> str:
    name = right.name.replace("{target}", "TARGET").replace("{topic}", "TOPIC")
    return f"{'' if right.outside else 'P'}{name}{'*' if right.prefixed else ''}"


def test_the_table_of_the_docs_is_that_of_the_code():
    text = DEPLOY.read_text("utf-8")
    found = re.search(re.escape(HEAD) + r"(\|.*\n)+", text)
    assert found
    assert found[0] == table()
