"""Names of other implementations: there and back on random weights; what we cannot represent is refused."""

import pytest
import torch

from latentlab.formats import nvlabs, rosinality
from latentlab.stylegan import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig

CONFIG = GeneratorConfig(resolution=32, z_dim=12, w_dim=10, mapping_layers=3, channels=(9, 8, 7, 6))


def assert_same(got, want):
    assert got.keys() == want.keys()
    assert all(torch.equal(got[name], want[name]) for name in want)


@pytest.fixture
def state():
    state = Generator(CONFIG, seed=2).state_dict()
    state["w_avg"] += torch.arange(10)
    return state


def test_nvlabs_generator_round_trip(state):
    theirs = nvlabs.generator_to(state)
    assert "synthesis.b8.conv0.affine.weight" in theirs and "mapping.w_avg" in theirs
    assert nvlabs.generator_config(theirs) == CONFIG
    assert_same(nvlabs.generator_from(theirs), state)


def test_rosinality_generator_round_trip(state):
    theirs = rosinality.generator_to(state)
    assert theirs["convs.0.conv.weight"].shape == (1, 8, 9, 3, 3)
    assert theirs["noises.noise_5"].shape == (1, 1, 32, 32)
    assert theirs["to_rgb1.bias"].shape == (1, 3, 1, 1)
    assert rosinality.generator_config(theirs) == CONFIG
    assert_same(rosinality.generator_from(theirs, latent_avg=state["w_avg"]), state)
    assert "w_avg" not in rosinality.generator_from(theirs)


def test_nvlabs_discriminator_round_trip():
    config = DiscriminatorConfig(resolution=32, channels=(9, 8, 7, 6))
    state = Discriminator(config, seed=2).state_dict()
    theirs = nvlabs.discriminator_to(state)
    assert {"b32.fromrgb.weight", "b32.skip.weight", "b4.out.bias"} <= theirs.keys()
    assert nvlabs.discriminator_config(theirs) == config
    assert_same(nvlabs.discriminator_from(theirs), state)


def test_constant_filters_are_checked_and_dropped(state):
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    kernel = torch.outer(taps, taps)
    theirs = nvlabs.generator_to(state) | {"synthesis.b8.resample_filter": kernel}
    assert_same(nvlabs.generator_from(theirs), state)
    with pytest.raises(ValueError, match="resample_filter: expected the filter .* got"):
        nvlabs.generator_from(theirs | {"synthesis.b8.resample_filter": kernel.flip(0).cumsum(0)})
    theirs = rosinality.generator_to(state) | {"convs.0.conv.blur.kernel": 4 * kernel}
    assert_same(rosinality.generator_from(theirs, state["w_avg"]), state)
    with pytest.raises(ValueError, match="blur.kernel: expected the filter .* got"):
        rosinality.generator_from(theirs | {"convs.0.conv.blur.kernel": kernel[:3, :3]})


@pytest.mark.parametrize("rename, key", [
    (nvlabs.generator_from, "mapping.embed.weight"),
    (nvlabs.discriminator_from, "mapping.fc0.weight"),
    (rosinality.generator_from, "convs.0.conv.depth"),
    (rosinality.generator_to, "blocks.8.conv2.weight"),
])
def test_unknown_names_are_refused(rename, key):
    with pytest.raises(ValueError, match=f"unknown key '{key}'"):
        rename({key: torch.zeros(1)})
