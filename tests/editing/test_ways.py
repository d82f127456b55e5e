"""Ways to find an edit: each moves its attribute by one standard deviation, in a world where the answer is known."""

from functools import partial

import pytest
import torch
from worlds import StyleWorld, first

from latentlab.editing import ways
from latentlab.editing.calibration import measure_effect
from latentlab.editing.edit import Direction
from latentlab.editing.learned import EditLoss, learn_edit
from latentlab.editing.sparse import MissingWeights
from latentlab.spaces import measure_statistics

NAMES = ("a", "b", "c")
QUICK = {
    "learn_edit": partial(learn_edit, steps=20, loss=EditLoss(lambda_perceptual=0.0, augment=None)),
}


@pytest.fixture(scope="module")
def evidence():
    """A world whose pictures are its styles: every attribute is linear in w."""
    G = StyleWorld()
    return ways.Evidence(G, first(3), NAMES, n=1_500, statistics=measure_statistics(G, 20_000))


# SeFa reads the affine layers of a real generator, StyleFlow solves an ODE, sparse directions are shipped: they have
# tests of their own.
@pytest.mark.parametrize("way", [w for w in ways.WAYS if w not in ("SeFa", "StyleFlow", "sparse (two branches)")])
def test_strength_1_is_one_standard_deviation(evidence, way, monkeypatch):
    for name, quick in QUICK.items():
        monkeypatch.setattr(ways, name, quick)
    monkeypatch.setattr(ways, "CANDIDATES", 6)
    edit = ways.find_edit(evidence, way, "b")
    assert edit.name == "b"
    probe = {"samples": evidence.samples, "n": 200}
    up, down = (measure_effect(edit, evidence.G, evidence.reader, strength=s, **probe).mean[1] for s in (1.0, -1.0))
    assert float(up - down) / 2 == pytest.approx(1, abs=0.15)


def test_unsupervised_directions_point_forwards_and_bear_the_attributes_name(evidence, monkeypatch):
    monkeypatch.setattr(ways, "CANDIDATES", 6)
    for name in NAMES:
        found = evidence.chosen(evidence.components, name, strength=1.0)
        probe = {"samples": evidence.samples, "strength": 1.0}
        effect = measure_effect(found, evidence.G, evidence.reader, **probe).mean[NAMES.index(name)]
        farthest = max(abs(float(measure_effect(e, evidence.G, evidence.reader, **probe).mean[NAMES.index(name)]))
                       for e in evidence.components)  # fmt: skip
        assert found.name == name
        assert farthest / 2 * 0.9 < float(effect) <= farthest * 1.1


def test_sparse_directions_are_calibrated_like_the_others(evidence, monkeypatch):
    way = "sparse (two branches)"
    with pytest.raises(MissingWeights, match="expected a generator with shipped two branches for codes of e4e"):
        ways.find_edit(evidence, way, "b")
    shipped = {"b": Direction("b", 0.3 * evidence.w_regression["b"].vector.expand(3, -1))}
    monkeypatch.setattr(ways, "sparse_edits_for", lambda G: shipped)
    edit = ways.find_edit(evidence, way, "b")
    effect = measure_effect(edit, evidence.G, evidence.reader, samples=evidence.samples, n=200, strength=1.0).mean
    assert edit.space == "W+" and float(effect[1]) == pytest.approx(1, abs=0.15)
    with pytest.raises(ValueError, match=r"attribute: expected one of the shipped two branches \(b\), got 'a'"):
        ways.find_edit(evidence, way, "a")
    assert ways.file_stem(way, "b") == "b.sparse-two-branches"


def test_held_and_read_are_the_callers(evidence):
    assert evidence.held == NAMES  # no factor of the face world among them: all
    assert evidence.samples is evidence.gradient_samples  # a reader of one's own reads the same for both uses


def test_bad_input(evidence):
    with pytest.raises(ValueError, match="way: expected one of W regression, .*; got 'magic'"):
        ways.find_edit(evidence, "magic", "a")
    with pytest.raises(ValueError, match="attribute: expected one that is read, got 'd'"):
        ways.find_edit(evidence, "PN regression", "d")


def test_a_way_whose_edit_does_not_move_the_attribute_is_refused(evidence, monkeypatch):
    still = Direction("a", torch.zeros(6))
    monkeypatch.setitem(ways.WAYS, "still", ways.Way("still", "", "W", lambda evidence, name: still))
    with pytest.raises(ValueError, match="expected that it moves a by one standard deviation .* got 0.00 of it"):
        ways.find_edit(evidence, "still", "a")
