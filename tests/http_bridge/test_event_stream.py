"""The stream of alerts and dead letters."""

import http.client
import json
from pathlib import Path

import pytest

from schemas.records import Duplicate, Duplicates
from streams.config import KafkaConfig
from streams.topics import DEAD_LETTERS, DUPLICATES, VERDICTS
from tests.support.bridging import (
    Bridge,
    Service,
    answering,
    bridge,
    eventually,
    stages,
)
from tests.support.streaming import Reader, send, send_raw, write_groups


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


def test_alerts_come_as_events_and_none_is_missed_or_sent_twice(kafka: KafkaConfig, tmp_path: Path) -> None:
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
