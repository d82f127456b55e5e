"""Checks of the exercises of notebook 05."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from latentlab import metrics
from latentlab.encoders.adversarial import r1_penalty
from latentlab.exercises import expect, expect_close, expect_that, with_article
from latentlab.networks.latent_discriminator import LatentDiscriminator
from latentlab.spaces import Statistics

Move = Callable[[Tensor], Tensor]


def check_equal(equal: Move, w: Tensor) -> Tensor:
    """Codes with the mean vector in every layer; they are returned."""
    moved = equal(w)
    expect(moved, "equal(w)", w.shape, like=w)
    wanted = w.mean(1, keepdim=True).expand_as(w)
    expect_close(moved, wanted, "equal(w)", atol=1e-3, hint="Each layer has the mean vector of its code.")
    return moved


def check_typical(typical: Move, w: Tensor, statistics: Statistics) -> Tensor:
    """Codes whose vectors have the length sqrt(D) in PN, with their directions kept; they are returned."""
    moved = typical(w)
    expect(moved, "typical(w)", w.shape, like=w)
    v, before = statistics.w_to_pn(moved), statistics.w_to_pn(w)
    hint = "Scale each vector v by itself, so that its mean square is 1."
    expect_close(v.square().mean(2), torch.ones(w.shape[:2]), "|v|^2 / D of each layer", atol=0.02, hint=hint)
    cosine = torch.cosine_similarity(v, before, dim=2)
    hint = "Only the length changes, in PN and not in W."
    expect_close(cosine, torch.ones(w.shape[:2]), "cosine with v before", atol=0.01, hint=hint)
    return moved


def check_fit(fit: Callable, own: Tensor, found: Mapping[str, Tensor], least: Mapping[str, float]) -> dict[str, float]:
    """How many of 100 vectors a fitted discriminator sorts correctly, for each encoder: three quarters of the vectors
    are for training, the others are sorted. least: what it must reach. Without R_1 the logit is far too steep at the
    vectors of W: the term is then above 100 instead of below 1."""
    told, cut = {}, 4 * len(own) // 5
    for name, rows in found.items():
        some = 3 * len(rows) // 4
        network = fit(own[:cut], rows[:some])
        expect(network, f"fit(own_w, codes of {name})", kind=LatentDiscriminator)
        with torch.no_grad():
            right = (network(own[cut:]) > 0).float().mean() + (network(rows[some:]) < 0).float().mean()
        told[name] = round(50 * float(right), 1)
        expect_that(
            told[name] >= least.get(name, 0),
            f"fit: expected it to sort at least {least.get(name, 0):g} of 100 vectors of {name}, got {told[name]:g}; "
            "vectors of W get a high logit.",
        )
        steep = r1_penalty(network, own[cut:], interval=1).mean().item()
        expect_that(
            steep < 5,
            f"fit: expected R_1 below 5 for vectors of W, got {steep:.0f} for the network of {name}; "
            "the loss of Eq. (2) contains r1_penalty(..., interval=1).",
        )
    return told


def check_layer_gain(gain: Any, codes: Mapping[str, Tensor], given: Tensor, G: nn.Module) -> None:
    """The dB that pSp's vector in one layer alone adds to e4e's codes, for each layer (L,)."""
    n_layers = codes["e4e"].shape[1]
    expect(gain, "gain", (n_layers,))
    base = metrics.psnr(G.synthesis(codes["e4e"]), given).mean()
    for layer in range(n_layers):
        w = codes["e4e"].clone()
        w[:, layer] = codes["pSp"][:, layer]
        right = float(metrics.psnr(G.synthesis(w), given).mean() - base)
        hint = "Only this layer comes from pSp; the mean is over the faces, and e4e's own PSNR is subtracted."
        expect_close(float(gain[layer]), right, f"gain of layer {layer}", atol=0.01, hint=hint)


def check_hybrid(
    hybrid: Any, names: tuple[str, ...], n: int, knobs: Mapping[str, float], starts: Mapping[str, Tensor]
) -> None:
    """Inversions from different starts, with these knobs. starts: the codes that some of them begin with."""
    expect(hybrid, "hybrid", kind=dict)
    missing = [name for name in names if name not in hybrid]
    expect_that(not missing, f"hybrid: expected {', '.join(names)}; there is no {', '.join(missing)}.")
    for name in names:
        one = hybrid[name]
        expect_that(hasattr(one, "latent"), f"{name}: expected an inversion, got {with_article(type(one))}.")
        expect_that(len(one.latent) == n, f"{name}: expected an inversion of {n} faces, got one of {len(one.latent)}.")
        for knob, value in knobs.items():
            got = one.knobs.get(knob, "an inversion without")
            expect_that(got == value, f"{name}: expected {knob}={value:g}, got {got}.")
    for name in starts:
        to = {other: float((hybrid[name].latent - w).norm()) for other, w in starts.items()}
        nearest = min(to, key=to.get)
        sentence = f"{name}: expected codes near those that it started from, got ones nearer to those of {nearest}."
        expect_that(nearest == name, sentence + " Did `initial` get the right ones?")
        for other in set(names) - set(starts):  # these began elsewhere, so they end farther from these codes
            there = float((hybrid[other].latent - starts[name]).norm())
            sentence = f"{other}: expected a search without `initial`, got codes as near to those of {name} as a search"
            expect_that(there > 1.5 * to[name], sentence + " that began there.")


def check_offsets(offsets: Callable[[Tensor], tuple[Tensor, Tensor]], w: Tensor) -> None:
    """First vector (N, D) and offsets from it (N, L - 1, D)."""
    found = offsets(w)
    expect(found, "offsets(w)", kind=(tuple, list))
    expect_that(len(found) == 2, f"offsets(w): expected the first vector and the offsets, got {len(found)} results.")
    n, n_layers, dim = w.shape
    for name, value, shape in zip(("vector", "offsets"), found, ((n, dim), (n, n_layers - 1, dim)), strict=True):
        expect(value, name, shape, like=w)
    expect_close(found[0], w[:, 0], "vector", hint="It is the vector of layer 0.")
    hint = "Offset i is the vector of layer i minus that of layer 0, for i = 1 to L - 1."
    expect_close(found[1], w[:, 1:] - w[:, :1], "offsets", atol=1e-3, hint=hint)


def check_blend(blend: Callable[[Tensor, Tensor, Tensor], Tensor], a: Tensor, b: Tensor) -> None:
    """(1 - t_i) a_i + t_i b_i in layer i, with a weight t (L,) for each layer."""
    n_layers = a.shape[1]
    for t in (torch.zeros(n_layers), torch.ones(n_layers), torch.linspace(0, 1, n_layers)):
        mine = blend(a, b, t)
        expect(mine, "blend(a, b, t)", a.shape, like=a)
        wanted = torch.lerp(a, b, t[:, None])
        hint = "t has one weight for each layer; t[:, None] spreads it over the numbers of a vector."
        expect_close(mine, wanted, "blend(a, b, t)", atol=1e-3, hint=hint)
