"""Sketches: paper in flat regions, ink on dark lines, and the same drawing at every resolution."""

import torch

from latentlab.faces import render, sample_factors, sketch
from latentlab.faces.sketch import INK, PAPER


def test_flat_regions_are_paper_and_dark_lines_are_ink():
    plain = torch.full((1, 3, 64, 64), 0.5)
    lined = plain.clone()
    lined[..., 30:33] = -1.0
    paper, drawn = (sketch(x) / 2 + 0.5 for x in (plain, lined))
    assert paper.std((2, 3)).max() < 1e-4 and (paper[0, :, 0, 0] - torch.tensor(PAPER)).abs().max() < 0.1
    assert (drawn[0, :, 32, 31] - torch.tensor(INK)).abs().max() < 0.05
    torch.testing.assert_close(drawn[..., :10], paper[..., :10], atol=1e-3, rtol=0)  # far from the line: paper


def test_lines_do_not_depend_on_the_resolution():
    faces = sample_factors(2, seed=0)
    small, large = sketch(render(faces, 64)), sketch(render(faces, 128))
    assert small.min() >= -1 and small.max() <= 1
    shrunk = torch.nn.functional.avg_pool2d(large, 2)
    assert torch.corrcoef(torch.stack([small.flatten(), shrunk.flatten()]))[0, 1] > 0.96


def test_gradients_are_finite_on_black():
    x = torch.full((1, 3, 16, 16), -1.0, requires_grad=True)
    sketch(x).sum().backward()
    assert x.grad.isfinite().all()
