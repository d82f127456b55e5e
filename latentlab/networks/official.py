"""The networks that the papers measure with, from files at hand: nothing is downloaded, nothing of a file is run."""

import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latentlab.formats.contents import read_contents, read_state
from latentlab.formats.pickles import printable
from latentlab.networks.ir_se import ArcFace

# name -> the package that brings its architecture, the address of its weights, and what the face world has instead
OFFICIAL: dict[str, tuple[str, str, str]] = {
    "alex": ("lpips", "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth", "load_perceptual_judge()"),
    "vgg": ("lpips", "https://download.pytorch.org/models/vgg16-397923af.pth", "load_perceptual_judge()"),
    "arcface": (
        "torch",
        "https://drive.google.com/file/d/1KW7bjndL3QG3sxBbZxreGHigcCCpsDgn/view",
        "load_identity_judge()",
    ),
    "moco": (
        "torchvision",
        "https://dl.fbaipublicfiles.com/moco/moco_checkpoints/moco_v2_800ep/moco_v2_800ep_pretrain.pth.tar",
        "load_identity_judge()",
    ),
    "inception": (
        "torch_fidelity",
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
        "the features of load_identity_judge()",
    ),
}


def load_official(name: str, path: str | Path | None) -> nn.Module:
    """One of ``OFFICIAL``, frozen, from its weights at ``path``, for images (N, 3, H, W) in [-1, 1].

    "arcface" (IR-SE-50) maps them to (N, 512), "moco" (ResNet-50, MoCo v2) and "inception" (of the FID) to
    (N, 2048); "alex" and "vgg" are LPIPS' trunks with ``features`` and the ``channel_weights`` of each layer.
    A package or a file that is missing raises ``ValueError``, which says how to get it and what works without.
    """
    if name not in OFFICIAL:
        raise ValueError(f"unknown backbone {name!r}; known are: faces, {', '.join(OFFICIAL)}")
    package, url, instead = OFFICIAL[name]
    advice = f"download it once from {url} and pass path=...; without it, use the face world's own: {instead}"
    if path is None or not Path(path).is_file():
        raise ValueError(f"{name} needs its weights, and there is no file {path}: {advice}")
    state = _read(Path(path), advice)
    try:
        network = _build(name, import_module(package), state, str(path))
    except ImportError as error:
        pip = f"pip install {package.replace('_', '-')}"
        raise ValueError(f"{name} needs `{pip}` ({error}); without it, the face world has {instead}") from error
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        says = f"expected the weights of {name}, got others ({printable(error, 150)})"
        raise ValueError(f"{path}: {says}; {advice}") from error
    return network.requires_grad_(False).eval()


def _read(path: Path, advice: str) -> dict[str, Tensor]:
    """The tensors of a state dict, or of the one in a checkpoint, by the reader that runs nothing."""
    try:
        value = read_contents(path)
        inner = value.get("state_dict", value) if isinstance(value, dict) else None
        if not isinstance(inner, dict):
            raise ValueError(f"it holds a {type(value).__name__} and no weights")
        return read_state({key: tensor for key, tensor in inner.items() if isinstance(key, str)}, path)
    except (ValueError, MemoryError) as error:
        raise ValueError(f"{path}: {printable(error)}; {advice}") from error


def _build(name: str, module: Any, state: dict, path: str) -> nn.Module:
    if name == "inception":
        extractor = import_module("torch_fidelity.feature_extractor_inceptionv3").FeatureExtractorInceptionV3
        return _Inception(extractor("inception", ["2048"], feature_extractor_weights_path=path))
    if name == "arcface":
        network = ArcFace()
        network.load_state_dict(state)
        return network
    if name == "moco":
        network = module.models.resnet50(weights=None)
        network.fc = nn.Identity()
        prefix = "module.encoder_q."
        tensors = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        network.load_state_dict({k: v for k, v in tensors.items() if not k.startswith("fc.")})
        return nn.Sequential(nn.UpsamplingNearest2d(224), network)  # as in pSp: nearest, not normalised
    with warnings.catch_warnings(action="ignore"):  # it still uses a keyword that torchvision deprecates
        lpips = module.LPIPS(net=name, pnet_rand=True, verbose=False)  # its linear layers come with the package
    # Its slices keep torchvision's numbers: slice2.3.weight is features.3.weight.
    lpips.net.load_state_dict({k: state[f"features.{k.split('.', 1)[1]}"] for k in lpips.net.state_dict()})
    return _LpipsTrunk(lpips)


class _Inception(nn.Module):
    def __init__(self, extractor: nn.Module) -> None:
        super().__init__()
        self.extractor = extractor

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        return self.extractor(((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8))[0]


class _LpipsTrunk(nn.Module):
    def __init__(self, lpips: nn.Module) -> None:
        super().__init__()
        self.lpips, self.widths = lpips, lpips.chns
        self.channel_weights = [layer.model[-1].weight for layer in lpips.lins]

    def features(self, images: Float[Tensor, "n 3 h w"]) -> list[Tensor]:
        return list(self.lpips.net(self.lpips.scaling_layer(images)))
