"""The StyleGAN2 projector (Karras et al. 2020, appendix D): one w and the noise maps."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latentlab.inversion.descent import Callback, check_images, descend, ramped, shrink
from latentlab.inversion.result import Inversion
from latentlab.losses.perceptual import PerceptualDistance, load_perceptual
from latentlab.seeds import stream
from latentlab.spaces import Statistics, statistics_for


def invert_sg2_w(
    images: Float[Tensor, "n 3 r r"],
    G: nn.Module,
    *,
    statistics: Statistics | None = None,
    perceptual: PerceptualDistance | None = None,
    steps: int = 1000,
    learning_rate: float = 0.1,
    initial_noise_factor: float = 0.05,
    noise_ramp: float = 0.75,
    noise_weight: float = 1e5,
    seed: int = 0,
    callback: Callback | None = None,
) -> Inversion:
    """Projects images into W, with noise maps of their own, as StyleGAN2's appendix D does.

    images: (N, 3, R, R) in [-1, 1]; each is inverted as if alone. statistics, perceptual: the
    generator's and the shipped ones unless given. The loss is the perceptual distance alone, at 256 px
    or less, plus ``noise_weight`` times the noise maps' autocorrelation. Defaults are the paper's.
    Trace: "perceptual", "noise", "loss".
    """
    check_images(images, G)
    statistics = statistics or statistics_for(G)
    statistics.check(G)
    perceptual = (perceptual or load_perceptual()).to(images.device)
    target = perceptual.features(shrink(images))
    w = statistics.w_mean.to(images).repeat(len(images), 1).requires_grad_(True)
    noise = [m.requires_grad_(True) for m in _draw_noise(G, images, seed)]
    jitter = stream(seed, "sg2_w jitter", device=images.device)

    def terms(step: int) -> dict[str, Tensor]:
        # Appendix D: sigma_t = 0.05 sigma_w max(0, 1 - t / 0.75)^2, Gaussian noise on w that fades out
        sigma = initial_noise_factor * statistics.w_std * max(0.0, 1 - step / steps / noise_ramp) ** 2
        eps = torch.randn(1, G.w_dim, generator=jitter, device=images.device).to(w)
        image = G.synthesis(G.broadcast(w + sigma * eps), noise=noise)
        distance = perceptual.between(perceptual.features(shrink(image)), target)
        correlation = sum(noise_autocorrelation(m) for m in noise)
        return {"perceptual": distance, "noise": correlation, "loss": distance + noise_weight * correlation}

    descent = descend(
        terms, [w, *noise], steps=steps, learning_rate=ramped(learning_rate, steps),
        after_step=lambda: _normalize(noise), callback=callback, description="sg2_w",
    )  # fmt: skip
    maps = [m.detach() for m in noise]
    w_plus = G.broadcast(w.detach()).contiguous()
    with torch.no_grad():
        image = G.synthesis(w_plus, noise=maps)
    knobs = {"steps": descent.steps, "learning_rate": learning_rate, "noise_weight": noise_weight, "seed": seed}
    found = (w_plus, image, G, "sg2_w", descent.trace, descent.seconds, maps)
    return Inversion(*found, knobs=knobs, interrupted=descent.interrupted)


def _draw_noise(G: nn.Module, images: Tensor, seed: int) -> list[Tensor]:
    """One image's maps, repeated for all, so that a batch equals its images one by one."""
    draw = stream(seed, "sg2_w noise", device=images.device)
    return [
        torch.randn(1, 1, *shape, generator=draw, device=images.device).to(images).repeat(len(images), 1, 1, 1)
        for shape in G.noise_shapes
    ]


def noise_autocorrelation(noise: Float[Tensor, "n 1 h w"]) -> Float[Tensor, " n"]:
    """StyleGAN2, appendix D: squared autocorrelation at a shift of one pixel in x and y, summed over the
    map and its halvings down to 8 px, so that noise maps cannot carry the picture."""
    total = noise.new_zeros(len(noise))
    while True:
        for axis in (2, 3):
            total = total + (noise * noise.roll(1, axis)).mean((1, 2, 3)).square()
        if noise.shape[-1] <= 8:
            return total
        noise = nn.functional.avg_pool2d(noise, 2)


@torch.no_grad()
def _normalize(noise: list[Tensor]) -> None:
    for m in noise:
        m -= m.mean((1, 2, 3), keepdim=True)
        m *= m.square().mean((1, 2, 3), keepdim=True).rsqrt()
