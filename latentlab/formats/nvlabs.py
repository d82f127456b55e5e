"""Names of NVlabs/stylegan2-ada-pytorch (and stylegan3's copy of StyleGAN2) <-> ours.

The numbers are the same, only names differ. Constants that a file may hold, `resample_filter`, are checked
against the one filter we implement and dropped.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from latentlab.stylegan import DiscriminatorConfig, GeneratorConfig

State = Mapping[str, Tensor]

_GENERATOR = (  # (theirs, ours); the first pattern that matches counts
    (r"mapping\.w_avg", r"w_avg"),
    (r"mapping\.fc(\d+)\.(weight|bias)", r"mapping.layers.\1.\2"),
    (r"synthesis\.b(\d+)\.(.+)", r"blocks.\1.\2"),
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
    widths = _widths(state, r"synthesis\.b(\d+)\.conv1\.bias")
    w_dim, z_dim = state["mapping.fc0.weight"].shape
    layers = sum(bool(re.fullmatch(r"mapping\.fc\d+\.weight", key)) for key in state)
    channels = tuple(widths[r] for r in sorted(widths))
    return GeneratorConfig(max(widths), z_dim, w_dim, layers, channels, conv_clamp)


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


def _widths(state: State, pattern: str) -> dict[int, int]:
    """{resolution: length of the bias whose name matches}."""
    matches = ((re.fullmatch(pattern, key), tensor) for key, tensor in state.items())
    return {int(match[1]): len(tensor) for match, tensor in matches if match}


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
            raise ValueError(f"state: got the unknown key {key!r}, want those of an unconditional StyleGAN2")
    return renamed


def _check_filter(key: str, kernel: Tensor) -> None:
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    if kernel.shape != (4, 4) or not torch.allclose(kernel.float().cpu(), torch.outer(taps, taps)):
        raise ValueError(f"{key}: got {kernel.tolist()}, want the filter [1, 3, 3, 1]")
