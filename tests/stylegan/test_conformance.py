"""Agreement with outputs of the public implementations, stored in tests/data/conformance."""

import pytest
import torch
from conformance import TOLERANCE, error, load, rnd

from latentlab.formats import nvlabs, rosinality
from latentlab.stylegan import Discriminator, Generator


@pytest.fixture(scope="module")
def nvidia():
    state, want = load("nvlabs_generator_64")
    G = Generator(nvlabs.generator_config(state))
    G.load_state_dict(nvlabs.generator_from(state))
    return G.requires_grad_(False), want


def test_nvlabs_codes(nvidia):
    G, want = nvidia
    ws = G.broadcast(G.mapping(want["z"]))
    assert error(ws, want["ws"]) < TOLERANCE
    assert error(G.truncate(ws, 0.7), want["ws_psi07"]) < TOLERANCE
    assert error(G.truncate(ws, 0.5, cutoff=4), want["ws_psi05_cutoff4"]) < TOLERANCE


def test_nvlabs_images(nvidia):
    G, want = nvidia
    assert error(G.synthesis(want["ws"]), want["image_const_noise"]) < TOLERANCE
    assert error(G.synthesis(want["ws"], noise="none"), want["image_no_noise"]) < TOLERANCE
    assert error(G.synthesis(want["wplus"]), want["image_wplus"]) < TOLERANCE


def test_nvlabs_features(nvidia):
    G, want = nvidia
    features = G.features(want["ws"][:1])
    for r in (8, 16, 32):
        assert error(features[r], want[f"block{r}_x"]) < TOLERANCE


def test_nvlabs_styles(nvidia):
    G, want = nvidia
    names = [layer.name.replace("blocks.", "style_b").replace(".", "_") for layer in G.style_layers]
    assert sorted(names) == sorted(key for key in want if key.startswith("style_"))
    styles = G.styles(want["ws"])
    assert max(error(style, want[name]) for name, style in zip(names, styles, strict=True)) < TOLERANCE


def test_nvlabs_discriminator():
    state, want = load("nvlabs_discriminator_64")
    D = Discriminator(nvlabs.discriminator_config(state))
    D.load_state_dict(nvlabs.discriminator_from(state))
    assert error(D(torch.from_numpy(rnd("images", (4, 3, 64, 64)))).detach(), want["logits"]) < TOLERANCE


def test_rosinality_generator():
    state, want = load("rosinality_generator_64")
    G = Generator(rosinality.generator_config(state)).requires_grad_(False)
    G.load_state_dict(rosinality.generator_from(state, latent_avg=torch.zeros(512)))
    w = G.mapping(want["z"])
    assert error(w, want["w"]) < TOLERANCE
    assert error(G.synthesis(G.broadcast(w)), want["image"]) < TOLERANCE
