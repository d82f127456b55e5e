"""What an inversion returns: the state that was found, its picture, and the way there."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latentlab.editing.edit import Edit, Editor, Index, State, apply_edit, carry
from latentlab.inversion.descent import DescentState
from latentlab.spaces import fingerprint
from latentlab.weights import read_tensors, write_tensors


@dataclass
class Inversion:
    """What was found for a batch of images, and the way there.

    state: everything the pictures are drawn from, see ``State``. image: (N, 3, R, R) as ``generator`` draws it,
    not clamped. trace: term -> (steps, N), one value a step and image. seconds: wall time of the whole batch.
    interrupted: whether Ctrl-C or a callback ended the search; knobs then hold the steps that were done.
    path: (K, N, L, D), the codes after each number of steps in ``path_steps``, the last of them ``latent``,
    where ``record`` asked for them, else None. Row t of the trace belongs to the codes after t steps.
    descent: where an optimizer's descent ended, so that ``resume=`` can continue it, else None.
    editor: how this method edits, by default ``apply_edit``.
    """

    state: State
    image: Float[Tensor, "n 3 r r"]
    generator: nn.Module
    method: str
    trace: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0
    knobs: dict[str, Any] = field(default_factory=dict)
    interrupted: bool = False
    path: Float[Tensor, "k n layers dim"] | None = None
    path_steps: list[int] = field(default_factory=list)
    descent: DescentState | None = None
    editor: Editor = apply_edit

    @property
    def latent(self) -> Float[Tensor, "n layers dim"]:
        """The codes in W+, (N, L, D)."""
        return self.state.w_plus

    @property
    def noise(self) -> list[Tensor] | None:
        """One map a convolution where the method found its own, else None (the generator's constant noise)."""
        return self.state.noise

    @property
    def features(self) -> dict[int, Tensor] | None:
        """Feature maps that are held, by resolution (F space), else None."""
        return self.state.features

    def __len__(self) -> int:
        return len(self.state)

    def __getitem__(self, index: Index) -> "Inversion":
        """Some of the images, as an inversion of its own."""
        rows = slice(index, index + 1 or None) if isinstance(index, int) else index
        return replace(
            self,
            state=self.state[rows],
            image=self.image[rows],
            trace={k: v[:, rows] for k, v in self.trace.items()},
            path=None if self.path is None else self.path[:, rows],
            descent=None if self.descent is None else self.descent[rows],
        )

    @torch.no_grad()
    def synthesize(self, w_plus: Float[Tensor, "n layers dim"]) -> Float[Tensor, "n 3 r r"]:
        """The pictures of other codes under this inversion's noise, held features and tuned generator."""
        return carry(self.state, replace(self.state, w_plus=w_plus), self.generator).draw(self.generator)

    def edit(self, edit: Edit, strength: float | Float[Tensor, " n"] = 1.0) -> Float[Tensor, "n 3 r r"]:
        """The images after an edit of this strength, one number or one for each image; 0 changes nothing."""
        return self.edited(edit, strength).image

    @torch.no_grad()
    def edited(self, edit: Edit, strength: float | Float[Tensor, " n"] = 1.0) -> "Inversion":
        """The same as an inversion, to be edited again, measured or saved; it has no trace of a search."""
        if not isinstance(edit, Edit):
            raise ValueError(
                f"edit: expected an Edit, got {type(edit).__name__}; a vector of W or W+ becomes one as "
                "Direction(name, vector)"
            )
        strengths = torch.as_tensor(strength, dtype=torch.float32).to(self.latent)
        if strengths.ndim > 1 or strengths.numel() not in (1, len(self)) or not bool(strengths.isfinite().all()):
            raise ValueError(f"strength: expected a finite number, or one for each of {len(self)} images, "
                             f"got {strengths.tolist()}")  # fmt: skip
        state = self.editor(edit, self.state, strengths.reshape(-1).expand(len(self)), self.generator)
        layers = None if edit.layers is None else list(edit.layers)
        made = {"edit": edit.name, "strength": strengths.tolist(), "layers": layers}
        return replace(
            self, state=state, image=state.draw(self.generator), trace={}, path=None, path_steps=[], descent=None,
            knobs=self.knobs | {"edits": [*self.knobs.get("edits", []), made]},
        )  # fmt: skip

    def save(self, path: str | Path) -> None:
        """Writes all of it as safetensors, with the method, its knobs and the generator's fingerprints."""
        state, descent = self.state, self.descent
        tensors = {"w_plus": state.w_plus, "image": self.image}
        tensors |= {f"noise.{i}": n for i, n in enumerate(state.noise or [])}
        tensors |= {f"styles.{i}": s for i, s in enumerate(state.styles or [])}
        tensors |= {f"features.{r}": f for r, f in (state.features or {}).items()}
        tensors |= {f"tuned.{name}": w for name, w in (state.tuned or {}).items()}
        tensors |= {f"trace.{k}": v for k, v in self.trace.items()}
        tensors |= {} if self.path is None else {"path": self.path}
        tensors |= {} if descent is None else {f"descent.{k}": v for k, v in descent.tensors.items()}
        metadata = {"method": self.method, "knobs": json.loads(json.dumps(self.knobs, default=str))}
        metadata |= {"interrupted": self.interrupted, "path_steps": self.path_steps, "seconds": self.seconds}
        metadata |= {"replace_rgb": state.replace_rgb, "rates": None if descent is None else descent.rates}
        marks = {"mapping": fingerprint(self.generator), "generator": fingerprint(self.generator, "generator")}
        write_tensors(path, tensors, metadata | marks)

    @classmethod
    def load(cls, path: str | Path, G: nn.Module, *, codes_only: bool = False) -> "Inversion":
        """Reads what ``save`` wrote. Raises ``ValueError`` if it belongs to another generator than ``G``.

        codes_only: ``G`` need only share the mapping network, and so W; then the codes alone are taken over and
        ``G`` draws them anew, without the noise, feature maps or weights that were found for the other one.
        """
        tensors, metadata = read_tensors(path)
        _check_generator(path, metadata, G, codes_only)

        def group(name: str) -> dict[str, Tensor]:
            return {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}

        state = State(tensors["w_plus"])
        if not codes_only:
            features = {int(r): f for r, f in group("features").items()}
            noise, styles = ([*_in_order(group(name))] or None for name in ("noise", "styles"))
            tuned, rgb = group("tuned") or None, metadata["replace_rgb"]
            state = State(tensors["w_plus"], noise, features or None, rgb, styles, tuned)
        rates = metadata["rates"]
        with torch.no_grad():
            image = state.draw(G)
        return cls(
            state, image, G, metadata["method"], group("trace"), metadata["seconds"], metadata["knobs"],
            metadata["interrupted"], tensors.get("path"), metadata["path_steps"],
            None if rates is None or codes_only else DescentState(group("descent"), rates),
        )  # fmt: skip


def _in_order(numbered: dict[str, Tensor]) -> list[Tensor]:
    return [numbered[str(i)] for i in range(len(numbered))]


def _check_generator(path: str | Path, metadata: dict[str, Any], G: nn.Module, codes_only: bool) -> None:
    own = {"mapping": fingerprint(G), "generator": fingerprint(G, "generator")}
    found = {name: metadata.get(name) for name in own}
    if found["generator"] is None or found["mapping"] is None:
        raise ValueError(f"{path}: expected a saved inversion, got a file without a generator's fingerprint")
    wanted = "mapping" if codes_only else "generator"
    if found[wanted] == own[wanted]:
        return
    advice = "load it with the generator that it was made with"
    if found["mapping"] == own["mapping"]:
        advice += ", or with codes_only=True, since the mapping network is the same"
    raise ValueError(f"{path}: expected an inversion of {wanted} {own[wanted]}, got one of {found[wanted]}; {advice}")
