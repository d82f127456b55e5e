"""The speed tables: what is timed is what they say."""

import subprocess
import sys
from pathlib import Path

import pandas
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from latentlab.evaluation import timing
from latentlab.losses.perceptual import load_perceptual
from latentlab.stylegan import Generator, GeneratorConfig
from latentlab.weights.generators import load


def test_seconds_are_the_median_after_a_warm_up(monkeypatch):
    ticks = iter([0.0, 9.0, 10.0, 11.0, 20.0, 23.0])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(ticks))
    runs = []
    assert timing._seconds(lambda: runs.append(1)) == 3.0
    assert len(runs) == 4


def test_grouped_convolutions_paint_the_same_picture():
    """Another arithmetic for StyleGAN2's Eq. 1 and 3, and noise of its own."""
    G = load("faces-64")
    w_plus = G.mapping(torch.randn(20, G.z_dim, generator=torch.Generator().manual_seed(0))).unflatten(0, (2, -1))
    grouped = timing.GroupedGenerator(G)
    assert not torch.equal(grouped.synthesis(w_plus), grouped.synthesis(w_plus))
    for parameter in (p for name, p in grouped.named_parameters() if name.endswith("noise_strength")):
        parameter.zero_()
    torch.testing.assert_close(grouped.synthesis(w_plus), G.synthesis(w_plus, noise="none"), rtol=0, atol=1e-4)


def test_descents_are_timed_in_both_precisions_and_counted(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda verb, **_: verb)
    monkeypatch.setitem(timing.PEAKS, "", (1.0, 2.0))
    G = Generator(GeneratorConfig(32, 16, 16, 2, (16, 16, 16, 8))).requires_grad_(False).eval()
    rows = list(timing._sweep(G, (1, 2), steps=3))
    assert [(r["precision"], r["batch"]) for r in rows] == [(p, n) for p in ("float32", "bfloat16") for n in (1, 2, 1)]
    operations = [r["tflops"] * r["seconds"] for r in rows]  # of an image, whatever the batch and the precision
    assert operations == pytest.approx(operations[:1] * 6)
    assert [r["tflops"] / r["peak"] for r in rows] == pytest.approx([1.0] * 3 + [2.0] * 3)
    # a step is the generator and the perceptual trunk, there and back; next to it the whitening is nothing
    w_plus, distance = torch.zeros(1, G.num_ws, 16, requires_grad=True), load_perceptual()
    with FlopCounterMode(display=False) as counter:
        sum(features.sum() for features in distance.features(G.synthesis(w_plus))).backward()
    assert operations[0] * 1e12 / timing.STEPS == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_memory_that_ends_ends_the_batches(monkeypatch):
    def descent(what, images, *_, **__):
        if len(images) > 2:
            raise torch.OutOfMemoryError("no more")
        return {"batch": len(images)}

    monkeypatch.setattr(speed, "_descent", descent)
    G = Generator(GeneratorConfig(8, 8, 8, 1, (4, 4)))
    assert [row["batch"] for row in timing._sweep(G, (1, 2, 4, 8), steps=1)] == [1, 2, 1, 1, 2, 1]


def test_statistics_stand_beside_scikit_learn():
    rows = {what: value for what, value, _ in timing._statistics(20_000)}
    assert list(rows)[4:] == ["IncrementalPCA, 20,000 codes / ours", "IncrementalPCA, memory / ours"]
    assert all(value > 0 for value in rows.values())


def measured(table: str, out: Path) -> dict[str, float]:
    """A table by the command that prints it: here shapes are checked at every call, which takes longer than a step."""
    command = [sys.executable, "-m", "latentlab.cli", "benchmark", "--only", table, "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    rows = pandas.read_csv(out / f"{table}.csv")
    return dict(zip(rows["what"], rows["value" if table == "speed" else "relative"], strict=True))


@pytest.mark.slow
def test_speed_meets_its_marks(tmp_path):
    """Half of what two quiet cores reach, so that a busy machine passes and a slow path does not."""
    rows, cores = measured("speed", tmp_path), min(torch.get_num_threads(), 2)
    assert rows["renderer, 64 px"] > 150 * cores / 2
    assert rows["training faces-64"] > 20 * cores / 2
    assert rows["statistics, 1,000,000 codes"] < 60 and not rows["statistics, memory"] > 1_000
    assert rows["ii2s, one face, 500 steps"] < 30


@pytest.mark.slow
def test_optimisers_meet_their_marks(tmp_path):
    """Batches pay, and so does a plain convolution with scaled input and output instead of a grouped one."""
    rows = measured("optimisers", tmp_path)
    assert rows["ii2s"] == 1 and 0.3 < rows["ii2s, every step timed"] < 3
    assert rows["ii2s, 16 together"] < 0.8 and rows["grouped convolutions"] > 1.1
