"""CLCAE's encoder agrees with the public code, and its attention looks at the query only where it has a choice."""

from dataclasses import replace

import pytest
import torch
from conformance import TOLERANCE, error, load, rnd

from latentlab.encoders.attention import CrossAttentionBlock, PrintedAttention
from latentlab.encoders.backbone import EncoderConfig
from latentlab.encoders.clcae import ClcaeConfig, ClcaeEncoder
from latentlab.encoders.feature_space import edit_feature, synthesize
from latentlab.seeds import drawn_from, stream
from latentlab.stylegan import Generator, GeneratorConfig

GENERATOR = GeneratorConfig(32, 16, 16, 2, (16, 16, 16, 8))
ATTENTION = ("faithful", "paper", "multi_token")


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=stream(seed, "draw"))


def encoder(attention: str = "faithful", seed: int = 0, **changes: bool) -> ClcaeEncoder:
    network = ClcaeEncoder(replace(ClcaeConfig.slim(GENERATOR, attention), **changes), seed).eval()
    network.set_averages(draw(16, seed=5), draw(3, 32, 32, seed=6).clamp(-1, 1), draw(16, 4, 4, seed=7))
    with torch.no_grad():  # the last convolution begins at 0
        network.content_layer.convs[-1].weight.copy_(0.1 * draw(16, 16, 3, 3, seed=8))
    return network


@pytest.mark.slow  # 175 million parameters
def test_encoder_agrees_with_the_public_code():
    state, want = load("clcae_encoder_ir_se50_64")
    network = ClcaeEncoder(ClcaeConfig(EncoderConfig(layers=10))).requires_grad_(False).eval()
    missing, unexpected = network.load_state_dict(state, strict=False, assign=True)
    assert not unexpected
    assert [k for k in missing if not k.endswith("num_batches_tracked")] == ["w_avg", "image_avg"]
    noise, average = 0.5 * rnd("x256", (2, 3, 256, 256))[:1], 0.1 * rnd("xavg", (1, 3, 256, 256))
    network.image_avg.copy_(torch.from_numpy(average[0]))
    w, w_plus, feature = network(torch.from_numpy(noise))
    assert error(w, want["w_offset"]) < TOLERANCE
    assert error(w_plus - w[:, None], want["w_plus_offset"][:, :, 0]) < TOLERANCE
    assert error(feature, want["feature"].float()) < 1e-3  # stored in half precision


def attention_block(token_dim: int, printed: bool = False) -> CrossAttentionBlock | PrintedAttention:
    """With every parameter moved off its initial value, or the norms would be alike."""
    with drawn_from(0, "block"):
        block = PrintedAttention(8, token_dim, 2) if printed else CrossAttentionBlock(8, token_dim, 2, 16, 0.0)
    for i, p in enumerate(block.requires_grad_(False).parameters()):
        p.add_(0.3 * draw(*p.shape, seed=100 + i))
    return block


@pytest.mark.parametrize("printed", [False, True])
def test_a_single_key_makes_the_query_irrelevant(printed):
    block = attention_block(12, printed)
    queries, token = draw(2, 5, 8).requires_grad_(), draw(2, 1, 12)
    read = block.attend(queries, token)
    torch.testing.assert_close(read, block.attend(draw(2, 5, 8, seed=1), token))
    torch.testing.assert_close(read, read[:, :1].expand_as(read))  # one vector at all positions
    (gradient,) = torch.autograd.grad(read.square().sum(), queries, allow_unused=True)
    assert gradient is None or gradient.abs().max() < 1e-5
    tokens = draw(2, 3, 12)
    different = block.attend(queries, tokens) - block.attend(draw(2, 5, 8, seed=1), tokens)
    assert different.abs().max() > 1e-2


def test_the_published_block_is_a_feed_forward_network_of_its_key():
    """LN(y + FFN(y)), y = LN(q + W_o (W_v d + b_v) + b_o): no trace of W_q and W_k."""
    block = attention_block(8)
    query, key = draw(4, 1, 8), draw(4, 1, 8, seed=1)
    inner = block.multihead_attn
    value = key @ inner.in_proj_weight[16:].T + inner.in_proj_bias[16:]
    y = block.norm2(query + inner.out_proj(value))
    torch.testing.assert_close(block(query, key), block.norm3(y + block.linear2(block.linear1(y).relu())))


@pytest.mark.parametrize("attention", ATTENTION)
def test_only_several_keys_train_the_queries(attention):
    """The weights that make queries and keys get a gradient with several keys, and none with one."""
    network = encoder(attention)
    _, w_plus, feature = network(draw(2, 3, 32, 32).clamp(-1, 1))
    (w_plus.square().sum() + feature.square().sum()).backward()
    gradients = []
    for block in (*network.cross_attention, network.feature_cross_attention):
        if attention == "paper":
            gradients += [block.query.weight.grad, block.key.weight.grad]
        elif block.multihead_attn.in_proj_weight is None:  # queries and keys of different widths
            gradients += [block.multihead_attn.q_proj_weight.grad, block.multihead_attn.k_proj_weight.grad]
        else:
            gradients += list(block.multihead_attn.in_proj_weight.grad[: 2 * 16].split(16))
    largest = torch.stack([g.abs().max() for g in gradients])
    assert (largest > 1e-6).all() if attention == "multi_token" else (largest < 1e-6).all()


def test_printed_attention_is_its_formula():
    attention = PrintedAttention(8, 12, 2)
    queries, tokens = draw(2, 5, 8), draw(2, 3, 12)
    q, k, v = attention.query(queries), attention.key(tokens), attention.value(tokens)
    heads = []
    for part in (slice(0, 4), slice(4, 8)):
        weights = (q[..., part] @ k[..., part].transpose(1, 2) / 2).softmax(2)
        heads.append(weights @ v[..., part])
    torch.testing.assert_close(attention(queries, tokens), torch.cat(heads, 2))
    with pytest.raises(ValueError, match="heads: expected a divisor of 8, got 3"):
        PrintedAttention(8, 12, 3)


def test_equation_4_as_printed_adds_a_projected_residual():
    network = encoder("paper").requires_grad_(False)
    x = draw(2, 3, 32, 32).clamp(-1, 1)
    w_offset, deltas, finest = network.residuals(x)
    w, w_plus, feature = network(x)
    torch.testing.assert_close(w, w_offset + network.w_avg)
    torch.testing.assert_close(w_plus, w[:, None] + network.cross_attention[0].value(deltas))
    same = network.feature_cross_attention.value(w)[:, :, None, None]
    torch.testing.assert_close(feature, network.feature_avg + network.content_layer(finest + same))


@pytest.mark.parametrize("attention", ATTENTION)
def test_shapes_seeds_and_batches(attention):
    x = draw(3, 3, 64, 64).clamp(-1, 1)  # twice the size that the encoder sees
    codes = encoder(attention).requires_grad_(False)(x)
    assert [tuple(c.shape) for c in codes] == [(3, 16), (3, 8, 16), (3, 16, 4, 4)]
    for again, one in zip(encoder(attention).requires_grad_(False)(x[1:2]), codes, strict=True):
        torch.testing.assert_close(again, one[1:2], atol=1e-5, rtol=1e-4)
    assert not torch.equal(encoder(attention, seed=1)(x).w, codes.w)


def test_averages_are_subtracted_and_added():
    network = encoder().requires_grad_(False)
    x = draw(2, 3, 32, 32).clamp(-1, 1)
    before, average = network(x), network.image_avg.clone()
    network.set_averages(network.w_avg + 2, average - 0.25)
    after = network(x - 0.25)
    torch.testing.assert_close(after.w, before.w + 2)
    torch.testing.assert_close(after.w_plus, before.w_plus + 2, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(after.feature, before.feature, atol=1e-5, rtol=1e-4)


def test_a_block_left_out():
    x = draw(2, 3, 32, 32).clamp(-1, 1)
    network = encoder(w_plus_block=False).requires_grad_(False)
    assert not hasattr(network, "cross_attention")
    w_offset, deltas, _ = network.residuals(x)
    w, w_plus, _ = network(x)
    torch.testing.assert_close(w_plus[:, 0], w)
    torch.testing.assert_close(w_plus[:, 1:], w[:, None] + deltas[:, 1:])
    network = encoder(f_block=False).requires_grad_(False)
    assert not hasattr(network, "feature_cross_attention")
    made = network.content_layer(network.residuals(x).finest)
    torch.testing.assert_close(network(x).feature, network.feature_avg + made)


def test_the_slim_feature_map_begins_with_that_of_the_mean():
    G = Generator(GENERATOR, seed=1).requires_grad_(False)
    mean = G.features(G.broadcast(G.w_avg[None]), upto=4)[4][0]
    network = ClcaeEncoder(ClcaeConfig.slim(GENERATOR)).requires_grad_(False).eval()
    network.set_averages(G.w_avg, torch.zeros(3, 32, 32), mean)
    torch.testing.assert_close(network(draw(2, 3, 32, 32)).feature, mean.expand(2, -1, -1, -1))
    plain = ClcaeEncoder(replace(ClcaeConfig.slim(GENERATOR), residual_feature=False))
    assert "feature_avg" not in plain.state_dict() and isinstance(plain.content_layer.convs[-1], torch.nn.LeakyReLU)


@pytest.mark.parametrize("attention", ["faithful", "multi_token"])
def test_layers_of_a_level_share_a_block(attention):
    """Equal residuals give equal codes in the layers of a level, unless the queries are marked by their layer."""
    network = encoder(attention).requires_grad_(False)
    assert len(network.cross_attention) == 3 and network.blocks[3] is network.blocks[6]
    found = network.w_plus_offsets(draw(2, 16), draw(2, 1, 16, seed=1).expand(-1, 8, -1))
    assert torch.equal(found[:, 3], found[:, 6]) == (attention == "faithful")
    assert not torch.equal(found[:, 2], found[:, 3])
    own = encoder(attention, shared_blocks=False)
    assert len(own.cross_attention) == 8


def test_features_are_edited_by_equation_6():
    G = Generator(GENERATOR, seed=1).requires_grad_(False)
    w_plus = G.broadcast(G.mapping(draw(2, 16)))
    edited = w_plus + draw(2, 8, 16, seed=1)
    own = G.features(w_plus)[4]
    torch.testing.assert_close(synthesize(G, w_plus, own), G.synthesis(w_plus))
    torch.testing.assert_close(edit_feature(G, own, w_plus, edited), G.features(edited)[4])
    f = draw(2, 16, 4, 4, seed=2)
    assert torch.equal(edit_feature(G, f, w_plus, w_plus), f)
    first_rgb = G.synthesis(w_plus, replace={4: f}) - synthesize(G, w_plus, f)
    assert first_rgb.abs().max() > 1e-3, "toRGB of the replaced block reads the block's own map"


def test_slim_feature_map_holds_fewer_numbers_than_the_picture():
    config = ClcaeConfig.slim(GeneratorConfig())
    assert (config.feature_resolution, config.feature_channels) == (8, 128)  # 8,192 numbers, the picture has 12,288
    network = ClcaeEncoder(config).eval().requires_grad_(False)
    assert network(draw(1, 3, 64, 64).clamp(-1, 1)).feature.shape == (1, 128, 8, 8)


def test_bad_input(unchecked):
    with pytest.raises(ValueError, match="feature_resolution: expected a power of two up to 32, .* got 64"):
        ClcaeConfig(feature_resolution=64)
    with pytest.raises(ValueError, match="attention: expected .* got 'cross'"):
        ClcaeConfig(attention="cross")
    with pytest.raises(ValueError, match="generator: expected one of at least 32 px, got 16"):
        ClcaeConfig.slim(GeneratorConfig(16, 16, 16, 2, (16, 16, 8)))
    with pytest.raises(ValueError, match=r"replace: expected .* got 8: \(2, 16, 4, 8\)"):  # a feature of the wrong size
        synthesize(Generator(GENERATOR), draw(2, 8, 16), draw(2, 16, 4, 8))
