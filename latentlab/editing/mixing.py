"""Interpolation and style mixing of codes."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latentlab.editing.edit import State
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
    """Interpolates codes of W+, (N, L, D), linearly from a (t = 0) to b (t = 1), and extrapolates for other t.

    t: a number, or one per pair. space: "W+"; or "PN+" with the generator's statistics, for lines that are straight
    in PN+ and therefore also in P+, an affine map of it. layers: those that are interpolated; the others are a's.
    II2S, appendix A.2, compares methods by both spaces and recommends W+ for editing.
    """
    if a.shape != b.shape or a.ndim != 3:
        raise ValueError(f"a, b: expected codes of equal shape (N, L, D), got {tuple(a.shape)} and {tuple(b.shape)}")
    if space not in ("W+", "PN+") or (space == "PN+") != (statistics is not None):
        given = "with" if statistics is not None else "without"
        raise ValueError(
            f"space: expected 'W+' without statistics, or 'PN+' with statistics=statistics_for(G), "
            f"got {space!r} {given} statistics"
        )
    t = torch.as_tensor(t).to(a).reshape(-1, 1, 1)
    if len(t) not in (1, len(a)) or not bool(torch.isfinite(t).all()):
        raise ValueError(f"t: expected a finite number, or one for each of {len(a)} pairs, got {t.flatten().tolist()}")
    if isinstance(layers, int | str):
        raise ValueError(f"layers: expected a slice or several numbers, e.g. slice(0, 3) or [3]; got {layers!r}")
    chosen = list(range(a.shape[1])[layers]) if isinstance(layers, slice) else list(layers)
    if not chosen or not set(chosen) <= set(range(a.shape[1])):
        raise ValueError(f"layers: expected at least one of 0 to {a.shape[1] - 1}, got {chosen}")
    if statistics is None:
        between = torch.lerp(a, b, t)
    else:
        between = statistics.pn_to_w(torch.lerp(statistics.w_to_pn(a), statistics.w_to_pn(b), t))
    mixed = a.clone()
    mixed[:, chosen] = between[:, chosen]
    return mixed


def mix(a: Codes, b: Codes, layers: slice | Sequence[int]) -> Codes:
    """Style mixing (StyleGAN, section 3.1): b's codes in ``layers``, a's in the others, (N, L, D).

    Layers run from coarse (pose and shape) to fine (colours).
    """
    return interpolate(a, b, 1.0, layers=layers)


def blend_states(a: State, b: State, t: float, G: nn.Module) -> State:
    """The state at t of the line from a (t = 0) to b (t = 1), codes and feature maps.

    Where one of the two has no map at a resolution, the map that it draws there stands for it, so that the ends draw
    what a and b draw: from a code of W+ to F space on a straight line. Noise, styles and tuned weights of a and b are
    in these maps, and are not taken beyond them. Two states with maps of which only one has ``replace_rgb`` raise
    ``ValueError``: no state draws both ends.
    """
    codes = interpolate(a.w_plus, b.w_plus, t)
    having = [state for state in (a, b) if state.features]
    if not having:
        return State(codes)
    if len({state.replace_rgb for state in having}) > 1:
        raise ValueError(f"a, b: expected feature maps that toRGB reads in both or in neither, got replace_rgb="
                         f"{a.replace_rgb} and {b.replace_rgb}; blend their codes alone, with interpolate")  # fmt: skip
    resolutions = sorted({r for state in having for r in state.features})
    ends = [state.feature_maps(G, resolutions[-1], replaced=True) for state in (a, b)]
    maps = {r: torch.lerp(ends[0][r], ends[1][r], t) for r in resolutions}
    return State(codes, features=maps, replace_rgb=having[0].replace_rgb)
