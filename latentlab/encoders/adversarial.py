"""Adversarial training of an encoder against a latent discriminator (e4e, arXiv 2102.02766, section 5.2).

The losses are one number a code or an image: training takes their mean. Of the discriminator's step paper and
public code differ: Eq. 2 sees all codes of an image, the code one of them, and old ones from a pool.
"""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Judge = Callable[[Tensor], Tensor]


class CodePool(nn.Module):
    """The last codes that a discriminator was shown, (K, D), so that it does not forget them; part of a checkpoint.

    Public code: 50 codes each of W and of the encoder.
    """

    def __init__(self, w_dim: int = 512, size: int = 50) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"size: expected at least 1, got {size}")
        self.register_buffer("codes", torch.zeros(size, w_dim))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def query(self, codes: Float[Tensor, "n dim"], draw: torch.Generator) -> Float[Tensor, "n dim"]:
        """New codes in, as many out. A pool that is not full keeps and returns the new one; a full one returns
        either the new code or, half of the time, a stored one, which the new one then replaces."""
        size, shown = len(self.codes), codes.detach().clone()
        swaps = torch.rand(len(codes), generator=draw) < 0.5
        places = torch.randint(size, (len(codes),), generator=draw).tolist()
        for i, (swap, place) in enumerate(zip(swaps.tolist(), places, strict=True)):
            if self.count < size:
                self.codes[self.count] = codes[i]
                self.count += 1
            elif swap:
                shown[i] = self.codes[place]
                self.codes[place] = codes[i]
        return shown


def shown_codes(
    w_plus: Float[Tensor, "n layers dim"],
    draw: torch.Generator,
    *,
    stage: int | None = None,
    variant: Literal["code", "paper"] = "code",
) -> Float[Tensor, "m dim"]:
    """The codes of W+ that the discriminator's step sees, of those that are active in a stage (0 to ``stage``).

    "code": one drawn of each image, (N, D). "paper": all, (N * (stage + 1), D), as Eq. 2 is averaged over i.
    """
    active = w_plus[:, : None if stage is None else stage + 1]
    if variant == "paper":
        return active.flatten(0, 1)
    if variant != "code":
        raise ValueError(f"variant: expected 'code' or 'paper', got {variant!r}")
    which = torch.randint(active.shape[1], (len(active),), generator=draw).to(active.device)
    return active[torch.arange(len(active), device=active.device), which]


def discriminator_loss(D: Judge, real: Float[Tensor, "n dim"], fake: Float[Tensor, "m dim"]) -> Float[Tensor, ""]:
    """Logistic loss of the discriminator on codes of W and of the encoder (e4e, Eq. 2 without R1)."""
    # Eq. 2: -log D(w) - log(1 - D(E(x))), with D = sigmoid of the logit
    return F.softplus(-D(real)).mean() + F.softplus(D(fake.detach())).mean()


def r1_penalty(
    D: Judge, real: Float[Tensor, "n dim"], *, gamma: float = 10.0, interval: int = 16
) -> Float[Tensor, " n"]:
    """gamma / 2 |grad D(w)|^2 of codes of W, (N,), times ``interval`` (e4e, last term of Eq. 2).

    The public code takes a step on it every ``interval`` = 16 steps; the paper has it in every step (1).
    """
    real = real.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(D(real).sum(), real, create_graph=True)
    # Eq. 2: gamma / 2 |grad_w D(w)|^2
    return gamma / 2 * interval * gradient.square().sum(1)


def adversarial_loss(
    D: Judge, w_plus: Float[Tensor, "n layers dim"], *, stage: int | None = None
) -> Float[Tensor, " n"]:
    """Non-saturating loss of the encoder, mean over the codes active in a stage, (N,) (e4e, Eq. 3)."""
    active = w_plus[:, : None if stage is None else stage + 1]
    # Eq. 3: -log D(E(x)_i)
    return F.softplus(-D(active)).mean(1)
