"""Edits that are learned on the generator's own samples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm.auto import tqdm

from latentlab.checkpoints import deferred_interrupt
from latentlab.editing.coordinates import Coordinates, coordinates_of
from latentlab.editing.edit import Edit, State
from latentlab.editing.samples import Read, Reader, Samples, draw_samples, reader_of
from latentlab.losses.identity import load_identity
from latentlab.losses.perceptual import load_perceptual
from latentlab.networks.augmentation import augment
from latentlab.seeds import stream
from latentlab.spaces import Statistics

Terms = dict[str, Tensor]
Distance = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class EditLoss:
    """What a learned edit minimises, summed over these terms:

    "target": the squared gap, in standard deviations, between the edited attribute's reading and its reading before
    plus the strength. A sample whose target lies beyond what is read from any sample has none: no face can lose glasses
    that it does not wear. "held", times lambda_held: squared changes of the ``held`` attributes (all others
    that are read unless named), in standard deviations, summed. "perceptual", times lambda_perceptual: distance to the
    unedited picture. "identity", times lambda_identity: one minus the cosine of identity embeddings. A term of weight
    0 is not computed.

    strengths: range of sizes, drawn for each sample with either sign. augment: roughens both pictures of a pair alike
    before they are read, so that the edit cannot live on pixels that this network alone sees; None leaves them.
    perceptual, identity: distances of pictures (N,), the losses' networks unless given.
    """

    held: Sequence[str] | None = None
    strengths: tuple[float, float] = (0.5, 2.0)
    lambda_held: float = 0.3
    lambda_perceptual: float = 0.2
    lambda_identity: float = 0.0
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = augment
    perceptual: Distance | None = None
    identity: Distance | None = None

    def __post_init__(self) -> None:
        low, high = self.strengths
        if not 0 < low <= high:
            raise ValueError(f"strengths: expected two sizes above 0 in ascending order, got {self.strengths}")

    @property
    def weights(self) -> dict[str, float]:
        """The terms that count and their weights."""
        asked = {"held": self.lambda_held, "perceptual": self.lambda_perceptual, "identity": self.lambda_identity}
        return {"target": 1.0} | {term: weight for term, weight in asked.items() if weight > 0}

    def held_columns(self, reader: Reader, name: str) -> list[int]:
        """The columns of the held attributes in what ``reader`` reads."""
        if self.held is None:
            return [j for j, other in enumerate(reader.names) if other != name]
        if name in self.held:
            raise ValueError(f"held: expected other attributes than the one to be edited, got {name!r} among them")
        return [reader.column(other) for other in self.held]


def learn_edit(
    G: nn.Module,
    name: str,
    read: Read | None = None,
    names: Sequence[str] | None = None,
    *,
    loss: EditLoss | None = None,
    space: str = "S",
    torgb: bool = False,
    steps: int = 250,
    batch_size: int = 16,
    learning_rate: float = 0.01,
    samples: Samples | None = None,
    statistics: Statistics | None = None,
    callback: Callable[[int, Terms], object] | None = None,
    seed: int = 0,
) -> Edit:
    """A direction of S, or of W+, that moves one attribute of the generator's own samples and leaves the others.

    It starts at ``start_of``, and Adam minimises ``loss`` (``EditLoss()`` unless given) over new codes and strengths at
    each step, its rate falling to 0 as a cosine; 0 steps give the start itself. read: with gradients; by default the
    losses' network, binary factors as logits. samples: codes and readings by the same ``read``, for standard deviations
    and ranges; 1,000 are drawn unless given. torgb: whether the styles of toRGB move in S. callback: called with each
    step and its terms, (N,) each. Ctrl-C keeps what there is. Strength 1 aims at one standard deviation of the reading;
    ``calibrate`` says what it does.
    """
    loss, reader = loss or EditLoss(), reader_of(read, names, like=G.w_avg, probabilities=False)
    reader.column(name), loss.held_columns(reader, name)
    samples = samples or draw_samples(G, reader, n=1_000, seed=seed)
    samples.check(reader, G)
    coordinates = coordinates_of(G, space, torgb=torgb, statistics=statistics)
    x = start_of(G, name, reader, coordinates, samples).requires_grad_()
    pairs, weights = _Pairs(G, name, reader, coordinates, samples, loss, seed), loss.weights
    optimizer, done = torch.optim.Adam([x], lr=learning_rate), 0
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    with deferred_interrupt() as interrupted:
        for step in tqdm(range(steps), desc=f"learn {name}", leave=False):
            terms = pairs.terms(x, step, batch_size)
            optimizer.zero_grad(set_to_none=True)
            sum(weight * terms[term].mean() for term, weight in weights.items()).backward()
            optimizer.step()
            schedule.step()
            done += 1
            if callback is not None:
                callback(step, {term: value.detach() for term, value in terms.items()})
            if interrupted.is_set():
                break
    return coordinates.edit(name, x, unit="standard deviations aimed at", source=_source(space, done, loss))


def start_of(
    G: nn.Module,
    name: str,
    reader: Reader,
    coordinates: Coordinates,
    samples: Samples,
    *,
    n: int = 32,
    lambda_ridge: float = 0.03,
) -> Float[Tensor, " c"]:
    """(E[J^T J] + lambda_ridge I)^-1 E[J]^T e_k, (C,), at a length where the mean J predicts one standard deviation.

    J, (K, C), is the derivative of the readings in standard deviations with respect to ``coordinates``, at ``n`` of the
    samples. E[J^T J] charges what the step does to every reading of every sample; with the mean alone, leaks of
    either sign would cancel.
    """
    samples.standardised()  # refuses readings that do not vary
    w = samples.w[:n].to(G.w_avg)
    parts = [coordinates.jacobian(reader, State(G.broadcast(part)), G)[1] for part in w.split(8)]
    J = (torch.cat(parts) / samples.std.to(w)[:, None]).double()
    mean, rows = J.mean(0)[reader.column(name)], J.flatten(0, 1) / len(J) ** 0.5
    if not float(mean.norm()) > 0:
        raise ValueError(f"{name}: expected a reading that changes with {coordinates.space}, got gradient 0 at all of "
                         f"{len(J)} samples")  # fmt: skip
    # For the rows R, R^T R = E[J^T J]: (R^T R + l I)^-1 b = (b - R^T (R R^T + l I)^-1 R b) / l, a smaller system
    gram = rows @ rows.T + lambda_ridge * torch.eye(len(rows)).to(rows)
    x = mean - rows.T @ torch.linalg.solve(gram, rows @ mean)
    return (x / (mean @ x)).to(w)


class _Pairs:
    """Pictures before and after a step along x, and the terms of the loss between them."""

    def __init__(
        self, G: nn.Module, name: str, reader: Reader, coordinates: Coordinates, samples: Samples, loss: EditLoss,
        seed: int,
    ) -> None:  # fmt: skip
        self.G, self.reader, self.coordinates, self.loss, self.seed = G, reader, coordinates, loss, seed
        self.target, self.held = reader.column(name), loss.held_columns(reader, name)
        y = samples.readings.to(G.w_avg)
        self.std, self.low, self.high = y.std(0), y[:, self.target].min(), y[:, self.target].max()
        given = {"perceptual": (loss.perceptual, load_perceptual), "identity": (loss.identity, load_identity)}
        self.distances = {term: distance or load(device=G.w_avg.device) for term, (distance, load) in given.items()
                          if term in loss.weights}  # fmt: skip

    def terms(self, x: Tensor, step: int, n: int) -> Terms:
        G, k, draw = self.G, self.target, stream(self.seed, "learned edit", step)
        low, high = self.loss.strengths
        z, size, sign = torch.randn(n, G.z_dim, generator=draw), *torch.rand(2, n, generator=draw)
        s = ((low + (high - low) * size) * torch.where(sign < 0.5, -1.0, 1.0)).to(x)
        with torch.no_grad():
            state = State(G.broadcast(G.mapping(z.to(G.w_avg))))
            plain = state.draw(G)
            before = self.reader(self._roughened(plain, step))
            wanted = before[:, k] + s * self.std[k]
            room = (wanted >= self.low) & (wanted <= self.high)
        image = self.coordinates.shift(state, s[:, None] * x, G).draw(G)
        after = self.reader(self._roughened(image, step))
        terms = {"target": room * ((after[:, k] - wanted) / self.std[k]).square(),
                 "held": ((after - before) / self.std)[:, self.held].square().sum(1)}  # fmt: skip
        return terms | {term: distance(plain, image) for term, distance in self.distances.items()}

    def _roughened(self, images: Tensor, step: int) -> Tensor:
        if self.loss.augment is None:
            return images
        return self.loss.augment(images, stream(self.seed, "augmentation", step, device=images.device))


def _source(space: str, steps: int, loss: EditLoss) -> str:
    held = "all other attributes" if loss.held is None else ", ".join(loss.held) or "nothing"
    weights = ", ".join(f"{term} {weight:g}" for term, weight in loss.weights.items())
    low, high = loss.strengths
    return f"learned in {space} on the generator's samples, {steps} steps, strengths {low:g} to {high:g}, weights " \
           f"{weights}, held: {held}"  # fmt: skip
