"""Uploads: their duplicates, the evidence, and the limits."""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.documents import document
from http_bridge.duplicates import MAX_SENT_BYTES, prepare
from streams.topics import IMAGES_NEW
from tests.support.bridging import (
    MATCHER,
    Service,
    eventually,
    png,
)
from tests.support.streaming import Reader, scene


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
        assert (one["relation"], one["regions"]) == ("same", [])
        assert 4 <= len(one["points"]) <= 64
        # matching points lie mirror-wise
        assert all(abs(x + other_x - 1) < 0.05 and abs(y - other_y) < 0.05 for x, y, other_x, other_y in one["points"])

    def test_the_same_bytes_are_the_same_file(self, service: Service) -> None:
        answer = service.bridge.post("/v1/duplicates", (service.images / "1.png").read_bytes())
        assert [
            (one["relative_path"], one["edit"], one["relation"]) for one in answer.json["response"]["duplicated"]
        ] == [("1.png", "the same file", "identical")]

    def test_a_new_picture_has_no_duplicates(self, service: Service) -> None:
        answer = service.bridge.post("/v1/duplicates", png(scene(77)))
        assert answer.json["response"]["duplicated"] == []
        assert answer.json["response"]["similar"] == []

    def test_one_template_with_other_content_is_similar(self, service: Service) -> None:
        document("form", 2, 2).save(service.images / "form.png")
        assert service.bridge.post("/v1/images", {"relative_path": "form.png", "alert": False}).status == 202

        def response(data: bytes = png(document("form", 2, 3))) -> dict[str, Any]:
            found: dict[str, Any] = service.bridge.post("/v1/duplicates", data).json["response"]
            return found if found["similar"] else {}

        found = eventually(response)
        assert found["duplicated"] == []
        (similar,) = found["similar"]
        assert (similar["relative_path"], similar["relation"]) == ("form.png", "template")
        assert similar["reason"].startswith("same template, other content at ")
        assert similar["score"] < 0.1
        assert 1 < len(similar["regions"]) <= 16
        assert all(len(region) == 8 and 0 <= min(region) <= max(region) <= 1 for region in similar["regions"])
        # the contract of instance matching stays to the letter
        document("form", 2, 3).save(service.images / "other form.png")
        asked = {"candidate": "other form.png", "neighbors": ["form.png", "form.png"]}
        assert service.bridge.post(MATCHER, asked).json == {
            "global_status": 1,
            "error_message": "",
            "response": {"duplicated": []},
        }

    def test_a_form_works_as_well(self, service: Service) -> None:
        data = (service.images / "1.png").read_bytes()
        for name in ("image", "anything"):
            head = f'--edge\r\nContent-Disposition: form-data; name="{name}"; filename="x.png"\r\n\r\n'.encode()
            kind = {"Content-Type": "multipart/form-data; boundary=edge"}
            answer = service.bridge.post("/v1/duplicates", head + data + b"\r\n--edge--\r\n", headers=kind)
            assert answer.status == 200, answer.body
            assert len(answer.json["response"]["duplicated"]) == 1
        answer = service.bridge.post("/v1/duplicates", b"--edge--\r\n", headers=kind)
        assert (answer.status, answer.json["global_status"]) == (422, 0)

    def test_a_large_upload_is_described_at_its_original_size(self, service: Service) -> None:
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

    def test_it_is_not_stored(self, service: Service) -> None:
        def standing() -> tuple[set[Path], int]:
            reader = Reader(service.kafka, IMAGES_NEW).settled()
            reader.close()
            return set(service.images.rglob("*")), len(reader.seen["images.new"])

        before = standing()
        assert service.bridge.post("/v1/duplicates", png(scene(0))).status == 200
        assert standing() == before
        answer = service.bridge.post("/v1/duplicates", png(scene(0)))
        assert len(answer.json["response"]["duplicated"]) == 2, "an upload is not among its own duplicates"

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
    def test_bytes_that_are_not_an_image_are_named(self, service: Service, data: bytes, status: int) -> None:
        answer = service.bridge.post("/v1/duplicates", data)
        assert (answer.status, answer.json["global_status"]) == (status, 0)
        assert answer.json["error_message"].startswith("the image: ")


def test_a_digest_is_that_of_the_bytes_as_they_came() -> None:
    small, large = png(scene(1)), png(scene(1, (3000, 2000)))
    assert prepare(small).image == small
    shrunk = prepare(large)
    assert shrunk.digest == hashlib.sha256(large).digest()
    assert len(shrunk.image) <= MAX_SENT_BYTES
    with Image.open(io.BytesIO(shrunk.image)) as image:
        assert image.size == (1500, 1000)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), dtype=np.uint8))
    assert len(prepare(png(noise)).image) <= MAX_SENT_BYTES
