"""Metrics of latent codes: distance from W, distance of encodings, SNCD, PN+ norm."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from latentlab.metrics.fidelity import Images, check
from latentlab.spaces import Anchors, Styles, s_to_sn, w_to_s
from latentlab.stylegan import Generator

Codes = Float[Tensor, "n layers dim"]


def code_variation(w_plus: Codes) -> Float[Tensor, " n"]:
    """Variation of a code over the layers: |w - mean over layers of w| over all L x D, (N,). e4e, section 8.2.

    0 for codes of W; the paper reports 324.76 for its configuration A (pSp) and 20.18 for D, at L = 18, D = 512.

    >>> code_variation(torch.tensor([[[0.0, 0.0], [6.0, 8.0]]]))  # each row is 5 from the mean
    tensor([7.0711])
    """
    return code_distance(w_plus, w_plus.mean(1, keepdim=True).expand_as(w_plus))


def code_distance(found: Codes, true: Codes) -> Float[Tensor, " n"]:
    """Distance of codes |w' - w| over all L x D, (N,); 0 for equal codes.

    With w from W and w' = E(G(w)) it tells how far from W an encoder's codes are: the paper reports 364.51 for its
    configuration A and 57.67 for D (e4e, section 8.2).

    >>> code_distance(torch.tensor([[[3.0], [4.0]]]), torch.zeros(1, 2, 1))
    tensor([5.])
    """
    check("codes", found, true)
    return (found - true).flatten(1).norm(dim=1)


@torch.no_grad()
def lec(
    encode: Callable[[Images], Codes],
    synthesize: Callable[[Codes], Images],
    images: Images,
    step: Tensor,
    *,
    trim: float = 0.0,
) -> Float[Tensor, " kept"]:
    """Latent editing consistency of an encoder (e4e, Eq. 8) over all L x D, (N,); 0 is consistent.

    step: strength times direction, (D,), (L, D) or (N, L, D). Compare encoders at the same step only, and with their
    reconstruction errors: an encoder that always returns the same code scores |step|, and one that shrinks codes
    scores low. trim: leaves out values below this quantile and above one minus it (e4e's public code: 0.01 of
    means over batches of 8).

    >>> step = torch.tensor([3.0, 4.0])  # a constant encoder: off by the step at both layers
    >>> lec(lambda x: torch.zeros(1, 2, 2), lambda w: torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4), step)
    tensor([7.0711])
    """
    check("images", images)
    if not 0 <= trim < 0.5:
        raise ValueError(f"trim: expected at least 0 and less than 0.5, got {trim}")
    w = encode(images)
    # Eq. 8: E(x) - f^-1(E(G(f(E(x))))) with f(w) = w + step
    values = code_distance(encode(synthesize(w + step)) - step, w)
    return values[(values >= values.quantile(trim)) & (values <= values.quantile(1 - trim))]


def sncd(styles: Sequence[Float[Tensor, "n _"]], means: Sequence[Float[Tensor, " _"]]) -> Float[Tensor, "n layers"]:
    """S^N cosine distance 1 - mu_l . s_l of each image and layer, (N, L), 0 to 2 (LSAP, Eq. 6).

    ``.mean(0)`` is per layer; ``.mean()`` is the paper's number (taken to be a mean over layers). Compare both with
    ``sncd_references``. styles: normalised S codes s_l, (N, C_l) for each layer. means: mu_l, their mean over many
    samples of the generator, (C_l,) for each layer, not normalised again.

    >>> sncd([torch.tensor([[0.6, 0.8]])], [torch.tensor([0.5, 0.5])])
    tensor([[0.3000]])
    """
    if [s.shape[1:] for s in styles] != [mu.shape for mu in means]:
        raise ValueError(
            "means: expected one of shape (C,) for each layer's styles (N, C), "
            f"got {len(means)} for {len(styles)} layers"
        )
    lengths = torch.stack([s.detach().norm(dim=1) for s in styles])
    check("styles and means", lengths.amax(1), torch.stack([mu.norm() for mu in means]).to(lengths))
    if float((lengths - 1).abs().max()) > 1e-3:
        raise ValueError(
            f"styles: expected vectors of length 1, got {float(lengths.mean()):.3g} on average; "
            "normalise them with spaces.s_to_sn"
        )
    # Eq. 6
    return torch.stack([1 - s @ mu.to(s) for s, mu in zip(styles, means, strict=True)], 1)


def sncd_of_codes(
    w_plus: Codes,
    G: Generator,
    anchors: Anchors,
    *,
    torgb: bool = True,
    layers: int | None = None,
    reduction: Literal["mean", "sum"] = "mean",
) -> Float[Tensor, " n"]:
    """S^N cosine distance of codes of W+, (N,), differentiable: a measure and a loss (LSAP, Eq. 9 to 11).

    reduction: "mean" over layers is the metric, and what LSAP_O's lambda of 5 (W) and 20 (W+) can only belong to;
    "sum" is the public code's loss for encoders, lambda 0.5 (which leaves out the constant 1 of each layer).
    torgb: whether the last toRGB counts, as in the public code; Property 3.1 holds for convolutions alone.
    layers: only the first so many; the public code takes those that are active in a stage of training.
    """
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction: expected 'mean' or 'sum', got {reduction!r}")
    styles, means = w_to_s(w_plus, G, torgb=torgb)[:layers], anchors.means(torgb=torgb)[:layers]
    distances = sncd(s_to_sn(styles), means)
    return distances.mean(1) if reduction == "mean" else distances.sum(1)


def sncd_references(means: Sequence[Float[Tensor, " _"]]) -> tuple[Float[Tensor, " layers"], Float[Tensor, " layers"]]:
    """SNCD of each layer at its minimum, 1 - |mu_l|, and on average over the generator's samples, 1 - |mu_l|^2: (L,).

    Codes whose mean SNCD is below the second are nearer to the anchors than samples are, which is not better.

    >>> sncd_references([torch.tensor([0.6, 0.0])])
    (tensor([0.4000]), tensor([0.6400]))
    """
    lengths = torch.stack([mu.norm() for mu in means])
    return 1 - lengths, 1 - lengths.square()


def sncd_error(
    styles: Styles, anchors: Anchors, *, reduction: Literal["none", "mean", "sum"] = "none"
) -> Float[Tensor, "*layers"]:
    """Standard error of the mean SNCD of images that comes from the number of codes behind the anchors.

    (L,) for each layer, or one number for their mean or sum; it falls with the square root of ``anchors.n``. The
    spread over images is another matter. styles: normalised, of all layers or without the last toRGB.
    """
    parts = anchors.parts[: len(styles)]
    # Eq. 6 with the anchors of each part of the sample, (L, P)
    values = torch.stack([1 - p.to(s) @ s.mean(0) for s, p in zip(styles, parts, strict=True)])
    reduced = {"none": values, "mean": values.mean(0), "sum": values.sum(0)}
    if reduction not in reduced:
        raise ValueError(f"reduction: expected 'none', 'mean' or 'sum', got {reduction!r}")
    return reduced[reduction].std(-1) / values.shape[1] ** 0.5
