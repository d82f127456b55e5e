"""The properties of LSAP_O, on an untrained generator: its terms, its two limits, and what it refuses."""

import copy
import math

import pytest
import torch
from small import small_generator

from latentlab import spaces
from latentlab.inversion.lsap import invert_lsap_o
from latentlab.inversion.sg2 import invert_sg2_w
from latentlab.metrics import sncd_of_codes, sncd_references
from latentlab.seeds import stream
from latentlab.spaces import Anchors, measure_anchors, measure_statistics
from latentlab.stylegan.generator import Generator

STEPS = 12


@pytest.fixture(scope="module")
def G() -> Generator:
    return small_generator(1, 16)


@pytest.fixture(scope="module")
def anchors(G) -> Anchors:
    return measure_anchors(G, 5_000)


@pytest.fixture(scope="module")
def knobs(G, anchors) -> dict:
    return {"steps": STEPS, "seed": 5, "statistics": measure_statistics(G, 2_000)}


@pytest.fixture(scope="module")
def targets(G) -> torch.Tensor:
    return G(torch.randn(2, G.z_dim, generator=stream(0, "targets"))).clamp(-1, 1)


@pytest.mark.parametrize("space", ["W", "W+"])
def test_lambda_0_is_the_projector(G, anchors, knobs, targets, space):
    ours = invert_lsap_o(targets, G, space=space, lambda_=0, anchors=anchors, **knobs)
    theirs = invert_sg2_w(targets, G, w_plus=space == "W+", **knobs)
    assert torch.equal(ours.latent, theirs.latent) and torch.equal(ours.image, theirs.image)
    assert all(torch.equal(a, b) for a, b in zip(ours.noise, theirs.noise, strict=True))
    assert all(torch.equal(ours.trace[name], values) for name, values in theirs.trace.items())


@pytest.mark.parametrize("space", ["W", "W+"])
def test_sncd_falls_as_lambda_rises(G, anchors, knobs, targets, space):
    """From the projector's value to near the lowest that codes of this space can have."""
    found = [invert_lsap_o(targets, G, space=space, lambda_=x, anchors=anchors, **knobs) for x in (0, 5, 20, 100)]
    values = torch.stack([sncd_of_codes(inversion.latent, G, anchors) for inversion in found])
    assert (values.diff(dim=0) < 0).all() and (values[0] > 1.1 * values[-1]).all()
    assert (values > sncd_references(anchors.means())[0].mean()).all()
    assert found[0].latent.std(1).max() > 0.01 if space == "W+" else not found[-1].latent.std(1).any()


def test_default_weights_are_the_papers(G, anchors, knobs, targets):
    few = knobs | {"steps": 2, "anchors": anchors}
    for space, weight in (("W+", 20.0), ("W", 5.0)):
        given, default = (invert_lsap_o(targets, G, space=space, **k, **few) for k in ({"lambda_": weight}, {}))
        assert torch.equal(given.latent, default.latent)
        assert default.knobs["lambda_"] == weight and default.knobs["space"] == space


def test_loss_is_the_sum_of_its_weighted_terms(G, anchors, knobs, targets):
    found = invert_lsap_o(targets, G, lambda_=7.0, anchors=anchors, noise_weight=3.0, record=1, **knobs)
    terms = found.trace
    torch.testing.assert_close(terms["loss"], terms["perceptual"] + 3 * terms["noise"] + 7 * terms["sncd"])
    for codes, value in zip(found.path[:-1], terms["sncd"], strict=True):
        torch.testing.assert_close(sncd_of_codes(codes, G, anchors), value)
    without = invert_lsap_o(targets, G, lambda_=7.0, anchors=anchors, torgb=False, **knobs)
    expected = sncd_of_codes(found.path[0], G, anchors, torgb=False)
    torch.testing.assert_close(without.trace["sncd"][0], expected)


def test_gradient_of_sncd_agrees_with_finite_differences():
    G = small_generator(1, 16).double()
    anchors, w_plus = measure_anchors(G, 1_000), torch.randn(2, G.num_ws, G.w_dim, generator=stream(0, "w")).double()
    for torgb in (True, False):
        assert torch.autograd.gradcheck(lambda w, t=torgb: sncd_of_codes(w, G, anchors, torgb=t),
                                        w_plus.requires_grad_(), eps=1e-6, atol=1e-8)  # fmt: skip


def test_anchors_are_measured_once(G, targets, knobs, monkeypatch, tmp_path):
    monkeypatch.setenv("LATENTLAB_CACHE", str(tmp_path))
    monkeypatch.setattr(spaces, "ANCHORED", 1_000)
    few = knobs | {"steps": 2}
    first = invert_lsap_o(targets, G, **few)
    monkeypatch.setattr(spaces, "measure_anchors", None)
    assert torch.equal(invert_lsap_o(targets, G, **few).latent, first.latent)
    (file,) = (tmp_path / "anchors").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(TypeError):  # a damaged file is measured again
        invert_lsap_o(targets, G, **few)


@pytest.mark.parametrize("bad", [{"lambda_": -1.0}, {"lambda_": math.nan}, {"lambda_": math.inf}, {"space": "Z+"}])
def test_bad_keywords_are_refused(unchecked, G, anchors, knobs, targets, bad):
    with pytest.raises(ValueError, match="lambda_: expected a finite number|space: expected 'W.' or 'W', got 'Z.'"):
        invert_lsap_o(targets, G, anchors=anchors, **knobs | bad)


def test_other_anchors_and_styles_without_a_direction_are_refused(G, anchors, knobs, targets):
    other = small_generator(2, 16)
    with pytest.raises(ValueError, match="anchors: expected those of the generator"):
        invert_lsap_o(targets, other, anchors=anchors)
    silent = copy.deepcopy(G)
    affine = silent.blocks["8"].conv0.affine
    affine.weight.zero_()
    affine.bias.zero_()
    with pytest.raises(ValueError, match="styles: expected lengths above 0, got length 0 in layer 1"):
        invert_lsap_o(targets, silent, **knobs)
