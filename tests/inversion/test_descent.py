"""The descent: images stop, diverge and keep their best parameters independently."""

import pytest
import torch

from latentlab.inversion.descent import descend, ramped

GOAL = torch.tensor([0.5, 5.0])


def valley(p: torch.Tensor):
    """A V-shaped loss for every image: with steps of constant length the descent oscillates at its minimum."""
    return lambda step: {"loss": (p[:, 0] - GOAL).abs()}


def start() -> torch.Tensor:
    return torch.zeros(2, 1, requires_grad=True)


def test_does_all_steps_by_default():
    p = start()
    descent = descend(valley(p), [p], steps=30, learning_rate=0.2)
    assert descent.steps == 30 and torch.isfinite(descent.trace["loss"]).all() and not descent.interrupted


def test_patience_stops_each_image_at_its_lowest():
    p, seen = start(), []
    descent = descend(
        valley(p), [p], steps=200, learning_rate=0.2, patience=4, callback=lambda step: seen.append(step.terms["loss"])
    )
    loss = descent.trace["loss"]
    assert descent.steps < 200 and len(seen) == descent.steps
    torch.testing.assert_close((p[:, 0] - GOAL).abs().detach(), loss.nan_to_num(9).amin(0))
    lasted = torch.isfinite(loss).sum(0)
    assert torch.equal(lasted, loss.nan_to_num(9).argmin(0) + 4 + 1)
    assert lasted[0] < lasted[1] == descent.steps


def test_keep_best_returns_the_lowest_of_each_image():
    p, q = start(), start()
    loss = descend(valley(p), [p], steps=28, learning_rate=0.2, keep_best=True).trace["loss"]
    descend(valley(q), [q], steps=28, learning_rate=0.2)
    torch.testing.assert_close((p[:, 0] - GOAL).abs().detach(), loss.amin(0))
    assert not torch.equal(p, q)


@pytest.mark.parametrize("broken", ["loss", "gradient"])
def test_divergence_stops_one_image_and_keeps_its_lowest(broken):
    """The other image has the same result as alone."""
    p, alone = start(), torch.zeros(1, 1, requires_grad=True)

    def terms(step: int) -> dict[str, torch.Tensor]:
        loss = valley(p)(step)["loss"]
        if step == 3 and broken == "loss":
            loss = loss + torch.tensor([0.0, torch.inf])
        if step == 3 and broken == "gradient":  # the slope of the root at 0 is infinite, and 0 times that is NaN
            loss = loss + torch.stack([torch.zeros(()), (0 * p[1, 0]).sqrt()])
        return {"loss": loss}

    with pytest.warns(UserWarning, match="ii2s diverged at step 3 in image 1"):
        descent = descend(terms, [p], steps=10, learning_rate=0.2, description="ii2s")
    descend(lambda step: {"loss": (alone[:, 0] - GOAL[:1]).abs()}, [alone], steps=10, learning_rate=0.2)
    assert torch.equal(p[0], alone[0]) and descent.steps == 10
    lowest = 2 if broken == "loss" else 3
    torch.testing.assert_close((p[1, 0] - 5).abs().detach(), descent.trace["loss"][lowest, 1])
    assert torch.isnan(descent.trace["loss"][4:, 1]).all()


def test_divergence_of_all_images_ends_the_descent():
    p = start()
    with pytest.warns(UserWarning, match="diverged at step 0 in image 0, 1"):
        descent = descend(lambda step: {"loss": p[:, 0] / 0}, [p], steps=10, learning_rate=0.2)
    assert descent.steps == 1 and not descent.interrupted and torch.equal(p, start())


def test_learning_rate_of_the_projector():
    rate = ramped(0.1, 1000)
    assert rate(0) == 0 and rate(25) == pytest.approx(0.05) and rate(50) == rate(700) == pytest.approx(0.1)
    assert rate(875) == pytest.approx(0.05) and rate(999) < 1e-5
