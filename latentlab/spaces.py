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
    w_mean: (D,) mean of W. w_std: root mean squared distance of W from it (the projector's noise scale).
    fingerprint: of the generator's mapping network, so that no other generator is served.
    """

    mean: Float64[Tensor, " dim"]
    eigenvectors: Float64[Tensor, "dim dim"]
    eigenvalues: Float64[Tensor, " dim"]
    w_mean: Float64[Tensor, " dim"]
    w_std: float
    n: int
    fingerprint: str
    floor: float = EIGENVALUE_FLOOR

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
        tensors = {k: getattr(self, k) for k in ("mean", "eigenvectors", "eigenvalues", "w_mean")}
        return tensors, {k: getattr(self, k) for k in ("w_std", "n", "fingerprint", "floor")}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> "Statistics":
        """The inverse of ``to_tensors``."""
        names = ("w_std", "n", "fingerprint", "floor")
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
    device = G.w_avg.device
    # Moments about a fixed point near the mean keep float64 exact where the variance is small.
    origin = w_to_p(G.w_avg).double()
    total = torch.zeros(G.w_dim, dtype=torch.float64, device=device)
    second = torch.zeros(G.w_dim, G.w_dim, dtype=torch.float64, device=device)
    w_total, w_square = torch.zeros_like(total), 0.0
    draw = stream(seed, "statistics")
    for start in tqdm(range(0, n, batch_size), desc="codes", leave=False, disable=n <= 100_000):
        z = torch.randn(min(batch_size, n - start), G.z_dim, generator=draw).to(device)
        w = G.mapping(z)
        x = w_to_p(w).double() - origin
        total += x.sum(0)
        second += x.T @ x
        w_total += w.double().sum(0)
        w_square += float(w.double().square().sum())
    mean = total / n
    covariance = (second - n * torch.outer(mean, mean)) / (n - 1)
    if not torch.isfinite(covariance).all():
        raise ValueError("the mapping network gives codes that are not finite")
    eigenvalues, eigenvectors = torch.linalg.eigh(covariance)
    w_mean = w_total / n
    return Statistics(
        mean=(mean + origin).cpu(),
        eigenvectors=eigenvectors.flip(1).contiguous().cpu(),
        eigenvalues=eigenvalues.flip(0).clamp(min=0).cpu(),
        w_mean=w_mean.cpu(),
        w_std=math.sqrt(w_square / n - float(w_mean.square().sum())),
        n=n,
        fingerprint=fingerprint(G),
        floor=floor,
    )


def statistics_for(G: nn.Module) -> Statistics:
    """The statistics stored with the weights of ``G``; for a generator without, 100,000 codes measured now."""
    mark = fingerprint(G)
    for file, entry in read_manifest().items():
        if file.endswith(".statistics.safetensors") and entry.get("fingerprint") == mark:
            return Statistics.from_tensors(*read_weights(file))
    return measure_statistics(G, n=max(100_000, 4 * G.w_dim))
