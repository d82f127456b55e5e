"""How networks learn to read the factors of a face, and whose it is: the one recipe for the losses' and the judges'."""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from tqdm.auto import tqdm

from latentlab.checkpoints import deferred_interrupt, load_checkpoint, save_checkpoint
from latentlab.faces import Factors, in_other_states, render, sample_factors
from latentlab.networks.augmentation import augment
from latentlab.seeds import stream


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
    """Trains ``network`` to read every factor of rendered faces, each face seen once; see ``fit``.

    Squared error on standardised factors, cross-entropy on binary ones.
    """
    network = _standardise(network, seed)

    def loss_at(step: int) -> Tensor:
        factors = sample_factors(batch_size, seed=seed, start=step * batch_size).to(fabric.device)
        values = _look(network, factors, stream(seed, "augmentation", step, device=fabric.device), fabric)
        return factor_loss(network, values, factors).mean()

    fit({"network": network}, loss_at, out, images, batch_size, learning_rate, fabric=fabric, resume=resume)
    return network.eval()


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
    """Trains ``network`` to tell ``head.num_classes`` people apart, whatever their state and scene; see ``fit``.

    ``head`` is the margin loss over embeddings (N, D) and labels (N,), a class centre a person: it is
    training state and is not needed afterwards.
    """
    people = sample_factors(head.num_classes, seed=seed)

    def loss_at(step: int) -> Tensor:
        who = torch.randint(len(people), (batch_size,), generator=stream(seed, "people", step))
        factors = in_other_states(people[who], seed, len(people) + step * batch_size).to(fabric.device)
        embeddings = _look(network, factors, stream(seed, "augmentation", step, device=fabric.device), fabric)
        return head(embeddings, who.to(fabric.device))

    parts = {"network": network, "head": head}
    fit(parts, loss_at, out, images, batch_size, learning_rate, fabric=fabric, resume=resume)
    return network.eval()


def _look(network: nn.Module, factors: Factors, draw: torch.Generator, fabric) -> Tensor:
    with fabric.autocast():
        return network(augment(render(factors), draw)).float()


def fit(
    parts: dict[str, nn.Module],
    loss_at: Callable[[int], Tensor],
    out: str | Path,
    images: int,
    batch_size: int,
    learning_rate: float,
    *,
    fabric,
    resume: bool,
    checkpoint_every: int = 20_000,
) -> None:
    """Minimises ``loss_at(step)`` over all ``parts``: Adam with a one-cycle schedule, bfloat16 autocast.

    The pictures are blurred, noised and recoloured at random, since the generator's are never as crisp as
    a render. Resumes bit for bit from ``out/checkpoint.pt``; Ctrl-C keeps what there is.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    for part in parts.values():
        part.to(fabric.device, memory_format=torch.channels_last).train()
    steps = images // batch_size
    weights = [weight for part in parts.values() for weight in part.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps)
    state = parts | {"optimizer": optimizer, "schedule": schedule}
    first = _resume(state, out / "checkpoint.pt") if resume else 0
    bar = tqdm(total=images, initial=first * batch_size, unit="img", unit_scale=True, desc=out.name)
    with deferred_interrupt() as interrupted, bar:
        for step in range(first, steps):
            loss = loss_at(step)
            optimizer.zero_grad(set_to_none=True)
            fabric.backward(loss)
            optimizer.step()
            schedule.step()
            bar.update(batch_size)
            if step % 20 == 0:
                bar.set_postfix(loss=f"{float(loss.detach()):.4f}")
            last = interrupted.is_set() or step + 1 == steps
            if last or (step + 1) % (checkpoint_every // batch_size) == 0:
                saved = {name: part.state_dict() for name, part in state.items()}
                save_checkpoint(saved | {"step": step + 1}, out / "checkpoint.pt")
            if last:
                break


def _standardise(network: nn.Module, seed: int) -> nn.Module:
    """Enters mean and standard deviation of every continuous factor; binary ones are left as they are."""
    reference = sample_factors(20_000, seed=seed).values
    network.mean.copy_(torch.where(network.binary, 0.0, reference.mean(0)))
    network.std.copy_(torch.where(network.binary, 1.0, reference.std(0)))
    return network


def _resume(parts: dict, path: Path) -> int:
    state = load_checkpoint(path)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return state["step"]


def factor_loss(network: nn.Module, values: Float[Tensor, "n k"], factors: Factors) -> Float[Tensor, " k"]:
    """Mean loss of each factor, (K,): squared error in standard deviations, or cross-entropy."""
    target = (factors.values - network.mean) / network.std
    squared = (values - target).square()
    entropy = F.binary_cross_entropy_with_logits(values, target.clamp(0, 1), reduction="none")
    return torch.where(network.binary, entropy, squared).mean(0)
