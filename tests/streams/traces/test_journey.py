"""One trace from a request or a producer to the verdict, through a bridge and real stages, as a collector gets it."""

import json
import logging
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from imagetools.image_root import ImageRoot
from imagetools.logs import JsonLine
from imagetools.matching.config import MatcherConfig
from schemas.records import ImageNew
from streams.config import KafkaConfig
from streams.grouping_consumer import GroupingStage
from streams.kafka.admin import create_topics, delete_topics
from streams.kafka.replay import Replayer, read_letters
from streams.topics import CANDIDATES, DEAD_LETTERS, DUPLICATES, EMBEDDINGS, IMAGES_NEW, VERDICTS
from streams.traces.config import TracesConfig
from streams.traces.start import traced
from tests.support.bridging import ENCODER, MATCHER, Bridge, answering, bridge, eventually, stages
from tests.support.otlp import CALLER, PARENT, TRACE, Collector, SeenSpan, collecting, place
from tests.support.processes import start
from tests.support.streaming import Reader, running, scene, send

OF_STAGES = ("process images.new", "process embeddings", "process candidates")


@dataclass
class Followed:
    """A service whose traces come to a collector.

    images  their folder
    reader  of all that its stages send
    logged  warnings of its stages, as JSON
    """

    kafka: KafkaConfig
    images: Path
    bridge: Bridge
    collector: Collector
    reader: Reader
    logged: list[str] = field(default_factory=list)

    def trace(self, trace: str, *names: str) -> list[SeenSpan]:
        found = self.collector.named(*(self.named(name) for name in names), trace=trace)
        assert [span.name for span in found] == [self.named(name) for name in names], "each once"
        return found

    def named(self, name: str) -> str:
        verb, _, topic = name.partition(" ")
        return f"{verb} {self.kafka.topic(topic)}" if verb in ("process", "send") else name

    def headers(self, topic: Any, path: str) -> list[tuple[str, bytes]]:
        """The headers of the newest message about an image, as soon as it is there."""

        def about() -> list[Any]:
            self.reader.more(0.1)
            return [one for one in self.reader.messages[topic.name] if one.key() == path.encode()]

        newest = eventually(about)[-1]
        return list(newest.headers())


class Lines(logging.Handler):
    """Keeps what a process would log as JSON."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.setFormatter(JsonLine())
        self.lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture(scope="module")
def followed(bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Followed]:
    folder = tmp_path_factory.mktemp("followed")
    images = folder / "images"
    images.mkdir()
    for seed in range(4):
        scene(seed).save(images / f"{seed}.png")
        scene(seed).save(images / f"{seed} copy.jpg", quality=70)
    (images / "note.png").write_text("no image")
    kafka = KafkaConfig(bootstrap, prefix=f"test-{uuid.uuid4().hex[:12]}.", member="test")
    create_topics(kafka)
    with pytest.MonkeyPatch.context() as patch, collecting() as collector:
        for name, value in collector.environ.items():
            patch.setenv(name, value)
        made = [*stages(kafka, images, folder / "index"), GroupingStage(kafka, MatcherConfig(), ImageRoot(images))]
        reader = Reader(kafka, EMBEDDINGS, CANDIDATES, DUPLICATES, VERDICTS, DEAD_LETTERS)
        with (
            traced(TracesConfig.from_env(collector.environ), "stages") as traces,
            answering(kafka, *made[:3], traces=traces),
            running(made[3], kafka=kafka, traces=traces),
            bridge(kafka, folder, **collector.environ, OTEL_SERVICE_NAME="shop-images") as asked,
        ):
            found = Followed(kafka, images, asked.wait_ready(), collector, reader)
            handler = Lines(found.logged)
            logging.getLogger("streams").addHandler(handler)
            yield found
            logging.getLogger("streams").removeHandler(handler)
        reader.close()
    delete_topics(kafka)


def chain(spans: list[SeenSpan], parent: str) -> None:
    """Each is the child of the one before, and begins after the one before has begun."""
    for span in spans:
        assert span.parent == parent, (span.name, [one.name for one in spans])
        parent = span.id
    assert [span.start for span in spans] == sorted(span.start for span in spans)


def test_a_request_to_announce_an_image_is_one_trace_up_to_its_alert_and_its_group(followed: Followed) -> None:
    first = followed.bridge.post("/v1/images", {"relative_path": "0.png"})
    assert first.status == 202
    followed.headers(VERDICTS, "0.png")
    answer = followed.bridge.post(
        "/v1/images", {"relative_path": "0 copy.jpg"}, headers={"traceparent": PARENT, "tracestate": "shop=4711"}
    )
    assert answer.status == 202
    alert, verdict = (followed.headers(topic, "0 copy.jpg") for topic in (DUPLICATES, VERDICTS))
    names = ("POST /v1/images", "send images.new", *OF_STAGES, "process duplicates")
    # grouping takes the embedding, too
    embeddings = followed.named("process embeddings")
    followed.collector.until(lambda spans: sum(s.trace == TRACE and s.name == embeddings for s in spans) == 2)
    served, sent, encoded, *both, matched, grouped = followed.collector.named(*map(followed.named, names))
    (searched,) = (one for one in both if one.attributes["messaging.consumer.group.name"].endswith("search"))
    (known,) = (one for one in both if one is not searched)
    chain([served, sent, encoded, searched, matched, grouped], CALLER)
    assert known.parent == encoded.id
    assert [one.kind for one in (served, sent, encoded, matched)] == ["SERVER", "PRODUCER", "CONSUMER", "CONSUMER"]
    assert {one.service for one in (served, sent)} == {"shop-images"}
    assert {one.service for one in (encoded, searched, matched, grouped)} == {"imagetools-stages"}
    assert (served.attributes["http.route"], served.attributes["http.response.status_code"]) == ("/v1/images", 202)
    for headers in (alert, verdict):
        assert place(headers) == matched.place
        assert [value for name, value in headers if name == "tracestate"] == [b"shop=4711"]
        assert [name for name, _ in headers if "trace" not in name] == ["announced-partition", "announced-at"]
    assert not any(one.failed for one in (served, sent, encoded, searched, matched, grouped))
    for one in (encoded, searched, matched):
        assert one.attributes["messaging.system"] == "kafka"
        assert one.attributes["messaging.kafka.message.key"] == "0 copy.jpg"
        assert one.attributes["messaging.destination.name"] == one.name.removeprefix("process ")
        assert one.attributes["imagetools.transaction"] == "committed"
        work = sum(one.attributes[f"imagetools.{step}_s"] for step in ("read", "run", "commit"))
        assert work == pytest.approx((one.end - one.start) / 1e9, abs=0.05)
    ages = [one.attributes["imagetools.since_announcement_s"] for one in (encoded, searched, matched)]
    assert 0 <= ages[0] < ages[1] < ages[2] < 60


def test_a_producers_trace_goes_on_and_its_other_headers_come_back(followed: Followed) -> None:
    trace = uuid.uuid4().hex
    given = [("traceparent", f"00-{trace}-{CALLER}-01".encode()), ("shop", b"\x00\xff")]
    send(followed.kafka, IMAGES_NEW, [("1.png", ImageNew(1, "1.png"))], headers=given)
    verdict = followed.headers(VERDICTS, "1.png")
    encoded, *rest = followed.collector.named(*map(followed.named, OF_STAGES), trace=trace)
    assert encoded.parent == CALLER
    assert place(verdict) == rest[-1].place
    assert dict(verdict)["shop"] == b"\x00\xff"


def test_produce_begins_a_trace_for_each_image(followed: Followed, tmp_path: Path) -> None:
    environ = {
        **followed.collector.environ,
        "KAFKA_BOOTSTRAP_SERVERS": followed.kafka.bootstrap,
        "TOPIC_PREFIX": followed.kafka.prefix,
        "IMAGES_DIR": str(followed.images),
    }
    words = ("produce", str(followed.images / "1 copy.jpg"), "--wait")
    said = start(*words, log=tmp_path / "log", environ=environ).ends(0)
    assert "1 copy.jpg" in said
    parent = dict(followed.headers(VERDICTS, "1 copy.jpg"))["traceparent"].decode()
    trace = parent.split("-")[1]
    sent, encoded, *_ = followed.collector.named(*map(followed.named, ("send images.new", *OF_STAGES)), trace=trace)
    chain([sent, encoded], "")
    assert sent.service == "imagetools-produce"


def test_an_announcement_without_a_trace_begins_one_at_the_encoder(followed: Followed) -> None:
    send(followed.kafka, IMAGES_NEW, [("2.png", ImageNew(1, "2.png"))])
    parent = dict(followed.headers(VERDICTS, "2.png"))["traceparent"].decode()
    encoded, *_ = followed.collector.named(*map(followed.named, OF_STAGES), trace=parent.split("-")[1])
    assert encoded.parent == ""


def test_a_trace_that_is_not_sampled_goes_on_unseen(followed: Followed) -> None:
    trace = uuid.uuid4().hex
    given = [("traceparent", f"00-{trace}-{CALLER}-00".encode())]
    send(followed.kafka, IMAGES_NEW, [("3.png", ImageNew(1, "3.png"))], headers=given)
    parent = dict(followed.headers(VERDICTS, "3.png"))["traceparent"].decode()
    assert parent.startswith(f"00-{trace}-")
    assert parent.endswith("-00")
    # what comes after it has arrived, so it would have, too
    followed.bridge.post(ENCODER, {"request_id": 1, "relative_path": "3.png"}, headers={"traceparent": PARENT})
    followed.trace(TRACE, "POST /api-image-encoder", "process encode.requests")
    assert not [span for span in followed.collector.spans if span.trace == trace]


def test_a_request_to_a_stage_is_one_trace(followed: Followed) -> None:
    trace = uuid.uuid4().hex
    answer = followed.bridge.post(
        MATCHER,
        {"candidate": "0.png", "neighbors": ["0 copy.jpg", "1.png"]},
        headers={"traceparent": f"00-{trace}-{CALLER}-01"},
    )
    assert [one["relative_path"] for one in answer.json["response"]["duplicated"]] == ["0 copy.jpg"]
    served, sent, matched = followed.trace(
        trace, "POST /api-instance-matching", "send match.requests", "process match.requests"
    )
    chain([served, sent, matched], CALLER)
    assert served.start <= matched.start <= matched.end <= served.end
    assert matched.attributes["imagetools.outcome"] == "served"
    assert not matched.failed


def test_a_clients_mistake_is_no_error_of_a_trace(followed: Followed) -> None:
    trace = uuid.uuid4().hex
    headers = {"traceparent": f"00-{trace}-{CALLER}-01"}
    assert followed.bridge.post(MATCHER, {"candidate": "none.png", "neighbors": []}, headers=headers).status == 404
    served, matched = followed.trace(trace, "POST /api-instance-matching", "process match.requests")
    assert (served.attributes["http.response.status_code"], served.failed) == (404, False)
    assert (matched.attributes["imagetools.outcome"], matched.failed) == ("missing", False)


def test_pages_probes_and_streams_have_no_trace(followed: Followed) -> None:
    trace = uuid.uuid4().hex
    headers = {"traceparent": f"00-{trace}-{CALLER}-01"}
    for path in ("/", "/healthz", "/readyz", "/metrics", "/assets/style.css", "/v1/status"):
        assert followed.bridge.get(path, headers=headers).status == 200
    followed.trace(trace, "GET /v1/status")
    assert len([span for span in followed.collector.spans if span.trace == trace]) == 1


def test_a_dead_letter_is_an_error_in_its_trace_which_its_replay_goes_on_with(followed: Followed) -> None:
    send(followed.kafka, IMAGES_NEW, [("note.png", ImageNew(9, "note.png"))])
    letter = dict(followed.headers(DEAD_LETTERS, "note.png"))
    verdict = dict(followed.headers(VERDICTS, "note.png"))
    trace = letter["traceparent"].decode().split("-")[1]
    (failed,) = followed.trace(trace, "process images.new")
    assert letter["traceparent"] == verdict["traceparent"]
    assert place([*letter.items()]) == failed.place
    assert failed.failed
    assert failed.attributes["error.type"] == "UnsupportedImage"
    assert failed.attributes["imagetools.transaction"] == "committed"
    assert letter["error-message"].decode() == failed.status
    ((event, about),) = failed.events
    assert event == "exception"
    assert about["exception.type"].endswith("UnsupportedImage")
    (line,) = (json.loads(line) for line in followed.logged if "note.png" in line)
    assert (line["trace_id"], line["offset"]) == (trace, int(letter["offset"]))
    (found,) = (one for one in read_letters(followed.kafka) if one.key == b"note.png")
    with closing(Replayer(followed.kafka)) as replayer:
        assert list(replayer.send([found])) == [1]
    again = f"process {followed.kafka.topic('images.new')}"
    followed.collector.until(lambda spans: sum(s.trace == trace and s.name == again for s in spans) == 2)
    (second,) = (s for s in followed.collector.spans if s.trace == trace and s.name == again and s.id != failed.id)
    assert second.parent == failed.id
