"""Descents that are kept: resumed where they stopped, recognised by what they depend on, made again where damaged."""

import os
import signal
from dataclasses import replace

import pytest
import torch
from worlds import world

from latentlab.claims import runs
from latentlab.claims.runs import Bench, Planned, Run
from latentlab.inversion.descent import Step
from latentlab.inversion_methods import invert
from latentlab.stylegan.generator import Generator, GeneratorConfig

LAMBDA = (("lambda_", 0.005),)


@pytest.fixture(scope="module")
def G() -> Generator:
    return world(config=GeneratorConfig(32, 12, 10, 2, (16, 16, 8, 8)))


@pytest.fixture
def calls(monkeypatch) -> list[dict]:
    """The calls of ``invert``: number of images, steps, and how many were done before."""
    made = []

    def counted(images, G, method, **knobs):
        before = knobs["resume"].knobs["steps"] if "resume" in knobs else 0
        made.append({"n": len(images), "steps": knobs["steps"], "before": before})
        return invert(images, G, method, **knobs)

    monkeypatch.setattr(runs, "invert", counted)
    return made


@pytest.fixture
def bench(G, tmp_path) -> Bench:
    return Bench(G, True, folder=tmp_path / "claims", batch=2)


def test_each_face_is_made_once_for_all_processes(bench, calls):
    run = Run("ii2s", (2, 4), LAMBDA)
    first = bench.find(run, "clean", 3)
    assert [(c["n"], c["steps"]) for c in calls] == [(2, 4), (1, 4)]
    again = replace(bench).find(run, "clean", 3)  # another bench, as another process has it
    assert len(calls) == 2 and torch.equal(again.latent, first.latent) and first.latent.shape[0] == 3
    torch.testing.assert_close(again.image, first.image)
    assert again.seconds == pytest.approx(first.seconds) and first.seconds > 0
    assert torch.equal(bench.find(run, "clean", [2, 0]).latent, first.latent[[2, 0]]) and len(calls) == 2
    more = bench.find(run, "clean", 4)
    assert [c["n"] for c in calls[2:]] == [1] and torch.equal(more.latent[:3], first.latent)
    assert set(first.codes) == {2, 4} and not torch.equal(first.codes[2], first.codes[4])


def test_runs_are_told_apart_by_all_that_codes_depend_on(bench, calls, G):
    run = Run("ii2s", (2,), LAMBDA)
    others = [replace(run, knobs=(("lambda_", 0.0),)), replace(run, floor=1e-2), replace(run, task="half"),
              replace(run, start=0), replace(run, start=1), replace(run, method="z_plus", start=0)]  # fmt: skip
    found = [bench.find(r, "clean", 1).latent for r in (run, *others)]
    assert len(calls) == 7 and all(not torch.equal(found[0], x) for x in found[1:])
    bench.find(run, "strange", 1), bench.find(run, runs.OWN, 1)
    assert len(calls) == 9
    other = Bench.kept(G).folder.name, Bench.kept(world(config=replace(G.config, mapping_layers=3))).folder.name
    assert other[0] != other[1]


def test_a_longer_descent_serves_as_a_shorter_one(bench, calls):
    long = bench.find(Run("ii2s", (2, 4), LAMBDA), "clean", 1)
    short = bench.find(Run("ii2s", (2,), LAMBDA), "clean", 1)
    assert len(calls) == 1 and torch.equal(short.latent, long.codes[2])
    assert not torch.equal(short.image, long.image)
    pulse = Run("pulse", (4,), (("size", 32),), start=0)
    bench.find(replace(pulse, at=(2, 4)), "clean", 1)
    bench.find(replace(pulse, at=(2,)), "clean", 1)  # its learning rates depend on the number of steps
    assert len(calls) == 3


def test_an_open_descent_is_continued(bench, calls):
    run = Run("ii2s", (2, 4), LAMBDA, open=True)
    first = bench.find(run, "clean", 2)
    longer = bench.find(replace(run, at=(4, 8)), "clean", 2)
    assert [(c["steps"], c["before"]) for c in calls] == [(4, 0), (8, 4)]
    assert torch.equal(longer.codes[4], first.latent)
    assert longer.seconds < 20 * first.seconds  # a face's time, not that of its batch, is carried on
    whole = Bench(bench.G, True).find(replace(run, at=(4, 8)), "clean", 2)
    torch.testing.assert_close(longer.latent, whole.latent)  # as without the pause
    assert set(bench.find(replace(run, at=(2, 4, 8)), "clean", 2).codes) == {2, 4, 8} and len(calls) == 3


def test_an_interrupted_descent_goes_on_where_it_stopped(bench, calls, monkeypatch):
    run = Run("ii2s", (3, 6), LAMBDA, task="half")

    def interrupt(step: Step) -> None:
        if step.number == 3:
            os.kill(os.getpid(), signal.SIGINT)

    counted = runs.invert
    monkeypatch.setattr(runs, "invert", lambda *a, **k: counted(*a, **k, callback=interrupt))
    with pytest.warns(UserWarning, match="interrupted after 4 of 6"), pytest.raises(KeyboardInterrupt):
        bench.find(run, "clean", 2)
    monkeypatch.setattr(runs, "invert", counted)
    found = replace(bench).find(run, "clean", 2)
    assert calls[-1] == {"n": 2, "steps": 6, "before": 4}
    whole = Bench(bench.G, True).find(run, "clean", 2)
    torch.testing.assert_close(found.latent, whole.latent)
    assert not list(bench.folder.rglob("unfinished*"))


def test_a_damaged_file_is_told_and_made_again(bench, calls):
    run = Run("ii2s", (2,), LAMBDA)
    before = bench.find(run, "clean", 1).latent
    (path,) = bench.folder.rglob("clean-000-*.safetensors")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.warns(UserWarning, match="expected a descent, got a damaged file"):
        again = bench.find(run, "clean", 1).latent
    assert len(calls) == 2 and torch.equal(before, again)
    for leftover in bench.folder.rglob("*.partial"):
        raise AssertionError(leftover)


def test_other_pictures_are_other_targets(bench, calls, monkeypatch):
    run = Run("ii2s", (2,), LAMBDA)
    bench.find(run, "clean", 1)
    given = Bench.images
    monkeypatch.setattr(Bench, "images", lambda self, kind, faces: given(self, kind, faces) * 0.9)
    bench.find(run, "clean", 1)
    assert len(calls) == 2


def test_starts_belong_to_the_face_and_not_to_the_batch(bench):
    for method in ("ii2s", "z_plus", "pulse"):
        run = Run(method, (1,), LAMBDA if method != "pulse" else (("size", 8),), start=3)
        both = bench.find(run, "clean", 2).latent
        alone = Bench(bench.G, True).find(run, "clean", [1]).latent
        torch.testing.assert_close(both[1:], alone)
        assert not torch.allclose(both[0], both[1], atol=0.05)


def test_what_is_left_and_how_long_it_takes(bench):
    run = Run("ii2s", (2, 4), LAMBDA)
    plan = [Planned(run, "clean", 3), Planned(replace(run, floor=1e-2), "clean", 3), Planned(run, "clean", 3)]
    total, missing, seconds = bench.left(plan)
    assert (total, missing) == (6, 6) and seconds != seconds  # nothing was timed
    pace = bench.find(run, "clean", 2).seconds
    total, missing, seconds = bench.left(plan)
    assert (total, missing) == (6, 4) and seconds == pytest.approx(4 * pace)
    bench.find(run, "clean", 3), bench.find(plan[1].run, "clean", 3)
    assert bench.left(plan)[1:] == (0, 0) and bench.pace(plan) > 0
