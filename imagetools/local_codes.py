"""The codes of an image's largest keypoints as they travel: enough to find images that share some of its detail."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

MAX_LOCAL_CODES: Final = 160
"""Of an image: the largest keypoints, which survive shrinking and blur. They take 5.4 KB."""

CODE_BYTES: Final = 16
"""Of a coarse MBR-SIFT code, 128 bits."""

ROW_BYTES: Final = 2 * CODE_BYTES + 2
"""The keypoint's code, its mirror twin's, a byte of its size and one of its direction."""

FEW_CODES: Final = 40
"""An image with fewer has little local detail, by which nothing finds it with certainty: of 12,135 photographs one in
200, but nearly all skies, gradients and pictures out of focus."""

SIZE_STEPS: Final = 16
"""Steps of a size for each octave: one is 4.4 %. A byte reaches from 1 to 62,757 pixels."""

DIRECTION_STEPS: Final = 256
"""Steps of a full turn: one is 1.4 degrees."""


@dataclass(frozen=True, slots=True, eq=False)
class LocalCodes:
    """The codes of k keypoints, largest first.

    own        uint8 (k, 16), coarse codes
    mirrored   uint8 (k, 16), those of the same keypoints in the mirror image (left and right exchanged)
    size       uint8 (k,), SIZE_STEPS times the binary logarithm of the size in pixels of the fitted image
    direction  uint8 (k,), the angle from x to y, y downwards, in 256ths of a turn; 128 less it in the mirror image
    """

    own: NDArray[np.uint8]
    mirrored: NDArray[np.uint8]
    size: NDArray[np.uint8]
    direction: NDArray[np.uint8]

    def __len__(self) -> int:
        """Return k."""
        return len(self.own)


def pack_codes(codes: LocalCodes) -> bytes:
    """Return codes as bytes, ROW_BYTES a keypoint; empty where there are none."""
    return np.concatenate(
        [codes.own, codes.mirrored, codes.size[:, np.newaxis], codes.direction[:, np.newaxis]], axis=1
    ).tobytes()


def count_codes(data: bytes) -> int:
    """Return how many codes were packed."""
    return len(data) // ROW_BYTES


def unpack_codes(data: bytes) -> LocalCodes:
    """Return the codes that were packed, as views of the bytes.

    ValueError where the length is not that of at most MAX_LOCAL_CODES rows.
    """
    count, rest = divmod(len(data), ROW_BYTES)
    if rest or count > MAX_LOCAL_CODES:
        raise ValueError(f"{len(data)} bytes of codes, not at most {MAX_LOCAL_CODES} rows of {ROW_BYTES}")
    rows = np.frombuffer(data, np.uint8).reshape(count, ROW_BYTES)
    return LocalCodes(rows[:, :CODE_BYTES], rows[:, CODE_BYTES : 2 * CODE_BYTES], rows[:, -2], rows[:, -1])
