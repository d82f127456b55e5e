"""What a file of weights holds, by its content: its tensors, or one sentence on what it is instead."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from latentlab.formats.pickles import RefusedName
from latentlab.formats.tensors import StoredTensor, find_tensor
from latentlab.formats.torch_files import map_file, read_objects
from latentlab.weights import read_tensors

MAX_NAME = 200

_CONVERT = (
    "convert it with legacy.py of NVlabs/stylegan2-ada-pytorch (`python legacy.py --source=IN.pkl --dest=OUT.pkl`, "
    "which does run code of the file), then open the result"
)
_STYLEGAN1 = "it is a StyleGAN1 generator, whose layers and latent spaces are others: a StyleGAN2 is wanted"
_STYLEGAN3 = (
    "it is a StyleGAN3 generator (alias-free), whose layers are others: the StyleGAN2 configurations of that "
    "repository can be opened"
)
_DISCRIMINATOR = "it holds a discriminator alone: the generator of the same training is wanted"

# What a file begins with -> what that means; the first that fits counts.
_BEGINNINGS = (
    (rb"\s*(<!doctype|<html|<\?xml)", "it is a web page (HTML), not weights: the server sent a login or quota page "
     "instead; open the address in a browser and save the file that it offers"),
    (rb"version https://git-lfs", "it is a Git LFS pointer, not the weights: run `git lfs pull` in its repository"),
    (rb"\s*\{\s*\"", "it is JSON text, not weights: probably a server's error message"),
    (rb"\x93NUMPY", "it is a numpy array, a direction or a code: formats.directions.read_directions opens it"),
    (rb"\x1f\x8b|BZh|7z\xbc\xaf|Rar!|\xfd7zXZ|.{257}ustar", "it is a packed archive: unpack it, open what is inside"),
    (rb"\x89HDF", "it is an HDF5 file, as Keras writes: convert its weights to PyTorch first"),
    (rb"\x89PNG|\xff\xd8\xff", "it is a picture, not weights"),
    (rb"\x00{64}", "it begins with zeros: the download broke off, get it again"),
)  # fmt: skip
# Beginning of a refused name -> what is known about such files.
_FOREIGN = {
    ("dnnlib.tflib.", "tflib."): f"it is a TensorFlow pickle of NVIDIA's. A StyleGAN2: {_CONVERT}. A StyleGAN1 "
    "cannot be opened",
    ("torch.jit.", "__torch__."): "it is TorchScript, a program: a file of tensors (a state dict) is wanted",
}
# Patterns of tensors' names -> what they belong to.
_NAMES = (
    (r"synthesis\.(input\.(freqs|phases|transform)|L\d+_.*)", _STYLEGAN3),
    (r"(g_mapping|g_synthesis|generator\.progression)\..*|synthesis\.layer\d+\.epilogue.*", _STYLEGAN1),
    (r"b4\.(fc|out)\.weight|final_linear\.0\.weight", _DISCRIMINATOR),
    (r"(encoder\.)?styles\.0\.convs\..*", "it holds an encoder and no generator: formats.encoders.read_encoder opens "
     "it"),
    (r"output_layer\.3\.weight", "it is ArcFace's IR-SE-50, which measures identity: load_identity('arcface', path)"),
    (r"features\.0\.weight", "it is VGG or AlexNet: load_perceptual('vgg' or 'alex', path)"),
    (r"module\.encoder_q\..*", "it is MoCo's ResNet-50: load_identity('moco', path)"),
    (r"optimizer_G|G_ema\..*|.*path_length_mean", "it is a checkpoint of `latentlab train`: add it to the weights with "
     "`latentlab publish RUN --name NAME` and load it by that name"),
    (r"param_groups", "it holds the state of an optimizer alone: the generator of the same training is wanted"),
)  # fmt: skip


def read_contents(path: Path) -> Any:
    """Tensors (described, not read yet) and plain data of a .pt, .pkl or .safetensors file, whatever its name is.

    Raises ``ValueError`` that says in a sentence what the file is instead and what to do.
    """
    head = bytes(map_file(path)[:512])
    for beginning, says in _BEGINNINGS:
        if head[8:9] != b"{" and re.match(beginning, head, re.IGNORECASE | re.DOTALL):
            raise ValueError(says)
    if head[8:9] == b"{":
        return read_tensors(path)[0]
    if head[:4] != b"PK\x03\x04" and not (head[:1] == b"\x80" and 2 <= head[1] <= 5):
        raise ValueError(f"it is no file of weights that is known here: it begins with {head[:8]!r}")
    try:
        return read_objects(path)
    except RefusedName as error:
        known = [says for names, says in _FOREIGN.items() if error.name.startswith(names)]
        raise ValueError(known[0] if known else str(error)) from error


def read_state(state: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    """Reads the tensors of a state dict, in float32 where they are numbers with a fraction.

    What is no tensor raises ``ValueError``, and so do tensors that claim more than the file can hold.
    """
    found = {str(key): value if isinstance(value, Tensor) else find_tensor(value) for key, value in state.items()}
    for key, value in found.items():
        if len(key) > MAX_NAME:
            raise ValueError(f"a tensor's name has {len(key)} letters, and begins with {key[:40]!r}")
        if value is None:
            raise ValueError(f"{key[:80]}: expected a tensor, got a {type(state.get(key)).__name__}")
    claimed, size = sum(value.nbytes for value in found.values()), path.stat().st_size
    if claimed > 2 * size + 2**20:
        raise ValueError(f"its tensors claim {claimed >> 20} MiB, and the file has {size >> 20}: they repeat the same "
                         "numbers, as no trained network does")  # fmt: skip
    read = ((key, value if isinstance(value, Tensor) else value.read()) for key, value in found.items())
    return {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in read}


def explain(value: Any) -> str:
    """One sentence on what was found where a generator was looked for."""
    if (tensor := value if isinstance(value, StoredTensor | Tensor) else find_tensor(value)) is not None:
        return f"it is one tensor of shape {tuple(tensor.shape)}: formats.directions.read_directions opens directions"
    if not isinstance(value, dict):
        return f"it holds a {type(value).__name__}, and no generator"
    groups = [value, *(inner for inner in list(value.values())[:50] if isinstance(inner, dict))]
    names = [key for group in groups for key in list(group)[:2000] if isinstance(key, str) and len(key) <= MAX_NAME]
    for pattern, says in _NAMES:
        if any(re.fullmatch(pattern, name) for name in names):
            return says
    held = ", ".join(name[:40] for name in names[:4]) or "nothing"
    return f"it holds no generator that is known here; it holds {held}"
