"""Effects and calibration: exact in a linear world, sound for attributes that many samples have none of."""

import pytest
import torch
from worlds import StyleWorld, first

from latentlab.editing.calibration import calibrate, measure_effect
from latentlab.editing.edit import Direction, State
from latentlab.editing.samples import Samples, draw_samples
from latentlab.editing.stylespace import StyleDirection


@pytest.fixture(scope="module")
def G() -> StyleWorld:
    return StyleWorld()


def along(*steps: float) -> StyleDirection:
    """Moves the first channels."""
    shift = torch.zeros(8)
    shift[: len(steps)] = torch.tensor(steps)
    return StyleDirection("a", (shift, torch.zeros(8), torch.zeros(4)), source="by hand")


def test_effect_in_deviations(G):
    samples = draw_samples(G, first(2), ["a", "b"], n=2_000)
    effect = measure_effect(along(1.0, -0.5), G, first(2), ["a", "b"], samples=samples, strength=2.0)
    torch.testing.assert_close(effect.mean, torch.tensor([2.0, -1.0]) / samples.std)
    assert effect.scatter.max() < 1e-5 and list(effect.table().index) == ["a", "b"]
    uneven = measure_effect(along(1.0), G, lambda x: x.flatten(1)[:, :1] ** 2, ["a"], n=500)
    assert uneven.scatter[0] > 0.3


def test_strength_one_is_one_deviation(G):
    samples = draw_samples(G, first(2), ["a", "b"], n=2_000)
    edit = calibrate(along(0.1), G, first(2), ["a", "b"], samples=samples, limit=100)
    assert edit.scale == pytest.approx(10 * float(samples.std[0]), rel=0.02)
    effect = measure_effect(edit, G, first(2), ["a", "b"], samples=samples)
    assert effect.mean[0] == pytest.approx(1, abs=0.03) and edit.std == pytest.approx(float(samples.std[0]))
    assert edit.unit == "standard deviations of a, measured" and "by hand; calibrated by" in edit.source
    assert (edit.name, edit.space, edit.layers) == ("a", "S", None)
    state = State(G.broadcast(samples.w[:2]))
    moved = edit(state, torch.tensor([0.0, 1.0]), G).draw(G) - state.draw(G)
    assert not moved[0].any() and moved[1].any()


def test_those_without_room_do_not_count(G):
    """Three of four samples are at 0: over all of them a step down would hardly show."""
    def read(images):
        return (images.flatten(1)[:, :1] - 2.5).clamp(min=0)

    samples = draw_samples(G, read, ["a"], n=2_000)
    edit = calibrate(along(1.0), G, read, ["a"], samples=samples, n=500)
    at_zero = samples.readings[:500, 0] == 0
    assert 0.6 < float(at_zero.float().mean()) < 0.9
    down = read_change(edit, G, read, samples, -1.0)[samples.readings[:500, 0] > samples.std[0]].mean()
    up = read_change(edit, G, read, samples, 1.0).mean()
    assert (float(up) - float(down)) / 2 == pytest.approx(1, abs=0.1)
    everyone = (read_change(edit, G, read, samples, 1.0).mean() - read_change(edit, G, read, samples, -1.0).mean()) / 2
    assert everyone < 0.8
    assert "with room upwards" in edit.source and "with room downwards" in edit.source


def read_change(edit, G, read, samples, strength):
    state = State(G.broadcast(samples.w[:500]))
    after = read(edit(state, torch.full((500,), strength), G).draw(G))
    return (after - samples.readings[:500])[:, 0] / samples.std[0]


def test_any_edit_can_be_calibrated_for_any_attribute(G):
    edit = Direction("pc0", G.A[1] / G.A[1].norm())
    found = calibrate(edit, G, first(2), ["a", "b"], attribute="b")
    effect = measure_effect(found, G, first(2), ["a", "b"])
    assert effect.mean[1] == pytest.approx(1, abs=0.05) and found.unit == "standard deviations of b, measured"
    assert found.space == "W" and found.name == "pc0"


def test_bad_input(unchecked, G):
    with pytest.raises(ValueError, match="moves a by one standard deviation .*, got 0.00 of it at strength 8"):
        calibrate(along(0.0, 1.0), G, first(2), ["a", "b"])
    with pytest.raises(ValueError, match="got -"):
        calibrate(along(-1.0), G, first(2), ["a", "b"])
    with pytest.raises(ValueError, match="got 'pc0'; read are: a, b"):
        calibrate(Direction("pc0", torch.ones(6)), G, first(2), ["a", "b"])
    samples = draw_samples(G, first(2), ["a", "c"], n=50)
    with pytest.raises(ValueError, match="samples: expected readings of a, b, got a, c"):
        calibrate(along(1.0), G, first(2), ["a", "b"], samples=samples)
    with pytest.raises(ValueError, match="same value in all"):
        measure_effect(along(1.0), G, first(1), ["a"], samples=Samples(samples.w, torch.ones(50, 1), ("a",)))
