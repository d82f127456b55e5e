"""Contracts of all methods, of encoders and of refiners; that of optimisers is in test_contract.py.

Each contract is also checked for a small method defined here, so that it is tested whatever is in METHODS.
"""

import re
import time
from dataclasses import replace

import pytest
import torch
from small import small_generator
from torch import Tensor, nn

from latentlab import inversion_methods
from latentlab.editing.edit import Direction, State
from latentlab.encoders.kinds import build_encoder, slim_config
from latentlab.inversion.objective import check_images
from latentlab.inversion.result import Inversion
from latentlab.inversion_methods import METHODS, Method, invert, keywords_of, methods, methods_for
from latentlab.networks.hfgi import Hfgi
from latentlab.networks.two_branch import TwoBranch
from latentlab.stylegan.generator import Generator
from latentlab.training.hfgi import configure_hfgi
from latentlab.training.two_branch import configure_two_branch


@torch.no_grad()
def encode_nearest(images: Tensor, G: nn.Module, *, codes: int = 64, batch_size: int = 8) -> Inversion:
    """An encoder that returns the code whose image, among some of the generator's own, is nearest."""
    check_images(images, G)
    began = time.perf_counter()
    w = G.broadcast(G.mapping(torch.randn(codes, G.z_dim, generator=torch.Generator().manual_seed(0))))
    own = G.synthesis(w).flatten(1)
    near = torch.cat([torch.cdist(part.flatten(1), own).argmin(1) for part in images.split(batch_size)])
    state = State(w[near].clone())
    return Inversion(state, state.draw(G), G, "nearest", {}, time.perf_counter() - began, {"codes": codes})


@torch.no_grad()
def refine_by_features(images: Tensor, G: nn.Module, *, base: Inversion) -> Inversion:
    """A refiner that sets the feature map at 8 px to the mean of its own and that of the mean face."""
    check_images(images, G)
    mean = G.features(G.broadcast(G.w_avg[None]))[8]
    features = {8: (base.state.feature_maps(G)[8] + mean) / 2}
    state = replace(base.state, features=features)
    return replace(base, state=state, image=state.draw(G), method="refined", trace={}, path=None, path_steps=[])


NEAREST = Method("nearest", encode_nearest, "this test", "encoder", "W+", keywords_of(encode_nearest))
REFINED = Method("refined", refine_by_features, "this test", "refiner", "F", keywords_of(refine_by_features))
ENCODERS = [NEAREST, *(m for m in METHODS.values() if m.kind == "encoder")]
REFINERS = [REFINED, *(m for m in METHODS.values() if m.kind == "refiner")]
ALL = [NEAREST, REFINED, *METHODS.values()]


@pytest.fixture(scope="module")
def G() -> Generator:
    return small_generator(1, 32)  # CLCAE's feature map needs 32 px


@pytest.fixture(scope="module")
def images(G) -> Tensor:
    return G(torch.randn(3, G.z_dim, generator=torch.Generator().manual_seed(5))).clamp(-1, 1)


def run(method: Method, images: Tensor, G: Generator, **knobs) -> Inversion:
    """Runs one step of an optimiser, one pass of an encoder, or a refinement of the nearest codes."""
    if method.kind == "refiner":
        knobs = {"base": encode_nearest(images, G)} | knobs
    if "encoder" in method.keywords:
        name = "e4e" if method.kind == "refiner" else method.name
        knobs |= {"encoder": build_encoder(name, slim_config(name, G.config)).eval()}
    if method.name == "hfgi":
        knobs |= {"network": Hfgi(configure_hfgi(G, "nearest", images=8).shape).eval()}
    if method.name == "two_branch":
        shape = configure_two_branch(G, knobs["encoder"], "nearest", images=8, fused=8).shape
        knobs |= {"network": TwoBranch(shape).eval()}
    return method(images, G, **knobs | ({"steps": 1} if "steps" in method.keywords else {}))


@pytest.mark.parametrize("method", ALL, ids=lambda m: m.name)
def test_every_method(G, images, method, tmp_path):
    inv = run(method, images, G)
    assert inv.latent.shape == (3, G.num_ws, G.w_dim) and inv.image.shape == images.shape and inv.generator is G
    assert torch.isfinite(inv.image).all() and not inv.latent.requires_grad and inv.seconds >= 0
    torch.testing.assert_close(inv.state.draw(G), inv.image)
    again = run(method, images, G)
    assert torch.equal(again.latent, inv.latent) and torch.equal(again.image, inv.image)
    direction = Direction("some", torch.randn(G.w_dim, generator=torch.Generator().manual_seed(1)))
    torch.testing.assert_close(inv.edit(direction, 0.0), inv.image)
    assert (inv.edit(direction, 1.0) - inv.image).abs().mean() > 1e-3
    inv[1].save(tmp_path / "one.safetensors")
    loaded = Inversion.load(tmp_path / "one.safetensors", G, editor=inv.editor)
    torch.testing.assert_close(loaded.edit(direction, 1.0), inv.edit(direction, 1.0)[1:2])
    assert method.kind in ("optimiser", "encoder", "refiner")


@pytest.mark.parametrize("method", ALL, ids=lambda m: m.name)
def test_every_method_refuses_bad_input(unchecked, G, images, method):
    bad = (images[:, :, :8], "expected shape"), (images / 0, "finite"), (images * 9, r"in \[-1, 1\]")
    for spoilt, message in bad:
        base = {"base": encode_nearest(images, G)} if method.kind == "refiner" else {}
        with pytest.raises(ValueError, match=message):
            method(spoilt, G, **base)
    with pytest.raises(ValueError, match=f"{method.name}: expected keywords among .*; got wings"):
        run(method, images, G, wings=2)


@pytest.mark.parametrize("method", ENCODERS, ids=lambda m: m.name)
def test_encoders_accept_batches_and_have_no_steps(G, images, method):
    assert not method.keywords & {"steps", "learning_rate", "patience", "record", "callback"}
    inv = run(method, images, G)
    assert not inv.trace and inv.path is None and inv.descent is None
    singles = [run(method, images[i : i + 1], G) for i in range(3)]
    torch.testing.assert_close(inv.latent, torch.cat([s.latent for s in singles]), rtol=1e-4, atol=1e-4)
    small = run(method, images, G, batch_size=2)
    torch.testing.assert_close(small.latent, inv.latent, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", REFINERS, ids=lambda m: m.name)
def test_refiners_require_a_base_and_do_not_change_it(G, images, method):
    assert "base" in method.keywords
    base = encode_nearest(images, G)
    before = base.image.clone()
    assert len(run(method, images, G, base=base)) == 3 and torch.equal(base.image, before)
    for wrong, got in (({}, "NoneType"), ({"base": None}, "NoneType"), ({"base": base.latent}, "Tensor")):
        with pytest.raises(
            ValueError, match=f"base: expected the Inversion that {method.name} is to refine, got {got}"
        ):
            method(images, G, **wrong)


def test_methods_for_a_generator_need_nothing_more(G):
    """Untrained encoders and refiners are left out."""
    names = methods_for(G)
    assert "ii2s" in names and all(METHODS[name].kind == "optimiser" for name in names)


def test_refiners_tell_the_encoders_that_their_weights_are_for(monkeypatch):
    found = methods()["weights for"]
    assert found["psp"] == "faces-64" and found["pti"] == ""
    for refiner in ("hfgi", "two_branch"):
        assert re.search(r"faces-64 \((e4e|.*, e4e|e4e, .*)\)", found[refiner]), found[refiner]
    files = ("a.hfgi_lsap_e", "a.two_branch_psp", "b.hfgi_e4e", "a.two_branch_e4e", "b.lsap_e")
    monkeypatch.setattr(inversion_methods, "read_manifest", lambda: {f"{file}.safetensors": {} for file in files})
    found = methods()["weights for"]
    assert found["hfgi"] == "b (e4e), a (lsap_e)" and found["two_branch"] == "a (e4e, psp)"
    assert found["lsap_e"] == "b" and found["e4e"] == ""


def test_methods_by_name(G, images):
    assert list(methods().index) == list(METHODS)
    with pytest.raises(ValueError, match="method: expected one of sg2_w, .*; got 'sgd'"):
        invert(images, G, "sgd")
