"""Edits by a conditional continuous normalizing flow on W (StyleFlow, Abdal et al., arXiv 2008.02401)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm.auto import tqdm

from latentlab.editing.edit import Edit, State
from latentlab.editing.samples import Read, Reader, Samples, reader_of
from latentlab.seeds import stream
from latentlab.spaces import fingerprint

PAPER_LAYERS = 18  # of W+ at 1024 px
# The layers of W+ that each attribute's edit keeps, of 18, as in the authors' code; the face world's names beside
# theirs (expression: smile, mouth_open; bald: hair_length, fringe; light: light_azimuth, light_elevation).
LAYERS = {
    "glasses": (2, 3), "yaw": (0, 3), "pitch": (0, 3), "beard": (5, 9), "age": (4, 7), "gender": (0, 7),
    "smile": (4, 5), "mouth_open": (4, 5), "hair_length": (0, 5), "fringe": (0, 5), "light_azimuth": (7, 11),
    "light_elevation": (7, 11),
}  # fmt: skip


class ConditionalFlow(nn.Module):
    """An invertible map between codes w (N, D) and z (N, D) under conditions c (N, K), the solution of an ODE.

    dx/dt = f(t, x, c) carries w at t = 0 to z at t = 1, and z is standard normal whatever c is: what c says about w is
    taken out of z, everything else is left in it. f is a multilayer perceptron with ``hidden`` units, zuko's solver
    (Dormand-Prince) integrates it. Codes and conditions are standardised by the samples' ``w_mean`` and ``w_std`` (D,),
    ``c_mean`` and ``c_std`` (K,).
    """

    def __init__(self, dim: int, names: Sequence[str], hidden: Sequence[int] = (256, 256, 256)) -> None:
        super().__init__()
        try:
            from zuko.flows.continuous import FFJTransform
        except ImportError as error:
            raise ValueError("StyleFlow: expected the package zuko, got an environment without it; "
                             "pip install 'latentlab[editing]'") from error  # fmt: skip
        self.names, self.hidden = tuple(names), tuple(hidden)
        self.transform = FFJTransform(dim, len(names), atol=1e-5, rtol=1e-5, hidden_features=self.hidden)
        for name, size in {"w_mean": dim, "w_std": dim, "c_mean": len(names), "c_std": len(names)}.items():
            self.register_buffer(name, torch.zeros(size) if name.endswith("mean") else torch.ones(size))

    @property
    def config(self) -> dict[str, Any]:
        """The arguments that build this flow again."""
        return {"dim": len(self.w_mean), "names": list(self.names), "hidden": list(self.hidden)}

    def velocity(self, t: Float[Tensor, " n"], x: Float[Tensor, "n d"], c: Float[Tensor, "n k"]) -> Tensor:
        """f(t, x, c), (N, D), of standardised codes and conditions."""
        return self.transform.f(t, x, c)

    @torch.no_grad()
    def encode(self, w: Float[Tensor, "n d"], c: Float[Tensor, "n k"]) -> Float[Tensor, "n d"]:
        """w to z under conditions c in their own units."""
        return self.transform((c - self.c_mean) / self.c_std)((w - self.w_mean) / self.w_std)

    @torch.no_grad()
    def decode(self, z: Float[Tensor, "n d"], c: Float[Tensor, "n k"]) -> Float[Tensor, "n d"]:
        """z to w under conditions c, the inverse of ``encode``."""
        return self.transform((c - self.c_mean) / self.c_std).inv(z) * self.w_std + self.w_mean


def train_flow(
    samples: Samples,
    names: Sequence[str] | None = None,
    *,
    hidden: Sequence[int] = (256, 256, 256),
    steps: int = 3_000,
    batch_size: int = 500,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> ConditionalFlow:
    """A flow on W under the attributes ``names``, all that were read unless given, from codes and readings.

    The paper maximises the likelihood of w through the ODE, with five blocks of width 512. Here one block is trained by
    flow matching (Lipman et al., arXiv 2210.02747, Eq. 23, with sigma 0 and time reversed): the same kind of
    conditional flow, whose velocity is regressed without solving an ODE at any step, in a minute on a CPU instead of
    hours. At the default width a flow on W of 512 dimensions takes 1.6 MB.
    """
    samples = samples if names is None else _only(samples, names)
    samples.standardised()  # refuses readings that do not vary
    flow = ConditionalFlow(samples.w.shape[1], samples.names, hidden)
    _initialise(flow, stream(seed, "flow weights"))
    flow.w_mean.copy_(samples.w.mean(0))
    flow.w_std.copy_(samples.w.std(0).clamp(min=1e-8))
    flow.c_mean.copy_(samples.readings.mean(0))
    flow.c_std.copy_(samples.std)
    w, c = (samples.w - flow.w_mean) / flow.w_std, (samples.readings - flow.c_mean) / flow.c_std
    optimizer = torch.optim.Adam(flow.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    draw = stream(seed, "flow matching")
    for _ in tqdm(range(steps), desc="flow", leave=False):
        rows = torch.randint(len(w), (batch_size,), generator=draw)
        t, z = torch.rand(batch_size, generator=draw), torch.randn(batch_size, w.shape[1], generator=draw)
        # x_t = (1 - t) w + t z, dx/dt = z - w
        x = torch.lerp(w[rows], z, t[:, None])
        loss = (flow.velocity(t, x, c[rows]) - (z - w[rows])).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return flow.requires_grad_(False).eval()


@dataclass(frozen=True, eq=False)
class FlowEdit(Edit):
    """An edit through a flow: w to z with the attributes as they are read from the picture, back with one changed.

    Strength 1 is one standard deviation of the reading over the samples that the flow was trained on. Every row of W+
    flows by itself, with the same conditions; rows outside of ``layers`` stay, as in the paper. fingerprint: of
    the mapping network whose W it is. Unlike a direction it is no straight line: where it leads hangs on the face.
    """

    name: str
    flow: ConditionalFlow
    reader: Reader
    fingerprint: str
    layers: tuple[int, ...] | None = None
    source: str = ""
    unit: str = "standard deviations aimed at"
    space = "W+"

    @property
    def std(self) -> float:
        """One standard deviation in the unit of the reading."""
        return float(self.flow.c_std[self.flow.names.index(self.name)])

    @torch.no_grad()
    def __call__(self, state: State, strengths: Float[Tensor, " n"], G: nn.Module) -> State:
        if (found := fingerprint(G)) != self.fingerprint:
            raise ValueError(f"edit {self.name!r}: expected the mapping network {self.fingerprint}, got {found}; "
                             "train a flow for this generator")  # fmt: skip
        n, L, flow = len(state), state.w_plus.shape[1], self.flow
        rows = list(range(L)) if self.layers is None else list(self.layers)
        if not set(rows) <= set(range(L)):
            raise ValueError(f"layers: expected some of 0 to {L - 1}, got {rows}")
        c = self.reader(state.draw(G))[:, [self.reader.column(name) for name in flow.names]]
        changed = c.clone()
        changed[:, flow.names.index(self.name)] += strengths.to(c) * self.std
        c, changed = (x.repeat_interleave(len(rows), 0) for x in (c, changed))
        w = state.w_plus[:, rows].flatten(0, 1)
        z = flow.encode(w, c)
        # Back by both conditions in one call, whose steps are the same for all: the solver's error cancels and
        # strength 0 changes nothing.
        there, here = flow.decode(torch.cat([z, z]), torch.cat([changed, c])).chunk(2)
        moved = w + there - here
        w_plus = state.w_plus.clone()
        w_plus[:, rows] = moved.unflatten(0, (n, len(rows)))
        return replace(state, w_plus=w_plus)


def flow_edit(
    flow: ConditionalFlow,
    name: str,
    G: nn.Module,
    read: Read | None = None,
    names: Sequence[str] | None = None,
    *,
    layers: Sequence[int] | str | None = "paper",
) -> FlowEdit:
    """The edit of one of the flow's attributes. read: the same as gave the flow its conditions, by default the losses'
    network. layers: of W+ that move; "paper": those of ``LAYERS``, as far up in this generator as in the paper's; None
    and attributes that the paper does not have: all."""
    reader = reader_of(read, names, like=G.w_avg)
    for condition in (name, *flow.names):
        reader.column(condition)
    if name not in flow.names:
        raise ValueError(f"attribute: expected one of the flow's conditions, got {name!r}; they are: "
                         f"{', '.join(flow.names)}")  # fmt: skip
    if layers == "paper":
        layers = paper_layers(name, G.num_ws)
    layers = None if layers is None else tuple(layers)
    source = f"StyleFlow, conditions: {', '.join(flow.names)}"
    return FlowEdit(name, flow.to(G.w_avg.device), reader, fingerprint(G), layers, source)


def paper_layers(name: str, num_ws: int) -> tuple[int, ...] | None:
    """The layers that StyleFlow's code keeps for an attribute, of 18, at the same share of ``num_ws`` layers."""
    if name not in LAYERS:
        return None
    first, last = (round(i * (num_ws - 1) / (PAPER_LAYERS - 1)) for i in LAYERS[name])
    return tuple(range(first, last + 1))


def _only(samples: Samples, names: Sequence[str]) -> Samples:
    return Samples(samples.w, torch.stack([samples.of(name) for name in names], 1), tuple(names))


def _initialise(flow: nn.Module, draw: torch.Generator) -> None:
    """Draws the weights from a stream of their own, as torch would from the global one."""
    for layer in flow.modules():
        if isinstance(getattr(layer, "weight", None), nn.Parameter):
            bound = layer.weight.shape[1] ** -0.5
            nn.init.uniform_(layer.weight, -bound, bound, generator=draw)
            nn.init.uniform_(layer.bias, -bound, bound, generator=draw)
