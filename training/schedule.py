"""The learning rate and the number of steps.

Both are functions of what the checkpoint holds anyway. torch's schedulers keep a step count of their own, and they need
the total at the start, while a run that is given minutes knows it only after its first steps.
"""

import math
from collections.abc import Sequence
from typing import Final

TIMED_STEPS: Final = 8
"""Steps to time before planning the run; the first one is slow and does not count."""
ASSUMED_STEPS: Final = 4000
"""Total until the run is planned."""


def learning_rate(step: int, steps: int | None, highest: float) -> float:
    """Return the rate of a step: a linear rise over the first twentieth, then half a cosine down to 0."""
    total = steps or ASSUMED_STEPS
    rise = max(1, total // 20)
    if step < rise:
        return highest * (step + 1) / rise
    done = (step - rise) / max(1, total - rise)
    return highest * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def remaining_steps(durations: Sequence[float], seconds: float) -> int:
    """Return how many more steps fit into the seconds, by the median duration of the steps so far; at least one.

    durations  of more than TIMED_STEPS steps, the first of which is left out
    """
    return max(1, int(seconds / sorted(durations[1:])[len(durations) // 2 - 1]))
