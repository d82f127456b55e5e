"""Figures: what is drawn is what was measured."""

import matplotlib.pyplot as plt
import pytest
import torch

from latentlab.plots import ellipses


def test_an_ellipse_keeps_one_mahalanobis_distance():
    mean, covariance = torch.tensor([1.0, -2.0]), torch.tensor([[4.0, 1.5], [1.5, 1.0]])
    figure, ax = plt.subplots()
    ellipses(mean, covariance, radii=(1, 3), ax=ax)
    for line, radius in zip(ax.lines, (1, 3), strict=True):
        gap = torch.tensor(line.get_xydata(), dtype=torch.float32) - mean
        assert ((gap @ covariance.inverse()) * gap).sum(1).sqrt().tolist() == pytest.approx([radius] * 100, rel=1e-4)
    plt.close(figure)
