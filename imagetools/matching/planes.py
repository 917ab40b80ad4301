"""Types of the single-channel images that pictures are compared on."""

import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]
"""A grey picture, (height, width)."""

Plane = NDArray[np.float32]
"""One value a pixel, (height, width)."""

Mask = NDArray[np.bool_]
"""Which pixels count, (height, width)."""
