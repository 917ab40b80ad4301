"""Edited views of photos, as tensors on the device that trains.

They stand for the copies of `imagetools.edits`, but most views combine several edits. One generator draws all random
values of a batch, so the same seed gives the same views.

A view is a canvas with the photo on it: alone, padded, in one cell of a collage, pasted onto another photo, or on a
phone's screen. One affine map (crop, flips, turns) says what is seen of the photo, so each pixel is read once. Patches
and captions follow, then changes of color, sharpness and compression.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from imagetools.edits import EDITS
from training.augment.color import blurred, compressed, tinted
from training.augment.config import AugmentConfig
from training.augment.covers import draw_caption, draw_patch
from training.augment.dice import Dice
from training.augment.layouts import (
    ALONE,
    CELLS,
    COLLAGE,
    OTHERS,
    PASTED,
    SCREENSHOT,
    boxes,
    draw,
    draw_background,
    draw_collage,
    draw_screen,
    maps,
)
from training.augment.sampling import grid, pyramid_of, resized

Tensor = torch.Tensor


@dataclass(frozen=True)
class Views:
    """A batch of edited photos.

    pixels   float32 (n, 3, size, size), 0 to 1
    shows    bool (n, n): view i shows photo j as one picture among equals; true on the diagonal
    touches  bool (n, n): view i has a piece of photo j, too small or too far behind to find the photo by
    """

    pixels: Tensor
    shows: Tensor
    touches: Tensor


def resize_photos(photos: Tensor, size: int) -> Tensor:
    """Return photos as the encoder sees them: uint8 (n, 3, p, p) → float32 (n, 3, size, size), 0 to 1."""
    return resized(photos.float() / 255, size)


def draw_views(
    photos: Tensor, aspects: Tensor, size: int, rng: torch.Generator, config: AugmentConfig | None = None
) -> Views:
    """Draw one edited view of each photo; the other photos of the batch supply what else it shows.

    photos   uint8 (n, 3, p, p), each squeezed into a square; n ≥ 2
    aspects  float32 (n,), width / height before that
    size     side of a view in pixels
    rng      on the photos' device
    """
    config = config or AugmentConfig()
    n = len(photos)
    dice = Dice(n, rng)
    pyramid = pyramid_of(photos.float() / 255)
    layout = dice.pick(config.layouts)
    as_it_is = dice.chance(config.plain)
    layout = torch.where(as_it_is, ALONE, layout)
    # distinct steps through the batch: a view's other photos differ from its own and from each other
    steps = 1 + torch.randperm(n - 1, generator=rng, device=rng.device)[:OTHERS]
    others = (torch.arange(n, device=rng.device)[:, None] + steps[torch.arange(OTHERS) % len(steps)]) % n

    u, v = grid(size, photos.device)
    cells = dice.pick((1, 1, 1.5))
    columns, rows = (torch.tensor(side, device=photos.device)[cells] for side in zip(*CELLS, strict=True))
    own = (dice.uniform(0, 1) * columns * rows).long()
    same = dice.chance(0.6)
    box = boxes(layout, columns, rows, own, dice)

    canvas = dice.colour().expand(-1, -1, size, size).clone()
    draw_collage(canvas, layout == COLLAGE, pyramid, others, same, columns, rows, own, dice)
    draw_background(canvas, layout == PASTED, pyramid, others[:, 0])
    draw_screen(canvas, layout == SCREENSHOT, dice)
    centre, matrix = maps(aspects, layout, as_it_is, dice, config)
    canvas = draw(canvas, pyramid, box, centre, matrix, dice.colour(), u, v)

    patched = dice.chance(config.patched) & ~as_it_is & (layout != COLLAGE)
    covered = draw_patch(canvas, patched, pyramid, others[:, 0], dice)
    draw_caption(canvas, dice.chance(config.captioned) & ~as_it_is, dice)
    canvas = tinted(canvas, dice, config, as_it_is)
    canvas = blurred(canvas, dice.chance(config.blurred) & ~as_it_is, dice)
    canvas = compressed(canvas, dice.chance(config.packed) & ~as_it_is, dice)

    shows = torch.eye(n, dtype=torch.bool, device=photos.device)
    touches = torch.zeros_like(shows)
    lines = torch.arange(n, device=photos.device)
    for k in range(OTHERS):
        cell_is_there = (columns * rows > k + 1) & ((k == 0) | ~same)
        shows[lines, others[:, k]] |= (layout == COLLAGE) & cell_is_there
    touches[lines, others[:, 0]] |= (layout == PASTED) | covered
    return Views(canvas.clamp(0, 1), shows, touches & ~shows)


def pillow_copies(photos: Tensor, aspects: Tensor, edits: Sequence[str], rng: random.Random) -> Tensor:
    """Return a copy of each photo, made by one of the named `imagetools.edits`.

    Pillow draws them on the processor, with real letters and rounding: much slower than `draw_views`.
    photos, the result  uint8 (n, 3, p, p), squeezed into squares; another of the photos is the second picture
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
