"""Segments of local codes on disk: a file for every array, so that loading sorts nothing."""

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Final

import numpy as np

from imagetools.index.local_keys import KEY_BITS, TABLES
from imagetools.index.local_segment import Segment

_ARRAYS: Final = tuple(field.name for field in fields(Segment) if field.name != "low_bits")


def write_segments(folder: Path, segments: Iterable[Segment]) -> None:
    """Write segments into a folder, in their order."""
    for number, segment in enumerate(segments):
        for name in _ARRAYS:
            np.save(_file(folder, number, name), getattr(segment, name))


def read_segments(folder: Path) -> list[Segment]:
    """Read what `write_segments` wrote."""
    count = len(list(folder.glob(f"*-{_ARRAYS[0]}.npy")))
    return [_read(folder, number) for number in range(count)]


def _file(folder: Path, number: int, name: str) -> Path:
    return folder / f"{number:05}-{name}.npy"


def _read(folder: Path, number: int) -> Segment:
    arrays = {name: np.load(_file(folder, number, name), allow_pickle=False) for name in _ARRAYS}
    stretches = (len(arrays["starts"]) - 2) // TABLES
    return Segment(**arrays, low_bits=KEY_BITS + 1 - stretches.bit_length())
