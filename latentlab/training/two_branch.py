"""Training of the two branches (Yin et al. 2022, arXiv 2204.12530) on the codes of a frozen encoder."""

from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from latentlab.encoders.backbone import CodeEncoder, resize
from latentlab.faces import NAMES, factor_std, render, training_details, training_factors
from latentlab.images import tile
from latentlab.losses.attributes import load_attributes
from latentlab.losses.identity import load_identity
from latentlab.losses.perceptual import load_perceptual
from latentlab.networks.two_branch import TwoBranch, TwoBranchConfig
from latentlab.spaces import fingerprint
from latentlab.stylegan import Generator
from latentlab.training.loop import Training

ATTRIBUTES = ("glasses", "smile", "age", "beard", "hair_length", "yaw")
# Section 4.1, lambda_1 to lambda_8, of means over pixels and attributes. Two are rescaled. The paper's sum of absolute
# values over 18 x 512 numbers has a gradient of 1 for each number beside losses that share theirs among all of them:
# here it is the shrinkage in learning rates of Adam. The paper's alignment loss is a squared norm over the picture.
STYLE = {"l2": 0.01, "perceptual": 0.8, "identity": 1.0, "attributes": 10.0, "sparsity": 0.1}
CONTENT = {"refined_l2": 0.01, "refined_attributes": 10.0, "alignment": 100.0}
LOSSES = STYLE | CONTENT
FUSED = 16  # px, up to which content is fused: finer maps of the encoder would copy the picture


@dataclass(frozen=True)
class TwoBranchTrainingConfig:
    """The settings of a training of the two branches.

    shape: of the networks. generator: fingerprint of the one that they are for. encoder: name of the encoder whose
    codes and feature maps they use. images: one of the settings, so that a run is resumed with the same end.
    losses: weights by name, see ``LOSSES``; without any of the content branch only directions are trained.
    sparsity: "proximal", shrinkage after each step, which gives exact zeros; or "subgradient", a term of the loss.
    edited: share of the images of which an attribute is changed; of the others nothing is. strength: the largest
    change, in standard deviations. learning_rate: of the directions; that of the networks is a tenth.
    strange: share of faces with an out-of-domain detail, see ``EncoderTrainingConfig``.
    """

    shape: TwoBranchConfig
    generator: str
    encoder: str
    images: int
    losses: dict[str, float] = field(default_factory=lambda: dict(LOSSES))
    sparsity: Literal["proximal", "subgradient"] = "proximal"
    batch_size: int = 8
    learning_rate: float = 3e-3
    edited: float = 0.8
    strength: float = 2.0
    strange: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if unknown := self.losses.keys() - LOSSES.keys():
            raise ValueError(f"losses: expected names among {', '.join(LOSSES)}, got {', '.join(sorted(unknown))}")
        if self.sparsity not in ("proximal", "subgradient"):
            raise ValueError(f"sparsity: expected 'proximal' or 'subgradient', got {self.sparsity!r}")
        if not 0 <= self.edited <= 1:
            raise ValueError(f"edited: expected a share from 0 to 1, got {self.edited}")
        if not 0 < self.strength <= self.shape.most:
            raise ValueError(f"strength: expected above 0 and at most {self.shape.most:g}, got {self.strength}")


def configure_two_branch(
    G: Generator, encoder: CodeEncoder, name: str, *, attributes: tuple[str, ...] = ATTRIBUTES, fused: int = FUSED,
    relevance: Literal["cosine", "attention"] = "cosine", **settings,
) -> TwoBranchTrainingConfig:  # fmt: skip
    """The settings for a generator and the encoder of this name.

    fused: the largest resolution at which content is fused; none is where no loss of the content branch has a weight.
    settings: fields to set otherwise; ``images`` is needed.
    """
    known = load_attributes().names
    if unknown := [a for a in attributes if a not in known]:
        raise ValueError(f"attributes: expected those that the losses' network reads ({', '.join(known)}), got "
                         f"{', '.join(unknown)}")  # fmt: skip
    losses = settings.get("losses", LOSSES)
    fused = fused if any(losses.get(name) for name in CONTENT) else 0
    resolutions = tuple(r for r in G.config.resolutions if r <= fused)
    shape = TwoBranchConfig(attributes, G.num_ws, G.w_dim, resolutions, G.config.channels[: len(resolutions)],
                            encoder.config.widths[3], relevance=relevance)  # fmt: skip
    return TwoBranchTrainingConfig(**{"shape": shape, "generator": fingerprint(G, "generator"), "encoder": name}
                                   | settings)  # fmt: skip


class TwoBranchTraining(Training):
    """Both branches; generator, encoder and the losses' networks are frozen."""

    also_logged = ("zeros",)

    def __init__(self, config: TwoBranchTrainingConfig, G: Generator, encoder: CodeEncoder, fabric) -> None:
        super().__init__(config, fabric)
        if config.generator != fingerprint(G, "generator"):
            raise ValueError(f"generator: expected {config.generator}, got {fingerprint(G, 'generator')}")
        if encoder.config.w_dim != config.shape.w_dim or encoder.config.widths[3] != config.shape.seen:
            raise ValueError(f"encoder: expected codes of width {config.shape.w_dim} and features of width "
                             f"{config.shape.seen}, got {encoder.config.w_dim} and "
                             f"{encoder.config.widths[3]}")  # fmt: skip
        device = fabric.device
        self.G = G.to(device, memory_format=torch.channels_last).requires_grad_(False).eval()
        self.encoder = encoder.to(device).requires_grad_(False).eval()
        self.perceptual, self.identity = load_perceptual(device=device), load_identity(device=device)
        self.reader = load_attributes(device=device)
        self.columns_of = [self.reader.names.index(name) for name in config.shape.attributes]
        self.binary = self.reader.binary[self.columns_of]
        std = factor_std()[[NAMES.index(name) for name in config.shape.attributes]].to(device)
        # One standard deviation in what the network reads: of the logits' probability for a binary attribute.
        self.scale = torch.where(self.binary, std, std / self.reader.std[self.columns_of])
        self.network = self.add_module("network", TwoBranch(config.shape, config.seed)).train()
        for name, weight in config.losses.items():
            self.add_loss(name, weight)
        self.refines = bool(config.shape.resolutions)
        self.add_player("network", torch.optim.Adam(self._groups(), lr=config.learning_rate))

    def _groups(self) -> list[dict]:
        directions = [self.network.style_directions]
        others = [p for name, p in self.network.named_parameters() if name != "style_directions"]
        rest = [{"params": others, "lr": self.config.learning_rate / 10}] if self.refines else []
        return [{"params": directions}, *rest]

    def _step(self, batch: Float[Tensor, "n 3 r r"]) -> dict[str, Tensor]:
        """One update on images in [-1, 1]; returns what to log."""
        images, network = batch.contiguous(memory_format=torch.channels_last), self.network
        with torch.no_grad():
            levels, w = self.encoder.levels(images), self.encoder(images)
            seen = self.perceptual.features(images), self.identity.features(images)
            read = self._read(images)
            s, wanted = self._draw_targets(read)
            plain, before = generate(self.G, w, network.config.resolutions)
        edited, after = generate(self.G, w + network.style_shift(s), network.config.resolutions)  # Eq. 2
        losses = {
            "l2": F.mse_loss(edited, images),
            "perceptual": self.perceptual.between(self.perceptual.features(edited), seen[0]).mean(),
            "identity": self.identity.between(self.identity.features(edited), seen[1]).mean(),
            "attributes": self._misses(edited, wanted),
        }
        if self.config.sparsity == "subgradient":
            losses["sparsity"] = network.style_directions.abs().sum() / network.style_directions[0].numel()  # Eq. 3
        if self.refines:
            fusion = network.fusion(before, after, network.contents(levels, s))
            refined = self.G.synthesis(w + network.style_shift(s), replace=fusion)
            losses["refined_l2"] = F.mse_loss(refined, images)
            losses["refined_attributes"] = self._misses(refined, wanted)
            losses["alignment"] = F.mse_loss(refined - images, edited - plain)  # Eq. 8
        logged = self.update("network", {name: x for name, x in losses.items() if self.config.losses.get(name)})
        if self.config.sparsity == "proximal":
            network.shrink(self.config.learning_rate * self.config.losses.get("sparsity", 0.0))
        return logged | {"zeros": network.sparsity.mean()}

    def _draw_targets(self, read: Float[Tensor, "n k"]) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n k"]]:
        """Targets s of one attribute or none for each image, and what the network is to read then.

        Binary attributes change to their other value; the paper's targets are of that kind only.
        """
        n, k = read.shape
        draw = self.stream("targets")
        chosen = torch.randint(k, (n,), generator=draw, device=read.device)
        some = torch.rand(n, generator=draw, device=read.device) < self.config.edited
        size = self.config.strength * (2 * torch.rand(n, k, generator=draw, device=read.device) - 1)
        now = torch.where(self.binary, read.sigmoid(), read)
        size = torch.where(self.binary, torch.where(now < 0.5, 1 - now, -now) / self.scale, size)
        s = size * F.one_hot(chosen, k) * some[:, None]
        return s, now + s * self.scale

    def _read(self, images: Float[Tensor, "n 3 r r"]) -> Float[Tensor, "n k"]:
        """The attributes, as the losses' network gives them."""
        return self.reader(resize(images, self.reader.resolution))[:, self.columns_of]

    def _misses(self, images: Tensor, wanted: Float[Tensor, "n k"]) -> Float[Tensor, ""]:
        """Eq. 9, mean over attributes: cross entropy of binary ones; of the others, where the paper has no classes,
        squares in standard deviations."""
        read = self._read(images)
        entropy = F.binary_cross_entropy_with_logits(read, wanted.clamp(0, 1), reduction="none")
        return torch.where(self.binary, entropy, ((read - wanted) / self.scale).square()).mean()

    def draw_samples(self) -> Image.Image:
        """Twelve faces that no training sees, their inversions, and style-only and refined pictures of an edit."""
        device = self.fabric.device
        faces = training_factors(12, self.config.seed, start=10**8)
        images = render(faces, self.G.resolution, details=training_details(12, self.config.seed, 10**8, share=0.5))
        images = images.to(device, memory_format=torch.channels_last)
        w, levels = self.encoder(images), self.encoder.levels(images)
        names = self.network.config.attributes
        s = F.one_hot(torch.arange(12, device=device) % len(names), len(names)) * 1.5
        plain, before = generate(self.G, w, self.network.config.resolutions)
        edited, after = generate(self.G, w + self.network.style_shift(s), self.network.config.resolutions)
        fusion = self.network.fusion(before, after, self.network.contents(levels, s))
        refined = self.G.synthesis(w + self.network.style_shift(s), replace=fusion)
        return tile(torch.cat([images, plain, edited, refined]), columns=12, scale=2)


def generate(
    G: Generator, w_plus: Float[Tensor, "n layers dim"], resolutions: tuple[int, ...]
) -> tuple[Float[Tensor, "n 3 r r"], dict[int, Tensor]]:
    """Images, and the generator's feature maps at some resolutions, in one pass."""
    maps: dict[int, Tensor] = {}

    def keep(r: int):
        return lambda x: maps.setdefault(r, x)

    return G.synthesis(w_plus, replace={r: keep(r) for r in resolutions}), maps


