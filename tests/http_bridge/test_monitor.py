"""Status, metrics, and what the process holds."""

import os
from dataclasses import replace
from pathlib import Path

from confluent_kafka import KafkaError, KafkaException

from http_bridge.errors import kafka_trouble
from schemas.records import State
from streams.config import KafkaConfig
from streams.watching.states import StateReporter, read_states
from tests.support.bridging import (
    ENCODER,
    Service,
    bridge,
    eventually,
    png,
)
from tests.support.streaming import scene


def test_what_each_process_does_is_in_status_and_metrics(kafka: KafkaConfig, tmp_path: Path) -> None:
    with (
        bridge(kafka, tmp_path) as asked,
        StateReporter(replace(kafka, member="encoder-0", restarts=2), "encoder") as reporter,
    ):
        asked.wait_ready()

        def reported(state: str, reason: str) -> bool:
            stages = asked.get("/v1/status").json["response"]["stages"]
            found = [one for stage in stages if stage["stage"] == "encoder" for one in stage["states"]]
            return [(one["process"], one["state"], one["reason"], one["restarts"]) for one in found] == [
                ("encoder-0", state, reason, 2)
            ]

        reporter.report(State.WAITING, "the folder is away")
        eventually(lambda: reported("waiting", "the folder is away"))
        text = asked.get("/metrics").body.decode()
        assert 'imagetools_stage_waiting{process="encoder-0",stage="encoder"} 1.0' in text
        assert 'imagetools_stage_restarts{process="encoder-0",stage="encoder"} 2.0' in text
        reporter.report(State.RUNNING)
        eventually(lambda: reported("running", ""))
        assert (
            'imagetools_stage_waiting{process="encoder-0",stage="encoder"} 0.0' in asked.get("/metrics").body.decode()
        )


def test_an_error_of_kafka_is_said_in_words() -> None:
    said = kafka_trouble(KafkaConfig("broker:9092"), KafkaException(KafkaError(KafkaError.OFFSET_NOT_AVAILABLE)))
    assert said == "Kafka: Broker: Leader high watermark is not caught up"


def test_a_bridge_that_had_died_says_that_it_serves_again(kafka: KafkaConfig, tmp_path: Path) -> None:
    with bridge(kafka, tmp_path, MEMBER_NAME="bridge-0", MEMBER_RESTARTS="1"):
        eventually(
            lambda: (
                [(one.process, one.state, one.restarts) for one in read_states(kafka)]
                == [("bridge-0", State.RUNNING, 1)]
            )
        )


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
    assert [(one["stage"], one["processes"]) for one in found] == [
        ("encoder", 1), ("search", 1), ("matcher", 1), ("grouping", 0)
    ]  # fmt: skip
    assert all(one["lag"] >= 0 and one["rate"] >= 0 for one in found)
