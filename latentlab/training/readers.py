"""Training of the networks that read faces: one recipe for those of the losses and those of the judges."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from latentlab.faces import Factors, render, training_factors, training_states
from latentlab.networks.augmentation import augment
from latentlab.seeds import stream
from latentlab.training.loop import Data, Training, train


@dataclass(frozen=True)
class ReaderConfig:
    """The settings of a reader's training. ``images`` is one of them: the learning rate's schedule ends with it."""

    images: int
    batch_size: int
    learning_rate: float
    seed: int


class ReaderTraining(Training):
    """A network, and what its loss learns besides, on batches of (rendered faces, what they show).

    AdamW with a one-cycle schedule. The pictures are blurred, noised and recoloured at random, since the
    generator's are never as crisp as a render.
    """

    def __init__(
        self,
        config: ReaderConfig,
        network: nn.Module,
        loss: Callable[[Tensor, object], Tensor],
        fabric,
        head: nn.Module | None = None,
    ) -> None:
        super().__init__(config, fabric)
        self.network, self.loss = self.add_module("network", network).train(), loss
        if head is not None:
            self.add_module("head", head).train()
        weights = [weight for module in self.modules.values() for weight in module.parameters()]
        optimizer = torch.optim.AdamW(weights, lr=config.learning_rate, weight_decay=1e-4)
        steps = config.images // config.batch_size
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=steps)
        self.add_player("reader", optimizer, schedule=schedule)
        self.add_loss("loss")

    def _step(self, batch: tuple[Tensor, object]) -> dict[str, Tensor]:
        images, shown = batch
        with self.fabric.autocast():
            outputs = self.network(augment(images, self.stream("augmentation"))).float()
        return self.update("reader", {"loss": self.loss(outputs, shown)})


def fit_factors(
    network: nn.Module,
    out: str | Path,
    *,
    images: int = 300_000,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    seed: int = 0,
    fabric,
    resume: bool = False,
) -> nn.Module:
    """Trains ``network`` to read every factor of rendered faces, each face seen once; see ``train``.

    Squared error on standardised factors, cross-entropy on binary ones.
    """
    network = _standardise(network, seed)

    def faces(start: int, n: int, device: torch.device) -> tuple[Tensor, Factors]:
        factors = training_factors(n, seed, start).to(device)
        return render(factors), factors

    def loss(values: Tensor, factors: Factors) -> Tensor:
        return factor_loss(network, values, factors).mean()

    return _fit(ReaderConfig(images, batch_size, learning_rate, seed), network, loss, faces, out, fabric, resume)


def fit_identity(
    network: nn.Module,
    head: nn.Module,
    out: str | Path,
    *,
    images: int = 300_000,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    seed: int = 0,
    fabric,
    resume: bool = False,
) -> nn.Module:
    """Trains ``network`` to tell ``head.num_classes`` people apart, whatever their state and scene; see ``train``.

    ``head`` is the margin loss over embeddings (N, D) and labels (N,), with a class centre for each person: it is
    training state and is not needed afterwards.
    """
    people = training_factors(head.num_classes, seed)

    def faces(start: int, n: int, device: torch.device) -> tuple[Tensor, Tensor]:
        who = torch.randint(len(people), (n,), generator=stream(seed, "people", start))
        return render(training_states(people[who], seed, len(people) + start).to(device)), who.to(device)

    config = ReaderConfig(images, batch_size, learning_rate, seed)
    return _fit(config, network, head, faces, out, fabric, resume, head)


def _fit(
    config: ReaderConfig,
    network: nn.Module,
    loss: Callable[[Tensor, object], Tensor],
    faces: Data,
    out: str | Path,
    fabric,
    resume: bool,
    head: nn.Module | None = None,
) -> nn.Module:
    if config.images < config.batch_size:
        raise ValueError(f"images: expected at least a batch of {config.batch_size}, got {config.images}")
    training = ReaderTraining(config, network, loss, fabric, head)
    whole_batches = config.images // config.batch_size * config.batch_size
    train(training, faces, out, images=whole_batches, resume=resume)
    return network.eval()


def _standardise(network: nn.Module, seed: int) -> nn.Module:
    """Enters mean and standard deviation of every continuous factor; binary ones are left as they are."""
    reference = training_factors(20_000, seed).values
    network.mean.copy_(torch.where(network.binary, 0.0, reference.mean(0)))
    network.std.copy_(torch.where(network.binary, 1.0, reference.std(0)))
    return network


def factor_loss(network: nn.Module, values: Float[Tensor, "n k"], factors: Factors) -> Float[Tensor, " k"]:
    """Mean loss of each factor, (K,): squared error in standard deviations, or cross-entropy."""
    target = (factors.values - network.mean) / network.std
    squared = (values - target).square()
    entropy = F.binary_cross_entropy_with_logits(values, target.clamp(0, 1), reduction="none")
    return torch.where(network.binary, entropy, squared).mean(0)
