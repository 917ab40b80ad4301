"""The bridge over a real Kafka and the real stages: every endpoint, good and bad, and what a client may rely on."""

import hashlib
import http.client
import io
import json
import os
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka.admin import AdminClient
from PIL import Image

from imagetools.decode import ImageRoot
from imagetools.features.extract import extract
from imagetools.fingerprint.encoder import Encoder
from imagetools.matching.config import MatcherConfig
from imagetools.matching.verify import verify
from local_kafka.broker import LocalKafka
from schemas.records import Duplicate, Duplicates, ImageNew, State
from streams import encoder_consumer
from streams.config import Config, KafkaConfig
from streams.kafka.admin import create_topics, delete_topics, end_offsets
from streams.search_consumer import SearchStage
from streams.states import StateReporter
from streams.topics import DEAD_LETTERS, DUPLICATES, EMBEDDINGS, IMAGES_NEW, VERDICTS
from tests.support.bridging import (
    ENCODER,
    MATCHER,
    SEARCH,
    Bridge,
    answering,
    bridge,
    eventually,
    refused_start,
    stages,
)
from tests.support.streaming import Reader, scene, send, send_raw, write_groups


@dataclass
class Service:
    """Kafka's topics, the stages and a bridge, all running; `images` are announced already."""

    kafka: KafkaConfig
    images: Path
    bridge: Bridge
    folder: Path


@pytest.fixture(scope="module")
def service(bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    kafka = KafkaConfig(bootstrap, prefix=f"test-{uuid.uuid4().hex[:12]}.", member="test")
    create_topics(kafka)
    images = folder / "images"
    write_groups(images, 3)
    (images / "note.txt").write_text("no image")
    with answering(kafka, *stages(kafka, images, folder / "index")), bridge(kafka, folder) as found:
        found.wait_ready()
        for path in ("0.png", "0 resized.jpg", "1.png"):
            assert found.post("/v1/images", {"relative_path": path, "request_id": 1, "alert": False}).status == 202
        verdicts = Reader(kafka, VERDICTS)
        verdicts.until(lambda seen: len(seen.seen["verdicts"]) == 3)
        verdicts.close()
        yield Service(kafka, images, found, folder)
    delete_topics(kafka)


@pytest.fixture(scope="module")
def fingerprint(service: Service) -> list[float]:
    return fingerprint_of(service.bridge, "0.png")


def fingerprint_of(asked: Bridge, path: str) -> list[float]:
    answer = asked.post(ENCODER, {"request_id": 1, "relative_path": path})
    assert answer.status == 200, answer.body
    vector: list[float] = answer.json["response"]["fingerprint"]
    return vector


def png(image: Image.Image, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", **options)
    return out.getvalue()


class TestContracts:
    def test_the_encoder_answers_to_the_letter(self, service: Service) -> None:
        answer = service.bridge.post(ENCODER, {"request_id": 41, "relative_path": "0.png"})
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("application/json")
        assert set(answer.json) == {"global_status", "response"}
        assert answer.json["global_status"] == 1
        assert set(answer.json["response"]) == {"request_id", "fingerprint"}
        assert answer.json["response"]["request_id"] == 41
        alone = Encoder.load().encode([ImageRoot(service.images).open("0.png", box=(160, 160))])[0]
        assert np.allclose(answer.json["response"]["fingerprint"], alone, atol=2e-2)

    def test_the_search_answers_to_the_letter(self, service: Service, fingerprint: list[float]) -> None:
        answer = service.bridge.post(SEARCH, {"nb_neighbors": 3, "vec_features": fingerprint})
        assert answer.status == 200
        assert set(answer.json) == {"global_status", "error_message", "response"}
        assert (answer.json["global_status"], answer.json["error_message"]) == (1, "")
        neighbors = answer.json["response"]["neighbors"]
        assert [set(one) for one in neighbors] == [{"relative_path", "score"}] * 3
        assert [one["relative_path"] for one in neighbors] == ["0.png", "0 resized.jpg", "1.png"]
        assert all(0 <= one["score"] <= 1 for one in neighbors)
        assert [one["score"] for one in neighbors] == sorted((one["score"] for one in neighbors), reverse=True)

    def test_one_neighbor_is_one(self, service: Service, fingerprint: list[float]) -> None:
        answer = service.bridge.post(SEARCH, {"nb_neighbors": 1, "vec_features": fingerprint})
        assert [one["relative_path"] for one in answer.json["response"]["neighbors"]] == ["0.png"]

    def test_the_matcher_answers_to_the_letter(self, service: Service) -> None:
        body = {"candidate": "0.png", "neighbors": ["1.png", "0 resized.jpg"]}
        answer = service.bridge.post(MATCHER, body)
        assert answer.status == 200
        assert set(answer.json) == {"global_status", "error_message", "response"}
        assert (answer.json["global_status"], answer.json["error_message"]) == (1, "")
        (one,) = answer.json["response"]["duplicated"]
        assert set(one) == {"relative_path", "score"}
        root, config = ImageRoot(service.images), MatcherConfig()
        ours, theirs = (
            extract(root.open(p, box=(config.width, config.height)), config) for p in ("0.png", "0 resized.jpg")
        )
        assert one == {"relative_path": "0 resized.jpg", "score": pytest.approx(verify(ours, theirs, config).score)}

    @pytest.mark.parametrize("count", [0, 1, 7, 9])
    def test_any_number_of_neighbors(self, service: Service, count: int) -> None:
        answer = service.bridge.post(MATCHER, {"candidate": "0.png", "neighbors": ["0 resized.jpg", "1.png"] * count})
        found = [one["relative_path"] for one in answer.json["response"]["duplicated"]]
        assert found == (["0 resized.jpg"] if count else [])

    def test_an_unreadable_neighbor_is_left_out_and_named(self, service: Service) -> None:
        body = {"candidate": "0.png", "neighbors": ["gone.png", "0 resized.jpg", "note.txt"]}
        answer = service.bridge.post(MATCHER, body)
        assert answer.json["global_status"] == 1
        assert "gone.png" in answer.json["error_message"]
        assert "note.txt" in answer.json["error_message"]
        assert [one["relative_path"] for one in answer.json["response"]["duplicated"]] == ["0 resized.jpg"]

    def test_each_port_answers_its_own_contract_at_the_root_and_every_path(
        self, service: Service, fingerprint: list[float]
    ) -> None:
        bodies = {
            ENCODER: {"request_id": 1, "relative_path": "0.png"},
            SEARCH: {"nb_neighbors": 1, "vec_features": fingerprint},
            MATCHER: {"candidate": "0.png", "neighbors": ["0 resized.jpg"]},
        }
        assert len(set(service.bridge.ports)) == 3
        for port, own in zip(service.bridge.ports, bodies, strict=True):
            for path, body in bodies.items():
                assert service.bridge.post(path, body, port=port).status == 200
                assert service.bridge.post("/", body, port=port).status == (200 if path == own else 422)

    def test_one_port_instead_has_the_named_paths_alone(self, service: Service) -> None:
        with bridge(service.kafka, service.folder, SERVER_PORT="0") as one:
            one.wait_ready()
            assert len(one.ports) == 1
            body = {"request_id": 1, "relative_path": "0.png"}
            assert one.post(ENCODER, body).status == 200
            assert one.post("/", body).status == 405

    def test_the_documented_ports_are_the_default(self) -> None:
        from streams.config import BridgeConfig  # noqa: PLC0415

        config = BridgeConfig.from_env({})
        assert (config.port, config.contract_ports) == (None, (8500, 8800, 8300))
        assert BridgeConfig.from_env({"SERVER_PORT": "9000"}).port == 9000


VECTOR = [0.5] * 512
BAD: list[tuple[str, Any, int, str]] = [
    (ENCODER, b"", 400, "JSON"),
    (ENCODER, b"{", 400, "JSON"),
    (ENCODER, b"\xff\xfe", 400, "JSON"),
    (ENCODER, b"[" * 100_000, 422, "object"),
    (ENCODER, [], 422, "object"),
    (ENCODER, {"request_id": 1}, 422, "relative_path"),
    (ENCODER, {"request_id": "1", "relative_path": "0.png"}, 422, "request_id"),
    (ENCODER, {"request_id": True, "relative_path": "0.png"}, 422, "request_id"),
    (ENCODER, {"request_id": 2**63, "relative_path": "0.png"}, 422, "request_id"),
    (ENCODER, {"request_id": 1, "relative_path": 7}, 422, "relative_path"),
    (ENCODER, {"request_id": 1, "relative_path": ""}, 422, "relative_path"),
    (ENCODER, {"request_id": 1, "relative_path": "x" * 5000}, 422, "relative_path"),
    (ENCODER, {"request_id": 1, "relative_path": "0.png", "colour": "red"}, 422, "colour"),
    (ENCODER, {"request_id": 1, "relative_path": "gone.png"}, 404, "relative_path: gone.png"),
    (ENCODER, {"request_id": 1, "relative_path": "../secret.png"}, 422, "relative_path"),
    (ENCODER, {"request_id": 1, "relative_path": "/etc/passwd"}, 422, "relative_path"),
    (ENCODER, {"request_id": 1, "relative_path": "note.txt"}, 422, "relative_path: note.txt"),
    (ENCODER, {"request_id": 1, "relative_path": "a\0b"}, 404, "relative_path"),
    (SEARCH, {"nb_neighbors": 0, "vec_features": VECTOR}, 422, "nb_neighbors"),
    (SEARCH, {"nb_neighbors": -1, "vec_features": VECTOR}, 422, "nb_neighbors"),
    (SEARCH, {"nb_neighbors": 10**9, "vec_features": VECTOR}, 422, "nb_neighbors"),
    (SEARCH, {"nb_neighbors": 10**30, "vec_features": VECTOR}, 422, "nb_neighbors"),
    (SEARCH, {"nb_neighbors": 1.5, "vec_features": VECTOR}, 422, "nb_neighbors"),
    (SEARCH, {"nb_neighbors": 3, "vec_features": [0.5, 0.5]}, 422, "vec_features"),
    (SEARCH, {"nb_neighbors": 3, "vec_features": []}, 422, "vec_features"),
    (SEARCH, {"nb_neighbors": 3, "vec_features": [0.0] * 512}, 422, "vec_features"),
    (SEARCH, {"nb_neighbors": 3, "vec_features": [*VECTOR[1:], 1e300]}, 422, "vec_features[511]"),
    (SEARCH, {"nb_neighbors": 3, "vec_features": [*VECTOR[1:], float("nan")]}, 422, "vec_features[511]"),
    (SEARCH, {"nb_neighbors": 3, "vec_features": [*VECTOR[1:], float("-inf")]}, 422, "vec_features[511]"),
    (SEARCH, {"nb_neighbors": 3, "vec_features": [*VECTOR[1:], "0.5"]}, 422, "vec_features"),
    (SEARCH, {"nb_neighbors": 3, "vec_features": "0.5"}, 422, "vec_features"),
    (SEARCH, {"nb_neighbors": 3}, 422, "vec_features"),
    (SEARCH, b" " * (2**20 + 1), 413, "body"),
    (MATCHER, {"candidate": "0.png"}, 422, "neighbors"),
    (MATCHER, {"candidate": "0.png", "neighbors": "1.png"}, 422, "neighbors"),
    (MATCHER, {"candidate": "0.png", "neighbors": ["1.png", 3]}, 422, "neighbors[1]"),
    (MATCHER, {"candidate": "0.png", "neighbors": ["1.png"] * 1001}, 422, "neighbors"),
    (MATCHER, {"candidate": "gone.png", "neighbors": ["1.png"]}, 404, "candidate: gone.png"),
    (MATCHER, {"candidate": "note.txt", "neighbors": ["1.png"]}, 422, "candidate: note.txt"),
    (MATCHER, {"candidate": "0.png", "neighbors": ["x" * 4000 + str(n) for n in range(240)]}, 413, "message"),
]


@pytest.mark.parametrize(("path", "body", "status", "word"), BAD, ids=[f"{b[0]}-{n}" for n, b in enumerate(BAD)])
def test_what_the_client_caused_is_named_in_the_same_envelope(
    service: Service, path: str, body: Any, status: int, word: str
) -> None:
    answer = service.bridge.post(path, body)
    assert answer.status == status, answer.body
    assert set(answer.json) == {"global_status", "error_message", "response"}
    assert (answer.json["global_status"], answer.json["response"]) == (0, {})
    assert word in answer.json["error_message"]


def test_a_path_that_is_not_there_and_a_method_that_is_not_allowed(service: Service) -> None:
    for answer, status in ((service.bridge.get("/nothing"), 404), (service.bridge.get(ENCODER), 405)):
        assert answer.status == status
        assert answer.json["global_status"] == 0
    assert service.bridge.get(ENCODER).headers["Allow"] == "POST"


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


def test_many_requests_of_many_bridges_each_get_their_own_replies(service: Service) -> None:
    paths = ["0.png", "0 resized.jpg", "1.png", "1 resized.jpg", "2.png", "2 resized.jpg"]
    with bridge(service.kafka, service.folder) as other:
        other.wait_ready()
        expected = {path: np.array(fingerprint_of(other, path)) for path in paths}

        def ask(number: int) -> tuple[int, str, dict[str, Any]]:
            asked, path = (service.bridge, other)[number % 2], paths[number % len(paths)]
            answer = asked.post(ENCODER, {"request_id": number, "relative_path": path})
            return number, path, answer.json["response"]

        with ThreadPoolExecutor(24) as pool:
            for number, path, response in pool.map(ask, range(120)):
                assert response["request_id"] == number
                # bfloat16 and the batch size change the last bits; another image is far away
                assert np.array(response["fingerprint"]) @ expected[path] > 0.999


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


class TestUploads:
    def test_an_upload_gets_its_duplicates_and_the_evidence(self, service: Service) -> None:
        turned = scene(0).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        answer = service.bridge.post("/v1/duplicates", png(turned))
        assert answer.status == 200, answer.body
        assert (answer.json["global_status"], answer.json["error_message"]) == (1, "")
        found = {one["relative_path"]: one for one in answer.json["response"]["duplicated"]}
        assert set(found) == {"0.png", "0 resized.jpg"}
        one = found["0.png"]
        assert one["mirrored"]
        assert "mirrored" in one["edit"]
        assert one["score"] > 0.9
        assert 4 <= len(one["points"]) <= 64
        # matching points lie mirror-wise
        assert all(abs(x + other_x - 1) < 0.05 and abs(y - other_y) < 0.05 for x, y, other_x, other_y in one["points"])

    def test_the_same_bytes_are_the_same_file(self, service: Service) -> None:
        answer = service.bridge.post("/v1/duplicates", (service.images / "1.png").read_bytes())
        assert [(one["relative_path"], one["edit"]) for one in answer.json["response"]["duplicated"]] == [
            ("1.png", "the same file")
        ]

    def test_a_picture_like_no_other_has_none(self, service: Service) -> None:
        answer = service.bridge.post("/v1/duplicates", png(scene(77)))
        assert answer.json["response"]["duplicated"] == []

    def test_a_form_will_do_as_well(self, service: Service) -> None:
        data = (service.images / "1.png").read_bytes()
        for name in ("image", "anything"):
            head = f'--edge\r\nContent-Disposition: form-data; name="{name}"; filename="x.png"\r\n\r\n'.encode()
            kind = {"Content-Type": "multipart/form-data; boundary=edge"}
            answer = service.bridge.post("/v1/duplicates", head + data + b"\r\n--edge--\r\n", headers=kind)
            assert answer.status == 200, answer.body
            assert len(answer.json["response"]["duplicated"]) == 1
        answer = service.bridge.post("/v1/duplicates", b"--edge--\r\n", headers=kind)
        assert (answer.status, answer.json["global_status"]) == (422, 0)

    def test_a_large_upload_is_told_by_the_size_it_came_in(self, service: Service) -> None:
        large = scene(61, (3200, 2400))
        large.save(service.images / "large.jpg", quality=90)
        assert service.bridge.post("/v1/images", {"relative_path": "large.jpg", "alert": False}).status == 202
        for factor, said in ((1, "re-encoded"), (2, "resized to 50 %")):
            out = io.BytesIO()
            large.reduce(factor).save(out, "JPEG", quality=80)

            def edit(data: bytes = out.getvalue()) -> str:
                found = service.bridge.post("/v1/duplicates", data).json["response"]["duplicated"]
                return str(found[0]["edit"]) if found else ""

            assert eventually(edit) == said

    def test_it_is_stored_nowhere(self, service: Service) -> None:
        def standing() -> tuple[set[Path], int]:
            reader = Reader(service.kafka, IMAGES_NEW).settled()
            reader.close()
            return set(service.images.rglob("*")), len(reader.seen["images.new"])

        before = standing()
        assert service.bridge.post("/v1/duplicates", png(scene(0))).status == 200
        assert standing() == before
        answer = service.bridge.post("/v1/duplicates", png(scene(0)))
        assert len(answer.json["response"]["duplicated"]) == 2, "it is not among its own duplicates"

    def test_twenty_megabytes_fit_and_more_do_not(self, service: Service) -> None:
        rng = np.random.default_rng(3)
        low = Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8))
        noise = np.asarray(low.resize((2675, 2675), Image.Resampling.BICUBIC)).astype(np.int16)
        noise += rng.integers(-60, 60, noise.shape, dtype=np.int16)
        large = png(Image.fromarray(noise.clip(0, 255).astype(np.uint8)), compress_level=1)
        assert 19 * 2**20 < len(large) <= 20 * 2**20
        answer = service.bridge.post("/v1/duplicates", large)
        assert answer.status == 200, answer.body
        assert answer.json["response"]["duplicated"] == []
        answer = service.bridge.post("/v1/duplicates", large + b"\0" * (20 * 2**20 + 1 - len(large)))
        assert (answer.status, answer.json["global_status"]) == (413, 0)

    def test_many_pixels_in_few_bytes_are_refused_by_the_header(self, service: Service) -> None:
        bomb = png(Image.new("1", (20_000, 20_000)))
        assert len(bomb) < 100_000
        answer = service.bridge.post("/v1/duplicates", bomb)
        assert (answer.status, answer.json["global_status"]) == (413, 0)
        assert "pixels" in answer.json["error_message"]

    @pytest.mark.parametrize(("data", "status"), [(b"", 422), (b"no image", 415), (png(scene(1))[:2000], 422)])
    def test_what_is_no_image_is_named(self, service: Service, data: bytes, status: int) -> None:
        answer = service.bridge.post("/v1/duplicates", data)
        assert (answer.status, answer.json["global_status"]) == (status, 0)
        assert answer.json["error_message"].startswith("the image: ")


class TestAnnouncing:
    def test_an_announced_image_is_found_and_a_removed_one_is_not(self, service: Service) -> None:
        Image.fromarray(np.asarray(scene(50))).save(service.images / "späte Ernte 50%.png")
        path = "späte Ernte 50%.png"
        answer = service.bridge.post("/v1/images", {"relative_path": path, "request_id": 5})
        assert (answer.status, answer.json["response"]) == (202, {"relative_path": path, "request_id": 5})
        vector = fingerprint_of(service.bridge, path)

        def nearest() -> str:
            found = service.bridge.post(SEARCH, {"nb_neighbors": 1, "vec_features": vector}).json
            return str(found["response"]["neighbors"][0]["relative_path"])

        eventually(lambda: nearest() == path)
        answer = service.bridge.ask("DELETE", "/v1/images/sp%C3%A4te%20Ernte%2050%25.png")
        assert (answer.status, answer.json["response"]["relative_path"]) == (202, path)
        eventually(lambda: nearest() != path)

    @pytest.mark.parametrize(
        ("body", "word"),
        [
            ({}, "relative_path"),
            ({"relative_path": "../a.png"}, "relative_path"),
            ({"relative_path": "/a.png"}, "relative_path"),
            ({"relative_path": "é" * 2500}, "relative_path"),
            ({"relative_path": "./"}, "relative_path"),
            ({"relative_path": "a.png", "alert": "yes"}, "alert"),
            ({"relative_path": "a.png", "request_id": 1.5}, "request_id"),
            ({"relative_path": "a.png", "more": 1}, "more"),
        ],
    )
    def test_a_wrong_announcement_is_refused(self, service: Service, body: Any, word: str) -> None:
        answer = service.bridge.post("/v1/images", body)
        assert (answer.status, answer.json["global_status"]) == (422, 0)
        assert word in answer.json["error_message"]

    def test_a_long_path_can_be_removed(self, service: Service) -> None:
        assert service.bridge.ask("DELETE", "/v1/images/" + "%C3%A9" * 2048).status == 202
        assert service.bridge.ask("DELETE", "/v1/images/" + "%C3%A9" * 2049).status == 422


class TestPictures:
    def test_a_picture_is_a_small_jpeg_never_the_file(self, service: Service) -> None:
        Image.effect_noise((900, 700), 90).save(service.images / "noise.png")
        answer = service.bridge.get("/v1/pictures/noise.png?side=300")
        assert (answer.status, answer.headers["Content-Type"]) == (200, "image/jpeg")
        with Image.open(io.BytesIO(answer.body)) as shown:
            assert (shown.format, max(shown.size)) == ("JPEG", 300)

    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("gone.png", 404), ("note.txt", 415), ("%2e%2e/secret.png", 422), ("..%2fsecret.png", 422),
            ("%2fetc%2fpasswd", 422), ("leaves.png", 422), ("0.png?side=1", 422), ("0.png?side=x", 422),
            ("0.png?side=99999", 422), ("0.png?side=%C2%B2%C2%B2%C2%B2", 422),
        ],
    )  # fmt: skip
    def test_nothing_else_is_served(self, service: Service, path: str, status: int) -> None:
        secret = service.folder / "secret.png"
        scene(9).save(secret)
        link = service.images / "leaves.png"
        if not link.is_symlink():
            link.symlink_to(secret)
        answer = service.bridge.get(f"/v1/pictures/{path}")
        # a client's or the server's path clean-up may already have taken the dots away
        assert answer.status in {status, 404}, answer.body
        assert answer.json["global_status"] == 0


class Listener:
    """A client of the stream of alerts."""

    def __init__(self, asked: Bridge, recent: int = 0, after: str | None = None) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", asked.ports[0], timeout=60)
        headers = {"Last-Event-ID": after} if after else {}
        self._connection.request("GET", f"/v1/duplicates/stream?recent={recent}", headers=headers)
        self.response = self._connection.getresponse()
        assert self.response.status == 200

    def next(self) -> dict[str, str]:
        event: dict[str, str] = {}
        while True:
            line = self.response.readline().decode().rstrip("\n")
            if not line and "data" in event:
                return event
            name, _, value = line.partition(": ")
            event[name] = value

    def close(self) -> None:
        self.response.close()
        self._connection.close()


@pytest.mark.parametrize("query", ["recent=-1", "recent=x", "recent=101", "recent=%C2%B2"])
def test_a_wrong_number_of_past_alerts_is_refused(service: Service, query: str) -> None:
    answer = service.bridge.get(f"/v1/duplicates/stream?{query}")
    assert (answer.status, answer.json["global_status"]) == (422, 0)
    assert answer.json["error_message"].startswith("recent")


def test_alerts_come_as_events_and_none_is_missed_or_told_twice(kafka: KafkaConfig, tmp_path: Path) -> None:
    images = tmp_path / "images"
    write_groups(images, 3)
    with answering(kafka, *stages(kafka, images, tmp_path / "index")), bridge(kafka, tmp_path) as asked:
        asked.wait_ready()
        listener = Listener(asked)
        assert listener.response.getheader("Content-Type") == "text/event-stream"
        ids = []
        for number, path in enumerate(["0.png", "0 resized.jpg", "1.png", "1 resized.jpg"]):
            assert asked.post("/v1/images", {"relative_path": path, "request_id": number}).status == 202
            reader = Reader(kafka, VERDICTS).until(lambda r, n=number: len(r.seen["verdicts"]) > n)  # type: ignore[misc]
            reader.close()
        for candidate, duplicated in (("0 resized.jpg", "0.png"), ("1 resized.jpg", "1.png")):
            event = listener.next()
            assert event["event"] == "alert"
            alert = json.loads(event["data"])
            assert alert["candidate"] == candidate
            assert alert["request_id"] in {1, 3}
            assert [d["relative_path"] for d in alert["duplicated"]] == [duplicated]
            assert alert["duplicated"][0]["points"]
            ids.append(event["id"])
        listener.close()
        again = Listener(asked, after=ids[0])
        assert again.next()["id"] == ids[1]
        again.close()
        recent = Listener(asked, recent=1)
        assert recent.next()["id"] == ids[1]
        recent.close()
        # another bridge, started later, knows what was before it, by the same names
        with bridge(kafka, tmp_path) as later:
            eventually(lambda: b"imagetools_alerts_seen 2.0" in later.get("/metrics").body)
            listener = Listener(later, recent=100)
            assert {listener.next()["id"], listener.next()["id"]} == set(ids)
            listener.close()
        listener = Listener(asked)
        asked.process.terminate()
        assert listener.response.read() in (b"retry: 2000\n\n", b"")
        assert asked.process.wait(20) == 0
        listener.close()
        reader = Reader(kafka, DUPLICATES).settled()
        reader.close()
        assert len(reader.seen["duplicates"]) == 2


def test_dead_letters_come_as_events_of_their_own_and_push_no_alert_out(kafka: KafkaConfig, tmp_path: Path) -> None:
    headers = [("stage", "encoder"), ("error-type", "MissingImage"), ("error-message", "gone.png: no such file")]
    with bridge(kafka, tmp_path) as asked:
        asked.wait_ready()
        listener = Listener(asked)
        send(kafka, DUPLICATES, [("b.png", Duplicates(1, "b.png", (Duplicate("a.png", 0.99),)))])
        alert = listener.next()
        send_raw(kafka, DEAD_LETTERS, [(b"gone.png", b"x")] * 150, headers=headers)
        dead = [listener.next() for _ in range(150)]
        listener.close()
        assert {event["event"] for event in dead} == {"dead-letter"}
        assert len({event["id"] for event in (alert, *dead)}) == 151
        letter = json.loads(dead[0]["data"])
        assert (letter["relative_path"], letter["stage"], letter["error_type"]) == (
            "gone.png",
            "encoder",
            "MissingImage",
        )
        assert "candidate" not in letter
        again = Listener(asked, recent=100)
        assert again.next()["id"] == alert["id"]
        assert again.next()["id"] == dead[50]["id"]
        again.close()
        again = Listener(asked, after=dead[-2]["id"])
        assert again.next()["id"] == dead[-1]["id"]
        again.close()
        send_raw(kafka, DEAD_LETTERS, [(b"x", b"x")], headers=[("stage", "made up"), ("error-type", "made up")])
        other = b'imagetools_dead_letters_total{stage="other",type="other"} 1.0'
        eventually(lambda: other in asked.get("/metrics").body)
        assert b'imagetools_dead_letters_total{stage="encoder",type="MissingImage"} 150.0' in asked.get("/metrics").body


def test_what_each_process_does_is_in_status_and_metrics(kafka: KafkaConfig, tmp_path: Path) -> None:
    with (
        bridge(kafka, tmp_path) as asked,
        StateReporter(replace(kafka, member="encoder-0", restarts=2), "encoder") as reporter,
    ):
        asked.wait_ready()

        def told(state: str, reason: str) -> bool:
            stages = asked.get("/v1/status").json["response"]["stages"]
            found = [one for stage in stages if stage["stage"] == "encoder" for one in stage["states"]]
            return [(one["process"], one["state"], one["reason"], one["restarts"]) for one in found] == [
                ("encoder-0", state, reason, 2)
            ]

        reporter.report(State.WAITING, "the folder is away")
        eventually(lambda: told("waiting", "the folder is away"))
        text = asked.get("/metrics").body.decode()
        assert 'imagetools_stage_waiting{process="encoder-0",stage="encoder"} 1.0' in text
        assert 'imagetools_stage_restarts{process="encoder-0",stage="encoder"} 2.0' in text
        reporter.report(State.RUNNING)
        eventually(lambda: told("running", ""))
        assert (
            'imagetools_stage_waiting{process="encoder-0",stage="encoder"} 0.0' in asked.get("/metrics").body.decode()
        )


class TestSafety:
    def test_with_a_token_only_health_is_open(self, service: Service) -> None:
        with bridge(service.kafka, service.folder, BRIDGE_TOKEN="a secret") as locked:
            locked.wait_ready()
            assert locked.get("/healthz").status == 200
            body = {"request_id": 1, "relative_path": "0.png"}
            for method, path in (
                ("POST", ENCODER), ("POST", "/"), ("POST", "/v1/duplicates"), ("POST", "/v1/images"), ("GET", "/"),
                ("GET", "/v1/images/0.png"), ("GET", "/v1/pictures/0.png"), ("DELETE", "/v1/images/0.png"),
                ("GET", "/v1/duplicates/stream"), ("GET", "/metrics"), ("GET", "/v1/status"),
                ("GET", "/openapi.json"), ("GET", "/docs"),
            ):  # fmt: skip
                answer = locked.ask(method, path, body if method == "POST" else None)
                assert (answer.status, answer.json["global_status"]) == (401, 0), path
                assert answer.headers["WWW-Authenticate"] == "Bearer"
            for wrong in ("Bearer wrong", "Bearer", "Basic a secret", "Bearer é"):
                headers = {"Authorization": wrong.encode().decode("latin-1")}
                assert locked.post(ENCODER, body, headers=headers).status == 401
            assert locked.post(ENCODER, body, headers={"Authorization": "Bearer a secret"}).status == 200
            assert "a secret" not in locked.log.read_text()

    def test_a_browser_signs_in_at_a_door(self, service: Service) -> None:
        with bridge(service.kafka, service.folder, BRIDGE_TOKEN="a secret") as locked:
            answer = locked.get("/", headers={"Accept": "text/html"})
            assert (answer.status, answer.headers["Location"]) == (303, "/sign-in")
            assert b"<form" in locked.get("/sign-in").body
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            assert locked.post("/sign-in", b"token=wrong", headers=form).status == 401
            answer = locked.post("/sign-in", b"token=a+secret", headers=form)
            assert answer.status == 303
            cookie = answer.headers["Set-Cookie"]
            assert "HttpOnly" in cookie
            assert "SameSite=Strict" in cookie
            assert "secret" not in cookie
            assert locked.get("/", headers={"Cookie": cookie.partition(";")[0]}).status == 200
            assert locked.get("/", headers={"Cookie": "imagetools=guess"}).status == 401

    def test_every_answer_has_security_headers(self, service: Service) -> None:
        for path in (
            "/",
            "/docs",
            "/nothing",
            "/v1/images/0.png",
            "/v1/pictures/0.png",
            "/metrics",
            ENCODER,
            "/assets/app.js",
        ):
            headers = service.bridge.get(path).headers
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert "default-src 'none'" in headers["Content-Security-Policy"]
            assert "unsafe-inline" not in headers["Content-Security-Policy"]
            assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
            assert headers["Server"] == "imagetools"

    def test_a_page_of_another_origin_may_not_ask(self, service: Service) -> None:
        body = {"relative_path": "0.png"}
        there = {"Origin": "https://evil.example"}
        assert service.bridge.post("/v1/images", body, headers=there).status == 403
        here = {"Origin": service.bridge.url}
        assert service.bridge.get("/v1/status", headers=here).status == 200
        assert service.bridge.get("/v1/status", headers={"Host": "evil.example"}).status == 403

    def test_assets_are_the_packages_own(self, service: Service) -> None:
        for name in ("..%2fserver.py", "__init__.py", "nothing.js", "%2e%2e"):
            assert service.bridge.get(f"/assets/{name}").status in {403, 404}


def test_it_holds_no_model_and_no_index(service: Service) -> None:
    assert service.bridge.post("/v1/duplicates", png(scene(0))).status == 200
    maps = Path(f"/proc/{service.bridge.process.pid}/maps").read_text()
    loaded = {os.path.basename(line.split()[-1]) for line in maps.splitlines() if ".so" in line}
    assert any("rdkafka" in name for name in loaded), "the test reads the right process"
    assert not [name for name in loaded if any(word in name.lower() for word in ("torch", "ngt", "cv2", "opencv"))]


def test_metrics_count_what_was_asked(service: Service) -> None:
    def counted() -> float:
        line = 'imagetools_http_requests_total{code="404",endpoint="/api-image-encoder",method="POST"} '
        text = service.bridge.get("/metrics").body.decode()
        return float(text.partition(line)[2].split("\n")[0] or 0)

    before = counted()
    service.bridge.post(ENCODER, {"request_id": 1, "relative_path": "gone.png"})
    assert counted() == before + 1
    text = service.bridge.get("/metrics").body.decode()
    assert "imagetools_kafka_up 1.0" in text
    assert 'imagetools_stage_processes{stage="search"} 1.0' in text
    assert 'imagetools_http_request_seconds_count{endpoint="/api-image-encoder"}' in text
    service.bridge.get("/made-up-by-a-client")
    assert "made-up" not in service.bridge.get("/metrics").body.decode()


def test_status_tells_lag_and_rate_of_every_stage(service: Service) -> None:
    found = service.bridge.get("/v1/status").json["response"]["stages"]
    assert [one["stage"] for one in found] == ["encoder", "search", "matcher"]
    assert all(one["lag"] >= 0 and one["rate"] >= 0 and one["processes"] == 1 for one in found)


def test_a_port_that_is_taken_is_named(service: Service) -> None:
    said = refused_start(service.kafka, SERVER_PORT=str(service.bridge.ports[0]))
    assert str(service.bridge.ports[0]) in said
    assert "Traceback" not in said


def test_a_digest_is_that_of_the_bytes_as_they_came() -> None:
    from http_bridge.duplicates import MAX_SENT_BYTES, prepare  # noqa: PLC0415

    small, large = png(scene(1)), png(scene(1, (3000, 2000)))
    assert prepare(small).image == small
    shrunk = prepare(large)
    assert shrunk.digest == hashlib.sha256(large).digest()
    assert len(shrunk.image) <= MAX_SENT_BYTES
    with Image.open(io.BytesIO(shrunk.image)) as image:
        assert image.size == (1024, 683)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), dtype=np.uint8))
    assert len(prepare(png(noise)).image) <= MAX_SENT_BYTES
