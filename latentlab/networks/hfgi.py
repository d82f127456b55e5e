"""The networks of HFGI (Wang et al. 2022, arXiv 2109.06590): distortion alignment and distortion consultation."""

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from latentlab.seeds import stream


@dataclass(frozen=True)
class HfgiConfig:
    """Shape of HFGI's networks.

    resolution: of the images. layer: resolution of the feature map that is modulated; the paper's is 64 for pictures of
    256 px, a quarter. channels: of that map. width: of the first convolutions, doubled at each halving of the picture.
    """

    resolution: int
    layer: int
    channels: int
    width: int = 16

    def __post_init__(self) -> None:
        halvings = math.log2(self.resolution / self.layer)
        if halvings < 1 or halvings % 1:
            raise ValueError(
                f"layer: expected {self.resolution} px divided by a power of two, at least 2, got {self.layer}"
            )

    def to_dict(self) -> dict:
        """The fields as plain JSON types."""
        return asdict(self)


class DistortionAlignment(nn.Module):
    """ADA: the residual (N, 3, R, R), moved to where an edited picture (N, 3, R, R) has what it belongs to.

    A U-net of three levels on both, which adds its output to the residual: untrained it returns the residual.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down = nn.ModuleList([_convs(6, width), _convs(width, 2 * width), _convs(2 * width, 4 * width)])
        self.up = nn.ModuleList([_convs(6 * width, 2 * width), _convs(3 * width, width)])
        self.out = _zeroed(nn.Conv2d(width, 3, 3, padding=1))

    def forward(
        self, residual: Float[Tensor, "n 3 r r"], edited: Float[Tensor, "n 3 r r"]
    ) -> Float[Tensor, "n 3 r r"]:
        x, held = torch.cat([residual, edited], 1), []
        for level in self.down:
            x = level(F.avg_pool2d(x, 2) if held else x)
            held.append(x)
        for level, skip in zip(self.up, reversed(held[:-1]), strict=True):
            x = level(torch.cat([F.interpolate(x, scale_factor=2, mode="bilinear"), skip], 1))
        return residual + self.out(x)


class DistortionConsultation(nn.Module):
    """The aligned residual (N, 3, R, R) to scale g and shift h of a feature map, (N, C, r, r) each; untrained both are
    0, and nothing changes."""

    def __init__(self, config: HfgiConfig) -> None:
        super().__init__()
        width, halvings = config.width, round(math.log2(config.resolution / config.layer))
        blocks = [_convs(3, width)]
        blocks += [_convs(width << k, width << (k + 1), stride=2) for k in range(halvings)]
        self.body = nn.Sequential(*blocks)
        self.out = _zeroed(nn.Conv2d(width << halvings, 2 * config.channels, 1))

    def forward(self, residual: Float[Tensor, "n 3 r r"]) -> tuple[Tensor, Tensor]:
        g, h = self.out(self.body(residual)).chunk(2, 1)
        return g, h


class Hfgi(nn.Module):
    """Both networks: what a residual and an edited picture do to a feature map of the generator.

    encoder_fingerprint: of the encoder whose codes they were trained on, None if not known.
    """

    encoder_fingerprint: str | None = None

    def __init__(self, config: HfgiConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.align = DistortionAlignment(config.width)
        self.consult = DistortionConsultation(config)
        draw = stream(seed, "hfgi weights")
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if weight.ndim == 1:
                    weight.zero_()
                elif not name.endswith("out.weight"):
                    weight.copy_(torch.randn(weight.shape, generator=draw) * math.sqrt(2 / weight[0].numel()))

    def forward(
        self,
        features: Float[Tensor, "n c h w"],
        residual: Float[Tensor, "n 3 r r"],
        edited: Float[Tensor, "n 3 r r"],
    ) -> Float[Tensor, "n c h w"]:
        """The feature map with the residual fused in: F (1 + g) + h (section 3.2; the paper writes g F + h)."""
        g, h = self.consult(self.align(residual, edited))
        return features * (1 + g) + h


def perspective(
    images: Float[Tensor, "n c r r"], generator: torch.Generator, *, distortion: float = 0.15
) -> Float[Tensor, "n c r r"]:
    """Images in random perspective, by which the alignment is trained without edits (HFGI, section 3.3).

    distortion: largest shift of a corner, relative to the side. What lies outside is 0.
    """
    n, r = len(images), images.shape[-1]
    corners = torch.tensor([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])
    shifts = torch.rand(n, 4, 2, generator=generator, device=generator.device).cpu() * 2 - 1
    moved = corners + 2 * distortion * shifts
    # the homography x' = (a x + b y + c) / (g x + h y + 1), likewise y', that takes the corners to where they moved
    x, y = corners.expand(n, 4, 2).unbind(2)
    u, v = moved.unbind(2)
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    rows_u = torch.stack([x, y, one, zero, zero, zero, -x * u, -y * u], 2)
    rows_v = torch.stack([zero, zero, zero, x, y, one, -x * v, -y * v], 2)
    solved = torch.linalg.solve(torch.cat([rows_u, rows_v], 1), torch.cat([u, v], 1)[:, :, None])[:, :, 0]
    homography = torch.cat([solved, torch.ones(n, 1)], 1).view(n, 3, 3).to(images)
    axis = (torch.arange(r, device=images.device, dtype=images.dtype) * 2 + 1) / r - 1
    grid = torch.stack([*torch.meshgrid(axis, axis, indexing="xy"), torch.ones_like(axis).expand(r, r)], 2)
    seen = torch.einsum("nij,hwj->nhwi", homography, grid)
    return F.grid_sample(images, seen[..., :2] / seen[..., 2:], align_corners=False)


def _convs(fan_in: int, fan_out: int, stride: int = 1) -> nn.Sequential:
    first = nn.Conv2d(fan_in, fan_out, 3, stride, 1)
    return nn.Sequential(first, nn.LeakyReLU(0.2), nn.Conv2d(fan_out, fan_out, 3, 1, 1), nn.LeakyReLU(0.2))


def _zeroed(conv: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    return conv
