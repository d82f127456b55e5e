"""Descents that claims share: each is made once, kept face by face in the user's cache, and continued where it stopped.

The cache holds codes, not measurements: they depend on the generator, the target and the knobs alone, so that several
claims read the same ones, and a rule or a measurement that changes needs no new descents.
"""

import hashlib
import json
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor

from latentlab.editing.edit import State
from latentlab.faces import FaceSet, real_set
from latentlab.inversion.conditions import downsample, greyscale, mask
from latentlab.inversion.descent import DescentState
from latentlab.inversion.result import Inversion
from latentlab.inversion_methods import invert
from latentlab.seeds import stream
from latentlab.spaces import Statistics, fingerprint, statistics_for
from latentlab.stylegan.generator import Generator
from latentlab.weights import read_manifest, read_tensors, write_tensors
from latentlab.weights.downloads import cache_folder

TABLES = Path(__file__).parents[2] / "docs"
VERSION = 1  # of the descents: to be raised when a change of the code gives other codes
FLOORS = {"": 1e-4, "coarse_": 1e-2}  # of the eigenvalues of P, relative to the largest: prefix of a number -> floor
KINDS = ("clean", "strange")
OWN = "own"  # kind of face: images of the generator itself
BATCH = 10  # faces that descend together
PERCEPTUAL = "losses.perceptual.safetensors"
# Their codes after k steps do not depend on how many steps follow, so that a longer descent serves as a shorter one.
STEADY = ("ii2s", "i2s", "z_plus")


def _left_half(images: Tensor) -> Callable[[Tensor], Tensor]:
    known = torch.ones_like(images[0, 0])
    known[:, known.shape[1] // 2 :] = 0
    return mask(known)


TASKS = {"colour": lambda images: greyscale, "half": _left_half, "detail": lambda images: downsample(8)}


@dataclass(frozen=True)
class Run:
    """A descent that is made on each of some faces.

    at: the numbers of steps after which codes are wanted, the last of which is its length. knobs: of the method. floor:
    of the statistics. task: what is shown of the target, a name of ``TASKS``, or "" for all. start: number of a random
    start, another one for each face; None: the method's own start. open: the descent is kept, too, so that a longer run
    continues it.
    """

    method: str
    at: tuple[int, ...]
    knobs: tuple[tuple[str, Any], ...] = ()
    floor: float = FLOORS[""]
    task: str = ""
    start: int | None = None
    open: bool = False

    @property
    def steps(self) -> int:
        """Number of steps."""
        return self.at[-1]

    @property
    def name(self) -> str:
        """What distinguishes the run from others on the same face, in words."""
        knobs = (f"{name} {value if isinstance(value, str) else f'{value:g}'}" for name, value in self.knobs)
        told = [self.method, *knobs, f"floor {self.floor:g}"]
        told += [self.task] * bool(self.task) + [f"start {self.start}"] * (self.start is not None)
        return ", ".join(told if self.method in STEADY else [*told, f"{self.steps} steps"])


class Planned(NamedTuple):
    """A run on the first ``n`` faces of a kind."""

    run: Run
    kind: str
    n: int


@dataclass(frozen=True)
class Found:
    """What a run found: codes after numbers of steps, {steps: (N, L, D)}; images of the last ones; mean seconds that it
    took for a face; noise maps at the end, if it optimises them."""

    codes: dict[int, Float[Tensor, "n layers dim"]]
    image: Float[Tensor, "n 3 r r"]
    seconds: float
    noise: list[Tensor] | None = None

    @property
    def latent(self) -> Float[Tensor, "n layers dim"]:
        """The codes after the last step."""
        return self.codes[max(self.codes)]

    @property
    def state(self) -> State:
        """The codes after the last step and the noise maps, to be edited."""
        return State(self.latent, self.noise)


@dataclass(frozen=True)
class _Face:
    """The same for one face. pace: seconds a step. pictures: after numbers of steps; where one is missing, it is drawn
    from the codes. noise: a map (1, r, r) for each convolution, or none."""

    codes: dict[int, Tensor]
    pace: float
    pictures: dict[int, Tensor]
    noise: list[Tensor] = field(default_factory=list)


_KEPT: WeakKeyDictionary[Generator, dict] = WeakKeyDictionary()  # what this process has found already


def forget() -> None:
    """Forgets the descents of this process; those in the user's cache stay."""
    _KEPT.clear()


@dataclass(eq=False)
class Bench:
    """Where claims are measured.

    full: at the size of the ledger; False: on a quick subset. faces: at most so many of each kind. kinds: of faces that
    are measured. tables: folder of the tables of runs that are not shipped, see ``encoder_runs``. folder: where
    descents are kept between processes; None: nowhere. batch: faces that descend together. say: is told what goes on.
    """

    G: Generator
    full: bool = False
    faces: int | None = None
    kinds: Sequence[str] = KINDS
    tables: Path = field(default_factory=lambda: TABLES)
    folder: Path | None = None
    batch: int = BATCH
    say: Callable[[str], object] = field(default=lambda text: None)

    @classmethod
    def kept(cls, G: Generator, **knobs: Any) -> "Bench":
        """A bench at full size whose descents are kept in the user's cache folder (``LATENTLAB_CACHE``)."""
        return cls(G, True, folder=cache_folder("claims") / fingerprint(G, "generator"), **knobs)

    def count(self, wanted: int) -> int:
        """Number of faces of a kind of which a claim wants so many."""
        return wanted if self.faces is None else min(wanted, self.faces)

    def statistics(self, floor: float) -> Statistics:
        """The generator's statistics with this floor of the eigenvalues."""
        return replace(self._statistics, floor=floor)

    @cached_property
    def _statistics(self) -> Statistics:
        return statistics_for(self.G)

    def faces_of(self, kind: str, n: int) -> FaceSet:
        """The first faces of a kind of the real set."""
        faces = _real_faces(self.G.resolution, kind)
        if n > len(faces):
            raise ValueError(f"faces: expected at most {len(faces)} {kind} ones, got {n}")
        return faces[:n]

    def images(self, kind: str, faces: Sequence[int]) -> Float[Tensor, "n 3 r r"]:
        """Targets: faces of the real set by number, or images of the generator."""
        if kind != OWN:
            return self.faces_of(kind, max(faces) + 1).images[list(faces)].to(self.G.w_avg)
        z = [torch.randn(1, self.G.z_dim, generator=stream(i, "claims", "own")) for i in faces]
        with torch.no_grad():
            return self.G(torch.cat(z).to(self.G.w_avg)).clamp(-1, 1)

    def find(self, run: Run, kind: str, faces: Sequence[int] | int) -> Found:
        """The result of a run on these faces (a number: the first ones), from the cache as far as it goes.

        Ctrl-C keeps what is done, the descent under way included, and raises ``KeyboardInterrupt``.
        """
        faces = range(faces) if isinstance(faces, int) else faces
        marks = self.marks(kind, faces)
        known = {i: self._known(run, kind, i, mark) for i, mark in marks.items()}
        missing = [i for i, face in known.items() if face is None]
        for start in range(0, len(missing), self.batch):
            chunk = missing[start : start + self.batch]
            known |= self._descend(run, kind, chunk, [marks[i] for i in chunk])
            seconds, rest = known[chunk[0]].pace * run.steps, len(missing) - start - len(chunk)
            told = f"  {run.name}: {kind} faces {chunk[0]} to {chunk[-1]}, {seconds:.1f} s each"
            self.say(told + f", {rest} to go" * bool(rest))
        found = [known[i] for i in faces]
        codes = {k: torch.stack([face.codes[k] for face in found]).to(self.G.w_avg) for k in run.at}
        if all(run.steps in face.pictures for face in found):
            image = torch.stack([face.pictures[run.steps] for face in found]).to(self.G.w_avg)
        else:
            with torch.no_grad():
                image = torch.cat([self.G.synthesis(part) for part in codes[run.steps].split(40)])
        noise = [torch.stack(maps).to(self.G.w_avg) for maps in zip(*(face.noise for face in found), strict=True)]
        return Found(codes, image, run.steps * sum(face.pace for face in found) / len(found), noise or None)

    def left(self, plan: Iterable[Planned]) -> tuple[int, int, float]:
        """Face descents in all, those still to be made, and the seconds that these take; NaN if none was timed yet.

        A run of which no face is done is expected to take as long for a step as the others of its plan.
        """
        total, missing, seconds, untimed, rates = 0, 0, 0.0, 0, []
        for run, kind, n in dict.fromkeys(plan):
            known = [self._known(run, kind, i, mark) for i, mark in self.marks(kind, range(n)).items()]
            paces = [face.pace for face in known if face is not None]
            to_do = n - len(paces)
            total, missing = total + n, missing + to_do
            if paces:
                rates.append(sum(paces) / len(paces))
                seconds += to_do * run.steps * rates[-1]
            else:
                untimed += to_do * run.steps
        rate = sum(rates) / len(rates) if rates else math.nan
        return total, missing, seconds + (untimed * rate if untimed else 0.0)

    def pace(self, plan: Iterable[Planned]) -> float:
        """Seconds that the runs of a plan, all of them made, take for a face: the mean over its kinds."""
        plan, spent = list(dict.fromkeys(plan)), 0.0
        for run, kind, n in plan:
            known = [self._known(run, kind, i, mark) for i, mark in self.marks(kind, range(n)).items()]
            spent += sum(face.pace for face in known) / n * run.steps
        return spent / len({kind for _, kind, _ in plan}) if plan else 0.0

    def marks(self, kind: str, faces: Sequence[int]) -> dict[int, str]:
        """What the targets are recognised by, should the renderer change; the generator's own belong to its folder."""
        if kind == OWN:
            return dict.fromkeys(faces, OWN)
        pictures = ((x * 127.5).round().cpu().numpy().astype("int16") for x in self.images(kind, faces))
        return {i: hashlib.sha256(x.tobytes()).hexdigest()[:8] for i, x in zip(faces, pictures, strict=True)}

    def _key(self, run: Run) -> str:
        """What the codes of a run depend on besides generator and target, as 12 hexadecimal digits."""
        key = {k: v for k, v in vars(run).items() if k not in ("at", "open")} | {"name": run.name, "version": VERSION}
        key |= {"statistics": self._statistics_mark, "perceptual": self._perceptual_mark}
        return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]

    def _path(self, run: Run, kind: str, i: int, mark: str) -> Path:
        return self.folder / self._key(run) / f"{kind}-{i:03d}-{mark}.safetensors"

    @cached_property
    def _statistics_mark(self) -> str:
        s = self._statistics
        return hashlib.sha256(s.eigenvalues.numpy().tobytes() + s.mean.numpy().tobytes()).hexdigest()[:12]

    @cached_property
    def _perceptual_mark(self) -> str:
        return read_manifest()[PERCEPTUAL]["sha256"]

    def _known(self, run: Run, kind: str, i: int, mark: str) -> _Face | None:
        """The result for a face if there is one with codes after all steps that are wanted."""
        if self.folder is None:
            face = _KEPT.get(self.G, {}).get((self._key(run), kind, i, mark))
        else:
            face = _read(self._path(run, kind, i, mark))
        return None if face is None or not set(run.at) <= face.codes.keys() else face

    def _keep(self, run: Run, kind: str, i: int, mark: str, face: _Face) -> None:
        if self.folder is None:
            _KEPT.setdefault(self.G, {})[self._key(run), kind, i, mark] = face
        else:
            _write(self._path(run, kind, i, mark), face)

    def _descend(self, run: Run, kind: str, faces: list[int], marks: list[str]) -> dict[int, _Face]:
        """Makes a run on these faces, from where an earlier or shorter one stopped, and keeps the result."""
        images, more = self.images(kind, faces), dict(run.knobs)
        if run.task:
            more["condition"] = TASKS[run.task](images)
        if run.start is not None:
            more |= self._start(run, faces)
        batch = hashlib.sha256("/".join([*map(str, (*run.at, *faces)), *marks]).encode()).hexdigest()[:12]
        unfinished = None if self.folder is None else self.folder / self._key(run) / f"unfinished-{batch}.safetensors"
        if (before := self._begun(run, kind, faces, marks, unfinished)) is not None:
            more = {k: v for k, v in more.items() if k != "initial"} | {"resume": before}
        with torch.enable_grad():
            found = invert(images, self.G, run.method, steps=run.steps, record=math.gcd(*run.at),
                           statistics=self.statistics(run.floor), **more)  # fmt: skip
        if found.interrupted:
            if unfinished is not None:
                unfinished.parent.mkdir(parents=True, exist_ok=True)
                found.save(unfinished)
            raise KeyboardInterrupt
        done = {}
        for row, (i, mark) in enumerate(zip(faces, marks, strict=True)):
            codes = {k: v[row].cpu() for k, v in zip(found.path_steps, found.path, strict=True) if k in run.at}
            # What noise maps have drawn cannot be drawn from the codes.
            keeps_pictures = self.folder is None or found.noise is not None
            pictures = {run.steps: found.image[row].detach().cpu()} if keeps_pictures else {}
            if run.method in STEADY and (shorter := self._known(replace(run, at=()), kind, i, mark)):
                codes, pictures = shorter.codes | codes, shorter.pictures | pictures
            noise = [maps[row].detach().cpu() for maps in found.noise or ()]
            done[i] = _Face(codes, found.seconds / len(faces) / run.steps, pictures, noise)
            self._keep(run, kind, i, mark, done[i])
            if run.open and self.folder is not None:
                alone = replace(found[row], seconds=found.seconds / len(faces))
                alone.save(_open(self._path(run, kind, i, mark)))
        if unfinished is not None:
            unfinished.unlink(missing_ok=True)
        return done

    def _begun(
        self, run: Run, kind: str, faces: list[int], marks: list[str], unfinished: Path | None
    ) -> Inversion | None:
        """The descent that a run continues: its own, where it was interrupted, or a shorter one that was left open."""
        if unfinished is None:
            return None
        if (found := read_inversion(unfinished, self.G)) is not None or not run.open:
            return found
        paths = [_open(self._path(run, kind, i, mark)) for i, mark in zip(faces, marks, strict=True)]
        parts = [read_inversion(path, self.G) for path in paths]
        lengths = {part and part.knobs["steps"] for part in parts}
        return _join(parts) if len(lengths) == 1 and None not in lengths and max(lengths) < run.steps else None

    def _start(self, run: Run, faces: Sequence[int]) -> dict[str, Any]:
        """Knobs of a random start of its own for each face: starts and faces then vary together."""
        if run.method in ("z_plus", "pulse"):
            return {"seed": [1_000 * run.start + i for i in faces]}
        z = [torch.randn(1, self.G.z_dim, generator=stream(run.start, "claims", "start", i)) for i in faces]
        with torch.no_grad():
            return {"initial": self.G.broadcast(self.G.mapping(torch.cat(z).to(self.G.w_avg)))}


@cache
def _real_faces(resolution: int, kind: str) -> FaceSet:
    return getattr(real_set(resolution), kind)


def _open(path: Path) -> Path:
    """Where the descent of a face is kept beside its codes."""
    return path.with_suffix(".open.safetensors")


def _write(path: Path, face: _Face) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {f"codes.{k}": v for k, v in face.codes.items()}
    tensors |= {f"picture.{k}": v.half() for k, v in face.pictures.items()}
    tensors |= {f"noise.{i}": v.half() for i, v in enumerate(face.noise)}
    write_tensors(path, tensors, {"pace": face.pace})


def _read(path: Path) -> _Face | None:
    """A kept result; None where there is none, or only a damaged one, which is told and made again."""
    if not path.is_file():
        return None
    try:
        tensors, metadata = read_tensors(path)
        codes, pictures = ({int(k.partition(".")[2]): v for k, v in tensors.items() if k.startswith(f"{name}.")}
                           for name in ("codes", "picture"))  # fmt: skip
        noise = [tensors[f"noise.{i}"].float() for i in range(sum(k.startswith("noise.") for k in tensors))]
        return _Face(codes, metadata["pace"], pictures, noise)
    except (ValueError, LookupError) as error:
        warnings.warn(f"{path}: expected a descent, got a damaged file ({error}); it is made again", stacklevel=4)
        return None


def read_inversion(path: Path, G: Generator) -> Inversion | None:
    """A kept inversion, such as an interrupted descent, on the generator's device; None where there is none that can
    be read."""
    if not path.is_file():
        return None
    try:
        found = Inversion.load(path, G)
    except (ValueError, LookupError, TypeError) as error:
        warnings.warn(f"{path}: expected an inversion, got a damaged file ({error}); it is made again", stacklevel=4)
        return None
    trace = {name: values.to(G.w_avg) for name, values in found.trace.items()}
    return replace(found, trace=trace, path=None if found.path is None else found.path.to(G.w_avg))


def _join(parts: Sequence[Inversion]) -> Inversion:
    """Descents of single faces as that of a batch, to be continued together."""
    first = parts[0]
    tensors = {k: torch.cat([p.descent.tensors[k] for p in parts]) for k in first.descent.tensors}
    return replace(
        first,
        state=State(torch.cat([p.latent for p in parts])),
        image=torch.cat([p.image for p in parts]),
        trace={k: torch.cat([p.trace[k] for p in parts], 1) for k in first.trace},
        path=torch.cat([p.path for p in parts], 1),
        seconds=sum(p.seconds for p in parts),
        descent=DescentState(tensors, first.descent.rates),
    )
