"""Announcing and removing images, and pictures of them."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.bridging import (
    SEARCH,
    Service,
    eventually,
    fingerprint_of,
)
from tests.support.streaming import scene


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
            ({"relative_path": "a.png", "metadata": {"sku": 4711}}, "metadata"),
            ({"relative_path": "a.png", "metadata": {"": "x"}}, "metadata"),
            ({"relative_path": "a.png", "metadata": {"note": "é" * 2047}}, "metadata: 4,098 bytes of names and values"),
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
