"""The precision of a training follows what the hardware computes."""

from pathlib import Path

import pytest
import torch

from latentlab.training.precision import choose_precision


@pytest.mark.parametrize(
    "line, expected",
    [
        ("flags\t\t: fpu avx512f avx512_vnni amx_bf16 amx_tile", "bf16-mixed"),
        ("flags\t\t: fpu avx512f avx512_bf16", "bf16-mixed"),
        ("Features\t: fp asimd bf16 i8mm", "bf16-mixed"),
        ("flags\t\t: fpu avx512f avx512vl", "32-true"),  # torch would take bfloat16 there, and emulate it
        ("model name\t: amx_bf16", "32-true"),
    ],
)
def test_a_cpu_is_known_by_its_features(line: str, expected: str, tmp_path: Path):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\n")
    assert choose_precision("cpu", tmp_path / "cpuinfo") == expected


def test_an_unknown_cpu_computes_in_float32(tmp_path: Path):
    assert choose_precision("cpu", tmp_path / "nothing") == "32-true"


def test_a_gpu_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert choose_precision("auto", tmp_path / "nothing") == choose_precision("gpu") == "bf16-mixed"
    assert choose_precision("cpu", tmp_path / "nothing") == "32-true"
