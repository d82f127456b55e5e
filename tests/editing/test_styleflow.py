"""The flow: the known answer in a Gaussian world, an inverse that inverts, an edit that keeps what it should."""

import pytest
import torch
from worlds import StyleWorld, first

from latentlab.editing.edit import Edit, State
from latentlab.editing.samples import Reader, Samples, draw_samples
from latentlab.editing.styleflow import ConditionalFlow, FlowEdit, flow_edit, paper_layers, train_flow

pytest.importorskip("zuko", reason="needs zuko, of the extra 'editing'")
QUICK = {"hidden": (48, 48), "steps": 400, "batch_size": 400, "learning_rate": 5e-3}
MIXING = torch.tensor([[1.0, 0.8], [0.0, 0.6]])


class GaussianWorld(StyleWorld):
    """w ~ N(0, M M^T), and what is seen of it are a and b, its first two coordinates, which go together."""

    def __init__(self):
        mixing = torch.eye(6)
        mixing[:2, :2] = MIXING
        super().__init__(mixing)
        self.A[:] = torch.eye(20, 6)

    def styles(self, w_plus):
        return [s - 1 for s in super().styles(w_plus)]


@pytest.fixture(scope="module")
def G() -> GaussianWorld:
    return GaussianWorld()


@pytest.fixture(scope="module")
def samples(G) -> Samples:
    """Read with an error of .5: what a condition tells exactly has no density left to flow."""
    exact = draw_samples(G, first(2), ["a", "b"], n=10_000)
    error = 0.5 * torch.randn(10_000, 2, generator=torch.Generator().manual_seed(0))
    return Samples(exact.w, exact.readings + error, exact.names)


@pytest.fixture(scope="module")
def flow(samples) -> ConditionalFlow:
    """Under b alone, so that a is free to follow it."""
    return train_flow(samples, ["b"], **QUICK)


def test_follows_the_conditional_mean_of_a_gaussian_world(G, samples, flow):
    """E[w | b] moves by Cov(w, b) / Var(b) for each unit of b that is read."""
    edit = flow_edit(flow, "b", G, first(2), ["a", "b"])
    state = State(G.broadcast(samples.w[:300]))
    change = (edit(state, torch.full((300,), 0.7), G).w_plus - state.w_plus)[:, 0]
    step = 0.7 * float(samples.of("b").std())
    a, b = (MIXING @ MIXING.T)[:, 1] * step / float(samples.of("b").var())
    expected = torch.tensor([a, b, 0.0, 0.0, 0.0, 0.0])
    torch.testing.assert_close(change.mean(0), expected, atol=0.08, rtol=0)
    assert isinstance(edit, Edit) and edit.std == pytest.approx(float(samples.of("b").std()))


def test_z_is_normal_and_knows_nothing_of_the_condition(samples, flow):
    w, c = samples.w[:2_000], samples.readings[:2_000, 1:]
    z = flow.encode(w, c)
    torch.testing.assert_close(z.std(0), torch.ones(6), atol=0.12, rtol=0)
    together = torch.corrcoef(torch.cat([z, c], 1).T)[-1, :-1]
    before = torch.corrcoef(torch.cat([w, c], 1).T)[-1, :-1]
    assert together.abs().max() < 0.15 < 0.6 < before.abs().max()
    torch.testing.assert_close(flow.decode(z, c), w, atol=1e-3, rtol=1e-3)


def test_holding_the_other_as_a_condition_keeps_it(G, samples):
    both = train_flow(samples, **QUICK)
    edit = flow_edit(both, "b", G, first(2), ["a", "b"])
    state = State(G.broadcast(samples.w[:300]))
    change = (edit(state, torch.ones(300), G).w_plus - state.w_plus)[:, 0].mean(0)
    C = MIXING @ MIXING.T  # E[w | a, b] = C (C + .25 I)^-1 (a, b)
    expected = (C @ torch.linalg.inv(C + 0.25 * torch.eye(2)))[:, 1] * edit.std
    torch.testing.assert_close(change[:2], expected, atol=0.1, rtol=0)


def test_layers_and_strength_zero(G, samples, flow):
    edit = flow_edit(flow, "b", G, first(2), ["a", "b"], layers=[1])
    state = State(G.broadcast(samples.w[:3]).clone())
    after = edit(state, torch.tensor([1.0, 0.0, -1.0]), G).w_plus
    assert torch.equal(after[:, [0, 2]], state.w_plus[:, [0, 2]])
    torch.testing.assert_close(after[1], state.w_plus[1])
    assert after[0, 1, 1] > state.w_plus[0, 1, 1] and after[2, 1, 1] < state.w_plus[2, 1, 1]
    alone = edit(state[0], torch.ones(1), G).w_plus
    torch.testing.assert_close(alone, after[:1], atol=5e-3, rtol=0)  # the solver's steps suit a batch as a whole


def test_layers_of_the_paper():
    assert paper_layers("yaw", 18) == (0, 1, 2, 3) and paper_layers("beard", 18) == (5, 6, 7, 8, 9)
    assert paper_layers("glasses", 10) == (1, 2) and paper_layers("light_azimuth", 10) == (4, 5, 6)
    assert paper_layers("fun", 18) is None


def test_training_repeats_and_official_width_is_small(samples):
    once, again, other = (train_flow(samples[:500], ["a"], hidden=(8,), steps=5, seed=s) for s in (0, 0, 1))
    weights = [torch.cat([p.flatten() for p in f.parameters()]) for f in (once, again, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert sum(p.numel() * 4 for p in ConditionalFlow(512, [f"c{i}" for i in range(18)]).state_dict().values()) < 2**21


def test_bad_input(unchecked, G, samples, flow):
    reader = Reader(first(2), ("a", "b"))
    with pytest.raises(ValueError, match="expected one of the flow's conditions, got 'a'; they are: b"):
        flow_edit(flow, "a", G, reader)
    with pytest.raises(ValueError, match="got 'b'; read are: a"):
        flow_edit(flow, "b", G, first(1), ["a"])
    with pytest.raises(ValueError, match="got 'c'; read are: a, b"):
        train_flow(samples, ["c"])
    with pytest.raises(ValueError, match="same value in all"):
        train_flow(Samples(samples.w, 0 * samples.readings, ("a", "b")))
    other, edit = StyleWorld(torch.ones(6, 6)), flow_edit(flow, "b", G, reader)
    with pytest.raises(ValueError, match="expected the mapping network .*train a flow"):
        edit(State(other.broadcast(samples.w[:1])), torch.ones(1), other)
    with pytest.raises(ValueError, match=r"layers: expected some of 0 to 2, got \[3\]"):
        FlowEdit("b", flow, reader, edit.fingerprint, (3,))(State(G.broadcast(samples.w[:1])), torch.ones(1), G)
