"""Generators in files of any implementation, as the configuration and the state of a ``Generator``."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentlab.formats import nvlabs, rosinality
from latentlab.formats.contents import explain, read_contents, read_state
from latentlab.formats.encoders import decoder_of
from latentlab.formats.pickles import printable
from latentlab.formats.tensors import find_tensor
from latentlab.seeds import stream
from latentlab.stylegan.generator import GeneratorConfig, describe_styles
from latentlab.weights import read_tensors

MAX_MAPPING_LAYERS = 64
Condition = int | Tensor | None


@dataclass
class GeneratorFile:
    """What a file holds: configuration and state of a ``Generator`` (``w_avg`` may be missing), the format, and
    ``notes``, one sentence for each thing that was chosen or filled in."""

    config: GeneratorConfig
    state: dict[str, Tensor]
    format: str
    notes: list[str] = field(default_factory=list)


def read_generator(path: str | Path, *, c: Condition = None) -> GeneratorFile:
    """Reads the generator of an NVIDIA pickle, of a checkpoint of rosinality's or of an encoder (pSp, e4e, ..), or of
    latentlab's own .safetensors. The format is told by content. Nothing of the file is run.

    c: the condition of a conditional generator, a class or a vector. Raises ``ValueError``, which begins with the
    path and says in a sentence what is wrong and what to do.
    """
    path = Path(path)
    try:
        found = _of_latentlab(path) or _of_others(read_contents(path), path, c)
        if c is not None and found.format != "NVIDIA, conditional":
            raise ValueError(f"c: expected None, got {c}: its generator has no conditions")
        _check(found)
        return found
    except (ValueError, TypeError, LookupError, RuntimeError, MemoryError, OverflowError) as error:
        says = error if isinstance(error, ValueError) else f"its tensors are not those of a generator ({error!r:.80})"
        raise ValueError(f"{path}: {printable(says)}") from error


def _of_latentlab(path: Path) -> GeneratorFile | None:
    with open(path, "rb") as file:
        if file.read(9)[8:] != b"{":
            return None
    tensors, metadata = read_tensors(path)
    if "config" not in metadata:
        return None
    config = GeneratorConfig.from_dict(metadata["config"])
    numbers = (config.resolution, config.z_dim, config.w_dim, config.mapping_layers, *config.channels)
    sound = all(isinstance(n, int) and n > 0 for n in numbers) and config.mapping_layers <= MAX_MAPPING_LAYERS
    if not sound:
        raise ValueError(f"its configuration {str(numbers)[:100]} holds no sizes of a generator")
    return GeneratorFile(config, tensors, "latentlab")


def _of_others(value: Any, path: Path, c: Condition) -> GeneratorFile:
    if networks := nvlabs.find_networks(value):
        return _of_networks(networks, path, c)
    if not isinstance(value, dict):
        raise ValueError(explain(value))
    notes = []
    if isinstance(value.get("state_dict"), dict):
        kind, state = "encoder checkpoint", decoder_of(value)
    else:
        chosen = next((name for name in ("g_ema", "g", "generator") if isinstance(value.get(name), dict)), None)
        kind, state = "rosinality", value if chosen is None else value[chosen]
        notes += ["it has no g_ema (the mean of the weights over training): g is used"] if chosen == "g" else []
    state = {re.sub(r"^module\.", "", key): tensor for key, tensor in state.items() if isinstance(key, str)}
    if "synthesis.b4.const" in state:
        return _of_state(state, path, c)
    if "input.input" not in state:
        raise ValueError(explain(value))
    average = find_tensor(value.get("latent_avg"))
    return _of_rosinality(read_state(state, path), None if average is None else average.read(), kind, notes)


def _of_networks(networks: Mapping[str, Any], path: Path, c: Condition) -> GeneratorFile:
    name = next((name for name in ("G_ema", "G", "Generator") if name in networks), None)
    state = nvlabs.network_state(networks[name or next(iter(networks))])
    if name is None or "synthesis.b4.const" not in state:
        raise ValueError(explain(state))
    found = _of_state(state, path, c, nvlabs.network_clamp(networks[name]))
    if name == "G":
        found.notes.append("it has no G_ema (the mean of the weights over training): G is used")
    return found


def _of_state(state: Mapping[str, Any], path: Path, c: Condition, clamp: float | int | None = None) -> GeneratorFile:
    tensors, notes, kind = read_state(state, path), [], "NVIDIA"
    if "mapping.embed.weight" in tensors:
        tensors, kind = nvlabs.fold_class(tensors, c), "NVIDIA, conditional"
        notes.append("it is conditional: codes are of the condition c, and w_avg is the mean over all conditions")
    _expect_matrix(tensors, "mapping.fc0.weight")
    return GeneratorFile(nvlabs.generator_config(tensors, clamp), nvlabs.generator_from(tensors), kind, notes)


def _of_rosinality(tensors: dict[str, Tensor], average: Tensor | None, kind: str, notes: list[str]) -> GeneratorFile:
    if average is not None:  # (D,), or in encoders' files (L, D), one row a layer
        rows = average.float().reshape(-1, average.shape[-1])
        average = rows.mean(0)
        if not torch.allclose(rows, average, rtol=1e-4, atol=1e-4):
            notes.append(f"its latent_avg has {len(rows)} different rows: w_avg is their mean")
    _expect_matrix(tensors, "style.1.weight")
    config, state = rosinality.generator_config(tensors), rosinality.generator_from(tensors, average)
    if not any(name.endswith("noise_const") for name in state):
        shapes = {name: shape for name, shape in state_shapes(config).items() if name.endswith("noise_const")}
        state |= {name: torch.randn(shape, generator=stream(0, name)) for name, shape in shapes.items()}
        notes.append("it has no noise maps: fixed ones were drawn")
    return GeneratorFile(config, state, kind, notes)


def _expect_matrix(tensors: Mapping[str, Tensor], name: str) -> None:
    if name not in tensors or tensors[name].ndim != 2:
        got = f"one of shape {tuple(tensors[name].shape)}" if name in tensors else "none"
        raise ValueError(f"{name}: expected a matrix, the first layer of the mapping network, got {got}")


def state_shapes(config: GeneratorConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the state of a ``Generator``, without building one."""
    w, widths = config.w_dim, dict(zip(config.resolutions, config.channels, strict=True))
    shapes: dict[str, tuple[int, ...]] = {"w_avg": (w,), "blocks.4.const": (config.channels[0], 4, 4)}
    for i in range(config.mapping_layers):
        shapes |= {f"mapping.layers.{i}.weight": (w, w if i else config.z_dim), f"mapping.layers.{i}.bias": (w,)}
    for layer in describe_styles(config):
        fan_in, r = layer.channels, layer.resolution
        fan_out, size = (widths[r], 3) if layer.kind == "conv" else (3, 1)
        own = {"affine.weight": (fan_in, w), "affine.bias": (fan_in,), "bias": (fan_out,)}
        own |= {"weight": (fan_out, fan_in, size, size)}
        own |= {"noise_strength": (), "noise_const": (r, r)} if layer.kind == "conv" else {}
        shapes |= {f"{layer.name}.{name}": shape for name, shape in own.items()}
    return shapes


def _check(found: GeneratorFile) -> None:
    """Raises ``ValueError`` unless the state has the names and shapes of its configuration and finite numbers."""
    clamp = found.config.conv_clamp
    if clamp is not None and not (isinstance(clamp, int | float) and 0 < clamp < math.inf):
        raise ValueError(f"its layers are clamped at {str(clamp)[:40]}; a positive number or none is expected")
    wanted = state_shapes(found.config)
    missing = [name for name in wanted if name not in found.state and name != "w_avg"]
    unknown = [name for name in found.state if name not in wanted]
    if missing or unknown:
        says = [f"lacks {', '.join(missing[:3])}"] * bool(missing)
        says += [f"has {', '.join(unknown[:3])}, unknown here"] * bool(unknown)
        raise ValueError(f"its generator ({found.config.resolution} px) {' and '.join(says)}: it is not whole, or no "
                         "plain StyleGAN2")  # fmt: skip
    for name, tensor in found.state.items():
        if tuple(tensor.shape) != wanted[name]:
            raise ValueError(f"{name}: expected the shape {wanted[name]}, got {tuple(tensor.shape)}")
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{name} holds NaN or infinite numbers: the training diverged, or the file is damaged")
