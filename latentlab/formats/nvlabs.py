"""Networks and names of NVlabs/stylegan2-ada-pytorch (and stylegan3's copy of StyleGAN2) <-> ours.

The numbers are the same, only names differ. Constants that a file may hold, `resample_filter`, are checked
against the one filter we implement and dropped. In a pickle, a network is an object that brings the source of
its class along (`torch_utils.persistence`): a dict of type, class_name, module_src and state. Of these the name
and the state are read; the source is never looked at.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from latentlab.formats.pickles import Record
from latentlab.formats.tensors import StoredTensor, as_plain, find_tensor
from latentlab.stylegan import DiscriminatorConfig, GeneratorConfig

State = Mapping[str, Tensor]
PERSISTENT = "torch_utils.persistence._reconstruct_persistent_obj"
MAX_MODULES, MAX_DEPTH = 10_000, 16  # a generator has 80, nested four deep
LR_MULTIPLIER = 0.01  # of the mapping network

_GENERATOR = (  # (theirs, ours); the first pattern that matches counts
    (r"mapping\.w_avg", r"w_avg"),
    (r"mapping\.fc(\d+)\.(weight|bias)", r"mapping.layers.\1.\2"),
    (r"synthesis\.b(\d{1,5})\.(.+)", r"blocks.\1.\2"),
)
_GENERATOR_BACK = (
    (r"w_avg", r"mapping.w_avg"),
    (r"mapping\.layers\.(\d+)\.(weight|bias)", r"mapping.fc\1.\2"),
    (r"blocks\.(\d+)\.(.+)", r"synthesis.b\1.\2"),
)
_DISCRIMINATOR = (
    (r"b\d+\.fromrgb\.(.+)", r"fromrgb.\1"),
    (r"b4\.(conv|fc|out)\.(.+)", r"epilogue.\1.\2"),
    (r"b(\d+)\.(conv0|conv1|skip)\.(.+)", r"blocks.\1.\2.\3"),
)


def generator_from(state: State) -> dict[str, Tensor]:
    """`G_ema.state_dict()` of an unconditional NVlabs generator -> state dict of `Generator`."""
    return _rename(state, _GENERATOR)


def generator_to(state: State) -> dict[str, Tensor]:
    """State dict of `Generator` -> names of NVlabs (without the constant filters)."""
    return _rename(state, _GENERATOR_BACK)


def generator_config(state: State, conv_clamp: float | int | None = None) -> GeneratorConfig:
    """The configuration that an NVlabs state dict was made with; the clamp is not in the tensors."""
    widths = _widths(state, r"synthesis\.b(\d{1,5})\.conv1\.bias")
    w_dim, z_dim = state["mapping.fc0.weight"].shape
    layers = sum(bool(re.fullmatch(r"mapping\.fc\d+\.weight", key)) for key in state)
    channels = tuple(widths[r] for r in sorted(widths))
    return GeneratorConfig(max(widths), z_dim, w_dim, layers, channels, conv_clamp)


def fold_class(state: State, c: Tensor | int | None) -> dict[str, Tensor]:
    """A conditional mapping network with its condition fixed, as an unconditional one: exactly the same function.

    There the first layer sees [z, y], both of unit second moment, y = normalised (W_e c / sqrt(C) + b_e). With y
    fixed its share is a bias, and the gain 1 / sqrt(|z| + |y|) goes into the weights, for here it is 1 / sqrt(|z|).
    c: number of a class, or a vector (C,); ``ValueError`` where it does not fit, or is None.
    """
    weight, bias = (state[f"mapping.embed.{name}"].double() for name in ("weight", "bias"))
    embedded, classes = weight.shape
    if isinstance(c, int) and 0 <= c < classes:
        c = torch.eye(classes)[c]
    if not isinstance(c, Tensor) or tuple(c.shape) != (classes,):
        got = c if c is None or isinstance(c, int) else tuple(c.shape)
        raise ValueError(f"c: expected a class 0..{classes - 1} or a vector ({classes},), got {got}; the generator "
                         "is conditional and is opened for one condition, e.g. load(path, c=0)")  # fmt: skip
    y = weight @ c.double() / classes**0.5 + bias
    y = y * (y.square().mean() + 1e-8).rsqrt()
    first = state["mapping.fc0.weight"].double()
    z_dim = first.shape[1] - embedded
    rest = {key: tensor for key, tensor in state.items() if not key.startswith("mapping.embed.")}
    return rest | {
        "mapping.fc0.weight": (first[:, :z_dim] * (z_dim / first.shape[1]) ** 0.5).float(),
        "mapping.fc0.bias": (state["mapping.fc0.bias"] + first[:, z_dim:] @ y / first.shape[1] ** 0.5).float(),
    }


def discriminator_from(state: State) -> dict[str, Tensor]:
    """`D.state_dict()` of an unconditional residual NVlabs discriminator -> state dict of `Discriminator`."""
    return _rename(state, _DISCRIMINATOR)


def discriminator_to(state: State) -> dict[str, Tensor]:
    """State dict of `Discriminator` -> names of NVlabs (without the constant filters)."""
    top = max(int(match[1]) for match in map(re.compile(r"blocks\.(\d+)\.").match, state) if match)
    return _rename(state, (
        (r"fromrgb\.(.+)", rf"b{top}.fromrgb.\1"),
        (r"epilogue\.(.+)", r"b4.\1"),
        (r"blocks\.(\d+)\.(.+)", r"b\1.\2")))


def discriminator_config(state: State) -> DiscriminatorConfig:
    """The configuration that an NVlabs discriminator was made with."""
    widths = _widths(state, r"b(\d+)\.conv0\.bias") | {4: len(state["b4.conv.bias"])}
    return DiscriminatorConfig(max(widths), tuple(widths[r] for r in sorted(widths)))


# --- networks of a pickle --------------------------------------------------------------------------------------


def find_networks(value: Any) -> dict[str, Record]:
    """The networks of a pickle by name ("G_ema", "G", "D", ..), or one alone by the name of its class."""
    if _attributes(value) is not None:
        name = value.args[0].get("class_name") if value.args and isinstance(value.args[0], dict) else None
        return {name if isinstance(name, str) else "network": value}
    entries = value.items() if isinstance(value, dict) else ()
    return {name: v for name, v in entries if isinstance(name, str) and _attributes(v) is not None}


def network_state(network: Record) -> dict[str, StoredTensor]:
    """The state dict of a network: parameters and buffers of all its modules, not read yet."""
    found = {}
    for prefix, attributes in _modules(network):
        for kind in ("_parameters", "_buffers"):
            for name, value in _members(attributes, kind):
                if (tensor := find_tensor(value)) is not None:
                    found[f"{prefix}{name}"] = tensor
    return found


def network_clamp(network: Record) -> float | int | None:
    """The clamp of a generator's layers, after what the tensors cannot tell was checked: architecture, activation,
    learning rate multiplier. Raises ``ValueError`` for what this package's generator does not do."""
    clamps, unknown = set(), []
    for prefix, attributes in _modules(network):
        clamp = as_plain(attributes.get("conv_clamp"))
        if prefix.startswith("synthesis.") and prefix.endswith(("conv0.", "conv1.", "torgb.")):
            clamps.add(clamp if isinstance(clamp, int | float) else None)
        expected = {"architecture": "skip", "activation": "lrelu", "use_noise": True}
        if re.fullmatch(r"mapping\.fc\d+\.", prefix):
            expected["bias_gain"] = LR_MULTIPLIER
        for name, value in expected.items():
            got = attributes.get(name, value)
            if isinstance(got, str | int | float) and got != value and not _is_linear(prefix, name):
                unknown.append(f"{prefix}{name} {str(got)[:40]} instead of {value!r}")
    if unknown or len(clamps) > 1:
        clamp = [] if len(clamps) < 2 else [f"several clamps {sorted(clamps, key=str)}"]
        raise ValueError(f"a StyleGAN2 of a kind that is not known here: {'; '.join(unknown[:3] + clamp)}")
    return next(iter(clamps), None)


def _is_linear(prefix: str, name: str) -> bool:
    """Style and class layers have no activation, in every generator."""
    return name == "activation" and prefix.endswith(("affine.", "embed."))


def _attributes(value: Any) -> dict | None:
    """The attributes of an object of `torch_utils.persistence`, or of a plain torch module; None for others."""
    if isinstance(value, Record) and value.name == PERSISTENT and value.args and isinstance(value.args[0], dict):
        state = value.args[0].get("state")
        return state if isinstance(state, dict) else None
    is_module = isinstance(value, Record) and value.name.startswith("torch.nn.modules.")
    return value.state if is_module and isinstance(value.state, dict) else None


def _modules(network: Record) -> Iterator[tuple[str, dict]]:
    """(prefix of its names, attributes) of a network and the modules in it; cycles end at ``MAX_DEPTH``."""
    waiting, seen = [("", 0, network)], 0
    while waiting:
        prefix, depth, module = waiting.pop()
        attributes = _attributes(module)
        if attributes is None:
            continue
        yield prefix, attributes
        inner = _members(attributes, "_modules")
        seen += len(inner)
        if seen > MAX_MODULES or depth > MAX_DEPTH:
            raise ValueError(f"the network has more than {MAX_MODULES} modules, or is nested deeper than {MAX_DEPTH}")
        waiting += [(f"{prefix}{name}.", depth + 1, value) for name, value in inner]


def _members(attributes: dict, kind: str) -> list[tuple[str, Any]]:
    """Names and values of a module's parameters, buffers or modules."""
    entries = attributes.get(kind)
    if not isinstance(entries, dict):
        return []
    if len(entries) > MAX_MODULES // 10 or any(len(str(name)) > 100 for name in entries):
        raise ValueError(f"a module has {len(entries)} {kind[1:]}, or names longer than 100 letters")
    return [(str(name), value) for name, value in entries.items()]


def _widths(state: State, pattern: str) -> dict[int, int]:
    """{resolution: length of the bias whose name matches}."""
    matches = ((re.fullmatch(pattern, key), tensor) for key, tensor in state.items())
    widths = {int(match[1]): len(tensor) for match, tensor in matches if match and tensor.ndim}
    if not widths:
        raise ValueError("it has no layers of a generator or discriminator: it is not whole")
    return widths


def _rename(state: State, rules: tuple[tuple[str, str], ...]) -> dict[str, Tensor]:
    renamed = {}
    for key, tensor in state.items():
        if key.endswith("resample_filter"):
            _check_filter(key, tensor)
            continue
        for pattern, name in rules:
            if re.fullmatch(pattern, key):
                renamed[re.sub(pattern, name, key)] = tensor
                break
        else:
            raise ValueError(f"state: expected the keys of an unconditional StyleGAN2, got the unknown key {key!r}")
    return renamed


def _check_filter(key: str, kernel: Tensor) -> None:
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    if kernel.shape != (4, 4) or not torch.allclose(kernel.float().cpu(), torch.outer(taps, taps)):
        raise ValueError(f"{key}: expected the filter [1, 3, 3, 1], got {kernel.tolist()}")
