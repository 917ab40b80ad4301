"""The three contract endpoints, with good and bad bodies."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from imagetools.features.extract import extract
from imagetools.fingerprint.encoder import Encoder
from imagetools.image_root import ImageRoot
from imagetools.matching.config import MatcherConfig
from imagetools.matching.verify import verify
from streams.config import BridgeConfig
from tests.support.bridging import (
    ENCODER,
    MATCHER,
    SEARCH,
    Service,
    bridge,
    fingerprint_of,
)


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
