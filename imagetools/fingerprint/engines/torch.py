"""Torch as an engine: it runs everywhere, and on a GPU where there is one."""

from typing import Final

import numpy as np

from imagetools.fingerprint.engines.base import ModelFile, Pixels, Vectors
from imagetools.hardware import processor_computes_bfloat16

BATCH: Final = 32
"""Images that go through the network at once."""


class TorchEngine:
    """Torch, on a GPU where there is one."""

    def __init__(self, model: ModelFile) -> None:
        import torch  # noqa: PLC0415 - it takes three seconds, which users of OpenVINO do not wait for

        from imagetools.fingerprint.networks import FromPixels, dimension_of, load_network  # noqa: PLC0415 - torch

        network = load_network(model.name, model.data)
        self.dimension = dimension_of(model.name, network, model.side)
        self._torch = torch
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if model.threads is not None:
            torch.set_num_threads(model.threads)
        native = torch.cuda.is_bf16_supported() if self._device.type == "cuda" else processor_computes_bfloat16()
        self._bfloat16 = native if model.bfloat16 is None else model.bfloat16
        self._network = FromPixels(network).eval().to(self._device).to(memory_format=torch.channels_last)
        self.name = f"torch, {'bfloat16' if self._bfloat16 else 'float32'}, {self._device.type}"

    def run(self, pixels: Pixels) -> Vectors:
        """Compute as `Engine.run` says."""
        batches = [self._run_batch(pixels[i : i + BATCH]) for i in range(0, len(pixels), BATCH)]
        return np.concatenate(batches) if batches else np.empty((0, self.dimension), np.float32)

    def _run_batch(self, pixels: Pixels) -> Vectors:
        torch = self._torch
        autocast = torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._bfloat16)
        with torch.inference_mode(), autocast:
            vectors = self._network(torch.from_numpy(np.ascontiguousarray(pixels)).to(self._device))
        return np.asarray(vectors.float().cpu().numpy(), dtype=np.float32)
