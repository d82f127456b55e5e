"""Metrics of latent codes: distance from W, distance of encodings, SNCD, PN+ norm."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from latentlab.metrics.fidelity import Images, check

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
    ``sncd_floors``. styles: normalised S codes s_l, (N, C_l) for each layer. means: mu_l, their mean over many
    samples of the generator, (C_l,) for each layer, not normalised again.

    >>> sncd([torch.tensor([[0.6, 0.8]])], [torch.tensor([0.5, 0.5])])
    tensor([[0.3000]])
    """
    if [s.shape[1:] for s in styles] != [mu.shape for mu in means]:
        raise ValueError(
            "means: expected one of shape (C,) for each layer's styles (N, C), "
            f"got {len(means)} for {len(styles)} layers"
        )
    lengths = torch.stack([s.norm(dim=1) for s in styles])
    check("styles and means", lengths.amax(1), torch.stack([mu.norm() for mu in means]))
    if float((lengths - 1).abs().max()) > 1e-3:
        raise ValueError(
            f"styles: expected vectors of length 1, got {float(lengths.mean()):.3g} on average; "
            "normalise them with spaces.s_to_sn"
        )
    # Eq. 6
    return torch.stack([1 - s @ mu for s, mu in zip(styles, means, strict=True)], 1)


def sncd_floors(means: Sequence[Float[Tensor, " _"]]) -> tuple[Float[Tensor, " layers"], Float[Tensor, " layers"]]:
    """SNCD of each layer at its minimum, 1 - |mu_l|, and on average over the generator's samples, 1 - |mu_l|^2: (L,).

    Codes with an SNCD below the second are nearer to the mean than samples are, which is not better.

    >>> sncd_floors([torch.tensor([0.6, 0.0])])
    (tensor([0.4000]), tensor([0.6400]))
    """
    lengths = torch.stack([mu.norm() for mu in means])
    return 1 - lengths, 1 - lengths.square()
