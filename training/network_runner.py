"""Running networks on batches of pixels, on the best device."""

import torch
from torch import nn

from imagetools.fingerprint.normalization import IMAGENET_DEVIATION, IMAGENET_MEAN
from imagetools.hardware import processor_computes_bfloat16

Tensor = torch.Tensor


class NetworkRunner:
    """Runs networks on the best device, in bfloat16 where that is fast."""

    def __init__(self) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        on_gpu = self.device.type == "cuda"
        self.bfloat16 = torch.cuda.is_bf16_supported() if on_gpu else processor_computes_bfloat16()
        shape = (1, 3, 1, 1)
        self._mean = torch.tensor(IMAGENET_MEAN, device=self.device).view(shape)
        self._deviation = torch.tensor(IMAGENET_DEVIATION, device=self.device).view(shape)

    def describe(self, network: nn.Module, pixels: Tensor, *, in_float32: bool = False) -> Tensor:
        """Return float32 (n, d), not of unit length.

        pixels      float32 (n, 3, size, size), 0 to 1
        in_float32  never compute in bfloat16
        """
        batch = ((pixels - self._mean) / self._deviation).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bfloat16 and not in_float32):
            rows: Tensor = network(batch)
        return rows.float()
