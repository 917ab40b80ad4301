"""Seeded random values, one for each view of a batch."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

Tensor = torch.Tensor


@dataclass
class Dice:
    """Draws one value for each view of a batch."""

    count: int
    rng: torch.Generator
    device: torch.device = field(init=False)

    def __post_init__(self) -> None:
        self.device = self.rng.device

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Draw uniformly from [low, high): float32 (n, *shape)."""
        return low + (high - low) * torch.rand(self.count, *shape, generator=self.rng, device=self.device)

    def chance(self, share: float) -> Tensor:
        """Draw True with this probability: bool (n,)."""
        return torch.rand(self.count, generator=self.rng, device=self.device) < share

    def pick(self, shares: Sequence[float]) -> Tensor:
        """Draw indices in these proportions: int64 (n,)."""
        weights = torch.tensor(shares, dtype=torch.float32, device=self.device)
        return torch.multinomial(weights, self.count, replacement=True, generator=self.rng)

    def colour(self) -> Tensor:
        """Draw black, white or any color: (n, 3, 1, 1)."""
        kind = self.pick((0.4, 0.3, 0.3)).view(-1, 1, 1, 1)
        flat = (kind == 1).float().expand(-1, 3, 1, 1)
        return torch.where(kind == 2, self.uniform(0, 1, 3, 1, 1), flat)
