"""The generator: consistency of its spaces, determinism, properties of its architecture, bad input."""

import json

import pytest
import torch

from latentlab.stylegan import Generator, GeneratorConfig
from latentlab.stylegan.generator import describe_styles

SMALL = GeneratorConfig(resolution=32, z_dim=12, w_dim=12, mapping_layers=2, channels=(16, 16, 12, 8))
OFFICIAL = {256: (512,) * 5 + (256, 128), 512: (512,) * 5 + (256, 128, 64), 1024: (512,) * 5 + (256, 128, 64, 32)}


def stream(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def G():
    G = Generator(SMALL, seed=1).double().requires_grad_(False)
    for conv in (module for module in G.modules() if hasattr(module, "noise_strength")):
        conv.noise_strength.fill_(0.3)  # it is initialised to 0, which would hide the noise from the tests
    return G


@pytest.fixture(scope="module")
def w_plus(G):
    return G.mapping(torch.randn(3 * 8, 12, generator=stream(0), dtype=torch.float64)).unflatten(0, (3, 8))


def test_methods_and_shapes(G, w_plus):
    z = torch.randn(2, 12, generator=stream(2), dtype=torch.float64)
    w = G.mapping(z)
    assert w.shape == (2, 12) and G.num_ws == 8
    assert G.broadcast(w).shape == (2, 8, 12)
    image = G(z, psi=0.5)
    assert image.shape == (2, 3, 32, 32)
    torch.testing.assert_close(image, G.synthesis(G.truncate(G.broadcast(w), 0.5)))
    assert {r: tuple(x.shape) for r, x in G.features(w_plus).items()} == {
        4: (3, 16, 4, 4),
        8: (3, 16, 8, 8),
        16: (3, 12, 16, 16),
        32: (3, 8, 32, 32),
    }


def test_truncation(G, w_plus):
    assert torch.equal(G.truncate(w_plus, 0.0), G.w_avg.expand_as(w_plus))
    half = G.truncate(w_plus, 0.5, cutoff=3)
    torch.testing.assert_close(half[:, :3], (G.w_avg + w_plus[:, :3]) / 2)
    assert torch.equal(half[:, 3:], w_plus[:, 3:])


def test_seed_fixes_the_weights_and_leaves_the_global_random_state_unchanged():
    before = torch.random.get_rng_state()
    first, same, other = (Generator(SMALL, seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["blocks.8.conv0.weight"], other["blocks.8.conv0.weight"])


def test_noise(G, w_plus):
    const = G.synthesis(w_plus)
    assert torch.equal(const, G.synthesis(w_plus))
    buffers = [conv.noise_const for conv in G._convs()]
    torch.testing.assert_close(G.synthesis(w_plus, noise=buffers), const)
    batch = [eps.expand(3, 1, -1, -1) for eps in buffers]
    torch.testing.assert_close(G.synthesis(w_plus, noise=batch), const)
    torch.testing.assert_close(
        G.synthesis(w_plus, noise=[0 * eps for eps in buffers]), G.synthesis(w_plus, noise="none")
    )
    random = G.synthesis(w_plus, noise="random", generator=stream(5))
    assert torch.equal(random, G.synthesis(w_plus, noise="random", generator=stream(5)))
    assert not torch.allclose(random, G.synthesis(w_plus, noise="random", generator=stream(6)))
    assert not torch.allclose(random, const)


def test_batch_equals_singles(G, w_plus):
    singles = torch.cat([G.synthesis(w_plus[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(G.synthesis(w_plus), singles, rtol=1e-6, atol=1e-6)


def test_styles_replace_codes(G, w_plus):
    torch.testing.assert_close(G.synthesis(None, styles=G.styles(w_plus)), G.synthesis(w_plus))
    assert [layer.channels for layer in G.style_layers] == [style.shape[1] for style in G.styles(w_plus)]


@pytest.mark.parametrize("replace_rgb", [True, False])
@pytest.mark.parametrize("resolutions", [[4], [16], [32], [4, 8, 16]])
def test_replacing_features_by_themselves_changes_nothing(G, w_plus, resolutions, replace_rgb):
    features = G.features(w_plus)
    image = G.synthesis(w_plus, replace={r: features[r] for r in resolutions}, replace_rgb=replace_rgb)
    torch.testing.assert_close(image, G.synthesis(w_plus))


@pytest.mark.parametrize("replace_rgb", [True, False])
def test_a_function_replaces_the_output_of_its_block(G, w_plus, replace_rgb):
    """It sees what the block makes of the maps that were replaced before."""
    replace = {8: lambda x: 2 * x, 16: lambda x: x - 1}
    first = G.features(w_plus, replace={8: 2 * G.features(w_plus)[8]}, replace_rgb=replace_rgb)
    fixed = {8: first[8], 16: first[16] - 1}
    torch.testing.assert_close(
        G.synthesis(w_plus, replace=replace, replace_rgb=replace_rgb),
        G.synthesis(w_plus, replace=fixed, replace_rgb=replace_rgb),
    )
    with pytest.raises(ValueError, match=r"replace: .*got 8: \(3, 16, 4, 4\)"):
        G.synthesis(w_plus, replace={8: lambda x: x[:, :, ::2, ::2]})


def test_a_replaced_feature_changes_later_blocks_only(G, w_plus):
    coarse = G.features(w_plus, upto=8)
    assert list(coarse) == [4, 8] and torch.equal(coarse[8], G.features(w_plus)[8])
    with pytest.raises(ValueError, match="upto: expected one of 4, .*, got 7"):
        G.features(w_plus, upto=7)
    features, other = G.features(w_plus[:1]), G.features(w_plus[1:2])
    mixed = G.features(w_plus[:1], replace={16: other[16]})
    assert torch.equal(mixed[8], features[8]) and torch.equal(mixed[16], other[16])
    assert not torch.allclose(mixed[32], features[32])
    seen = G.synthesis(w_plus[:1], replace={32: other[32]})
    unseen = G.synthesis(w_plus[:1], replace={32: other[32]}, replace_rgb=False)
    torch.testing.assert_close(unseen, G.synthesis(w_plus[:1]))
    assert not torch.allclose(seen, unseen)


@pytest.mark.parametrize("factor, kind, same", [(3.0, "conv", True), (-3.0, "conv", False), (3.0, "torgb", False)])
def test_scale_invariance_of_styles(G, w_plus, factor, kind, same):
    """LSAP, Property 3.1: demodulation removes a positive factor of a conv style; toRGB has no demodulation."""
    styles = [
        style * factor if layer.kind == kind else style
        for style, layer in zip(G.styles(w_plus), G.style_layers, strict=True)
    ]
    distance = (G.synthesis(None, styles=styles) - G.synthesis(w_plus)).abs().max()
    assert (distance < 1e-6) == same


@pytest.mark.parametrize("resolution", [16, 32, 64, 128, 256, 512, 1024])
def test_size_of_style_space(resolution):
    """Indices of w_plus and numbers of style coordinates equal those of the official generators."""
    blocks = resolution.bit_length() - 2
    channels = OFFICIAL.get(resolution, (512,) * blocks) if resolution >= 256 else (8,) * blocks
    layers = describe_styles(GeneratorConfig(resolution, channels=channels))
    convs, torgbs = ([layer for layer in layers if layer.kind == kind] for kind in ("conv", "torgb"))
    assert [layer.w_index for layer in convs] == list(range(2 * blocks - 1))
    assert [layer.w_index for layer in torgbs] == list(range(1, 2 * blocks, 2))
    dims = {1024: (6048, 3040), 512: (5952, 3008), 256: (5760, 2944)}
    if resolution in dims:
        assert tuple(sum(layer.channels for layer in kind) for kind in (convs, torgbs)) == dims[resolution]


@pytest.mark.parametrize("resolution", [16, 128])
def test_other_resolutions_run(resolution):
    G = Generator(GeneratorConfig(resolution, 8, 8, 1, (4,) * (resolution.bit_length() - 2)))
    image = G(torch.randn(2, 8, generator=stream(0)))
    assert image.shape == (2, 3, resolution, resolution) and image.isfinite().all()
    assert [s.shape[1] for s in G.styles(torch.zeros(2, G.num_ws, 8))] == [s.channels for s in G.style_layers]


def test_features_are_clamped():
    config = {"resolution": 8, "z_dim": 8, "w_dim": 8, "mapping_layers": 1, "channels": (4, 4)}
    free, clamped = Generator(GeneratorConfig(**config)), Generator(GeneratorConfig(**config, conv_clamp=0.5))
    clamped.load_state_dict(free.state_dict())
    w_plus = torch.randn(1, 4, 8, generator=stream(0))
    assert clamped.features(w_plus)[8].abs().max() == 0.5 < free.features(w_plus)[8].abs().max()


def test_config_survives_json():
    config = GeneratorConfig(conv_clamp=256)
    assert GeneratorConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_half_precision_and_channels_last_stay_close():
    G = Generator().requires_grad_(False)
    w_plus = G.broadcast(G.mapping(torch.randn(2, 128, generator=stream(0))))
    expected = G.synthesis(w_plus)
    with torch.autocast("cpu", torch.bfloat16):
        found = G.to(memory_format=torch.channels_last).synthesis(w_plus)
    assert found.dtype == torch.float32
    assert (found - expected).norm() < 0.03 * expected.norm()


def test_second_derivatives(G):
    """The derivative of a gradient norm, which the path-length penalty needs, against finite differences."""

    def gradient_norm(w_plus):
        energy = G.synthesis(w_plus).square().sum()
        return torch.autograd.grad(energy, w_plus, create_graph=True)[0].square().sum()

    w_plus = torch.randn(1, 8, 12, generator=stream(1), dtype=torch.float64).requires_grad_()
    direction = torch.randn(1, 8, 12, generator=stream(2), dtype=torch.float64)
    slope = (torch.autograd.grad(gradient_norm(w_plus), w_plus)[0] * direction).sum()
    ahead, behind = (gradient_norm(w_plus + step * direction) for step in (1e-5, -1e-5))
    torch.testing.assert_close(slope, (ahead - behind).detach() / 2e-5, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda G, w: G.mapping(torch.zeros(2, 5)), r"z: expected shape \(N, 12\), got \(2, 5\)"),
        (lambda G, w: G.broadcast(torch.zeros(2, 5)), r"w: expected shape \(N, 12\), got \(2, 5\)"),
        (lambda G, w: G.synthesis(w[:, :5]), r"w_plus: expected shape \(N, 8, 12\), got \(3, 5, 12\)"),
        (lambda G, w: G.synthesis(w * torch.nan), "w_plus: expected finite values, got NaN"),
        (lambda G, w: G.synthesis(None), "w_plus: expected codes, or styles instead, got None"),
        (lambda G, w: G.truncate(w, 0.5, cutoff=9), "cutoff: expected 0 to 8 layers .*got 9"),
        (lambda G, w: G.truncate(w[:, 0], 0.5, cutoff=2), r"cutoff: expected 0 to 8 .*got 2 for shape \(3, 12\)"),
        (lambda G, w: G.synthesis(w, noise=[torch.zeros(4, 4)]), r"noise: expected 'const', .*; got \[\(4, 4\)\]"),
        (lambda G, w: G.synthesis(None, styles=G.styles(w)[:-1]), r"styles: expected shapes \(N, C\) with C = "),
        (lambda G, w: G.synthesis(w, replace={16: torch.zeros(3, 12, 8, 8)}), r"replace: .*got 16: \(3, 12, 8, 8\)"),
        (lambda G, w: G.synthesis(w, replace={5: torch.zeros(3, 12, 5, 5)}), "replace: expected resolutions .*got 5"),
        (lambda G, w: GeneratorConfig(resolution=48), "resolution: expected a power of two of at least 8, got 48"),
        (lambda G, w: GeneratorConfig(channels=(8, 8)), "channels: expected 5 widths, .*got 2"),
    ],
)
def test_bad_input_is_refused(G, w_plus, call, message):
    with pytest.raises(ValueError, match=message):
        call(G, w_plus)
