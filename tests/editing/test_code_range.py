"""The generator's range: own codes stay in it, a long step leaves it, and codes that were outside are not blamed."""

import pytest
import torch
from worlds import StyleWorld

from latentlab.editing.code_range import FAR, CodeRange, Departure
from latentlab.editing.edit import Direction, State, apply_edit
from latentlab.editing.regression import pn_direction
from latentlab.editing.stylespace import StyleDirection
from latentlab.priors import pn_norm
from latentlab.spaces import Statistics, measure_statistics


@pytest.fixture(scope="module")
def G() -> StyleWorld:
    return StyleWorld()


@pytest.fixture(scope="module")
def statistics(G) -> Statistics:
    return measure_statistics(G, 50_000)


@pytest.fixture(scope="module")
def own(G, statistics) -> CodeRange:
    return CodeRange(G, statistics=statistics)


@pytest.fixture
def state(G) -> State:
    return State(G.broadcast(G.mapping(torch.randn(50, 6, generator=torch.Generator().manual_seed(1)))))


def test_norms_are_those_of_the_samples(G, own, state, statistics):
    torch.testing.assert_close(own.norms(state, "PN+"), pn_norm(state.w_plus, statistics))
    held = State(state.w_plus, styles=G.styles(state.w_plus))
    torch.testing.assert_close(own.norms(held, "S"), own.norms(state, "S"))
    for space in ("PN+", "S"):
        assert own.norms(state, space).mean() == pytest.approx(1, rel=0.2) and own.largest[space] > 1.5  # of a thousand
    still = own.departure(state, state)
    assert still.space == "PN+" and own.departure(held, held).space == "S"
    assert not still.left.any() and still.describe() == ""


def test_a_long_step_leaves_the_range_in_the_space_that_it_is_made_in(G, own, state, statistics):
    pn = pn_direction("a", torch.eye(6)[0], statistics)
    channel = [torch.zeros(8), torch.zeros(8), torch.zeros(4)]
    channel[1][3] = 1.0
    for edit, space in ((pn, "PN+"), (StyleDirection("a", tuple(channel)), "S")):
        near, far = (own.departure(state, apply_edit(edit, state, torch.full((50,), s), G)) for s in (0.5, 60.0))
        assert not near.left.any() and far.left.all() and far.space == space
        said = far.describe()
        assert said.startswith(f"50 of 50 pictures leave the generator's range: the {space} norm of their codes is up")
        assert f"that of 1,000 samples at most {own.largest[space]:.3g}" in said


def test_pictures_are_counted_over_batches(G, own, state, statistics):
    strengths = torch.zeros(50)
    strengths[:3] = 40.0
    edit = pn_direction("a", torch.eye(6)[0], statistics)
    parts = [own.departure(state[rows], apply_edit(edit, state[rows], strengths[rows], G))
             for rows in (slice(0, 2), slice(2, 50))]  # fmt: skip
    said = Departure.join(parts).describe()
    largest = max(float(part.after.max()) for part in parts)
    assert said.startswith("3 of 50 ") and f"up to {largest:.3g}," in said


def test_codes_that_were_outside_before_the_edit_are_not_blamed_on_it(G, own, statistics):
    outside = State(statistics.pn_to_w(20 * torch.ones(50, 3, 6).double()).float())
    found = own.departure(outside, apply_edit(Direction("a", torch.full((6,), 0.1)), outside, torch.ones(50), G))
    assert (found.after > FAR * found.largest).all() and not found.left.any()


def test_another_generator_is_refused(statistics):
    with pytest.raises(ValueError, match="statistics: expected those of the mapping network"):
        CodeRange(StyleWorld(torch.ones(6, 6)), statistics=statistics)
