"""Learned and corrected edits: exact in linear worlds, and what no straight line of W can do in one that is not."""

import pytest
import torch
from worlds import StyleWorld, first

from latentlab.editing.calibration import measure_effect
from latentlab.editing.coordinates import coordinates_of
from latentlab.editing.corrected import correct
from latentlab.editing.edit import Direction, State
from latentlab.editing.learned import EditLoss, learn_edit, start_of
from latentlab.editing.regression import fit_directions
from latentlab.editing.samples import Reader, draw_samples
from latentlab.editing.stylespace import StyleDirection
from latentlab.spaces import measure_statistics

PLAIN = EditLoss(lambda_held=1.0, lambda_perceptual=0.0, augment=None)


def curved(s: torch.Tensor) -> torch.Tensor:
    """Attribute a follows channel 0 differently for every face, and channel 3 alike for all; b bends with 0 and 3."""
    a = s[:, 0] * (1 + 0.3 * s[:, 1]) + s[:, 3]
    return torch.stack([a, s[:, 1] + 0.3 * s[:, 0] * s[:, 2] + 0.02 * s[:, 3].square(), s[:, 2]], 1)


@pytest.fixture(scope="module")
def linear() -> StyleWorld:
    return StyleWorld()


@pytest.fixture(scope="module")
def bent() -> StyleWorld:
    return StyleWorld(torch.randn(6, 6, generator=torch.Generator().manual_seed(3)) / 3, paint=curved)


@pytest.fixture(scope="module")
def statistics(linear, bent):
    return {G: measure_statistics(G, 20_000) for G in (linear, bent)}


def test_jacobian_of_a_linear_world(linear, statistics):
    """In S the derivative is the channel's own deviation, in W+ the affine weights times that of W; toRGB stays."""
    state = State(linear.broadcast(torch.randn(2, 6, generator=torch.Generator().manual_seed(0))))
    s = coordinates_of(linear, "S", statistics=statistics[linear])
    readings, J = s.jacobian(first(20), state, linear)
    torch.testing.assert_close(readings, state.draw(linear).flatten(1)[:, :20])
    torch.testing.assert_close(J, torch.diag(s.scale).expand(2, 20, 20))
    assert (s.scale > 0).tolist() == [True] * 16 + [False] * 4
    assert (coordinates_of(linear, "S", torgb=True, statistics=statistics[linear]).scale > 0).all()
    _, J = coordinates_of(linear, "W+", statistics=statistics[linear]).jacobian(first(20), state, linear)
    scale = statistics[linear].w_covariance.diagonal().sqrt().float()
    torch.testing.assert_close(J[0, :8, :6], linear.A[:8] * scale)
    assert not J[0, :8, 6:].any()


@pytest.mark.parametrize("space", ["S", "W+"])
def test_the_start_is_the_ridge_solution_and_exact_without_ridge(linear, statistics, space):
    reader, name = Reader(first(3), ("a", "b", "c")), "b"
    samples = draw_samples(linear, reader, n=500)
    coordinates = coordinates_of(linear, space, statistics=statistics[linear])
    x = start_of(linear, name, reader, coordinates, samples, n=4, lambda_ridge=0.03)
    J = coordinates.jacobian(reader, State(linear.broadcast(samples.w[:1])), linear)[1][0] / samples.std[:, None]
    by_hand = torch.linalg.solve(J.T @ J + 0.03 * torch.eye(J.shape[1]), J[1])
    torch.testing.assert_close(x, by_hand / (J[1] @ by_hand), atol=1e-4, rtol=1e-3)
    exact = start_of(linear, name, reader, coordinates, samples, n=4, lambda_ridge=1e-7)
    torch.testing.assert_close(J @ exact, torch.tensor([0.0, 1.0, 0.0]), atol=1e-3, rtol=0)


@pytest.mark.parametrize("space", ["S", "W+"])
def test_learning_keeps_the_true_direction_of_a_linear_world(linear, statistics, space):
    edit = learn_edit(linear, "b", first(3), ["a", "b", "c"], space=space, loss=PLAIN, steps=60,
                      statistics=statistics[linear])  # fmt: skip
    assert edit.space == space and "60 steps" in edit.source and "aimed at" in edit.unit
    effect = measure_effect(edit, linear, first(3), ["a", "b", "c"])
    torch.testing.assert_close(effect.mean, torch.tensor([0.0, 1.0, 0.0]), atol=0.03, rtol=0)
    assert effect.scatter.max() < 0.01


def test_learned_beats_regression_and_its_own_start_where_the_world_bends(bent, statistics):
    """Same gain, a fraction of the leakage: regression can only say what a step of W does on average."""
    reader = Reader(first(3), ("a", "b", "c"))
    samples = draw_samples(bent, reader, n=4_000)
    trace = []
    knobs = {"loss": PLAIN, "statistics": statistics[bent], "samples": samples}
    learned = learn_edit(bent, "a", reader, steps=150, callback=lambda i, t: trace.append(t["held"].mean()), **knobs)
    edits = {"learned": learned, "start": learn_edit(bent, "a", reader, steps=0, **knobs),
             "regression": fit_directions(samples.w, samples.readings, ["a", "b", "c"])["a"]}  # fmt: skip
    gain, leakage = {}, {}
    for name, edit in edits.items():
        effect = measure_effect(edit, bent, reader, samples=samples, n=500)
        gain[name], leakage[name] = effect.mean[0], float((effect.mean[1:].abs() + effect.scatter[1:]).max())
    assert 0.8 < gain["learned"] < 1.2 and gain["regression"] > 0.7
    assert leakage["learned"] < 0.35 * leakage["regression"] and leakage["learned"] < leakage["start"]
    assert len(trace) == 150 and sum(trace[-30:]) < sum(trace[:30])


def test_knobs_do_what_they_say(linear, statistics):
    """Nothing held: the plain gradient's leak comes back. A perceptual term keeps the step short. Augmentation and
    identity are used, the same for both pictures of a pair. A seed repeats itself."""
    names, seen, known = ["a", "b"], [], {"statistics": statistics[linear], "steps": 40}
    mixed = Reader(lambda x: x.flatten(1)[:, :2] @ torch.tensor([[1.0, 1.0], [0.0, 0.5]]), tuple(names))
    free = learn_edit(linear, "a", mixed, loss=EditLoss(held=[], lambda_perceptual=0.0, augment=None), **known)
    held = learn_edit(linear, "a", mixed, loss=PLAIN, **known)
    leaks = [float(measure_effect(e, linear, mixed).mean[1]) for e in (free, held)]
    assert abs(leaks[1]) < 0.05 and leaks[0] > leaks[1] + 0.01
    assert "held: nothing" in free.source and "held: all other attributes" in held.source

    def distance(a, b):
        return (a - b).square().sum((1, 2, 3))

    def augment(images, draw):
        seen.append(torch.rand((), generator=draw))
        return images + seen[-1]

    short = learn_edit(linear, "a", mixed, loss=EditLoss(lambda_perceptual=1.0, perceptual=distance,
                                                         augment=augment), **known)  # fmt: skip
    assert measure_effect(short, linear, mixed).mean[0] < 0.8 and "perceptual 1" in short.source
    assert len(seen) == 80 and seen[0] == seen[1] != seen[2]
    likewise = learn_edit(linear, "a", mixed, loss=EditLoss(lambda_perceptual=0.0, lambda_identity=1.0,
                                                            identity=distance, augment=None), **known)  # fmt: skip
    assert measure_effect(likewise, linear, mixed).mean[0] < 0.8
    again = learn_edit(linear, "a", mixed, loss=PLAIN, **known)
    assert all(torch.equal(a, b) for a, b in zip(again.shifts, held.shifts, strict=True))
    other = learn_edit(linear, "a", mixed, loss=PLAIN, seed=1, **known)
    assert not torch.equal(other.shifts[0], held.shifts[0])


def test_nobody_is_asked_for_more_than_there_is(linear, statistics):
    """An attribute that is on or off: the best step by brute force over those with room, a good deal shorter than with
    those who have it and are asked for more."""

    def switch(s):
        return s + 4 * torch.tanh(2 * s)

    samples = draw_samples(linear, lambda x: switch(first(1)(x)), ["a"], n=1_000)
    edit = learn_edit(linear, "a", lambda x: switch(first(1)(x)), ["a"], loss=PLAIN, statistics=statistics[linear],
                      samples=samples, steps=200, batch_size=128, learning_rate=0.03)  # fmt: skip
    draw, std, y = torch.Generator().manual_seed(1), float(samples.std), samples.readings
    s0 = 1 + float(linear.A[0].norm()) * torch.randn(8_000, generator=draw)
    strength = (0.5 + 1.5 * torch.rand(8_000, generator=draw)) * (torch.arange(8_000) % 2 * 2 - 1)
    steps, aim = torch.linspace(0.5, 6, 100), switch(s0) + strength * std
    gaps = (switch(s0 + strength * steps[:, None]) - aim).square()
    room = (aim <= y.max()) & (aim >= y.min())
    best, for_all = (float(steps[g.mean(1).argmin()]) for g in (gaps[:, room], gaps))
    assert for_all > 1.2 * best and float(edit.shifts[0][0]) == pytest.approx(best, rel=0.1)


def test_a_corrected_edit_returns_the_held_factors(bent, statistics):
    reader = Reader(first(3), ("a", "b", "c"))
    samples = draw_samples(bent, reader, n=2_000)
    plain = fit_directions(samples.w, samples.readings, ["a", "b", "c"])["a"]
    corrected = correct(plain, bent, reader, samples=samples, statistics=statistics[bent], lambda_ridge=0.01)
    before, after = (measure_effect(e, bent, reader, samples=samples, n=200) for e in (plain, corrected))
    leak = [(e.mean[1:].abs() + e.scatter[1:]).max() for e in (before, after)]
    assert leak[1] < 0.1 * leak[0] and after.mean[0] == pytest.approx(float(before.mean[0]), abs=0.05)
    assert (corrected.name, corrected.space) == ("a", "S") and "3 Gauss-Newton corrections" in corrected.source
    some = correct(plain, bent, reader, held=["b"], samples=samples, statistics=statistics[bent])
    effect = measure_effect(some, bent, reader, samples=samples, n=200)
    assert effect.scatter[1] < 0.3 * before.scatter[1] and effect.scatter[2] > 0.5 * before.scatter[2]
    state = State(bent.broadcast(samples.w[:3]))
    strengths = torch.tensor([0.0, 1.0, 2.0])
    together = corrected(state, strengths, bent).draw(bent)
    torch.testing.assert_close(together[:1], state.draw(bent)[:1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(together[2:], corrected(state[2], strengths[2:], bent).draw(bent), atol=1e-4, rtol=1e-4)


def test_bad_input(bent, statistics):
    reader = Reader(first(3), ("a", "b", "c"))
    edit, samples = Direction("a", torch.ones(6)), draw_samples(bent, reader, n=100)
    known = {"samples": samples, "statistics": statistics[bent]}
    for call in (lambda **k: learn_edit(bent, "d", reader, **known, **k),
                 lambda **k: correct(edit, bent, reader, held=["d"], **known, **k)):  # fmt: skip
        with pytest.raises(ValueError, match="got 'd'; read are: a, b, c"):
            call()
    with pytest.raises(ValueError, match="held: expected other attributes .*'a'"):
        learn_edit(bent, "a", reader, loss=EditLoss(held=["a"]), **known)
    with pytest.raises(ValueError, match="held: expected at least one attribute and not the edited 'a'"):
        correct(edit, bent, reader, held=["a"], **known)
    with pytest.raises(ValueError, match="steps, lambda_ridge"):
        correct(edit, bent, reader, steps=0, **known)
    with pytest.raises(ValueError, match="strengths: expected two sizes above 0"):
        EditLoss(strengths=(0.0, 2.0))
    with pytest.raises(ValueError, match="space: expected 'S' or 'W\\+', got 'Z'"):
        learn_edit(bent, "a", reader, space="Z", **known)
    with pytest.raises(ValueError, match="same value in all of 1000 for a"):
        learn_edit(bent, "a", lambda x: 0 * x.flatten(1)[:, :1], ["a"], samples=None, statistics=statistics[bent])
    with pytest.raises(ValueError, match="expected .* channels in the layers of this generator"):
        StyleDirection("a", (torch.zeros(3),))(State(bent.broadcast(samples.w[:2])), torch.ones(2), bent)
