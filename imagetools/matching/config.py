"""Settings of the matcher, in a module that loads no library: the command line shows their defaults."""

from dataclasses import dataclass

from imagetools.features.config import FeatureConfig


@dataclass(frozen=True, kw_only=True)
class MatcherConfig(FeatureConfig):
    """Settings of the matcher: those of its features, the threshold, and which recognised pairs are no duplicates.

    threshold         score from which a pair is a duplicate, 0 to 1
    alert_recoloured  whether a picture in other hues is a duplicate
    alert_moved       whether one scene, in which something moved, is a duplicate
    """

    threshold: float = 0.75
    alert_recoloured: bool = True
    alert_moved: bool = True
