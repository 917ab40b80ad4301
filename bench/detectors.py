"""The detectors to compare: this matcher, the plain ratio test of older tools, and a perceptual hash."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import cv2
import imagehash
import numpy as np
from PIL import Image

from imagetools.features import mbr_sift
from imagetools.features.extract import extract
from imagetools.matching.config import MatcherConfig
from imagetools.matching.verify import ImageOpener, verify


@dataclass(frozen=True)
class Detector:
    """A detector of copies: `look` once at each image and `score` pairs; from `threshold` on, a pair is a copy.

    `score` may open the images again.
    """

    name: str
    look: Callable[[Image.Image], Any]
    score: Callable[[Any, Any, tuple[ImageOpener, ImageOpener]], float]
    threshold: float


def matcher(config: MatcherConfig) -> Detector:
    """Return this project's matcher."""
    return Detector(
        "matcher",
        lambda image: extract(image, config),
        lambda one, two, looks: verify(one, two, config, looks).score,
        config.threshold,
    )


_RATIO_SIDE: Final = 128
_RATIO: Final = 0.75


def ratio_test() -> Detector:
    """SIFT with a ratio test and no geometry, as in older tools.

    Images at 128 × 128; the descriptors of one, and their mirror images, are matched with those of the
    other. A pair is a duplicate if good matches / (2 · keypoints of the richer image) exceeds .1.
    """
    return Detector("ratio test", _sift, _good_share, np.nextafter(0.1, 1))


def perceptual_hash() -> Detector:
    """Return a detector by 64-bit pHash: a copy up to a Hamming distance of 10, imagededup's default."""
    return Detector("pHash", imagehash.phash, lambda one, two, _: 1 - float(one - two) / 64, 1 - 10 / 64)


def _sift(image: Image.Image) -> mbr_sift.Descriptors:
    small = np.asarray(image.convert("L").resize((_RATIO_SIDE, _RATIO_SIDE), Image.Resampling.LANCZOS))
    found, descriptors = cv2.SIFT.create().detectAndCompute(small, None)
    return np.asarray(descriptors, dtype=np.float32) if found else np.empty((0, 128), dtype=np.float32)


def _good_share(one: mbr_sift.Descriptors, two: mbr_sift.Descriptors, _: tuple[ImageOpener, ImageOpener]) -> float:
    if not len(one) or len(two) < 2:
        return 0.0
    queries = np.concatenate([one, mbr_sift.mirror_twin(one)])
    nearest = cv2.BFMatcher(cv2.NORM_L2).knnMatch(queries, two, k=2)
    good = sum(first.distance < _RATIO * second.distance for first, second in nearest)
    return good / (2 * max(len(one), len(two)))
