"""The discriminator: determinism, groups of the stddev layer, second derivatives for R1, bad input."""

import json

import pytest
import torch

from latentlab.stylegan import Discriminator, DiscriminatorConfig, ops

SMALL = DiscriminatorConfig(resolution=16, channels=(12, 10, 8))


@pytest.fixture(scope="module")
def D():
    return Discriminator(SMALL, seed=1).double().requires_grad_(False)


def images(n, seed=0):
    return torch.randn(n, 3, 16, 16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_logits_depend_on_the_group_only(D):
    """Groups are strided, j, j + n/4, ..: a group alone has the same logits, an image without its group has not."""
    x = images(8)
    logits = D(x)
    assert logits.shape == (8, 1)
    torch.testing.assert_close(logits[1::2], D(x[1::2]))
    assert not torch.allclose(logits[:1], D(x[:1]))


def test_seed_leaves_the_global_random_state_unchanged():
    before = torch.random.get_rng_state()
    first, same = Discriminator(SMALL, seed=3).state_dict(), Discriminator(SMALL, seed=3).state_dict()
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(first[name], same[name]) for name in first)


def test_r1_gradient(D):
    """d/dx of |dD/dx|^2 against finite differences."""

    def penalty(x):
        return torch.autograd.grad(D(x).sum(), x, create_graph=True)[0].square().sum()

    x, direction = images(4).requires_grad_(), images(4, seed=1)
    slope = (torch.autograd.grad(penalty(x), x)[0] * direction).sum()
    ahead, behind = (penalty(x + step * direction) for step in (1e-6, -1e-6))
    torch.testing.assert_close(slope, (ahead - behind).detach() / 2e-6, rtol=1e-4, atol=0)


def test_half_precision_stays_close():
    D = Discriminator().requires_grad_(False)
    x = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    expected = D(x)
    with torch.autocast("cpu", torch.bfloat16):
        found = D.to(memory_format=torch.channels_last)(x)
    assert found.dtype == torch.float32
    assert (found - expected).norm() < 0.05 * expected.norm()


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # torch's own, in forward mode
@pytest.mark.parametrize("mode", ["blur1", "blur2", "up", "down"])
def test_fir_modes_are_adjoint(mode):
    """First and second derivatives, in forward and backward mode, of the hand-written gradient."""
    x = images(2)[:, :, :4, :4].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ops._Fir.apply(x, mode, 4.0), x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda x: ops._Fir.apply(x, mode, 4.0), x)


def test_filters_preserve_constants():
    inside = (slice(None), slice(None), slice(2, -2), slice(2, -2))
    flat = torch.ones(1, 2, 12, 12)
    torch.testing.assert_close(ops.fir_up(flat)[inside], torch.ones(1, 2, 20, 20))
    torch.testing.assert_close(ops.fir_down(flat)[inside], torch.ones(1, 2, 2, 2))


def test_config_survives_json():
    assert DiscriminatorConfig.from_dict(json.loads(json.dumps(SMALL.to_dict()))) == SMALL


def test_bad_input_is_refused(D):
    with pytest.raises(ValueError, match=r"images: expected shape \(N, 3, 16, 16\), got \(4, 3, 8, 8\)"):
        D(torch.zeros(4, 3, 8, 8))
    with pytest.raises(ValueError, match="images: expected a batch of at most 4 or a multiple of it .*, got 6"):
        D(images(6))
