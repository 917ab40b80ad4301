"""The loss of one step: contrast, spread, and the distance to a teacher."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation uses
from torch import nn

from imagetools.fingerprint.encoder import Encoder
from training.augment.views import Views
from training.config import TrainConfig
from training.losses import distance_to_teacher, koleo, nt_xent
from training.memory import KeyMemory, twins
from training.network_runner import NetworkRunner

Tensor = torch.Tensor


@dataclass(frozen=True)
class Batch:
    """What a step trains on.

    ids        int64 (n,), the photos
    originals  float32 (n, 3, size, size), 0 to 1
    views      edited views of all the photos
    """

    ids: Tensor
    originals: Tensor
    views: Sequence[Views]


@dataclass(frozen=True)
class Objective:
    """Computes the loss of a batch.

    network  describes the views
    slow     describes the originals, if there is a memory
    teacher  its fingerprints of the originals are predicted by `head` from the vectors of the views
    """

    config: TrainConfig
    runner: NetworkRunner
    network: nn.Module
    slow: nn.Module
    memory: KeyMemory
    teacher: Encoder | None = None
    head: nn.Linear | None = None

    def of(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the loss, and the keys of the originals: (n, d), of unit length, without a gradient."""
        rows = self.runner.describe(self.network, torch.cat([view.pixels for view in batch.views]))
        queries = [F.normalize(row, dim=1) for row in rows.chunk(len(batch.views))]
        loss, keys = self._contrast(queries, batch)
        # a collage resembles all that it shows, and no single photo's fingerprint can be read from it
        alone = [view.shows.sum(1) == 1 for view in batch.views]
        spread = [koleo(q[one]) for q, one in zip(queries, alone, strict=True) if one.sum() > 1]
        if spread:
            loss = loss + self.config.spread * torch.stack(spread).mean()
        if self.teacher is not None and self.head is not None and torch.cat(alone).any():
            taught = _fingerprints(self.teacher, batch.originals).repeat(len(batch.views), 1)[torch.cat(alone)]
            loss = loss + self.config.taught * distance_to_teacher(self.head(rows[torch.cat(alone)]), taught)
        return loss, keys

    def _contrast(self, queries: Sequence[Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
        temperature = self.config.temperature
        pairs = list(zip(queries, batch.views, strict=True))
        if self.config.memory:
            with torch.no_grad():
                keys = F.normalize(self.runner.describe(self.slow, batch.originals), dim=1)
            losses = [
                self.memory.contrast(q, keys, batch.ids, view.shows, view.touches, temperature) for q, view in pairs
            ]
        else:
            keys = F.normalize(self.runner.describe(self.network, batch.originals), dim=1)
            same = twins(keys.detach(), keys.detach())
            losses = [
                nt_xent(q, keys, view.shows, view.touches | (same & ~view.shows), temperature) for q, view in pairs
            ]
        return torch.stack(losses).mean(), keys.detach()


def _fingerprints(teacher: Encoder, originals: Tensor) -> Tensor:
    side = teacher.config.input_size
    pixels = F.interpolate(originals, (side, side), mode="bilinear", antialias=True, align_corners=False)
    rows = teacher.encode_prepared(list(_as_bytes(pixels)))
    return torch.from_numpy(rows).to(originals.device)


def _as_bytes(pixels: Tensor) -> npt.NDArray[np.uint8]:
    """Float (n, 3, s, s), 0 to 1 → uint8 (n, s, s, 3)."""
    rounded: npt.NDArray[np.uint8] = (pixels * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return rounded
