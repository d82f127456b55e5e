"""The contrastive pair agrees with the public code, and its loss with what Eq. 1 to 3 say."""

import math

import pytest
import torch
from conformance import TOLERANCE, error, load, rnd

from latentlab.encoders.contrastive import (
    ContrastiveConfig,
    ContrastivePair,
    ImageEncoder,
    LatentEncoder,
    info_nce,
)
from latentlab.metrics import retrieval, retrieved
from latentlab.seeds import stream
from latentlab.stylegan import GeneratorConfig

TINY = ContrastiveConfig.slim(GeneratorConfig(16, 16, 16, 2, (16, 16, 8)))


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=stream(seed, "draw"))


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.nn.functional.normalize(draw(*shape, seed=seed), dim=1)


@pytest.mark.slow  # 41 million parameters
def test_image_encoder_agrees_with_the_public_code():
    state, want = load("clcae_contrastive_image_encoder_64")
    network = ImageEncoder().requires_grad_(False).eval()
    missing, unexpected = network.load_state_dict(state, strict=False, assign=True)
    assert not unexpected and all(k.endswith("num_batches_tracked") for k in missing)
    x = 0.5 * rnd("x256", (2, 3, 256, 256)) - 0.1 * rnd("xavg", (1, 3, 256, 256))
    assert error(network(torch.from_numpy(x)), want["embedding"]) < TOLERANCE
    assert error(network.logit_scale.exp(), want["exp_logit_scale"]) < TOLERANCE


def test_latent_encoder_agrees_with_the_public_code():
    state, want = load("clcae_contrastive_latent_encoder")
    network = LatentEncoder().requires_grad_(False).eval()
    missing, unexpected = network.load_state_dict(state, strict=False, assign=True)
    assert not missing and not unexpected
    w = rnd("w", (4, 1, 512)) - 0.1 * rnd("wavg", (1, 1, 512))
    assert error(network(torch.from_numpy(w[:, 0])), want["embedding"]) < TOLERANCE


def test_loss_is_equations_1_to_3():
    a, b, scale = unit(5, 8), unit(5, 8, seed=1), torch.tensor(1.5)
    t = math.exp(-1.5)
    e = (torch.nn.functional.cosine_similarity(a[:, None], b[None], dim=2) / t).exp()
    forth = [-math.log(e[i, i] / sum(e[i, k] for k in range(5))) for i in range(5)]
    back = [-math.log(e[i, i] / sum(e[k, i] for k in range(5))) for i in range(5)]
    wanted = torch.tensor([0.5 * x + 0.5 * y for x, y in zip(forth, back, strict=True)])
    torch.testing.assert_close(info_nce(a, b, scale), wanted)
    torch.testing.assert_close(info_nce(a, b, scale, share=1.0), torch.tensor(forth))


def test_loss_between_chance_and_perfection():
    same = unit(1, 8).expand(6, 8)
    torch.testing.assert_close(info_nce(same, same, torch.tensor(2.0)), torch.full((6,), math.log(6)))
    assert info_nce(torch.eye(6), torch.eye(6), torch.tensor(5.0)).max() < 1e-3


def test_a_batch_of_one_is_refused():
    with pytest.raises(ValueError, match="batch: expected at least 2 pairs, got 1"):
        info_nce(unit(1, 8), unit(1, 8), torch.tensor(1.0))


def test_retrieval_counts_both_ways():
    a = torch.eye(4)
    b = torch.stack([a[0], a[1], a[0], a[3]])  # the third code looks like the first
    assert retrieval(a, b) == (0.75, 0.75, 0.25)
    assert retrieved(a, b).tolist() == [1, 1, 0, 1] and retrieved(b, a).tolist() == [1, 1, 0, 1]
    assert retrieval(unit(2000, 4), unit(2000, 4, seed=1)).code_of_image < 0.01


def test_the_pair_subtracts_its_averages_and_follows_its_seed():
    pair = ContrastivePair(TINY, seed=1).eval().requires_grad_(False)
    x, w = draw(4, 3, 16, 16).clamp(-1, 1), draw(4, 16)
    before = pair(x, w)
    pair.set_averages(torch.full((16,), 3.0), torch.full((3, 32, 32), 0.5))
    for got, want in zip(pair(x + 0.5, w + 3), before, strict=True):
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4)
    again, other = (ContrastivePair(TINY, seed=seed).eval().requires_grad_(False) for seed in (1, 2))
    assert torch.equal(again(x, w)[0], before[0]) and torch.equal(again(x, w)[1], before[1])
    assert not torch.equal(other(x, w)[0], before[0]) and not torch.equal(other(x, w)[1], before[1])
    torch.testing.assert_close(before[0].norm(dim=1), torch.ones(4))
    torch.testing.assert_close(before[1].norm(dim=1), torch.ones(4))


def test_the_pair_learns_to_align():
    """Images that are a linear function of their codes are told apart within a few steps."""
    pair = ContrastivePair(TINY).train()
    A = draw(16, 3 * 16 * 16, seed=3) / 4
    w = draw(16, 16)
    x = (w @ A).view(16, 3, 16, 16).tanh()
    adam = torch.optim.Adam(pair.parameters(), lr=3e-3)
    for _ in range(20):
        loss = pair.loss(x, w).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert loss < 1 < math.log(16)
    assert pair.images.logit_scale != math.log(1 / 0.07)


def test_a_frozen_pair_passes_gradients_to_both_sides():
    pair = ContrastivePair(TINY).eval().requires_grad_(False)
    x, w = draw(3, 3, 16, 16).clamp(-1, 1).requires_grad_(), draw(3, 16).requires_grad_()
    pair.loss(x, w).sum().backward()
    assert x.grad.abs().max() > 0 and w.grad.abs().max() > 0

