"""What the machine offers: cores, a GPU, bfloat16 arithmetic."""

import math
import os
import re
import sys
from functools import cache
from pathlib import Path
from typing import Final

_GPU_DEVICES: Final = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


def usable_cores(groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the number of cores that this process may use: those it may run on, or as many as its time amounts to.

    groups  where Linux shows the limits of control groups; a container's own are at the top
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(groups)
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def _quota(groups: Path) -> float | None:
    """Return how many cores' time the control group has; None where it is not limited."""
    try:
        if (groups / "cpu.max").is_file():
            time, period = (groups / "cpu.max").read_text().split()
        else:
            time, period = ((groups / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        # without a limit the time is "max", or -1
        return float(time) / float(period) if time != "max" and float(time) > 0 else None
    except (OSError, ValueError):
        # no control groups, or others than Linux documents
        return None


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
