"""Directions by regression: exact for a linear generator, and judged by the attribute judge for the shipped one."""

import pytest
import torch

from latentlab.editing.edit import State
from latentlab.editing.regression import find_directions, fit_directions
from latentlab.editing.shipped import directions_for
from latentlab.faces import NAMES
from latentlab.inversion.result import Inversion
from latentlab.judges.attributes import load_attribute_judge
from latentlab.networks.attributes import read_factors
from latentlab.stylegan.generator import Generator, GeneratorConfig
from latentlab.weights.generators import load


class LinearGenerator(torch.nn.Module):
    """w = z, and the "image" is w itself, so that the attributes are known exactly."""

    z_dim = w_dim = 6
    w_avg = torch.zeros(6)

    def mapping(self, z):
        return z

    def broadcast(self, w):
        return w[:, None]

    def synthesis(self, w_plus, noise):
        return w_plus[:, 0]


def test_finds_the_axes_of_a_linear_generator():
    found = find_directions(LinearGenerator(), lambda w: w[:, :2] * 3, ["a", "b"], n=4_000)
    expected = torch.eye(6)[:2]
    for direction, axis in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(direction.vector, axis, atol=0.06, rtol=0)
        assert direction.std == pytest.approx(3, rel=0.05)


def test_correlated_attributes_are_separated():
    """b = a + noise: the direction of "a" must compensate the change of b along b's own axis."""
    mix = torch.tensor([[1.0, 1.0], [0.0, 0.5]])
    found = find_directions(LinearGenerator(), lambda w: w[:, :2] @ mix, ["a", "b"], n=4_000)
    change = found["a"].vector[:2] @ mix
    assert change[0] == pytest.approx(1, abs=0.05) and abs(float(change[1])) < 0.05


def test_a_noisy_reading_still_changes_by_one_standard_deviation():
    """Half of the readings' variance is noise: regression of w on them alone would give steps half as long."""
    draw = torch.Generator().manual_seed(0)
    found = find_directions(
        LinearGenerator(), lambda w: w[:, :2] + torch.randn(len(w), 2, generator=draw), ["a", "b"], n=20_000
    )
    for k, direction in enumerate(found.values()):
        assert direction.std == pytest.approx(2**0.5, rel=0.03)
        torch.testing.assert_close(direction.vector, 2**0.5 * torch.eye(6)[k], atol=0.08, rtol=0)


def test_bad_input(unchecked):
    with pytest.raises(ValueError, match="expected more than 6 samples and at most 6 attributes, .*got 6 and 6"):
        find_directions(LinearGenerator(), lambda w: w, list("abcdef"), n=6)
    with pytest.raises(ValueError, match="expected attributes that vary, got constant b"):
        find_directions(LinearGenerator(), lambda w: w[:, :2] * torch.tensor([1.0, 0.0]), ["a", "b"], n=100)
    w = torch.randn(50, 6, generator=torch.Generator().manual_seed(1))
    for rows, names, says in ((49, "ab", "one row for each of 50 codes, got 49"), (50, "abc", "one for each of 2")):
        with pytest.raises(ValueError, match=says):
            fit_directions(w, w[:rows, :2], list(names))
    with pytest.raises(ValueError, match="G: expected a generator with shipped directions, got .*; find some with"):
        directions_for(Generator(GeneratorConfig(16, 16, 16, 2, (16, 16, 8))))


@pytest.mark.parametrize("name", ["smile", "age", "yaw", "glasses", "hair_length"])
def test_shipped_directions_change_their_attributes(name):
    G = load("faces-64")
    directions, judge = directions_for(G), load_attribute_judge()
    assert list(directions) == list(NAMES)
    w = G.mapping(torch.randn(40, G.z_dim, generator=torch.Generator().manual_seed(3)))
    inversion = Inversion(State(G.broadcast(w)), G.synthesis(G.broadcast(w)), G, "sample")
    k = NAMES.index(name)
    down, up = (read_factors(judge, inversion.edit(directions[name], s))[:, k].mean() for s in (-1, 1))
    assert (up - down) / (2 * directions[name].std) > 0.4
