"""What decides the features of an image: their version, the settings, and the libraries that compute them."""

import hashlib
from typing import Final

import cv2
import numpy as np
import PIL
import pillow_heif

from imagetools.features.config import FeatureConfig

FEATURES_VERSION: Final = 2
"""Count this up with every change of the code by which an image gets other features.

Features of another version are never compared with these; they are computed again. Local codes in the log have no
version: those of an image stay until it is announced again. A test compares features with
stored ones and fails when they change.
"""


def maker_of(config: FeatureConfig) -> bytes:
    """Return 16 bytes that are equal for features that may be compared: by version, settings and libraries."""
    settings = config.width, config.height, config.max_keypoints, config.contrast
    libraries = cv2.__version__, np.__version__, PIL.__version__, pillow_heif.__version__
    return hashlib.sha256(repr((FEATURES_VERSION, settings, libraries)).encode()).digest()[:16]
