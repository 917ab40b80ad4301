"""A plot of a run's log."""

import json
from pathlib import Path

from imagetools.errors import PrerequisiteMissing


def draw(log: Path, picture: Path) -> None:
    """Plot the loss and the learning rate of each step as a PNG; PrerequisiteMissing without matplotlib."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as exc:
        raise PrerequisiteMissing("the plot needs matplotlib: pip install -e '.[train]' in the clone") from exc
    steps = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    at = [step["step"] for step in steps]
    loss = [step["loss"] for step in steps]
    losses.plot(at, loss, linewidth=0.5, alpha=0.4, label="each step")
    losses.plot(at, _smooth(loss), linewidth=1.5, label="running mean")
    losses.set_ylabel("loss")
    losses.legend()
    rates.plot(at, [step["rate"] for step in steps])
    rates.set_ylabel("learning rate")
    rates.set_xlabel("step")
    figure.savefig(picture)


def _smooth(values: list[float], share: float = 0.05) -> list[float]:
    """Return the exponential moving average, without bias at the start."""
    smooth, total, weight = [], 0.0, 0.0
    for value in values:
        total, weight = total + share * (value - total), weight + share * (1 - weight)
        smooth.append(total / weight)
    return smooth
