"""Latent spaces, their statistics and the maps between them: W, P, PN (II2S, arXiv 2012.09036), S, S^N (LSAP,
arXiv 2209.12746).

P undoes the last leaky ReLU of the mapping network; PN whitens P, so that its squared norm is the
squared Mahalanobis distance of a code from the mean of P: its (negative) log-density up to a constant.
S holds what each modulated layer makes of its code, S^N its direction alone.
"""

import hashlib
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor, nn
from tqdm.auto import tqdm

from latentlab.seeds import stream
from latentlab.stylegan.generator import Generator, StyleLayer
from latentlab.weights import read_manifest, read_tensors, read_weights, write_tensors
from latentlab.weights.downloads import cache_folder

LEAK = 0.2  # slope of the mapping network's leaky ReLU
EIGENVALUE_FLOOR = 1e-4
CACHED_VERSION = 1  # of how statistics are measured: to be raised when that changes

Styles = Sequence[Float[Tensor, "n _"]]


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

    def log_density(self, w: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch"]:
        """log p(w) in nats of each code of W or W+, if P were the normal N(mu, C), floor applied.

        |v|^2 is the squared Mahalanobis distance (II2S, Eq. 3-5). The change of variables to W adds
        log |det dx/dw|, which is log 5 for every negative coordinate.
        """
        v = self.w_to_pn(w).double()
        log_volume = math.log(2 * math.pi) * v.shape[-1] + self.floored.log().sum().to(v)
        jacobian = (w < 0).sum(-1) * math.log(1 / LEAK)
        # p(x) = (2 pi)^(-D/2) |C|^(-1/2) exp(-|v|^2 / 2)
        return (jacobian - (v.square().sum(-1) + log_volume) / 2).to(w)

    def sample(self, n: int, space: Literal["pn", "w"] = "pn", *, seed: int = 0) -> Float[Tensor, "n dim"]:
        """n codes of W, (n, D) float32: "pn" draws v ~ N(0, I) in PN, "w" from the normal fitted to W itself,
        which puts mass where the mapping network puts none (II2S, section 3)."""
        eps = torch.randn(n, len(self.mean), generator=stream(seed, f"sample {space}"), dtype=torch.float64)
        if space == "pn":
            return self.pn_to_w(eps).float()
        if space == "w":
            eigenvalues, eigenvectors = torch.linalg.eigh(self.w_covariance)
            return (self.w_mean + eps * eigenvalues.clamp(min=0).sqrt() @ eigenvectors.T).float()
        raise ValueError(f"space is 'pn' or 'w', not {space!r}")

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
    p_moments, w_moments = Moments(w_to_p(G.w_avg)), Moments(G.w_avg)
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
    constant = (covariance.diagonal() <= 1e-12 * covariance.diagonal().max()).nonzero().flatten().tolist()
    if constant:
        raise ValueError(f"{len(constant)} of {G.w_dim} dimensions are constant, first number {constant[0]}: "
                         "the mapping network lost them, PN is not defined")  # fmt: skip
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


class Moments:
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
    """The statistics stored with the weights of ``G``; for a generator without, measured once and kept in the user's
    cache folder (``LATENTLAB_CACHE``), by fingerprint: 100,000 codes, or II2S' million from 256 dimensions on."""
    mark = fingerprint(G)
    for file, entry in read_manifest().items():
        if file.endswith(".statistics.safetensors") and entry.get("fingerprint") == mark:
            return Statistics.from_tensors(*read_weights(file))
    n = 1_000_000 if G.w_dim >= 256 else 100_000
    path = cache_folder("statistics") / f"{mark}.{CACHED_VERSION}.safetensors"
    found = _read_cached(path, G, n)
    if found is None:
        found = measure_statistics(G, n)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_tensors(path, *found.to_tensors())
        except OSError as error:
            warnings.warn(f"the statistics of {mark} are not kept ({error}) and will be measured again", stacklevel=2)
    return found


def _read_cached(path: Path, G: nn.Module, n: int) -> Statistics | None:
    """Statistics of ``G`` from an earlier run; None where there are none, or only damaged ones."""
    try:
        found = Statistics.from_tensors(*read_tensors(path))
        found.check(G)
    except (OSError, ValueError, LookupError, TypeError):
        return None
    numbers = (found.mean, found.eigenvectors, found.eigenvalues, found.w_mean, found.w_covariance)
    d = G.w_dim
    sound = [tuple(x.shape) for x in numbers] == [(d,), (d, d), (d,), (d,), (d, d)] and found.n == n
    return found if sound and all(bool(x.isfinite().all()) for x in numbers) else None


def style_layers(G: Generator, *, torgb: bool = True) -> list[StyleLayer]:
    """The layers whose styles make up S, one a code of W+: every convolution and, as LSAP's public code counts,
    the last toRGB. ``torgb=False`` leaves the L - 1 convolutions, for which Property 3.1 is proved."""
    convolutions = [layer for layer in G.style_layers if layer.kind == "conv"]
    return convolutions + [G.style_layers[-1]] * torgb


def w_to_s(w_plus: Float[Tensor, "n layers dim"], G: Generator, *, torgb: bool = True) -> list[Float[Tensor, "n _"]]:
    """W+ to S: s_l = A_l w_l + b_l, (N, C_l) a layer, in the order of ``style_layers``. LSAP, section 3.3."""
    wanted = {layer.name for layer in style_layers(G, torgb=torgb)}
    return [s for layer, s in zip(G.style_layers, G.styles(w_plus), strict=True) if layer.name in wanted]


def s_to_w(styles: Styles, G: Generator) -> Float[Tensor, "n layers dim"]:
    """S to W+ by least squares: of all codes with these styles the nearest to the mean of W.

    The inverse of ``w_to_s`` where a layer has at least D channels. A narrower layer does not see all of its
    code, so there only the styles come back; a wider one reaches only a D-dimensional part of its styles. The
    code of a left-out toRGB is the mean.
    """
    layers = style_layers(G, torgb=len(styles) == G.num_ws)
    got, wanted = [s.shape[-1] for s in styles], [layer.channels for layer in layers]
    if got != wanted:
        raise ValueError(f"styles have widths {got}; wanted are {wanted}, or without the last")
    w_plus = G.w_avg.repeat(len(styles[0]), G.num_ws, 1)
    for layer, s in zip(layers, styles, strict=True):
        affine = G.get_submodule(layer.name).affine
        A = (affine.weight * affine.weight_gain).double()
        rest = (s - affine(G.w_avg[None])).double()
        w_plus[:, layer.w_index] += (rest @ torch.linalg.pinv(A).T).to(w_plus)
    return w_plus


def s_to_sn(styles: Styles) -> list[Float[Tensor, "n _"]]:
    """S to S^N: s_l / |s_l|, the direction of every layer's style. LSAP, Eq. 2.

    Demodulation undoes any factor a > 0 on a convolution's style, so the picture does not change
    (Property 3.1); a factor a < 0 turns the features' sign, and toRGB, which does not demodulate, keeps any.
    """
    norms = [s.norm(dim=-1, keepdim=True) for s in styles]
    if not all(bool((r > 0).all()) for r in norms):
        raise ValueError("a style of length 0 has no direction")
    return [s / r for s, r in zip(styles, norms, strict=True)]


def sn_to_s(directions: Styles, norms: Sequence[Float[Tensor, " n"]]) -> list[Float[Tensor, "n _"]]:
    """S^N to S: |s_l| s^N_l. The lengths, (N,) a layer, are what S^N forgets, so they must be given."""
    return [r[:, None] * s for s, r in zip(directions, norms, strict=True)]
