"""Timing tables: medians, counted operations, and the compared forms of a descent."""

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


def test_grouped_convolutions_give_the_same_image():
    """Up to the noise, which is drawn anew for each image."""
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
    operations = [r["tflops"] * r["seconds"] for r in rows]  # per image: equal for all batches and precisions
    assert operations == pytest.approx(operations[:1] * 6)
    assert [r["tflops"] / r["peak"] for r in rows] == pytest.approx([1.0] * 3 + [2.0] * 3)
    # a step is the generator and the perceptual trunk, forward and backward; the whitening is negligible beside it
    w_plus, distance = torch.zeros(1, G.num_ws, 16, requires_grad=True), load_perceptual()
    with FlopCounterMode(display=False) as counter:
        sum(features.sum() for features in distance.features(G.synthesis(w_plus))).backward()
    assert operations[0] * 1e12 / timing.STEPS == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_batches_grow_until_memory_runs_out(monkeypatch):
    def descent(what, images, *_, **__):
        if len(images) > 2:
            raise torch.OutOfMemoryError("no more")
        return {"batch": len(images)}

    monkeypatch.setattr(timing, "_descent", descent)
    G = Generator(GeneratorConfig(8, 8, 8, 1, (4, 4)))
    assert [row["batch"] for row in timing._sweep(G, (1, 2, 4, 8), steps=1)] == [1, 2, 1, 1, 2, 1]


def test_statistics_are_compared_with_scikit_learn():
    rows = {what: value for what, value, _ in timing._statistics(20_000)}
    assert list(rows)[4:] == ["IncrementalPCA, 20,000 codes / ours", "IncrementalPCA, memory / ours"]
    assert all(value > 0 for value in rows.values())
