"""Layouts: where a photo lies on its canvas, what it shows, and what surrounds it."""

import math

import torch

from training.augment.color import luma
from training.augment.config import AugmentConfig
from training.augment.covers import scribble
from training.augment.dice import Dice
from training.augment.sampling import grid, sample

Tensor = torch.Tensor

ALONE, PADDED, COLLAGE, PASTED, SCREENSHOT = range(5)
CELLS = ((2, 1), (1, 2), (2, 2))
"""Columns and rows of a collage."""
OTHERS = 3
"""Photos that a view may show besides its own: the other cells of a 2 × 2 collage."""


def boxes(layout: Tensor, columns: Tensor, rows: Tensor, own: Tensor, dice: Dice) -> Tensor:
    """Return each picture's place on its canvas: (n, 4), left, top, right, bottom, 0 to 1.

    layout         int64 (n,), ALONE to SCREENSHOT
    columns, rows  int64 (n,), of a collage
    own            int64 (n,), the photo's cell in a collage, counted row by row
    """
    n = len(layout)
    whole = torch.tensor([0.0, 0.0, 1.0, 1.0], device=dice.device).expand(n, 4)
    border = dice.uniform(0.1, 0.25, 2)
    margin = border / (1 + 2 * border)
    kind = dice.pick((1, 1, 1))
    margin = margin * torch.stack((kind != 1, kind != 2), dim=1)
    padded = torch.cat((margin, 1 - margin), dim=1)

    at = torch.stack((own % columns, own // columns), dim=1) / torch.stack((columns, rows), dim=1)
    cell = torch.cat((at, at + 1 / torch.stack((columns, rows), dim=1)), dim=1)

    side = dice.uniform(0.35, 0.85, 2)
    corner = dice.uniform(0, 1, 2) * (1 - side)
    pasted = torch.cat((corner, corner + side), dim=1)

    width, top, height = dice.uniform(0.6, 1), dice.uniform(0.05, 0.2), dice.uniform(0.3, 0.65)
    screen = torch.stack((0.5 - width / 2, top, 0.5 + width / 2, top + height), dim=1)
    boxes = torch.stack((whole, padded, cell, pasted, screen), dim=1)
    return boxes[torch.arange(n, device=dice.device), layout]


def maps(aspects: Tensor, layout: Tensor, as_it_is: Tensor, dice: Dice, config: AugmentConfig) -> tuple[Tensor, Tensor]:
    """Return the affine maps from picture to photo: where the picture's center lies (n, 2), and matrices (n, 2, 2)."""
    edits = ~as_it_is
    # a crop of a small picture keeps most of it: any less shows too little to learn from
    small = (layout == COLLAGE) | (layout == PASTED)
    least = torch.where(small, 0.75, config.crop)
    cropped = dice.chance(config.cropped) & edits
    area = torch.where(cropped, least + (1 - least) * dice.uniform(0, 1), 1.0)
    stretch = torch.where(cropped, torch.exp(dice.uniform(math.log(0.8), math.log(1.25))), 1.0)
    sides = torch.stack((area.mul(stretch).sqrt(), area.div(stretch).sqrt()), dim=1).clamp_max(1)
    centre = sides / 2 + dice.uniform(0, 1, 2) * (1 - sides)

    turned = dice.chance(config.turned) & edits & ~small
    angle = torch.where(turned, dice.uniform(-config.turn, config.turn) * math.pi / 180, 0.0)
    # toward .75 a turned photo loses its corners; toward 1.35 background shows around it
    zoom = torch.where(turned, dice.uniform(0.75, 1.35), 1.0)
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    turn = torch.stack((cos, -sin / aspects, sin * aspects, cos), dim=1).view(-1, 2, 2)

    across = torch.where(dice.chance(config.mirrored) & edits, -1.0, 1.0)
    down = torch.where(dice.chance(config.flipped) & edits, -1.0, 1.0)
    flip = torch.diag_embed(torch.stack((across, down), dim=1))
    swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]], device=dice.device)
    quarter = (dice.chance(config.quarter) & edits).view(-1, 1, 1)
    flip = torch.where(quarter, swap @ flip, flip)
    # swapping the axes, with or without a flip, makes a quarter turn; photos are squeezed into squares, so it fits
    return centre, torch.diag_embed(sides) @ turn @ flip


def draw(
    canvas: Tensor, pyramid: list[Tensor], box: Tensor, centre: Tensor, matrix: Tensor, beyond: Tensor, u: Tensor,
    v: Tensor,
) -> Tensor:  # fmt: skip
    """Return the canvas with each photo drawn in its box.

    beyond  (n, 3, 1, 1), the color where the map leads out of the photo
    u, v    coordinates of the canvas's pixels, 0 to 1
    """
    left, top, right, bottom = (side.view(-1, 1, 1) for side in box.unbind(1))
    s, t = (u - left) / (right - left) - 0.5, (v - top) / (bottom - top) - 0.5
    x = centre[:, 0].view(-1, 1, 1) + matrix[:, 0, 0].view(-1, 1, 1) * s + matrix[:, 0, 1].view(-1, 1, 1) * t
    y = centre[:, 1].view(-1, 1, 1) + matrix[:, 1, 0].view(-1, 1, 1) * s + matrix[:, 1, 1].view(-1, 1, 1) * t
    picture = sample(pyramid, torch.arange(len(canvas), device=canvas.device), x, y)
    photo = ((x >= 0) & (x <= 1) & (y >= 0) & (y <= 1))[:, None]
    picture = torch.where(photo, picture, beyond)
    inside = ((s.abs() <= 0.5) & (t.abs() <= 0.5))[:, None]
    return torch.where(inside, picture, canvas)


def draw_collage(
    canvas: Tensor, chosen: Tensor, pyramid: list[Tensor], others: Tensor, same: Tensor, columns: Tensor, rows: Tensor,
    own: Tensor, dice: Dice,
) -> None:  # fmt: skip
    """Fill the other cells of the chosen collages and draw thin gaps.

    same  bool (n,): the cells show variants of one photo instead of a photo each
    """
    looks = dice.uniform(0, 1, 4, 3)
    gap = 0.012
    picks = chosen.nonzero()[:, 0]
    if not len(picks):
        return
    u, v = grid(canvas.shape[-1], canvas.device)
    across, down = columns[picks].view(-1, 1, 1), rows[picks].view(-1, 1, 1)
    column, row = (u * across).floor(), (v * down).floor()
    s, t = u * across - column, v * down - row
    cell = column + row * across
    filled = torch.ones_like(canvas[picks])
    order = 0 * own[picks]
    for k in range(4):
        look = looks[picks, k].unbind(1)
        x = torch.where((look[0] < 0.4).view(-1, 1, 1), 1 - s, s)
        y = torch.where((look[1] < 0.3).view(-1, 1, 1), 1 - t, t)
        which = others[picks, torch.where(same[picks], 0, order.clamp_max(OTHERS - 1))]
        picture = sample(pyramid, which, x, y)
        grey = (look[2] < 0.25).view(-1, 1, 1, 1)
        picture = torch.where(grey, luma(picture).expand_as(picture), picture)
        filled = torch.where(((cell == k) & (own[picks].view(-1, 1, 1) != k))[:, None], picture, filled)
        order = order + (own[picks] != k)
    line = ((s < gap) & (column > 0)) | ((t < gap) & (row > 0))
    canvas[picks] = torch.where(line[:, None], 1.0, filled)


def draw_background(canvas: Tensor, chosen: Tensor, pyramid: list[Tensor], others: Tensor) -> None:
    """Fill the chosen canvases with another photo each."""
    picks = chosen.nonzero()[:, 0]
    if len(picks):
        u, v = grid(canvas.shape[-1], canvas.device)
        canvas[picks] = sample(pyramid, others[picks], u.expand(len(picks), -1, -1), v.expand(len(picks), -1, -1))


def draw_screen(canvas: Tensor, chosen: Tensor, dice: Dice) -> None:
    """Draw an app's page, light or dark, with lines that resemble text."""
    ground = torch.where(dice.chance(0.5), 0.05, 0.97).view(-1, 1, 1, 1)
    ink = ground + (1 - 2 * ground) * dice.uniform(0.3, 1, 1, 1, 1)
    page = torch.where(scribble(canvas.shape[-1], 40, dice), ink, ground)
    canvas.copy_(torch.where(chosen.view(-1, 1, 1, 1), page, canvas))
