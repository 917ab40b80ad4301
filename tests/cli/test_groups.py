"""`imagetools groups` and `imagetools decide`, on the topics of a real Kafka."""

import csv
import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.decide import Speaker, Word, overtaken
from cli.group_log import decisions_between
from cli.main import main
from imagetools.grouping.records import Choice, GroupState
from schemas.group_records import DecisionRecord, GroupEdge, GroupLink, ImageContent, decision_id
from streams.config import KafkaConfig
from streams.topics import DECISIONS, GROUPS
from tests.support.grouping import content_of, group_of
from tests.support.streaming import Reader, send


@pytest.fixture
def groups(kafka: KafkaConfig) -> KafkaConfig:
    """Two open groups, a decided one, and one that has ended."""
    a, x = ImageContent("a.jpg", content_of("a.jpg")), ImageContent("x.jpg", content_of("x.jpg"))
    linked = (GroupLink("x.jpg", GroupEdge(a, x, "crop", 0.9)),)
    chosen = replace(group_of("d.jpg", "e.jpg"), state=GroupState.DECIDED)
    records = [group_of("a.jpg", "b.jpg", "=1.jpg", linked=linked), group_of("c.jpg", "c copy.jpg"), chosen]
    send(kafka, GROUPS, [(one.id, one) for one in records] + [("g.jpg", group_of("g.jpg", "h.jpg")), ("g.jpg", None)])
    return kafka


def run(kafka: KafkaConfig, *words: str, **environ: str) -> Result:
    settings = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "TOPIC_PREFIX": kafka.prefix, "COLUMNS": "200", **environ}
    return CliRunner().invoke(main, words, env=settings)


def decisions(kafka: KafkaConfig) -> list[DecisionRecord | None]:
    reader = Reader(kafka, DECISIONS).settled(0.3)
    reader.close()
    return reader.seen["decisions"]


def lines(result: Result) -> list[Any]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_groups_are_listed_as_a_table_json_and_csv(groups: KafkaConfig) -> None:
    shown = run(groups, "groups")
    assert shown.exit_code == 0, shown.output
    assert "c.jpg" in shown.stdout
    assert "d.jpg" not in shown.stdout
    assert shown.stdout.endswith("2 open groups\n")
    assert [one["id"] for one in lines(run(groups, "groups", "--json"))] == ["a.jpg", "c.jpg"]
    (decided,) = lines(run(groups, "groups", "--json", "--state", "decided"))
    assert (decided["state"], decided["keep"], len(decided["members"])) == ("decided", "d.jpg", 2)
    assert decided["members"][0]["content"] == content_of("d.jpg").hex()
    rows = list(csv.DictReader(io.StringIO(run(groups, "groups", "--csv", "--state", "all").stdout)))
    assert [row["path"] for row in rows] == ["a.jpg", "b.jpg", "'=1.jpg", "c.jpg", "c copy.jpg", "d.jpg", "e.jpg"]
    assert [row["keep"] for row in rows[:2]] == ["keep", ""]
    both = run(groups, "groups", "--json", "--csv")
    assert (both.exit_code, "one of them" in both.stderr) == (2, True)


def test_open_groups_are_those_that_wait_for_a_person(groups: KafkaConfig) -> None:
    lone, other = (ImageContent(path, content_of(path)) for path in ("m.jpg", "a.jpg"))
    edge = GroupEdge(lone, other, "same", 0.8)
    records = [group_of("m.jpg", doubtful=(edge,)), group_of("n.jpg", linked=(GroupLink("a.jpg", edge),))]
    send(groups, GROUPS, [(one.id, one) for one in records])
    assert run(groups, "groups").stdout.endswith("3 open groups\n")
    assert [one["id"] for one in lines(run(groups, "groups", "--json"))] == ["a.jpg", "c.jpg", "m.jpg"]
    assert "n.jpg" in run(groups, "groups", "--state", "all").stdout


def test_one_group_is_shown_by_its_id_or_by_an_image(groups: KafkaConfig) -> None:
    assert run(groups, "decide", "a.jpg", "b.jpg", "not-duplicate", "--who", "Ann", "--note", "label").exit_code == 0
    for name in ("a.jpg", "b.jpg"):
        shown = run(groups, "groups", "show", name)
        assert shown.exit_code == 0, shown.output
        assert "a.jpg: 3 images, open, suggested: a.jpg (largest picture)" in shown.stdout
        assert "800 × 600" in shown.stdout
        assert "linked: a.jpg crop x.jpg, 0.90; group x.jpg" in shown.stdout
        assert "Ann: not-duplicate: a.jpg, b.jpg (label)" in shown.stdout
    (found,) = lines(run(groups, "groups", "show", "a.jpg", "--json"))
    assert [one["who"] for one in found["decisions"]] == ["Ann"]
    gone = run(groups, "groups", "show", "g.jpg")
    assert (gone.exit_code, "no group holds g.jpg" in gone.stderr) == (2, True)


def test_no_path_is_cut(groups: KafkaConfig) -> None:
    long = f"{'folder/' * 20}a.jpg"
    send(groups, GROUPS, [(long, group_of(long, "b.jpg"))])
    for words in (["groups"], ["groups", "show", long]):
        shown = run(groups, *words, COLUMNS="80").stdout
        assert f"{long}\t" in shown
        assert "…" not in shown


def test_metadata_of_images_is_shown_where_there_is_any(groups: KafkaConfig) -> None:
    assert "metadata" not in run(groups, "groups", "show", "a.jpg").stdout
    group = group_of("m.jpg", "n.jpg")
    told = {"sku": "4711", "note": "[red]\x1b[31m"}
    members = (replace(group.members[0], metadata=told), group.members[1])
    send(groups, GROUPS, [("m.jpg", replace(group, members=members))])
    shown = run(groups, "groups", "show", "m.jpg").stdout
    assert "sku=4711, note=[red]\\x1b[31m" in shown
    (found,) = lines(run(groups, "groups", "show", "m.jpg", "--json"))
    assert [one["metadata"] for one in found["members"]] == [told, {}]
    rows = csv.DictReader(io.StringIO(run(groups, "groups", "--csv").stdout))
    assert [row["metadata"] and json.loads(row["metadata"]) for row in rows if row["group"] == "m.jpg"] == [told, ""]


def test_a_decision_is_made_with_the_contents_of_the_group_and_undone(groups: KafkaConfig) -> None:
    made = run(groups, "decide", "a.jpg", "b.jpg", "duplicate", "--keep", "b.jpg", "--who", "Zoë")
    assert made.exit_code == 0, made.output
    images = (ImageContent("a.jpg", content_of("a.jpg")), ImageContent("b.jpg", content_of("b.jpg")))
    (record,) = decisions(groups)
    assert record is not None
    assert (record.id, record.decision, record.images, record.keep, record.who) == (
        decision_id(images), Choice.DUPLICATE, images, ("b.jpg",), "Zoë",
    )  # fmt: skip
    assert run(groups, "decide", "b.jpg", "a.jpg", "undo", "--who", "Zoë").exit_code == 0
    assert decisions(groups) == [record, None]
    again = run(groups, "decide", "b.jpg", "a.jpg", "undo")
    assert (again.exit_code, "there is no decision to undo" in again.stderr) == (2, True)


def test_what_others_said_is_replaced_only_when_asked(groups: KafkaConfig) -> None:
    assert run(groups, "decide", "a.jpg", "b.jpg", "not-duplicate", "--who", "Ann").exit_code == 0
    for word in ("duplicate", "undo"):
        refused = run(groups, "decide", "a.jpg", "b.jpg", word, "--who", "Bob")
        assert refused.exit_code == 2
        assert "Ann: not-duplicate: a.jpg, b.jpg; --replace replaces that" in refused.stderr
    assert len(decisions(groups)) == 1
    assert run(groups, "decide", "a.jpg", "b.jpg", "duplicate", "--who", "Bob", "--replace").exit_code == 0
    assert [record and record.who for record in decisions(groups)] == ["Ann", "Bob"]


def test_another_image_to_keep_is_another_word(groups: KafkaConfig) -> None:
    assert run(groups, "decide", "a.jpg", "b.jpg", "duplicate", "--keep", "b.jpg", "--who", "Ann").exit_code == 0
    for keep in (["--keep", "a.jpg"], []):
        refused = run(groups, "decide", "a.jpg", "b.jpg", "duplicate", *keep, "--who", "Bob")
        assert refused.exit_code == 2
        assert "Ann: duplicate, keep b.jpg: a.jpg, b.jpg; --replace replaces that" in refused.stderr
    assert run(groups, "decide", "a.jpg", "b.jpg", "duplicate", "--keep", "b.jpg", "--who", "Bob").exit_code == 0


def test_what_others_said_in_the_same_moment_is_found(groups: KafkaConfig) -> None:
    """Ann's word came after Bob's command had read the topic, and before Bob's."""
    a, b, c = (ImageContent(path, content_of(path)) for path in ("a.jpg", "b.jpg", "c.jpg"))
    records = [
        DecisionRecord(decision_id(images), choice, images, who=who)
        for choice, images, who in (
            (Choice.NOT_DUPLICATE, (a, c), "Ann"),
            (Choice.NOT_DUPLICATE, (a, b), "Ann"),
            (Choice.LATER, (a, b), "Zoë"),
            (Choice.NOT_DUPLICATE, (a, b), "Bob"),
            (Choice.DUPLICATE, (a, b), "Bob"),
        )
    ]
    send(groups, DECISIONS, [(one.id, one) for one in records])
    between = decisions_between(groups, 1, 4)
    assert [(offset, one.who) for offset, one in between] == [(1, "Ann"), (2, "Zoë"), (3, "Bob")]
    word = Word(records[4].id, (a, b), records[4], Speaker("Bob"))
    assert [one.who for one in overtaken(between, [word], {word.key: 4})] == ["Ann"]
    assert overtaken(between, [word], {word.key: 1}) == []


def test_decisions_are_taken_from_a_file_all_or_none(groups: KafkaConfig, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (images / "new.jpg").write_bytes(b"new")
    file = tmp_path / "decisions.csv"
    file.write_text("left,right,decision,note\na.jpg,b.jpg,not_duplicate,label\nc.jpg,new.jpg,duplicate,\n")
    refused = run(groups, "decide", "--from", str(file))
    assert (refused.exit_code, "new.jpg: in no group" in refused.stderr) == (2, True)
    assert decisions(groups) == []
    made = run(groups, "decide", "--from", str(file), IMAGES_DIR=str(images))
    assert made.exit_code == 0, made.output
    assert "2 decisions" in made.stderr
    first, second = decisions(groups)
    assert first is not None
    assert second is not None
    assert (first.decision, first.note) == (Choice.NOT_DUPLICATE, "label")
    assert second.images[1] == ImageContent("new.jpg", hashlib.sha256(b"new").digest())


def test_a_file_says_who_decides_what_to_keep_and_when_and_what_is_taken_back(
    groups: KafkaConfig, tmp_path: Path
) -> None:
    file = tmp_path / "decisions.csv"
    file.write_text(
        "left;right;decision;keep;who;when\n"
        "a.jpg;b.jpg;duplicate;b.jpg;Ann;2026-01-31T12:00:00+00:00\n"
        "a.jpg;'=1.jpg;not-duplicate;;;\n"
    )
    assert run(groups, "decide", "--from", str(file), "--who", "Bob").exit_code == 0
    first, second = decisions(groups)
    assert first is not None
    assert second is not None
    assert (first.who, first.keep, first.when.isoformat()) == ("Ann", ("b.jpg",), "2026-01-31T12:00:00+00:00")
    assert (second.who, second.keep, second.images[1].relative_path) == ("Bob", (), "=1.jpg")
    file.write_text("left,right,decision,who\na.jpg,b.jpg,undo,Bob\n")
    assert "Ann: duplicate, keep b.jpg" in run(groups, "decide", "--from", str(file)).stderr
    file.write_text("left,right,decision,who\na.jpg,b.jpg,undo,Ann\n")
    assert run(groups, "decide", "--from", str(file)).exit_code == 0
    assert decisions(groups)[2:] == [None]
    assert run(groups, "decide", "c.jpg", "c copy.jpg", "not_duplicate").exit_code == 0
    # those between images of different groups, too; what was taken back is gone
    listed = run(groups, "groups", "decisions").stdout.splitlines()
    assert [line.split("  ", 1)[1] for line in listed[:1]] == ["Bob: not-duplicate: a.jpg, =1.jpg"]
    assert "not-duplicate: c.jpg, c copy.jpg" in listed[1]
    found = lines(run(groups, "groups", "decisions", "--json"))
    assert [[image["path"] for image in one["images"]] for one in found] == [
        ["a.jpg", "=1.jpg"],
        ["c.jpg", "c copy.jpg"],
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a.jpg", "b.jpg", "same"], "'same' is no decision; it is one of duplicate, not-duplicate, later, undo"),
        (["a.jpg", "b.jpg"], "two images and a word are needed"),
        (["a.jpg", "a.jpg", "later"], "both images are the same path"),
        (["a.jpg", "b.jpg", "later", "--keep", "a.jpg"], "--keep names one of the two images, with duplicate"),
    ],
)
def test_wrong_words_are_refused_before_kafka_is_asked(words: list[str], said: str) -> None:
    result = run(KafkaConfig("127.0.0.1:1"), "decide", *words)
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_message_that_is_no_decision_is_skipped(groups: KafkaConfig) -> None:
    images = (ImageContent("a.jpg", b"short"), ImageContent("b.jpg", content_of("b.jpg")))
    bad = DecisionRecord(decision_id(images), Choice.DUPLICATE, images, who="Ann")
    send(groups, DECISIONS, [(bad.id, bad)])
    shown = run(groups, "groups", "show", "a.jpg", "--json")
    assert [one["decisions"] for one in lines(shown)] == [[]]
    assert run(groups, "decide", "a.jpg", "b.jpg", "undo").exit_code == 2
