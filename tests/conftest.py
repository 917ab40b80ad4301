"""A real Kafka for every test that needs one, each under a prefix of its own."""

import os
import uuid
from collections.abc import Iterator

import pytest
from hypothesis import settings

from streams.config import KafkaConfig
from streams.local_kafka import broker
from streams.topics import create, delete

# the same examples in every run: what fails once fails again
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def bootstrap() -> Iterator[str]:
    """IMAGETOOLS_TEST_BOOTSTRAP, or a broker of its own; where none can be had the tests fail and say so."""
    named = os.environ.get("IMAGETOOLS_TEST_BOOTSTRAP")
    if named:
        yield named
        return
    with broker() as own:
        yield own.bootstrap


@pytest.fixture
def kafka(bootstrap: str) -> Iterator[KafkaConfig]:
    """The topics under a fresh prefix, removed afterwards."""
    config = KafkaConfig(bootstrap, prefix=f"test-{uuid.uuid4().hex[:12]}.", member="test")
    create(config)
    yield config
    delete(config)
