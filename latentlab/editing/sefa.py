"""Directions in W from the generator's weights alone (SeFa, Shen and Zhou, arXiv 2007.06600)."""

from collections.abc import Sequence

import torch
from torch import nn

from latentlab.editing.edit import Direction, Edit, restrict
from latentlab.editing.ganspace import with_fixed_sign
from latentlab.spaces import Statistics, statistics_for, style_layers


@torch.no_grad()
def factorize(
    G: nn.Module,
    count: int = 20,
    *,
    layers: Sequence[int] | None = None,
    torgb: bool = True,
    statistics: Statistics | None = None,
) -> dict[str, Edit]:
    """The ``count`` directions of W that change the styles of the chosen layers most, "factor0" the strongest.

    layers: of W+, those whose styles are looked at and that the edits move; None for all. torgb: whether the last toRGB
    counts as the layer of W+ that it alone reads, as in the public code, or convolutions only. The eigenvectors have
    unit length in the paper; here strength 1 is one standard deviation of W along them, by ``statistics`` (the
    generator's own unless given).
    """
    known = {s.w_index: s for s in style_layers(G, torgb=torgb)}
    if layers is not None and (not layers or not set(layers) <= set(known)):
        raise ValueError(f"layers: expected some of 0 to {max(known)}, got {list(layers)}")
    chosen = [s for i, s in known.items() if layers is None or i in set(layers)]
    if not 1 <= count <= G.w_dim:
        raise ValueError(f"count: expected 1 to {G.w_dim} directions, got {count}")
    statistics = statistics or statistics_for(G)
    statistics.check(G)
    A = torch.cat([G.get_submodule(s.name).affine.weight for s in chosen]).double().T  # (D, sum of C_l)
    A = A / A.norm(dim=0, keepdim=True).clamp(min=1e-12)
    # A A^T n = lambda n for n of largest |A^T n|, as SeFa asks
    strengths, axes = (x.flip(-1) for x in torch.linalg.eigh(A @ A.T))  # eigh: smallest first
    axes = with_fixed_sign(axes).cpu()
    sigmas = (axes * (statistics.w_covariance @ axes)).sum(0).clamp(min=0).sqrt()
    what = f"{len(chosen)} layers, {'with' if torgb else 'without'} toRGB"
    found = {}
    for i in range(count):
        source = f"SeFa, eigenvector {i} of {what}, eigenvalue {float(strengths[i]):.3g}"
        unit = "standard deviations of W along the eigenvector"
        edit = Direction(f"factor{i}", (axes[:, i] * sigmas[i]).float(), unit=unit, source=source)
        found[edit.name] = edit if layers is None else restrict(edit, layers)
    return found
