"""The codes that travel with an image's fingerprint, from its features."""

import numpy as np

from imagetools.features.extract import Features
from imagetools.local_codes import DIRECTION_STEPS, MAX_LOCAL_CODES, SIZE_STEPS, LocalCodes


def local_codes(features: Features) -> LocalCodes:
    """Return the codes of an image's largest keypoints, at most MAX_LOCAL_CODES; of its first frame that has any."""
    features = next((frame for frame in features.frames if frame.count), features)
    count = min(features.count, MAX_LOCAL_CODES)
    frame, coarse = features.keypoints.frame[:count], features.codes.coarse
    size = np.log2(np.maximum(np.abs(frame), 1.0)) * SIZE_STEPS
    direction = np.angle(frame) * (DIRECTION_STEPS / (2 * np.pi))
    return LocalCodes(
        coarse[:count],
        coarse[features.count : features.count + count],
        np.minimum(np.rint(size), 255).astype(np.uint8),
        (np.rint(direction).astype(np.int64) % DIRECTION_STEPS).astype(np.uint8),
    )
