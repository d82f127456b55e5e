"""Interpolation between two inversions, and style mixing: codes of one in some layers of the other."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from latentlab.spaces import Statistics

Codes = Float[Tensor, "n layers dim"]


def interpolate(
    a: Codes,
    b: Codes,
    t: float | Float[Tensor, " n"],
    *,
    space: str = "W+",
    statistics: Statistics | None = None,
    layers: slice | Sequence[int] = slice(None),
) -> Codes:
    """Codes on the way from a (t = 0) to b (t = 1), both of W+, (N, L, D); outside of 0 to 1 beyond them.

    t: a number, or one a pair. space: "W+", a straight line; "PN+", with the generator's statistics, a line
    that is straight in PN+ (and so in P+, of which PN+ is an affine map). layers: those that move; the
    others stay a's. II2S, appendix A.2, compares methods by both and advises W+ for editing.
    """
    if a.shape != b.shape or a.ndim != 3:
        raise ValueError(f"codes of shapes {tuple(a.shape)} and {tuple(b.shape)}; wanted are two of (N, L, D)")
    if space not in ("W+", "PN+") or (space == "PN+") != (statistics is not None):
        given = "with" if statistics is not None else "without"
        wanted = "'W+', or 'PN+' with statistics=statistics_for(G)"
        raise ValueError(f"space is {wanted}; got {space!r} {given} statistics")
    t = torch.as_tensor(t).to(a).reshape(-1, 1, 1)
    if len(t) not in (1, len(a)) or not bool(torch.isfinite(t).all()):
        raise ValueError(f"t is one finite number, or one for each of {len(a)} pairs; got {len(t)}")
    if isinstance(layers, int | str):
        raise ValueError(f"layers are a slice or several numbers, e.g. slice(0, 3) or [3]; got {layers!r}")
    chosen = list(range(a.shape[1])[layers]) if isinstance(layers, slice) else list(layers)
    if not chosen or not set(chosen) <= set(range(a.shape[1])):
        raise ValueError(f"layers are {chosen}; wanted is at least one of 0 to {a.shape[1] - 1}")
    if statistics is None:
        between = torch.lerp(a, b, t)
    else:
        between = statistics.pn_to_w(torch.lerp(statistics.w_to_pn(a), statistics.w_to_pn(b), t))
    moved = a.clone()
    moved[:, chosen] = between[:, chosen]
    return moved


def mix(a: Codes, b: Codes, layers: slice | Sequence[int]) -> Codes:
    """Style mixing (StyleGAN, section 3.1): b's codes in ``layers``, a's in the others, (N, L, D). Layers run
    from coarse to fine: pose and shape first, colours last."""
    return interpolate(a, b, 1.0, layers=layers)
