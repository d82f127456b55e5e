"""Adversarial training of StyleGAN2 (Karras et al. 2020, arXiv 1912.04958): its losses and one step.

Non-saturating logistic loss, lazy R1, style mixing, an exponential moving average of the generator and,
where asked for, path-length regularization. One batch of fakes serves both players of a step: the
discriminator sees it detached, then the generator is updated through the discriminator just trained,
which saves a generator pass and changes neither loss.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from latentlab.images import tile
from latentlab.seeds import stream
from latentlab.spaces import Moments
from latentlab.stylegan.discriminator import Discriminator, DiscriminatorConfig
from latentlab.stylegan.generator import Generator, GeneratorConfig
from latentlab.training.loop import Training, train


@dataclass(frozen=True)
class TrainingConfig:
    """The settings of a generator's training.

    mapping_learning_rate: the learning rate of the mapping network relative to ``learning_rate``. The 0.01 of
        StyleGAN (its layers' ``lr_multiplier``) comes on top; it is made for 25 million images.
    path_length_weight: 2 in the paper; 0 leaves the term out.
    learn_mapping: without it a fine-tuned generator keeps the W of the one it came from.
    ema_half_life: in images.
    """

    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    batch_size: int = 32  # of all processes together, so that a run does not depend on their number
    learning_rate: float = 0.002
    r1_gamma: float = 0.5
    r1_interval: int = 16
    path_length_weight: float = 0.0
    path_length_interval: int = 4
    style_mixing: float = 0.9
    ema_half_life: float = 10_000.0
    learn_mapping: bool = True
    mapping_learning_rate: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.generator.mapping_layers < 1:
            raise ValueError(f"mapping_layers: expected at least 1, got {self.generator.mapping_layers}")
        if not 0 < self.mapping_learning_rate < math.inf:
            raise ValueError(
                "mapping_learning_rate: expected a positive finite factor, got "
                f"{self.mapping_learning_rate}; learn_mapping=False keeps the mapping as it is"
            )
        if not self.learn_mapping and self.mapping_learning_rate != 1:
            raise ValueError(
                f"mapping_learning_rate: expected 1 where the mapping is not trained, got {self.mapping_learning_rate}"
            )


# Few images call for small batches: 8 gives four times the updates of the papers' 32 for the same work.
PRESETS = {
    "faces-64": TrainingConfig(GeneratorConfig(mapping_layers=2), batch_size=8, path_length_weight=2.0),
    "faces-64-sketch": TrainingConfig(GeneratorConfig(mapping_layers=2), batch_size=8, learn_mapping=False, seed=64),
    "tiny-16": TrainingConfig(GeneratorConfig(16, 16, 16, 2, (16, 16, 8)), batch_size=4, ema_half_life=100.0),
}

Faces = Callable[[int, int, torch.device], Float[Tensor, "n 3 r r"]]


class GeneratorTraining(Training):
    """The players of a generator's training and one step of it; see ``Training``."""

    also_logged = ("logit_real", "logit_fake")

    def __init__(self, config: TrainingConfig, fabric) -> None:
        super().__init__(config, fabric)
        judged = DiscriminatorConfig(config.generator.resolution, config.generator.channels)
        seeds = [stream(config.seed, f"weights of {name}").initial_seed() for name in "GD"]
        self.G = self.add_module("G", Generator(config.generator, seed=seeds[0]))
        self.G.mapping.requires_grad_(config.learn_mapping)
        self.D = self.add_module("D", Discriminator(judged, seed=seeds[1]))
        self.G_ema = self.add_module("G_ema", copy.deepcopy(self.G).requires_grad_(False).eval())
        self.add_loss("loss_d")
        self.add_loss("loss_g")
        # R1 (Mescheder et al. 2018, Eq. 9): gamma / 2 E|grad D(x)|^2
        self.add_loss("r1", config.r1_gamma / 2, every=config.r1_interval)
        self.add_loss("path_length", config.path_length_weight, every=config.path_length_interval)
        lazy = config.path_length_interval if config.path_length_weight else 0
        self.add_player("G", _adam(_parameter_groups(self.G, config.mapping_learning_rate), config, lazy))
        self.add_player("D", _adam([{"params": list(self.D.parameters())}], config, config.r1_interval))
        self.path_length_mean = torch.zeros((), device=fabric.device)

    def _step(self, batch: Float[Tensor, "n 3 r r"]) -> dict[str, Tensor]:
        """One update of both players on real images in [-1, 1]; returns what to log."""
        draw = self.stream("latents")
        fake = self._generate(len(batch), draw)
        logged = self._step_discriminator(batch, fake.detach())
        if self.due("r1"):
            logged["r1"] = self._step_r1(batch)
        logged |= self._step_generator(fake)
        if self.due("path_length"):
            logged["path_length"] = self._step_path_length(max(len(batch) // 2, 1), draw)
        self._update_ema(self.images + self.config.batch_size)
        return logged

    def _latents(self, n: int, draw: torch.Generator) -> Float[Tensor, "n layers dim"]:
        """Codes of n images: style mixing (StyleGAN, 3.1) takes the later layers from a second code."""
        G, device = self.G, self.fabric.device
        z = torch.randn(2, n, G.z_dim, generator=draw, device=device)
        w, w_mixed = G.mapping(z.flatten(0, 1)).view(2, n, -1)
        with torch.no_grad():
            G.w_avg.lerp_(self.mean_over_processes(w.mean(0)), 0.005)
        crossover = torch.randint(1, G.num_ws, (n, 1), generator=draw, device=device)
        mixes = torch.rand(n, 1, generator=draw, device=device) < self.config.style_mixing
        later = (torch.arange(G.num_ws, device=device) >= crossover) & mixes
        return torch.where(later[..., None], G.broadcast(w_mixed), G.broadcast(w))

    def _generate(self, n: int, draw: torch.Generator) -> Tensor:
        w_plus = self._latents(n, draw)
        with self.fabric.autocast():
            return self.G.synthesis(w_plus, noise="random", generator=draw)

    def _logits(self, images: Tensor) -> Tensor:
        with self.fabric.autocast():
            return self.D(images.contiguous(memory_format=torch.channels_last)).float()

    def _step_discriminator(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        self.D.requires_grad_(True)
        logits_fake, logits_real = self._logits(fake), self._logits(real)
        # Logistic loss (Goodfellow et al. 2014): softplus(D(G(z))) + softplus(-D(x))
        logged = self.update("D", {"loss_d": F.softplus(logits_fake).mean() + F.softplus(-logits_real).mean()})
        return logged | {"logit_real": logits_real.detach().mean(), "logit_fake": logits_fake.detach().mean()}

    def _step_r1(self, real: Tensor) -> Tensor:
        real = real.detach().requires_grad_(True)
        logits = self._logits(real)
        (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
        # R1 (Mescheder et al. 2018, Eq. 9) without its weight gamma / 2: E|grad D(x)|^2
        return self.update("D", {"r1": gradient.square().sum((1, 2, 3)).mean()})["r1"]

    def _step_generator(self, fake: Tensor) -> dict[str, Tensor]:
        self.D.requires_grad_(False)
        # Non-saturating loss: softplus(-D(G(z)))
        return self.update("G", {"loss_g": F.softplus(-self._logits(fake)).mean()})

    def _step_path_length(self, n: int, draw: torch.Generator) -> Tensor:
        """Updates the generator; returns the mean path length, which says more than the penalty."""
        w_plus = self._latents(n, draw).requires_grad_()
        with self.fabric.autocast():
            images = self.G.synthesis(w_plus, noise="random", generator=draw).float()
        y = torch.randn(images.shape, generator=draw, device=images.device) / images[0, 0].numel() ** 0.5
        (jacobian_y,) = torch.autograd.grad((images * y).sum(), w_plus, create_graph=True)
        lengths = jacobian_y.square().sum(2).mean(1).sqrt()
        mean = self.mean_over_processes(lengths.detach().mean())
        self.path_length_mean = self.path_length_mean.lerp(mean, 0.01)
        # StyleGAN2 Eq. 4: (|J_w^T y| - a)^2 with a the running mean of the lengths
        self.update("G", {"path_length": (lengths - self.path_length_mean).square().mean()})
        return mean

    @torch.no_grad()
    def _update_ema(self, images: int) -> None:
        # Half-life in images, shorter at first (5 % of those seen) so that it forgets the random start.
        half_life = min(self.config.ema_half_life, 0.05 * images)
        beta = 0.5 ** (self.config.batch_size / max(half_life, 1e-8))
        torch._foreach_lerp_(list(self.G_ema.parameters()), list(self.G.parameters()), 1 - beta)
        for ema, live in zip(self.G_ema.buffers(), self.G.buffers(), strict=True):
            ema.copy_(live)

    def draw_samples(self) -> Image.Image:
        """36 fixed codes through the moving average, without truncation."""
        G = self.G_ema
        z = torch.randn(36, G.z_dim, generator=stream(self.config.seed, "sample grid")).to(self.fabric.device)
        with self.fabric.autocast():
            images = G.synthesis(G.broadcast(G.mapping(z)), noise="const")
        return tile(images, columns=6, scale=2)

    def start_from(self, weights: dict[str, Tensor]) -> None:
        """Takes over the players of another run ("G.*", "D.*"); optimizers and counters start anew."""
        for name in ("G", "D"):
            own = {k.removeprefix(f"{name}."): v for k, v in weights.items() if k.startswith(f"{name}.")}
            self.modules[name].load_state_dict(own)
        self.G_ema.load_state_dict(self.G.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """That of ``Training``; ``progress`` holds the running mean of the path length as well."""
        return super().state_dict() | {"progress": (self.step_index, self.images, float(self.path_length_mean))}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where ``state`` stands; a run with other settings raises ``ValueError`` that names them.

        Settings that an older checkpoint does not know had the values that are the defaults now.
        """
        *progress, path_length_mean = state["progress"]
        config = asdict(TrainingConfig()) | state["config"]
        super().load_state_dict(state | {"progress": progress, "config": config})
        self.path_length_mean.fill_(path_length_mean)


def _parameter_groups(G: Generator, mapping_learning_rate: float) -> list[dict[str, Any]]:
    """The mapping network apart from the rest where it learns at another rate."""
    if mapping_learning_rate == 1:
        return [{"params": list(G.parameters())}]
    others = [p for name, p in G.named_parameters() if not name.startswith("mapping.")]
    return [{"params": list(G.mapping.parameters()), "relative": mapping_learning_rate}, {"params": others}]


def _adam(groups: list[dict[str, Any]], config: TrainingConfig, interval: int) -> torch.optim.Adam:
    # Lazy regularization (StyleGAN2, appendix B): c = k / (k + 1) scales lr and the betas' exponents.
    c = interval / (interval + 1) if interval else 1.0
    lr, betas = config.learning_rate * c, (0.0, 0.99**c)
    groups = [{"params": group["params"], "lr": lr * group.get("relative", 1.0)} for group in groups]
    return torch.optim.Adam(groups, lr=lr, betas=betas, eps=1e-8, fused=True)


@torch.no_grad()
def replace_mapping(G: Generator, layers: int, seed: int, *, n: int = 200_000) -> Generator:
    """A generator with the synthesis of ``G`` behind a new, untrained mapping network of ``layers`` layers.

    Synthesis reads w through affine layers only, so a linear map of w can be hidden in them. Here it is the map
    w -> T w + c that gives the new codes the mean and the covariance that those of ``G`` have, measured on ``n``
    codes. That nearly keeps the pictures, since a normal with W's mean and covariance draws nearly the same faces
    as W does; so training goes on with the synthesis and discriminator it has instead of from nothing.

    Of all such maps, which differ by a rotation Q, it is the one whose T w + c comes nearest to the w that ``G``
    has for the same z (orthogonal Procrustes, Schoenemann 1966). ``G`` is left as it is.
    """
    heir = Generator(replace(G.config, mapping_layers=layers), seed=stream(seed, "weights of a mapping").initial_seed())
    heir = heir.to(G.w_avg.device)
    d, draw = G.w_dim, stream(seed, "codes for the moments of a mapping")
    moments = Moments(torch.zeros(2 * d, device=G.w_avg.device))
    for size in [min(10_000, n - start) for start in range(0, n, 10_000)]:
        z = torch.randn(size, G.z_dim, generator=draw).to(G.w_avg.device)
        moments.add(torch.cat([heir.mapping(z), G.mapping(z)], 1))
    mean, covariance = moments.result()
    new, old, across = covariance[:d, :d], covariance[d:, d:], covariance[d:, :d]
    # Q maximizes the trace of Q^T old^(1/2) across new^(-1/2), the covariance of the two codes
    U, _, Vt = torch.linalg.svd(_power(old, 0.5) @ across @ _power(new, -0.5))
    T = _power(old, 0.5) @ (U @ Vt) @ _power(new, -0.5)  # T new T^T = old
    c = mean[d:] - T @ mean[:d]
    state = {k: v for k, v in G.state_dict().items() if not k.startswith("mapping.")}
    for layer in G.style_layers:
        affine, name = G.get_submodule(layer.name).affine, f"{layer.name}.affine"
        weight = affine.weight.double().cpu()
        # gain W (T w + c) + m b = gain (W T) w + m (b + gain / m W c)
        state[f"{name}.weight"] = weight @ T
        state[f"{name}.bias"] = affine.bias.double().cpu() + affine.weight_gain / affine.bias_gain * (weight @ c)
    heir.load_state_dict(heir.state_dict() | state | {"w_avg": mean[:d]})
    return heir


def _power(symmetric: Tensor, exponent: float) -> Tensor:
    eigenvalues, vectors = torch.linalg.eigh(symmetric)
    return vectors * eigenvalues.clamp(min=1e-12 * eigenvalues.max()) ** exponent @ vectors.T


def train_generator(
    config: TrainingConfig,
    faces: Faces,
    out: str | Path,
    *,
    images: int,
    fabric,
    resume: bool = False,
    initial: dict[str, Tensor] | None = None,
    checkpoint_minutes: float = 5.0,
    samples_every: int = 20_000,
    log_every: int = 1_000,
    callback: Callable[[GeneratorTraining], None] | None = None,
) -> GeneratorTraining:
    """Trains a generator until it has seen ``images`` real images; see ``train`` for what it writes.

    faces: ``faces(start, n, device)`` gives the real images start to start + n - 1 of an endless row,
        (n, 3, R, R) in [-1, 1].
    initial: weights to fine-tune from, "G.*" and "D.*".

    The samples are 36 fixed codes through the moving average, truncation 1. In the log, r1 is |grad D|^2 without
    gamma / 2, and path_length the mean length rather than the penalty.
    """
    training = GeneratorTraining(config, fabric)
    if initial is not None and not resume:
        training.start_from(initial)
    train(
        training,
        faces,
        out,
        images=images,
        resume=resume,
        checkpoint_minutes=checkpoint_minutes,
        samples_every=samples_every,
        log_every=log_every,
        callback=callback,
    )
    return training
