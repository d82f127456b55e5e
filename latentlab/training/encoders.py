"""Training of encoders: pSp, e4e and its configurations A to D, ReStyle, the W encoder and LSAP's.

One step draws rendered faces, encodes them, generates pictures from the codes and compares those with the faces; the
losses of a configuration differ by name and weight only. The generator is frozen.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from latentlab.encoders.adversarial import CodePool, adversarial_loss, discriminator_loss, r1_penalty, shown_codes
from latentlab.encoders.backbone import EncoderConfig
from latentlab.encoders.contrastive import ContrastivePair
from latentlab.encoders.kinds import build_encoder, slim_config
from latentlab.encoders.regularizers import delta_regularization
from latentlab.encoders.restyle import refine
from latentlab.faces import render, training_details, training_factors
from latentlab.images import tile
from latentlab.losses.identity import load_identity
from latentlab.losses.perceptual import load_perceptual
from latentlab.metrics.codes import code_variation, sncd_of_codes
from latentlab.networks.latent_discriminator import LatentDiscriminator
from latentlab.seeds import stream
from latentlab.spaces import anchors_for, fingerprint
from latentlab.stylegan import Generator
from latentlab.training.contrastive import alignment, freeze_pair, refuse_single
from latentlab.training.loop import Training

# pSp, section 3.2, and e4e, Eq. 5: L_dist = L2 + 0.8 LPIPS + 0.1 ID
DISTORTION = {"l2": 1.0, "perceptual": 0.8, "identity": 0.1}
ADVERSARIAL = 0.1  # e4e, Eq. 6
SNCD = 0.5  # LSAP, appendix C
DELTA, DELTA_LAYERS, DELTA_DIM = 2e-4, 18, 512  # e4e's weight, and the codes that it is meant for
# Codes of W against an encoder's: the public code's pools hold 50 codes, its R1 has gamma 10 every 16 steps.
R1_GAMMA, R1_INTERVAL = 10.0, 16
LOSSES = (*DISTORTION, "delta", "adversarial", "sncd", "alignment")


@dataclass(frozen=True)
class EncoderTrainingConfig:
    """The settings of an encoder's training.

    encoder: a name of ``ENCODERS``. shape: of that encoder. generator: fingerprint of the one that it is for.
    images: one of the settings, for the schedules end with it.
    losses: weights by name, see ``LOSSES``; with "adversarial" a latent discriminator is trained as well; with
        "alignment" a frozen contrastive pair tells how well the first code fits the image (CLCAE, Eq. 3).
    pair: fingerprint of that pair, None without.
    progressive: the shares of the run at which e4e's first and last offset join; the paper's 20,000 and 52,000 of
        200,000 steps. None trains all codes from the start.
    learning_rate: of Ranger; the papers' 1e-4 is meant for some twenty times as many steps. It is constant in the
        first half of the run, and falls to 0 along half a cosine in the second.
    discriminator_learning_rate: the public code's 2e-5, raised in the same proportion.
    variant: of the discriminator's step, see ``shown_codes``.
    refinements: passes in a step of ReStyle, each with an update of its own; the paper's 5.
    strange: share of faces with an out-of-domain detail, such as a hat. The papers' encoders have seen them as well,
        for FFHQ shows hats, hands and face paint; the generator of the face world has not.
    """

    encoder: str
    shape: EncoderConfig
    generator: str
    images: int
    losses: dict[str, float] = field(default_factory=lambda: dict(DISTORTION))
    progressive: tuple[float, float] | None = None
    batch_size: int = 8
    learning_rate: float = 2e-3
    discriminator_learning_rate: float = 4e-4
    variant: Literal["code", "paper"] = "code"
    refinements: int = 1
    strange: float = 0.2
    pair: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if unknown := self.losses.keys() - set(LOSSES):
            raise ValueError(f"losses: expected names among {', '.join(LOSSES)}, got {', '.join(sorted(unknown))}")
        if self.images < self.batch_size:
            raise ValueError(f"images: expected at least a batch of {self.batch_size}, got {self.images}")
        if self.losses.get("alignment"):
            refuse_single(self.batch_size)
        if not 0 <= self.strange <= 1:
            raise ValueError(f"strange: expected a share from 0 to 1, got {self.strange}")


def delta_weight(shape: EncoderConfig) -> float:
    """e4e's weight of the offsets' lengths, 2e-4 for 18 codes of 512 numbers, for codes of another number and width.

    The sum has L - 1 terms, each of which grows with the square root of the width.
    """
    return DELTA * (DELTA_LAYERS - 1) / (shape.layers - 1) * (DELTA_DIM / shape.w_dim) ** 0.5


# e4e, Table 2: which of the two principles each configuration follows; A is pSp
_PRINCIPLES = {"A": (), "B": ("delta",), "C": ("adversarial",), "D": ("delta", "adversarial")}
_PROGRESSIVE = (0.1, 0.26)


def configure(name: str, G: Generator, weights: dict[str, float] | None = None, **settings) -> EncoderTrainingConfig:
    """The settings of a configuration: "A" to "D" (e4e, Table 2), "restyle", "w_encoder", "lsap_e" or
    "style_transformer".

    weights: of losses by name, instead of the configuration's. settings: fields of ``EncoderTrainingConfig`` to set
    otherwise, of which ``images`` is needed.
    """
    encoder = {"A": "psp", "C": "psp", "B": "e4e", "D": "e4e"}.get(name, name)
    shape = slim_config(encoder, G.config)
    usual = {"delta": delta_weight(shape), "adversarial": ADVERSARIAL, "sncd": SNCD}
    extra = _PRINCIPLES.get(name, ("delta", "sncd") if name == "lsap_e" else ())
    known = {
        "encoder": encoder,
        "shape": shape,
        "generator": fingerprint(G, "generator"),
        "losses": DISTORTION | {term: usual[term] for term in extra} | (weights or {}),
        "progressive": _PROGRESSIVE if encoder in ("e4e", "lsap_e") else None,
        "refinements": 3 if encoder == "restyle" else 1,
    }
    return EncoderTrainingConfig(**known | settings)


class EncoderTraining(Training):
    """An encoder, with a latent discriminator where its losses ask for one, and one step of both."""

    also_logged = ("variation", "logit_w", "logit_encoder")

    def __init__(
        self, config: EncoderTrainingConfig, G: Generator, fabric, pair: ContrastivePair | None = None
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
        self.perceptual = load_perceptual(device=device)
        self.identity = load_identity(device=device)
        self.anchors = anchors_for(G) if config.losses.get("sncd") else None
        self.pair = freeze_pair(pair, config.pair, device) if config.losses.get("alignment") else None
        encoder = build_encoder(config.encoder, config.shape, stream(config.seed, "encoder").initial_seed())
        encoder.set_average(G.w_avg)
        self.E = self.add_module("E", encoder).train()
        for name, weight in config.losses.items():
            self.add_loss(name, weight)
        steps = config.images / config.batch_size
        optimizer = Ranger(self.E.parameters(), lr=config.learning_rate)
        self.add_player("E", optimizer, schedule=LambdaLR(optimizer, lambda step: flat_then_cosine(step / steps)))
        if config.losses.get("adversarial"):
            self._add_discriminator()
        if config.progressive:
            first, last = config.progressive
            offsets = config.shape.layers - 1
            gap = (last - first) / max(offsets - 1, 1)
            self.stage_starts = [round(steps * (first + gap * i)) for i in range(offsets)]

    def _add_discriminator(self) -> None:
        width, seed = self.config.shape.w_dim, stream(self.config.seed, "latent discriminator").initial_seed()
        self.D = self.add_module("D", LatentDiscriminator(width, seed=seed))
        self.pools = [self.add_module(f"pool_{kind}", CodePool(width)) for kind in ("w", "encoder")]
        self.add_loss("discriminator")
        self.add_loss("r1", every=R1_INTERVAL)
        self.add_player("D", torch.optim.Adam(self.D.parameters(), lr=self.config.discriminator_learning_rate))

    def _step(self, batch: Float[Tensor, "n 3 r r"]) -> dict[str, Tensor]:
        """One update on images in [-1, 1] (for ReStyle, one after each pass); returns what to log."""
        images = batch.contiguous(memory_format=torch.channels_last)
        stage = self.stage if self.config.progressive else None
        with torch.no_grad(), self.fabric.autocast():
            seen = self.perceptual.features(images), self.identity.features(images)
        logged: dict[str, Tensor] = {}
        passes = self._passes(images, stage)
        for _ in range(self.config.refinements):
            with self.fabric.autocast():
                codes, made = next(passes)
                losses = self._distortion(made, images, seen)
            codes = codes.float()
            if self._wanted("delta"):
                losses["delta"] = delta_regularization(codes, stage=stage).mean()
            if self._wanted("sncd"):
                active = None if stage is None else stage + 1
                losses["sncd"] = sncd_of_codes(codes, self.G, self.anchors, layers=active, reduction="sum").mean()
            if self._wanted("alignment"):
                losses["alignment"] = alignment(self.pair, images, codes[:, 0], self.fabric)
            if self._wanted("adversarial"):
                logged |= self._step_discriminator(codes.detach(), stage)
                self.D.requires_grad_(False)
                losses["adversarial"] = adversarial_loss(self.D, codes, stage=stage).mean()
            logged |= self.update("E", losses)
        return logged | {"variation": code_variation(codes.detach()).mean()}

    def _wanted(self, loss: str) -> bool:
        return loss in self.losses and self.due(loss)

    def _passes(self, images: Tensor, stage: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Codes and the pictures generated from them, once, or after each pass of ReStyle."""
        draw = self.stream("noise")

        def synthesize(codes: Tensor) -> Tensor:
            return self.G.synthesis(codes, noise="random", generator=draw)

        if self.config.encoder == "restyle":
            yield from refine(self.E, images, synthesize, steps=self.config.refinements)
        else:
            codes = self.E(images) if stage is None else self.E(images, stage)
            yield codes, synthesize(codes)

    def _distortion(self, made: Tensor, images: Tensor, seen: tuple) -> dict[str, Tensor]:
        """The terms of e4e's Eq. 5 that have a weight, each a mean over images; ``seen``: features of the images."""
        terms = {
            "l2": lambda: F.mse_loss(made, images),
            "perceptual": lambda: self.perceptual.between(self.perceptual.features(made), seen[0]).mean(),
            "identity": lambda: self.identity.between(self.identity.features(made), seen[1]).mean(),
        }
        return {name: term().float() for name, term in terms.items() if self._wanted(name)}

    def _step_discriminator(self, codes: Float[Tensor, "n layers dim"], stage: int | None) -> dict[str, Tensor]:
        """An update of the latent discriminator on codes of W and of the encoder, and R1 where it is due."""
        self.D.requires_grad_(True)
        names = ("z", "shown", "pool w", "pool encoder")
        # on the CPU, where the pools draw as well, so that a run does not depend on the device
        seeds = (self.config.seed, self.step_index, self.fabric.global_rank)
        z, shown, *pools = (stream(seeds[0], f"{name} of the discriminator", *seeds[1:]) for name in names)
        with torch.no_grad():
            w = self.G.mapping(torch.randn(len(codes), self.G.z_dim, generator=z).to(codes))
            fake = shown_codes(codes, shown, stage=stage, variant=self.config.variant)
            real, fake = (pool.query(c, draw) for pool, c, draw in zip(self.pools, (w, fake), pools, strict=True))
            logits = {"logit_w": self.D(real).mean(), "logit_encoder": self.D(fake).mean()}
        logged = self.update("D", {"discriminator": discriminator_loss(self.D, real, fake)})
        if self.due("r1"):
            # Eq. 2, last term; that it counts more because it is rarely computed is the business of ``add_loss``
            logged |= self.update("D", {"r1": r1_penalty(self.D, real, gamma=R1_GAMMA, interval=1).mean()})
        return logged | logits

    def draw_samples(self) -> Image.Image:
        """Twelve faces that no training sees, clean and strange, and their reconstructions below them."""
        device = self.fabric.device
        faces = training_factors(12, self.config.seed, start=10**8)
        images = render(faces, self.G.resolution, details=training_details(12, self.config.seed, 10**8, share=0.5))
        images = images.to(device, memory_format=torch.channels_last)
        self.E.eval()
        passes = list(self._passes(images, self.stage if self.config.progressive else None))
        self.E.train()
        return tile(torch.cat([images, passes[-1][1]]), columns=12, scale=2)


def flat_then_cosine(share: float) -> float:
    """The factor of the learning rate after a share of the run: 1 in the first half, then half a cosine down to 0."""
    return 1.0 if share <= 0.5 else 0.5 + 0.5 * math.cos(math.pi * (min(share, 1.0) - 0.5) / 0.5)


def training_pictures(config: Any, resolution: int):
    """The endless sequence of rendered faces that an encoder or a refiner is trained on, as ``train`` wants it.

    config: settings with ``strange`` and ``seed``.
    """

    def faces(start: int, n: int, device: torch.device) -> Tensor:
        wear = training_details(n, config.seed, start, share=config.strange)
        return render(training_factors(n, config.seed, start), resolution, details=wear).to(device)

    return faces
