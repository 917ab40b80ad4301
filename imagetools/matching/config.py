"""Settings of the matcher, in a module that loads no library: the command line shows their defaults."""

from dataclasses import dataclass

from imagetools.features.config import FeatureConfig


@dataclass(frozen=True, kw_only=True)
class MatcherConfig(FeatureConfig):
    """Settings of the matcher: those of its features, and the threshold.

    threshold  score from which a pair is a duplicate, 0 to 1
    """

    threshold: float = 0.75
