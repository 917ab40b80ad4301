"""docs/asyncapi.json follows the code and is AsyncAPI 3.

asyncapi-3.0.0.json is the specification's JSON schema, from the npm package @asyncapi/specs 6.11.1 (Apache License
2.0).
"""

import json
import re
from copy import deepcopy
from pathlib import Path

import fastavro
import pytest
from jsonschema import Draft7Validator

from schemas.codec import published_schemas
from streams.asyncapi import document
from streams.topics import READS, TOPICS, WRITES

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docs" / "asyncapi.json"


@pytest.fixture(scope="module")
def schema() -> Draft7Validator:
    return Draft7Validator(json.loads(Path(__file__).with_name("asyncapi-3.0.0.json").read_text("utf-8")))


def test_the_file_follows_the_code():
    assert json.loads(FILE.read_text("utf-8")) == document(), (
        "run `imagetools topics describe > docs/asyncapi.json`"
    )  # fmt: skip


def test_it_is_asyncapi(schema):
    assert [f"{list(error.absolute_path)}: {error.message}" for error in schema.iter_errors(document())] == []


@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        (("channels", "duplicates", "bindings", "kafka", "partitions"), "six"),
        (("channels", "verdicts", "messages", "Verdict", "payload", "schema", "type"), "record of verdicts"),
        (("operations", "search-sends-candidates", "action"), "publish"),
    ],
)
def test_the_specification_refuses_what_is_wrong(schema, place, wrong):
    changed = deepcopy(document())
    at = changed
    for name in place[:-1]:
        at = at[name]
    assert place[-1] in at
    at[place[-1]] = wrong
    assert list(schema.iter_errors(changed))


def test_every_topic_is_there_with_its_newest_schema_which_avro_reads():
    channels = document()["channels"]
    assert list(channels) == [topic.name for topic in TOPICS]
    for topic in TOPICS:
        channel = channels[topic.name]
        assert channel["description"].endswith(".")
        assert channel["bindings"]["kafka"]["partitions"] == topic.partitions
        if topic.kind is not None:
            written = channel["messages"][topic.kind.__name__]["payload"]["schema"]
            assert written == published_schemas(topic.kind)[-1]
            fastavro.parse_schema(written, named_schemas={})


def test_every_reference_leads_somewhere():
    found = document()
    references = re.findall(r'"\$ref": "#/channels/([^"]+)"', json.dumps(found["operations"]))
    assert len(references) >= len(found["operations"])
    assert set(references) <= set(found["channels"])
    assert {topic.name for topic in READS.values()} <= set(references)


@pytest.mark.parametrize("process", WRITES)
def test_who_writes_a_topic_may_do_so_by_the_page_on_deployment(process):
    page = (ROOT / "docs" / "deploy.md").read_text("utf-8")
    rows = [line for line in page.splitlines() if line.startswith(f"| {process} |")]
    assert len(rows) == 1
    assert set(_written(rows[0].split("|")[2])) == {topic.name for topic in WRITES[process]}


def _written(topics: str) -> list[str]:
    """The topics after the word Write, up to the next semicolon."""
    return [name for part in topics.split(";") if "Write" in part for name in re.findall(r"`P([a-z.-]+)`", part)]
