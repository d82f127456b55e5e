"""Statistics of a generator's latent space and the maps between W, P and PN (II2S, arXiv 2012.09036).

P undoes the last leaky ReLU of the mapping network; PN whitens P, so that its squared norm is the
squared Mahalanobis distance of a code from the mean of P: its (negative) log-density up to a constant.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor, nn
from tqdm.auto import tqdm

from latentlab.seeds import stream
from latentlab.weights import read_manifest, read_weights

LEAK = 0.2  # slope of the mapping network's leaky ReLU
EIGENVALUE_FLOOR = 1e-4


def w_to_p(w: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
    """W or W+ to P: x = LeakyReLU_5(w). II2S, Eq. 1."""
    return F.leaky_relu(w, 1 / LEAK)


def p_to_w(x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
    """P to W or W+: w = LeakyReLU_0.2(x), the inverse of Eq. 1."""
    return F.leaky_relu(x, LEAK)


@dataclass(frozen=True)
class Statistics:
    """Mean and principal axes of P, from ``n`` codes of one generator.

    mean: (D,) mean of P. eigenvectors: (D, D), one axis a column, largest variance first.
    eigenvalues: (D,) variances along them, float64, before the floor.
    floor: eigenvalues below ``floor`` times the largest count as that much. Unfloored, the smallest
        are 1e-7 of the largest and one optimiser step would move a code by many standard deviations.
    w_mean: (D,) mean of W. w_covariance: (D, D) of W itself, for the normal that II2S fits there.
    fingerprint: of the generator's mapping network, so that no other generator is served.
    """

    mean: Float64[Tensor, " dim"]
    eigenvectors: Float64[Tensor, "dim dim"]
    eigenvalues: Float64[Tensor, " dim"]
    w_mean: Float64[Tensor, " dim"]
    w_covariance: Float64[Tensor, "dim dim"]
    n: int
    fingerprint: str
    floor: float = EIGENVALUE_FLOOR

    @property
    def w_std(self) -> float:
        """Root mean squared distance of W from its mean: the StyleGAN2 projector's noise scale."""
        return math.sqrt(float(self.w_covariance.trace()))

    @property
    def floored(self) -> Float64[Tensor, " dim"]:
        """The eigenvalues in use, floor applied."""
        return self.eigenvalues.clamp(min=self.floor * float(self.eigenvalues.max()))

    def p_to_pn(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """P to PN: v = Lambda^(-1/2) U^T (x - mu). II2S, Eq. 2 (its Eq. 7 drops the square root)."""
        whiten = (self.eigenvectors / self.floored.sqrt()).to(x)
        return (x - self.mean.to(x)) @ whiten

    def pn_to_p(self, v: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """PN to P: x = U Lambda^(1/2) v + mu, the inverse of Eq. 2."""
        colour = (self.eigenvectors * self.floored.sqrt()).to(v)
        return v @ colour.T + self.mean.to(v)

    def w_to_pn(self, w: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """W to PN, or W+ to PN+ code by code."""
        return self.p_to_pn(w_to_p(w))

    def pn_to_w(self, v: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """PN to W, or PN+ to W+ code by code."""
        return p_to_w(self.pn_to_p(v))

    def check(self, G: nn.Module) -> None:
        """Raises ``ValueError`` if these are the statistics of another generator than ``G``."""
        if (found := fingerprint(G)) != self.fingerprint:
            raise ValueError(
                f"these statistics belong to the generator {self.fingerprint}, not to {found}: "
                "measure them with latentlab.spaces.measure_statistics(G)"
            )

    def to_tensors(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and metadata as they are stored with the weights."""
        tensors = {k: getattr(self, k) for k in ("mean", "eigenvectors", "eigenvalues", "w_mean", "w_covariance")}
        return tensors, {k: getattr(self, k) for k in ("n", "fingerprint", "floor")}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> "Statistics":
        """The inverse of ``to_tensors``."""
        names = ("n", "fingerprint", "floor")
        return cls(**{k: v.double() for k, v in tensors.items()}, **{k: metadata[k] for k in names})


def fingerprint(G: nn.Module) -> str:
    """Twelve hexadecimal digits that tell one mapping network from another."""
    digest = hashlib.sha256()
    for name, tensor in sorted(G.state_dict().items()):
        if name.startswith("mapping"):
            digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


@torch.no_grad()
def measure_statistics(
    G: nn.Module, n: int = 1_000_000, *, floor: float = EIGENVALUE_FLOOR, seed: int = 0, batch_size: int = 10_000
) -> Statistics:
    """Mean and covariance of P from ``n`` codes without truncation, streamed and exact in float64.

    The public II2S code fits an incremental PCA to a million codes held in memory; summing the
    moments batch by batch gives the same and needs a few megabytes. At least twice as many codes as
    dimensions are wanted; fewer raise ``ValueError``.
    """
    if n < 2 * G.w_dim:
        raise ValueError(f"{n} codes cannot give a covariance in {G.w_dim} dimensions: take {2 * G.w_dim} or more")
    # Moments about a fixed point near the mean keep float64 exact where the variance is small.
    p_moments, w_moments = _Moments(w_to_p(G.w_avg)), _Moments(G.w_avg)
    draw = stream(seed, "statistics")
    for start in tqdm(range(0, n, batch_size), desc="codes", leave=False, disable=n <= 100_000):
        z = torch.randn(min(batch_size, n - start), G.z_dim, generator=draw).to(G.w_avg.device)
        w = G.mapping(z)
        p_moments.add(w_to_p(w))
        w_moments.add(w)
    mean, covariance = p_moments.result()
    w_mean, w_covariance = w_moments.result()
    if not torch.isfinite(covariance).all():
        raise ValueError("the mapping network gives codes that are not finite")
    eigenvalues, eigenvectors = torch.linalg.eigh(covariance)
    return Statistics(
        mean=mean,
        eigenvectors=eigenvectors.flip(1).contiguous(),
        eigenvalues=eigenvalues.flip(0).clamp(min=0),
        w_mean=w_mean,
        w_covariance=w_covariance,
        n=n,
        fingerprint=fingerprint(G),
        floor=floor,
    )


class _Moments:
    """First and second moments of a stream of vectors, exact in float64."""

    def __init__(self, origin: Float[Tensor, " dim"]) -> None:
        self.origin, self.n = origin.double(), 0
        self.total = torch.zeros_like(self.origin)
        self.second = torch.zeros(len(origin), len(origin), dtype=torch.float64, device=origin.device)

    def add(self, x: Float[Tensor, "n dim"]) -> None:
        x = x.double() - self.origin
        self.n += len(x)
        self.total += x.sum(0)
        self.second += x.T @ x

    def result(self) -> tuple[Float64[Tensor, " dim"], Float64[Tensor, "dim dim"]]:
        """Mean and unbiased covariance, on the CPU."""
        mean = self.total / self.n
        covariance = (self.second - self.n * torch.outer(mean, mean)) / (self.n - 1)
        return (mean + self.origin).cpu(), covariance.cpu()


def statistics_for(G: nn.Module) -> Statistics:
    """The statistics stored with the weights of ``G``; for a generator without, 100,000 codes measured now."""
    mark = fingerprint(G)
    for file, entry in read_manifest().items():
        if file.endswith(".statistics.safetensors") and entry.get("fingerprint") == mark:
            return Statistics.from_tensors(*read_weights(file))
    return measure_statistics(G, n=max(100_000, 4 * G.w_dim))
