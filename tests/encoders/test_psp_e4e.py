"""pSp and e4e agree with the public code at full size, and have the properties that define them at any size."""

from dataclasses import replace

import pytest
import torch
from conformance import TOLERANCE, error, load, rnd

from latentlab.encoders.backbone import CodeEncoder, EncoderConfig, level_of
from latentlab.encoders.e4e import E4eEncoder, stage_at
from latentlab.encoders.psp import PspEncoder, WEncoder
from latentlab.seeds import stream
from latentlab.stylegan import GeneratorConfig

TINY = EncoderConfig(layers=10, w_dim=12, resolution=32, widths=(4, 6, 8, 10), units=(1, 1, 1, 1))


def no_weights(key: str) -> bool:
    return False


def images(n: int = 3, channels: int = 3, size: int = 32) -> torch.Tensor:
    return torch.randn(n, channels, size, size, generator=stream(0, "images")).clamp(-1, 1)


@pytest.fixture(scope="module")
def official() -> dict:
    """160 million weights: both references were made with the same."""
    return load("psp_encoder_ir_se50_64")[0]


def loaded(encoder: type[CodeEncoder], state: dict) -> CodeEncoder:
    """At full size with the reference's weights; it may lack only those of its keys that are constant there."""
    network = encoder(EncoderConfig(layers=10)).requires_grad_(False).eval()
    missing, unexpected = network.load_state_dict(state, strict=False, assign=True)
    assert not unexpected
    assert [k for k in missing if not k.endswith("num_batches_tracked")] == ["latent_avg"]
    return network


@pytest.mark.slow
def test_psp_agrees_with_the_public_code(official):
    want = load("psp_encoder_ir_se50_64", no_weights)[1]
    codes = loaded(PspEncoder, official)(torch.from_numpy(0.5 * rnd("x256", (1, 3, 256, 256))))
    assert error(codes, want["codes"]) < TOLERANCE


@pytest.mark.slow
def test_e4e_agrees_with_the_public_code_in_all_stages(official):
    network, want = loaded(E4eEncoder, official), load("e4e_encoder_ir_se50_64", no_weights)[1]
    x = torch.from_numpy(0.5 * rnd("x256", (1, 3, 256, 256)))
    assert error(network(x), want["codes"]) < TOLERANCE
    for stage in (0, 3, 8):
        assert error(network(x, stage), want[f"codes_stage{stage}"]) < TOLERANCE


def test_levels_are_those_of_psp():
    assert [level_of(i) for i in range(18)] == [0] * 3 + [1] * 4 + [2] * 11
    assert [tuple(x.shape[1:]) for x in PspEncoder(TINY).levels(images())] == [(10, 2, 2), (10, 4, 4), (10, 8, 8)]


@pytest.mark.parametrize("kind", [PspEncoder, E4eEncoder])
def test_each_head_reads_its_own_level(kind):
    """A change of the path to one level changes the codes that are read from it and no coarser one."""
    network = kind(TINY).eval().requires_grad_(False)
    x = images()
    before = network(x)
    network.latlayer2.weight.add_(1.0)
    changed = (network(x) - before).abs().amax((0, 2)) > 0
    assert changed.tolist() == [level_of(i) == 2 for i in range(10)]
    network.latlayer1.weight.add_(1.0)
    changed = (network(x) - before).abs().amax((0, 2)) > 0
    assert changed.tolist() == [level_of(i) >= 1 for i in range(10)]


def test_the_finer_levels_are_enlarged_with_their_corners_aligned():
    network = PspEncoder(TINY).eval().requires_grad_(False)
    network.latlayer1.weight.zero_()
    network.latlayer1.bias.zero_()
    c3, p2, _ = network.levels(images())
    torch.testing.assert_close(p2[:, :, [0, 0, -1, -1], [0, -1, 0, -1]], c3[:, :, [0, 0, 1, 1], [0, 1, 0, 1]])
    torch.testing.assert_close(p2[:, :, 0, 1], c3[:, :, 0, 0].lerp(c3[:, :, 0, 1], 1 / 3))


def test_a_stage_of_e4e_has_that_many_offsets():
    network = E4eEncoder(TINY).eval().requires_grad_(False)
    network.set_average(torch.arange(12.0))
    x = images()
    last = network(x)
    for stage in range(10):
        codes = network(x, stage)
        torch.testing.assert_close(codes[:, : stage + 1], last[:, : stage + 1])
        assert torch.equal(codes[:, stage + 1 :], codes[:, :1].expand(-1, 9 - stage, -1))
    assert (network(x, 9) - last).abs().max() == 0
    assert (last[:, 1:] - last[:, :1]).abs().amax((0, 2)).min() > 0


def test_an_inactive_offset_gets_no_gradient():
    network = E4eEncoder(TINY)
    network(images(), 4).sum().backward()
    assert [head.linear.bias.grad is not None for head in network.styles] == [i <= 4 for i in range(10)]


def test_stages_follow_the_published_schedule():
    steps = [0] + [20_000 + 2_000 * k for k in range(17)]
    assert [stage_at(step, 18) for step in steps] == list(range(18)) and steps[-1] == 52_000
    assert [stage_at(step - 1, 18) for step in steps[1:]] == list(range(17))
    tenth = [stage_at(step, 18, start=2_000, interval=200) for step in range(0, 6_000, 100)]
    assert tenth == [stage_at(10 * step, 18) for step in range(0, 6_000, 100)]
    with pytest.raises(ValueError, match="positive interval, got 3, 20000, 0"):
        stage_at(3, 18, interval=0)


@pytest.mark.parametrize("kind", [PspEncoder, E4eEncoder, WEncoder])
def test_the_average_is_added_and_weights_follow_the_seed(kind):
    config = TINY if kind is not WEncoder else replace(TINY, pyramid=False)
    state = torch.random.get_rng_state()
    first, again, other = (kind(config, seed).eval().requires_grad_(False) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    x = images()
    assert not torch.equal(first(x), other(x))
    before = first(x)
    first.set_average(torch.full((12,), 3.0))
    torch.testing.assert_close(first(x), before + 3)
    torch.testing.assert_close(first.offsets(x), before)


def test_a_w_encoder_gives_one_code():
    network = WEncoder(replace(TINY, pyramid=False)).eval().requires_grad_(False)
    codes = network(images())
    assert codes.shape == (3, 10, 12)
    assert torch.equal(codes, codes[:, :1].expand_as(codes))
    with pytest.raises(ValueError, match="expected pyramid=False"):
        WEncoder(TINY)


def test_other_sizes_are_brought_to_the_encoders():
    network = PspEncoder(TINY).eval().requires_grad_(False)
    x = images(size=64)
    small = torch.nn.functional.interpolate(x, (32, 32), mode="bilinear", antialias=True)
    assert torch.equal(network(x), network(small))


def test_slim_pyramid_has_16_8_and_4_px():
    config = EncoderConfig.slim(GeneratorConfig())
    network = PspEncoder(config).eval()
    assert [tuple(x.shape[2:]) for x in network.levels(images(1, size=64))] == [(4, 4), (8, 8), (16, 16)]
    assert network(images(2, size=64)).shape == (2, 10, 128)
    assert 1.4e6 < sum(p.numel() for p in network.parameters()) < 1.6e6
    tiny = GeneratorConfig(16, 16, 16, 2, (16, 16, 8))
    assert E4eEncoder(EncoderConfig.slim(tiny)).eval()(images(2, size=16)).shape == (2, 6, 16)


def test_bad_input(unchecked):
    network = PspEncoder(TINY).eval()
    with pytest.raises(ValueError, match=r"expected floats in \[-1, 1\] of shape \(N, 3, R, R\), got .*uint8"):
        network(images().to(torch.uint8))
    with pytest.raises(ValueError, match=r"got torch.float32 of shape \(3, 6, 32, 32\)"):
        network(images(channels=6))
    with pytest.raises(ValueError, match="stage: expected 0 to 9, .* got 10"):
        E4eEncoder(TINY)(images(), 10)
    with pytest.raises(ValueError, match="resolution: expected a power of two of at least 16, got 48"):
        EncoderConfig(resolution=48)
    with pytest.raises(ValueError, match="layers and w_dim: expected at least 1"):
        EncoderConfig(layers=0)
