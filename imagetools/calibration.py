"""From evidence to a score: the share of pairs with such evidence that are copies, at even odds beforehand."""

import math

from imagetools.agreement import Agreement


def score_of(agreement: Agreement, inliers: int) -> float:
    """Return the score, 0 to 1, of a pair whose overlap is textured."""
    logit = (
        14.0 * (agreement.share - 0.6)
        + 4.0 * (agreement.strict - 0.4)
        - 12.0 * max(0.0, agreement.hole - 0.15)
        + 0.15 * (min(inliers, 20) - 8)
        + 1.0
    )
    return 1 / (1 + math.exp(-logit))
