"""Settings of feature extraction, in a module that loads no library."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class FeatureConfig:
    """Settings of feature extraction.

    width, height  the box that an image is fitted to, pixels. With 128, 160 and 208 for both, 99.4, 99.7 and 99.9 % of
                   680 copies were found, at 5.2, 8.6 and 12.3 ms an image; at 128 three of 40 screenshots were
                   missed (`python -m bench.quality --side fit --alone --count 40 --random 2000 --seed 7 --width 128 …`)
    max_keypoints  the strongest that are kept of an image
    contrast       SIFT's contrast threshold; OpenCV's own, .04, leaves plain garments with a dozen keypoints
    """

    width: int = 160
    height: int = 160
    max_keypoints: int = 320
    contrast: float = 0.006

    @property
    def box(self) -> tuple[int, int]:
        """(width, height)."""
        return self.width, self.height
