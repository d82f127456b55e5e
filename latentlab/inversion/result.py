"""The result of an inversion: state, images, and the trace of the search."""

import json
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latentlab.editing.edit import Edit, Editor, Index, State, apply_edit, as_rows, carry
from latentlab.formats.pickles import printable
from latentlab.inversion.descent import DescentState
from latentlab.spaces import fingerprint
from latentlab.weights import read_tensors, write_tensors

WITH_NETWORKS = ("hfgi", "two_branch")  # methods whose edits need the networks that made the inversion


@dataclass(repr=False)
class Inversion:
    """The result of inverting a batch of images.

    state: all that the images are generated from, see ``State``.
    image: (N, 3, R, R) as generated from the state, not clamped.
    generator, method, knobs: what it was computed with; knobs["steps"] is the number of steps done, knobs["encoder"]
        the fingerprint of an encoder.
    trace: term -> (steps, N). ``trace[term][t]`` belongs to the codes after t steps.
    seconds: wall time of the whole batch.
    interrupted: whether Ctrl-C ended the search.
    path: (K, N, L, D), the codes after the numbers of steps in ``path_steps``, the last of which is ``latent``; None
        unless they were recorded (``record=``).
    descent: final state of an optimiser, which ``resume=`` of this inversion continues; else None.
    editor: function that applies edits for this method, by default ``apply_edit``.
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
        """One noise map per convolution if the method optimised them, else None (the generator's constant noise)."""
        return self.state.noise

    @property
    def features(self) -> dict[int, Tensor] | None:
        """Feature maps by resolution if the state has some (F space), else None."""
        return self.state.features

    def __len__(self) -> int:
        return len(self.state)

    def __repr__(self) -> str:
        steps = f", {self.knobs['steps']} steps" if "steps" in self.knobs else ""
        r = self.image.shape[-1]
        return f"Inversion({len(self)} images of {r} px by {self.method}{steps}, {self.seconds:.1f} s)"

    def __getitem__(self, index: Index) -> "Inversion":
        """The inversion of some of the images; a single index gives an inversion of one."""
        chosen = as_rows(index, len(self))
        return replace(
            self,
            state=self.state[chosen],
            image=self.image[chosen],
            trace={k: v[:, chosen] for k, v in self.trace.items()},
            path=None if self.path is None else self.path[:, chosen],
            descent=None if self.descent is None else self.descent[chosen],
        )

    @torch.no_grad()
    def synthesize(self, w_plus: Float[Tensor, "n layers dim"]) -> Float[Tensor, "n 3 r r"]:
        """Images of other codes with the noise, styles, feature maps and tuned weights of this inversion."""
        return carry(self.state, replace(self.state, w_plus=w_plus), self.generator).draw(self.generator)

    def edit(self, edit: Edit, strength: float | Float[Tensor, " n"] = 1.0) -> Float[Tensor, "n 3 r r"]:
        """The images after an edit. strength: one number, or one per image; 0 changes nothing."""
        return self.edited(edit, strength).image

    @torch.no_grad()
    def edited(self, edit: Edit, strength: float | Float[Tensor, " n"] = 1.0) -> "Inversion":
        """The inversion after an edit, to be edited again, measured or saved; it has no trace and no path.

        No strength is refused: ``editing.code_range.CodeRange`` tells whether it left the generator's range.
        """
        if not isinstance(edit, Edit):
            raise ValueError(
                f"edit: expected an Edit, got {type(edit).__name__}; make one of a vector of W or W+ with "
                "Direction(name, vector)"
            )
        strengths = torch.as_tensor(strength, dtype=torch.float32).to(self.latent)
        if strengths.ndim > 1 or strengths.numel() not in (1, len(self)) or not bool(strengths.isfinite().all()):
            raise ValueError(
                f"strength: expected a finite number, or one for each of {len(self)} images, got {strengths.tolist()}"
            )
        if self.knobs.get("space") == "F" and self.features is None:
            raise ValueError(
                "edit: expected an inversion in F space with its feature map, got one without, which Eq. 6 of CLCAE "
                "would add to; load it without codes_only, or invert again with space='W+'"
            )
        state = self.editor(edit, self.state, strengths.reshape(-1).expand(len(self)), self.generator)
        layers = None if edit.layers is None else list(edit.layers)
        entry = {"edit": edit.name, "strength": strengths.tolist(), "layers": layers}
        knobs = self.knobs | {"edits": [*self.knobs.get("edits", []), entry]}
        without_search = {"trace": {}, "path": None, "path_steps": [], "descent": None}
        return replace(self, state=state, image=state.draw(self.generator), knobs=knobs, **without_search)

    def save(self, path: str | Path) -> None:
        """Writes the inversion as safetensors, with its method, knobs and the fingerprints of the generator."""
        state, descent = self.state, self.descent
        tensors = {"w_plus": state.w_plus, "image": self.image}
        tensors |= {f"noise.{i}": n for i, n in enumerate(state.noise or [])}
        tensors |= {f"styles.{i}": s for i, s in enumerate(state.styles or [])}
        tensors |= {f"features.{r}": f for r, f in (state.features or {}).items()}
        tensors |= {f"tuned.{name}": w for name, w in (state.tuned or {}).items()}
        tensors |= {f"kept.{name}": x for name, x in (state.kept or {}).items()}
        tensors |= {f"trace.{k}": v for k, v in self.trace.items()}
        tensors |= {} if self.path is None else {"path": self.path}
        tensors |= {} if descent is None else {f"descent.{k}": v for k, v in descent.tensors.items()}
        metadata = {"method": self.method, "knobs": json.loads(json.dumps(self.knobs, default=str))}
        metadata |= {"interrupted": self.interrupted, "path_steps": self.path_steps, "seconds": self.seconds}
        metadata |= {"replace_rgb": state.replace_rgb, "rates": None if descent is None else descent.rates}
        fingerprints = {"mapping": fingerprint(self.generator), "generator": fingerprint(self.generator, "generator")}
        write_tensors(path, tensors, metadata | fingerprints)

    @classmethod
    def load(
        cls, path: str | Path, G: nn.Module, *, codes_only: bool = False, editor: Editor | None = None
    ) -> "Inversion":
        """Reads an inversion written by ``save``. Raises ``ValueError`` if it belongs to a generator other than ``G``.

        codes_only: read only the codes, without noise, styles, feature maps or tuned weights, and generate their
        images with ``G``, which then need only have the same mapping network.
        editor: that of the method, which is not in the file; by default that of the shipped networks, for HFGI
            and two branches.
        """
        tensors, metadata = read_tensors(path)
        _check_generator(path, metadata, G, codes_only)
        if editor is None:
            editor = apply_edit if codes_only else _editor_of(metadata, G)
        try:
            return cls._restore(tensors, metadata, G, codes_only, editor)
        except (ValueError, LookupError, TypeError, RuntimeError) as error:
            says = f"expected an inversion that `save` wrote, got a damaged one ({printable(error, 200)})"
            raise ValueError(f"{path}: {says}") from error

    @classmethod
    def _restore(
        cls, tensors: dict[str, Tensor], metadata: dict[str, Any], G: nn.Module, codes_only: bool, editor: Editor
    ) -> "Inversion":
        def group(name: str) -> dict[str, Tensor]:
            return {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}

        state = State(tensors["w_plus"])
        if not codes_only:
            features = {int(r): f for r, f in group("features").items()}
            noise, styles = ([*_in_order(group(name))] or None for name in ("noise", "styles"))
            tuned, rgb = group("tuned") or None, metadata["replace_rgb"]
            state = State(tensors["w_plus"], noise, features or None, rgb, styles, tuned, group("kept") or None)
        rates = metadata["rates"]
        with torch.no_grad():
            image = state.draw(G)
        return cls(
            state,
            image,
            G,
            metadata["method"],
            trace=group("trace"),
            seconds=metadata["seconds"],
            knobs=metadata["knobs"],
            interrupted=metadata["interrupted"],
            path=tensors.get("path"),
            path_steps=metadata["path_steps"],
            descent=None if rates is None or codes_only else DescentState(group("descent"), rates),
            editor=editor,
        )


def _editor_of(metadata: dict[str, Any], G: nn.Module) -> Editor:
    """How the method of a saved inversion edits."""
    knobs = metadata.get("knobs")
    if not isinstance(knobs, dict) or (made_by := knobs.get("network")) is None:
        return apply_edit
    if (method := metadata.get("method")) not in WITH_NETWORKS:
        known = " or ".join(WITH_NETWORKS)
        raise ValueError(f"method: expected {known} for an inversion with networks, got {method!r}")
    # The module of a method, which imports this one, knows how the method edits.
    return import_module(f"latentlab.inversion.{method}").restore_editor(G, knobs.get("base"), made_by)


def _in_order(numbered: dict[str, Tensor]) -> list[Tensor]:
    return [numbered[str(i)] for i in range(len(numbered))]


def _check_generator(path: str | Path, metadata: dict[str, Any], G: nn.Module, codes_only: bool) -> None:
    own = {"mapping": fingerprint(G), "generator": fingerprint(G, "generator")}
    found = {name: metadata.get(name) for name in own}
    if found["generator"] is None or found["mapping"] is None:
        raise ValueError(f"{path}: expected a saved inversion, got a file without a generator's fingerprints")
    kind = "mapping" if codes_only else "generator"
    if found[kind] == own[kind]:
        return
    advice = "load it with the generator that it was made with"
    if found["mapping"] == own["mapping"]:
        advice += ", or with codes_only=True, since the mapping network is the same"
    name = "mapping network" if codes_only else "generator"
    raise ValueError(f"{path}: expected an inversion of the {name} {own[kind]}, got one of {found[kind]}; {advice}")
