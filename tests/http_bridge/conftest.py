"""Bridges that several files share: one with Kafka and all stages, and one without Kafka."""

import uuid
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from streams.config import KafkaConfig
from streams.kafka.admin import create_topics, delete_topics
from streams.topics import VERDICTS
from tests.support.bridging import NOWHERE, Bridge, Service, answering, bridge, fingerprint_of, stages
from tests.support.browsing import chromium
from tests.support.streaming import Reader, write_groups


@pytest.fixture(scope="package")
def service(bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A bridge, the stages and three announced images; once for the package, since it takes seconds to start."""
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


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="package")
def fingerprint(service: Service) -> list[float]:
    return fingerprint_of(service.bridge, "0.png")


@pytest.fixture(scope="package")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """A bridge without Kafka: a request that gets as far as 503 was read in full."""
    folder = tmp_path_factory.mktemp("bridge")
    with bridge(NOWHERE, folder, SERVER_PORT="0", BRIDGE_BODY_TIMEOUT_S="1", BRIDGE_BODIES="20") as found:
        yield found
        assert "Traceback" not in found.log.read_text()
