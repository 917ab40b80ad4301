"""The files of a run: its checkpoint, its log and its newest weights."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from imagetools.errors import ImageToolsError, ModelError
from imagetools.fingerprint.networks import PROJECTION
from training.config import TrainConfig

CHECKPOINT, LOG, LATEST = "checkpoint.pt", "log.jsonl", "latest.th"
FREE_SETTINGS: Final = {"minutes", "checkpoint_s", "steps"}
"""Settings that may change when a run is resumed."""


class RunMismatch(ImageToolsError):
    """A checkpoint of another run."""


def write(state: Any, path: Path) -> None:
    """Save with torch; a crash leaves the previous file intact."""
    draft = path.with_name(path.name + ".part")
    torch.save(state, draft)
    os.replace(draft, path)


def read(path: Path, config: TrainConfig, origin: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Return the state that a run with these settings and this origin saved.

    ModelError if the file is unreadable; RunMismatch if the run had another origin or settings that change the result.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as exc:
        raise ModelError(f"{path}: no checkpoint that can be read: {exc}") from exc
    # through JSON, which makes lists of tuples
    ours, theirs = (json.loads(json.dumps(settings)) for settings in (asdict(config), state["config"]))
    changed = [name for name in ours if name not in FREE_SETTINGS and ours[name] != theirs.get(name)]
    changed += [name for name, value in origin.items() if state["origin"].get(name) != value]
    if changed:
        raise RunMismatch(f"{path}: a run with another {', '.join(changed)}; remove its folder to start over")
    return state


def export(network: nn.Module, path: Path) -> None:
    """Write a torchvision state dict in float16, with the projection, if any, and without a classifier.

    ModelError if a weight overflows float16.
    """
    state = {re.sub("^fc[.]", PROJECTION, name): value for name, value in network.state_dict().items()}
    half = {name: (v.half() if v.is_floating_point() else v).cpu().contiguous() for name, v in state.items()}
    broken = [name for name, value in half.items() if not torch.isfinite(value).all()]
    if broken:
        raise ModelError(f"{path}: numbers that are not finite in {broken[0]}: the training has diverged")
    write(half, path)


def truncate_log(log: Path, last_step: int) -> None:
    """Drop the lines of later steps, which will be repeated."""
    if log.exists():
        lines = log.read_text("utf-8").splitlines()
        log.write_text("".join(line + "\n" for line in lines if _is_up_to(line, last_step)), "utf-8")


def _is_up_to(line: str, last_step: int) -> bool:
    try:
        return int(json.loads(line)["step"]) <= last_step
    except (ValueError, KeyError, TypeError):
        # a kill cut this line short
        return False
