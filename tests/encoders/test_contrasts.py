"""The encoders that stand beside CLCAE's: StyleTransformer, whose query counts, and FeatureStyle, which has no w."""

import pytest
import torch

from latentlab.encoders.backbone import EncoderConfig
from latentlab.encoders.feature_space import feature_size
from latentlab.encoders.feature_style import FeatureStyle, FeatureStyleConfig
from latentlab.encoders.style_transformer import StyleTransformer
from latentlab.seeds import stream
from latentlab.stylegan import GeneratorConfig

GENERATOR = GeneratorConfig(32, 16, 16, 2, (16, 16, 16, 8))


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(3, 3, 32, 32, generator=stream(0, "images")).clamp(-1, 1)


def test_each_layer_of_the_transformer_reads_what_its_query_asks_for(images):
    """With equal queries all layers have one code; another query changes its own layer most."""
    network = StyleTransformer(EncoderConfig.slim(GENERATOR), seed=1).requires_grad_(False).eval()
    before = network(images)
    assert before.shape == (3, 8, 16) and before.std(1).max() > 1e-3
    network.queries[2] = torch.randn(16, generator=stream(0, "query"))
    moved = (network(images) - before).norm(dim=2)
    assert (moved.argmax(1) == 2).all() and (moved[:, 2] > 1e-2).all()
    network.queries.copy_(network.queries[:1].expand(8, -1))
    same = network(images)
    torch.testing.assert_close(same, same[:, :1].expand_as(same))


def test_the_transformer_looks_at_positions(images):
    """A picture whose halves are exchanged has other codes: attention knows where a token was."""
    network = StyleTransformer(EncoderConfig.slim(GENERATOR), seed=1).requires_grad_(False).eval()
    maps = [torch.randn(1, 8, s, s, generator=stream(s, "map")) for s in (2, 4, 8)]
    network.levels = lambda x: maps
    before = network(images[:1])
    maps[:] = [m.flip(3) for m in maps]
    assert (network(images[:1]) - before).abs().max() > 1e-3


def test_feature_style_has_codes_and_a_map_but_no_w(images):
    network = FeatureStyle(FeatureStyleConfig.slim(GENERATOR), seed=1).eval()
    network.set_averages(torch.full((16,), 3.0), torch.zeros(3, 32, 32))
    found = network(images)
    assert found.w is None and found.w_plus.shape == (3, 8, 16) and found.feature.shape == (3, 16, 4, 4)
    network.set_averages(torch.zeros(16), torch.zeros(3, 32, 32))
    torch.testing.assert_close(network(images).w_plus + 3, found.w_plus)
    config = FeatureStyleConfig.from_dict(network.config.to_dict())
    assert config == network.config
    with pytest.raises(ValueError, match="feature_resolution: expected that of a stage, .* got 32"):
        FeatureStyleConfig(config.encoder, 32, 8)


def test_the_map_of_f_space_holds_fewer_numbers_than_the_picture():
    assert feature_size(GeneratorConfig()) == (8, 128)
    assert feature_size(GENERATOR) == (4, 16)
    with pytest.raises(ValueError, match="generator: expected one of at least 32 px, got 16"):
        feature_size(GeneratorConfig(16, 16, 16, 2, (16, 16, 8)))
