"""Edits of color, sharpness and compression."""

import math

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation uses

from training.augment.config import AugmentConfig
from training.augment.dice import Dice

Tensor = torch.Tensor

RED_GREEN_BLUE_TO_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))
"""NTSC's luma and chroma, in which a change of hue is a rotation."""
LUMA = RED_GREEN_BLUE_TO_YIQ[0]

JPEG_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
"""Quantization at quality 50: ITU-T T.81, table K.1."""


def tinted(pixels: Tensor, dice: Dice, config: AugmentConfig, as_it_is: Tensor) -> Tensor:
    """Shift brightness, contrast, saturation and hue; turn some views grey."""
    chosen = (dice.chance(config.coloured) & ~as_it_is).float()
    greyed = dice.chance(config.greyed) & ~as_it_is

    def factor(low: float, high: float) -> Tensor:
        return 1 + chosen * (dice.uniform(low, high) - 1)

    to_yiq = pixels.new_tensor(RED_GREEN_BLUE_TO_YIQ)
    angle = chosen * dice.uniform(-0.5, 0.5)
    saturation = factor(0.5, 1.6) * ~greyed
    cos, sin = angle.cos() * saturation, angle.sin() * saturation
    one, zero = torch.ones_like(cos), torch.zeros_like(cos)
    turn = torch.stack((one, zero, zero, zero, cos, -sin, zero, sin, cos), dim=1).view(-1, 3, 3)
    matrix = torch.linalg.inv(to_yiq) @ turn @ to_yiq
    pixels = torch.einsum("nij,njhw->nihw", matrix, pixels) * factor(0.7, 1.3).view(-1, 1, 1, 1)
    mean = luma(pixels).mean((2, 3), keepdim=True)
    return ((pixels - mean) * factor(0.7, 1.4).view(-1, 1, 1, 1) + mean).clamp(0, 1)


def blurred(pixels: Tensor, chosen: Tensor, dice: Dice) -> Tensor:
    """Blur the chosen views by a Gaussian of up to 1.5 % of the side."""
    sigma = dice.uniform(0.004, 0.015) * pixels.shape[-1]
    picks = chosen.nonzero()[:, 0]
    if not len(picks):
        return pixels
    reach = min(pixels.shape[-1] - 1, math.ceil(0.035 * pixels.shape[-1]))
    taps = torch.arange(-reach, reach + 1, device=pixels.device)
    weights = torch.exp(-0.5 * (taps / sigma[picks, None]) ** 2)
    weights = (weights / weights.sum(1, keepdim=True)).view(len(picks), -1, 1, 1, 1)
    soft = pixels[picks]
    for side in (2, 3):
        padded = F.pad(soft, (reach, reach, 0, 0) if side == 3 else (0, 0, reach, reach), mode="reflect")
        length = soft.shape[side]
        soft = torch.stack([padded.narrow(side, k, length) * weights[:, k] for k in range(len(taps))]).sum(0)
    pixels = pixels.clone()
    pixels[picks] = soft
    return pixels


def compressed(pixels: Tensor, chosen: Tensor, dice: Dice) -> Tensor:
    """Quantize the chosen views as JPEG does: the cosine transform of 8 × 8 blocks, all channels by the luma table.

    Quality 25 to 90: real photos are compressed at several times a view's size, where the same quality loses less.
    """
    quality = dice.uniform(25, 90)
    picks = chosen.nonzero()[:, 0]
    size = pixels.shape[-1]
    if not len(picks):
        return pixels
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50)[picks].view(-1, 1, 1, 1, 1, 1)
    k = torch.arange(8, device=pixels.device, dtype=pixels.dtype)
    cosines = torch.cos((2 * k + 1) * k[:, None] * math.pi / 16) / 2
    cosines[0] /= math.sqrt(2)
    rest = -size % 8
    whole = F.pad(pixels[picks], (0, rest, 0, rest), mode="replicate")
    blocks = whole.unfold(2, 8, 8).unfold(3, 8, 8) * 255 - 128
    waves = cosines @ blocks @ cosines.T
    table = pixels.new_tensor(JPEG_LUMA) * scale
    blocks = cosines.T @ ((waves / table).round() * table) @ cosines
    joined = ((blocks + 128) / 255).permute(0, 1, 2, 4, 3, 5).reshape(whole.shape)[..., :size, :size]
    pixels = pixels.clone()
    pixels[picks] = joined.clamp(0, 1)
    return pixels


def luma(pixels: Tensor) -> Tensor:
    """Return the brightness: (n, 1, height, width)."""
    return (pixels * pixels.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
