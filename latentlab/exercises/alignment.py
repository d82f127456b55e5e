"""Checks of the exercises of notebook 06."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from latentlab import metrics, spaces
from latentlab.exercises import expect, expect_close, expect_that
from latentlab.inversion.result import Inversion


def check_fair(fair: Callable[[Tensor], Tensor], w_plus: Tensor, G: nn.Module, anchors: spaces.Anchors) -> None:
    """The mean over the layers of SNCD, each divided by what samples have in that layer."""
    mine = fair(w_plus[:200])
    expect(mine, "fair(w_plus)", (200,), like=w_plus)
    means = [m.float() for m in anchors.means()]
    styles = spaces.s_to_sn(spaces.w_to_s(w_plus[:200], G))
    each = torch.stack([1 - s @ m for s, m in zip(styles, means, strict=True)], 1)
    typical = torch.stack([1 - m.square().sum() for m in means])
    hint = "Divide the SNCD of each layer by that of samples there, 1 - |mu|^2 of the anchors; then take the mean."
    expect_close(mine, (each / typical).mean(1), "fair(w_plus)", atol=0.003, hint=hint)


def check_aligned(aligned: Any, start: Tensor, G: nn.Module, anchors: spaces.Anchors) -> None:
    """Codes after a descent on SNCD alone: near its lowest value, each one nearest to its own start."""
    expect(aligned, "aligned", start.shape, like=start)
    expect_that(not aligned.requires_grad, "aligned: expected codes without a gradient; end with .detach().")
    lowest = float(metrics.sncd_references(anchors.means())[0].mean())
    highest = float(metrics.sncd_of_codes(aligned, G, anchors).max())
    expect_that(
        highest < 1.1 * lowest,
        f"aligned: expected an SNCD near its lowest value, {lowest:.4f}, got up to {highest:.4f}; take 100 steps of "
        "Adam with learning rate 0.1 on the sum over the codes.",
    )
    # The mean of W, four times, has nearly the lowest SNCD, too.
    nearest = torch.cdist(aligned.flatten(1), start.flatten(1)).argmin(1)
    expect_that(
        nearest == torch.arange(len(start), device=start.device),
        "aligned: expected each code to lie nearest to the code that its search started from, got others; start Adam "
        "from w_plus[:4].clone().",
    )
    # Codes of W, truncated, are near their start, too.
    expect_that(
        (aligned - aligned[:, :1]).flatten(1).abs().amax(1) > 0,
        "aligned: expected codes of W+, each layer with a vector of its own, got codes of W; descend on all of "
        "w_plus[:4].clone(), as a search in W+ does.",
    )


def check_crossed(
    crossed: Any, inv: Any, n: int, steps: int, G: nn.Module, anchors: spaces.Anchors, statistics: spaces.Statistics
) -> None:
    """{"II2S": (SNCD, pn_norm)} of the codes of an inversion of ``n`` faces by II2S."""
    expect(inv, "inv", kind=Inversion)
    expect_that(inv.method == "ii2s", f"inv: expected an inversion by ii2s, got one by {inv.method}.")
    expect(inv.latent, "inv.latent", (n, -1, -1), like=inv.latent)
    for knob, value in {"lambda_": 0.005, "steps": steps, "learning_rate": 0.03}.items():
        got = inv.knobs.get(knob)
        expect_that(got == value, f"inv: expected {knob}={value:g}, got {got}.")
    expect(crossed, "crossed", kind=dict)
    expect_that("II2S" in crossed, f"crossed: expected an entry 'II2S', got {', '.join(map(str, crossed)) or 'none'}.")
    pair = crossed["II2S"]
    expect(pair, "crossed['II2S']", kind=(tuple, list))
    expect_that(len(pair) == 2, f"crossed['II2S']: expected SNCD and |v|^2 / D, got {len(pair)} entries.")
    right = metrics.sncd_of_codes(inv.latent, G, anchors), metrics.pn_norm(inv.latent, statistics)
    for name, value, wanted in zip(("SNCD", "|v|^2 / D"), pair, right, strict=True):
        expect(value, f"{name} of II2S", (n,), like=wanted)
        expect_close(value / wanted, torch.ones(n), f"{name} of II2S, relative to the right one", atol=1e-3,
                     hint="Both are of inv.latent; SNCD comes first, then |v|^2 / D.")  # fmt: skip


def check_anchors(anchor: Callable[[list[Tensor]], Sequence[Tensor]], w_plus: Tensor, G: nn.Module) -> list[Tensor]:
    """The mean direction of the styles of all codes in each layer, from batches of different sizes; it is returned."""
    few = max(len(w_plus) // 100, 1)
    mine = anchor([w_plus[:few], w_plus[few:]])
    expect(mine, "anchor(batches)", kind=(list, tuple))
    wanted = [s.mean(0) for s in spaces.s_to_sn(spaces.w_to_s(w_plus, G))]
    expect_that(len(mine) == len(wanted), f"anchor: expected {len(wanted)} layers, got {len(mine)}.")
    hint = (
        "Normalise each style, sum over the codes of all batches, divide by their number: a mean of the batches' means "
        "gives the codes of a small batch too much weight. The result is not normalised."
    )
    for layer, (m, right) in enumerate(zip(mine, wanted, strict=True)):
        name = f"anchor of layer {layer}"
        expect(m, name, right.shape, like=right)
        expect_close(m, right, name, atol=1e-4, hint=hint)
    return list(mine)


def check_references(
    references: Callable[[Sequence[Tensor]], tuple[Tensor, Tensor]], means: Sequence[Tensor]
) -> None:  # fmt: skip
    """Floor of SNCD and the mean over samples, of each layer, from the anchors."""
    found = references(means)
    expect(found, "references(mu)", kind=(tuple, list))
    names = ("the floor", "the mean of samples")
    expect_that(len(found) == 2, f"references(mu): expected two results, {' and '.join(names)}, got {len(found)}.")
    for name, mine, right in zip(names, found, metrics.sncd_references(means), strict=True):
        expect(mine, name, (len(means),))
        hint = "The length of the anchor is |mu|: 1 - |mu| and 1 - |mu|^2."
        expect_close(mine, right, name, atol=1e-4, hint=hint)
