"""Verification: area under the ROC curve and equal error rate, compared with scikit-learn."""

import pytest
import torch
from sklearn.metrics import roc_auc_score, roc_curve

from latentlab.metrics import verification
from latentlab.seeds import stream


def test_agrees_with_scikit_learn():
    draw = stream(0, "distances")
    same, others = torch.randn(300, generator=draw), torch.randn(2_000, generator=draw) + 1
    truth = torch.cat([torch.ones(300), torch.zeros(2_000)])
    scores = -torch.cat([same, others])
    auc, equal_error_rate = verification(same, others)
    assert auc == pytest.approx(roc_auc_score(truth, scores), abs=1e-5)
    accepted, found, _ = roc_curve(truth, scores, drop_intermediate=False)
    crossing = abs(accepted - (1 - found)).argmin()
    assert equal_error_rate == pytest.approx((accepted + 1 - found)[crossing] / 2, abs=1e-5)


def test_perfect_reversed_and_equal_distances():
    low, high = torch.zeros(5), torch.ones(5)
    assert verification(low, high) == (1, 0)
    assert verification(high, low)[0] == 0
    assert verification(low, low)[0] == 0.5  # ties count a half


@pytest.mark.parametrize("same, others", [([], [1.0]), ([0.0], []), ([float("nan")], [1.0])])
def test_nothing_to_verify_is_refused(same, others):
    with pytest.raises(ValueError, match="distances: expected finite ones of at least one pair of each kind, got"):
        verification(torch.tensor(same), torch.tensor(others))
