"""Directions in PN: exact in a linear world, held attributes stay, and nothing leaves the generator's codes."""

import pytest
import torch
from worlds import StyleWorld, first

from latentlab.editing.edit import State
from latentlab.editing.regression import fit_directions, fit_pn_directions, pn_direction
from latentlab.editing.samples import Reader, Samples, draw_samples, losses_reader
from latentlab.faces import NAMES, render, sample_factors
from latentlab.losses.attributes import load_attributes
from latentlab.networks.attributes import read_factors
from latentlab.spaces import measure_statistics, p_to_w, w_to_p


class PWorld(StyleWorld):
    """Codes are normal in P, with correlated coordinates, and attributes are linear in P."""

    def mapping(self, z):
        return p_to_w(super().mapping(z))


@pytest.fixture(scope="module")
def G():
    return PWorld(torch.randn(6, 6, generator=torch.Generator().manual_seed(5)))


@pytest.fixture(scope="module")
def samples(G):
    w = G.mapping(torch.randn(5_000, 6, generator=torch.Generator().manual_seed(0)))
    return Samples(w, w_to_p(w)[:, :2] @ torch.tensor([[1.0, 1.0], [0.0, 0.5]]), ("a", "b"))


@pytest.fixture(scope="module")
def statistics(G):
    return measure_statistics(G, 50_000)


def moved(edit, samples, G, strength=1.0):
    state = State(G.broadcast(samples.w[:200]))
    after = edit(state, torch.full((200,), strength), G).w_plus[:, 0]
    change = (w_to_p(after) - w_to_p(samples.w[:200]))[:, :2] @ torch.tensor([[1.0, 1.0], [0.0, 0.5]])
    return change / samples.std, after


def test_without_ridge_the_other_is_held_and_the_step_is_one_deviation(G, samples, statistics):
    edits = fit_pn_directions(samples, statistics, lambda_ridge=0.0)
    for k, edit in enumerate(edits.values()):
        change, _ = moved(edit, samples, G)
        torch.testing.assert_close(change, torch.eye(2)[k].expand(200, 2), atol=1e-3, rtol=0)
        assert edit.space == "PN" and "lambda 0" in edit.source and "linear fit" in edit.unit
    nothing, _ = moved(edits["a"], samples, G, 0.0)
    assert nothing.abs().max() < 1e-5


def test_ridge_trades_length_against_leakage(samples, statistics):
    """Between the exact solution and the plain gradient: shorter for its gain, and it leaks more."""
    lengths, leaks = [], []
    for ridge in (0.0, 0.1, 1e6):
        edit = fit_pn_directions(samples, statistics, lambda_ridge=ridge)["a"]
        d = torch.linalg.solve(statistics.eigenvectors * statistics.floored.sqrt(), edit.step.double())
        lengths.append(float(d.norm()))
        leaks.append(float((edit.step[:2] @ torch.tensor([[1.0, 1.0], [0.0, 0.5]]))[1] / samples.std[1]))
    assert lengths[0] > 1.2 * lengths[1] > 1.2 * lengths[2]
    assert abs(leaks[0]) < 1e-3 < 10 * abs(leaks[1]) < 10 * abs(leaks[2])


def test_stays_among_the_codes_where_a_line_of_w_leaves(G, samples, statistics):
    """Both edited until a moves by one deviation: the PN norm of the codes stays, that of a line in W explodes."""
    pn = fit_pn_directions(samples, statistics)["a"]
    w = fit_directions(samples.w, samples.readings, ["a", "b"])["a"]
    norms = {}
    for name, edit in {"pn": pn, "w": w}.items():
        change, after = moved(edit, samples, G, 2.0)
        norms[name] = float(statistics.w_to_pn(after).square().mean() / change[:, 0].mean().abs())
    assert norms["w"] > 1.5 * norms["pn"]


def test_a_step_for_each_layer(G, samples, statistics):
    vector = torch.zeros(3, 6)
    vector[1, 0] = 1.0
    edit = pn_direction("one layer", vector, statistics)
    codes = G.broadcast(samples.w[:4])
    after = edit(State(codes), torch.ones(4), G).w_plus
    torch.testing.assert_close(after[:, [0, 2]], codes[:, [0, 2]])
    expected = statistics.w_to_pn(codes[:, 1]) + vector[1]
    torch.testing.assert_close(statistics.w_to_pn(after[:, 1]), expected, atol=1e-4, rtol=1e-4)


def test_bad_input(G, samples, statistics):
    other = StyleWorld()
    edit = fit_pn_directions(samples, statistics)["a"]
    with pytest.raises(ValueError, match="expected the mapping network .*find the edit again"):
        edit(State(other.broadcast(samples.w[:2])), torch.ones(2), other)
    with pytest.raises(ValueError, match="expected a step of shape"):
        pn_direction("a", torch.zeros(2, 6), statistics)(State(G.broadcast(samples.w[:2])), torch.ones(2), G)
    with pytest.raises(ValueError, match="lambda_ridge: expected 0 or more"):
        fit_pn_directions(samples, statistics, lambda_ridge=-1.0)
    with pytest.raises(ValueError, match="expected more than 6"):
        fit_pn_directions(samples[:6], statistics)
    with pytest.raises(ValueError, match="same value in all of 5000 for b"):
        fit_pn_directions(Samples(samples.w, samples.readings * torch.tensor([1.0, 0.0]), ("a", "b")), statistics)


def test_samples_are_checked(unchecked, G):
    w = torch.randn(10, 6)
    with pytest.raises(ValueError, match="one row for each of 10 codes, got 9"):
        Samples(w, torch.randn(9, 2), ("a", "b"))
    with pytest.raises(ValueError, match="one for each of 2 readings, got 1"):
        Samples(w, torch.randn(10, 2), ("a",))
    with pytest.raises(ValueError, match="finite"):
        Samples(w, torch.full((10, 1), torch.nan), ("a",))
    with pytest.raises(ValueError, match="attribute: expected one that is read, got 'c'; read are: a, b"):
        Samples(w, torch.randn(10, 2), ("a", "b")).of("c")
    with pytest.raises(ValueError, match="names: expected the names of the scores"):
        draw_samples(G, first(2), n=10)
    with pytest.raises(ValueError, match="expected scores of shape"):
        draw_samples(G, first(2), ["a"], n=10)
    with pytest.raises(ValueError, match="expected 64 px for the losses' attribute network, got 4"):
        draw_samples(G, n=10)
    found = draw_samples(G, first(2), ["a", "b"], n=10, batch_size=3)
    torch.testing.assert_close(found.readings, G.styles(G.broadcast(found.w))[0][:, :2])
    torch.testing.assert_close(draw_samples(G, first(2), ["a", "b"], n=10, batch_size=5).w, found.w)


def test_readings_of_another_network_or_generator_are_refused(G):
    found = draw_samples(G, first(2), ["a", "b"], n=50)
    found.check(Reader(first(2), ("a", "b")), G)
    for reader, other, says in ((Reader(lambda x: 2 * first(2)(x), ("a", "b")), G, "others for a, b"),
                                (Reader(first(2), ("a", "b")), StyleWorld(seed=1), "others for "),
                                (Reader(first(2), ("b", "a")), G, "expected readings of b, a, got a, b")):  # fmt: skip
        with pytest.raises(ValueError, match=says):
            found.check(reader, other)


def test_the_losses_network_is_the_default():
    """Its own factors and names; binary ones as probabilities, or as logits that a sigmoid takes to them."""
    faces = render(sample_factors(4, seed=1))
    own, logits = losses_reader(), losses_reader(probabilities=False)
    k = own.column("glasses")
    torch.testing.assert_close(own(faces), read_factors(load_attributes(), faces))
    torch.testing.assert_close(logits(faces)[:, k].sigmoid(), own(faces)[:, k])
    others = [i for i in range(len(NAMES)) if i != k]
    assert torch.equal(logits(faces)[:, others], own(faces)[:, others]) and own.names == NAMES
    faces.requires_grad_()
    assert torch.autograd.grad(logits(faces).sum(), faces)[0].abs().sum() > 0
