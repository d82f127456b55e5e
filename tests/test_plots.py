"""Figures: geometry of contours, and titles that fit."""

import matplotlib.pyplot as plt
import pandas
import pytest
import torch

from latentlab.plots import compare, ellipses, overlay, show, training_curves


def test_an_ellipse_has_a_constant_mahalanobis_distance():
    mean, covariance = torch.tensor([1.0, -2.0]), torch.tensor([[4.0, 1.5], [1.5, 1.0]])
    figure, ax = plt.subplots()
    ellipses(mean, covariance, radii=(1, 3), ax=ax)
    for line, radius in zip(ax.lines, (1, 3), strict=True):
        gap = torch.tensor(line.get_xydata(), dtype=torch.float32) - mean
        assert ((gap @ covariance.inverse()) * gap).sum(1).sqrt().tolist() == pytest.approx([radius] * 100, rel=1e-4)
    plt.close(figure)


def test_titles_of_several_lines_are_not_cut():
    figure = show(torch.zeros(6, 3, 8, 8), titles=["one\ntwo\nthree"] * 6, size=1.2)
    figure.draw_without_rendering()
    edge = figure.bbox.height + 1  # a pixel for rounding
    assert all(ax.title.get_window_extent().y1 <= edge for ax in figure.axes)
    plt.close(figure)


def test_training_curves_are_those_of_the_logs():
    log = pandas.DataFrame({"images": [1000, 2000], "l2": [0.5, 0.25], "variation": [2.0, 4.0]})
    figure = training_curves({"A": log}, ["l2", "variation"])
    assert [list(ax.lines[0].get_ydata()) for ax in figure.axes] == [[0.5, 0.25], [2.0, 4.0]]
    assert list(figure.axes[0].lines[0].get_xdata()) == [1, 2]


def test_the_legend_of_many_runs_lies_beside_the_panels():
    log = pandas.DataFrame({"images": [1000, 2000], "l2": [0.5, 0.25]})
    figure = training_curves({f"run {i}": log for i in range(12)}, ["l2"])
    figure.draw_without_rendering()
    (legend,), (panel,) = figure.legends, figure.axes
    box = legend.get_window_extent()
    assert box.x0 >= panel.get_window_extent().x1 and box.y0 >= 0 and box.y1 <= figure.bbox.height
    assert len({line.get_color() for line in panel.lines}) == 12
    plt.close(figure)


def test_long_labels_of_rows_are_not_cut():
    figure = compare({"ii2s, 300 steps": torch.zeros(2, 3, 8, 8), "older, 1.5 standard": torch.zeros(2, 3, 8, 8)})
    figure.draw_without_rendering()
    assert all(ax.yaxis.label.get_window_extent().x0 >= 0 for ax in figure.axes)
    plt.close(figure)


def test_an_overlay_is_blue_where_the_map_is_1_and_orange_where_it_is_0():
    maps = torch.tensor([[[[0.0, 1.0], [1.0, 0.5]]]])
    over = overlay(torch.zeros(1, 3, 8, 8), maps)
    orange, blue, between = over[0, :, 0, 0], over[0, :, 0, 7], over[0, :, 7, 7]
    assert orange[0] > orange[2] and blue[2] > blue[0]
    torch.testing.assert_close(between, (orange + blue) / 2)
    assert torch.equal(over[..., :4, :4], over[..., :1, :1].expand(1, 3, 4, 4))  # a cell of the map is uniform
    lighter = overlay(torch.ones(1, 3, 8, 8), maps)
    assert (lighter > over).all() and lighter.max() <= 1 and over.min() >= -1
