"""Traces where the work does not go straight on: aborted, put off, joined from shards, and without a collector."""

import logging
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message, Producer
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider

from imagetools.errors import ConfigError, ImageRootUnavailable
from imagetools.image_root import ImageRoot
from imagetools.index.saving import Saving
from imagetools.matching.config import MatcherConfig
from schemas.neighbor_records import ShardAnswer, ShardImage
from schemas.records import Candidates, ImageNew, Verdict, VerdictOutcome
from streams.config import Config
from streams.kafka.resharding import reshard
from streams.matcher_consumer import MatcherStage
from streams.search_consumer import SearchStage
from streams.sharding.shards import Shard
from streams.stage import Outcome, Output, Received, Stage
from streams.topics import CANDIDATES, DUPLICATES, EMBEDDINGS, IMAGES_NEW, VERDICTS
from streams.traces import export
from streams.traces.base import Traces
from streams.traces.config import TracesConfig
from streams.traces.spans import SpanTraces
from streams.traces.start import traced
from tests.streams.test_search_stage import embedding, vectors
from tests.support.bridging import eventually
from tests.support.otlp import CALLER, PARENT, TRACE, Collector, collecting, place
from tests.support.processes import start
from tests.support.streaming import Reader, running, send

ON = TracesConfig(exporter="otlp")


class Deciding(Stage[ImageNew]):
    """Stands in the encoder's place, and gives a verdict on each image without a look."""

    name, source, kind = "encoder", IMAGES_NEW, ImageNew

    def run(self, batch: Sequence[Received[ImageNew]]) -> Sequence[Outcome]:
        return [
            (Output(VERDICTS, one.path, Verdict(one.record.request_id, one.path, VerdictOutcome.CLEAR)),)
            for one in batch
            if one.record is not None
        ]


class AwayAtFirst(Deciding):
    """Finds its images away once."""

    was_away = False

    def run(self, batch: Sequence[Received[ImageNew]]) -> Sequence[Outcome]:
        if not self.was_away:
            self.was_away = True
            raise ImageRootUnavailable("the folder is away")
        return super().run(batch)


class SpoilsOne(Producer):
    """Spoils its first transaction by a message that the broker does not take, as it is too large."""

    topic = ""
    spoilt = False

    def begin_transaction(self) -> None:
        super().begin_transaction()
        if not self.spoilt:
            self.spoilt = True
            self.produce(self.topic, b"x" * 2_000_000, b"large")


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collecting() as found:
        for name, value in found.environ.items():
            monkeypatch.setenv(name, value)
        yield found


@pytest.fixture
def traces(collector: Collector) -> Iterator[Traces]:
    with traced(ON, "test", "one") as found:
        yield found


def announce(kafka: Any, *paths: str, traceparent: str = PARENT) -> None:
    messages = [(path, ImageNew(1, path)) for path in paths]
    send(kafka, IMAGES_NEW, messages, headers=[("traceparent", traceparent.encode())])


def test_a_span_says_that_its_transaction_was_aborted_and_the_work_is_done_again(kafka, collector, traces):
    SpoilsOne.topic = kafka.topic("verdicts")
    announce(kafka, "a.png")
    with (
        closing(Reader(kafka, VERDICTS)) as reader,
        running(Deciding(), kafka=kafka, traces=traces, producer=SpoilsOne),
    ):
        reader.until(lambda seen: seen.seen["verdicts"])
        aborted, committed = collector.until(lambda spans: len(spans) == 2)
    assert aborted.parent == committed.parent == CALLER
    assert [one.attributes["imagetools.transaction"] for one in (aborted, committed)] == ["aborted", "committed"]
    assert [one.failed for one in (aborted, committed)] == [True, False]
    assert aborted.status == "the transaction was aborted: the work is done again"
    (message,) = reader.messages["verdicts"]
    assert place(message.headers()) == committed.place


def test_a_span_says_why_the_work_was_put_off(kafka, collector, traces):
    announce(kafka, "a.png")
    with running(AwayAtFirst(), kafka=kafka, traces=traces):
        first, second = collector.until(lambda spans: len(spans) == 2)
    assert (first.attributes["error.type"], first.status) == ("ImageRootUnavailable", "the folder is away")
    assert first.attributes["imagetools.transaction"] == "none"
    assert not second.failed


def test_the_messages_of_a_batch_have_a_span_each_in_their_own_traces(kafka, collector, traces):
    for number in range(3):
        announce(kafka, f"{number}.png", traceparent=f"00-{number + 1:032x}-{CALLER}-01")
    # one without, and some that are none
    send(kafka, IMAGES_NEW, [("none.png", ImageNew(1, "none.png"))])
    for text in (b"", b"nonsense", b"\xff\xfe", b"00-" + b"0" * 32 + b"-" + CALLER.encode() + b"-01", None):
        send(kafka, IMAGES_NEW, [("bad.png", ImageNew(1, "bad.png"))], headers=[("traceparent", text)])
    reader = Reader(kafka, VERDICTS)
    with running(Deciding(), kafka=kafka, traces=traces):
        reader.until(lambda seen: len(seen.seen["verdicts"]) == 9)
        spans = collector.until(lambda spans: len(spans) == 9)
    reader.close()
    assert {one.name for one in spans} == {f"process {kafka.topic('images.new')}"}
    assert {one.service for one in spans} == {"imagetools-test"}
    places = {one.key(): place(one.headers()) for one in reader.messages["verdicts"]}
    for number in range(3):
        (own,) = (one for one in spans if one.trace == f"{number + 1:032x}")
        assert own.parent == CALLER
        assert places[f"{number}.png".encode()] == own.place
    assert [one.parent for one in spans].count("") == 6
    assert len({one.trace for one in spans}) == 9


def test_the_answers_of_shards_are_one_trace(kafka, collector, traces, tmp_path):
    reshard(kafka, 2)
    members = replace(kafka, shard=Shard(0, 2)).shards
    stages = [SearchStage(Config(kafka=member, index_dir=tmp_path / "index")) for member in members]
    row = vectors(1)[0]
    matcher = MatcherStage(MatcherConfig(), ImageRoot(tmp_path), workers=1, kafka=kafka)
    headers = [("traceparent", PARENT.encode()), ("announced-at", b"1")]
    reader = Reader(kafka, VERDICTS)
    with (
        running(stages[0], kafka=members[0], traces=traces),
        running(stages[1], kafka=members[1], traces=traces),
        running(matcher, kafka=kafka, traces=traces),
    ):
        send(kafka, EMBEDDINGS, [("a.png", embedding("a.png", row, 1))], headers=headers)
        reader.until(lambda seen: seen.seen["verdicts"])
        names = {f"process {kafka.topic(name)}": name for name in ("embeddings", "candidates")}
        spans = collector.until(lambda spans: len(spans) == 4)
    reader.close()
    assert {one.trace for one in spans} == {TRACE}
    searched = [one for one in spans if names[one.name] == "embeddings"]
    joined = [one for one in spans if names[one.name] == "candidates"]
    assert [one.parent for one in searched] == [CALLER, CALLER]
    assert {one.parent for one in joined} == {one.id for one in searched}
    # one waited for the other, which gave the verdict
    assert sorted(one.attributes["imagetools.outputs"] for one in joined) == [0, 1]
    (verdict,) = reader.messages["verdicts"]
    (last,) = (one for one in joined if one.attributes["imagetools.outputs"])
    assert place(verdict.headers()) == last.place


def test_an_image_that_anothers_answer_concludes_stays_in_its_own_trace(kafka, collector, traces, tmp_path):
    (tmp_path / "a.png").touch()
    matcher = MatcherStage(MatcherConfig(), ImageRoot(tmp_path), workers=1, kafka=kafka)
    other = f"00-{'1' * 32}-{'2' * 16}-01"

    def answer(path: str, shard: int, place: int, traceparent: str) -> None:
        image = ShardImage.PLACED if shard == 0 else ShardImage.ELSEWHERE
        record = Candidates(1, path, shard=ShardAnswer(shard, 2, "log", place, image))
        headers = [("traceparent", traceparent.encode())]
        send(kafka, CANDIDATES, [(path, record)], headers=headers, partition=0)

    reader = Reader(kafka, VERDICTS, DUPLICATES)
    with running(matcher, kafka=kafka, traces=traces):
        answer("a.png", 0, 0, PARENT)
        collector.until(lambda spans: len(spans) == 1)
        # shard 1 has passed a.png over
        answer("b.png", 1, 1, other)
        reader.until(lambda seen: seen.seen["verdicts"])
        held, concluding, joined = collector.until(lambda spans: len(spans) == 3)
    reader.close()
    (verdict,) = reader.messages["verdicts"]
    assert verdict.key() == b"a.png"
    if concluding.trace == TRACE:
        concluding, joined = joined, concluding
    assert (held.trace, held.parent, held.attributes["imagetools.outputs"]) == (TRACE, CALLER, 0)
    assert (concluding.trace, concluding.parent) == ("1" * 32, "2" * 16)
    assert (joined.trace, joined.parent, joined.links) == (TRACE, CALLER, (concluding.id,))
    assert place(verdict.headers()) == joined.place


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def test_without_a_collector_the_work_goes_on_and_one_line_says_so(kafka, monkeypatch, caplog):
    port = free_port()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    caplog.set_level(logging.INFO, "streams.traces")

    def said(word: str) -> list[str]:
        return [text for text in caplog.messages if word in text]

    reader = Reader(kafka, VERDICTS)
    with ExitStack() as outlasting, traced(ON, "test") as traces, running(Deciding(), kafka=kafka, traces=traces):
        for number in range(8):
            announce(kafka, f"{number}.png")
            while len(reader.seen["verdicts"]) <= number:
                reader.more(0.1)
            time.sleep(0.05)
        eventually(lambda: said("not sent"))
        collector = outlasting.enter_context(collecting(port))

        def sent_again() -> list[str]:
            announce(kafka, "a.png")
            return said("sent again")

        eventually(sent_again)
        collector.until(lambda spans: spans)
    reader.close()
    (away,) = said("not sent")
    assert away.startswith("traces are not sent, and the work goes on without them: ")
    assert str(port) in away
    assert len(said("sent again")) == 1
    assert len(said("traces")) == 2


def test_a_process_that_stops_does_not_wait_for_a_collector(monkeypatch):
    """One that takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{listening.getsockname()[1]}")
        monkeypatch.setattr(export, "CLOSE_S", 0.5)
        with traced(ON, "test") as traces:
            traces.sending("images.new", b"a.png").done()
            began = time.monotonic()
        assert time.monotonic() - began < 5, "the library alone waits for ten seconds"
        threads = [one.name for one in threading.enumerate() if not one.daemon]
        assert "close-traces" not in threads


@pytest.mark.parametrize("words", ["encoder", "bridge", "produce a.png"])
def test_traces_that_are_asked_for_without_the_extra_end_a_command(words: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'opentelemetry':\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Missing())\n"
    )
    environ = {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    run = start(*words.split(), log=tmp_path / "log", environ=environ | {"OTEL_TRACES_EXPORTER": "otlp"})
    said = run.ends(2)
    assert "OTEL_TRACES_EXPORTER is 'otlp', and OpenTelemetry is not installed" in said
    assert "pip install 'imagetools-kafka[traces]'" in said
    assert len(said.splitlines()) == 1


def test_what_switches_traces_on() -> None:
    def on(**environ: str) -> bool:
        return TracesConfig.from_env(environ).on

    assert not on()
    assert not on(OTEL_EXPORTER_OTLP_ENDPOINT="http://collector:4318", OTEL_SERVICE_NAME="shop")
    assert not on(OTEL_EXPORTER_OTLP_PROTOCOL="grpc"), "what others are told stops nobody here"
    assert not on(OTEL_TRACES_EXPORTER="none")
    assert not on(OTEL_TRACES_EXPORTER="otlp", OTEL_SDK_DISABLED="true")
    assert on(OTEL_TRACES_EXPORTER="otlp")
    with pytest.raises(ConfigError, match=r"OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc': .*4318"):
        on(OTEL_TRACES_EXPORTER="otlp", OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
    with pytest.raises(ConfigError, match=r"OTEL_TRACES_EXPORTER is 'zipkin'"):
        on(OTEL_TRACES_EXPORTER="zipkin")


def test_a_collector_that_is_named_alone_is_said_and_not_used(caplog):
    caplog.set_level(logging.INFO, "streams.traces")
    named = TracesConfig(endpoint="http://collector:4318")
    for config, lines in ((TracesConfig(), 0), (replace(named, exporter="none"), 0), (named, 1)):
        caplog.clear()
        with traced(config, "encoder") as traces:
            assert not traces.on
        assert len(caplog.messages) == lines
    assert "OTEL_TRACES_EXPORTER=otlp sends them" in caplog.text


def test_a_name_of_ones_own_is_the_services(collector, monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "pictures")
    with traced(ON, "encoder", uuid.uuid4().hex) as traces:
        traces.sending("images.new", b"a.png").done(place=(1, 2))
    (span,) = collector.until(lambda spans: spans)
    assert (span.service, span.name, span.kind) == ("pictures", "send images.new", "PRODUCER")
    assert span.attributes["messaging.kafka.offset"] == 2


def test_a_copy_of_the_process_sends_no_span_again(collector, traces):
    """As search makes one to save its index."""
    traces.sending("images.new", b"a.png").done()
    assert Saving(lambda: None).wait() == ""
    traces.sending("images.new", b"b.png").done()
    spans = collector.until(lambda spans: len(spans) == 2)
    time.sleep(0.2)
    assert len(collector.spans) == 2
    assert [one.attributes["messaging.kafka.message.key"] for one in spans] == ["a.png", "b.png"]


texts = st.one_of(st.none(), st.binary(max_size=80), st.just(PARENT.encode()))
some_headers = st.lists(st.tuples(st.sampled_from(["traceparent", "tracestate", "shop", "announced-at"]), texts))


@given(given_headers=some_headers)
def test_whatever_headers_hold_one_place_goes_on_and_the_others_stay(given_headers):
    provider = TracerProvider(shutdown_on_exit=False)
    traces = SpanTraces(provider.get_tracer("test"), provider.shutdown)
    message = Message("images.new", 0, 1, b"a.png", b"x", given_headers, None, (1, 1))
    with traces.batch([message], "encoder") as trace:
        passed = trace.onward(0, tuple(given_headers))
        trace.ended([()], committed=True)
    assert place([one for one in passed if one[0] != "tracestate"])
    others = [one for one in given_headers if not one[0].startswith("trace")]
    assert [one for one in passed if not one[0].startswith("trace")] == others
