"""Agreement with the outputs of the public implementations, kept in tests/data/conformance."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from latentlab.formats import nvlabs, rosinality
from latentlab.stylegan import Discriminator, Generator

FOLDER = Path(__file__).parents[1] / "data" / "conformance"
TOLERANCE = 1e-4  # of the largest number; a port that is right reaches 1e-6


def rnd(name, shape):
    generator = np.random.RandomState(zlib.crc32(name.encode()))
    count = int(np.prod(shape))
    return generator.standard_normal(count).reshape(shape).astype(np.float32)


def load(name):
    """(state dict of the reference, its recorded arrays)"""
    make = {"normal": lambda r, s: s * r, "around_one": lambda r, s: 1 + s * r,
            "positive": lambda r, s: 0.5 + s * np.abs(r)}
    rows = json.loads((FOLDER / f"{name}.json").read_text())["state"]
    state = {key: torch.from_numpy(np.asarray(make[kind](rnd(key, shape), np.float32(scale))))
             for key, shape, kind, scale in rows}
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return state, {key: torch.from_numpy(arrays[key]) for key in arrays}


def error(got, want):
    assert got.shape == want.shape
    return ((got - want).abs().max() / want.abs().max()).item()


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
