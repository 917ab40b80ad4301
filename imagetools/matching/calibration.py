"""Turn evidence into a score: the share of pairs with such evidence that are copies, at even odds beforehand.

Three logistic regressions: for pairs that keypoints lay over each other, for such pairs compared on larger pictures,
and for pairs of whole pictures. Their weights stand in `coefficients`, which `python -m bench.calibrate` writes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from imagetools.matching import coefficients
from imagetools.matching.agreement import Agreement

Way = Literal["keypoints", "closer", "whole"]
WAYS: Final[tuple[Way, ...]] = ("keypoints", "closer", "whole")

_WEIGHTS: Final[dict[Way, tuple[float, ...]]] = {
    "keypoints": coefficients.KEYPOINTS,
    "closer": coefficients.CLOSER,
    "whole": coefficients.WHOLE,
}

# A hole from which exact agreement around it proves nothing, as a share of the overlap
_SMALL_HOLE: Final = 0.1
# A hole of this share of the overlap, and the part of what agrees that agrees exactly, around what lies on a copy
_LARGE_HOLE: Final = 0.2
_EXACT_PART: Final = 0.75
_MAX_LOOSE_SCORE: Final = 0.5


@dataclass(frozen=True)
class Evidence:
    """Evidence of one alignment of two images.

    whole      the whole pictures are laid over each other, without keypoints
    inliers    matches that agree with the map
    agreement  of the overlap
    gap        mean difference of the thumbnails' colours, 0 to 255; 0 with keypoints
    closer     laid over each other by keypoints, and compared on the larger pictures
    """

    whole: bool
    inliers: int
    agreement: Agreement
    gap: float = 0.0
    closer: bool = False

    @property
    def way(self) -> Way:
        """Which regression scores it."""
        return "whole" if self.whole else "closer" if self.closer else "keypoints"


def terms_of(evidence: Evidence) -> tuple[float, ...]:
    """Return the terms of the regression, each of about 1; the larger any but the constant, the likelier a copy."""
    found = evidence.agreement
    framed = -found.framed * min(1.0, found.hole / 0.3)
    common = (1.0, found.share, found.strict, -found.hole, -max(0.0, found.hole - 0.2), framed)
    if evidence.whole:
        # a copy's correlation is .99 and more, so the distance to 1 separates better than the correlation itself
        residual = math.log(max(1e-3, 1 - found.correlation))
        # colours may be edited, but a picture without texture has little else to go by
        gap, plain = math.log1p(evidence.gap), 1 - found.textured
        return (*common, -residual, -gap * plain, -gap * found.textured, plain, found.textured)
    # a picture that agrees exactly, without a hole, is a copy even by few inliers
    exact = found.strict**2 * (1 - min(1.0, found.hole / _SMALL_HOLE))
    return (*common, math.log(min(evidence.inliers, 32)), exact)


def score_of(evidence: Evidence, weights: Mapping[Way, Sequence[float]] = _WEIGHTS) -> float:
    """Return the score, 0 to 1; at most .5 if the pictures agree loosely around a large hole.

    weights  of the terms, for each way
    """
    score = logistic(terms_of(evidence), weights[evidence.way])
    return min(score, _MAX_LOOSE_SCORE) if evidence.closer and _is_loose(evidence.agreement) else score


def _is_loose(found: Agreement) -> bool:
    """Tell whether a pair agrees as two things on one floor do: around a hole, and not exactly.

    What lies on a copy leaves a hole, too, and everything around it agrees exactly.
    """
    return found.hole >= _LARGE_HOLE and found.strict < _EXACT_PART * found.share


def logistic(terms: Sequence[float], weights: Sequence[float]) -> float:
    """Return 1 / (1 + exp(-terms · weights))."""
    logit = sum(term * weight for term, weight in zip(terms, weights, strict=True))
    return 1 / (1 + math.exp(-max(-60.0, min(60.0, logit))))
