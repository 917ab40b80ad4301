"""The training: views of photos → a network that tells copies from strangers.

Every random number is a function of the seed and the step, so that a run which goes on from a checkpoint ends as one
that was never interrupted.
"""

import copy
import json
import math
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import nn

from imagetools.errors import ImageToolsError, ModelError
from imagetools.fingerprint.encoder import Encoder
from imagetools.fingerprint.networks import PROJECTION, Projection, dimension_of
from imagetools.fingerprint.normalization import IMAGENET_DEVIATION, IMAGENET_MEAN
from imagetools.hardware import processor_computes_bfloat16
from training.augment import AugmentConfig, edited, plain
from training.losses import contrast, distance_to_teacher, koleo, nt_xent
from training.photos import Photos
from training.projection import fit_projection

Tensor = torch.Tensor

CHECKPOINT, LOG, LATEST = "checkpoint.pt", "log.jsonl", "latest.th"
TIMED_STEPS: Final = 8
"""Steps after the first, which is slow, whose median time tells how many fit into the minutes given."""

TWINS: Final = 0.9
"""Cosine of two originals' fingerprints from which they are taken for the same picture, and not for strangers: a
collection to be cleaned of duplicates has some. Different garments on one bedsheet reach 0.86."""


class RunMismatch(ImageToolsError):
    """A checkpoint of another run."""


@dataclass(frozen=True)
class TrainConfig:
    """How a network is trained.

    minutes       that the run is planned for, by the speed of its first steps
    steps         in all; None: as many as fit into the minutes
    size          pixels of a view's side
    batch         photos a step
    views         edited views of each photo and step
    rate          AdamW's highest learning rate; it rises over the first twentieth, then falls as a cosine to 0
    memory        originals of past steps that queries are told from besides those of the batch; 0: NT-Xent alone
    slow          share of the slow copy that each step keeps. Originals are described by that copy (MoCo, He et al.
                  2020): with the network's own past fingerprints, all new ones flee the old together
    frozen        the stem and so many of the four layers stay as they are; 0: nothing does
    projection    end in a linear map, fitted to the photos first; a network that has one keeps it
    statistics    let batch norm's running statistics follow the views; else they stay as they are
    spread        weight of KoLeo
    taught        weight of the distance to the teacher, where there is one
    """

    minutes: float = 120.0
    steps: int | None = None
    size: int = 128
    batch: int = 64
    views: int = 1
    rate: float = 2e-4
    decay: float = 1e-4
    temperature: float = 0.07
    memory: int = 4096
    slow: float = 0.98
    frozen: int = 2
    projection: bool = True
    statistics: bool = False
    spread: float = 0.1
    taught: float = 1.0
    seed: int = 0
    checkpoint_s: float = 300.0
    augment: AugmentConfig = field(default_factory=AugmentConfig)


@dataclass(frozen=True)
class Step:
    """What one step did. rate: learning rate; seconds: since the run began, in all its parts."""

    step: int
    steps: int | None
    loss: float
    rate: float
    seconds: float


class Trainer:
    """A run, with its folder: checkpoint, log, and the newest weights.

    Where the machine has it, the network and its slow copy compute in bfloat16; the weights of both, the projection and
    its fit, the losses and the memory are float32.

    network  a ResNet as `load_network` gives it, of which a copy is trained
    name     of what the training starts from; a run goes on only from the same
    teacher  an encoder whose fingerprints of the originals a linear head must tell from the views'
    """

    def __init__(
        self, network: nn.Module, name: str, photos: Photos, folder: Path, config: TrainConfig, *,
        teacher: Encoder | None = None,
    ) -> None:  # fmt: skip
        self.config = config
        self.step = 0
        self.steps = config.steps
        self._seconds = 0.0
        # in the middle of a step weights and memory do not fit together
        self._whole = True
        self._photos = photos
        self._folder = folder
        self._origin = {
            "photos": list(photos.paths),
            "model": name,
            "teacher": teacher.model if teacher else "",
        }
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        on_gpu = self.device.type == "cuda"
        self.bfloat16 = torch.cuda.is_bf16_supported() if on_gpu else processor_computes_bfloat16()
        shape = (1, 3, 1, 1)
        self._mean = torch.tensor(IMAGENET_MEAN, device=self.device).view(shape)
        self._deviation = torch.tensor(IMAGENET_DEVIATION, device=self.device).view(shape)
        self.network = copy.deepcopy(network).eval().to(self.device).to(memory_format=torch.channels_last)
        dimension = dimension_of(name, self.network, config.size)
        # one fitted to photos of all kinds serves garments better than one fitted to fewer garments alone
        self._unfitted = config.projection and not isinstance(self.network.fc, Projection)
        if self._unfitted:
            self.network.fc = Projection(dimension, dimension).to(self.device)
        self._kept = _freeze(self.network, config.frozen)
        self._slow = copy.deepcopy(self.network).requires_grad_(False).eval()
        self._teacher = teacher
        torch.manual_seed(config.seed)
        self._head = nn.Linear(dimension, teacher.dimension).to(self.device) if teacher else None
        trained = [p for p in self.network.parameters() if p.requires_grad]
        trained += list(self._head.parameters()) if self._head else []
        self._optimizer = torch.optim.AdamW(trained, lr=config.rate, weight_decay=config.decay)
        self._keys = torch.zeros(config.memory, dimension, device=self.device)
        # −1: nothing there yet
        self._ids = torch.full((config.memory,), -1, device=self.device)

    def run(self, on_step: Callable[[Step], None] | None = None) -> None:
        """Train to the last step; a checkpoint every few minutes, when interrupted, and at the end."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._unfitted:
            self._fit()
        saved_at = began = time.monotonic()
        before, times = self._seconds, []
        with self._kept_on_interrupt() as interrupted, (self._folder / LOG).open("a", encoding="utf-8") as log:
            while self.steps is None or self.step < self.steps:
                if interrupted.is_set():
                    raise KeyboardInterrupt
                started = time.monotonic()
                loss, rate = self._train_one()
                now = time.monotonic()
                self._seconds = before + now - began
                done = Step(self.step, self.steps, loss, rate, round(self._seconds, 3))
                log.write(json.dumps(asdict(done)) + "\n")
                log.flush()
                times.append(now - started)
                if self.steps is None and len(times) > TIMED_STEPS:
                    left = self.config.minutes * 60 - self._seconds
                    self.steps = self.step + max(1, int(left / sorted(times[1:])[len(times) // 2 - 1]))
                if on_step:
                    on_step(replace(done, steps=self.steps))
                if now - saved_at > self.config.checkpoint_s:
                    self.save()
                    saved_at = time.monotonic()
        self.save()

    def save(self) -> None:
        """Write the checkpoint and the newest weights; a crash meanwhile leaves the ones before."""
        state = {
            "config": asdict(self.config), "origin": self._origin, "step": self.step, "steps": self.steps,
            "seconds": self._seconds, "network": self.network.state_dict(), "slow": self._slow.state_dict(),
            "head": self._head.state_dict() if self._head else None, "optimizer": self._optimizer.state_dict(),
            "keys": self._keys, "ids": self._ids,
        }  # fmt: skip
        _write(state, self._folder / CHECKPOINT)
        self.export(self._folder / LATEST)

    def resume(self) -> None:
        """Go on from the folder's checkpoint.

        ModelError where it cannot be read, RunMismatch where it is of another model, other photos or settings that
        change the training; minutes, and how often to save, may differ.
        """
        path = self._folder / CHECKPOINT
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
        except Exception as exc:
            raise ModelError(f"{path}: no checkpoint that can be read: {exc}") from exc
        free = {"minutes", "checkpoint_s", "steps"}
        # through JSON as tuples and lists are the same there
        ours, theirs = (json.loads(json.dumps(config)) for config in (asdict(self.config), state["config"]))
        changed = [name for name in ours if name not in free and ours[name] != theirs.get(name)]
        changed += [name for name, value in self._origin.items() if state["origin"].get(name) != value]
        if changed:
            raise RunMismatch(f"{path}: a run with another {', '.join(changed)}; remove its folder to begin anew")
        self._unfitted = False
        self.network.load_state_dict(state["network"])
        self._slow.load_state_dict(state["slow"])
        if self._head:
            self._head.load_state_dict(state["head"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._keys, self._ids = state["keys"], state["ids"]
        self.step, self._seconds = state["step"], state["seconds"]
        self.steps = self.config.steps or state["steps"]
        log = self._folder / LOG
        if log.exists():
            # steps after the checkpoint are made again
            lines = log.read_text("utf-8").splitlines()
            log.write_text("".join(line + "\n" for line in lines if _step_of(line) <= self.step), "utf-8")

    def export(self, path: Path) -> None:
        """Write the slow copy: a torchvision state dict in float16, without a classifier, with the projection if any.

        ModelError for numbers that are too large for it.
        """
        state = {re.sub("^fc[.]", PROJECTION, name): value for name, value in self._slow.state_dict().items()}
        half = {name: (v.half() if v.is_floating_point() else v).cpu().contiguous() for name, v in state.items()}
        broken = [name for name, value in half.items() if not torch.isfinite(value).all()]
        if broken:
            raise ModelError(f"{path}: numbers that are not finite in {broken[0]}: the training has diverged")
        _write(half, path)

    @contextmanager
    def _kept_on_interrupt(self) -> Iterator[threading.Event]:
        """Let the step in hand end, and save it, when Ctrl-C or SIGTERM comes; a second one ends at once, unsaved."""
        interrupted = threading.Event()

        def interrupt(number: int, frame: FrameType | None) -> None:
            if interrupted.is_set():
                signal.default_int_handler(number, frame)
            interrupted.set()

        signals = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        before = {number: signal.signal(number, interrupt) for number in signals}
        try:
            yield interrupted
        except KeyboardInterrupt:
            if self._whole:
                self.save()
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _train_one(self) -> tuple[float, float]:
        """One step: its loss and its learning rate."""
        self._whole = False
        config = self.config
        rate = self._rate()
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        ids = self._chosen()
        rng = torch.Generator(self.device).manual_seed(config.seed * 1_000_003 + self.step)
        photos, aspects = self._photos_of(ids.numpy())
        ids = ids.to(self.device)
        views = [edited(photos, aspects, config.size, rng, config.augment) for _ in range(config.views)]
        originals = plain(photos, config.size)
        self.network.train(config.statistics)
        for part in self._kept:
            part.eval()
        rows = self._describe(self.network, torch.cat([view.pixels for view in views]))
        queries = [F.normalize(row, dim=1) for row in rows.chunk(config.views)]
        shows, touches = [view.shows for view in views], [view.touches for view in views]
        if config.memory:
            with torch.no_grad():
                keys = F.normalize(self._describe(self._slow, originals), dim=1)
            losses = [self._against_memory(q, keys, ids, s, t) for q, s, t in zip(queries, shows, touches, strict=True)]
        else:
            keys = F.normalize(self._describe(self.network, originals), dim=1)
            twins = _twins(keys.detach(), keys.detach())
            losses = [
                nt_xent(q, keys, s, t | (twins & ~s), config.temperature)
                for q, s, t in zip(queries, shows, touches, strict=True)
            ]
        loss = torch.stack(losses).mean()
        # a collage is near all that it shows, and no one photo's fingerprint is to be read from it
        alone = [s.sum(1) == 1 for s in shows]
        spread = [koleo(q[one]) for q, one in zip(queries, alone, strict=True) if one.sum() > 1]
        if spread:
            loss = loss + config.spread * torch.stack(spread).mean()
        if self._teacher is not None and self._head is not None and torch.cat(alone).any():
            taught = self._taught(self._teacher, originals).repeat(config.views, 1)[torch.cat(alone)]
            loss = loss + config.taught * distance_to_teacher(self._head(rows[torch.cat(alone)]), taught)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ModelError(f"step {self.step}: the loss is {value}: the training has diverged")
        self._optimizer.step()
        self._follow(keys.detach(), ids)
        self.step += 1
        self._whole = True
        return value, rate

    def _rate(self) -> float:
        """The learning rate of this step. While the number of steps is not known yet, the rise goes by 200 steps."""
        rise = max(1, (self.steps or 4000) // 20)
        if self.step < rise:
            return self.config.rate * (self.step + 1) / rise
        done = (self.step - rise) / max(1, (self.steps or 4000) - rise)
        return self.config.rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    def _chosen(self) -> Tensor:
        """The photos of this step: each epoch takes all in an order of its own, less what fills no batch."""
        count = len(self._photos)
        size = min(self.config.batch, count)
        epoch, place = divmod(self.step, count // size)
        rng = torch.Generator().manual_seed(self.config.seed * 7_919 + epoch)
        return torch.randperm(count, generator=rng)[place * size : (place + 1) * size]

    def _describe(self, network: nn.Module, pixels: Tensor, *, exactly: bool = False) -> Tensor:
        """Vectors before they are brought to unit length: float32 (n, d).

        exactly  compute in float32 whatever the machine
        """
        batch = ((pixels - self._mean) / self._deviation).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bfloat16 and not exactly):
            rows: Tensor = network(batch)
        return rows.float()

    def _against_memory(self, queries: Tensor, keys: Tensor, ids: Tensor, shows: Tensor, touches: Tensor) -> Tensor:
        filled = self._ids >= 0
        every = torch.cat((keys, self._keys[filled]))
        names = torch.cat((ids, self._ids[filled]))
        # a past fingerprint of a photo that the view has to do with is neither right nor wrong, and so is a twin
        related = (shows | touches).float() @ (ids[:, None] == names).float() > 0
        strangers_but = related | (shows.float() @ _twins(keys, every).float() > 0)
        strangers_but[:, : len(ids)] |= touches
        right = torch.zeros_like(related)
        right[:, : len(ids)] = shows
        return contrast(queries, every, right, strangers_but, self.config.temperature)

    @torch.no_grad()
    def _follow(self, keys: Tensor, ids: Tensor) -> None:
        """Let the slow copy follow the network, and the memory take the newest originals for its oldest."""
        ours, slow = self.network.state_dict(), self._slow.state_dict()
        for name, value in slow.items():
            if value.is_floating_point():
                value.lerp_(ours[name], 1 - self.config.slow)
            else:
                value.copy_(ours[name])
        if self.config.memory:
            size = min(len(keys), self.config.memory)
            self._keys = torch.cat((self._keys[size:], keys[:size]))
            self._ids = torch.cat((self._ids[size:], ids[:size]))

    @torch.no_grad()
    def _fit(self) -> None:
        """Fit the projection to the photos, which nothing has been learned from yet.

        In float32: it stretches most where vectors differ least, and there bfloat16's rounding would be fitted to.
        """
        body = copy.copy(self.network)
        body._modules = {**self.network._modules, "fc": nn.Identity()}
        weight, bias = fit_projection(
            lambda pixels: F.normalize(self._describe(body, pixels, exactly=True), dim=1),
            self._photos,
            torch.Generator(self.device).manual_seed(self.config.seed),
            replace(self.config.augment, plain=0.0),
        )
        for network in (self.network, self._slow):
            projection = network.get_submodule("fc")
            projection.get_parameter("weight").copy_(torch.from_numpy(weight))
            projection.get_parameter("bias").copy_(torch.from_numpy(bias))
        self._unfitted = False

    def _photos_of(self, rows: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Pixels, uint8 (n, 3, p, p), and aspects, on the device."""
        pixels = torch.from_numpy(self._photos.pixels[rows]).to(self.device).permute(0, 3, 1, 2)
        return pixels, torch.from_numpy(self._photos.aspects[rows]).to(self.device)

    def _taught(self, teacher: Encoder, originals: Tensor) -> Tensor:
        side = teacher.config.input_size
        pixels = F.interpolate(originals, (side, side), mode="bilinear", antialias=True, align_corners=False)
        rows = teacher.encode_prepared(list(_bytes(pixels)))
        return torch.from_numpy(rows).to(self.device)


def _twins(keys: Tensor, every: Tensor) -> Tensor:
    """Which originals are the same picture: bool (n, m)."""
    return keys @ every.T > TWINS


def _bytes(pixels: Tensor) -> npt.NDArray[np.uint8]:
    """float (n, 3, s, s), 0 to 1 → uint8 (n, s, s, 3)."""
    whole: npt.NDArray[np.uint8] = (pixels * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return whole


def _freeze(network: nn.Module, layers: int) -> list[nn.Module]:
    """Hold the stem and the first layers; what is held."""
    names = ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"]
    parts = [network.get_submodule(name) for name in names[: layers + 2]] if layers else []
    for part in parts:
        part.requires_grad_(False)
    return parts


def _write(state: Any, path: Path) -> None:
    draft = path.with_name(path.name + ".part")
    torch.save(state, draft)
    os.replace(draft, path)


def _step_of(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        # the line that was being written when the run was killed
        return 1 << 62
