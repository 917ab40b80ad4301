"""Reading photos at arbitrary positions and sizes."""

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation uses

Tensor = torch.Tensor


def grid(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the pixels' centers, x and y from 0 to 1: (1, size, size) each."""
    line = (torch.arange(size, device=device) + 0.5) / size
    down, across = torch.meshgrid(line, line, indexing="ij")
    return across[None], down[None]


def resized(pixels: Tensor, size: int) -> Tensor:
    """Return the pixels at another size: (n, 3, size, size)."""
    if pixels.shape[-1] == size:
        return pixels
    return F.interpolate(pixels, (size, size), mode="bilinear", antialias=True, align_corners=False)


def pyramid_of(pixels: Tensor) -> list[Tensor]:
    """Return the photos at full, half and quarter size; `sample` reads the one that fits."""
    levels = [pixels]
    for _ in range(2):
        levels.append(F.avg_pool2d(levels[-1], 2))
    return levels


def sample(pyramid: list[Tensor], which: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return photo which[i] at positions x[i], y[i], 0 to 1: (n, 3, size, size) from (n, size, size)."""
    read = x.new_empty((len(which), 3, *x.shape[1:]))
    # distance, in the photo, of neighboring pixels of the view
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
