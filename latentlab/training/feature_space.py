"""Training of encoders into F space: CLCAE (arXiv 2211.11448) with its ablations, and FeatureStyle for contrast.

One step draws rendered faces and compares them with up to three pictures of each: G(w), G(w+) and G(w+, f).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from latentlab.encoders.clcae import ClcaeConfig
from latentlab.encoders.contrastive import ContrastivePair
from latentlab.encoders.feature_space import FeatureCodes
from latentlab.encoders.feature_style import FeatureStyleConfig
from latentlab.encoders.kinds import build_encoder, slim_config
from latentlab.encoders.regularizers import feature_regularization
from latentlab.faces import render, training_details, training_factors
from latentlab.images import tile
from latentlab.losses.identity import load_identity
from latentlab.losses.perceptual import load_perceptual
from latentlab.metrics.codes import code_variation
from latentlab.seeds import stream
from latentlab.spaces import fingerprint
from latentlab.stylegan import Generator
from latentlab.training.contrastive import alignment, freeze_pair, refuse_single
from latentlab.training.encoders import flat_then_cosine
from latentlab.training.loop import Training

# CLCAE, section 3.3, Eq. 7 to 10
LOSSES = {"l2": 1.0, "perceptual": 0.2, "identity": 0.1, "feature": 0.01, "alignment": 1.0}
CONFIGURATIONS = ("full", "no_alignment", "multi_token", "no_w_plus_block", "no_f_block", "feature_style")


@dataclass(frozen=True)
class FeatureTrainingConfig:
    """The settings of the training of an encoder into F space.

    encoder: a name of ``FEATURE_ENCODERS``. shape: of that encoder. generator: fingerprint of the one that it is for.
    images: one of the settings, for the schedules end with it. losses: weights by name; the first three are summed over
    the pictures G(w), G(w+) and G(w+, f).
    pair: fingerprint of the frozen contrastive pair, None without the loss alignment. variant: what w is aligned with:
        "paper", the given image; "code", G(w), there with weight 0.1.
    blend: share of the run in which the generator's own feature map gives way to f, linearly; FeatureStyle's first
        10,000 of 120,000 steps. (The public code of CLCAE starts over in every epoch, the paper does not mention it.)
    learning_rate, strange: as in ``training.encoders``.
    """

    encoder: str
    shape: ClcaeConfig | FeatureStyleConfig
    generator: str
    images: int
    losses: dict[str, float] = field(default_factory=lambda: dict(LOSSES))
    pair: str | None = None
    variant: Literal["paper", "code"] = "paper"
    blend: float = 0.1
    batch_size: int = 8
    learning_rate: float = 2e-3
    strange: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if unknown := self.losses.keys() - LOSSES.keys():
            raise ValueError(f"losses: expected names among {', '.join(LOSSES)}, got {', '.join(sorted(unknown))}")
        if self.images < self.batch_size:
            raise ValueError(f"images: expected at least a batch of {self.batch_size}, got {self.images}")
        if self.losses.get("alignment"):
            if isinstance(self.shape, FeatureStyleConfig):
                weight = self.losses["alignment"]
                raise ValueError(f"losses: expected no alignment for {self.encoder}, which finds no code of W to "
                                 f"align, got {weight:g}; give this loss weight 0")  # fmt: skip
            refuse_single(self.batch_size)
        if not 0 <= self.strange <= 1 or not 0 <= self.blend <= 1:
            raise ValueError(f"strange, blend: expected shares from 0 to 1, got {self.strange} and {self.blend}")
        if self.variant not in ("paper", "code"):
            raise ValueError(f"variant: expected 'paper' or 'code', got {self.variant!r}")


def configure_features(
    name: str, G: Generator, weights: dict[str, float] | None = None, **settings
) -> FeatureTrainingConfig:
    """The settings of a configuration, one of ``CONFIGURATIONS``: CLCAE, its ablations, and FeatureStyle.

    weights: of losses by name, instead of the configuration's. settings: fields of ``FeatureTrainingConfig`` to set
    otherwise, of which ``images`` is needed; a loss "alignment" needs ``pair`` as well.
    """
    if name not in CONFIGURATIONS:
        raise ValueError(f"configuration: expected one of {', '.join(CONFIGURATIONS)}, got {name!r}")
    encoder = {"multi_token": "clcae_multi_token", "feature_style": name}.get(name, "clcae")
    shape = slim_config(encoder, G.config)
    if name in ("no_w_plus_block", "no_f_block"):
        shape = replace(shape, **{name.removeprefix("no_"): False})
    off = {"alignment": 0.0} if name in ("no_alignment", "feature_style") else {}
    losses = LOSSES | off | (weights or {})
    known = {"encoder": encoder, "shape": shape, "generator": fingerprint(G, "generator"), "losses": losses}
    return FeatureTrainingConfig(**known | settings)


class FeatureTraining(Training):
    """An encoder into F space; the generator and the pair of the alignment loss are frozen."""

    also_logged = ("blend", "variation")

    def __init__(
        self, config: FeatureTrainingConfig, G: Generator, fabric, pair: ContrastivePair | None = None
    ) -> None:
        try:
            from pytorch_optimizer import Ranger
        except ImportError as error:
            raise ValueError("Ranger needs a package more: pip install pytorch_optimizer") from error
        super().__init__(config, fabric)
        if config.generator != fingerprint(G, "generator"):
            raise ValueError(f"generator: expected {config.generator}, got {fingerprint(G, 'generator')}")
        device = fabric.device
        self.G = G.to(device, memory_format=torch.channels_last).requires_grad_(False).eval()
        self.perceptual, self.identity = load_perceptual(device=device), load_identity(device=device)
        self.pair = freeze_pair(pair, config.pair, device) if config.losses.get("alignment") else None
        encoder = build_encoder(config.encoder, config.shape, stream(config.seed, "encoder").initial_seed())
        mean, averages = G.broadcast(G.w_avg[None]), {}
        if getattr(config.shape, "residual_feature", False):
            r = config.shape.feature_resolution
            averages["feature"] = G.features(mean, upto=r)[r][0]
        encoder.set_averages(G.w_avg, G.synthesis(mean)[0], **averages)
        self.E = self.add_module("E", encoder).train()
        for name, weight in config.losses.items():
            self.add_loss(name, weight)
        self.steps = config.images / config.batch_size
        optimizer = Ranger(self.E.parameters(), lr=config.learning_rate)
        schedule = LambdaLR(optimizer, lambda step: flat_then_cosine(step / self.steps))
        self.add_player("E", optimizer, schedule=schedule)

    @property
    def blend(self) -> float:
        """The share of f in the feature map of this step."""
        length = self.config.blend * self.steps
        return min(1.0, self.step_index / length) if length else 1.0

    def _step(self, batch: Float[Tensor, "n 3 r r"]) -> dict[str, Tensor]:
        """One update on images in [-1, 1]; returns what to log."""
        images, blend = batch.contiguous(memory_format=torch.channels_last), self.blend
        with torch.no_grad(), self.fabric.autocast():
            seen = self.perceptual.features(images), self.identity.features(images)
        with self.fabric.autocast():
            found = self.E(images)
            original = self._own_feature(found)
            pictures = self._draw(found, torch.lerp(original, found.feature.float(), blend))
            losses = self._reconstruction(pictures, images, seen)
            if self.due("alignment"):
                # of w with the given image in the paper, with G(w) in the public code
                shown = images if self.config.variant == "paper" else pictures[0]
                losses["alignment"] = alignment(self.pair, shown, found.w.float(), self.fabric)
        if self.due("feature"):
            losses["feature"] = feature_regularization(found.feature.float(), original).mean()
        more = {"blend": torch.tensor(blend), "variation": code_variation(found.w_plus.detach().float()).mean()}
        return self.update("E", losses) | more

    def _own_feature(self, found: FeatureCodes) -> Float[Tensor, "n c s s"]:
        """The generator's own map for the codes of W+, without gradients (Eq. 9)."""
        r = found.feature.shape[-1]
        with torch.no_grad():
            return self.G.features(found.w_plus.float(), upto=r)[r].float()  # bfloat16 under autocast

    def _draw(self, found: FeatureCodes, feature: Float[Tensor, "n c s s"]) -> Sequence[Float[Tensor, "n 3 r r"]]:
        """G(w), where there is a w, G(w+) and G(w+, f)."""
        draw, w_plus = self.stream("noise"), found.w_plus.float()
        codes = [w_plus] if found.w is None else [self.G.broadcast(found.w.float()), w_plus]
        plain = self.G.synthesis(torch.cat(codes), noise="random", generator=draw)
        replaced = {"replace": {feature.shape[-1]: feature}, "replace_rgb": False}
        return *plain.split(len(w_plus)), self.G.synthesis(w_plus, noise="random", generator=draw, **replaced)

    def _reconstruction(self, pictures: Sequence[Tensor], images: Tensor, seen: tuple) -> dict[str, Tensor]:
        """Eq. 7 and 8: the terms that have a weight, means over images and sums over the pictures of each."""
        terms = {
            "l2": lambda made: F.mse_loss(made, images),
            "perceptual": lambda made: self.perceptual.between(self.perceptual.features(made), seen[0]).mean(),
            "identity": lambda made: self.identity.between(self.identity.features(made), seen[1]).mean(),
        }
        return {k: sum(term(made).float() for made in pictures) for k, term in terms.items() if self.due(k)}

    def draw_samples(self) -> Image.Image:
        """Twelve faces that no training sees, clean and strange, and their pictures from w, w+ and (w+, f) below."""
        faces = training_factors(12, self.config.seed, start=10**8)
        images = render(faces, self.G.resolution, details=training_details(12, self.config.seed, 10**8, share=0.5))
        images = images.to(self.fabric.device, memory_format=torch.channels_last)
        self.E.eval()
        found = self.E(images)
        self.E.train()
        return tile(torch.cat([images, *self._draw(found, found.feature)]), columns=12, scale=2)
