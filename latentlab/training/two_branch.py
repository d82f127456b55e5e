"""Training of the two branches (Yin et al. 2022, arXiv 2204.12530) on the codes of a frozen encoder."""

from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from latentlab.encoders.backbone import CodeEncoder, resize
from latentlab.faces import NAMES, TABLE, factor_std, render, training_details, training_factors
from latentlab.images import tile
from latentlab.losses.attributes import load_attributes
from latentlab.losses.identity import load_identity
from latentlab.losses.perceptual import load_perceptual
from latentlab.networks.attributes import fold_normalization
from latentlab.networks.two_branch import TwoBranch, TwoBranchConfig
from latentlab.spaces import fingerprint
from latentlab.stylegan import Generator
from latentlab.training.encoders import flat_then_cosine
from latentlab.training.loop import Training

ATTRIBUTES = ("glasses", "smile", "age", "beard", "hair_length", "yaw")
# Section 4.1, lambda_1 to lambda_8. Two kinds are rescaled.
# - Squared norms over a picture (.01, .01 and 1 in the paper) are means over its numbers here, times 1000. The paper
#   does not tell sums from means. As means they would be too weak for the effect that it reports: with 100 for the
#   alignment loss a trial of 6,000 images did not lower it at all, for the gradient of the attributes was larger.
# - The sum of absolute values over 18 x 512 numbers has a gradient of 1 for each of them, beside losses that share
#   theirs among all. Here it is the shrinkage in learning rates of Adam, see ``TwoBranchTraining``.
STYLE = {"l2": 10.0, "perceptual": 0.8, "identity": 1.0, "attributes": 10.0, "sparsity": 0.15}
CONTENT = {"refined_l2": 10.0, "refined_attributes": 10.0, "alignment": 1000.0}
LOSSES = STYLE | CONTENT
WARM_UP = 100  # steps; the content's zeros at the end would grow to a large error in the first steps of full size
# px, the finest block at which content is fused; the paper fuses "across all layers". Fused features replace a block's
# output, so only what comes after them still draws. With free contents up to 16 px noise cannot be drawn; at 64 px,
# where only toRGB is left, it is copied, more than 6 dB nearer (notebook 08, section 7). That is a copy machine, with
# two consequences: a small reconstruction error says nothing about the inversion any more, and where an edit moves
# things, the old picture is pasted back unmoved wherever the relevance map is high, the sharper, the finer the maps.
FUSED = 16


@dataclass(frozen=True)
class TwoBranchTrainingConfig:
    """The settings of a training of the two branches.

    shape: of the networks. generator: fingerprint of the one that they are for. encoder: name of the encoder whose
    codes and feature maps they use. images: one of the settings, so that a run is resumed with the same end.
    encoder_fingerprint: of that encoder, None if not known.
    losses: weights by name, see ``LOSSES``; without any of the content branch only directions are trained.
    sparsity: how the weight ``losses["sparsity"]`` acts on the directions (Eq. 3); its unit is another one in each.
        "proximal": after each step every number moves towards 0 by the weight times the learning rate, and those that
        are nearer become exactly 0. A step of Adam is the learning rate times the mean gradient over its root mean
        square, so the weight is a threshold for this ratio: a number stays 0 where the ratio is below it.
        "subgradient": the weight of a term of the loss, the mean absolute value of a direction's L x D numbers, summed
        over the directions. Its gradient is weight / (L D) in each number, beside those of the other losses as they
        are. Numbers become small, and none exactly 0.
    edited: share of the images of which an attribute is changed; of the others nothing is. strength: the largest
    change, in standard deviations. learning_rate, content_learning_rate: of Adam, for the directions and for the
    content branch; both are constant in the first half of the run, and fall to 0 along half a cosine in the second;
    that of the content rises in the first ``WARM_UP`` steps.
    strange: share of faces with an out-of-domain detail, see ``EncoderTrainingConfig``.
    """

    shape: TwoBranchConfig
    generator: str
    encoder: str
    images: int
    encoder_fingerprint: str | None = None
    losses: dict[str, float] = field(default_factory=lambda: dict(LOSSES))
    sparsity: Literal["proximal", "subgradient"] = "proximal"
    batch_size: int = 8
    learning_rate: float = 3e-3
    content_learning_rate: float = 1e-3
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

    fused: the largest resolution at which content is fused, 0 for none; none is where no loss of the content branch has
    a weight, either. settings: fields to set otherwise; ``images`` is needed.
    """
    known = load_attributes().names
    if unknown := [a for a in attributes if a not in known]:
        raise ValueError(f"attributes: expected those that the losses' network reads ({', '.join(known)}), got "
                         f"{', '.join(unknown)}")  # fmt: skip
    if fused and fused not in G.config.resolutions:
        raise ValueError(f"fused: expected 0 or one of {', '.join(map(str, G.config.resolutions))}, got {fused}")
    losses = settings.get("losses", LOSSES)
    fused = fused if any(losses.get(name) for name in CONTENT) else 0
    resolutions = tuple(r for r in G.config.resolutions if r <= fused)
    std = tuple(float(factor_std()[NAMES.index(name)]) for name in attributes)
    shape = TwoBranchConfig(attributes, G.num_ws, G.w_dim, resolutions, G.config.channels[: len(resolutions)],
                            encoder.config.widths[3], relevance=relevance, std=std)  # fmt: skip
    networks = {"generator": fingerprint(G, "generator"), "encoder": name}
    networks |= {"encoder_fingerprint": fingerprint(encoder, "generator")}
    return TwoBranchTrainingConfig(**{"shape": shape} | networks | settings)


class TwoBranchTraining(Training):
    """Both branches; generator, encoder and the losses' networks are frozen.

    The losses of the content branch train that branch alone, as section 3.3 says: no gradient goes from them into the
    style directions, although Eq. 12 adds both. Runs of one seed that differ in the content's losses have the same
    directions.

    A number of a direction stays 0 where the mean gradient is below the sparsity weight, in units of its own root mean
    square. Adam's usual mean over ten steps is noise of 0.23 of them, with which hardly any number stays 0; the
    directions have one over a hundred steps, and noise of 0.07.
    """

    also_logged = ("zeros",)
    later_settings = ("encoder_fingerprint",)

    def __init__(self, config: TwoBranchTrainingConfig, G: Generator, encoder: CodeEncoder, fabric) -> None:
        super().__init__(config, fabric)
        if config.generator != fingerprint(G, "generator"):
            raise ValueError(f"generator: expected {config.generator}, got {fingerprint(G, 'generator')}")
        if encoder.config.w_dim != config.shape.w_dim or encoder.config.widths[3] != config.shape.seen:
            raise ValueError(f"encoder: expected codes of width {config.shape.w_dim} and features of width "
                             f"{config.shape.seen}, got {encoder.config.w_dim} and "
                             f"{encoder.config.widths[3]}")  # fmt: skip
        if (wanted := config.encoder_fingerprint) and (got := fingerprint(encoder, "generator")) != wanted:
            raise ValueError(f"encoder: expected {wanted}, for which the settings were made, got {got}")
        device = fabric.device
        self.G = G.to(device, memory_format=torch.channels_last).requires_grad_(False).eval()
        self.encoder = encoder.to(device).requires_grad_(False).eval()
        self.perceptual, self.identity = load_perceptual(device=device), load_identity(device=device)
        self.reader = fold_normalization(load_attributes(device=device)).to(memory_format=torch.channels_last)
        self.columns_of = [self.reader.names.index(name) for name in config.shape.attributes]
        self.binary = self.reader.binary[self.columns_of]
        std = torch.tensor(config.shape.std).to(device)
        # One standard deviation in what the network reads: of the logits' probability for a binary attribute.
        mean, unit = self.reader.mean[self.columns_of], self.reader.std[self.columns_of]
        self.scale = torch.where(self.binary, std, std / unit)
        factors = [TABLE[NAMES.index(name)] for name in config.shape.attributes]
        self.lowest, self.highest = ((torch.tensor([getattr(f, end) for f in factors]).to(device) - mean) / unit
                                     for end in ("low", "high"))  # fmt: skip
        self.network = self.add_module("network", TwoBranch(config.shape, config.seed)).train()
        for name, weight in config.losses.items():
            self.add_loss(name, weight)
        self.refines = bool(config.shape.resolutions)
        steps = config.images / config.batch_size
        adam = torch.optim.Adam(self._groups(), lr=config.learning_rate)
        falls = [lambda step: flat_then_cosine(step / steps)]
        falls += [lambda step: min((step + 1) / WARM_UP, 1) * flat_then_cosine(step / steps)] * self.refines
        self.add_player("network", adam, schedule=LambdaLR(adam, falls))

    def _groups(self) -> list[dict]:
        directions = {"params": [self.network.style_directions], "betas": (0.99, 0.999)}
        others = [p for name, p in self.network.named_parameters() if name != "style_directions"]
        return [directions, *([{"params": others, "lr": self.config.content_learning_rate}] if self.refines else [])]

    def _step(self, batch: Float[Tensor, "n 3 r r"]) -> dict[str, Tensor]:
        """One update on images in [-1, 1]; returns what to log."""
        images, network = batch.contiguous(memory_format=torch.channels_last), self.network
        with torch.no_grad(), self.fabric.autocast():
            w = self.encoder(images).float()
            seen = self.perceptual.features(images), self.identity.features(images)
            levels = self.encoder.levels(images) if self.refines else []
            plain, before = generate(self.G, w, network.config.resolutions)
            now, own = self._read(images), self._read(plain)
            s = self._draw_changes(now)
        with self.fabric.autocast():
            codes = w + network.style_shift(s)
            edited, after = generate(self.G, codes, network.config.resolutions)  # Eq. 2
            losses = {
                "l2": F.mse_loss(edited, images),
                "perceptual": self.perceptual.between(self.perceptual.features(edited), seen[0]).mean(),
                "identity": self.identity.between(self.identity.features(edited), seen[1]).mean(),
                # from what the inversion shows: no direction repairs the encoder's errors, they would be noise to it
                "attributes": self._misses(edited, own, s),
            }
            if self.refines:
                after = {r: x.detach() for r, x in after.items()}
                fusion = network.fusion(before, after, network.contents(levels, s))
                refined = self.G.synthesis(codes.detach(), replace=fusion)
                losses["refined_l2"] = F.mse_loss(refined, images)
                losses["refined_attributes"] = self._misses(refined, now, s)
                losses["alignment"] = alignment_loss(plain, edited.detach(), images, refined).mean()
        if self.config.sparsity == "subgradient":
            losses["sparsity"] = network.style_directions.abs().sum() / network.style_directions[0].numel()  # Eq. 3
        wanted = {name: x.float() for name, x in losses.items() if self.config.losses.get(name)}
        rate = self.players["network"].optimizer.param_groups[0]["lr"]
        logged = self.update("network", wanted)
        if self.config.sparsity == "proximal":
            network.shrink(rate * self.config.losses.get("sparsity", 0.0))
        return logged | {"zeros": network.sparsity.mean()}

    def _draw_changes(self, now: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Targets s: a change of one attribute, or of none, for each image, given what the images show.

        Binary attributes change to their other value; the paper's targets are of that kind only. Others stay within
        what the renderer can draw: no face has less than no beard.
        """
        n, k = now.shape
        draw = self.stream("targets")
        chosen = torch.randint(k, (n,), generator=draw, device=now.device)
        some = torch.rand(n, generator=draw, device=now.device) < self.config.edited
        size = self.config.strength * (2 * torch.rand(n, k, generator=draw, device=now.device) - 1)
        changed = (now + size * self.scale).clamp(self.lowest, self.highest)
        changed = torch.where(self.binary, (now < 0.5).to(now), changed)
        return (changed - now) / self.scale * F.one_hot(chosen, k) * some[:, None]

    def _logits(self, images: Float[Tensor, "n 3 r r"]) -> Float[Tensor, "n k"]:
        return self.reader(resize(images, self.reader.resolution))[:, self.columns_of].float()

    def _read(self, images: Float[Tensor, "n 3 r r"]) -> Float[Tensor, "n k"]:
        """The attributes, as the losses' network gives them; probabilities of binary ones."""
        read = self._logits(images)
        return torch.where(self.binary, read.sigmoid(), read)

    def _misses(self, images: Tensor, shown: Float[Tensor, "n k"], s: Float[Tensor, "n k"]) -> Float[Tensor, ""]:
        """Eq. 9, how far images are from what was ``shown`` changed by s, mean over attributes: cross entropy of binary
        ones; of the others, where the paper has no classes, squares in standard deviations."""
        read, wanted = self._logits(images), shown + s * self.scale
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


def alignment_loss(
    inversion: Float[Tensor, "n 3 r r"], edit: Float[Tensor, "n 3 r r"], images: Float[Tensor, "n 3 r r"],
    refined: Float[Tensor, "n 3 r r"],
) -> Float[Tensor, " n"]:  # fmt: skip
    """The alignment loss of two branches (Eq. 8), (N,): whether the refined edit changes the given images as the style
    branch changes their inversion.

    inversion, edit: G(w) and G(w + d_sty). images, refined: x and x_refine; all (N, 3, R, R). The squared norm is a
    mean over an image's numbers here. Without any refinement, refined = edit, it is the squared error of the inversion,
    whatever the edit.

    >>> x = torch.zeros(1, 3, 2, 2)
    >>> alignment_loss(x, x + 0.5, x + 1, x + 1.5), alignment_loss(x, x + 0.5, x + 1, x + 0.5)
    (tensor([0.]), tensor([1.]))
    """
    return ((edit - inversion) - (refined - images)).square().mean((1, 2, 3))  # Eq. 8


def generate(
    G: Generator, w_plus: Float[Tensor, "n layers dim"], resolutions: tuple[int, ...]
) -> tuple[Float[Tensor, "n 3 r r"], dict[int, Tensor]]:
    """Images, and the generator's feature maps at some resolutions, in one pass."""
    maps: dict[int, Tensor] = {}

    def keep(r: int):
        return lambda x: maps.setdefault(r, x)

    return G.synthesis(w_plus, replace={r: keep(r) for r in resolutions}), maps


