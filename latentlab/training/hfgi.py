"""Training of HFGI's networks (Wang et al. 2022, arXiv 2109.06590) on the codes of a frozen encoder."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from latentlab.losses.identity import load_identity
from latentlab.losses.perceptual import load_perceptual
from latentlab.networks.hfgi import Hfgi, HfgiConfig, perspective
from latentlab.seeds import stream
from latentlab.spaces import fingerprint
from latentlab.stylegan import Generator
from latentlab.training.encoders import flat_then_cosine
from latentlab.training.loop import Training

Encode = Callable[[Float[Tensor, "n 3 r r"]], Float[Tensor, "n layers dim"]]
# HFGI, section 3.4, as in the public code
LOSSES = {"l2": 1.0, "perceptual": 0.8, "identity": 0.1, "alignment": 0.1}


@dataclass(frozen=True)
class HfgiTrainingConfig:
    """The settings of a training of HFGI.

    shape: of the networks. generator: fingerprint of the one that they are for. encoder: the name of the encoder whose
    codes they refine. images: one of the settings, so that a run is resumed with the same end. encoder_fingerprint: of
    that encoder, None if not known.
    learning_rate: of Adam, constant in the first half of the run and along half a cosine down to 0 in the second; the
    paper's 1e-4 is meant for 100,000 steps. distortion, distorted: of the random
    perspective, and the share of residuals that it is applied to. strange: share of faces with an out-of-domain detail,
    as for encoders; it is the residual that shows them.
    """

    shape: HfgiConfig
    generator: str
    encoder: str
    images: int
    encoder_fingerprint: str | None = None
    losses: dict[str, float] = field(default_factory=lambda: dict(LOSSES))
    batch_size: int = 8
    learning_rate: float = 1e-3
    distortion: float = 0.15
    distorted: float = 0.9
    strange: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if unknown := self.losses.keys() - LOSSES.keys():
            raise ValueError(f"losses: expected names among {', '.join(LOSSES)}, got {', '.join(sorted(unknown))}")
        if not 0 <= self.distorted <= 1:
            raise ValueError(f"distorted: expected a share from 0 to 1, got {self.distorted}")


def configure_hfgi(G: Generator, encoder: str, **settings) -> HfgiTrainingConfig:
    """The settings for a generator and the name of an encoder. settings: fields to set otherwise; ``images`` is needed.

    The feature map is at a quarter of the resolution, as the paper's 64 for pictures of 256 px.
    """
    layer = max(G.resolution // 4, 4)
    channels = dict(zip(G.config.resolutions, G.config.channels, strict=True))[layer]
    known = {"shape": HfgiConfig(G.resolution, layer, channels), "generator": fingerprint(G, "generator")}
    return HfgiTrainingConfig(**known | {"encoder": encoder} | settings)


class HfgiTraining(Training):
    """HFGI's two networks; encoder and generator are frozen. encode: images to codes of W+, without gradients."""

    later_settings = ("encoder_fingerprint",)

    def __init__(self, config: HfgiTrainingConfig, G: Generator, encode: Encode, fabric) -> None:
        super().__init__(config, fabric)
        if config.generator != fingerprint(G, "generator"):
            raise ValueError(f"generator: expected {config.generator}, got {fingerprint(G, 'generator')}")
        device = fabric.device
        self.G = G.to(device, memory_format=torch.channels_last).requires_grad_(False).eval()
        self.encode = encode
        self.perceptual, self.identity = load_perceptual(device=device), load_identity(device=device)
        seed = stream(config.seed, "hfgi").initial_seed()
        self.network = self.add_module("network", Hfgi(config.shape, seed)).train()
        for name, weight in config.losses.items():
            self.add_loss(name, weight)
        steps = config.images / config.batch_size
        adam = torch.optim.Adam(self.network.parameters(), lr=config.learning_rate)
        self.add_player("network", adam, schedule=LambdaLR(adam, lambda step: flat_then_cosine(step / steps)))

    def _step(self, batch: Float[Tensor, "n 3 r r"]) -> dict[str, Tensor]:
        """One update on images in [-1, 1]; returns what to log."""
        images = batch.contiguous(memory_format=torch.channels_last)
        layer = self.config.shape.layer
        with torch.no_grad(), self.fabric.autocast():
            codes = self.encode(images)
            plain = self.G.synthesis(codes)
            features = self.G.features(codes)[layer]
            residual = images - plain
            shown = self._distort(residual)
            seen = self.perceptual.features(images), self.identity.features(images)
        with self.fabric.autocast():
            aligned = self.network.align(shown, plain)
            g, h = self.network.consult(aligned)
            made = self.G.synthesis(codes, replace={layer: features * (1 + g) + h})
            terms = {
                "l2": lambda: F.mse_loss(made, images),
                "perceptual": lambda: self.perceptual.between(self.perceptual.features(made), seen[0]).mean(),
                "identity": lambda: self.identity.between(self.identity.features(made), seen[1]).mean(),
                "alignment": lambda: (aligned - residual).abs().mean(),  # Eq. 5: a distorted residual comes back
            }
            losses = {name: terms[name]().float() for name in self.losses if self.due(name)}
        return self.update("network", losses)

    def _distort(self, residual: Tensor) -> Tensor:
        """The residuals, most of them in random perspective."""
        draw = stream(self.config.seed, "distorted residuals", self.step_index, self.fabric.global_rank)
        moved = perspective(residual.float(), draw, distortion=self.config.distortion)
        chosen = torch.rand(len(residual), generator=draw) < self.config.distorted
        return torch.where(chosen.to(residual.device)[:, None, None, None], moved, residual)
