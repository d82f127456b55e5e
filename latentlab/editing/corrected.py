"""Any edit, followed by corrections in S that bring held attributes back to where they were."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latentlab.editing.coordinates import Coordinates, coordinates_of
from latentlab.editing.edit import Edit, State, apply_edit
from latentlab.editing.samples import Read, Reader, Samples, draw_samples, reader_of
from latentlab.spaces import Statistics


@dataclass(frozen=True, eq=False)
class Corrected(Edit):
    """``edit``, then ``steps`` Gauss-Newton steps in S for each picture by itself; made by ``correct``.

    Wanted are the readings before the edit of the ``held`` attributes and, so that the correction does not take the
    edit back, the reading after it of the edited one where that is read. Other attributes are free. spread: standard
    deviations of all that ``reader`` reads, (K,). coordinates: of S.
    """

    edit: Edit
    reader: Reader
    spread: Float[Tensor, " k"]
    coordinates: Coordinates
    held: tuple[str, ...]
    steps: int = 3
    lambda_ridge: float = 0.03

    name = property(lambda self: self.edit.name)
    unit = property(lambda self: self.edit.unit)
    std = property(lambda self: self.edit.std)
    space, layers = "S", None

    @property
    def source(self) -> str:
        """That of the edit, and the correction."""
        return f"{self.edit.source}; {self.steps} Gauss-Newton corrections in S, held: {', '.join(self.held)}"

    @torch.no_grad()
    def __call__(self, state: State, strengths: Float[Tensor, " n"], G: nn.Module) -> State:
        after = apply_edit(self.edit, state, strengths, G)
        columns = [self.reader.column(name) for name in self.held]
        wanted = self.reader(state.draw(G))[:, columns]
        if self.name in self.reader.names:
            columns.append(self.reader.column(self.name))
            wanted = torch.cat([wanted, self.reader(after.draw(G))[:, columns[-1:]]], 1)
        spread = self.spread[columns].to(wanted)

        def read(images: Tensor) -> Tensor:
            return self.reader(images)[:, columns] / spread

        eye = torch.eye(len(columns)).to(wanted)
        for _ in range(self.steps):
            readings, J = self.coordinates.jacobian(read, after, G)
            # argmin |J x - r|^2 + lambda |x|^2 = J^T (J J^T + lambda I)^-1 r
            r = wanted / spread - readings
            x = torch.linalg.solve(J @ J.mT + self.lambda_ridge * eye, r[:, :, None])
            after = self.coordinates.shift(after, (J.mT @ x)[:, :, 0], G)
        return after


def correct(
    edit: Edit,
    G: nn.Module,
    read: Read | None = None,
    names: Sequence[str] | None = None,
    *,
    held: Sequence[str] | None = None,
    steps: int = 3,
    lambda_ridge: float = 0.03,
    samples: Samples | None = None,
    statistics: Statistics | None = None,
) -> Corrected:
    """The edit with ``steps`` corrections, each of which costs one backward pass for every attribute.

    read: with gradients; by default the losses' network, binary factors as logits. held: attributes to bring back, by
    default all that are read but the edited one. lambda_ridge: what a step in S costs beside a reading, both in
    standard deviations: 0 would follow the network wherever it leads. samples: for the standard deviations of the
    readings, by the same ``read``; 1,000 are drawn unless given.

    The correction trusts ``read`` on the picture at hand, so it is for small repairs after a step that is roughly
    right: long steps of this kind change what the network reads and not what is seen.
    """
    reader = reader_of(read, names, like=G.w_avg, probabilities=False)
    held = [name for name in reader.names if name != edit.name] if held is None else list(held)
    for name in held:
        reader.column(name)
    if edit.name in held or not held:
        raise ValueError(f"held: expected at least one attribute and not the edited {edit.name!r}, got {held}")
    if steps < 1 or not lambda_ridge > 0:
        raise ValueError(f"steps, lambda_ridge: expected at least 1 and a number above 0, got {steps}, {lambda_ridge}")
    samples = samples or draw_samples(G, reader, n=1_000)
    samples.standardised()  # refuses readings that do not vary
    samples.check(reader, G)
    coordinates = coordinates_of(G, "S", statistics=statistics)
    return Corrected(edit, reader, samples.std, coordinates, tuple(held), steps, lambda_ridge)
