"""Threads of the bridge that meet what nobody expected."""

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from http_bridge import alert_feed, background, monitor
from http_bridge.alert_feed import ALERT_FEED, AlertFeed
from http_bridge.background import Background
from http_bridge.monitor import MONITOR, Monitor, ready
from http_bridge.topic_view import TOPIC_VIEW, TopicView
from streams.config import KafkaConfig
from streams.requests.client import RequestClient
from streams.topics import DEAD_LETTERS
from tests.support.bridging import eventually
from tests.support.coroutines import run
from tests.support.streaming import send_raw


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "RETRY_S", 0.05)
    monkeypatch.setattr(background, "SETTLED_S", 0.2)


def test_a_fault_is_logged_once_and_the_work_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    left = [ValueError("odd"), ValueError("odd"), ValueError("odd")]
    faults = []

    def work() -> None:
        faults.append(thread.fault)
        thread.working()
        if left:
            raise left.pop()
        thread.wait(0.02)

    thread = Background("trying", work)
    with caplog.at_level(logging.ERROR):
        thread.start()
        eventually(lambda: not left and not thread.fault, 10)
        thread.close()
    assert [record.message for record in caplog.records] == ["trying"]
    assert faults[:4] == ["", *["a fault while trying: odd; the log of the bridge has more"] * 3]


async def _answers(kafka: KafkaConfig, faulty: list[bool]) -> list[tuple[int, Any]]:
    """Return what /readyz says while threads fail, and once they do not."""
    client, view = RequestClient(kafka), TopicView(kafka, None, [])
    watched, alerts = Monitor(kafka, client), AlertFeed(kafka)
    app = {MONITOR: watched, ALERT_FEED: alerts, TOPIC_VIEW: view}

    async def answer() -> tuple[int, Any]:
        found = await ready(SimpleNamespace(app=app))  # type: ignore[arg-type]
        return found.status, found.body

    async def until(status: int, text: bytes) -> tuple[int, Any]:
        async with asyncio.timeout(30):
            while (found := await answer())[0] != status or text not in found[1]:
                await asyncio.sleep(0.02)
        return found

    try:
        said = [await until(503, b"a fault while")]
        faulty.clear()
        return [*said, await until(200, b"ready")]
    finally:
        for one in (view, watched, client, alerts):
            await asyncio.to_thread(one.close)


@pytest.mark.parametrize(
    ("module", "name", "doing"),
    [(alert_feed, "read_dead_letter", b"following alerts"), (monitor, "StateFollower", b"watching the stages")],
)
def test_a_fault_on_a_thread_makes_the_bridge_unready_until_it_is_over(
    kafka: KafkaConfig, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, doing: bytes
) -> None:
    faulty, works = [True], getattr(module, name)

    def fails(*args: Any) -> Any:
        if faulty:
            raise ValueError("nobody expects this")
        return works(*args)

    monkeypatch.setattr(module, name, fails)
    send_raw(kafka, DEAD_LETTERS, [(b"a.png", b"x")])
    unready, is_ready = run(_answers(kafka, faulty))
    assert doing in unready[1]
    assert b"nobody expects this" in unready[1]
    assert is_ready[0] == 200
