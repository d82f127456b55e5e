"""Regularisers against numpy, and what each of them leaves out."""

import numpy as np
import pytest
import torch

from latentlab.encoders.regularizers import delta_regularization, feature_regularization, w_norm
from latentlab.seeds import stream


def codes(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=stream(seed, "codes"))


def test_deltas_count_by_their_length_and_only_when_active():
    w_plus = codes(4, 6, 8)
    x = w_plus.numpy()
    lengths = np.stack([np.linalg.norm(x[:, i] - x[:, 0], axis=1) for i in range(1, 6)], 1)
    np.testing.assert_allclose(delta_regularization(w_plus), lengths.sum(1), rtol=1e-5)
    np.testing.assert_allclose(delta_regularization(w_plus, stage=2), lengths[:, :2].sum(1), rtol=1e-5)
    assert torch.equal(delta_regularization(w_plus, stage=0), torch.zeros(4))
    doubled = w_plus[:, :1] + 2 * (w_plus - w_plus[:, :1])
    torch.testing.assert_close(delta_regularization(doubled), 2 * delta_regularization(w_plus))  # not squared


def test_the_gradient_at_equal_codes_is_finite():
    w_plus = codes(2, 1, 8).repeat(1, 6, 1).requires_grad_()
    delta_regularization(w_plus).sum().backward()
    assert torch.equal(w_plus.grad, torch.zeros_like(w_plus))


def test_w_norm_is_the_distance_from_the_average():
    w_plus, average = codes(4, 6, 8), codes(8, seed=1)
    wanted = np.linalg.norm((w_plus - average).numpy().reshape(4, -1), axis=1)
    np.testing.assert_allclose(w_norm(w_plus, average), wanted, rtol=1e-5)
    np.testing.assert_allclose(w_norm(w_plus, average.expand(6, -1)), wanted, rtol=1e-5)


def test_feature_regularization_is_a_mean_in_the_code_and_a_sum_in_the_paper(unchecked):
    feature, original = codes(3, 4, 2, 2).requires_grad_(), codes(3, 4, 2, 2, seed=1).requires_grad_()
    paper = feature_regularization(feature, original, variant="paper")
    np.testing.assert_allclose(paper.detach(), ((feature - original) ** 2).sum((1, 2, 3)).detach(), rtol=1e-5)
    torch.testing.assert_close(feature_regularization(feature, original) * 16, paper)
    paper.sum().backward()
    assert original.grad is None and feature.grad.abs().max() > 0
    with pytest.raises(ValueError, match="expected 'code' or 'paper', got 'mean'"):
        feature_regularization(feature, original, variant="mean")
