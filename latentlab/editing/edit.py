"""States and edits: everything that a picture is drawn from, and what moves it."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

Index = int | slice | Sequence[int] | Tensor


@dataclass(frozen=True, eq=False)
class State:
    """Everything that N pictures are drawn from, given a generator.

    w_plus: (N, L, D), the codes. noise: one map (N, 1, r, r) a convolution; None is the generator's constant
    noise. features: feature maps {resolution: (N, C, r, r)} held in place of what the blocks of those resolutions
    make (F space); ``replace_rgb`` says whether toRGB of these blocks sees them too. styles: S codes, (N, C_l) a
    modulated layer in the order of ``Generator.style_layers``, held in place of what the affine layers make of
    ``w_plus``. tuned: weights of the generator that were tuned for each picture, {name in its state dict:
    (N, *shape)}.
    """

    w_plus: Float[Tensor, "n layers dim"]
    noise: Sequence[Tensor] | None = None
    features: Mapping[int, Tensor] | None = None
    replace_rgb: bool = True
    styles: Sequence[Tensor] | None = None
    tuned: Mapping[str, Tensor] | None = None

    def __post_init__(self) -> None:
        parts = {"noise": self.noise, "styles": self.styles, "features": _values(self.features)}
        for name, tensors in (parts | {"tuned weights": _values(self.tuned)}).items():
            sizes = {len(x) for x in tensors or ()}
            if sizes - {len(self)}:
                raise ValueError(f"{name}: expected one for each of {len(self)} codes, got {sorted(sizes)}")

    def __len__(self) -> int:
        return len(self.w_plus)

    def __getitem__(self, index: Index) -> "State":
        """Some of the pictures, as a state of their own; a single index gives a state of one."""
        rows = slice(index, index + 1 or None) if isinstance(index, int) else index
        return replace(
            self,
            w_plus=self.w_plus[rows],
            noise=None if self.noise is None else [m[rows] for m in self.noise],
            features=None if self.features is None else {r: f[rows] for r, f in self.features.items()},
            styles=None if self.styles is None else [s[rows] for s in self.styles],
            tuned=None if self.tuned is None else {k: v[rows] for k, v in self.tuned.items()},
        )

    def draw(self, G: nn.Module) -> Float[Tensor, "n 3 r r"]:
        """The pictures, (N, 3, R, R), not clamped. Gradients pass."""
        held = {"replace": self.features, "replace_rgb": self.replace_rgb}
        if self.tuned is None:
            return G.synthesis(self.w_plus, noise=self._noise, styles=self.styles, **held)
        ones = (self[i] for i in range(len(self)))
        return torch.cat([one._tuned(G, "synthesis", replace=one.features, replace_rgb=self.replace_rgb)
                          for one in ones])  # fmt: skip

    def feature_maps(self, G: nn.Module) -> dict[int, Tensor]:
        """What the generator makes of codes, noise and styles at every resolution, held feature maps aside."""
        if self.tuned is None:
            return G.features(self.w_plus, noise=self._noise, styles=self.styles)
        ones = [self[i]._tuned(G, "features") for i in range(len(self))]
        return {r: torch.cat([one[r] for one in ones]) for r in ones[0]}

    @property
    def _noise(self) -> str | Sequence[Tensor]:
        return "const" if self.noise is None else self.noise

    def _tuned(self, G: nn.Module, verb: str, **held: object) -> object:
        """Calls a verb of the generator with the weights that were tuned for this one picture."""
        weights = {f"G.{name}": value[0] for name, value in self.tuned.items()}
        call = {"noise": self._noise, "styles": self.styles, **held}
        return functional_call(_Verbs(G), weights, (verb, self.w_plus), call)


class _Verbs(nn.Module):
    """Lets ``functional_call``, which knows only ``forward``, reach every verb of a generator."""

    def __init__(self, G: nn.Module) -> None:
        super().__init__()
        self.G = G

    def forward(self, verb: str, *arguments: object, **keywords: object) -> object:
        return getattr(self.G, verb)(*arguments, **keywords)


def _values(mapping: Mapping | None) -> list[Tensor] | None:
    return None if mapping is None else list(mapping.values())


class Edit(ABC):
    """Anything that moves a state: a direction, a style channel, a flow, an attribute branch.

    name: of the attribute. unit: what strength 1 means, in words. std: strength 1 in the attribute's own unit,
    NaN where it is unknown. space: where it moves ("W", "W+", "S", ...). layers: the layers of W+ that move, None
    for all. source: where it comes from, e.g. how it was found.
    """

    name: str
    unit: str
    std: float
    space: str
    layers: tuple[int, ...] | None
    source: str

    @abstractmethod
    def __call__(self, state: State, strengths: Float[Tensor, " n"], G: nn.Module) -> State:
        """The state after the edit, each picture moved by its own strength; strength 0 changes nothing."""


@dataclass(frozen=True, eq=False)
class Direction(Edit):
    """A straight line in W or W+. vector: (D,) or (L, D), the step of strength 1; see ``Edit`` for the rest."""

    name: str
    vector: Float[Tensor, "*layers dim"]
    std: float = math.nan
    unit: str = "standard deviations"
    source: str = ""
    layers = None

    @property
    def space(self) -> str:
        """ "W" if all layers move alike, else "W+"."""
        return "W" if self.vector.ndim == 1 else "W+"

    def __call__(self, state: State, strengths: Float[Tensor, " n"], G: nn.Module) -> State:
        codes = state.w_plus
        if self.vector.shape not in (codes.shape[2:], codes.shape[1:]):
            raise ValueError(
                f"direction {self.name!r}: expected a vector of shape {tuple(codes.shape[2:])} or "
                f"{tuple(codes.shape[1:])}, as the codes have, got {tuple(self.vector.shape)}"
            )
        return replace(state, w_plus=codes + strengths.to(codes).view(-1, 1, 1) * self.vector.to(codes))


@dataclass(frozen=True, eq=False)
class Restricted(Edit):
    """An edit in some layers of W+ only, made by ``restrict``."""

    edit: Edit
    layers: tuple[int, ...]

    name = property(lambda self: self.edit.name)
    unit = property(lambda self: self.edit.unit)
    std = property(lambda self: self.edit.std)
    source = property(lambda self: self.edit.source)
    space = property(lambda self: "W+" if self.edit.space == "W" else self.edit.space)

    def __call__(self, state: State, strengths: Float[Tensor, " n"], G: nn.Module) -> State:
        L, after = state.w_plus.shape[1], self.edit(state, strengths, G)
        if not set(self.layers) <= set(range(L)):
            raise ValueError(f"layers: expected some of 0 to {L - 1}, got {list(self.layers)}")
        moves = torch.tensor([i in self.layers for i in range(L)], device=state.w_plus.device)
        after = replace(after, w_plus=torch.where(moves[:, None], after.w_plus, state.w_plus))
        if state.styles is not None and after.styles is not state.styles:
            pairs = zip(G.style_layers, after.styles, state.styles, strict=True)
            after = replace(after, styles=[new if layer.w_index in self.layers else old for layer, new, old in pairs])
        return after


def restrict(edit: Edit, layers: Sequence[int]) -> Edit:
    """The same edit in some layers of W+ only: an edit of the pose belongs to coarse layers, one of colour to
    fine ones. What it does in the other layers is left out."""
    return Restricted(edit, tuple(layers))


Editor = Callable[[Edit, State, Tensor, nn.Module], State]


def apply_edit(edit: Edit, state: State, strengths: Float[Tensor, " n"], G: nn.Module) -> State:
    """Applies an edit, and carries what is held in the state along with the codes; see ``carry``."""
    return carry(state, edit(state, strengths, G), G)


def carry(before: State, after: State, G: nn.Module) -> State:
    """Moves held styles and feature maps by as much as the generator moves its own when the codes change.

    Held tensors hide the codes: left in place, they would hide the edit as well. A part that the edit has
    replaced by itself stays as the edit made it.
    """
    held = before.styles
    if held is not None and after.styles is held and after.w_plus is not before.w_plus:
        old, new = G.styles(before.w_plus), G.styles(after.w_plus)
        after = replace(after, styles=[s + b - a for s, a, b in zip(held, old, new, strict=True)])
    if before.features is not None and after.features is before.features:
        old, new = before.feature_maps(G), after.feature_maps(G)
        # CLCAE (arXiv 2211.11448), Eq. 6: F' = F + G_k(w') - G_k(w)
        after = replace(after, features={r: f + new[r] - old[r] for r, f in before.features.items()})
    return after
