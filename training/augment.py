"""Edited views of photos, as tensors on the device that trains.

They stand for `imagetools.edits`, of which a copy has one, and go beyond them: a view mostly has several. Whatever a
view needs is drawn for the whole batch at once from one generator, so that the same seed gives the same views.

A view is laid out as a picture inside a canvas: alone, padded, in one cell of a collage, pasted onto another photo, or
on a phone's screen. What the picture shows of its photo is one affine map (crop, flip, quarter turn, turn), so that
each pixel is read once. Then come patches, boxes and captions, and last what changes colours and sharpness.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from PIL import Image

from imagetools.edits import EDITS

Tensor = torch.Tensor

ALONE, PADDED, COLLAGE, PASTED, SCREENSHOT = range(5)
CELLS = ((2, 1), (1, 2), (2, 2))
"""Columns and rows of a collage."""
OTHERS = 3
"""Photos that a view may show besides its own: a collage of four cells has three."""

RED_GREEN_BLUE_TO_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))
"""NTSC's luma and two chromas, in which a change of hue is a turn."""
LUMA = RED_GREEN_BLUE_TO_YIQ[0]

JPEG_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
"""Quantisation at quality 50: ITU-T T.81, table K.1."""


@dataclass(frozen=True)
class AugmentConfig:
    """How often each edit is made, as shares of the views, and how far it goes.

    layouts      shares of: alone, padded, in a collage, pasted onto another photo, on a screen
    plain        shown as they are: an original is a view, too
    crop         smallest share of the photo's area that is kept
    turn         largest turn, degrees
    """

    layouts: tuple[float, float, float, float, float] = (0.36, 0.05, 0.30, 0.09, 0.20)
    plain: float = 0.08
    crop: float = 0.3
    cropped: float = 0.5
    mirrored: float = 0.3
    flipped: float = 0.15
    quarter: float = 0.15
    turned: float = 0.2
    turn: float = 35.0
    patched: float = 0.2
    captioned: float = 0.12
    coloured: float = 0.35
    greyed: float = 0.1
    blurred: float = 0.15
    packed: float = 0.15


@dataclass(frozen=True)
class Views:
    """A batch of edited photos.

    pixels   float32 (n, 3, size, size), 0 to 1
    shows    bool (n, n): view i shows photo j as one picture among equals; true on the diagonal
    touches  bool (n, n): view i has a piece of photo j that is too small, or too far behind, to be found by
    """

    pixels: Tensor
    shows: Tensor
    touches: Tensor


@dataclass
class Dice:
    """Draws one value a view."""

    count: int
    rng: torch.Generator
    device: torch.device = field(init=False)

    def __post_init__(self) -> None:
        self.device = self.rng.device

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """float32 (n, *shape)."""
        return low + (high - low) * torch.rand(self.count, *shape, generator=self.rng, device=self.device)

    def chance(self, share: float) -> Tensor:
        """True for about this share: bool (n,)."""
        return torch.rand(self.count, generator=self.rng, device=self.device) < share

    def pick(self, shares: Sequence[float]) -> Tensor:
        """An index by its share: int64 (n,)."""
        weights = torch.tensor(shares, dtype=torch.float32, device=self.device)
        return torch.multinomial(weights, self.count, replacement=True, generator=self.rng)

    def colour(self) -> Tensor:
        """Black, white or any: (n, 3, 1, 1)."""
        kind = self.pick((0.4, 0.3, 0.3)).view(-1, 1, 1, 1)
        flat = (kind == 1).float().expand(-1, 3, 1, 1)
        return torch.where(kind == 2, self.uniform(0, 1, 3, 1, 1), flat)


def plain(photos: Tensor, size: int) -> Tensor:
    """Photos as the encoder takes them: uint8 (n, 3, p, p) → float32 (n, 3, size, size), 0 to 1."""
    return _resized(photos.float() / 255, size)


def edited(
    photos: Tensor, aspects: Tensor, size: int, rng: torch.Generator, config: AugmentConfig | None = None
) -> Views:
    """One edited view of each photo; what else it shows comes from the other photos of the batch.

    photos   uint8 (n, 3, p, p), each squeezed into a square; n ≥ 2
    aspects  float32 (n,), their widths by their heights
    size     pixels of a view's side
    rng      on the photos' device
    """
    config = config or AugmentConfig()
    n = len(photos)
    dice = Dice(n, rng)
    pyramid = _pyramid(photos.float() / 255)
    layout = dice.pick(config.layouts)
    as_it_is = dice.chance(config.plain)
    layout = torch.where(as_it_is, ALONE, layout)
    # distinct steps through the batch, so that a view's other photos differ from it and from each other
    steps = 1 + torch.randperm(n - 1, generator=rng, device=rng.device)[:OTHERS]
    others = (torch.arange(n, device=rng.device)[:, None] + steps[torch.arange(OTHERS) % len(steps)]) % n

    u, v = _grid(size, photos.device)
    cells = dice.pick((1, 1, 1.5))
    columns, rows = (torch.tensor(side, device=photos.device)[cells] for side in zip(*CELLS, strict=True))
    own = (dice.uniform(0, 1) * columns * rows).long()
    same = dice.chance(0.6)
    box = _boxes(layout, columns, rows, own, dice)

    canvas = dice.colour().expand(-1, -1, size, size).clone()
    _collage(canvas, layout == COLLAGE, pyramid, others, same, columns, rows, own, dice)
    _behind(canvas, layout == PASTED, pyramid, others[:, 0])
    _screen(canvas, layout == SCREENSHOT, dice)
    centre, matrix = _maps(aspects, layout, as_it_is, dice, config)
    canvas = _draw(canvas, pyramid, box, centre, matrix, dice.colour(), u, v)

    patched = dice.chance(config.patched) & ~as_it_is & (layout != COLLAGE)
    covered = _patch(canvas, patched, pyramid, others[:, 0], dice)
    _caption(canvas, dice.chance(config.captioned) & ~as_it_is, dice)
    canvas = _tinted(canvas, dice, config, as_it_is)
    canvas = _softened(canvas, dice.chance(config.blurred) & ~as_it_is, dice)
    canvas = _packed(canvas, dice.chance(config.packed) & ~as_it_is, dice)

    shows = torch.eye(n, dtype=torch.bool, device=photos.device)
    touches = torch.zeros_like(shows)
    lines = torch.arange(n, device=photos.device)
    for k in range(OTHERS):
        cell_is_there = (columns * rows > k + 1) & ((k == 0) | ~same)
        shows[lines, others[:, k]] |= (layout == COLLAGE) & cell_is_there
    touches[lines, others[:, 0]] |= (layout == PASTED) | covered
    return Views(canvas.clamp(0, 1), shows, touches & ~shows)


def pillow_copies(photos: Tensor, aspects: Tensor, edits: Sequence[str], rng: random.Random) -> Tensor:
    """One copy of each photo by one of the named `imagetools.edits`, as people's programs make them.

    They are drawn on the processor, with letters and rounding as they come: much slower than `edited`.
    photos, the result  uint8 (n, 3, p, p), squeezed into squares; a second picture is another one of the photos
    """
    side = photos.shape[-1]
    squares = [Image.fromarray(photo) for photo in photos.permute(0, 2, 3, 1).cpu().numpy()]
    upright = [
        square.resize((max(1, round(side * max(1.0, a))), max(1, round(side * max(1.0, 1 / a)))))
        for square, a in zip(squares, aspects.tolist(), strict=True)
    ]
    made = []
    for i, photo in enumerate(upright):
        other = upright[(i + rng.randrange(1, len(upright))) % len(upright)]
        copied = EDITS[rng.choice(edits)](photo, rng, other)
        made.append(np.asarray(copied.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=3.0)))
    return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2)


def _grid(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Pixel centres across and down, 0 to 1: (1, size, size) each."""
    line = (torch.arange(size, device=device) + 0.5) / size
    down, across = torch.meshgrid(line, line, indexing="ij")
    return across[None], down[None]


def _resized(pixels: Tensor, size: int) -> Tensor:
    if pixels.shape[-1] == size:
        return pixels
    return F.interpolate(pixels, (size, size), mode="bilinear", antialias=True, align_corners=False)


def _pyramid(pixels: Tensor) -> list[Tensor]:
    """The photos at full, half and a quarter of their side, for pictures that are drawn small."""
    levels = [pixels]
    for _ in range(2):
        levels.append(F.avg_pool2d(levels[-1], 2))
    return levels


def _read(pyramid: list[Tensor], which: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Photo which[i] at positions x, y, 0 to 1: (n, 3, size, size) of (n, size, size)."""
    read = x.new_empty((len(which), 3, *x.shape[1:]))
    # photo pixels from one pixel of the view to the next
    step = torch.maximum((x[:, 1:] - x[:, :-1]).abs().amax((1, 2)), (x[:, :, 1:] - x[:, :, :-1]).abs().amax((1, 2)))
    level = (torch.log2((step * pyramid[0].shape[-1]).clamp_min(1e-3)) + 0.25).floor().clamp(0, 2)
    where = torch.stack((x, y), dim=-1) * 2 - 1
    for k, pixels in enumerate(pyramid):
        chosen = (level == k).nonzero()[:, 0]
        if len(chosen):
            read[chosen] = F.grid_sample(
                pixels[which[chosen]], where[chosen], padding_mode="border", align_corners=False
            )
    return read


def _boxes(layout: Tensor, columns: Tensor, rows: Tensor, own: Tensor, dice: Dice) -> Tensor:
    """Where on its canvas the picture lies: left, top, right, bottom, 0 to 1; (n, 4)."""
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


def _maps(
    aspects: Tensor, layout: Tensor, as_it_is: Tensor, dice: Dice, config: AugmentConfig
) -> tuple[Tensor, Tensor]:
    """From a place in the picture to one in the photo: the photo's point in the middle (n, 2), and (n, 2, 2)."""
    edits = ~as_it_is
    # what is drawn small already keeps most of its area: both at once leave too little to learn from
    small = (layout == COLLAGE) | (layout == PASTED)
    least = torch.where(small, 0.75, config.crop)
    cropped = dice.chance(config.cropped) & edits
    area = torch.where(cropped, least + (1 - least) * dice.uniform(0, 1), 1.0)
    stretch = torch.where(cropped, torch.exp(dice.uniform(math.log(0.8), math.log(1.25))), 1.0)
    sides = torch.stack((area.mul(stretch).sqrt(), area.div(stretch).sqrt()), dim=1).clamp_max(1)
    centre = sides / 2 + dice.uniform(0, 1, 2) * (1 - sides)

    turned = dice.chance(config.turned) & edits & ~small
    angle = torch.where(turned, dice.uniform(-config.turn, config.turn) * math.pi / 180, 0.0)
    # below 1 a turned picture loses its corners, above it shows what lies beyond them
    zoom = torch.where(turned, dice.uniform(0.75, 1.35), 1.0)
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    turn = torch.stack((cos, -sin / aspects, sin * aspects, cos), dim=1).view(-1, 2, 2)

    across = torch.where(dice.chance(config.mirrored) & edits, -1.0, 1.0)
    down = torch.where(dice.chance(config.flipped) & edits, -1.0, 1.0)
    flip = torch.diag_embed(torch.stack((across, down), dim=1))
    swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]], device=dice.device)
    quarter = (dice.chance(config.quarter) & edits).view(-1, 1, 1)
    flip = torch.where(quarter, swap @ flip, flip)
    # a quarter turn is a flip and a swap; the square that a photo is squeezed into turns with it
    return centre, torch.diag_embed(sides) @ turn @ flip


def _draw(
    canvas: Tensor, pyramid: list[Tensor], box: Tensor, centre: Tensor, matrix: Tensor, beyond: Tensor, u: Tensor,
    v: Tensor,
) -> Tensor:  # fmt: skip
    """The canvas with each photo drawn into its box, and flat colour where the map leaves the photo."""
    left, top, right, bottom = (side.view(-1, 1, 1) for side in box.unbind(1))
    s, t = (u - left) / (right - left) - 0.5, (v - top) / (bottom - top) - 0.5
    x = centre[:, 0].view(-1, 1, 1) + matrix[:, 0, 0].view(-1, 1, 1) * s + matrix[:, 0, 1].view(-1, 1, 1) * t
    y = centre[:, 1].view(-1, 1, 1) + matrix[:, 1, 0].view(-1, 1, 1) * s + matrix[:, 1, 1].view(-1, 1, 1) * t
    picture = _read(pyramid, torch.arange(len(canvas), device=canvas.device), x, y)
    photo = ((x >= 0) & (x <= 1) & (y >= 0) & (y <= 1))[:, None]
    picture = torch.where(photo, picture, beyond)
    inside = ((s.abs() <= 0.5) & (t.abs() <= 0.5))[:, None]
    return torch.where(inside, picture, canvas)


def _collage(
    canvas: Tensor, chosen: Tensor, pyramid: list[Tensor], others: Tensor, same: Tensor, columns: Tensor, rows: Tensor,
    own: Tensor, dice: Dice,
) -> None:  # fmt: skip
    """Fill the other cells: with one photo in several looks, or each with one of its own; a thin gap between."""
    looks = dice.uniform(0, 1, 4, 3)
    gap = 0.012
    picks = chosen.nonzero()[:, 0]
    if not len(picks):
        return
    u, v = _grid(canvas.shape[-1], canvas.device)
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
        picture = _read(pyramid, which, x, y)
        grey = (look[2] < 0.25).view(-1, 1, 1, 1)
        picture = torch.where(grey, _luma(picture).expand_as(picture), picture)
        filled = torch.where(((cell == k) & (own[picks].view(-1, 1, 1) != k))[:, None], picture, filled)
        order = order + (own[picks] != k)
    line = ((s < gap) & (column > 0)) | ((t < gap) & (row > 0))
    canvas[picks] = torch.where(line[:, None], 1.0, filled)


def _behind(canvas: Tensor, chosen: Tensor, pyramid: list[Tensor], others: Tensor) -> None:
    picks = chosen.nonzero()[:, 0]
    if len(picks):
        u, v = _grid(canvas.shape[-1], canvas.device)
        canvas[picks] = _read(pyramid, others[picks], u.expand(len(picks), -1, -1), v.expand(len(picks), -1, -1))


def _screen(canvas: Tensor, chosen: Tensor, dice: Dice) -> None:
    """An app's page: light or dark, with lines of something like text."""
    ground = torch.where(dice.chance(0.5), 0.05, 0.97).view(-1, 1, 1, 1)
    ink = ground + (1 - 2 * ground) * dice.uniform(0.3, 1, 1, 1, 1)
    page = torch.where(_scribble(canvas.shape[-1], 40, dice), ink, ground)
    canvas.copy_(torch.where(chosen.view(-1, 1, 1, 1), page, canvas))


def _patch(canvas: Tensor, chosen: Tensor, pyramid: list[Tensor], others: Tensor, dice: Dice) -> Tensor:
    """Cover 5 to 25 % of the area by another photo, or by flat colour; True where it was a photo: bool (n,)."""
    area, stretch = dice.uniform(0.05, 0.25), torch.exp(dice.uniform(math.log(0.6), math.log(1.6)))
    sides = torch.stack((area.mul(stretch).sqrt(), area.div(stretch).sqrt()), dim=1)
    corner = dice.uniform(0, 1, 2) * (1 - sides)
    colour, photo = dice.colour(), dice.chance(0.75)
    u, v = _grid(canvas.shape[-1], canvas.device)
    s = (u - corner[:, 0].view(-1, 1, 1)) / sides[:, 0].view(-1, 1, 1)
    t = (v - corner[:, 1].view(-1, 1, 1)) / sides[:, 1].view(-1, 1, 1)
    inside = ((s - 0.5).abs() <= 0.5) & ((t - 0.5).abs() <= 0.5)
    picks = chosen.nonzero()[:, 0]
    if len(picks):
        cover = _read(pyramid, others[picks], s[picks], t[picks])
        cover = torch.where(photo[picks].view(-1, 1, 1, 1), cover, colour[picks])
        canvas[picks] = torch.where(inside[picks][:, None], cover, canvas[picks])
    return chosen & photo


def _caption(canvas: Tensor, chosen: Tensor, dice: Dice) -> None:
    """A bar with something like text, over the top or the bottom."""
    height, bottom = dice.uniform(0.12, 0.2).view(-1, 1, 1, 1), dice.chance(0.5).view(-1, 1, 1, 1)
    ground, ink = dice.colour(), dice.colour()
    ink = torch.where((ink - ground).abs().amax(1, keepdim=True) < 0.3, 1 - ground, ink)
    _, v = _grid(canvas.shape[-1], canvas.device)
    depth = torch.where(bottom, 1 - v[:, None], v[:, None]) / height
    bar = torch.where(_scribble(canvas.shape[-1], 26, dice) & ((depth - 0.5).abs() < 0.3), ink, ground)
    canvas.copy_(torch.where((depth < 1) & chosen.view(-1, 1, 1, 1), bar, canvas))


def _scribble(size: int, lines: int, dice: Dice) -> Tensor:
    """Lines of strokes of random lengths, some of them empty: bool (n, 1, size, size)."""
    strokes = dice.uniform(0, 1, 1, lines, 2 * lines) < 0.5
    strokes &= (torch.arange(lines, device=dice.device) % 2 == 0).view(1, 1, -1, 1)
    strokes &= dice.uniform(0, 1, 1, lines, 1) < 0.7
    return F.interpolate(strokes.float(), (size, size), mode="nearest") > 0.5


def _luma(pixels: Tensor) -> Tensor:
    return (pixels * pixels.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)


def _tinted(pixels: Tensor, dice: Dice, config: AugmentConfig, as_it_is: Tensor) -> Tensor:
    """Brightness, contrast, saturation and hue shifted; some without colour."""
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
    mean = _luma(pixels).mean((2, 3), keepdim=True)
    return ((pixels - mean) * factor(0.7, 1.4).view(-1, 1, 1, 1) + mean).clamp(0, 1)


def _softened(pixels: Tensor, chosen: Tensor, dice: Dice) -> Tensor:
    """A Gaussian blur of up to 1.5 % of the side."""
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


def _packed(pixels: Tensor, chosen: Tensor, dice: Dice) -> Tensor:
    """Quantised as JPEG does it: in blocks of 8 × 8 and their cosine transform; all channels by the luma table.

    Photos are packed at a size some times larger than a view, where the same quality costs less: hence 25 to 90.
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
