"""Inversions that hold more than codes, a feature map or tuned weights, are edited, saved and graded like any other."""

from dataclasses import replace

import pytest
import torch

import latentlab as ll
from latentlab.editing.shipped import directions_for
from latentlab.evaluation import evaluate, load_judges
from latentlab.faces import FaceSet, real_set


@pytest.fixture(scope="module")
def faces() -> FaceSet:
    clean = real_set().clean
    return clean[torch.nonzero(clean.factors["glasses"] == 0)[:2, 0]]


@pytest.fixture(scope="module")
def found(faces) -> dict[str, ll.Inversion]:
    """Codes alone; the same with the feature map of 16 px held; the same with the last convolution tuned."""
    G = ll.load("faces-64")
    codes = ll.invert(faces.images, G, "ii2s", steps=15, learning_rate=0.05)
    noise = torch.Generator().manual_seed(0)
    own = codes.state.feature_maps(G)[16]
    held = replace(codes.state, features={16: own + 0.1 * torch.randn(own.shape, generator=noise)})
    weight = G.get_parameter("blocks.64.conv1.weight")
    tuned = {"blocks.64.conv1.weight": weight + 0.05 * torch.randn(2, *weight.shape, generator=noise)}
    states = {"codes": codes.state, "features": held, "tuned": replace(codes.state, tuned=tuned)}
    return {name: replace(codes, state=state, image=state.draw(G), method=name) for name, state in states.items()}


def test_a_held_feature_map_does_not_hide_an_edit(found):
    """Left in place the map of 16 px let glasses move pixels by a twelfth of what they move in the codes."""
    glasses = directions_for(found["codes"].generator)["glasses"]
    moved = {name: float((inv.edit(glasses, 2.0) - inv.image).abs().mean()) for name, inv in found.items()}
    assert moved["features"] > 0.7 * moved["codes"] and moved["tuned"] > 0.7 * moved["codes"]


def test_graded_like_any_other(found, faces, tmp_path):
    """The same grades before and after they were saved, each its own, and an edit that is seen."""
    G, judges = found["codes"].generator, load_judges()
    for name, inv in found.items():
        inv.save(tmp_path / f"{name}.safetensors")
    again = {name: ll.Inversion.load(tmp_path / f"{name}.safetensors", G) for name in found}

    def oracle(name: str, images: torch.Tensor) -> ll.Inversion:
        return ll.invert(images, G, "ii2s", steps=2)

    tables = [evaluate(i, faces, judges, edits=[("glasses", 2.0)], invert=oracle) for i in (found, again)]
    numbers = [table.drop(columns=["method", "faces"]).to_numpy(float) for table in tables]
    torch.testing.assert_close(*map(torch.from_numpy, numbers), rtol=1e-3, atol=1e-3)
    psnr = tables[0].groupby("method")["psnr_db"].mean()
    assert psnr.nunique() == 3 and (tables[0]["glasses+2 gain"] > 0.1).all()
