"""Training: resumes bit for bit, survives interruption and a full disk, and learns."""

import csv
import os
import signal
import subprocess
import sys

import pytest
import torch
from lightning_fabric import Fabric

from latentlab.checkpoints import load_checkpoint, save_checkpoint
from latentlab.faces.renderer import render
from latentlab.faces.sampling import sample_factors
from latentlab.stylegan.generator import Generator, GeneratorConfig
from latentlab.training.generator import (
    PRESETS,
    GeneratorTraining,
    TrainingConfig,
    replace_mapping,
    train_generator,
)

TINY = PRESETS["tiny-16"]


def faces(start: int, n: int, device: torch.device) -> torch.Tensor:
    return render(sample_factors(n, seed=0, start=start), resolution=16).to(device)


def fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")


def equal(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


@pytest.mark.parametrize("path_length_weight, mapping_learning_rate", [(0.0, 1.0), (2.0, 1.0), (2.0, 10.0)])
def test_resumes_bit_for_bit(tmp_path, path_length_weight, mapping_learning_rate):
    config = TrainingConfig(
        TINY.generator,
        4,
        r1_interval=3,
        path_length_weight=path_length_weight,
        mapping_learning_rate=mapping_learning_rate,
    )
    whole = train_generator(config, faces, tmp_path / "whole", images=40, fabric=fabric())
    train_generator(config, faces, tmp_path / "parts", images=20, fabric=fabric())
    parts = train_generator(config, faces, tmp_path / "parts", images=40, fabric=fabric(), resume=True)
    assert parts.images == 40
    assert equal(whole.state_dict(), parts.state_dict())


def test_seed_decides(tmp_path):
    a, b, c = (
        train_generator(TrainingConfig(TINY.generator, 4, seed=s), faces, tmp_path / n, images=8, fabric=fabric())
        for n, s in (("a", 0), ("b", 0), ("c", 1))
    )
    assert equal(a.state_dict(), b.state_dict())
    assert not equal(a.G.state_dict(), c.G.state_dict())


def test_interruption_finishes_the_step_and_saves(tmp_path):
    def interrupt(training: GeneratorTraining) -> None:
        if training.step_index == 2:
            os.kill(os.getpid(), signal.SIGINT)

    stopped = train_generator(TINY, faces, tmp_path / "run", images=400, fabric=fabric(), callback=interrupt)
    assert stopped.images < 400
    saved = load_checkpoint(tmp_path / "run" / "checkpoint.pt")
    assert equal(saved, stopped.state_dict())


def test_writes_log_and_samples(tmp_path):
    train_generator(TINY, faces, tmp_path, images=40, fabric=fabric(), log_every=20)
    with open(tmp_path / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert [int(r["images"]) for r in rows] == [20, 40]
    assert all(float(r["loss_d"]) > 0 for r in rows)
    assert (tmp_path / "samples_000000040.png").is_file()


def test_refuses_another_run(tmp_path):
    train_generator(TINY, faces, tmp_path, images=4, fabric=fabric())
    with pytest.raises(FileExistsError, match="resume"):
        train_generator(TINY, faces, tmp_path, images=8, fabric=fabric())
    other = TrainingConfig(TINY.generator, 4, r1_gamma=9.0)
    with pytest.raises(ValueError, match="r1_gamma"):
        train_generator(other, faces, tmp_path, images=8, fabric=fabric(), resume=True)
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        train_generator(TINY, faces, tmp_path / "nothing", images=8, fabric=fabric(), resume=True)


def test_a_finished_run_says_so_and_stays_as_it_is(tmp_path, capsys):
    done = train_generator(TINY, faces, tmp_path, images=8, fabric=fabric())
    again = train_generator(TINY, faces, tmp_path, images=4, fabric=fabric(), resume=True)
    assert "8 images were seen already, 4 are asked for: nothing to do" in capsys.readouterr().out
    assert equal(again.state_dict(), done.state_dict())


def test_lazy_r1_penalises_the_gradient():
    """One R1 step alone must lower the gradient's norm, or the discriminator is not regularised."""
    training = GeneratorTraining(TrainingConfig(TINY.generator, 4, r1_gamma=50.0), fabric())
    real = faces(0, 4, torch.device("cpu"))
    before = training._step_r1(real)
    for _ in range(10):
        after = training._step_r1(real)
    assert after < before / 2


def test_learns_the_mean_picture(tmp_path):
    """A hundred steps take the average fake near the average face."""
    training = train_generator(TINY, faces, tmp_path, images=800, fabric=fabric())
    z = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
    fresh = GeneratorTraining(TINY, fabric())
    with torch.no_grad():
        means = [t.G_ema(z).mean(0) for t in (training, fresh)]
    real = faces(0, 64, torch.device("cpu")).mean(0)
    trained, untrained = ((m - real).square().mean() for m in means)
    assert trained < untrained / 2


def test_full_disk_keeps_the_old_checkpoint(tmp_path):
    """The file system refuses the write for real, in a process whose files may not grow."""
    path = tmp_path / "checkpoint.pt"
    save_checkpoint({"step": 1}, path)
    code = (
        "import resource, torch, latentlab.checkpoints as c\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        f"c.save_checkpoint({{'big': torch.zeros(1_000_000)}}, {str(path)!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode != 0 and "the checkpoint before it is untouched" in done.stderr
    assert load_checkpoint(path) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_damaged_checkpoint_is_told(tmp_path):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        load_checkpoint(path)


@pytest.mark.slow
def test_two_processes_are_one_run(tmp_path):
    """Two processes share each batch: both hold the same weights, and what they saw is what one would see."""
    script = tmp_path / "two.py"
    script.write_text(
        f"""
import torch
from lightning_fabric import Fabric
from latentlab.faces import render, sample_factors
from latentlab.training.generator import PRESETS, train_generator
seen = []
def faces(start, n, device):
    seen.extend(range(start, start + n))
    return render(sample_factors(n, seed=0, start=start), resolution=16)
fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp", precision="bf16-mixed")
fabric.launch()
training = train_generator(PRESETS["tiny-16"], faces, r"{tmp_path}/run", images=12, fabric=fabric)
torch.save(training.state_dict() | {{"seen": seen}}, r"{tmp_path}/" + str(fabric.global_rank))
"""
    )
    subprocess.run([sys.executable, str(script)], check=True, capture_output=True, timeout=240)
    a, b = (torch.load(tmp_path / str(rank), weights_only=True) for rank in range(2))
    assert equal(a["G"], b["G"]) and equal(a["D"], b["D"])
    assert a["progress"][:2] == (3, 12) and sorted(a["seen"] + b["seen"]) == list(range(12))


def test_fine_tuning_starts_from_given_players(tmp_path):
    donor = train_generator(TINY, faces, tmp_path / "donor", images=8, fabric=fabric())
    players = {f"{p}.{k}": v.clone() for p in "GD" for k, v in getattr(donor, p).state_dict().items()}
    heir = GeneratorTraining(TrainingConfig(TINY.generator, 4, seed=9), fabric())
    heir.start_from(players)
    assert equal(heir.G.state_dict(), donor.G.state_dict()) and equal(heir.D.state_dict(), donor.D.state_dict())
    assert equal(heir.G_ema.state_dict(), donor.G.state_dict()) and heir.images == 0
    tuned = train_generator(TINY, faces, tmp_path / "heir", images=4, fabric=fabric(), initial=players)
    assert not equal(tuned.G.state_dict(), donor.G.state_dict())


def test_batch_is_shared_evenly():
    class Three:
        world_size = 3

    with pytest.raises(ValueError, match="cannot share a batch of 4"):
        GeneratorTraining(TINY, Three())


def test_a_checkpoint_from_before_the_common_loop_goes_on(tmp_path):
    """These are the keys of the first generators' checkpoints; their configuration knows fewer settings."""
    config = TrainingConfig(TINY.generator, 4, r1_interval=3, path_length_weight=2.0)
    whole = train_generator(config, faces, tmp_path / "whole", images=24, fabric=fabric())
    train_generator(config, faces, tmp_path / "old", images=12, fabric=fabric())
    state = load_checkpoint(tmp_path / "old" / "checkpoint.pt")
    assert state.keys() == {"G", "D", "G_ema", "optimizer_G", "optimizer_D", "progress", "config"}
    step, images, path_length_mean = state["progress"]
    assert (step, images) == (3, 12) and path_length_mean > 0 and len(state["optimizer_G"]["param_groups"]) == 1
    del state["config"]["mapping_learning_rate"]
    save_checkpoint(state, tmp_path / "old" / "checkpoint.pt")
    parts = train_generator(config, faces, tmp_path / "old", images=24, fabric=fabric(), resume=True)
    assert equal(whole.state_dict(), parts.state_dict())


@pytest.mark.parametrize("relative", [1.0, 10.0])
def test_the_mapping_learns_at_its_own_rate(relative):
    """Adam's first step moves every weight with a gradient by the learning rate, whatever the gradient is."""
    training = GeneratorTraining(TrainingConfig(TINY.generator, 4, mapping_learning_rate=relative), fabric())
    before = {name: weight.detach().clone() for name, weight in training.G.named_parameters()}
    training.step(faces(0, 4, torch.device("cpu")))
    after = training.G.state_dict()
    moved = {name: float((after[name] - weight).abs().max()) for name, weight in before.items()}
    for name, by in moved.items():
        expected = 0.002 * (relative if name.startswith("mapping") else 1.0)
        assert by == pytest.approx(expected, rel=0.02), name


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match="mapping_learning_rate: expected a positive finite factor, got 0"):
        TrainingConfig(mapping_learning_rate=0.0)
    with pytest.raises(ValueError, match="expected 1 where the mapping is not trained, got 10"):
        TrainingConfig(mapping_learning_rate=10.0, learn_mapping=False)
    with pytest.raises(ValueError, match="mapping_layers: expected at least 1, got 0"):
        TrainingConfig(GeneratorConfig(16, 16, 16, 0, (16, 16, 8)))
    with pytest.raises(ValueError, match="weight of path_length: expected a finite number of at least 0, got -2"):
        GeneratorTraining(TrainingConfig(TINY.generator, 4, path_length_weight=-2.0), fabric())


@pytest.fixture(scope="module")
def donor() -> Generator:
    """A generator whose W lies elsewhere and is spread otherwise than that of an untrained mapping."""
    G, draw = Generator(TINY.generator, seed=3).requires_grad_(False), torch.Generator().manual_seed(4)
    for layer in G.mapping.layers:
        layer.weight *= 1 + torch.rand(16, 1, generator=draw)
        layer.bias += 100 * torch.randn(16, generator=draw)
    return G


@pytest.mark.parametrize("layers", [1, 4])
def test_a_new_mapping_keeps_the_moments_of_the_styles(donor, layers):
    heir = replace_mapping(donor, layers, seed=0)
    assert len(heir.mapping.layers) == layers and heir.config.mapping_layers == layers
    z = torch.randn(100_000, 16, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        styles, new = (torch.cat(G.styles(G.broadcast(G.mapping(z))), 1) for G in (donor, heir))
        torch.testing.assert_close(heir.mapping(z).mean(0), heir.w_avg, atol=0.02, rtol=0)
    spread = styles.std(0)
    assert ((new.mean(0) - styles.mean(0)).abs() < 0.02 * spread).all()
    covariance, difference = styles.T.cov(), new.T.cov() - styles.T.cov()
    assert difference.norm() < 0.02 * covariance.norm()
    assert (difference.abs() < 0.03 * spread[:, None] * spread).all()


def test_a_new_mapping_leaves_the_synthesis_as_it_is(donor):
    before = {name: value.clone() for name, value in donor.state_dict().items()}
    heir, again = replace_mapping(donor, 4, seed=0, n=2_000), replace_mapping(donor, 4, seed=0, n=2_000)
    assert equal(donor.state_dict(), before) and equal(dict(heir.state_dict()), dict(again.state_dict()))
    for name, value in heir.state_dict().items():
        if not name.startswith("mapping") and ".affine." not in name and name != "w_avg":
            assert torch.equal(value, before[name]), name
    untrained = Generator(heir.config, seed=0).mapping.state_dict()
    assert untrained.keys() == heir.mapping.state_dict().keys() and all(p.requires_grad for p in heir.parameters())
