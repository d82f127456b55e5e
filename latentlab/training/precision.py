"""The choice between bfloat16 and float32 for training."""

from pathlib import Path
from typing import Literal

import torch

Precision = Literal["bf16-mixed", "32-true"]
# Of /proc/cpuinfo: x86 with matrix or vector units for bfloat16, ARM with its own.
_BFLOAT16_UNITS = {"amx_bf16", "avx512_bf16", "bf16"}


def choose_precision(accelerator: str = "auto", cpuinfo: Path = Path("/proc/cpuinfo")) -> Precision:
    """bfloat16 autocast where the hardware computes it, else float32; Lightning Fabric's names.

    A CPU without bfloat16 units emulates it and trains about three times slower so than in float32, and torch's own
    ``mkldnn._is_mkldnn_bf16_supported`` says yes to it all the same (AVX-512 is enough). What decides is therefore
    the CPU's list of features, rather than a measurement, so that a run resumed on the same machine gets the same
    precision. Where there is no such list (macOS, Windows) it is float32.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return "32-true"
    # One line for each core: "flags : fpu vme ..", on ARM "Features : fp asimd ..".
    features = {word for line in lines if line.lower().startswith(("flags", "features")) for word in line.split()}
    return "bf16-mixed" if features & _BFLOAT16_UNITS else "32-true"
