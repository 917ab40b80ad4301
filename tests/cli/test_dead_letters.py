"""`imagetools dead-letters`: what was set aside is listed, shown, and sent back once."""

import json
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import KafkaException

from cli.main import main
from schemas.codec import codec
from schemas.neighbor_records import Neighbor
from schemas.records import Candidates, ImageNew, VerdictOutcome
from streams.config import KafkaConfig
from streams.kafka.dead_letters import MAX_DEAD_LETTER_BYTES, ORIGIN
from streams.kafka.replay import Replayer, not_replayed, read_letters
from streams.topics import CANDIDATES, DEAD_LETTERS, DECISIONS, DUPLICATES, EMBEDDINGS, IMAGES_NEW, VERDICTS, Topic
from tests.support.bridging import stages
from tests.support.streaming import Reader, running, scene, send, send_raw


def letters(kafka: KafkaConfig, *words: str, code: int = 0, answer: str | None = None, **environ: str) -> Result:
    settings = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "TOPIC_PREFIX": kafka.prefix, **environ}
    result = CliRunner().invoke(main, ["dead-letters", *words], env=settings, input=answer)
    assert result.exit_code == code, result.output
    return result


def listed(kafka: KafkaConfig, *words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in letters(kafka, "list", "--json", *words).stdout.splitlines()]


def set_aside(
    kafka: KafkaConfig,
    topic: Topic,
    path: str,
    value: bytes | None = b"x",
    *,
    stage: str = "encoder",
    error: str = "MissingImage",
    own: tuple[tuple[str, bytes], ...] = (),
    **options: Any,
) -> None:
    """Write a dead letter as a stage writes it; `own` are the message's own headers."""
    origin = (stage, kafka.topic(topic.name), "0", "0", error, f"{path}: not\nthere")
    headers = [*own, *((name, text.encode()) for name, text in zip(ORIGIN, origin, strict=True))]
    send_raw(kafka, DEAD_LETTERS, [(path.encode(), value)], headers=headers, **options)


def announcement(path: str) -> bytes:
    return codec().encode("", ImageNew(7, path))


def test_a_missing_image_is_replayed_once_and_gets_its_verdict_when_its_file_is_there(kafka, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    scene(1).save(images / "there.png")
    reader = Reader(kafka, IMAGES_NEW, VERDICTS, DEAD_LETTERS)
    with running(*stages(kafka, images, tmp_path / "index"), kafka=kafka):
        send(kafka, IMAGES_NEW, [("late.png", ImageNew(7, "late.png"))], headers=[("trace", b"t"), ("topic", b"own")])
        send(kafka, IMAGES_NEW, [("gone.png", ImageNew(8, "gone.png")), ("there.png", ImageNew(9, "there.png"))])
        reader.until(lambda r: len(r.seen["verdicts"]) == 3)
        first = {one["relative_path"]: one for one in listed(kafka, "--type", "MissingImage", "--stage", "encoder")}
        assert {path: one["replayed"] for path, one in first.items()} == {"late.png": 0, "gone.png": 0}

        scene(2).save(images / "late.png")
        shown = letters(kafka, "replay", "--type", "MissingImage", "--dry-run")
        assert ("late.png" in shown.stdout, "2 dead letters would be replayed" in shown.stderr) == (True, True)
        assert len(reader.settled(0.3).seen["images.new"]) == 3
        assert "nothing was replayed" in letters(kafka, "replay", "--since", "1h", answer="n\n").stderr
        assert "--yes" in letters(kafka, "replay", "--since", "1h", answer="", code=2).stderr
        assert "2 dead letters replayed" in letters(kafka, "replay", "--since", "1h", answer="y\n").stderr

        reader.until(lambda r: len(r.seen["verdicts"]) == 5)
        again = letters(kafka, "replay", first["late.png"]["name"], first["gone.png"]["name"], "--yes")
        assert "2 dead letters not sent again: replayed before" in again.stderr
        assert len(reader.settled(0.3).seen["images.new"]) == 5
        *_, failed = listed(kafka)
        assert (failed["relative_path"], failed["replayed"]) == ("gone.png", 1)
        assert ", replayed once)" in letters(kafka, "list").stdout
        letters(kafka, "replay", failed["name"])
        reader.until(lambda r: len(r.seen["dead-letters"]) == 4)
        assert listed(kafka)[-1]["replayed"] == 2
    verdicts = {(one.request_id, one.outcome) for one in reader.seen["verdicts"]}
    assert {(7, VerdictOutcome.CLEAR), (8, VerdictOutcome.DEAD_LETTER)} <= verdicts
    sent = [message for message in reader.messages["images.new"] if message.key() == b"late.png"]
    assert sent[0].partition() == sent[1].partition()
    assert sent[0].value() == sent[1].value()
    name = first["late.png"]["name"].encode()
    own = [("trace", b"t"), ("topic", b"own")]
    assert sent[1].headers() == [*own, ("replayed", b"1"), ("replayed-letter", name)]
    reader.close()


def test_candidates_are_sent_back_once_whatever_other_letters_are_replayed(kafka):
    record = Candidates(7, "a.jpg", (Neighbor("b.jpg", 0.5),))
    set_aside(kafka, CANDIDATES, "a.jpg", codec().encode("", record), stage="matcher", own=(("replayed-letter", b"0"),))
    set_aside(kafka, IMAGES_NEW, "c.jpg", announcement("c.jpg"))
    for told in ("2 dead letters replayed", "2 dead letters not sent again"):
        assert told in letters(kafka, "replay", "--since", "1h", "--yes").stderr
    reader = Reader(kafka, CANDIDATES, IMAGES_NEW).settled(0.5)
    assert reader.seen == {"candidates": [record], "images.new": [ImageNew(7, "c.jpg")]}
    assert reader.messages["candidates"][0].headers() == [("replayed", b"1"), ("replayed-letter", b"0")]
    reader.close()


def test_what_was_sent_back_is_marked_and_can_be_left_out(kafka):
    record = Candidates(7, "a.jpg", (Neighbor("b.jpg", 0.5),))
    set_aside(kafka, CANDIDATES, "a.jpg", codec().encode("", record), stage="matcher")
    set_aside(kafka, IMAGES_NEW, "c.jpg", announcement("c.jpg"))
    set_aside(kafka, EMBEDDINGS, "d.jpg", stage="search", error="UnreadableImage")
    letters(kafka, "replay", "0")
    assert [one["sent_back"] for one in listed(kafka)] == [True, False, False]
    assert [one["relative_path"] for one in listed(kafka, "--sent-back", "yes")] == ["a.jpg"]
    assert [one["relative_path"] for one in listed(kafka, "--sent-back", "no")] == ["c.jpg", "d.jpg"]
    first, second, *_ = letters(kafka, "list").stdout.splitlines()
    assert (first.endswith("(sent back since)"), second.endswith("(sent back since)")) == (True, False)
    unknown = letters(kafka, "list", "--type", "Foo").stdout
    assert unknown == "no such dead letters; there are 2 MissingImage, 1 UnreadableImage\n"


def test_of_two_replays_at_a_time_the_broker_refuses_the_first(kafka):
    set_aside(kafka, IMAGES_NEW, "c.jpg", announcement("c.jpg"))
    both = list(read_letters(kafka))
    with closing(Replayer(kafka)) as first, closing(Replayer(kafka)) as second:
        assert not_replayed(kafka, both) == both
        assert list(second.send(both)) == [1]
        with pytest.raises(KafkaException) as refused:
            list(first.send(both))
    assert refused.value.args[0].fatal()
    assert not_replayed(kafka, both) == []
    assert len(Reader(kafka, IMAGES_NEW).settled(0.5).seen["images.new"]) == 1


def test_what_would_do_harm_or_was_cut_is_refused_and_the_rest_is_replayed(kafka):
    cases = [
        (EMBEDDINGS, b"x", "announce the image again: imagetools produce 'my image.jpg'"),
        (DECISIONS, b"x", "imagetools decide A B WORD"),
        (DUPLICATES, b"x", "every reader would get the alert again"),
        (VERDICTS, b"x", "no message can be sent back to where it came from"),
        (IMAGES_NEW, bytes(MAX_DEAD_LETTER_BYTES), "only the first 65,536 bytes of its value were kept"),
        (VERDICTS, b"y", "not replayed: 1 more"),
    ]
    for topic, value, _ in cases:
        set_aside(kafka, topic, "my image.jpg", value)
    set_aside(kafka, IMAGES_NEW, "c.jpg", announcement("c.jpg"))
    said = letters(kafka, "replay", "--since", "2000-01-01", code=2).stderr.splitlines()
    assert len(said) == len(cases) + 1
    for line, (_, _, remedy) in zip(said, cases, strict=False):
        assert remedy in line
    assert said[-1] == "1 dead letter replayed"
    reader = Reader(kafka, EMBEDDINGS, DECISIONS, DUPLICATES, VERDICTS, IMAGES_NEW).settled(0.3)
    assert {name: len(seen) for name, seen in reader.seen.items() if seen} == {"images.new": 1}
    reader.close()


def test_letters_are_listed_by_type_stage_and_time_and_counted(kafka):
    assert letters(kafka, "list").stdout == "no dead letters\n"
    old = datetime.now().astimezone() - timedelta(days=3)
    set_aside(kafka, IMAGES_NEW, "old.jpg", timestamp=int(1000 * old.timestamp()))
    set_aside(kafka, IMAGES_NEW, "a.jpg", error="BrokenImage")
    set_aside(kafka, CANDIDATES, "b\x1b[2J.jpg", stage="matcher")
    send_raw(kafka, DEAD_LETTERS, [(None, None)])
    paths = {
        (): ["old.jpg", "a.jpg", "b\x1b[2J.jpg", ""],
        ("--type", "MissingImage"): ["old.jpg", "b\x1b[2J.jpg"],
        ("--stage", "matcher"): ["b\x1b[2J.jpg"],
        ("--since", "2h", "--stage", "encoder"): ["a.jpg"],
        ("--since", old.date().isoformat(), "--stage", "encoder"): ["old.jpg", "a.jpg"],
        ("--since", (old + timedelta(hours=1)).isoformat(), "--stage", "encoder"): ["a.jpg"],
    }
    for words, wanted in paths.items():
        assert [one["relative_path"] for one in listed(kafka, *words)] == wanted, words
    first, *_, total = letters(kafka, "list").stdout.splitlines()
    when = old.strftime("%Y-%m-%d %H:%M:%S")
    origin = f"(from {kafka.topic('images.new')} partition 0 offset 0)"
    assert first == rf"0  {when}  encoder  old.jpg  MissingImage: old.jpg: not\nthere  {origin}"
    assert total == "4 dead letters: 2 MissingImage, 1 BrokenImage, 1 without a type"
    assert "\x1b" not in letters(kafka, "list").stdout
    assert "is no time" in letters(kafka, "list", "--since", "soon", code=2).stderr


def test_a_letter_is_shown_with_its_headers_and_its_value(kafka):
    set_aside(kafka, IMAGES_NEW, "a.jpg", announcement("a.jpg"), own=(("trace", b"t\x1b"),))
    set_aside(kafka, IMAGES_NEW, "b.jpg", b"\xff" * 100)
    set_aside(kafka, EMBEDDINGS, "c.jpg", None, stage="search")
    lines = letters(kafka, "show", "0").stdout.splitlines()
    assert lines[1:3] == [r"header trace: t\x1b", "key: a.jpg"]
    assert json.loads(lines[3].removeprefix("value: "))["ImageNew"]["relative_path"] == "a.jpg"
    bad = letters(kafka, "show", "1").stdout
    assert "value: 100 bytes, first ff ff" in bad
    assert "not Avro" in bad
    assert letters(kafka, "show", "0:2").stdout.endswith("value: none\n")
    assert "no dead letter at 3" in letters(kafka, "show", "3", code=2).stderr
    assert "no dead letter at 7" in letters(kafka, "replay", "7", code=2).stderr
    assert "is no dead letter" in letters(kafka, "show", "first", code=2).stderr


def test_a_replay_needs_letters_or_a_choice_of_them(kafka):
    for words in (("replay",), ("replay", "3", "--type", "MissingImage")):
        assert "choose them with" in letters(kafka, *words, code=2).stderr
    assert "nothing to replay" in letters(kafka, "replay", "--type", "MissingImage").stderr
