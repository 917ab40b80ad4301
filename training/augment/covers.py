"""Patches and captions over a view."""

import math

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation uses

from training.augment.dice import Dice
from training.augment.sampling import grid, sample

Tensor = torch.Tensor


def draw_patch(canvas: Tensor, chosen: Tensor, pyramid: list[Tensor], others: Tensor, dice: Dice) -> Tensor:
    """Cover 5 to 25 % of the area with another photo or a flat color; return where it is a photo: bool (n,)."""
    area, stretch = dice.uniform(0.05, 0.25), torch.exp(dice.uniform(math.log(0.6), math.log(1.6)))
    sides = torch.stack((area.mul(stretch).sqrt(), area.div(stretch).sqrt()), dim=1)
    corner = dice.uniform(0, 1, 2) * (1 - sides)
    colour, photo = dice.colour(), dice.chance(0.75)
    u, v = grid(canvas.shape[-1], canvas.device)
    s = (u - corner[:, 0].view(-1, 1, 1)) / sides[:, 0].view(-1, 1, 1)
    t = (v - corner[:, 1].view(-1, 1, 1)) / sides[:, 1].view(-1, 1, 1)
    inside = ((s - 0.5).abs() <= 0.5) & ((t - 0.5).abs() <= 0.5)
    picks = chosen.nonzero()[:, 0]
    if len(picks):
        cover = sample(pyramid, others[picks], s[picks], t[picks])
        cover = torch.where(photo[picks].view(-1, 1, 1, 1), cover, colour[picks])
        canvas[picks] = torch.where(inside[picks][:, None], cover, canvas[picks])
    return chosen & photo


def draw_caption(canvas: Tensor, chosen: Tensor, dice: Dice) -> None:
    """Draw a bar with lines that resemble text over the top or the bottom."""
    height, bottom = dice.uniform(0.12, 0.2).view(-1, 1, 1, 1), dice.chance(0.5).view(-1, 1, 1, 1)
    ground, ink = dice.colour(), dice.colour()
    ink = torch.where((ink - ground).abs().amax(1, keepdim=True) < 0.3, 1 - ground, ink)
    _, v = grid(canvas.shape[-1], canvas.device)
    depth = torch.where(bottom, 1 - v[:, None], v[:, None]) / height
    bar = torch.where(scribble(canvas.shape[-1], 26, dice) & ((depth - 0.5).abs() < 0.3), ink, ground)
    canvas.copy_(torch.where((depth < 1) & chosen.view(-1, 1, 1, 1), bar, canvas))


def scribble(size: int, lines: int, dice: Dice) -> Tensor:
    """Return lines of strokes of random lengths, some lines empty: bool (n, 1, size, size)."""
    strokes = dice.uniform(0, 1, 1, lines, 2 * lines) < 0.5
    strokes &= (torch.arange(lines, device=dice.device) % 2 == 0).view(1, 1, -1, 1)
    strokes &= dice.uniform(0, 1, 1, lines, 1) < 0.7
    return F.interpolate(strokes.float(), (size, size), mode="nearest") > 0.5
