"""Pivotal Tuning, PTI (Roich et al. 2021, arXiv 2106.05744): a generator tuned to draw an image at a given code."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latentlab.editing.edit import State
from latentlab.inversion.descent import Callback, Descent, Look, Terms, descend
from latentlab.inversion.objective import Objective
from latentlab.inversion.result import Inversion
from latentlab.losses.perceptual import PerceptualDistance
from latentlab.seeds import stream
from latentlab.spaces import Statistics, fingerprint

PSI = 0.5  # truncation of the codes that the regulariser draws, as in the public code


def invert_pti(
    images: Float[Tensor, "n 3 r r"],
    G: nn.Module,
    *,
    base: Inversion,
    steps: int = 350,
    learning_rate: float = 3e-4,
    l2_weight: float = 1.0,
    locality_weight: float = 0.1,
    alpha: float | None = None,
    seed: int = 0,
    statistics: Statistics | None = None,
    perceptual: PerceptualDistance | None = None,
    callback: Callback | None = None,
) -> Inversion:
    """Tunes the weights of the generator until it draws the images at the codes of ``base`` (PTI, section 3).

    images: (N, 3, R, R) in [-1, 1]. base: their inversion by another method. Its codes, the pivots, stay as they are,
        and so do its noise maps and whatever else it holds. Each image gets weights of its own, ``State.tuned``, all
        but those of the mapping network, with which the result is drawn, edited and saved; N images take N times the
        memory of a generator. Weights that are tuned already are tuned on.
    l2_weight: of the squared error beside the perceptual distance.
    locality_weight: of the regulariser that keeps the pictures of other codes; 0 switches it off. The paper's ablation
        has it on; the public code has it off.
    alpha: length of the step from the pivot to the codes that the regulariser looks at, root mean square over the
        layers. None: the generator's ``w_std``, the typical distance of a code from the mean of W. The public code has
        30 for all 18 layers together, which is 7.1 for each.
    seed: of the codes that the regulariser draws, one at each step, for every image the same.
    statistics, perceptual: as in ``Objective``. callback: see ``descend``; it gets the steps of each image in turn.

    The public code tunes for at most 350 steps and stops earlier at a perceptual distance of 0.06; here a callback can
    do so. Ctrl-C keeps what is done: images whose turn has not come keep their weights, with NaN in the trace.
    Trace: "mse", "perceptual", "locality", "loss". The seconds include those of ``base``.
    """
    for name, value in {"l2_weight": l2_weight, "locality_weight": locality_weight}.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name}: expected a finite number of at least 0, got {value}")
    for name, value in {"alpha": alpha, "learning_rate": learning_rate}.items():
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name}: expected a finite number above 0, got {value}")
    objectives = Objective(images, G, statistics=statistics, perceptual=perceptual)  # checks what it is given
    _check_base(base, images, G)
    length = objectives.statistics.w_std if alpha is None else alpha
    ones = []
    for i in range(len(images)):
        objective = Objective(images[i : i + 1], G, statistics=objectives.statistics, perceptual=objectives.perceptual)
        tuning = _Tuning(objective, base.state[i], length, l2_weight, locality_weight, seed)
        if ones and ones[-1][0].interrupted:
            ones.append((Descent(interrupted=True), tuning))
            continue
        tune = {"steps": steps, "learning_rate": learning_rate, "callback": callback, "look": tuning.look}
        ones.append((descend(tuning.terms, tuning.parameters, description="pti", **tune), tuning))
    tuned = {name: torch.cat([t.weights[name].detach() for _, t in ones]) for name in ones[0][1].weights}
    state = replace(base.state, tuned=tuned)
    with torch.no_grad():
        image = state.draw(G)
    knobs = {"base": base.method, "learning_rate": learning_rate, "l2_weight": l2_weight, "alpha": length}
    knobs |= {"locality_weight": locality_weight, "seed": seed, "steps": max(d.steps for d, _ in ones)}
    return Inversion(
        state,
        image,
        G,
        "pti",
        trace=_joined([d.trace for d, _ in ones]),
        seconds=base.seconds + sum(d.seconds for d, _ in ones),
        knobs=knobs,
        interrupted=ones[-1][0].interrupted,
        editor=base.editor,
    )


class _Tuning:
    """The weights that are tuned for one image, and the loss."""

    def __init__(
        self, objective: Objective, pivot: State, alpha: float, l2_weight: float, locality_weight: float, seed: int
    ) -> None:
        self.objective, self.pivot, self.alpha, self.seed = objective, pivot, alpha, seed
        self.l2_weight, self.locality_weight = l2_weight, locality_weight
        own = {name: p.detach() for name, p in objective.G.named_parameters() if not name.startswith("mapping")}
        before = {name: p[None] for name, p in own.items()} | dict(pivot.tuned or {})
        self.weights = {name: p.clone().requires_grad_() for name, p in before.items()}
        self.parameters = list(self.weights.values())
        self.look = Look(lambda: pivot.w_plus, lambda codes: self._state(codes).draw(objective.G))

    def _state(self, w_plus: Tensor) -> State:
        return replace(self.pivot, w_plus=w_plus, tuned=self.weights)

    def terms(self, step: int) -> Terms:
        # Eq. 2: L_pt = L_LPIPS(x, x^p) + lambda_L2 L_L2(x, x^p), with x^p = G(w_p; theta*)
        now = self.objective.compare(self._state(self.pivot.w_plus).draw(self.objective.G))
        loss = now["perceptual"] + self.l2_weight * now["mse"]
        if self.locality_weight:
            now["locality"] = self._locality(step)
            # Eq. 3: theta* = argmin L_pt + lambda_R L_R
            loss = loss + self.locality_weight * now["locality"]
        return now | {"loss": loss}

    def _locality(self, step: int) -> Float[Tensor, " 1"]:
        """Eq. 5: distance of the tuned generator's picture of another code from the original generator's."""
        G, perceptual = self.objective.G, self.objective.perceptual
        draw = stream(self.seed, "pti locality", step)
        w_p = self.pivot.w_plus
        with torch.no_grad():
            z = torch.randn(1, G.z_dim, generator=draw).to(w_p)
            w_z = G.truncate(G.broadcast(G.mapping(z)), PSI)
            # Eq. 4: w_r = w_p + alpha (w_z - w_p) / |w_z - w_p|
            gap = w_z - w_p
            w_r = w_p + self.alpha * gap / gap.square().sum(2).mean().sqrt()
            kept = State(w_r, self.pivot.noise).draw(G)
        seen = State(w_r, self.pivot.noise, tuned=self.weights).draw(G)
        return perceptual(seen, kept) + (seen - kept).square().mean((1, 2, 3))


def _check_base(base: Inversion, images: Tensor, G: nn.Module) -> None:
    if len(base) != len(images):
        raise ValueError(f"base: expected an inversion of the {len(images)} images, got one of {len(base)}")
    if (mark := fingerprint(base.generator, "generator")) != (own := fingerprint(G, "generator")):
        raise ValueError(f"base: expected an inversion by the generator {own}, got one by {mark}")


def _joined(traces: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """The traces of images, (steps, 1) each, as those of a batch, NaN where an image had fewer steps."""
    longest = max(traces, key=lambda t: len(t.get("loss", ())))
    steps = len(longest["loss"])

    def padded(values: Tensor | None) -> Tensor:
        column = torch.full((steps, 1), torch.nan).to(longest["loss"])
        if values is not None:
            column[: len(values)] = values
        return column

    return {name: torch.cat([padded(t.get(name)) for t in traces], 1) for name in longest}
