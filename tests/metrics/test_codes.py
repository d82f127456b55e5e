"""Metrics of codes against numpy; LEC and SNCD on linear generators and known distributions."""

import numpy as np
import pytest
import torch

from latentlab.metrics import code_distance, code_variation, lec, sncd, sncd_references
from latentlab.stylegan import Generator, GeneratorConfig


@pytest.fixture(scope="module")
def G() -> Generator:
    return Generator(GeneratorConfig(resolution=16, z_dim=16, w_dim=16, channels=(16, 16, 16)), seed=0)


def codes(seed: int, n: int = 5, layers: int = 6, dim: int = 16) -> torch.Tensor:
    return torch.randn(n, layers, dim, generator=torch.Generator().manual_seed(seed))


def test_norms_are_numpys():
    a, b = codes(0), codes(1)
    x, y = a.numpy(), b.numpy()
    np.testing.assert_allclose(code_distance(a, b), [np.linalg.norm(p - q) for p, q in zip(x, y, strict=True)], 1e-5)
    np.testing.assert_allclose(code_variation(a), [np.linalg.norm(p - p.mean(0)) for p in x], 1e-5)
    assert code_variation(a[:, :1].expand(-1, 6, -1)).max() < 1e-5


def linear_generator(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """An invertible linear map from 96 code entries to 96 pixels, and its inverse."""
    A = torch.linalg.qr(codes(seed, 1, 96, 96)[0]).Q
    return A, A.T


def test_lec_of_the_true_inverse_is_zero_and_shrinking_lowers_it():
    A, inverse = linear_generator(0)
    images, step = codes(1, 20, 6, 16).view(20, 3, 4, 8), codes(2, 1)[0]

    def synthesize(w: torch.Tensor) -> torch.Tensor:
        return (w.flatten(1) @ A).view(-1, 3, 4, 8)

    def encoder(scale: float):
        return lambda x: scale * (x.flatten(1) @ inverse).view(-1, 6, 16)

    assert lec(encoder(1.0), synthesize, images, step).max() < 1e-4
    # With E(G(w)) = c w: |c E(x) + c n - n - E(x)| = (1 - c) |E(x) + n|; a constant encoder is off by the step.
    for c in (0.9, 0.5):
        wanted = (1 - c) * (encoder(c)(images) + step).flatten(1).norm(dim=1)
        torch.testing.assert_close(lec(encoder(c), synthesize, images, step), wanted, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(lec(encoder(0.0), synthesize, images, step), step.norm().expand(20))


def test_trimmed_lec_leaves_out_both_tails():
    offsets = torch.tensor([5.0, 1.0, 2.0, 3.0, 100.0]).view(-1, 1, 1)

    def encode(x: torch.Tensor) -> torch.Tensor:  # each edited image is off by its own offset
        return offsets * x.mean((1, 2, 3)).view(-1, 1, 1)

    def synthesize(w: torch.Tensor) -> torch.Tensor:
        return torch.ones(len(w), 3, 2, 2)

    images, step = torch.zeros(5, 3, 2, 2), torch.zeros(1)
    assert lec(encode, synthesize, images, step).tolist() == offsets.flatten().tolist()
    assert lec(encode, synthesize, images, step, trim=0.01).tolist() == [5.0, 2.0, 3.0]


def normalised(seed: int, n: int, spread: float) -> list[torch.Tensor]:
    """Unit vectors of two layers around a common axis, with this spread."""
    draw = torch.Generator().manual_seed(seed)
    styles = [torch.randn(n, c, generator=draw) * spread + torch.eye(c)[0] for c in (8, 4)]
    return [s / s.norm(dim=1, keepdim=True) for s in styles]


def test_sncd_is_the_mean_over_all_pairs_and_respects_its_floors():
    samples = normalised(0, 2000, 0.3)
    means = [s.mean(0) for s in samples]
    found = normalised(1, 50, 0.3)
    distance = sncd(found, means)
    pairs = [1 - (s.double() @ f.double().T).mean() for s, f in zip(samples, found, strict=True)]  # LSAP, Eq. 5
    torch.testing.assert_close(distance.mean(0), torch.stack(pairs).float())
    lowest, average = sncd_references(means)
    torch.testing.assert_close(sncd(samples, means).mean(0), average)
    best = [mu[None] / mu.norm() for mu in means]
    torch.testing.assert_close(sncd(best, means)[0], lowest)
    assert (distance >= lowest).all() and (lowest > 0).all() and (average > lowest).all()


def test_bad_input(unchecked):
    a, images = codes(0), torch.zeros(5, 3, 4, 4)
    with pytest.raises(ValueError, match="codes: expected equal shapes"):
        code_distance(a, a[:, :3])
    with pytest.raises(ValueError, match="codes: expected finite values"):
        code_variation(a * torch.nan)
    with pytest.raises(ValueError, match="images: expected finite values"):
        lec(lambda x: a, lambda w: images, images * torch.nan, a)
    with pytest.raises(ValueError, match="codes: expected equal shapes"):  # an encoder that loses images
        lec(lambda x: a[: len(x)], lambda w: images[:2], images, torch.ones(16))
    with pytest.raises(ValueError, match="trim: expected at least 0 and less than 0.5, got 0.5"):
        lec(lambda x: a, lambda w: images, images, torch.ones(16), trim=0.5)
    unit = normalised(0, 3, 0.3)
    means = [s.mean(0) for s in unit]
    with pytest.raises(ValueError, match="means: expected one .* got 1 for 2 layers"):
        sncd(unit, means[:1])
    with pytest.raises(ValueError, match="styles: expected vectors of length 1, got 2"):
        sncd([2 * s for s in unit], means)
    with pytest.raises(ValueError, match="styles and means: expected finite values"):
        sncd(unit, [mu * torch.nan for mu in means])
