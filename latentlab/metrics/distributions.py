"""Distances between image distributions.

FID and KID take features; report them with the network of the features, the resolution and the number of images.
"""

import warnings
from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from latentlab.metrics.fidelity import check, smooth
from latentlab.seeds import stream
from latentlab.spaces import Moments

COARSEST, PATCHES, PATCH, REPEATS, DIRECTIONS = 16, 128, 7, 4, 128  # of the sliced Wasserstein distance


def feature_moments(batches: Iterable[Float[Tensor, "_ d"]]) -> Moments:
    """Mean and covariance of features that come in batches (N, D), for ``fid`` of any number of images.

    >>> feature_moments([torch.tensor([[0.0], [2.0]]), torch.tensor([[4.0]])]).result()
    (tensor([2.], dtype=torch.float64), tensor([[4.]], dtype=torch.float64))
    """
    moments = None
    for x in batches:
        mean = x.double().mean(0)
        check("features", mean)  # the mean of an empty batch is NaN
        moments = moments or Moments(mean)
        moments.add(x)
    if moments is None:
        raise ValueError("features: expected at least one batch, got none")
    return moments


def fid(a: Float[Tensor, "n d"] | Moments, b: Float[Tensor, "m d"] | Moments) -> float:
    """Frechet distance of two sets of features, or of their moments; 0 for equal moments, in squared units.

    |mu_a - mu_b|^2 + tr(A + B - 2 (A B)^(1/2)), A and B the unbiased covariances (Heusel et al., 2017). It is biased
    upwards for few images: compare only equal numbers of them. Fewer than twice the dimensions give a warning.

    >>> fid(torch.tensor([[0.0], [2.0]]), torch.tensor([[3.0], [5.0]]))  # means 1 and 4, variances 2
    9.0
    """
    a, b = (x if isinstance(x, Moments) else feature_moments([x]) for x in (a, b))
    n, d = min(a.n, b.n), len(a.origin)
    if n < 2 or len(b.origin) != d:
        raise ValueError(
            f"features: expected two sets of at least 2 with equal width, got {a.n} of {d} and {b.n} of {len(b.origin)}"
        )
    if n < 2 * d:
        warnings.warn(f"FID of {n} images in {d} dimensions is biased upwards: use KID or more images", stacklevel=2)
    (mean_a, A), (mean_b, B) = a.result(), b.result()
    # tr (A B)^(1/2) is the sum of the singular values of R^T S, where A = R R^T and B = S S^T.
    R, S = (vectors * values.clamp(min=0).sqrt() for values, vectors in map(torch.linalg.eigh, (A, B)))
    return float((mean_a - mean_b).square().sum() + A.trace() + B.trace() - 2 * torch.linalg.svdvals(R.T @ S).sum())


def kid(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> tuple[float, float]:
    """Kernel distance of two sets of features, and its standard error by the jackknife over images.

    The unbiased squared MMD with k(x, y) = (x.y / D + 1)^3 (Binkowski et al., 2018): 0 on average for equal
    distributions, so single values can be negative. All pairs are used; other implementations average over random
    subsets, and the standard deviation over subsets that they report is not the error of that average.

    >>> kid(torch.zeros(3, 1), torch.ones(3, 1))  # k(0, 0) + k(1, 1) - 2 k(0, 1) = 1 + 8 - 2
    (7.0, 0.0)
    """
    if min(len(a), len(b)) < 3 or a.shape[1] != b.shape[1]:
        raise ValueError(
            f"features: expected two sets of at least 3 with equal width, got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    check("features", torch.cat([a, b]))
    (xx, xy), (yy, yx) = _kernel_sums(a, b), _kernel_sums(b, a)
    n, m = len(a), len(b)
    own_x, own_y, cross = xx.sum() / (n * (n - 1)), yy.sum() / (m * (m - 1)), xy.sum() / (n * m)
    # Every pair is in the sum over ordered pairs twice, so leaving out an image removes twice its own sum.
    without_x = (xx.sum() - 2 * xx) / ((n - 1) * (n - 2)) + own_y - 2 * (xy.sum() - xy) / ((n - 1) * m)
    without_y = (yy.sum() - 2 * yy) / ((m - 1) * (m - 2)) + own_x - 2 * (xy.sum() - yx) / ((m - 1) * n)
    variance = (n - 1) * without_x.var(correction=0) + (m - 1) * without_y.var(correction=0)
    return float(own_x + own_y - 2 * cross), float(variance.sqrt())


def _kernel_sums(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> tuple[Tensor, Tensor]:
    """Sums of k over the other rows of ``a`` and over the rows of ``b``, (N,) each, computed in slices of rows."""
    a, b = a.double(), b.double()
    own, other = (torch.cat([(part @ x.T / a.shape[1] + 1).pow(3).sum(1) for part in a.split(1000)]) for x in (a, b))
    return own - (a.square().sum(1) / a.shape[1] + 1).pow(3), other


def swd(a: Float[Tensor, "n 3 r r"], b: Float[Tensor, "n 3 r r"], *, seed: int = 0) -> dict[int, float]:
    """Sliced Wasserstein distance of two sets of images of equal size, {side of the level in px: 1000 x distance}.

    As for progressive GANs (Karras et al., 2018): Laplacian pyramid down to 16 px with a 5 x 5 binomial filter; 128
    patches of 7 x 7 from each image and level, standardised per channel over each set, so that a change of contrast
    or mean colour alone has no effect; 4 times 128 directions, mean |difference| of the sorted projections. 0 for
    equal sets; papers report the mean over levels. Unlike there, both sets are cut at the same places, so that equal
    images give 0; sets of paired images therefore score lower than with independent patches.

    >>> swd(torch.eye(16).expand(2, 3, 16, 16), torch.eye(16).expand(2, 3, 16, 16))
    {16: 0.0}
    """
    check("images", a, b)
    if len(a) < 2 or a.shape[-1] < COARSEST or a.shape[-1].bit_count() > 1:
        raise ValueError(f"images: expected at least 2 with a side of 16, 32, 64, ... px, got {tuple(a.shape)}")
    distances = {}
    for x, y in zip(_laplacian(a), _laplacian(b), strict=True):
        draw = stream(seed, "swd", side := x.shape[-1])
        places = torch.randint(side - PATCH + 1, (2, len(a), PATCHES), generator=draw)
        p, q = _descriptors(x, places), _descriptors(y, places)
        gaps = []
        for _ in range(REPEATS):
            directions = F.normalize(torch.randn(DIRECTIONS, p.shape[1], generator=draw), dim=1).to(p)
            gaps.append(((directions @ p.T).sort(1).values - (directions @ q.T).sort(1).values).abs().mean())
        distances[side] = 1000 * float(sum(gaps)) / REPEATS
    return distances


def _laplacian(x: Float[Tensor, "n 3 r r"]) -> Iterator[Tensor]:
    """Levels of the Laplacian pyramid, finest first: the detail lost by each halving, then the coarsest image."""
    binomial = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0])
    while x.shape[-1] > COARSEST:
        spread = torch.zeros_like(x)
        spread[:, :, ::2, ::2] = small = smooth(F.pad(x, (2, 2, 2, 2), mode="reflect"), binomial)[:, :, ::2, ::2]
        yield x - 4 * smooth(F.pad(spread, (2, 2, 2, 2), mode="reflect"), binomial)
        x = small
    yield x


def _descriptors(x: Float[Tensor, "n 3 r r"], places: Tensor) -> Float[Tensor, "p _"]:
    rows, (top, left) = torch.arange(len(x), device=x.device)[:, None], places.to(x.device)
    patches = x.unfold(2, PATCH, 1).unfold(3, PATCH, 1)[rows, :, top, left].flatten(0, 1)  # (N * 128, 3, 7, 7)
    std, mean = torch.std_mean(patches, (0, 2, 3), keepdim=True)
    return ((patches - mean) / std.clamp(min=1e-6)).flatten(1)


def kolmogorov_smirnov(a: Float[Tensor, " n"], b: Float[Tensor, " m"]) -> float:
    """Kolmogorov-Smirnov distance: the largest difference of two samples' distribution functions, 0 to 1.

    >>> kolmogorov_smirnov(torch.tensor([0.0, 1.0]), torch.tensor([2.0, 3.0]))
    1.0
    """
    from scipy.stats import ks_2samp

    if min(len(a), len(b)) < 2:
        raise ValueError(f"samples: expected at least 2 values in each, got {len(a)} and {len(b)}")
    check("samples", torch.cat([a, b]))
    return float(ks_2samp(a.cpu().numpy(), b.cpu().numpy()).statistic)
