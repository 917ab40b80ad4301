"""The matcher heeds what people have decided, up to the moment when it concludes a batch."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from imagetools.errors import PrerequisiteMissing
from imagetools.grouping.records import Choice
from imagetools.image_root import ImageRoot
from imagetools.matching.config import MatcherConfig
from schemas.neighbor_records import Neighbor
from schemas.records import Candidates, State, Verdict, VerdictOutcome
from streams.decisions_log import DecisionsLog
from streams.matcher_consumer import MatcherStage
from streams.stage import Received
from streams.topics import CANDIDATES, DECISIONS
from tests.support.bridging import eventually
from tests.support.grouping_messages import content, decision, image
from tests.support.streaming import running, scene, send


def outcome(stage: MatcherStage, version: str = "a.png") -> tuple[VerdictOutcome, str, list[str]]:
    """Return verdict, reason and alert of an image that b.png and c.png are copies of."""
    near = tuple(Neighbor(path, 0.9, content=content(path)) for path in ("b.png", "c.png"))
    candidates = Candidates(1, "a.png", near, "m", content(version))
    (found,) = stage.run([Received("a.png", candidates, 0, 0, 0)])
    verdict, *alerts = (output.record for output in found)  # type: ignore[union-attr]
    assert isinstance(verdict, Verdict)
    named = [one.relative_path for alert in alerts for one in alert.duplicated]  # type: ignore[union-attr]
    return verdict.outcome, verdict.reason, sorted(named)


def test_no_alert_names_a_pair_that_a_person_called_no_duplicate_until_its_bytes_change(kafka, tmp_path: Path):
    for path in ("a.png", "b.png", "c.png"):
        scene(1).save(tmp_path / path)
    first = decision(Choice.NOT_DUPLICATE, image("a.png"), image("b.png"))
    second = decision(Choice.NOT_DUPLICATE, image("c.png"), image("a.png"))
    stage = MatcherStage(MatcherConfig(), ImageRoot(tmp_path), workers=2, decisions=DecisionsLog(kafka))
    with closing(stage):
        assert outcome(stage) == ("duplicate", "", ["b.png", "c.png"])
        send(kafka, DECISIONS, [(first.id, first)])
        assert outcome(stage) == ("duplicate", "no duplicate, as a person decided: b.png", ["c.png"])
        send(kafka, DECISIONS, [(second.id, second), ("bad", decision(Choice.LATER, image("a.png")))])
        assert outcome(stage)[::2] == ("clear", [])
        assert outcome(stage, "other bytes") == ("duplicate", "", ["b.png", "c.png"])
        send(kafka, DECISIONS, [(first.id, None)])
        assert outcome(stage)[::2] == ("duplicate", ["b.png"])


def test_a_missing_topic_of_decisions_is_named(kafka):
    named = r"topic missing\.decisions does not exist.*topics create"
    missing = DecisionsLog(replace(kafka, prefix="missing."))
    with closing(missing), pytest.raises(PrerequisiteMissing, match=named):
        missing.read()


def test_a_matcher_says_that_it_waits_for_decisions_and_stops_when_asked(kafka, tmp_path: Path):
    scene(1).save(tmp_path / "a.png")
    # nobody listens there
    away = replace(kafka, bootstrap="localhost:1")
    stage = MatcherStage(MatcherConfig(), ImageRoot(tmp_path), workers=2, decisions=DecisionsLog(away))
    told: list[tuple[State, str]] = []
    with running(stage, kafka=kafka, on_state=lambda state, reason="": told.append((state, reason))):
        send(kafka, CANDIDATES, [("a.png", Candidates(1, "a.png"))])
        waits = State.WAITING, "decisions cannot be read: no Kafka answers at localhost:1"
        eventually(lambda: waits in told)
