"""Work that takes long says so."""

import threading

from cli.slow_progress import said_if_slow


def test_only_what_takes_longer_than_usual_is_said() -> None:
    said: list[str] = []
    came = threading.Event()

    def say(text: str) -> None:
        said.append(text)
        came.set()

    with said_if_slow(say, "quick", 60):
        pass
    with said_if_slow(say, "slow", 0.01):
        assert came.wait(10)
    assert said == ["slow"]
