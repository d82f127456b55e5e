"""Checkpoints of pSp, e4e, ReStyle, LSAP and CLCAE: the generator inside, and the encoder with its options."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from latentlab.formats.contents import explain, read_contents, read_state
from latentlab.formats.pickles import printable
from latentlab.formats.tensors import as_plain, find_tensor

# opts.encoder_type -> kind. e4e and LSAP share one architecture, and so do the tensors of pSp and e4e.
_TYPES = {
    "GradualStyleEncoder": "psp",
    "Encoder4Editing": "e4e",
    "BackboneEncoder": "restyle_psp",
    "ResNetBackboneEncoder": "restyle_psp",
    "ProgressiveBackboneEncoder": "restyle_e4e",
    "ResNetProgressiveBackboneEncoder": "restyle_e4e",
    "SingleStyleCodeEncoder": "w",
    "BackboneEncoderUsingLastLayerIntoW": "w",
}
KINDS = ("psp", "e4e", "w", "restyle_psp", "restyle_e4e", "clcae")


@dataclass(frozen=True)
class EncoderFile:
    """An encoder as a file holds it.

    kind: one of ``KINDS``, by architecture; LSAP's encoder is "e4e". state: its state dict, without the prefix
    "encoder.". options: the training's, plain values. latent_avg: (L, D) or (D,), where the file has it.
    """

    kind: str
    state: dict[str, Tensor]
    options: dict[str, Any]
    latent_avg: Tensor | None


def read_encoder(path: str | Path, *, kind: str | None = None) -> EncoderFile:
    """Reads the encoder of a checkpoint; nothing of the file is run.

    kind: what the file does not tell (pSp's and e4e's tensors are alike), one of ``KINDS``. Raises ``ValueError``
    for files that hold none.
    """
    path = Path(path)
    try:
        value = read_contents(path)
        state = _part(value, "encoder.")
        options = as_plain(value["opts"]) if "opts" in value else {}
        average = find_tensor(value.get("latent_avg"))
        tensors = read_state(state, path)
        options = options if isinstance(options, dict) else {}
        found = kind or _kind(tensors, options)
        return EncoderFile(found, tensors, options, None if average is None else average.read().float())
    except (ValueError, RuntimeError, MemoryError) as error:
        raise ValueError(f"{path}: {printable(error)}") from error


def decoder_of(value: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of the generator in a checkpoint, named as rosinality's; ``ValueError`` where there is none."""
    return _part(value, "decoder.")


def _part(value: Any, prefix: str) -> dict[str, Any]:
    state = value.get("state_dict", value) if isinstance(value, dict) else None
    names = [] if not isinstance(state, dict) else [name for name in state if isinstance(name, str)]
    if prefix == "encoder." and "input_layer.0.weight" in names:
        prefix = ""  # saved without its generator
    part = {name[len(prefix) :]: state[name] for name in names if name.startswith(prefix)}
    if not part:
        raise ValueError(explain(value) if prefix == "decoder." else f"no {prefix[:-1]} in it: {explain(value)}")
    return part


def _kind(tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> str:
    if any(name.startswith("cross_attention.") for name in tensors):
        return "clcae"
    if str(options.get("encoder_type")) in _TYPES:
        return _TYPES[str(options["encoder_type"])]
    said = " ".join(str(v).lower() for k, v in options.items() if re.search("encoder|network|method", str(k)))
    for word, kind in (("e4e", "e4e"), ("lsap", "e4e"), ("psp", "psp")):
        if word in said:
            return kind
    raise ValueError("the file does not say what its encoder is, and the tensors of pSp and e4e are alike: pass "
                     f"kind=, one of {', '.join(KINDS)}")  # fmt: skip
