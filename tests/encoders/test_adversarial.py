"""The latent discriminator agrees with e4e's, and its losses are what the paper writes."""

import pytest
import torch
from conformance import TOLERANCE, error, load, rnd

from latentlab.encoders.adversarial import CodePool, adversarial_loss, discriminator_loss, r1_penalty, shown_codes
from latentlab.networks.latent_discriminator import LatentDiscriminator
from latentlab.seeds import stream


def codes(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=stream(seed, "codes"))


def test_discriminator_agrees_with_e4e():
    state, want = load("e4e_latent_discriminator")
    D = LatentDiscriminator().requires_grad_(False)
    D.load_state_dict(state)
    assert error(D(torch.from_numpy(rnd("w", (4, 512))))[:, None], want["logits"]) < TOLERANCE


def test_discriminator_follows_its_seed_and_takes_codes_one_by_one():
    D, again, other = (LatentDiscriminator(8, seed=seed) for seed in (0, 0, 1))
    w_plus = codes(3, 5, 8)
    assert torch.equal(D(w_plus), again(w_plus)) and not torch.equal(D(w_plus), other(w_plus))
    torch.testing.assert_close(D(w_plus)[1, 2], D(w_plus[1, 2]))
    with pytest.raises(ValueError, match="layers: expected at least 1, got 0"):
        LatentDiscriminator(8, layers=0)


def test_losses_are_the_logarithms_of_equations_2_and_3():
    D = LatentDiscriminator(8)
    real, fake = codes(6, 8), codes(4, 5, 8, seed=1)
    p = torch.sigmoid(D(fake))
    torch.testing.assert_close(adversarial_loss(D, fake), -p.log().mean(1))
    torch.testing.assert_close(adversarial_loss(D, fake, stage=2), -p[:, :3].log().mean(1))
    shown = fake[:, 0]
    wanted = -torch.sigmoid(D(real)).log().mean() - (1 - p[:, 0]).log().mean()
    torch.testing.assert_close(discriminator_loss(D, real, shown), wanted)


def test_the_discriminators_step_leaves_the_encoder_alone():
    D, fake = LatentDiscriminator(8), codes(4, 8).requires_grad_()
    discriminator_loss(D, codes(4, 8, seed=1), fake).backward()
    assert fake.grad is None


def test_r1_is_the_squared_gradient():
    A = codes(8)
    real = codes(5, 8, seed=1)
    penalty = r1_penalty(lambda w: w @ A, real, gamma=3.0, interval=1)
    torch.testing.assert_close(penalty, (1.5 * A.square().sum()).expand(5))
    torch.testing.assert_close(r1_penalty(lambda w: w @ A, real, gamma=3.0), 16 * penalty)
    D = LatentDiscriminator(8)
    r1_penalty(D, real).mean().backward()  # it trains the discriminator: the gradient has a gradient
    assert D.mlp[0].weight.grad.abs().max() > 0


def test_shown_codes_are_those_of_the_variant(unchecked):
    w_plus = torch.arange(4.0)[:, None, None] * 10 + torch.arange(6.0)[:, None]  # code i of image n: 10 n + i
    every = shown_codes(w_plus, stream(0), stage=2, variant="paper")
    assert every.flatten().tolist() == [0, 1, 2, 10, 11, 12, 20, 21, 22, 30, 31, 32]
    draw = stream(0, "which")
    one = torch.stack([shown_codes(w_plus, draw, stage=2)[:, 0] for _ in range(300)])
    assert (one.div(10, rounding_mode="floor") == torch.arange(4)).all()
    counts = torch.bincount(one.remainder(10).long().flatten(), minlength=6)
    assert counts[3:].sum() == 0 and counts[:3].min() > 300  # 400 of each on average
    assert shown_codes(w_plus, draw).shape == (4, 1)
    with pytest.raises(ValueError, match="expected 'code' or 'paper', got 'both'"):
        shown_codes(w_plus, draw, variant="both")


def test_a_pool_shows_old_codes_half_of_the_time():
    pool, draw = CodePool(1, size=50), stream(0, "pool")
    first = torch.arange(50.0)[:, None]
    assert torch.equal(pool.query(first, draw), first) and torch.equal(pool.codes, first)
    new = torch.arange(50.0, 1050.0)[:, None]
    shown = pool.query(new, draw)
    old = shown != new
    assert 0.4 < old.float().mean() < 0.6
    assert (shown[old] < new[old]).all()
    everything = torch.cat([shown, pool.codes]).flatten().sort().values
    assert torch.equal(everything, torch.arange(1050.0)), "each code is shown or kept, none twice"
    again = CodePool(1, size=50)
    again.load_state_dict(pool.state_dict())
    more = torch.full((8, 1), -1.0)
    a, b = (p.query(more, stream(1, "pool")) for p in (pool, again))
    assert torch.equal(a, b) and torch.equal(pool.codes, again.codes)
    with pytest.raises(ValueError, match="size: expected at least 1, got 0"):
        CodePool(1, size=0)


def test_a_discriminator_learns_to_tell_codes_apart():
    D = LatentDiscriminator(8)
    adam = torch.optim.Adam(D.parameters(), lr=1e-2)
    real, fake = codes(64, 8), codes(64, 8, seed=1) + 1
    for step in range(60):
        loss = discriminator_loss(D, real, fake)
        loss = loss + r1_penalty(D, real, gamma=0.1).mean() if step % 16 == 0 else loss
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert D(real).mean() > 1 and D(fake).mean() < -1
