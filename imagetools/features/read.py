"""Read the features of an image file: wherever a verdict is reached, from the same pixels."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from PIL import Image

from imagetools.decode import Size
from imagetools.features.config import FeatureConfig
from imagetools.features.extract import Features, extract, fitted_size
from imagetools.opener import FileOpener


def read_features(opener: FileOpener, config: FeatureConfig) -> Features:
    """Return the features of an image file, of an animation those of its frames; raises what the opener raises.

    A JPEG is decoded no larger than needed, which makes other pixels than shrinking the whole: features are comparable
    to the last digit where their pictures were decoded in this way.
    """
    return features_of(opener.frames(box_of(config)), config)


def box_of(config: FeatureConfig) -> Callable[[Size], Size]:
    """Return the box to decode a picture in, by its size: that of the settings, or what is kept of a strip."""

    def box(size: Size) -> Size:
        kept = fitted_size(size, config)
        return max(config.width, kept[0]), max(config.height, kept[1])

    return box


def features_of(frames: Sequence[Image.Image], config: FeatureConfig) -> Features:
    """Return the features of the frames that stand for an image, decoded in `box_of`."""
    first, *later = (extract(frame, config) for frame in frames)
    return replace(first, later=tuple(later)) if later else first
