"""Latent spaces, their statistics and the maps between them.

W, P and PN are those of II2S (arXiv 2012.09036), S and S^N those of LSAP (arXiv 2209.12746). P undoes the last leaky
ReLU of the mapping network. PN whitens P, so that the squared norm of a code is its squared Mahalanobis distance from
the mean of P: for a normal P, -2 log density up to a constant. S holds the style of each modulated layer, S^N the
direction of each style.
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

from latentlab import weights
from latentlab.seeds import stream
from latentlab.stylegan.generator import Generator, StyleLayer
from latentlab.weights.downloads import cache_folder

LEAK = 0.2  # slope of the mapping network's leaky ReLU
EIGENVALUE_FLOOR = 1e-4
CACHED_VERSION = 1  # of how statistics and anchors are measured: to be raised when that changes
ANCHORED = 50_000  # codes behind anchors that are not stored, as in LSAP's metric

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

    mean: (D,) mean of P. eigenvectors: (D, D), one axis per column, largest variance first.
    eigenvalues: (D,) variances along them, float64, before the floor.
    floor: eigenvalues below ``floor`` times the largest are raised to that value. Without a floor the smallest
        are 1e-7 of the largest, and one optimiser step would move a code by many standard deviations.
    w_mean: (D,) mean of W. w_covariance: (D, D) covariance of W, for the normal that II2S fits to W.
    n: number of codes. fingerprint: of the generator's mapping network, see ``check``.
    anchors: of S^N, or None if they were not measured; see ``measure_anchors``.
    """

    mean: Float64[Tensor, " dim"]
    eigenvectors: Float64[Tensor, "dim dim"]
    eigenvalues: Float64[Tensor, " dim"]
    w_mean: Float64[Tensor, " dim"]
    w_covariance: Float64[Tensor, "dim dim"]
    n: int
    fingerprint: str
    floor: float = EIGENVALUE_FLOOR
    anchors: "Anchors | None" = None

    @property
    def w_std(self) -> float:
        """Root mean squared distance of codes of W from their mean: the noise scale of the StyleGAN2 projector."""
        return math.sqrt(float(self.w_covariance.trace()))

    @property
    def floored(self) -> Float64[Tensor, " dim"]:
        """The eigenvalues with the floor applied."""
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
        """W to PN, or W+ to PN+ layer by layer."""
        return self.p_to_pn(w_to_p(w))

    def pn_to_w(self, v: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """PN to W, or PN+ to W+ layer by layer."""
        return p_to_w(self.pn_to_p(v))

    def log_density(self, w: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch"]:
        """log p(w) in nats of each code of W or W+, assuming that P is the normal N(mu, C) with the floor applied.

        |v|^2 is the squared Mahalanobis distance (II2S, Eq. 3-5). The change of variables to W adds
        log |det dx/dw|, which is log 5 for every negative coordinate.
        """
        v = self.w_to_pn(w).double()
        log_volume = math.log(2 * math.pi) * v.shape[-1] + self.floored.log().sum().to(v)
        jacobian = (w < 0).sum(-1) * math.log(1 / LEAK)
        # p(x) = (2 pi)^(-D/2) |C|^(-1/2) exp(-|v|^2 / 2)
        return (jacobian - (v.square().sum(-1) + log_volume) / 2).to(w)

    def sample(self, n: int, space: Literal["pn", "w"] = "pn", *, seed: int = 0) -> Float[Tensor, "n dim"]:
        """Draws n codes of W, (n, D) float32.

        space: "pn" draws v ~ N(0, I) in PN; "w" draws from the normal fitted to W, which has density where the
        mapping network has none (II2S, section 3).
        """
        eps = torch.randn(n, len(self.mean), generator=stream(seed, f"sample {space}"), dtype=torch.float64)
        if space == "pn":
            return self.pn_to_w(eps).float()
        if space == "w":
            eigenvalues, eigenvectors = torch.linalg.eigh(self.w_covariance)
            return (self.w_mean + eps * eigenvalues.clamp(min=0).sqrt() @ eigenvectors.T).float()
        raise ValueError(f"space: expected 'pn' or 'w', got {space!r}")

    def check(self, G: nn.Module) -> None:
        """Raises ``ValueError`` if these are not the statistics of ``G``."""
        if (own := fingerprint(G)) != self.fingerprint:
            raise ValueError(
                f"statistics: expected those of the mapping network {own}, got those of {self.fingerprint}; "
                "measure them with latentlab.spaces.measure_statistics(G)"
            )

    def to_tensors(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and metadata for a file of weights."""
        tensors = {k: getattr(self, k) for k in ("mean", "eigenvectors", "eigenvalues", "w_mean", "w_covariance")}
        metadata = {k: getattr(self, k) for k in ("n", "fingerprint", "floor")}
        if self.anchors is not None:
            of_anchors, metadata["anchors"] = self.anchors.to_tensors()
            tensors |= of_anchors
        return tensors, metadata

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> "Statistics":
        """The inverse of ``to_tensors``."""
        anchors = Anchors.from_tensors(tensors, metadata["anchors"]) if "anchors" in metadata else None
        own = {k: v.double() for k, v in tensors.items() if not k.startswith("anchors.")}
        return cls(**own, **{k: metadata[k] for k in ("n", "fingerprint", "floor")}, anchors=anchors)


@dataclass(frozen=True)
class Anchors:
    """Anchors of S^N: the mean directions mu_l = E[s_l / |s_l|] of a generator's styles (LSAP, section 4.1).

    They are not of unit length. parts: (P, C_l) for each of ``style_layers``, the means over P equal parts of the
    sample, from whose spread the error of the mean follows. n: number of codes in all parts. fingerprint: of the
    mapping network and the affine layers.
    """

    parts: tuple[Float64[Tensor, "parts _"], ...]
    n: int
    fingerprint: str

    def means(self, *, torgb: bool = True) -> list[Float64[Tensor, " _"]]:
        """mu_l of each layer, (C_l,); ``torgb=False`` leaves the last toRGB out, as in ``style_layers``."""
        return [parts.mean(0) for parts in (self.parts if torgb else self.parts[:-1])]

    def to_tensors(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and metadata for a file of weights."""
        tensors = {f"anchors.{i}": parts for i, parts in enumerate(self.parts)}
        return tensors, {"n": self.n, "fingerprint": self.fingerprint}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> "Anchors":
        """The inverse of ``to_tensors``; other tensors are left out."""
        count = sum(k.startswith("anchors.") for k in tensors)
        parts = (tensors[f"anchors.{i}"].double() for i in range(count))
        return cls(tuple(parts), **{k: metadata[k] for k in ("n", "fingerprint")})

    def check(self, G: nn.Module) -> None:
        """Raises ``ValueError`` if these are not the anchors of ``G``."""
        if (own := fingerprint(G, "styles")) != self.fingerprint:
            raise ValueError(
                f"anchors: expected those of the generator {own}, got those of {self.fingerprint}; "
                "measure them with latentlab.spaces.measure_anchors(G)"
            )


def fingerprint(G: nn.Module, part: Literal["mapping", "styles", "generator"] = "mapping") -> str:
    """Fingerprint of a generator or of a part of it, 12 hexadecimal digits.

    part: "mapping", the mapping network, to which W, its statistics and directions belong; "styles", mapping network
    and affine layers, to which S and its anchors belong; "generator", all weights, to which images belong.
    """
    includes = {
        "mapping": lambda name: name.startswith("mapping"),
        "styles": lambda name: name.startswith("mapping") or ".affine." in name,
        "generator": lambda name: True,
    }
    digest = hashlib.sha256()
    for name, tensor in sorted(G.state_dict().items()):
        if includes[part](name):
            digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


@torch.no_grad()
def measure_statistics(
    G: nn.Module, n: int = 1_000_000, *, floor: float = EIGENVALUE_FLOOR, seed: int = 0, batch_size: int = 10_000
) -> Statistics:
    """Mean and covariance of P from ``n`` codes without truncation, summed batch by batch in float64.

    The public II2S code fits an incremental PCA to a million codes in memory; summing the moments of batches gives
    the same result in a few megabytes. Fewer than twice as many codes as dimensions raise ``ValueError``.
    """
    if n < 2 * G.w_dim:
        raise ValueError(f"n: expected at least {2 * G.w_dim} codes for {G.w_dim} dimensions, got {n}")
    # Moments about a fixed point near the mean stay exact in float64 where the variance is small.
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
        raise ValueError("G: expected a mapping network with finite codes, got NaN or infinity")
    constant = (covariance.diagonal() <= 1e-12 * covariance.diagonal().max()).nonzero().flatten().tolist()
    if constant:
        raise ValueError(
            f"G: expected codes that vary in all {G.w_dim} dimensions, got {len(constant)} constant dimensions, "
            f"the first at index {constant[0]}; PN is not defined for them"
        )
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
    """Running first and second moments of vectors about ``origin``, in float64."""

    def __init__(self, origin: Float[Tensor, " dim"]) -> None:
        self.origin, self.n = origin.double(), 0
        self.total = torch.zeros_like(self.origin)
        self.second = torch.zeros(len(origin), len(origin), dtype=torch.float64, device=origin.device)

    def add(self, x: Float[Tensor, "n dim"]) -> None:
        """Adds a batch of vectors."""
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
    if file := weights.find("statistics", mark):
        return Statistics.from_tensors(*weights.read_weights(file))
    n = 1_000_000 if G.w_dim >= 256 else 100_000
    path = cache_folder("statistics") / f"{mark}.{CACHED_VERSION}.safetensors"
    found = _read_cached(path, G, n)
    if found is None:
        found = measure_statistics(G, n)
        _keep(path, f"the statistics of {mark}", *found.to_tensors())
    return found


def _keep(path: Path, what: str, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Writes to the user's cache folder; where that fails, warns that it will be measured again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        weights.write_tensors(path, tensors, metadata)
    except OSError as error:
        warnings.warn(f"{what} are not kept ({error}) and will be measured again", stacklevel=3)


def _read_cached(path: Path, G: nn.Module, n: int) -> Statistics | None:
    """Statistics of ``G`` from an earlier run; None where there are none, or only damaged ones."""
    try:
        found = Statistics.from_tensors(*weights.read_tensors(path))
        found.check(G)
    except (OSError, ValueError, LookupError, TypeError):
        return None
    numbers = (found.mean, found.eigenvectors, found.eigenvalues, found.w_mean, found.w_covariance)
    d = G.w_dim
    sound = [tuple(x.shape) for x in numbers] == [(d,), (d, d), (d,), (d,), (d, d)] and found.n == n
    return found if sound and all(bool(x.isfinite().all()) for x in numbers) else None


def style_layers(G: Generator, *, torgb: bool = True) -> list[StyleLayer]:
    """The layers whose styles make up S, one for each layer of W+: all convolutions and the last toRGB.

    The last toRGB is included as in LSAP's public code; ``torgb=False`` leaves it out and returns the L - 1
    convolutions, for which the paper proves Property 3.1.
    """
    convolutions = [layer for layer in G.style_layers if layer.kind == "conv"]
    return convolutions + [G.style_layers[-1]] * torgb


@torch.no_grad()
def visible_part(w_plus: Float[Tensor, "n layers dim"], G: Generator) -> Float[Tensor, "n layers dim"]:
    """Codes of W+ without what no affine map of their layer can see, (N, L, D).

    Each layer's code is projected on the rows of the maps that read it, convolution and toRGB: the rest changes no
    style, and so no picture.
    """
    parts = []
    for layer in range(G.num_ws):
        maps = [G.get_submodule(s.name).affine.weight for s in G.style_layers if s.w_index == layer]
        _, singular, rows = torch.linalg.svd(torch.cat(maps), full_matrices=False)
        rows = rows[singular > 1e-6 * singular[0]]
        parts.append(w_plus[:, layer] @ rows.T @ rows)
    return torch.stack(parts, 1)


def w_to_s(w_plus: Float[Tensor, "n layers dim"], G: Generator, *, torgb: bool = True) -> list[Float[Tensor, "n _"]]:
    """W+ to S: s_l = A_l w_l + b_l, (N, C_l) per layer, in the order of ``style_layers``. LSAP, section 3.3."""
    names = {layer.name for layer in style_layers(G, torgb=torgb)}
    return [s for layer, s in zip(G.style_layers, G.styles(w_plus), strict=True) if layer.name in names]


def s_to_w(styles: Styles, G: Generator) -> Float[Tensor, "n layers dim"]:
    """S to W+ by least squares: of all codes with these styles, the one nearest to the mean of W.

    It inverts ``w_to_s`` where a layer has at least D channels. In a narrower layer the style does not determine the
    code, so only the styles are recovered; in a wider one only a D-dimensional subspace of styles can be reached.
    Where the style of toRGB is left out, the code of its layer is the mean.
    """
    layers = style_layers(G, torgb=len(styles) == G.num_ws)
    got, widths = [s.shape[-1] for s in styles], [layer.channels for layer in layers]
    if got != widths:
        raise ValueError(f"styles: expected widths {widths}, or these without the last, got {got}")
    w_plus = G.w_avg.repeat(len(styles[0]), G.num_ws, 1)
    for layer, s in zip(layers, styles, strict=True):
        affine = G.get_submodule(layer.name).affine
        A = (affine.weight * affine.weight_gain).double()
        rest = (s - affine(G.w_avg[None])).double()
        w_plus[:, layer.w_index] += (rest @ torch.linalg.pinv(A).T).to(w_plus)
    return w_plus


def s_to_sn(styles: Styles) -> list[Float[Tensor, "n _"]]:
    """S to S^N: s_l / |s_l|, the direction of every layer's style. LSAP, Eq. 2.

    Demodulation undoes a factor a > 0 of a convolution's style, so the image does not change (Property 3.1). A factor
    a < 0 flips the sign of the features, and the output of toRGB, which does not demodulate, scales with any factor.
    """
    norms = [s.norm(dim=-1, keepdim=True) for s in styles]
    lowest = torch.stack([r.min() for r in norms])
    if not bool((lowest > 0).all()):
        layer = int((~(lowest > 0)).nonzero()[0])
        raise ValueError(
            f"styles: expected lengths above 0, got length {float(lowest[layer]):g} in layer {layer}, which has no "
            "direction; leave out its image or layer"
        )
    return [s / r for s, r in zip(styles, norms, strict=True)]


def sn_to_s(directions: Styles, norms: Sequence[Float[Tensor, " n"]]) -> list[Float[Tensor, "n _"]]:
    """S^N to S: |s_l| s^N_l. norms: the lengths |s_l|, (N,) per layer, which S^N does not contain."""
    return [r[:, None] * s for s, r in zip(directions, norms, strict=True)]


@torch.no_grad()
def measure_anchors(
    G: Generator, n: int = 100_000, *, parts: int = 10, seed: int = 0, batch_size: int = 10_000
) -> Anchors:
    """Mean directions of the styles of ``n`` codes without truncation, summed in float64 (LSAP, Eq. 11).

    n: a multiple of ``parts``. The paper's metric has 50,000 codes, the public training code 100,000.
    """
    if parts < 2 or n < parts or n % parts:
        raise ValueError(f"n: expected a multiple of {parts} parts, at least 2 of them, got {n}")
    size, draw, means = n // parts, stream(seed, "anchors"), []
    for _ in tqdm(range(parts), desc="anchors", leave=False, disable=n <= 100_000):
        totals = [torch.zeros(layer.channels, dtype=torch.float64) for layer in style_layers(G)]
        for start in range(0, size, batch_size):
            z = torch.randn(min(batch_size, size - start), G.z_dim, generator=draw).to(G.w_avg.device)
            for total, s in zip(totals, s_to_sn(w_to_s(G.broadcast(G.mapping(z)), G)), strict=True):
                total += s.double().sum(0).cpu()
        means.append([total / size for total in totals])
    return Anchors(tuple(torch.stack(layer) for layer in zip(*means, strict=True)), n, fingerprint(G, "styles"))


def anchors_for(G: Generator) -> Anchors:
    """The anchors stored with the statistics of ``G`` or, if there are none, those of 50,000 codes, measured once and
    kept in the user's cache folder (``LATENTLAB_CACHE``), by fingerprint."""
    if file := weights.find("statistics", fingerprint(G)):
        stored = Statistics.from_tensors(*weights.read_weights(file)).anchors
        if stored is not None and stored.fingerprint == fingerprint(G, "styles"):
            return stored
    mark = fingerprint(G, "styles")
    path = cache_folder("anchors") / f"{mark}.{CACHED_VERSION}.safetensors"
    found = _read_cached_anchors(path, G)
    if found is None:
        found = measure_anchors(G, ANCHORED)
        _keep(path, f"the anchors of {mark}", *found.to_tensors())
    return found


def _read_cached_anchors(path: Path, G: Generator) -> Anchors | None:
    """Anchors of ``G`` from an earlier run; None where there are none, or only damaged ones."""
    try:
        found = Anchors.from_tensors(*weights.read_tensors(path))
        found.check(G)
    except (OSError, ValueError, LookupError, TypeError):
        return None
    sound = [p.shape[1] for p in found.parts] == [layer.channels for layer in style_layers(G)] and found.n == ANCHORED
    return found if sound and all(bool(p.isfinite().all()) for p in found.parts) else None
