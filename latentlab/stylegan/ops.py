"""Layers of StyleGAN2 in plain torch, without a compiled extension.

Everything is twice differentiable (R1 and path-length penalties need it) and computes in the dtype of its input `x`:
callers choose that dtype once (`compute_dtype`) instead of leaving the casts to autocast.

Papers: StyleGAN2, arXiv 1912.04958; equalised learning rate, arXiv 1710.10196, section 4.1.
"""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

SLOPE = 0.2
GAIN = math.sqrt(2)  # preserves the second moment through a leaky ReLU, He et al. 2015
FIR = (1.0, 3.0, 3.0, 1.0)


def compute_dtype(parameter: Tensor) -> torch.dtype:
    """The dtype of autocast if it is enabled for this device, else that of the parameters."""
    kind = parameter.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else parameter.dtype


def no_autocast(parameter: Tensor) -> torch.autocast:
    """Context that disables autocast; each public method enters it once."""
    return torch.autocast(parameter.device.type, enabled=False)


def lrelu(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """sqrt(2) * leaky ReLU with slope 0.2."""
    return F.leaky_relu(x, SLOPE) * GAIN


def normalize_second_moment(z: Float[Tensor, "n dim"]) -> Float[Tensor, "n dim"]:
    """z / sqrt(mean(z^2)), so that |z| = sqrt(dim)."""
    return z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()


class EqualLinear(nn.Module):
    """Linear layer y = x (c W)^T + m b with c = m / sqrt(fan_in) at run time (arXiv 1710.10196, section 4.1).

    `lr_multiplier` m scales the layer's learning rate: the stored weights are 1/m times larger, so that an optimiser
    that normalises its steps, such as Adam, changes the layer's output m times as much.
    """

    def __init__(
        self,
        fan_in: int,
        fan_out: int,
        *,
        generator: torch.Generator,
        bias_init: float = 0.0,
        lr_multiplier: float = 1.0,
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(fan_out, fan_in, generator=generator) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((fan_out,), bias_init / lr_multiplier))
        self.weight_gain = lr_multiplier / math.sqrt(fan_in)
        self.bias_gain = lr_multiplier

    def forward(self, x: Float[Tensor, "n fan_in"]) -> Float[Tensor, "n fan_out"]:
        return torch.addmm(self.bias, x, self.weight.T, beta=self.bias_gain, alpha=self.weight_gain)


@lru_cache
def _kernel(channels: int, gain: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The filter [1,3,3,1] x [1,3,3,1] / 64 * gain for every channel."""
    taps = torch.tensor(FIR, dtype=dtype, device=device) * (math.sqrt(gain) / 8)
    return torch.outer(taps, taps).repeat(channels, 1, 1, 1)


_ADJOINT = {"blur1": "blur2", "blur2": "blur1", "up": "down", "down": "up"}


class _Fir(torch.autograd.Function):
    """The FIR filter [1,3,3,1] x [1,3,3,1] / 64 * gain in four modes, each the adjoint of another one.

    The filter is symmetric, so every gradient is such a filter again and runs as a forward convolution (torch's
    backward of the strided one took 6 times as long on a CPU), and derivatives of any order exist.
    "blur1", "blur2": stride 1, padding 1 or 2; "down": stride 2; "up": zero insertion first.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, mode: str, gain: float) -> Tensor:
        channels = x.shape[1]
        if mode == "up" and channels == 3:  # bilinear interpolation with zero padding does the same, faster for images
            between = F.interpolate(F.pad(x * (gain / 4), (1, 1, 1, 1)), scale_factor=2, mode="bilinear")
            return between[:, :, 2:-2, 2:-2]
        if mode == "up":
            size = len(x), 2 * x.shape[2] + 1, 2 * x.shape[3] + 1, channels
            zeros = x.new_zeros(size).permute(0, 3, 1, 2)  # channels last: the fastest layout for a CPU convolution
            zeros[:, :, 1::2, 1::2] = x
            x = zeros
        return F.conv2d(
            x,
            _kernel(channels, gain, x.dtype, x.device),
            padding=2 if mode == "blur2" else 1,
            stride=2 if mode == "down" else 1,
            groups=channels,
        )

    @staticmethod
    def setup_context(ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: Tensor) -> None:
        _, ctx.mode, ctx.gain = inputs

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor, None, None]:
        return _Fir.apply(grad, _ADJOINT[ctx.mode], ctx.gain), None, None

    @staticmethod
    def jvp(ctx: torch.autograd.function.FunctionCtx, tangent: Tensor, *_: None) -> Tensor:
        return _Fir.apply(tangent, ctx.mode, ctx.gain)


def fir_up(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
    """Upsampling: zero insertion x2, FIR low pass with gain 4: (N,C,H,W) -> (N,C,2H,2W)."""
    return _Fir.apply(x, "up", 4.0)


def fir_down(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
    """Downsampling: FIR low pass, every second pixel: (N,C,H,W) -> (N,C,H/2,W/2)."""
    return _Fir.apply(x, "down", 1.0)


def fir_blur(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
    """FIR low pass with gain 4 after a transposed convolution: (N,C,H,W) -> (N,C,H-1,W-1)."""
    return _Fir.apply(x, "blur1", 4.0)


def conv_up(x: Float[Tensor, "n i h w"], weight: Float[Tensor, "o i 3 3"]) -> Float[Tensor, "n o h2 w2"]:
    """Zero insertion x2, 3x3 convolution, FIR low pass with gain 4: (N,I,H,W) -> (N,O,2H,2W)."""
    return fir_blur(F.conv_transpose2d(x, weight.transpose(0, 1).to(x.dtype), stride=2))


def conv_down(
    x: Float[Tensor, "n i h w"], weight: Float[Tensor, "o i 3 3"], bias: Float[Tensor, " o"]
) -> Float[Tensor, "n o h2 w2"]:
    """FIR low pass, 3x3 convolution with stride 2, bias: (N,I,H,W) -> (N,O,H/2,W/2)."""
    return F.conv2d(_Fir.apply(x, "blur2", 1.0), weight.to(x.dtype), bias.to(x.dtype), stride=2)


def demodulation(weight: Float[Tensor, "o i k k"], style: Float[Tensor, "n i"]) -> Float[Tensor, "n o"]:
    """Demodulation factors d_o = 1 / sqrt(sum_ik (s_i w_oik)^2 + 1e-8), (N, O). StyleGAN2, Eq. 3."""
    return (style.square() @ weight.square().sum((2, 3)).T + 1e-8).rsqrt()


def modulated_conv(
    x: Float[Tensor, "n i h w"], weight: Float[Tensor, "o i k k"], style: Float[Tensor, "n i"], *, up: bool
) -> Float[Tensor, "n o h2 w2"]:
    """Modulated convolution w * (s x), one plain convolution for all samples. StyleGAN2, Eq. 1.

    Its output is to be scaled by `demodulation`. Scaling the weights of each sample, as the paper writes it, is
    equivalent to scaling its input and output.
    """
    x = x * style.to(x.dtype)[:, :, None, None]
    return conv_up(x, weight) if up else F.conv2d(x, weight.to(x.dtype), padding=1)


def minibatch_stddev(x: Float[Tensor, "n c h w"], group: int) -> Float[Tensor, " n"]:
    """Standard deviation within groups of samples, averaged over features, (N,) (arXiv 1710.10196, section 3).

    A group is a strided split of the batch: samples j, j + n/group, j + 2n/group, ...
    """
    n = len(x)
    group = min(group, n)
    members = x.unflatten(0, (group, n // group))
    variance = (members - members.mean(0)).square().mean(0)  # 10 times faster than var() on a CPU
    deviation = (variance + 1e-8).sqrt().mean((1, 2, 3))
    return deviation.repeat(group)
