"""Turn evidence into a score: the share of pairs with such evidence that are copies, at even odds beforehand.

Two logistic regressions, one for pairs aligned by keypoints and one for pairs of whole pictures. Their weights are in
`coefficients`, which `python -m bench.calibrate` writes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from imagetools.matching import coefficients
from imagetools.matching.agreement import Agreement


@dataclass(frozen=True)
class Evidence:
    """Evidence of one alignment of two images.

    whole      the whole pictures are laid over each other, without keypoints
    inliers    matches that agree with the map
    agreement  of the overlap
    gap        mean difference of the thumbnails' colours, 0 to 255; 0 with keypoints
    """

    whole: bool
    inliers: int
    agreement: Agreement
    gap: float = 0.0


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
    return (*common, math.log(min(evidence.inliers, 32)), found.textured * found.share)


def score_of(evidence: Evidence) -> float:
    """Return the score, 0 to 1."""
    return logistic(terms_of(evidence), coefficients.WHOLE if evidence.whole else coefficients.KEYPOINTS)


def logistic(terms: Sequence[float], weights: Sequence[float]) -> float:
    """Return 1 / (1 + exp(-terms · weights))."""
    logit = sum(term * weight for term, weight in zip(terms, weights, strict=True))
    return 1 / (1 + math.exp(-max(-60.0, min(60.0, logit))))
