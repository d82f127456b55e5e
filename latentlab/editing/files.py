"""Edits as files: small safetensors of latentlab's own, and the directions of public repositories."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from latentlab.editing.calibration import Calibrated, fingerprint_for
from latentlab.editing.coordinates import Coordinates
from latentlab.editing.corrected import Corrected
from latentlab.editing.edit import Direction, Edit, Restricted, State
from latentlab.editing.regression import PnDirection
from latentlab.editing.samples import Read, reader_of
from latentlab.editing.styleflow import ConditionalFlow, FlowEdit
from latentlab.editing.stylespace import StyleDirection
from latentlab.formats.directions import read_directions
from latentlab.formats.pickles import printable
from latentlab.spaces import fingerprint
from latentlab.weights import read_tensors, write_tensors

MAX_CHAIN = 16  # an edit is restricted, calibrated or corrected, each at most a few times
MAX_STEPS = 1_000  # of a correction
Parts = tuple[dict[str, Any], dict[str, Tensor]]  # json values and tensors


def save_edit(path: str | Path, edit: Edit, G: nn.Module) -> None:
    """Writes an edit of ``G`` with its provenance and the generator's fingerprints, as safetensors.

    A network that an edit reads attributes with is not part of it: ``load_edit`` takes one. ``ValueError`` where the
    edit is none of ``G``.
    """
    tensors, metadata = pack_edit(edit, G)
    write_tensors(path, tensors, metadata)


def pack_edit(edit: Edit, G: nn.Module) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of an edit of ``G``, as ``save_edit`` writes them."""
    edit(State(G.broadcast(G.w_avg[None])), torch.zeros(1).to(G.w_avg), G)  # refuses another generator
    chain, tensors = [], {}
    while isinstance(edit, Restricted | Calibrated | Corrected):
        values, held = _pack_wrapper(edit)
        chain.append(values)
        tensors |= {f"{len(chain) - 1}.{name}": t for name, t in held.items()}
        edit = edit.edit
    values, held = _pack(edit)
    chain.append(values)
    tensors |= {f"{len(chain) - 1}.{name}": t for name, t in held.items()}
    whole = any(values["kind"] in ("style", "corrected") for values in chain)
    marks = {"mapping": fingerprint(G), "generator": fingerprint(G, "generator"), "whole": whole}
    return tensors, {"edit": chain} | marks


def load_edit(
    path: str | Path, G: nn.Module, read: Read | None = None, names: Sequence[str] | None = None
) -> Edit:
    """Reads what ``save_edit`` wrote. ``ValueError`` for another generator than ``G``: of an edit of W and PN the
    mapping network must be the same, of one that moves S the whole of it. read: for edits that read attributes (flows
    and corrections), the same as when they were made, by default the losses' network."""
    tensors, metadata = read_tensors(path)
    if "edit" not in metadata:
        raise ValueError(f"{path}: expected an edit written by save_edit, got a file without one")
    wanted = "generator" if metadata["whole"] else "mapping"
    found = fingerprint(G, "generator") if metadata["whole"] else fingerprint(G)
    if metadata[wanted] != found:
        raise ValueError(f"{path}: expected an edit of {wanted} {found}, got one of {metadata[wanted]}; load it with "
                         "the generator that it was found for")  # fmt: skip
    try:
        if not 1 <= len(metadata["edit"]) <= MAX_CHAIN:
            raise ValueError(f"{len(metadata['edit'])} edits around one another")
        edit = unpack_edit(tensors, metadata["edit"], G, read, names)
        if not isinstance(edit.name, str):
            raise ValueError(f"a name that is a {type(edit.name).__name__}")
        return edit
    except (LookupError, TypeError, AttributeError, RuntimeError, ValueError, MemoryError) as error:
        says = f"expected an edit that fits and is whole, got one of which is said: {printable(error, 200)}"
        raise ValueError(f"{path}: {says}") from error


def unpack_edit(
    tensors: Mapping[str, Tensor], chain: Sequence[dict[str, Any]], G: nn.Module, read: Read | None = None,
    names: Sequence[str] | None = None,
) -> Edit:  # fmt: skip
    """The edit that ``pack_edit`` gave as ``tensors`` and, in its metadata, ``chain``; ``read`` as in ``load_edit``."""
    edit = None
    for i, values in reversed(list(enumerate(chain))):
        held = {k.split(".", 1)[1]: t.to(G.w_avg.device) for k, t in tensors.items() if k.startswith(f"{i}.")}
        edit = _unpack(values, held, edit, G, read, names)
    return edit


def _pack_wrapper(edit: Edit) -> Parts:
    if isinstance(edit, Restricted):
        return {"kind": "restricted", "layers": edit.layers}, {}
    if isinstance(edit, Calibrated):
        return {"kind": "calibrated", "scale": edit.scale} | _about(edit), {}
    knobs = {"held": edit.held, "steps": edit.steps, "lambda_ridge": edit.lambda_ridge, "names": edit.reader.names}
    widths = {"widths": edit.coordinates.widths}
    return {"kind": "corrected"} | knobs | widths, {"spread": edit.spread, "scale": edit.coordinates.scale}


def _pack(edit: Edit) -> Parts:
    about = {"name": edit.name} | _about(edit)
    if isinstance(edit, Direction):
        return {"kind": "direction"} | about, {"vector": edit.vector}
    if isinstance(edit, PnDirection):
        return {"kind": "pn"} | about | {"fingerprint": edit.fingerprint}, {"step": edit.step}
    if isinstance(edit, StyleDirection):
        shifts = {f"shifts.{i}": shift for i, shift in enumerate(edit.shifts)}
        return {"kind": "style"} | about | {"layers": edit.layers}, shifts
    if isinstance(edit, FlowEdit):
        own = {"layers": edit.layers, "config": edit.flow.config, "fingerprint": edit.fingerprint}
        return {"kind": "flow"} | about | own, edit.flow.state_dict()
    raise ValueError(f"edit: expected one of latentlab's own kinds, got {type(edit).__name__}; it cannot be saved")


def _about(edit: Edit) -> dict[str, Any]:
    return {"std": edit.std, "unit": edit.unit, "source": edit.source}


def _unpack(
    values: dict[str, Any], held: dict[str, Tensor], edit: Edit | None, G: nn.Module, read: Read | None,
    names: Sequence[str] | None,
) -> Edit:  # fmt: skip
    about = {k: values[k] for k in ("name", "std", "unit", "source") if k in values}
    layers = None if values.get("layers") is None else tuple(values["layers"])
    match values["kind"]:
        case "direction":
            return Direction(vector=held["vector"], **about)
        case "pn":
            return PnDirection(step=held["step"], fingerprint=values["fingerprint"], **about)
        case "style":
            return StyleDirection(shifts=tuple(held[f"shifts.{i}"] for i in range(len(held))), layers=layers, **about)
        case "flow":
            _check_flow(values["config"], held)
            flow = ConditionalFlow(**values["config"]).to(G.w_avg.device).requires_grad_(False).eval()
            flow.load_state_dict(held)
            own = {k: about[k] for k in ("name", "unit", "source")}
            reader = reader_of(read, names, like=G.w_avg)
            return FlowEdit(flow=flow, reader=reader, fingerprint=values["fingerprint"], layers=layers, **own)
        case "restricted":
            return Restricted(edit, layers)
        case "calibrated":
            return Calibrated(edit, values["scale"], fingerprint_for(edit, G), **about)
    if not 0 <= values["steps"] <= MAX_STEPS:
        raise ValueError(f"a correction of {values['steps']} steps; {MAX_STEPS} are the most")
    reader = reader_of(read, names, like=G.w_avg, probabilities=False)
    if list(reader.names) != values["names"]:
        raise ValueError(f"read: expected one for {', '.join(values['names'])}, got one for {', '.join(reader.names)}")
    coordinates = Coordinates("S", held["scale"], tuple(values["widths"]))
    return Corrected(edit, reader, held["spread"], coordinates, tuple(values["held"]), values["steps"],
                     values["lambda_ridge"])  # fmt: skip


def _check_flow(config: Mapping[str, Any], held: Mapping[str, Tensor]) -> None:
    """Raises ``ValueError`` for a flow that claims more than its tensors hold, before it is built."""
    sizes = [config["dim"], len(config["names"]), *config["hidden"]]
    if len(sizes) > len(held) or max(sizes) > max(n for tensor in held.values() for n in tensor.shape):
        raise ValueError(f"a flow of sizes {str(sizes)[:80]}, which its tensors do not have")


def read_edits(
    path: str | Path, G: nn.Module, read: Read | None = None, names: Sequence[str] | None = None
) -> dict[str, Edit]:
    """The edits of a file for ``G``, by name: one that ``save_edit`` wrote, or directions of public repositories.

    Such directions (see ``latentlab.formats.directions.read_directions`` for what can be read) are edits of W, or of W+
    where the file has a row for each layer of ``G``; strength 1 adds the vector of the file. The file does not say to
    which generator they belong: ``ValueError`` if they have another width than W of ``G``, but those of another
    generator of the same width go through. read, names: as in ``load_edit``.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a file of edits or directions, got a path that is no file")
    if _is_own(path):
        edit = load_edit(path, G, read, names)
        return {edit.name: edit}
    vectors: dict[str, Tensor] = {}
    for name, given in read_directions(path).items():
        if given.shape[-1] != G.w_dim:
            raise ValueError(f"{path}: expected vectors of the {G.w_dim} dimensions of W, got the shape "
                             f"{tuple(given.shape)} in {name!r}; is it of another generator?")  # fmt: skip
        whole = given.ndim == 1 or len(given) == G.num_ws
        vectors |= {name: given} if whole else {f"{name} {i}": row for i, row in enumerate(given)}
    about = {"unit": "vectors of the file", "source": path.name}
    return {name: Direction(name, vector.to(G.w_avg), **about) for name, vector in vectors.items()}


def _is_own(path: Path) -> bool:
    with open(path, "rb") as file:
        if file.read(9)[8:] != b"{":  # safetensors: 8 bytes of length, then JSON
            return False
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return "edit" in (file.metadata() or {})
    except SafetensorError:  # damaged: what reads it says so
        return False
