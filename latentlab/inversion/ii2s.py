"""Improved I2S (Zhu et al. 2020, arXiv 2012.09036): inversion in W+ held near the mean of PN+."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latentlab.inversion.descent import Callback, check_images, descend, shrink
from latentlab.inversion.result import Inversion
from latentlab.losses.perceptual import PerceptualDistance, load_perceptual
from latentlab.priors import mahalanobis
from latentlab.spaces import Statistics, statistics_for


def invert_ii2s(
    images: Float[Tensor, "n 3 r r"],
    G: nn.Module,
    *,
    statistics: Statistics | None = None,
    perceptual: PerceptualDistance | None = None,
    lambda_: float = 0.005,
    steps: int = 1300,
    learning_rate: float = 0.01,
    seed: int = 0,
    callback: Callback | None = None,
) -> Inversion:
    """Inverts images into W+ with the Mahalanobis regulariser of PN+ (II2S, Eq. 8).

    images: (N, 3, R, R) in [-1, 1]; each is inverted as if alone. statistics, perceptual: the
    generator's and the shipped ones unless given. ``lambda_`` weighs the squared PN+ norm in the mean
    over layers and dimensions, as the public code has it (there 0.001; the paper recommends 0.005);
    0 is I2S with these settings. Noise is the generator's constant noise, where the public code draws
    it anew at every step. ``seed`` is accepted as every method does; nothing here is random.
    Trace: "mse", "perceptual", "prior" (mean squared PN+ norm), "loss".
    """
    check_images(images, G)
    if lambda_ < 0:
        raise ValueError(f"lambda_ is {lambda_}; 0 or more is wanted")
    statistics = statistics or statistics_for(G)
    statistics.check(G)
    perceptual = (perceptual or load_perceptual()).to(images.device)
    target = perceptual.features(shrink(images))
    w_plus = G.broadcast(statistics.w_mean.to(images).repeat(len(images), 1)).clone().requires_grad_(True)

    def terms(step: int) -> dict[str, Tensor]:
        image = G.synthesis(w_plus, noise="const")
        now = {
            "mse": (image - images).square().mean((1, 2, 3)),
            "perceptual": perceptual.between(perceptual.features(shrink(image)), target),
            "prior": mahalanobis(w_plus, statistics),
        }
        # Eq. 8: L = L_MSE + L_LPIPS + lambda |v|^2, all weights but lambda 1
        return now | {"loss": now["mse"] + now["perceptual"] + lambda_ * now["prior"]}

    descent = descend(
        terms, [w_plus], steps=steps, learning_rate=learning_rate, callback=callback, description="ii2s"
    )
    latent = w_plus.detach()
    with torch.no_grad():
        image = G.synthesis(latent, noise="const")
    knobs = {"lambda_": lambda_, "steps": descent.steps, "learning_rate": learning_rate, "seed": seed}
    found = (latent, image, G, "ii2s", descent.trace, descent.seconds)
    return Inversion(*found, knobs=knobs, interrupted=descent.interrupted)
