"""Every path that can be announced over HTTP can be removed over HTTP, under the same key."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from streams.config import KafkaConfig
from streams.kafka.admin import create_topics, delete_topics
from streams.topics import IMAGES_NEW
from tests.support.bridging import Bridge, bridge
from tests.support.streaming import Reader, scene

PICTURES = "/v1/pictures/"
SPECIAL = [
    "a\nb.png", "a\r\nb.png", "a//b.png", "a/", "a/../b.png", "./a.png", "a/./b.png", "a%2Fb.png", "a%252Fb.png",
    "50%.png", "a?b.png", "a#b.png", "a?b#c.png", " a.png", "a.png ", " ", "\t", "a+b.png", "a;b=c.png", "a&b.png",
    "a\\b.png", "é.png", "e\u0301.png", "a\x7fb", "a\x85b", "\ufeffa", "\U0001f600.png", "{path}", "stream", "..a",
    "%FF.png", "a:b", "~a", "a\u2028b",
]  # fmt: skip
REFUSED = ["..", "../a.png", "/a.png", "//a.png", ".", "./", "a/../../b.png", "a\0b.png", "/", "é" * 2049]

paths = st.one_of(
    st.text(max_size=30),
    st.lists(st.sampled_from([*"/.%?#+ \n\r\t\\ab2Fé", "..", "%2F", "%0A", "//"]), max_size=12).map("".join),
)


@pytest.fixture(scope="module")
def asked(bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bridge, KafkaConfig, Path]]:
    folder = tmp_path_factory.mktemp("paths")
    (folder / "images").mkdir()
    kafka = KafkaConfig(bootstrap, prefix=f"test-{uuid.uuid4().hex[:12]}.", member="test")
    create_topics(kafka)
    with bridge(kafka, folder, SERVER_PORT="0") as found:
        yield found.wait_ready(), kafka, folder / "images"
        assert "Traceback" not in found.log.read_text()
    delete_topics(kafka)


def test_delete_takes_what_post_takes_and_under_the_same_key(asked: tuple[Bridge, KafkaConfig, Path]) -> None:
    at, kafka, _ = asked
    taken: set[str] = set()

    def both(path: str) -> int:
        announced = at.post("/v1/images", {"relative_path": path})
        for safe in ("/", ""):
            removed = at.ask("DELETE", "/v1/images/" + quote(path, safe=safe))
            if path:
                assert removed.status == announced.status, removed.body
            if removed.status == 202:
                assert removed.json["response"]["relative_path"] == path
        if announced.status == 202:
            taken.add(path)
        return announced.status

    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
    @given(paths)
    @example("")
    def agree(path: str) -> None:
        assert both(path) in {202, 422}

    agree()
    assert [both(path) for path in SPECIAL] == [202] * len(SPECIAL)
    assert [both(path) for path in REFUSED] == [422] * len(REFUSED)
    reader = Reader(kafka, IMAGES_NEW).settled()
    reader.close()
    announced = {m.key() for m in reader.messages["images.new"] if m.value() is not None}
    gone = {m.key() for m in reader.messages["images.new"] if m.value() is None}
    assert announced == gone == {path.encode() for path in taken}


@pytest.mark.parametrize("method", ["DELETE", "GET"])
@pytest.mark.parametrize("path", ["%FF.png", "a%C3.png", "%ED%A0%80", "%C0%AF"])
def test_bytes_that_are_no_utf8_are_refused_and_not_rewritten(
    asked: tuple[Bridge, KafkaConfig, Path], method: str, path: str
) -> None:
    answer = asked[0].ask(method, PICTURES + path if method == "GET" else f"/v1/images/{path}")
    assert (answer.status, answer.json["global_status"]) == (422, 0)
    assert "not valid UTF-8" in answer.json["error_message"]


def test_a_question_mark_that_was_not_encoded_removes_nothing_else(asked: tuple[Bridge, KafkaConfig, Path]) -> None:
    answer = asked[0].ask("DELETE", "/v1/images/a?b.png")
    assert answer.status == 422
    assert "%3F" in answer.json["error_message"]


@pytest.mark.parametrize("path", ["a\nb.png", "50%.png", "a?b#c.png", " a .png", "é.png", "a%2Fb.png", "in a/b//c.png"])
def test_a_picture_is_found_by_any_name(asked: tuple[Bridge, KafkaConfig, Path], path: str) -> None:
    at, _, images = asked
    file = images / path
    file.parent.mkdir(parents=True, exist_ok=True)
    scene(1).save(file)
    for safe in ("/", ""):
        answer = at.get(PICTURES + quote(path, safe=safe))
        assert (answer.status, answer.headers["Content-Type"]) == (200, "image/jpeg"), answer.body
