"""Edits in S, and the channels of S that move an attribute or a region (StyleSpace, Wu et al., arXiv 2011.12799)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latentlab.editing.edit import Edit, State
from latentlab.editing.samples import Samples
from latentlab.seeds import stream
from latentlab.spaces import Statistics, statistics_for

Shifts = Sequence[Float[Tensor, "... _"]]


def shift_styles(state: State, shifts: Shifts, G: nn.Module) -> State:
    """The state with its styles moved by ``shifts``, (C_l,) or (N, C_l) for each of ``G.style_layers``.

    Styles that are held move; where none are, the generator's own are held from now on. Gradients pass.
    """
    styles = state.own_styles(G) if state.styles is None else state.styles
    got, wanted = [s.shape[-1] for s in shifts], [s.shape[-1] for s in styles]
    if got != wanted:
        raise ValueError(f"shifts: expected {wanted} channels in the layers of this generator, got {got}; "
                         "an edit of S belongs to the generator that it was found for")  # fmt: skip
    return replace(state, styles=[s + shift.to(s) for s, shift in zip(styles, shifts, strict=True)])


@dataclass(frozen=True, eq=False)
class StyleDirection(Edit):
    """A straight line in S. shifts: (C_l,) for each of ``G.style_layers``, the step of strength 1; layers: those of
    W+ whose styles move, None for all; see ``Edit`` for the rest."""

    name: str
    shifts: tuple[Tensor, ...]
    std: float = math.nan
    unit: str = "standard deviations"
    source: str = ""
    layers: tuple[int, ...] | None = None
    space = "S"

    def __call__(self, state: State, strengths: Float[Tensor, " n"], G: nn.Module) -> State:
        return shift_styles(state, [strengths.to(s).view(-1, 1) * s for s in self.shifts], G)


@dataclass(frozen=True, eq=False)
class StyleStatistics:
    """Mean and standard deviation of every channel of S, (C_l,) for each of ``G.style_layers``."""

    mean: tuple[Tensor, ...]
    std: tuple[Tensor, ...]

    def standardise(self, styles: Shifts) -> list[Float[Tensor, "n _"]]:
        """S in standard deviations from its mean, channel by channel."""
        return [(s - m) / d.clamp(min=1e-12) for s, m, d in zip(styles, self.mean, self.std, strict=True)]


@torch.no_grad()
def style_statistics(G: nn.Module, statistics: Statistics | None = None) -> StyleStatistics:
    """Mean and standard deviation of S, exact from the streamed moments of W, since S is affine in W.

    statistics: the generator's own unless given. StyleSpace estimates both from 100,000 codes; these are from as many
    as ``statistics`` is, a million for the shipped generators.
    """
    statistics = statistics or statistics_for(G)
    statistics.check(G)
    mean, covariance = statistics.w_mean.to(G.w_avg), statistics.w_covariance.to(G.w_avg)
    # s = A w + b, hence E[s] = A E[w] + b and Var[s_c] = (A Cov(w) A^T)_cc
    means = G.styles(G.broadcast(mean[None]))
    rows = G.styles(G.broadcast(mean + torch.eye(len(mean)).to(mean)))
    transposed = [s - m for s, m in zip(rows, means, strict=True)]  # A^T, (D, C_l) a layer
    variances = [((covariance @ B) * B).sum(0) for B in transposed]
    return StyleStatistics(tuple(m[0] for m in means), tuple(v.clamp(min=0).sqrt() for v in variances))


@dataclass(frozen=True)
class Channel:
    """One channel of S. layer: its position in ``G.style_layers``. score: what it was ranked by. sign: +1 or -1, the
    way in which it raises the attribute (+1 where there is none)."""

    layer: int
    channel: int
    score: float
    sign: int = 1


def channel_edit(
    G: nn.Module, channel: Channel, name: str, *, statistics: Statistics | None = None
) -> StyleDirection:
    """The edit of a single channel: strength 1 moves it by one of its standard deviations, the way of its sign."""
    std = style_statistics(G, statistics).std
    shifts = [torch.zeros_like(s) for s in std]
    shifts[channel.layer][channel.channel] = channel.sign * std[channel.layer][channel.channel]
    layer = G.style_layers[channel.layer]
    source = f"StyleSpace, channel {channel.channel} of {layer.name}, score {channel.score:.3g}"
    unit = "standard deviations of the channel"
    return StyleDirection(name, tuple(shifts), unit=unit, source=source, layers=(layer.w_index,))


@torch.no_grad()
def rank_channels(
    G: nn.Module,
    samples: Samples,
    name: str,
    *,
    share: float = 0.02,
    count: int = 20,
    torgb: bool = False,
    statistics: Statistics | None = None,
) -> list[Channel]:
    """The ``count`` channels of S that tell positive examples of an attribute from the population, best first.

    Examples are the top ``share`` of the samples by reading. With S in standard deviations from the population's mean,
    a channel counts by |mean| / std over the examples (StyleSpace, section 5): consistently and far from the mean.
    toRGB, which moves colours alone, is left out unless ``torgb``.
    """
    readings, k = samples.of(name), round(share * len(samples))
    if not 0 < share < 0.5 or k < 2:
        raise ValueError(f"share: expected a share in 0..0.5 that leaves 2 examples or more, got {share} of "
                         f"{len(samples)} samples")  # fmt: skip
    if float(readings.max()) == float(readings.min()):
        raise ValueError(f"readings: expected {name} to vary, got {float(readings[0]):.3g} in every sample")
    positive = samples.w[readings.topk(k).indices].to(G.w_avg)
    z = style_statistics(G, statistics).standardise(G.styles(G.broadcast(positive)))
    scores = [_without_torgb(G, i, s.mean(0).abs() / s.std(0).clamp(min=1e-6), torgb) for i, s in enumerate(z)]
    return _best(scores, [s.mean(0).sign() for s in z], count)


def rank_channels_by_region(
    G: nn.Module,
    w: Float[Tensor, "n dim"],
    masks: Mapping[str, Float[Tensor, "n 1 r r"]],
    *,
    count: int = 20,
    probes: int = 8,
    torgb: bool = False,
    statistics: Statistics | None = None,
    seed: int = 0,
) -> dict[str, list[Channel]]:
    """For each region the ``count`` channels whose effect lies most within it, best first; score: that share, 0..1.

    The effect of channel c is E_c = sum_p (dx_p / ds_c)^2 over the pixels p, in standard deviations of the channel,
    averaged over the codes ``w``; the share is that of the region's pixels. StyleSpace (section 4) draws the gradient
    map of each channel; here random signs v give all channels at once, E_c = E_v[(d<v, x> / ds_c)^2], one backward pass
    a region and probe. Channels with less than 1 % of the strongest one's effect are left out. masks: 0..1, (N, 1, R,
    R) of the pictures of ``w``.
    """
    with torch.no_grad():
        plain = State(G.broadcast(w.to(G.w_avg)))
        styles, image = G.styles(plain.w_plus), plain.draw(G)
    for name, mask in masks.items():
        if mask.shape != image[:, :1].shape:
            raise ValueError(f"masks: expected shape {tuple(image[:, :1].shape)}, got {tuple(mask.shape)} for {name!r}")
    std = style_statistics(G, statistics).std
    leaves = [s.clone().requires_grad_() for s in styles]
    with torch.enable_grad():
        drawn = replace(plain, styles=leaves).draw(G)

    def effects(mask: Tensor) -> list[Tensor]:
        draw, total = stream(seed, "regions", device=image.device), [torch.zeros_like(d) for d in std]
        for _ in range(probes):
            v = torch.randint(0, 2, image.shape, generator=draw, device=image.device).to(image) * 2 - 1
            grads = torch.autograd.grad((v * mask.to(image).sqrt() * drawn).sum(), leaves, retain_graph=True)
            total = [t + (g * d).square().mean(0) / probes for t, g, d in zip(total, grads, std, strict=True)]
        return total

    whole = effects(torch.ones_like(image[:, :1]))
    least = 0.01 * max(float(_without_torgb(G, i, e, torgb).max()) for i, e in enumerate(whole))
    ranked = {}
    for name, mask in masks.items():
        inside = effects(mask)
        shares = [torch.where(all_ > least, part / all_.clamp(min=1e-30), -math.inf).clamp(max=1)
                  for part, all_ in zip(inside, whole, strict=True)]  # fmt: skip
        shares = [_without_torgb(G, i, s, torgb) for i, s in enumerate(shares)]
        ranked[name] = _best(shares, [torch.ones_like(s) for s in shares], count)
    return ranked


def _without_torgb(G: nn.Module, layer: int, scores: Tensor, torgb: bool) -> Tensor:
    return scores if torgb or G.style_layers[layer].kind == "conv" else torch.full_like(scores, -math.inf)


def _best(scores: Sequence[Tensor], signs: Sequence[Tensor], count: int) -> list[Channel]:
    places = [(i, c) for i, s in enumerate(scores) for c in range(len(s))]
    flat, sign = torch.cat(list(scores)), torch.cat(list(signs))
    order = flat.argsort(descending=True, stable=True)[:count].tolist()
    return [Channel(*places[j], float(flat[j]), int(sign[j]) or 1) for j in order if math.isfinite(float(flat[j]))]
