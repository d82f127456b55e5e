"""e4e (arXiv 2102.02766): one code w, and an offset from it for every later layer that is learned step by step."""

import torch
from jaxtyping import Float
from torch import Tensor

from latentlab.encoders.backbone import CodeEncoder


class E4eEncoder(CodeEncoder):
    """E(x) = w_avg + (w, w + Delta_1, ..., w + Delta_{L-1}) (e4e, section 5.1).

    Stage s of training has the offsets 1 to s active, the others are 0 and are not computed; L - 1, the
    last, is what inference takes. Stage 0 is a code of W.
    """

    def offsets(self, images: Float[Tensor, "n c h w"], stage: int | None = None) -> Float[Tensor, "n layers dim"]:
        """Codes of images in [-1, 1] without the average, (N, L, D); ``stage`` None is the last."""
        last = self.config.layers - 1
        stage = last if stage is None else stage
        if not 0 <= stage <= last:
            raise ValueError(f"stage: expected 0 to {last}, the number of active offsets, got {stage}")
        levels = self.levels(images)
        w, *deltas = (self.styles[i](levels[self.level(i)]) for i in range(stage + 1))
        inactive = [torch.zeros_like(w)] * (last - stage)
        # Section 5.1: E(x) = (w, w + Delta_1, ..., w + Delta_{N-1})
        return w[:, None] + torch.stack([torch.zeros_like(w), *deltas, *inactive], 1)

    def forward(self, images: Float[Tensor, "n c h w"], stage: int | None = None) -> Float[Tensor, "n layers dim"]:
        """Codes of W+, (N, L, D), of images in [-1, 1]."""
        return self.offsets(images, stage) + self.latent_avg


def stage_at(step: int, layers: int, *, start: float = 20_000, interval: float = 2_000) -> int:
    """The stage of progressive training at a step, 0 to L - 1: w alone until ``start``, then an offset more every
    ``interval`` steps (e4e, appendix A).

    With 18 layers the last offset joins at 52,000; a shorter training takes both in proportion, so they
    need not be whole. LSAP's public configuration has an interval of 100.

    >>> [stage_at(step, 18) for step in (0, 19_999, 20_000, 22_000, 51_999, 52_000, 200_000)]
    [0, 0, 1, 2, 16, 17, 17]
    """
    if step < 0 or start < 0 or interval <= 0:
        raise ValueError(f"step, start, interval: expected 0 or more and a positive interval, got {step}, {start}, "
                         f"{interval}")  # fmt: skip
    return 0 if step < start else min(layers - 1, 1 + int((step - start) // interval))
