"""What the machine offers: cores, a GPU, bfloat16 arithmetic."""

import os
import re
import sys
from functools import cache
from pathlib import Path
from typing import Final

_GPU_DEVICES: Final = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def has_gpu() -> bool:
    """Tell whether torch has a GPU to use. Where the system shows none, torch is not loaded."""
    if sys.platform == "linux" and not any(Path(device).exists() for device in _GPU_DEVICES):
        return False
    import torch  # noqa: PLC0415 - loading it takes seconds

    return torch.cuda.is_available()


@cache
def processor_computes_bfloat16() -> bool:
    """Tell whether the processor multiplies bfloat16 natively; emulated, it is slower than float32."""
    try:
        flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        return False
    return flags is not None and bool({"avx512_bf16", "amx_bf16"} & set(flags[1].split()))
