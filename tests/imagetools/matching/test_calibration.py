from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagetools.matching import coefficients
from imagetools.matching.agreement import NO_AGREEMENT, Agreement
from imagetools.matching.calibration import Evidence, logistic, score_of, terms_of

SHARES = st.floats(0, 1)
AGREEMENTS = st.builds(Agreement, SHARES, SHARES, SHARES, SHARES, SHARES, st.floats(-1, 1))
EVIDENCE = st.builds(Evidence, st.booleans(), st.integers(4, 300), AGREEMENTS, st.floats(0, 255))


@given(EVIDENCE)
def test_a_score_is_a_share(evidence: Evidence) -> None:
    assert 0 <= score_of(evidence) <= 1


@given(EVIDENCE, st.sampled_from(["share", "strict", "correlation"]), SHARES)
def test_more_agreement_never_scores_less(evidence: Evidence, name: str, more: float) -> None:
    found = evidence.agreement
    raised = replace(found, **{name: max(getattr(found, name), more)})
    assert score_of(replace(evidence, agreement=raised)) >= score_of(evidence) - 1e-12


@given(EVIDENCE, SHARES)
def test_a_larger_hole_never_scores_more(evidence: Evidence, hole: float) -> None:
    holed = replace(evidence.agreement, hole=max(evidence.agreement.hole, hole))
    assert score_of(replace(evidence, agreement=holed)) <= score_of(evidence) + 1e-12


@given(EVIDENCE, st.integers(0, 100), st.floats(0, 100))
def test_more_inliers_never_score_less_and_a_larger_gap_never_more(evidence: Evidence, more: int, wider: float) -> None:
    assert score_of(replace(evidence, inliers=evidence.inliers + more)) >= score_of(evidence) - 1e-12
    assert score_of(replace(evidence, gap=evidence.gap + wider)) <= score_of(evidence) + 1e-12


@pytest.mark.parametrize("whole", [False, True])
def test_there_is_a_weight_for_every_term(whole: bool) -> None:
    weights = coefficients.WHOLE if whole else coefficients.KEYPOINTS
    terms = terms_of(Evidence(whole, 4, NO_AGREEMENT, gap=200.0))
    assert len(terms) == len(weights)
    assert min(weights[1:]) >= 0
    assert logistic(terms, weights) < 0.01
