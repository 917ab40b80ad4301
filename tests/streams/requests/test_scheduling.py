"""Slices of a batch and requests: never two at a time, requests first, and half of the time for each."""

import threading
import time
from collections.abc import Callable, Sequence

import pytest

from streams.requests import scheduling
from streams.requests.scheduling import SLICE_S, BatchSlicer, SliceScheduler
from tests.support.bridging import eventually

RUN_S = 1.0
PATIENCE_S = 60.0


def spin(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.001)


def in_threads(*work: Callable[[], object]) -> None:
    threads = [threading.Thread(target=one, daemon=True) for one in work]
    for thread in threads:
        thread.start()
    until = time.monotonic() + PATIENCE_S
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    assert not any(thread.is_alive() for thread in threads), "a thread waits for its turn forever"


def test_there_is_never_more_than_one_at_work() -> None:
    scheduler, inside, seen = SliceScheduler(), [], []

    def work(turn: Callable[[], object]) -> None:
        for _ in range(50):
            with turn():  # type: ignore[attr-defined]
                inside.append(1)
                seen.append(len(inside))
                inside.pop()

    in_threads(*[lambda: work(scheduler.batch_slice)] * 2, *[lambda: work(scheduler.request)] * 4)
    assert seen == [1] * 300


def test_a_request_comes_before_the_next_slice() -> None:
    scheduler, order = SliceScheduler(), []
    asked = threading.Event()

    def ask() -> None:
        asked.set()
        with scheduler.request():
            order.append("request")

    def run_slice(piece: Sequence[int]) -> Sequence[int]:
        order.append("slice")
        return piece

    with scheduler.batch_slice():
        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        asked.wait()
        eventually(lambda: scheduler.queued_requests)
        slices = threading.Thread(
            target=lambda: BatchSlicer(scheduler, 1).map(run_slice, [1]),
            daemon=True,
        )
        slices.start()
    thread.join()
    slices.join()
    assert order == ["request", "slice"]


def test_requests_that_never_end_leave_half_of_the_time_to_the_batch() -> None:
    scheduler, spent = SliceScheduler(), {"batch": 0.0, "request": 0.0}
    end = time.monotonic() + 4 * RUN_S

    def work(name: str, turn: Callable[[], object]) -> None:
        while time.monotonic() < end:
            with turn():  # type: ignore[attr-defined]
                began = time.monotonic()
                spin(0.01)
                spent[name] += time.monotonic() - began

    in_threads(lambda: work("batch", scheduler.batch_slice), *[lambda: work("request", scheduler.request)] * 3)
    # requests may first use up what they have saved
    assert spent["batch"] >= (spent["request"] - RUN_S) * 0.8
    assert spent["request"] >= spent["batch"] * 0.8


@pytest.mark.parametrize("exclusive", [True, False])
def test_all_go_on_when_the_credit_of_the_requests_ends_while_everybody_waits(
    exclusive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # so short that it often ends between the batch's look at it and a request's
    monkeypatch.setattr(scheduling, "MAX_CREDIT_S", 2e-5)
    scheduler = SliceScheduler(exclusive=exclusive)

    def work(turn: Callable[[], object]) -> None:
        for _ in range(2000):
            with turn():  # type: ignore[attr-defined]
                pass

    in_threads(lambda: work(scheduler.batch_slice), *[lambda: work(scheduler.request)] * 3)


def test_requests_alone_wait_for_nobody() -> None:
    scheduler = SliceScheduler()
    began = time.monotonic()
    for _ in range(30):
        with scheduler.request():
            spin(0.05)
    # far more than their credit, and still no pause
    assert time.monotonic() - began < 30 * 0.05 * 2


def test_slices_grow_and_shrink_to_fit_their_time() -> None:
    for cost_s, least, most in ((0.0001, 32, 64), (SLICE_S / 3, 1, 4), (4 * SLICE_S, 1, 1)):
        sizes: list[int] = []

        def work(piece: list[int], cost_s: float = cost_s, sizes: list[int] = sizes) -> list[int]:
            sizes.append(len(piece))
            spin(cost_s * len(piece))
            return [2 * one for one in piece]

        scheduler = SliceScheduler()
        slices = BatchSlicer(scheduler, 64)
        assert slices.map(lambda piece: [len(piece)] * len(piece), range(100)) == [100] * 100, "whole while nobody asks"
        with scheduler.request():
            pass
        count = 4 * 64 if cost_s < 0.01 else 24
        assert slices.map(work, list(range(count))) == [2 * n for n in range(count)]  # type: ignore[arg-type]
        assert sum(sizes) == count
        assert all(least <= size <= most for size in sizes[4:-1]), (cost_s, sizes)


def test_requests_beside_a_slice_begin_at_once_and_the_next_slice_waits_for_them() -> None:
    scheduler, order = SliceScheduler(exclusive=False), []
    go_on = threading.Event()

    def ask() -> None:
        with scheduler.request():
            order.append("request")
            go_on.wait()
            order.append("answered")

    def run_slice(piece: Sequence[int]) -> Sequence[int]:
        order.append("slice")
        return piece

    with scheduler.batch_slice():
        threads = [threading.Thread(target=ask, daemon=True) for _ in range(2)]
        for thread in threads:
            thread.start()
        eventually(lambda: order == ["request", "request"])
    slices = threading.Thread(
        target=lambda: BatchSlicer(scheduler, 1).map(run_slice, [1]),
        daemon=True,
    )
    slices.start()
    go_on.set()
    for thread in (*threads, slices):
        thread.join()
    assert order == ["request", "request", "answered", "answered", "slice"]
