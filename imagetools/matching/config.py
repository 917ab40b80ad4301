"""The matcher's settings, in a module that loads no library: the command line shows their defaults."""

from dataclasses import dataclass


@dataclass(frozen=True)
class MatcherConfig:
    """Settings of the matcher.

    threshold      score from which a pair is a duplicate, 0 to 1
    width, height  the box that an image is fitted to, pixels. With 128, 160 and 208 for both, 99.4, 99.7 and 99.9 % of
                   680 copies were found, at 5.2, 8.6 and 12.3 ms an image; at 128 three of 40 screenshots were
                   missed (`python -m bench.quality --side fit --alone --count 40 --random 2000 --seed 7 --width 128 …`)
    max_keypoints  the strongest that are kept of an image
    contrast       SIFT's contrast threshold; OpenCV's own, .04, leaves plain garments with a dozen keypoints
    """

    threshold: float = 0.75
    width: int = 160
    height: int = 160
    max_keypoints: int = 320
    contrast: float = 0.006
