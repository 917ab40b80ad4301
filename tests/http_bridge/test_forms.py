"""Forms: one file is found in them, everything else is named."""

import gzip
import io
from collections.abc import Sequence

import pytest

from tests.support.bridging import (
    UPLOADS,
    Bridge,
)
from tests.support.raw_http import answer, reason, send_request
from tests.support.streaming import scene

FORM = "Content-Type: multipart/form-data; boundary=edge"


def jpeg(width: int, height: int) -> bytes:
    out = io.BytesIO()
    scene(0, (width, height)).save(out, "JPEG")
    return out.getvalue()


PART = 'Content-Disposition: form-data; name="{}"; filename="{}"\r\n\r\n'


def form(*parts: tuple[str, bytes]) -> bytes:
    return b"".join(b"--edge\r\n" + top.encode() + data + b"\r\n" for top, data in parts) + b"--edge--\r\n"


class TestForms:
    @pytest.mark.parametrize(
        ("parts", "status", "word"),
        [
            ([(PART.format("image", "a.jpg"), b"A"), (PART.format("image", "b.jpg"), b"B")], 422, "more than one file"),
            ([(PART.format("image", "a.jpg"), b"A"), (PART.format("other", "b.jpg"), b"B")], 422, "more than one file"),
            ([(PART.format("other", "a.jpg"), b"A"), (PART.format("image", ""), b"B")], 422, "more than one file"),
            ([('Content-Disposition: form-data; name="text"\r\n\r\n', b"hello")], 422, "no file"),
            ([(PART.format("image", ""), b"")], 422, "the image: "),
            ([("Content-Type: multipart/mixed; boundary=in\r\n\r\n", b"--in\r\n\r\nx\r\n--in--")], 422, "inside"),
            ([('Content-Disposition: form-data; name="text"\r\n\r\n', b"")] * 101, 422, "100 parts"),
            ([("no header\r\n\r\n", b"")], 422, "cannot be read"),
            ([('Content-Disposition: form-data; name="image"; filena\r\n\r\n', b"A")], 422, "cannot be read"),
        ],
    )
    def test_a_form_that_is_not_one_image_says_so(
        self, offline: Bridge, parts: Sequence[tuple[str, bytes]], status: int, word: str
    ) -> None:
        assert word in reason(send_request(offline, "POST", UPLOADS, form(*parts), FORM), status)

    def test_text_and_fields_without_a_file_do_not_count(self, offline: Bridge) -> None:
        image = jpeg(64, 48)
        text = ('Content-Disposition: form-data; name="note"\r\n\r\n', b"hello")
        unused = (PART.format("second", ""), b"")
        for parts in (
            [(PART.format("image", "a.jpg"), image)],
            [text, unused, (PART.format("x", "a.jpg"), image), text],
        ):
            assert "Kafka" in reason(send_request(offline, "POST", UPLOADS, form(*parts), FORM), 503)
        packed = gzip.compress(form((PART.format("image", "a.jpg"), image)))
        assert "Kafka" in reason(send_request(offline, "POST", UPLOADS, packed, FORM, "Content-Encoding: gzip"), 503)

    def test_a_form_cut_at_any_place_is_no_fault(self, offline: Bridge) -> None:
        whole = form((PART.format("image", "a.jpg"), jpeg(16, 16)))
        for end in range(0, len(whole), 7):
            assert answer(send_request(offline, "POST", UPLOADS, whole[:end], FORM))[0] in {415, 422, 503}
