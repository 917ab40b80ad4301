"""The learning rate against torch's own schedulers, the planned length of a run, and the slow copy."""

import copy
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler

from training.averaging import update_average
from training.schedule import ASSUMED_STEPS, learning_rate, remaining_steps


def rates_of(make: type[LRScheduler], count: int, **settings: Any) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2)
    scheduler = make(optimizer, **settings)
    rates = []
    for _ in range(count):
        rates.append(float(scheduler.get_last_lr()[0]))
        optimizer.step()
        scheduler.step()
    return rates


def test_the_rate_rises_and_falls_as_torchs_schedulers_do() -> None:
    steps, rise = 200, 10
    expected = rates_of(LinearLR, rise, start_factor=1 / rise, total_iters=rise - 1)
    expected += rates_of(CosineAnnealingLR, steps - rise, T_max=steps - rise)
    assert [learning_rate(step, steps, 0.2) for step in range(steps)] == pytest.approx(expected)


def test_until_the_run_is_planned_the_rate_is_that_of_an_assumed_length() -> None:
    assert [learning_rate(step, None, 0.2) for step in range(9)] == [
        learning_rate(step, ASSUMED_STEPS, 0.2) for step in range(9)
    ]
    assert learning_rate(0, 1, 0.2) == 0.2


def test_the_first_step_does_not_count_for_the_length_of_a_run() -> None:
    assert remaining_steps([60.0] + [0.5] * 8, 10.0) == 20
    assert remaining_steps([60.0] + [0.5] * 8, -3.0) == 1


def test_the_slow_copy_averages_numbers_and_copies_counters() -> None:
    network = torch.nn.BatchNorm1d(2)
    average = copy.deepcopy(network)
    with torch.no_grad():
        network.weight.add_(1)
        network.get_buffer("running_mean").add_(2)
        network.get_buffer("num_batches_tracked").add_(7)
    update_average(average, network, 0.75)
    torch.testing.assert_close(average.weight.detach(), torch.full((2,), 1.25))
    torch.testing.assert_close(average.running_mean, torch.full((2,), 0.5))
    assert average.num_batches_tracked == 7
