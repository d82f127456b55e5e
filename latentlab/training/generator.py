"""Adversarial training of StyleGAN2 (Karras et al. 2020, arXiv 1912.04958): losses, one step, the loop.

Non-saturating logistic loss, lazy R1, style mixing, an exponential moving average of the generator and,
where asked for, path-length regularisation. One batch of fakes serves both players of a step: the
discriminator sees it detached, then the generator is updated through the discriminator just trained,
which saves a generator pass and changes neither loss.
"""

import copy
import csv
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from latentlab.checkpoints import deferred_interrupt, load_checkpoint, save_checkpoint
from latentlab.images import tile
from latentlab.seeds import stream
from latentlab.stylegan.discriminator import Discriminator, DiscriminatorConfig
from latentlab.stylegan.generator import Generator, GeneratorConfig


@dataclass(frozen=True)
class TrainingConfig:
    """What defines a training run; the number of images may grow when a run is resumed."""

    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    batch_size: int = 32  # of all processes together, so that a run does not depend on their number
    learning_rate: float = 0.002
    r1_gamma: float = 0.5
    r1_interval: int = 16
    path_length_weight: float = 0.0
    path_length_interval: int = 4
    style_mixing: float = 0.9
    ema_half_life: float = 10_000.0  # images
    learn_mapping: bool = True  # where it is not, a fine-tuned generator keeps the W of the one it came from
    seed: int = 0


# Few images call for small batches: 8 gives four times the updates of the papers' 32 for the same work.
PRESETS = {
    "faces-64": TrainingConfig(batch_size=8),
    "faces-64-sketch": TrainingConfig(batch_size=8, learn_mapping=False, seed=64),
    "tiny-16": TrainingConfig(GeneratorConfig(16, 16, 16, 2, (16, 16, 8)), batch_size=4, ema_half_life=100.0),
}

Faces = Callable[[int, int, torch.device], Float[Tensor, "n 3 r r"]]


class GeneratorTraining:
    """The players, their optimisers and one training step. Random streams are named by the step, so
    nothing but what ``state_dict`` holds is needed to go on bit for bit."""

    def __init__(self, config: TrainingConfig, fabric) -> None:
        self.config, self.fabric = config, fabric
        self.share, rest = divmod(config.batch_size, fabric.world_size)  # of a batch, for each process
        if rest:
            raise ValueError(f"{fabric.world_size} processes cannot share a batch of {config.batch_size} evenly")
        judged = DiscriminatorConfig(config.generator.resolution, config.generator.channels)
        seeds = [stream(config.seed, f"weights of {name}").initial_seed() for name in "GD"]
        self.G = Generator(config.generator, seed=seeds[0]).to(fabric.device, memory_format=torch.channels_last)
        self.G.mapping.requires_grad_(config.learn_mapping)
        self.D = Discriminator(judged, seed=seeds[1]).to(fabric.device, memory_format=torch.channels_last)
        self.G_ema = copy.deepcopy(self.G).requires_grad_(False).eval()
        self.optimizer_G = _adam(self.G, config, config.path_length_interval if config.path_length_weight else 0)
        self.optimizer_D = _adam(self.D, config, config.r1_interval)
        self.step_index = 0
        self.images = 0
        self.path_length_mean = torch.zeros((), device=fabric.device)

    def step(self, real: Float[Tensor, "n 3 r r"]) -> dict[str, Tensor]:
        """One update of both players on a batch of real images in [-1, 1]; returns what to log."""
        config = self.config
        draw = stream(config.seed, "latents", self.step_index, self.fabric.global_rank, device=self.fabric.device)
        fake = self._generate(real.shape[0], draw)
        logged = self._step_discriminator(real, fake.detach())
        if self.step_index % config.r1_interval == 0:
            logged["r1"] = self._step_r1(real)
        logged["loss_g"] = self._step_generator(fake)
        if config.path_length_weight and self.step_index % config.path_length_interval == 0:
            logged["path_length"] = self._step_path_length(max(real.shape[0] // 2, 1), draw)
        self.step_index += 1
        self.images += real.shape[0] * self.fabric.world_size
        self._update_ema(real.shape[0] * self.fabric.world_size)
        return logged

    def _latents(self, n: int, draw: torch.Generator) -> Float[Tensor, "n layers dim"]:
        """Codes of n images: style mixing (StyleGAN, 3.1) takes the later layers from a second code."""
        G, device = self.G, self.fabric.device
        z = torch.randn(2, n, G.z_dim, generator=draw, device=device)
        w, w_mixed = G.mapping(z.flatten(0, 1)).view(2, n, -1)
        with torch.no_grad():
            G.w_avg.lerp_(self._mean_over_ranks(w.mean(0)), 0.005)
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
        loss = F.softplus(logits_fake).mean() + F.softplus(-logits_real).mean()
        self._update(self.optimizer_D, self.D, loss)
        return {
            "loss_d": loss.detach(),
            "logit_real": logits_real.detach().mean(),
            "logit_fake": logits_fake.detach().mean(),
        }

    def _step_r1(self, real: Tensor) -> Tensor:
        real = real.detach().requires_grad_(True)
        logits = self._logits(real)
        (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
        # R1 (Mescheder et al. 2018, Eq. 9): gamma / 2 |grad D(x)|^2, lazily: times the interval
        penalty = gradient.square().sum((1, 2, 3)).mean()
        self._update(self.optimizer_D, self.D, penalty * (self.config.r1_gamma / 2 * self.config.r1_interval))
        return penalty.detach()

    def _step_generator(self, fake: Tensor) -> Tensor:
        self.D.requires_grad_(False)
        # Non-saturating loss: softplus(-D(G(z)))
        loss = F.softplus(-self._logits(fake)).mean()
        self._update(self.optimizer_G, self.G, loss)
        return loss.detach()

    def _step_path_length(self, n: int, draw: torch.Generator) -> Tensor:
        w_plus = self._latents(n, draw).requires_grad_()
        with self.fabric.autocast():
            images = self.G.synthesis(w_plus, noise="random", generator=draw).float()
        y = torch.randn(images.shape, generator=draw, device=images.device) / images[0, 0].numel() ** 0.5
        (jacobian_y,) = torch.autograd.grad((images * y).sum(), w_plus, create_graph=True)
        lengths = jacobian_y.square().sum(2).mean(1).sqrt()
        mean = self._mean_over_ranks(lengths.detach().mean())
        self.path_length_mean = self.path_length_mean.lerp(mean, 0.01)
        # StyleGAN2 Eq. 4: (|J_w^T y| - a)^2 with a the running mean of the lengths
        penalty = (lengths - self.path_length_mean).square().mean()
        weight = self.config.path_length_weight * self.config.path_length_interval
        self._update(self.optimizer_G, self.G, penalty * weight)
        return mean

    def _update(self, optimizer: torch.optim.Optimizer, module: torch.nn.Module, loss: Tensor) -> None:
        """Backward, averaged over processes, and a step. Gradients are averaged by hand because the
        wrappers of data parallelism do not follow the double backward of R1 and path length."""
        optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        if self.fabric.world_size > 1:
            flat = self._mean_over_ranks(torch.cat([g.flatten() for g in gradients]))
            for g, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
                g.copy_(mean.view_as(g))
        optimizer.step()

    def _mean_over_ranks(self, value: Tensor) -> Tensor:
        return value if self.fabric.world_size == 1 else self.fabric.all_reduce(value, reduce_op="mean")

    def any_process(self, flag: bool) -> bool:
        """Whether the flag is set in any process: all of them must stop at the same step."""
        return bool(self._mean_over_ranks(torch.tensor(float(flag), device=self.fabric.device)) > 0)

    @torch.no_grad()
    def _update_ema(self, batch: int) -> None:
        # Half-life in images, shorter at first (5 % of those seen) so that it forgets the random start.
        half_life = min(self.config.ema_half_life, 0.05 * self.images)
        beta = 0.5 ** (batch / max(half_life, 1e-8))
        torch._foreach_lerp_(list(self.G_ema.parameters()), list(self.G.parameters()), 1 - beta)
        for ema, live in zip(self.G_ema.buffers(), self.G.buffers(), strict=True):
            ema.copy_(live)

    def start_from(self, weights: dict[str, Tensor]) -> None:
        """Takes over the players of another run ("G.*", "D.*"); optimisers and counters start anew."""
        for name in ("G", "D"):
            own = {k.removeprefix(f"{name}."): v for k, v in weights.items() if k.startswith(f"{name}.")}
            getattr(self, name).load_state_dict(own)
        self.G_ema.load_state_dict(self.G.state_dict())

    _SAVED = ("G", "D", "G_ema", "optimizer_G", "optimizer_D")

    def state_dict(self) -> dict:
        state = {name: getattr(self, name).state_dict() for name in self._SAVED}
        state["progress"] = (self.step_index, self.images, float(self.path_length_mean))
        state["config"] = asdict(self.config)
        return state

    def load_state_dict(self, state: dict) -> None:
        """Goes on where ``state`` stands; a run of another configuration raises ``ValueError``."""
        mine = asdict(self.config)
        differing = [k for k in mine if _plain(mine[k]) != _plain(state["config"].get(k))]
        if differing:
            raise ValueError(f"the checkpoint belongs to another run: {', '.join(differing)} differ")
        for name in self._SAVED:
            getattr(self, name).load_state_dict(state[name])
        self.step_index, self.images, path_length_mean = state["progress"]
        self.path_length_mean.fill_(path_length_mean)


def _plain(value):
    return json.loads(json.dumps(value))


def _adam(module: torch.nn.Module, config: TrainingConfig, interval: int) -> torch.optim.Adam:
    # Lazy regularisation (StyleGAN2, appendix B): c = k / (k + 1) scales lr and the betas' exponents.
    c = interval / (interval + 1) if interval else 1.0
    lr, betas = config.learning_rate * c, (0.0, 0.99**c)
    return torch.optim.Adam(module.parameters(), lr=lr, betas=betas, eps=1e-8, fused=True)


def train_generator(
    config: TrainingConfig,
    faces: Faces,
    out: str | Path,
    *,
    images: int,
    fabric,
    resume: bool = False,
    initial: dict[str, Tensor] | None = None,
    checkpoint_every: int = 20_000,
    samples_every: int = 20_000,
    log_every: int = 1_000,
    callback: Callable[[GeneratorTraining], None] | None = None,
) -> GeneratorTraining:
    """Trains a generator until it has seen ``images`` real images.

    faces: ``faces(start, n, device)`` gives the real images start to start + n - 1 of an endless row,
        (n, 3, R, R) in [-1, 1].
    out: receives ``checkpoint.pt`` (atomic), ``log.csv`` and grids ``samples_*.png`` of
        36 fixed codes through the moving average, truncation 1.
    fabric: a Lightning ``Fabric`` (device, precision, number of processes, which share every batch).
    resume: go on from ``out/checkpoint.pt``, bit for bit as if never interrupted.
    initial: weights to fine-tune from, "G.*" and "D.*", as shipped in ``*.training.safetensors``.

    Ctrl-C finishes the step, writes a checkpoint and returns what there is.
    """
    out, checkpoint = Path(out), Path(out) / "checkpoint.pt"
    out.mkdir(parents=True, exist_ok=True)
    training = _begin(config, fabric, checkpoint, resume, initial)
    log = _Log(out / "log.csv", training.images, active=fabric.is_global_zero)
    bar = tqdm(total=images, initial=training.images, unit="img", unit_scale=True, disable=not fabric.is_global_zero)
    with deferred_interrupt() as interrupted, bar, log:
        stop = False
        if training.images >= images:
            bar.write(f"{training.images} images were seen already, {images} are asked for: nothing to do")
        while training.images < images and not stop:
            before = training.images
            start = before + fabric.global_rank * training.share
            log.add(training.step(faces(start, training.share, fabric.device)))
            if callback is not None:
                callback(training)
            bar.update(training.images - before)
            stop = training.any_process(interrupted.is_set())
            last = training.images >= images or stop
            every = (log_every, samples_every, checkpoint_every)
            _write(training, out, [last or training.images // e > before // e for e in every], log, bar)
        if stop:
            bar.write(f"interrupted at {training.images} images; {checkpoint} stands there too")
    return training


def _begin(
    config: TrainingConfig, fabric, checkpoint: Path, resume: bool, initial: dict[str, Tensor] | None
) -> GeneratorTraining:
    """A fresh run, one from given weights, or one that goes on; never one over another."""
    training = GeneratorTraining(config, fabric)
    if initial is not None:
        training.start_from(initial)
    if resume:
        training.load_state_dict(load_checkpoint(checkpoint))
    elif checkpoint.exists():
        raise FileExistsError(f"{checkpoint} exists: resume that run, or name another folder")
    return training


def _write(training: GeneratorTraining, out: Path, due: Sequence[bool], log: "_Log", bar: tqdm) -> None:
    """Log, samples and checkpoint, each where it is due; only the first process writes."""
    if due[0]:
        bar.set_postfix(log.write(training))
    if due[1] and training.fabric.is_global_zero:
        _write_samples(training, out / f"samples_{training.images:09d}.png")
    if due[2] and training.fabric.is_global_zero:
        save_checkpoint(training.state_dict(), out / "checkpoint.pt")


def _write_samples(training: GeneratorTraining, path: Path) -> None:
    G = training.G_ema
    z = torch.randn(36, G.z_dim, generator=stream(training.config.seed, "sample grid")).to(training.fabric.device)
    with torch.no_grad(), training.fabric.autocast():
        images = G.synthesis(G.broadcast(G.mapping(z)), noise="const")
    tile(images, columns=6, scale=2).save(path)


class _Log:
    """A row of means in a CSV for every so many images; r1 is |grad D|^2 without gamma / 2."""

    FIELDS = ("images", "seconds", "images_per_second", "loss_d", "loss_g", "logit_real", "logit_fake", "r1",
              "path_length")  # fmt: skip

    def __init__(self, path: Path, images: int, active: bool) -> None:
        self.values: dict[str, list[Tensor]] = {}
        self.images, self.since, self.file = images, time.perf_counter(), None
        if active:
            fresh = not path.exists() or not images
            self.file = open(path, "w" if fresh else "a", newline="")
            self.writer = csv.DictWriter(self.file, self.FIELDS)
            if fresh:
                self.writer.writeheader()

    def add(self, logged: dict[str, Tensor]) -> None:
        for name, value in logged.items():
            self.values.setdefault(name, []).append(value)

    def write(self, training: GeneratorTraining) -> dict[str, str]:
        seconds = time.perf_counter() - self.since
        row = {name: float(torch.stack(values).mean()) for name, values in self.values.items()}
        row |= {"images": training.images, "seconds": seconds}
        row["images_per_second"] = (training.images - self.images) / seconds
        if self.file is not None:
            self.writer.writerow({k: v if k == "images" else f"{v:.5g}" for k, v in row.items()})
            self.file.flush()
        self.values, self.images, self.since = {}, training.images, time.perf_counter()
        return {k: f"{row[k]:.2f}" for k in ("loss_d", "loss_g") if k in row}

    def __enter__(self) -> "_Log":
        return self

    def __exit__(self, *exception: object) -> None:
        if self.file is not None:
            self.file.close()
