"""Random changes to pictures that leave the factors of a face as they are."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def augment(images: Float[Tensor, "n 3 r r"], draw: torch.Generator) -> Float[Tensor, "n 3 r r"]:
    """Blur, noise, contrast and colour shifts of random strength; geometry stays, it carries factors."""
    n, device = len(images), images.device

    def uniform(low: float, high: float, channels: int = 1) -> Tensor:
        return low + (high - low) * torch.rand(n, channels, 1, 1, generator=draw, device=device)

    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    mix = uniform(-0.3, 1.0).clamp(min=0)
    images = images.lerp(blurred, mix) * uniform(0.9, 1.1) + uniform(-0.05, 0.05, 3)
    noise = torch.randn(images.shape, generator=draw, device=device)
    return images + noise * uniform(-0.04, 0.08).clamp(min=0)
