"""States and edits: all that an image is generated from, and functions that change it."""

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
    """All that N images are generated from, given a generator.

    w_plus: codes, (N, L, D).
    noise: one map (N, 1, r, r) per convolution, or None for the generator's constant noise.
    features: feature maps {resolution: (N, C, r, r)} that replace the outputs of these blocks (F space).
    replace_rgb: whether toRGB of these blocks reads the replacement too.
    styles: S codes, (N, C_l) per modulated layer in the order of ``Generator.style_layers``, that replace the outputs
        of the affine layers.
    tuned: weights of the generator that were tuned for each image, {name in its state dict: (N, *shape)}.
    kept: what a method keeps of the inverted images for its own edits, {name: (N, ..)}, such as HFGI's residual; it is
        not drawn by itself.
    """

    w_plus: Float[Tensor, "n layers dim"]
    noise: Sequence[Tensor] | None = None
    features: Mapping[int, Tensor] | None = None
    replace_rgb: bool = True
    styles: Sequence[Tensor] | None = None
    tuned: Mapping[str, Tensor] | None = None
    kept: Mapping[str, Tensor] | None = None

    def __post_init__(self) -> None:
        parts = {"noise": self.noise, "styles": self.styles, "features": _values(self.features)}
        parts |= {"tuned weights": _values(self.tuned), "kept": _values(self.kept)}
        for name, tensors in parts.items():
            sizes = {len(x) for x in tensors or ()}
            if sizes - {len(self)}:
                raise ValueError(
                    f"{name}: expected tensors of length {len(self)}, one entry per code, got {sorted(sizes)}"
                )

    def __len__(self) -> int:
        return len(self.w_plus)

    def __getitem__(self, index: Index) -> "State":
        """The state of some of the images; a single index gives a state of one."""
        chosen = as_rows(index, len(self))
        return replace(
            self,
            w_plus=self.w_plus[chosen],
            noise=None if self.noise is None else [m[chosen] for m in self.noise],
            features=None if self.features is None else {r: f[chosen] for r, f in self.features.items()},
            styles=None if self.styles is None else [s[chosen] for s in self.styles],
            tuned=None if self.tuned is None else {k: v[chosen] for k, v in self.tuned.items()},
            kept=None if self.kept is None else {k: v[chosen] for k, v in self.kept.items()},
        )

    def draw(self, G: nn.Module) -> Float[Tensor, "n 3 r r"]:
        """The images, (N, 3, R, R), not clamped; differentiable."""
        if self.tuned is None:
            return G.synthesis(self.w_plus, noise=self._noise, styles=self.styles, **self._replacement(True))
        ones = (self[i] for i in range(len(self)))
        return torch.cat([one._tuned(G, "synthesis", **one._replacement(True)) for one in ones])

    def feature_maps(self, G: nn.Module, upto: int | None = None, *, replaced: bool = False) -> dict[int, Tensor]:
        """The generator's own feature maps at every resolution (or those ``upto`` one), for these codes, noise and
        styles. replaced: those that the state draws, with its ``features`` and what finer blocks make of them."""
        if self.tuned is None:
            how = {"noise": self._noise, "styles": self.styles, "upto": upto} | self._replacement(replaced)
            return G.features(self.w_plus, **how)
        rows = [self[i] for i in range(len(self))]
        ones = [one._tuned(G, "features", upto=upto, **one._replacement(replaced)) for one in rows]
        return {r: torch.cat([one[r] for one in ones]) for r in ones[0]}

    def _replacement(self, replaced: bool) -> dict[str, object]:
        return {"replace": self.features, "replace_rgb": self.replace_rgb} if replaced else {}

    def own_styles(self, G: nn.Module) -> list[Float[Tensor, "n _"]]:
        """The generator's own styles for these codes, (N, C_l) per modulated layer: those of the tuned weights."""
        if self.tuned is None:
            return G.styles(self.w_plus)
        return [torch.cat(s) for s in zip(*(self[i]._tuned(G, "styles") for i in range(len(self))), strict=True)]

    @property
    def _noise(self) -> str | Sequence[Tensor]:
        return "const" if self.noise is None else self.noise

    def _tuned(self, G: nn.Module, method: str, **replaced: object) -> object:
        """Calls a method of the generator with the weights that were tuned for this one image."""
        weights = {f"G.{name}": value[0] for name, value in self.tuned.items()}
        call = {} if method == "styles" else {"noise": self._noise, "styles": self.styles, **replaced}
        return functional_call(_Methods(G), weights, (method, self.w_plus), call)


def join(states: Sequence[State]) -> State:
    """The states of several batches as one; all must hold the same parts."""
    first = states[0]

    def lists(name: str) -> list[Tensor] | None:
        parts = [getattr(state, name) for state in states]
        return None if parts[0] is None else [torch.cat(same) for same in zip(*parts, strict=True)]

    def mappings(name: str) -> dict | None:
        parts = [getattr(state, name) for state in states]
        return None if parts[0] is None else {key: torch.cat([part[key] for part in parts]) for key in parts[0]}

    return State(
        torch.cat([state.w_plus for state in states]),
        lists("noise"), mappings("features"), first.replace_rgb, lists("styles"), mappings("tuned"),
        mappings("kept"),
    )  # fmt: skip


def as_rows(index: Index, n: int) -> Index:
    """An index that keeps the batch dimension: a single one becomes a slice, and is refused where there is none."""
    if not isinstance(index, int):
        return index
    if not -n <= index < n:
        raise IndexError(f"index: expected {-n} to {n - 1}, got {index}")
    return slice(index, index + 1 or None)


class _Methods(nn.Module):
    """A module whose ``forward`` calls any method of a generator; ``functional_call`` can call ``forward`` only."""

    def __init__(self, G: nn.Module) -> None:
        super().__init__()
        self.G = G

    def forward(self, method: str, *arguments: object, **keywords: object) -> object:
        return getattr(self.G, method)(*arguments, **keywords)


def _values(mapping: Mapping | None) -> list[Tensor] | None:
    return None if mapping is None else list(mapping.values())


class Edit(ABC):
    """Base class of edits, which change a state: a direction, a style channel, a flow, an attribute branch.

    name: of the attribute. unit: the unit of strengths, in words. std: a strength of 1 in the attribute's own unit, NaN
    if unknown. space: the space that it changes ("W", "W+", "S", ...). layers: the layers of W+ that it changes, None
    for all. source: its origin, e.g. how it was found. A subclass has ``name``, ``space`` and ``__call__``; the others
    have defaults.
    """

    name: str
    unit: str = "standard deviations"
    std: float = math.nan
    space: str
    layers: tuple[int, ...] | None = None
    source: str = ""

    @abstractmethod
    def __call__(self, state: State, strengths: Float[Tensor, " n"], G: nn.Module) -> State:
        """The state after the edit, with one strength per image; strength 0 changes nothing.

        Feature maps and styles that the state holds may be left behind: ``apply_edit`` calls this and carries them.
        """


@dataclass(frozen=True, eq=False)
class Direction(Edit):
    """A linear edit in W or W+: adds strength times ``vector``, (D,) or (L, D). Other attributes as in ``Edit``."""

    name: str
    vector: Float[Tensor, "*layers dim"]
    std: float = math.nan
    unit: str = "standard deviations"
    source: str = ""
    layers = None

    @property
    def space(self) -> str:
        """ "W" if the vector is the same for all layers, else "W+"."""
        return "W" if self.vector.ndim == 1 else "W+"

    def __call__(self, state: State, strengths: Float[Tensor, " n"], G: nn.Module) -> State:
        codes = state.w_plus
        if self.vector.shape not in (codes.shape[2:], codes.shape[1:]):
            raise ValueError(
                f"direction {self.name!r}: expected a vector of shape {tuple(codes.shape[2:])} or "
                f"{tuple(codes.shape[1:])}, like the codes, got {tuple(self.vector.shape)}"
            )
        return replace(state, w_plus=codes + strengths.to(codes).view(-1, 1, 1) * self.vector.to(codes))


@dataclass(frozen=True, eq=False)
class Restricted(Edit):
    """An edit of some layers of W+ only, made by ``restrict``."""

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
        edited = torch.tensor([i in self.layers for i in range(L)], device=state.w_plus.device)
        after = replace(after, w_plus=torch.where(edited[:, None], after.w_plus, state.w_plus))
        if after.styles is not None and after.styles is not state.styles:
            before = state.own_styles(G) if state.styles is None else state.styles
            pairs = zip(G.style_layers, after.styles, before, strict=True)
            after = replace(after, styles=[new if layer.w_index in self.layers else old for layer, new, old in pairs])
        return after


def restrict(edit: Edit, layers: slice | Sequence[int]) -> Edit:
    """The same edit applied to some layers of W+ only: to coarse ones for pose, to fine ones for colour.

    layers: numbers, e.g. range(4) or [2, 3], or a slice with an end. Of an edit that is restricted already, those
    that are in both.
    """
    if not isinstance(edit, Edit):
        raise ValueError(f"edit: expected an Edit, got {type(edit).__name__}; a vector becomes one as Direction(name, "
                         "vector)")  # fmt: skip
    if isinstance(layers, slice) and layers.stop is not None:
        layers = range(layers.start or 0, layers.stop, layers.step or 1)
    if isinstance(layers, slice | int | str) or not (chosen := tuple(layers)):
        raise ValueError(f"layers: expected several numbers, or a slice with an end as slice(0, 3), got {layers!r}")
    return Restricted(edit, tuple(i for i in chosen if edit.layers is None or i in edit.layers))


Editor = Callable[[Edit, State, Tensor, nn.Module], State]


def apply_edit(edit: Edit, state: State, strengths: Float[Tensor, " n"], G: nn.Module) -> State:
    """Applies an edit, then updates the styles and feature maps that the state holds with ``carry``."""
    return carry(state, edit(state, strengths, G), G)


def carry(before: State, after: State, G: nn.Module) -> State:
    """Changes the styles and feature maps of a state by as much as a change of codes changes the generator's own.

    They replace what the generator computes from the codes, so without this they would hide an edit of the codes.
    Styles or feature maps that the edit itself has changed stay as they are.
    """
    styles = before.styles
    if styles is not None and after.styles is styles and after.w_plus is not before.w_plus:
        old, new = before.own_styles(G), after.own_styles(G)
        after = replace(after, styles=[s + (b - a) for s, a, b in zip(styles, old, new, strict=True)])
    if before.features is not None and after.features is before.features:
        finest = max(before.features)
        old, new = before.feature_maps(G, finest), after.feature_maps(G, finest)
        # CLCAE (arXiv 2211.11448), Eq. 6: F' = F + (G_k(w') - G_k(w)), in this order exactly F where nothing changes
        after = replace(after, features={r: f + (new[r] - old[r]) for r, f in before.features.items()})
    return after
