"""A real Kafka for every test that needs one, each under a prefix of its own."""

import os
import signal
import sys
import threading
import uuid
from collections.abc import Iterator

import pytest
from hypothesis import settings

from local_kafka.provider import provide_broker
from local_kafka.registry import LocalRegistry
from streams.config import KafkaConfig
from streams.kafka.admin import create_topics, delete_topics
from tests.support.object_store import ObjectServer

# the same examples in every run: what fails once fails again
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")


SLOWEST = (
    "test_whole",
    "test_up",
    "test_waiting",
    "test_contracts",
    "test_duplicates",
    "test_stage_client",
    "test_bodies",
    "test_exactly_once",
    "test_grouping_storm",
    "test_page",
    "test_search_stage",
    "test_train",
)
"""Where files are shared out among processes, these go first, so that none is left with a long one at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slowest files first; within a file as written."""
    items.sort(key=lambda item: SLOWEST.index(item.path.stem) if item.path.stem in SLOWEST else len(SLOWEST))


def pytest_configure() -> None:
    """What a shell starts in the background ignores SIGINT, and so would the processes that tests interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def bootstrap() -> Iterator[str]:
    """IMAGETOOLS_TEST_BOOTSTRAP, or a broker of its own; where none can be had the tests fail and say so."""
    named = os.environ.get("IMAGETOOLS_TEST_BOOTSTRAP")
    if named:
        yield named
        return
    with provide_broker() as own:
        yield own.bootstrap


@pytest.fixture(scope="session")
def registry() -> Iterator[LocalRegistry]:
    """A schema registry in memory."""
    with LocalRegistry.start() as started:
        yield started


@pytest.fixture
def kafka(bootstrap: str) -> Iterator[KafkaConfig]:
    """The topics under a fresh prefix, removed afterwards."""
    config = KafkaConfig(bootstrap, prefix=f"test-{uuid.uuid4().hex[:12]}.", member="test")
    create_topics(config)
    yield config
    delete_topics(config)


@pytest.fixture(scope="session")
def object_server() -> Iterator[ObjectServer]:
    """An S3 server; each test makes a bucket of its own in it."""
    with ObjectServer() as server:
        yield server


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A thread that a failed test left waiting keeps no process from ending."""
    session.config.add_cleanup(lambda: _leave(int(exitstatus)))


def _leave(status: int) -> None:
    if status and any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
