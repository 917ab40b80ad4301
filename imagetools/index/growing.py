"""Arrays that grow at their end."""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)


def grown(array: NDArray[Scalar], count: int) -> NDArray[Scalar]:
    """Return the array, or a longer one of zeros that begins with it, so that it has `count` elements at least.

    A fresh page of zeros takes no memory until it is written to, so room to grow costs next to nothing.
    """
    if count <= len(array):
        return array
    longer: NDArray[Any] = np.zeros(max(64, count, len(array) * 3 // 2), array.dtype)
    longer[: len(array)] = array
    return longer
