"""Checks of the exercises of notebook 07."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentlab.encoders.contrastive import info_nce
from latentlab.exercises import NUMBER, expect, expect_close, expect_that
from latentlab.inversion.result import Inversion


def check_lowest(lowest: Callable[[int, float], float]) -> None:
    """The loss of Eq. 3 of ``n`` pairs that are equal and as far apart from all others as unit vectors can be."""
    for n, t in ((4, 1.0), (8, 1.0), (8, 0.5), (64, 0.07)):
        value = lowest(n, t)
        expect(value, f"lowest({n}, {t})", (), kind=NUMBER)
        corners = F.normalize(torch.eye(n) - 1 / n, dim=1)  # of a simplex
        wanted = float(info_nce(corners, corners, torch.tensor(-math.log(t))).mean())
        hint = "The similarity of partners is 1, that of each of the n - 1 others -1 / (n - 1); all are divided by t."
        expect_close(float(value), wanted, f"lowest({n}, {t})", atol=1e-4, hint=hint)


def check_find(find: Callable[[Tensor, Tensor], float]) -> None:
    """The share of images whose own code is the most similar of all."""
    turn = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(0))).Q  # no code is an axis
    codes = F.normalize(torch.eye(6) + 0.1, dim=1) @ turn
    tries = [(codes[order], codes) for order in ([0, 1, 2, 3, 4, 5], [1, 0, 2, 3, 4, 5], [1, 2, 3, 4, 5, 0])]
    crowded = F.normalize(codes + torch.tensor([0, 0, 0, 2, 2, 2])[:, None] * codes[0], dim=1)  # three near the first
    for seen, known in (*tries, (crowded, codes), (codes, crowded)):
        share = find(seen, known)
        expect(share, "find(h_I, h_w)", (), kind=NUMBER)
        similarities = [[float(a @ b) for b in known] for a in seen]
        wanted = sum(max(row) == row[i] for i, row in enumerate(similarities)) / len(seen)
        hint = "Row i of h_I @ h_w.T has the similarities of image i with all codes; its own is number i."
        expect_close(float(share), wanted, "find(h_I, h_w)", atol=1e-5, hint=hint)


def check_fold(
    fold: Callable[[nn.MultiheadAttention], tuple[Tensor, Tensor]], attention: nn.MultiheadAttention, residuals: Tensor
) -> None:
    """The matrix A (D, D) and the vector a (D,) for which attention to one key reads A x + a. residuals: keys to try,
    (N, D)."""
    found = fold(attention)
    expect(found, "fold(attention)", kind=(tuple, list))
    A, a = found
    dim = residuals.shape[1]
    expect(A, "A", (dim, dim), like=residuals)
    expect(a, "a", (dim,), like=residuals)
    keys = torch.cat([torch.zeros_like(residuals[:1]), residuals])[:, None]
    wanted = attention(keys.flip(0), keys, keys, need_weights=False)[0][:, 0]
    hint = "It is what is read where the residual is 0: out_proj, with its own bias, of the given attention's b_V."
    expect_close(a, wanted[0], "a", atol=1e-3, hint=hint)
    hint = "What is read is out_proj(W_V x + b_V). Of two matrices the one that acts first stands on the right."
    expect_close(F.linear(residuals, A, a), wanted[1:], "A x + a", atol=1e-3, hint=hint)


def check_mixed(mixed: Callable[[float], Inversion], without: Inversion, whole: Inversion) -> None:
    """Inversions whose map is the generator's own at 0 and f at 1. without, whole: those in W+ and in F."""
    for t in (0.0, 0.5, 1.0):
        found = mixed(t)
        expect(found, f"mixed({t:g})", kind=Inversion)
        ((r, f),), G = whole.state.features.items(), whole.generator
        name = f"map of {r} x {r} in mixed({t:g})"
        expect_that(bool(found.state.features), f"{name}: expected one, got an inversion without a map.")
        own = G.features(without.latent, upto=r)[r]
        expect(found.state.features.get(r), name, f.shape, like=f)
        hint = "At 0 the map is G.features(w_plus, upto=r)[r], at 1 it is f; torch.lerp(a, b, t) is between them."
        expect_close(found.state.features[r], torch.lerp(own, f, t), f"map of mixed({t:g})", atol=1e-2, hint=hint)
        hint = "The codes are w_plus, and replace_rgb is False, as in the inversion in F."
        drawn = G.synthesis(without.latent, replace={r: torch.lerp(own, f, t)}, replace_rgb=False)
        expect_close(found.image, drawn, f"pictures of mixed({t:g})", atol=1e-2, hint=hint)


def check_exchanged(
    exchanged: Callable[[Tensor, Tensor], Tensor], draw: Callable[[Tensor, Tensor], Tensor], w_plus: Tensor, f: Tensor
) -> None:
    """Pictures (N, 3, R, R) of the codes of each face with the map of the face before it. draw: pictures of codes and
    maps."""
    pictures, wanted = exchanged(w_plus, f), draw(w_plus, f.roll(1, 0))
    expect(pictures, "exchanged(w_plus, f)", wanted.shape, like=wanted)
    hint = ("Face i keeps its codes and gets the map of face i - 1, the first one that of the last: f.roll(1, 0). And "
            "replace_rgb is False.")  # fmt: skip
    expect_close(pictures, wanted, "exchanged(w_plus, f)", atol=1e-2, hint=hint)
