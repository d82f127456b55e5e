"""Checks of the exercises of notebook 03."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from latentlab.exercises import expect, expect_close, expect_that
from latentlab.inversion.result import Inversion
from latentlab.metrics import psnr
from latentlab.spaces import Statistics

Trace = Mapping[str, Tensor]


def check_early_stop(step: Any, distance: Any, free: Trace, held: Trace, names: Sequence[str]) -> None:
    """The first step at which the free search is as near as the held one at its end, and its pn_norm there."""
    n = len(names)
    expect(step, "step", (n,))
    expect(distance, "distance", (n,))
    expect_that(not step.is_floating_point(), f"step: expected whole numbers, got {step.dtype}.")
    for i, name in enumerate(names):
        near, goal = free["mse"][:, i], held["mse"][-1, i]
        first = int((near <= goal).int().argmax())
        hint = 'Compare trace["mse"] of I2S with the last value of II2S; take the first step that is not larger.'
        expect_close(int(step[i]), first, f"step of {name}", atol=0, hint=hint)
        hint = 'It is trace["pn_norm"] of I2S at that step.'
        expect_close(float(distance[i]), float(free["pn_norm"][first, i]), f"distance of {name}", atol=1e-2, hint=hint)


def check_inversions(
    found: Any, lambdas: Mapping[str, float], targets: Tensor, steps: int, learning_rate: float
) -> None:
    """A dict of inversions of ``targets``, with the weight that ``lambdas`` has under the same name."""
    expect(found, "your answer", kind=dict)
    missing = [name for name in lambdas if name not in found]
    none, n = ", ".join(missing), len(targets)
    expect_that(not missing, f"your answer: expected entries for {', '.join(lambdas)}; there is none for {none}.")
    for name, lambda_ in lambdas.items():
        expect(found[name], name, kind=Inversion)
        given = len(found[name].latent)
        expect_that(given == n, f"{name}: expected an inversion of {n} faces, got one of {given}.")
        for knob, wanted in {"steps": steps, "learning_rate": learning_rate, "lambda_": lambda_}.items():
            got = found[name].knobs.get(knob, wanted)
            expect_that(got == wanted, f"{name}: expected {knob}={wanted:g}, got {got:g}.")
        away = [(found[name].image - x).square().mean((1, 2, 3)) for x in (targets, targets.flip(2))]
        upright = f"{name}: expected faces upside down, got faces nearer to upright ones."
        expect_that(away[0].mean() < away[1].mean(), upright)
        # the search's own error is of its own targets: the two agree but for the last step
        own = found[name].trace["mse"][-1]
        expect_that((away[0] < 1.5 * own + 1e-3).all(), f"{name}: expected an inversion of `turned`, got one of other "
                    "pictures: other faces, or faces that are mirrored as well.")


def check_shell(shell: Callable[[Tensor], Tensor], n_layers: int, dim: int) -> None:
    """The penalty .05 mean_l (|v_l|^2 / D - 1)^2 of codes (N, L, D)."""
    double = shell(torch.full((2, n_layers, dim), 2.0, requires_grad=True))
    expect(double, "shell(v)", (2,))
    expect_that(double.requires_grad, "shell: expected a differentiable penalty, got one without a gradient.")
    hint = "0.05 (4 - 1)^2 is wanted, a mean over the layers."
    expect_close(double, torch.full((2,), 0.45), "shell of codes with |v|^2 / D = 4", hint=hint)
    half = torch.zeros(1, n_layers, dim)  # half of the layers on the shell, the others at the centre
    half[:, : n_layers // 2, : dim // 4] = 2
    hint = "Each layer has a length of its own: first the mean of v^2 over D, then minus 1, then the square, and the "
    hint += "mean over layers last."
    expect_close(shell(half), torch.tensor([0.025]), "shell of codes with half of their layers at 0", hint=hint)


def check_condition(condition: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """A differentiable function of images that keeps a part of each; what it keeps is returned."""
    x = images.clone().requires_grad_()
    known = condition(x)
    expect(known, "condition(images)", (len(x), 3, -1, -1))
    expect_that(known.requires_grad, "condition: expected a differentiable function, got one without a gradient.")
    (gradient,) = torch.autograd.grad(known.square().sum(), x)
    expect_that(gradient.isfinite().all(), "condition: expected a finite gradient, got NaN or infinity. The slope of a "
                "square root is infinite at 0: add a small number, such as 1e-6, under the root.")
    expect_that(gradient.abs().sum() > 0, "condition: expected a result that changes with the image, got one whose "
                "gradient is 0 everywhere, such as a constant or rounded values.")
    alone = condition(images[:1])
    hint = "Each image counts alone: no mean over the batch."
    expect_close(alone, known[:1].detach(), "condition of one image", atol=1e-4, hint=hint)
    unseen = (gradient == 0).float().mean()
    noise = torch.rand(images[:1].shape, generator=torch.Generator().manual_seed(0)).to(images)
    different = condition(noise).unique().numel()  # repeated values, such as grey in three channels, tell nothing new
    few = unseen > 0.2 or min(known[0].numel(), different) < 0.55 * x[0].numel()
    expect_that(few, "condition: expected at most half of the numbers of an image, got nearly all of them.")
    return known.detach()


def check_line(line: Callable[[Tensor, Tensor, float], Tensor], a: Tensor, b: Tensor, statistics: Statistics) -> None:
    """Codes (1, L, D) on the line from a to b that is straight in PN+."""
    v_a, v_b = statistics.w_to_pn(a), statistics.w_to_pn(b)
    for t in (0.0, 0.5, 1.0):
        found = line(a, b, t)
        expect(found, f"line(a, b, {t:g})", a.shape, like=a)
        wanted, v = torch.lerp(v_a, v_b, t), statistics.w_to_pn(found)
        ends = {0.0: "At t = 0 the code is a.", 1.0: "At t = 1 the code is b."}
        hint = ends.get(t, "Mix the codes after statistics.w_to_pn by the shares 1 - t and t, then go back with "
                        "statistics.pn_to_w.")
        expect_close(v, wanted, f"line(a, b, {t:g}) in PN+", atol=0.05, hint=hint)


def report_shell(
    ends: Mapping[str, Tensor], drawn: Mapping[str, Tensor], given: Tensor, w_own: Tensor, statistics: Statistics,
    names: Sequence[str],
) -> dict[str, dict[str, float]]:
    """What each penalty led to: PSNR of the pictures drawn, |v|^2 / D of the faces, by name, and how far the code of
    the last one is from ``w_own``."""
    v_own, told = statistics.w_to_pn(w_own), {}
    for penalty, w in ends.items():
        v = statistics.w_to_pn(w)
        told[penalty] = {"PSNR, dB": float(psnr(drawn[penalty], given).mean())}
        told[penalty] |= {f"|v|²/D, {name}": float(x) for name, x in zip(names, v.square().mean((1, 2)), strict=True)}
        told[penalty]["squared distance from w_own"] = float((v[-1] - v_own).square().mean())
    return told
