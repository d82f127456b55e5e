"""Distances of images from rendered faces, on the features of the attribute judge."""

from collections.abc import Sequence
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from latentlab.faces import render, sample_factors
from latentlab.faces.details import DETAILS, draw_details
from latentlab.judges.attributes import load_attribute_judge
from latentlab.metrics import feature_moments

RENDERS = 2_000
SEED = 20  # of the renders; no training and no real face has it

Features = Float[Tensor, "_ d"]


@torch.inference_mode()
def judge_features(images: Float[Tensor, "n 3 r r"]) -> Float[Tensor, "n d"]:
    """The last feature map of the attribute judge, averaged over positions, (N, D), on the CPU."""
    judge = load_attribute_judge(device=images.device)
    return torch.cat([judge.features(part.clamp(-1, 1))[-1].mean((2, 3)) for part in images.split(100)]).cpu()


@cache
def render_features(kind: str, resolution: int, n: int = RENDERS) -> Features:
    """The same of rendered faces of a kind, "clean" or "strange"."""
    parts = []
    for start in range(0, n, 100):
        worn = [DETAILS[(start + i) % len(DETAILS)] for i in range(100)]
        details = draw_details(worn, SEED + start) if kind == "strange" else None
        parts.append(judge_features(render(sample_factors(100, seed=SEED, start=start), resolution, details=details)))
    return torch.cat(parts)


def realism_distance(images: Float[Tensor, "n 3 r r"], kind: str) -> Float[Tensor, " n"]:
    """Squared Mahalanobis distance of each image's features from those of renders of a kind, by dimension, (N,): 1 on
    average for other such renders."""
    mean, covariance = feature_moments([render_features(kind, images.shape[-1])]).result()
    apart = judge_features(images).double() - mean
    return (apart * torch.linalg.solve(covariance, apart.T).T).mean(1)


def kid_differences(
    a: Features, b: Features, renders: Features, members: Sequence[Sequence[int]]
) -> tuple[float, list[float]]:
    """KID of ``a`` minus that of ``b``, both to the same renders, and its pseudo-values by the jackknife over faces.

    members: of each image of both sets, the faces that it was made from; a face is left out with all its images. The
    kernel is that of ``metrics.kid``. The mean of the pseudo-values and their spread give Student's interval.
    """
    kernels = [(_kernel(x, x), _kernel(x, renders).mean(1)) for x in (a, b)]

    def difference(keep: Tensor) -> float:
        n, found = int(keep.sum()), []
        for own, cross in kernels:
            inside = own[keep][:, keep]
            found.append((inside.sum() - inside.diagonal().sum()) / (n * (n - 1)) - 2 * cross[keep].mean())
        return float(found[0] - found[1])

    everyone = torch.ones(len(a), dtype=torch.bool)
    whole, faces = difference(everyone), sorted({face for made_from in members for face in made_from})
    without = [difference(torch.tensor([face not in made_from for made_from in members])) for face in faces]
    return whole, [len(faces) * whole - (len(faces) - 1) * d for d in without]


def _kernel(a: Features, b: Features) -> Float[Tensor, "_ _"]:
    return (a.double() @ b.double().T / a.shape[1] + 1).pow(3)
