"""The StyleGAN2 generator (arXiv 1912.04958), any resolution and width, architecture "skip".

    z (N, z_dim) -mapping-> w (N, w_dim) -broadcast-> w_plus (N, L, w_dim) -styles-> S -synthesis-> image

Each method returns one thing. L = 2 log2(R) - 2. The block of resolution r = 2^k reads these layers of w_plus: conv0
(doubles the resolution; absent at 4x4) 2k - 5, conv1 2k - 4, and toRGB 2k - 3, which conv0 of the next block reads too.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from . import ops

Noise = Literal["const", "random", "none"] | Sequence[Tensor]
FeatureMap = Tensor | Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class GeneratorConfig:
    """Architecture of a generator, by default `faces-64`; `channels`: one width for each of 4, 8, .., resolution."""

    resolution: int = 64
    z_dim: int = 128
    w_dim: int = 128
    mapping_layers: int = 8
    channels: tuple[int, ...] = (128, 128, 128, 64, 32)
    conv_clamp: float | int | None = None  # 256 in generators that StyleGAN2-ADA trained in half precision

    def __post_init__(self) -> None:
        blocks = check_resolution(self.resolution)
        if len(self.channels) != blocks:
            raise ValueError(
                f"channels: expected {blocks} widths, one for each of 4, 8, .., {self.resolution}, "
                f"got {len(self.channels)}"
            )

    @property
    def resolutions(self) -> tuple[int, ...]:
        """4, 8, .., resolution."""
        return tuple(4 << k for k in range(len(self.channels)))

    def to_dict(self) -> dict:
        """The fields as plain JSON types."""
        return asdict(self) | {"channels": list(self.channels)}

    @classmethod
    def from_dict(cls, values: Mapping) -> "GeneratorConfig":
        """Inverse of `to_dict`."""
        return cls(**{**values, "channels": tuple(values["channels"])})  # JSON has lists only


def check_resolution(resolution: int) -> int:
    """Number of blocks, log2(resolution) - 1. Raises ``ValueError`` unless it is a power of two of at least 8."""
    if resolution < 8 or resolution & (resolution - 1):
        raise ValueError(f"resolution: expected a power of two of at least 8, got {resolution}")
    return resolution.bit_length() - 2


@dataclass(frozen=True)
class StyleLayer:
    """A modulated layer: its name, kind, resolution and width, and the layer of w_plus that it reads."""

    name: str  # prefix of its parameters in the state dict, "blocks.8.conv0"
    kind: Literal["conv", "torgb"]
    w_index: int
    resolution: int
    channels: int  # number of style coordinates = input channels


def describe_styles(config: GeneratorConfig) -> tuple[StyleLayer, ...]:
    """The modulated layers in the order of S: conv0 (absent at 4x4), conv1 and torgb of each resolution."""
    layers, fan_in = [], config.channels[0]
    for k, (r, channels) in enumerate(zip(config.resolutions, config.channels, strict=True), start=2):
        if k > 2:
            layers.append(StyleLayer(f"blocks.{r}.conv0", "conv", 2 * k - 5, r, fan_in))
        layers.append(StyleLayer(f"blocks.{r}.conv1", "conv", 2 * k - 4, r, channels))
        layers.append(StyleLayer(f"blocks.{r}.torgb", "torgb", 2 * k - 3, r, channels))
        fan_in = channels
    return tuple(layers)


class MappingNetwork(nn.Module):
    """Mapping network f: z -> w, fully connected layers, each (the last included) followed by a leaky ReLU."""

    def __init__(self, config: GeneratorConfig, generator: torch.Generator):
        super().__init__()
        widths = [config.z_dim] + [config.w_dim] * config.mapping_layers
        self.layers = nn.ModuleList(
            ops.EqualLinear(a, b, generator=generator, lr_multiplier=0.01)
            for a, b in zip(widths, widths[1:], strict=False)
        )

    def forward(self, z: Float[Tensor, "n z_dim"]) -> Float[Tensor, "n w_dim"]:
        """z ~ N(0, I) (N, z_dim) -> w (N, w_dim), no truncation."""
        expected = self.layers[0].weight.shape[1]
        if z.ndim != 2 or z.shape[1] != expected:
            raise ValueError(f"z: expected shape (N, {expected}), got {tuple(z.shape)}")
        _refuse_nonfinite("z", z)
        with ops.no_autocast(z):  # small, and everything depends on it: always in full precision
            x = ops.normalize_second_moment(z.to(self.layers[0].weight.dtype))
            for layer in self.layers:
                x = ops.lrelu(layer(x))
        return x


class StyledConv(nn.Module):
    """Modulated 3x3 convolution, noise, bias, leaky ReLU; doubles the resolution first if `up`."""

    def __init__(
        self,
        fan_in: int,
        fan_out: int,
        resolution: int,
        config: GeneratorConfig,
        generator: torch.Generator,
        up: bool = False,
    ):
        super().__init__()
        self.up = up
        self.clamp = config.conv_clamp
        self.affine = ops.EqualLinear(config.w_dim, fan_in, generator=generator, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(fan_out, fan_in, 3, 3, generator=generator))
        self.bias = nn.Parameter(torch.zeros(fan_out))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise_const", torch.randn(resolution, resolution, generator=generator))

    def forward(self, x: Tensor, style: Tensor, noise: Tensor | None) -> Tensor:
        x = ops.modulated_conv(x, self.weight, style, up=self.up)
        # sqrt(2) lrelu(x) = lrelu(sqrt(2) x): the gain is folded into the factors of d x + strength noise + bias
        scale = (ops.demodulation(self.weight, style) * ops.GAIN).to(x.dtype)
        x = torch.addcmul((self.bias * ops.GAIN).to(x.dtype)[:, None, None], x, scale[:, :, None, None])
        if noise is not None:
            x = x.add_((self.noise_strength * ops.GAIN * noise).to(x.dtype))
        x = F.leaky_relu_(x, ops.SLOPE)
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to RGB, without demodulation, noise or activation."""

    def __init__(self, fan_in: int, config: GeneratorConfig, generator: torch.Generator):
        super().__init__()
        self.clamp = config.conv_clamp
        self.gain = 1 / math.sqrt(fan_in)
        self.affine = ops.EqualLinear(config.w_dim, fan_in, generator=generator, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(3, fan_in, 1, 1, generator=generator))
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        # Three outputs: one small matrix per sample is cheaper than scaling the whole feature map.
        kernel = (self.weight.flatten(1) * (style * self.gain)[:, None]).to(x.dtype)  # (N, 3, C)
        rgb = x.permute(0, 2, 3, 1).flatten(1, 2) @ kernel.transpose(1, 2)  # (N, r r, 3)
        rgb = rgb.to(self.bias.dtype) + self.bias
        rgb = rgb.unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)
        return rgb if self.clamp is None else rgb.clamp(-self.clamp, self.clamp)


class Block(nn.Module):
    """All layers of one resolution: conv0 (absent at 4x4), conv1, torgb."""

    def __init__(self, fan_in: int, fan_out: int, resolution: int, config: GeneratorConfig, generator: torch.Generator):
        super().__init__()
        if resolution == 4:
            self.const = nn.Parameter(torch.randn(fan_out, 4, 4, generator=generator))
        else:
            self.conv0 = StyledConv(fan_in, fan_out, resolution, config, generator, up=True)
        self.conv1 = StyledConv(fan_out, fan_out, resolution, config, generator)
        self.torgb = ToRGB(fan_out, config, generator)

    @property
    def convs(self) -> list[tuple[str, StyledConv]]:
        """(name, layer) of the convolutions in the order they are applied."""
        return [(name, getattr(self, name)) for name in ("conv0", "conv1") if hasattr(self, name)]


class Generator(nn.Module):
    """The StyleGAN2 generator. Initial weights are drawn from `seed`, without changing the global random state."""

    def __init__(self, config: GeneratorConfig = GeneratorConfig(), seed: int = 0):
        super().__init__()
        self.config = config
        self.resolution, self.z_dim, self.w_dim = config.resolution, config.z_dim, config.w_dim
        self.num_ws = 2 * len(config.channels)
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("w_avg", torch.zeros(config.w_dim))
        self.mapping = MappingNetwork(config, generator)
        widths = (config.channels[0], *config.channels)
        self.blocks = nn.ModuleDict(
            {
                str(r): Block(a, b, r, config, generator)
                for r, a, b in zip(config.resolutions, widths, widths[1:], strict=False)
            }
        )
        self.style_layers = describe_styles(config)
        self.noise_shapes = [tuple(conv.noise_const.shape) for conv in self._convs()]

    def _convs(self) -> list[StyledConv]:
        return [conv for block in self.blocks.values() for _, conv in block.convs]

    # --- codes -----------------------------------------------------------------------------------------

    def broadcast(self, w: Float[Tensor, "n dim"]) -> Float[Tensor, "n layers dim"]:
        """The same w for every layer: (N, w_dim) -> (N, L, w_dim)."""
        if w.ndim != 2 or w.shape[1] != self.w_dim:
            raise ValueError(f"w: expected shape (N, {self.w_dim}), got {tuple(w.shape)}")
        return w[:, None].expand(-1, self.num_ws, -1)

    def truncate(
        self, w: Float[Tensor, "n *layers dim"], psi: float | int = 1.0, cutoff: int | None = None
    ) -> Float[Tensor, "n *layers dim"]:
        """Truncation w_avg + psi (w - w_avg) of w (N, w_dim), or of the first `cutoff` layers of w_plus (None: all)."""
        if w.shape[-1] != self.w_dim or w.ndim not in (2, 3):
            raise ValueError(f"w: expected shape (N, {self.w_dim}) or (N, L, {self.w_dim}), got {tuple(w.shape)}")
        if cutoff is None:
            return self.w_avg + psi * (w - self.w_avg)
        if w.ndim != 3 or not 0 <= cutoff <= w.shape[1]:
            raise ValueError(
                f"cutoff: expected 0 to {self.num_ws} layers of w_plus (N, L, D), "
                f"got {cutoff} for shape {tuple(w.shape)}"
            )
        return torch.cat([self.truncate(w[:, :cutoff], psi), w[:, cutoff:]], 1)

    def styles(self, w_plus: Float[Tensor, "n layers dim"]) -> list[Float[Tensor, "n _"]]:
        """S codes: the affine outputs s = A w + b of every modulated layer, in the order of `style_layers`.

        toRGB scales its style by 1 / sqrt(channels) when it applies it; here it is not scaled.
        """
        self._check_w_plus(w_plus)
        codes = w_plus.to(self.w_avg.dtype).unbind(1)
        with ops.no_autocast(self.w_avg):
            return [self.get_submodule(layer.name).affine(codes[layer.w_index]) for layer in self.style_layers]

    # --- images ----------------------------------------------------------------------------------------

    def forward(self, z: Float[Tensor, "n z_dim"], psi: float | int = 1.0) -> Float[Tensor, "n 3 r r"]:
        """Images of z with constant noise: mapping, broadcast, truncate, synthesis."""
        return self.synthesis(self.truncate(self.broadcast(self.mapping(z)), psi))

    def synthesis(
        self,
        w_plus: Float[Tensor, "n layers dim"] | None,
        *,
        noise: Noise = "const",
        generator: torch.Generator | None = None,
        styles: Sequence[Tensor] | None = None,
        replace: Mapping[int, FeatureMap] | None = None,
        replace_rgb: bool = True,
    ) -> Float[Tensor, "n 3 r r"]:
        """Images (N, 3, R, R), trained to lie in [-1, 1] and not clamped.

        w_plus: (N, L, w_dim); ignored, and may be None, if `styles` is given.
        noise: "const" (the buffers), "random" (drawn from `generator`), "none", or one tensor for each
            convolution, (r, r) or (N, 1, r, r), r as in `noise_shapes`.
        styles: S codes as `styles()` returns them, used instead of the outputs of the affine layers.
        replace: {resolution: feature map (N, C, r, r)}, used instead of the output of that block, or a function that
            makes it of that output. The lower blocks still add their RGB to the image (skip architecture).
        replace_rgb: whether toRGB of that block also reads the replacement. If False (as in CLCAE) it reads the
            block's own output, and only the next block reads the replacement.
        """
        image, _ = self._run(w_plus, noise, generator, styles, replace, replace_rgb)
        return image

    def features(
        self,
        w_plus: Float[Tensor, "n layers dim"] | None,
        *,
        noise: Noise = "const",
        generator: torch.Generator | None = None,
        styles: Sequence[Tensor] | None = None,
        replace: Mapping[int, FeatureMap] | None = None,
        replace_rgb: bool = True,
        upto: int | None = None,
    ) -> dict[int, Tensor]:
        """{resolution: output of that block (N, C, r, r)}; arguments as in `synthesis`.

        upto: the finest resolution that is wanted, None for all; finer blocks are not computed.
        """
        if upto is not None and upto not in self.config.resolutions:
            raise ValueError(f"upto: expected one of {', '.join(map(str, self.config.resolutions))}, got {upto}")
        _, features = self._run(w_plus, noise, generator, styles, replace, replace_rgb, upto)
        return features

    def _run(
        self,
        w_plus: Tensor | None,
        noise: Noise,
        generator: torch.Generator | None,
        styles: Sequence[Tensor] | None,
        replace: Mapping[int, FeatureMap] | None,
        replace_rgb: bool,
        upto: int | None = None,
    ) -> tuple[Tensor, dict[int, Tensor]]:
        if styles is None:
            if w_plus is None:
                raise ValueError("w_plus: expected codes, or styles instead, got None for both")
            styles = self.styles(w_plus)
        n = self._check_styles(styles)
        replace = self._check_replace(replace or {}, n)
        noises = iter(self._noise(noise, n, generator))
        codes = iter(styles)
        dtype = ops.compute_dtype(self.w_avg)
        x, image, features = self.blocks["4"].const.to(dtype).expand(n, -1, -1, -1), None, {}
        with ops.no_autocast(self.w_avg):
            for r, block in self.blocks.items():
                inputs = [(conv, next(codes), next(noises)) for _, conv in block.convs]
                given = replace.get(int(r))
                if given is None or callable(given) or not replace_rgb:
                    for conv, style, eps in inputs:
                        x = conv(x, style, eps)
                given = self._check_map(int(r), given(x), n) if callable(given) else given
                seen = x if given is None or not replace_rgb else given.to(dtype)
                x = x if given is None else given.to(dtype)
                rgb = block.torgb(seen, next(codes))
                image = rgb if image is None else ops.fir_up(image) + rgb
                features[int(r)] = x
                if int(r) == upto:
                    break
        return image, features

    def _noise(self, noise: Noise, n: int, generator: torch.Generator | None) -> list[Tensor | None]:
        convs, like = self._convs(), self.w_avg
        if isinstance(noise, str):
            if noise == "const":
                return [conv.noise_const for conv in convs]
            if noise == "none":
                return [None] * len(convs)
            if noise == "random":
                return [
                    torch.randn(n, 1, *shape, generator=generator, device=like.device, dtype=like.dtype)
                    for shape in self.noise_shapes
                ]
        elif len(noise) == len(convs) and all(
            tuple(eps.shape) in (shape, (1, 1, *shape), (n, 1, *shape))
            for eps, shape in zip(noise, self.noise_shapes, strict=True)
        ):
            return list(noise)
        got = repr(noise) if isinstance(noise, str) else [tuple(eps.shape) for eps in noise]
        raise ValueError(
            "noise: expected 'const', 'random', 'none', or tensors of shapes "
            f"{self.noise_shapes}, each optionally with (N, 1) in front; got {got}"
        )

    def _check_w_plus(self, w_plus: Tensor) -> None:
        expected = (self.num_ws, self.w_dim)
        if w_plus.ndim != 3 or tuple(w_plus.shape[1:]) != expected:
            raise ValueError(f"w_plus: expected shape (N, {expected[0]}, {expected[1]}), got {tuple(w_plus.shape)}")
        _refuse_nonfinite("w_plus", w_plus)

    def _check_styles(self, styles: Sequence[Tensor]) -> int:
        got, widths = [tuple(s.shape) for s in styles], [layer.channels for layer in self.style_layers]
        n = got[0][0] if got else 0
        if got != [(n, channels) for channels in widths]:
            raise ValueError(f"styles: expected shapes (N, C) with C = {widths}, got {got}")
        return n

    def _check_replace(self, replace: Mapping[int, FeatureMap], n: int) -> Mapping[int, FeatureMap]:
        for r, x in replace.items():
            if r not in self.config.resolutions or not callable(x):
                self._check_map(r, x, n)
        return replace

    def _check_map(self, r: int, x: Tensor, n: int) -> Tensor:
        shapes = {r: (n, c, r, r) for r, c in zip(self.config.resolutions, self.config.channels, strict=True)}
        if r not in shapes or tuple(x.shape) != shapes[r]:
            got = "a function" if callable(x) else tuple(x.shape)
            raise ValueError(f"replace: expected resolutions and shapes of {shapes}, got {r}: {got}")
        return x


def _refuse_nonfinite(name: str, x: Tensor) -> None:
    if not torch.compiler.is_compiling() and not x.isfinite().all():
        raise ValueError(f"{name}: expected finite values, got NaN or infinity")
