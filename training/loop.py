"""The training loop: views of photos → a network that tells copies from strangers.

Every random number depends on the seed and the step alone, so that a resumed run ends like one that was never
interrupted.
"""

import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Event
from typing import TextIO

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation uses
from torch import nn

from imagetools.errors import ModelError
from imagetools.fingerprint.encoder import Encoder
from imagetools.fingerprint.networks import Projection, dimension_of
from training.augment.views import draw_views, resize_photos
from training.averaging import update_average
from training.checkpoint import CHECKPOINT, LATEST, LOG, export, read, truncate_log, write
from training.config import TrainConfig
from training.interrupts import deferred_interrupts
from training.memory import KeyMemory
from training.network_runner import NetworkRunner
from training.objective import Batch, Objective
from training.photos import TrainingPhotos
from training.projection import fit_projection
from training.schedule import TIMED_STEPS, learning_rate, remaining_steps

LAYERS = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")
"""Of a ResNet, from the stem on."""


@dataclass(frozen=True)
class Step:
    """A finished step.

    rate     learning rate
    seconds  since the run began, interruptions left out
    """

    step: int
    steps: int | None
    loss: float
    rate: float
    seconds: float


class Trainer:
    """A run, with its folder: checkpoint, log and newest weights.

    Where the machine is fast in bfloat16, the network and its slow copy compute in it. Their weights, the projection
    and its fit, the losses and the memory are float32.

    network  a ResNet from `load_network`; a copy of it is trained
    name     of the starting network; a run resumes from the same one only
    teacher  an encoder; a linear head learns to predict its fingerprints of the originals from the views
    """

    def __init__(
        self, network: nn.Module, name: str, photos: TrainingPhotos, folder: Path, config: TrainConfig, *,
        teacher: Encoder | None = None,
    ) -> None:  # fmt: skip
        self.config = config
        self.step = 0
        self.steps = config.steps
        self._seconds = 0.0
        # during a step, the weights and the memory do not match
        self._consistent = True
        self._photos = photos
        self._folder = folder
        self._origin = {"photos": list(photos.paths), "model": name, "teacher": teacher.model if teacher else ""}
        self.runner = NetworkRunner()
        self.device = self.runner.device
        self.network = copy.deepcopy(network).eval().to(self.device).to(memory_format=torch.channels_last)
        dimension = dimension_of(name, self.network, config.size)
        # an existing projection stays: fitted to photos of all kinds, it serves garments better than one fitted to
        # fewer garments alone
        self._unfitted = config.projection and not isinstance(self.network.fc, Projection)
        if self._unfitted:
            self.network.fc = Projection(dimension, dimension).to(self.device)
        self._frozen = _freeze(self.network, config.frozen)
        self._slow = copy.deepcopy(self.network).requires_grad_(False).eval()
        torch.manual_seed(config.seed)
        self._head = nn.Linear(dimension, teacher.dimension).to(self.device) if teacher else None
        trained = [p for p in self.network.parameters() if p.requires_grad]
        trained += list(self._head.parameters()) if self._head else []
        self._optimizer = torch.optim.AdamW(trained, lr=config.rate, weight_decay=config.decay)
        self._memory = KeyMemory(config.memory, dimension, self.device)
        self._objective = Objective(config, self.runner, self.network, self._slow, self._memory, teacher, self._head)

    def run(self, on_step: Callable[[Step], None] | None = None) -> None:
        """Train to the last step; save a checkpoint every few minutes, when interrupted, and at the end."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._unfitted:
            self._fit()
        with deferred_interrupts() as interrupted, (self._folder / LOG).open("a", encoding="utf-8") as log:
            try:
                self._take_steps(log, interrupted, on_step)
            except KeyboardInterrupt:
                if self._consistent:
                    self.save()
                raise
        self.save()

    def save(self) -> None:
        """Write the checkpoint and the newest weights; a crash meanwhile leaves the previous ones."""
        state = {
            "config": asdict(self.config), "origin": self._origin, "step": self.step, "steps": self.steps,
            "seconds": self._seconds, "network": self.network.state_dict(), "slow": self._slow.state_dict(),
            "head": self._head.state_dict() if self._head else None, "optimizer": self._optimizer.state_dict(),
            "keys": self._memory.keys, "ids": self._memory.ids,
        }  # fmt: skip
        write(state, self._folder / CHECKPOINT)
        self.export(self._folder / LATEST)

    def resume(self) -> None:
        """Continue from the folder's checkpoint.

        ModelError if it is unreadable; RunMismatch if it is of another model, of other photos or of settings that
        change the result. Minutes, steps and the time between checkpoints may differ.
        """
        state = read(self._folder / CHECKPOINT, self.config, self._origin, self.device)
        self._unfitted = False
        self.network.load_state_dict(state["network"])
        self._slow.load_state_dict(state["slow"])
        if self._head:
            self._head.load_state_dict(state["head"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._memory.keys, self._memory.ids = state["keys"], state["ids"]
        self.step, self._seconds = state["step"], state["seconds"]
        self.steps = self.config.steps or state["steps"]
        truncate_log(self._folder / LOG, self.step)

    def export(self, path: Path) -> None:
        """Write the slow copy as a model file; ModelError if a weight overflows float16."""
        export(self._slow, path)

    def _take_steps(self, log: TextIO, interrupted: Event, on_step: Callable[[Step], None] | None) -> None:
        saved_at = began = time.monotonic()
        before, durations = self._seconds, []
        while self.steps is None or self.step < self.steps:
            if interrupted.is_set():
                raise KeyboardInterrupt
            started = time.monotonic()
            loss, rate = self._take_step()
            now = time.monotonic()
            self._seconds = before + now - began
            done = Step(self.step, self.steps, loss, rate, round(self._seconds, 3))
            log.write(json.dumps(asdict(done)) + "\n")
            log.flush()
            durations.append(now - started)
            if self.steps is None and len(durations) > TIMED_STEPS:
                self.steps = self.step + remaining_steps(durations, self.config.minutes * 60 - self._seconds)
            if on_step:
                on_step(replace(done, steps=self.steps))
            if now - saved_at > self.config.checkpoint_s:
                self.save()
                saved_at = time.monotonic()

    def _take_step(self) -> tuple[float, float]:
        """Take one step; return its loss and its learning rate."""
        self._consistent = False
        rate = learning_rate(self.step, self.steps, self.config.rate)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        batch = self._next_batch()
        self.network.train(self.config.statistics)
        for part in self._frozen:
            part.eval()
        loss, keys = self._objective.of(batch)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ModelError(f"step {self.step}: the loss is {value}: the training has diverged")
        self._optimizer.step()
        update_average(self._slow, self.network, self.config.slow)
        self._memory.push(keys, batch.ids)
        self.step += 1
        self._consistent = True
        return value, rate

    def _next_batch(self) -> Batch:
        ids = self._next_ids()
        rng = torch.Generator(self.device).manual_seed(self.config.seed * 1_000_003 + self.step)
        rows = ids.numpy()
        photos = torch.from_numpy(self._photos.pixels[rows]).to(self.device).permute(0, 3, 1, 2)
        aspects = torch.from_numpy(self._photos.aspects[rows]).to(self.device)
        size, augment = self.config.size, self.config.augment
        views = [draw_views(photos, aspects, size, rng, augment) for _ in range(self.config.views)]
        return Batch(ids.to(self.device), resize_photos(photos, size), views)

    def _next_ids(self) -> torch.Tensor:
        """Return the photos of this step. Each epoch shuffles all photos and drops those that do not fill a batch."""
        count = len(self._photos)
        size = min(self.config.batch, count)
        epoch, place = divmod(self.step, count // size)
        rng = torch.Generator().manual_seed(self.config.seed * 7_919 + epoch)
        return torch.randperm(count, generator=rng)[place * size : (place + 1) * size]

    @torch.no_grad()
    def _fit(self) -> None:
        """Fit the projection to the photos, before anything is trained.

        In float32: the projection stretches most where vectors differ least, and would amplify bfloat16's rounding.
        """
        body = copy.copy(self.network)
        body._modules = {**self.network._modules, "fc": nn.Identity()}
        weight, bias = fit_projection(
            lambda pixels: F.normalize(self.runner.describe(body, pixels, in_float32=True), dim=1),
            self._photos,
            torch.Generator(self.device).manual_seed(self.config.seed),
            replace(self.config.augment, plain=0.0),
        )
        for network in (self.network, self._slow):
            projection = network.get_submodule("fc")
            projection.get_parameter("weight").copy_(torch.from_numpy(weight))
            projection.get_parameter("bias").copy_(torch.from_numpy(bias))
        self._unfitted = False


def _freeze(network: nn.Module, layers: int) -> list[nn.Module]:
    """Freeze the stem and the first layers; return the frozen parts."""
    parts = [network.get_submodule(name) for name in LAYERS[: layers + 2]] if layers else []
    for part in parts:
        part.requires_grad_(False)
    return parts
