"""Names of rosinality/stylegan2-pytorch, the `g_ema` layout of most public `.pt` checkpoints, <-> ours.

With k = log2(resolution): `convs.{2(k-3)}` is our conv0, `convs.{2(k-3)+1}` our conv1, `to_rgbs.{k-3}` our
torgb; the 4x4 block has its own names. The numbers are the same, some shapes carry extra ones.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from latentlab.stylegan import GeneratorConfig

State = Mapping[str, Tensor]

_LAYER = {  # ours -> theirs, inside of a modulated layer
    "weight": "conv.weight",
    "affine.weight": "conv.modulation.weight",
    "affine.bias": "conv.modulation.bias",
    "noise_strength": "noise.weight",
    "bias": "activate.bias",
}
_TORGB = _LAYER | {"bias": "bias"}
_LEADING_ONE = {"const", "weight"}  # tensors that carry a leading dimension of 1 there


def generator_from(state: State, latent_avg: Tensor | None = None) -> dict[str, Tensor]:
    """`checkpoint["g_ema"]` -> state dict of `Generator`; `latent_avg` stands beside it in the file.

    Checkpoints that rosinality's own training wrote have no `latent_avg`; then the result has no `w_avg`,
    which strict loading reports: estimate it as the mean of some 10,000 mapped z.
    """
    renamed = {} if latent_avg is None else {"w_avg": latent_avg.reshape(-1)}
    for key, tensor in state.items():
        if re.search(r"(blur|upsample)\.kernel$", key):
            _check_filter(key, tensor)
            continue
        name = _ours(key)
        renamed[name] = _our_shape(name, tensor)
    return renamed


def generator_to(state: State) -> dict[str, Tensor]:
    """State dict of `Generator` -> names and shapes of `g_ema`, without `w_avg` and the constant filters."""
    return {_theirs(name): _their_shape(name, tensor) for name, tensor in state.items() if name != "w_avg"}


def generator_config(state: State) -> GeneratorConfig:
    """The configuration that a `g_ema` state dict was made with."""
    ours = generator_from(state)
    names = (re.fullmatch(r"blocks\.(\d+)\.conv1\.bias", name) for name in ours)
    widths = {int(match[1]): len(ours[match[0]]) for match in names if match}
    if not widths:
        raise ValueError("its generator has no layers: it is not whole")
    w_dim, z_dim = ours["mapping.layers.0.weight"].shape
    layers = sum(bool(re.fullmatch(r"mapping\.layers\.\d+\.weight", name)) for name in ours)
    return GeneratorConfig(max(widths), z_dim, w_dim, layers, tuple(widths[r] for r in sorted(widths)))


def _ours(key: str) -> str:
    if key == "input.input":
        return "blocks.4.const"
    if match := re.fullmatch(r"style\.(\d{1,3})\.(weight|bias)", key):
        return f"mapping.layers.{int(match[1]) - 1}.{match[2]}"
    if match := re.fullmatch(r"noises\.noise_(\d{1,2})", key):
        return f"{_conv(int(match[1]))}.noise_const"
    if match := re.fullmatch(r"(?:conv1|convs\.(\d{1,2}))\.(.+)", key):
        index = 0 if match[1] is None else int(match[1]) + 1
        layer, names = _conv(index), _LAYER
    elif match := re.fullmatch(r"(?:to_rgb1|to_rgbs\.(\d{1,2}))\.(.+)", key):
        layer = f"blocks.{4 if match[1] is None else 8 << int(match[1])}.torgb"
        names = _TORGB
    if match is None or match[2] not in names.values():
        raise ValueError(f"state: expected the keys of rosinality's Generator, got the unknown key {key!r}")
    return f"{layer}.{next(ours for ours, theirs in names.items() if theirs == match[2])}"


def _conv(index: int) -> str:
    """The index-th convolution (= index of its noise there, of its layer in w_plus) by our name."""
    return "blocks.4.conv1" if index == 0 else f"blocks.{8 << (index - 1) // 2}.conv{(index - 1) % 2}"


def _theirs(name: str) -> str:
    if name == "blocks.4.const":
        return "input.input"
    if match := re.fullmatch(r"mapping\.layers\.(\d+)\.(weight|bias)", name):
        return f"style.{int(match[1]) + 1}.{match[2]}"
    match = re.fullmatch(r"blocks\.(\d+)\.(conv0|conv1|torgb)\.(.+)", name)
    if match is None:
        raise ValueError(f"state: expected the keys of latentlab's Generator, got the unknown key {name!r}")
    level, layer, rest = int(match[1]).bit_length() - 4, match[2], match[3]  # level: k - 3
    if layer == "torgb":
        return f"{'to_rgb1' if level < 0 else f'to_rgbs.{level}'}.{_TORGB[rest]}"
    index = 0 if level < 0 else 2 * level + 1 + int(layer[-1])
    if rest == "noise_const":
        return f"noises.noise_{index}"
    return f"{'conv1' if index == 0 else f'convs.{index - 1}'}.{_LAYER[rest]}"


def _our_shape(name: str, tensor: Tensor) -> Tensor:
    last = name.rpartition(".")[2]
    if last == "noise_const":
        return tensor[0, 0]
    if last == "noise_strength":
        return tensor.reshape(())
    if last == "bias":
        return tensor.reshape(-1)
    return tensor[0] if tensor.ndim in (4, 5) and last in _LEADING_ONE else tensor


def _their_shape(name: str, tensor: Tensor) -> Tensor:
    last = name.rpartition(".")[2]
    if last == "noise_const":
        return tensor[None, None]
    if last == "noise_strength":
        return tensor.reshape(1)
    if name.endswith("torgb.bias"):
        return tensor[None, :, None, None]
    return tensor[None] if tensor.ndim in (3, 4) and last in _LEADING_ONE else tensor


def _check_filter(key: str, kernel: Tensor) -> None:
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    kernel = kernel.float().cpu()  # those that upsample carry a gain of 4
    if kernel.shape != (4, 4) or not torch.allclose(kernel / kernel.sum(), torch.outer(taps, taps)):
        raise ValueError(f"{key}: expected the filter [1, 3, 3, 1], got {kernel.tolist()}")
