"""Requests to the stages: timeouts, limits, a backlog, and a Kafka that is away."""

import http.client
import json
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

from confluent_kafka.admin import AdminClient

from local_kafka.broker import LocalKafka
from schemas.records import ImageNew
from streams import encoder_consumer
from streams.config import Config, KafkaConfig
from streams.kafka.admin import create_topics, delete_topics, end_offsets
from streams.search_consumer import SearchStage
from streams.topics import EMBEDDINGS, IMAGES_NEW
from tests.support.bridging import (
    ENCODER,
    MATCHER,
    SEARCH,
    answering,
    bridge,
    eventually,
    fingerprint_of,
    png,
)
from tests.support.streaming import scene, send, write_groups

VECTOR = [0.5] * 512


class TestStagesAndKafkaAway:
    def test_no_stage_answers_in_time(self, kafka: KafkaConfig, tmp_path: Path) -> None:
        with bridge(kafka, tmp_path, BRIDGE_TIMEOUT_S="0.5") as alone:
            alone.wait_ready()
            for path, body, name in (
                (ENCODER, {"request_id": 1, "relative_path": "0.png"}, "encoder"),
                (SEARCH, {"nb_neighbors": 1, "vec_features": VECTOR}, "search"),
                (MATCHER, {"candidate": "0.png", "neighbors": []}, "matcher"),
            ):
                answer = alone.post(path, body)
                assert (answer.status, answer.json["global_status"]) == (504, 0)
                assert name in answer.json["error_message"]
                assert "0.5 s" in answer.json["error_message"]

    def test_past_the_bound_a_request_is_sent_away(self, kafka: KafkaConfig, tmp_path: Path) -> None:
        with bridge(kafka, tmp_path, BRIDGE_IN_FLIGHT="2", BRIDGE_TIMEOUT_S="600") as small:
            small.wait_ready()
            body = {"request_id": 1, "relative_path": "0.png"}
            waiting = []
            for _ in range(2):
                connection = http.client.HTTPConnection("127.0.0.1", small.ports[0], timeout=60)
                connection.request("POST", ENCODER, json.dumps(body))
                waiting.append(connection)
            eventually(lambda: b"imagetools_http_requests_waiting 2.0" in small.get("/metrics").body)
            answer = small.post(ENCODER, body)
            assert (answer.status, answer.json["global_status"]) == (429, 0)
            assert answer.headers["Retry-After"] == "1"
            assert small.post("/v1/duplicates", png(scene(0))).status == 429
            for connection in waiting:
                connection.close()
            small.process.kill()
            small.process.wait()

    def test_an_index_that_is_being_replayed_says_how_far_it_is(self, kafka: KafkaConfig, tmp_path: Path) -> None:
        go_on = threading.Event()

        class Held(SearchStage):
            """Stands still in the middle of its replay."""

            def _restore(self, partition: int, offset: int) -> Iterator[str]:
                while not go_on.wait(0.01):
                    yield "held"
                yield from super()._restore(partition, offset)

        stage = Held(Config(kafka=kafka, index_dir=tmp_path / "index"))
        with answering(kafka, stage), bridge(kafka, tmp_path) as asked:
            asked.wait_ready()
            body = {"nb_neighbors": 1, "vec_features": VECTOR}
            answer = asked.post(SEARCH, body)
            assert (answer.status, answer.json["global_status"]) == (503, 0)
            assert answer.json["error_message"] == "search: replaying, 0 %"
            go_on.set()
            answer = eventually(lambda: (found := asked.post(SEARCH, body)).status == 200 and found)
            assert answer.json["response"] == {"neighbors": []}

    def test_a_stopped_broker_is_said_and_its_return_noticed(self, tmp_path: Path) -> None:
        images = tmp_path / "images"
        write_groups(images, 1)
        broker = LocalKafka.start(tmp_path / "kafka")
        kafka = KafkaConfig(broker.bootstrap)
        port = int(broker.bootstrap.rpartition(":")[2])
        body = {"request_id": 1, "relative_path": "0.png"}
        try:
            create_topics(kafka)
            encoder = encoder_consumer.make(Config(kafka=kafka, images_dir=images))
            with answering(kafka, encoder), bridge(kafka, tmp_path) as asked:
                asked.wait_ready()
                eventually(lambda: asked.post(ENCODER, body).status == 200)
                broker.stop()
                answer = asked.post(ENCODER, body)
                assert (answer.status, answer.json["global_status"]) == (503, 0)
                assert "Kafka" in answer.json["error_message"]
                assert asked.post("/v1/images", {"relative_path": "0.png"}).status == 503
                eventually(lambda: asked.get("/readyz").status == 503)
                assert asked.get("/v1/status").json["error_message"]
                assert asked.get("/healthz").status == 200
                broker = LocalKafka.start(tmp_path / "kafka", port=port)
                asked.wait_ready()
                eventually(lambda: asked.post(ENCODER, body).status == 200)
        finally:
            broker.stop()

    def test_a_bridge_may_start_before_kafka_and_the_topics(self, bootstrap: str, tmp_path: Path) -> None:
        kafka = KafkaConfig(bootstrap, prefix=f"test-{uuid.uuid4().hex[:12]}.")
        with bridge(kafka, tmp_path) as early:
            answer = early.post(ENCODER, {"request_id": 1, "relative_path": "0.png"})
            assert answer.status == 503
            assert eventually(lambda: "topics create" in early.get("/readyz").json["status"])
            create_topics(kafka)
            early.wait_ready()
        delete_topics(kafka)


def test_a_request_overtakes_a_backlog(kafka: KafkaConfig, tmp_path: Path) -> None:
    images = tmp_path / "images"
    paths = write_groups(images, 4)
    backlog = [(path, ImageNew(n, path)) for n, path in enumerate(paths * 250)]
    encoder = encoder_consumer.make(Config(kafka=kafka, images_dir=images))
    with answering(kafka, encoder), bridge(kafka, tmp_path) as asked:
        asked.wait_ready()
        fingerprint_of(asked, "0.png")
        send(kafka, IMAGES_NEW, backlog)
        eventually(lambda: embedded(kafka) > 0)
        for _ in range(5):
            fingerprint_of(asked, "0.png")
        assert embedded(kafka) < len(backlog)


def embedded(kafka: KafkaConfig) -> int:
    """Where the log of embeddings ends; the markers of transactions are counted, too."""
    return end_offsets(AdminClient(kafka.client()), kafka.topic(EMBEDDINGS.name))[0]
