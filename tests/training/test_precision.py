"""The precision of a training follows what the hardware computes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from small import small_e4e, small_generator

from latentlab.encoders.contrastive import ContrastiveConfig, ContrastivePair
from latentlab.spaces import fingerprint
from latentlab.training.contrastive import ContrastiveTraining, configure_contrastive, training_pairs
from latentlab.training.encoders import EncoderTraining, configure, training_pictures
from latentlab.training.feature_space import FeatureTraining, configure_features
from latentlab.training.hfgi import HfgiTraining, configure_hfgi
from latentlab.training.loop import Training
from latentlab.training.precision import choose_precision
from latentlab.training.two_branch import TwoBranchTraining, configure_two_branch


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


@pytest.fixture(scope="module")
def G():
    return small_generator(1, 32)


def begin(kind: str, G, precision: str) -> Training:
    fabric, how = Fabric(accelerator="cpu", devices=1, precision=precision), {"images": 40, "batch_size": 4}
    if kind == "contrastive":
        return ContrastiveTraining(configure_contrastive(G, **how), G, fabric)
    if kind == "hfgi":
        return HfgiTraining(configure_hfgi(G, "e4e", **how), G, small_e4e(G), fabric)
    if kind == "two_branch":
        encoder = small_e4e(G)
        return TwoBranchTraining(configure_two_branch(G, encoder, "e4e", fused=8, **how), G, encoder, fabric)
    if kind in ("A", "D"):
        return EncoderTraining(configure(kind, G, **how), G, fabric)
    config, pair = configure_features(kind, G, **how), None
    if config.losses["alignment"]:
        pair = ContrastivePair(ContrastiveConfig.slim(G.config), seed=1)
        config = replace(config, pair=fingerprint(pair, "generator"))
    return FeatureTraining(config, G, fabric, pair)


@pytest.mark.parametrize(
    "kind", ["A", "D", "contrastive", "full", "multi_token", "feature_style", "hfgi", "two_branch"]
)
def test_a_step_in_bfloat16_has_the_losses_of_one_in_float32(kind: str, G):
    """On machines without bfloat16 units no training uses it unless asked, so nothing else would notice there."""
    logged = []
    for precision in ("32-true", "bf16-mixed"):
        training = begin(kind, G, precision)
        pictures = training_pairs if kind == "contrastive" else training_pictures
        batch = pictures(training.config, G if kind == "contrastive" else 32)(0, 4, torch.device("cpu"))
        logged.append({name: float(value) for name, value in training.step(batch).items()})
    assert logged[0].keys() == logged[1].keys() and logged[0]
    for name, value in logged[0].items():
        assert logged[1][name] == pytest.approx(value, rel=0.1, abs=0.02), name
