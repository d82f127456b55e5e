"""The training loop, on the smallest training that has all of its parts: two players, a lazy loss, a schedule,
stages, clipping, a buffer that must survive, and random numbers in each step."""

import csv
import math
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.functional import softplus

from latentlab.checkpoints import load_checkpoint
from latentlab.images import tile
from latentlab.seeds import stream
from latentlab.training.loop import NonFiniteLoss, Training, train


@dataclass(frozen=True)
class ToyConfig:
    batch_size: int = 4
    seed: int = 0
    adversarial: float = 0.1
    r1_every: int = 3
    clip: float | None = 0.5
    noise: float = 0.1
    learning_rate: float = 0.1


class Memory(nn.Module):
    """The mean of the codes so far, which the critic sees beside those of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("codes", torch.zeros(4))


class ToyTraining(Training):
    """A linear encoder of 2 + 2 numbers, of which the last two open one by one, against a critic of its codes."""

    also_logged = ("open",)
    stage_starts = (3, 6)

    def __init__(self, config: ToyConfig, fabric: Fabric) -> None:
        super().__init__(config, fabric)
        draw = stream(config.seed, "weights")
        encoder, critic = nn.Linear(3, 4), nn.Linear(4, 1)
        for weight in (*encoder.parameters(), *critic.parameters()):
            nn.init.normal_(weight, generator=draw)
        self.encoder, self.critic = self.add_module("encoder", encoder), self.add_module("critic", critic)
        self.memory = self.add_module("memory", Memory())
        optimizer = torch.optim.Adam(encoder.parameters(), lr=config.learning_rate)
        halved = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
        self.add_player("encoder", optimizer, schedule=halved, clip=config.clip)
        slow = torch.optim.SGD(critic.parameters(), lr=config.learning_rate)
        self.add_player("critic", slow, schedule=torch.optim.lr_scheduler.LambdaLR(slow, lambda step: 0.5**step))
        self.add_loss("l2")
        self.add_loss("adversarial", config.adversarial)
        self.add_loss("critic", 1.0)
        self.add_loss("r1", 2.0, every=config.r1_every)
        self.entered: list[int] = []
        self.poisoned = -1  # the step whose loss is not a number

    def enter_stage(self, stage: int) -> None:
        self.entered.append(stage)

    def _encode(self, x: Tensor) -> Tensor:
        opened = torch.arange(4) < 2 + self.stage
        x = x + self.config.noise * torch.randn(x.shape, generator=self.stream("noise"))
        return self.encoder(x) * opened

    def _step(self, batch: Tensor) -> dict[str, Tensor]:
        codes, real = self._encode(batch), torch.cat([batch, batch[:, :1]], 1)
        self.critic.requires_grad_(True)
        fake = torch.cat([codes.detach(), self.memory.codes[None]])
        unreal = softplus(self.critic(fake)).mean() + softplus(-self.critic(real)).mean()
        logged = self.update("critic", {"critic": unreal})
        if self.due("r1"):
            x = real.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(self.critic(x).sum(), x, create_graph=True)
            logged |= self.update("critic", {"r1": gradient.square().sum(1).mean()})
        self.critic.requires_grad_(False)
        l2 = (codes - real).square().mean() * (math.nan if self.step_index == self.poisoned else 1.0)
        losses = {"l2": l2}
        if self.due("adversarial"):
            losses["adversarial"] = softplus(-self.critic(codes)).mean()
        logged |= self.update("encoder", losses)
        self.memory.codes.lerp_(self.mean_over_processes(codes.detach().mean(0)), 0.1)
        return logged | {"open": torch.tensor(2.0 + self.stage)}

    def draw_samples(self):
        return tile(self.encoder.weight.expand(1, 3, 4, 3), columns=1)


def data(start: int, n: int, device: torch.device) -> Tensor:
    return torch.stack([torch.randn(3, generator=stream(0, "data", i)) for i in range(start, start + n)]).to(device)


def toy(**settings: object) -> ToyTraining:
    return ToyTraining(ToyConfig(**settings), Fabric(accelerator="cpu", devices=1, precision="32-true"))


def equal(a: object, b: object) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def rows(path: Path) -> list[dict[str, str]]:
    with open(path) as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_resumes_bit_for_bit(tmp_path: Path, number: signal.Signals):
    """Stopped in the middle of stage 1, between two lazy steps, with a schedule half gone and a memory half full."""
    whole, first, second = toy(), toy(), toy()
    train(whole, data, tmp_path / "whole", images=36)

    def stop(training: ToyTraining) -> None:
        if training.step_index == 5:
            os.kill(os.getpid(), number)

    train(first, data, tmp_path / "parts", images=36, callback=stop)
    assert first.step_index == 5 and equal(load_checkpoint(tmp_path / "parts/checkpoint.pt"), first.state_dict())
    train(second, data, tmp_path / "parts", images=36, resume=True)
    assert second.images == 36 and equal(second.state_dict(), whole.state_dict())
    assert not equal(first.state_dict()["memory"], whole.state_dict()["memory"])


def test_stages_open_at_their_steps_and_again_after_a_resume(tmp_path: Path):
    training, again = toy(), toy()
    train(training, data, tmp_path, images=16, log_every=4)
    assert training.entered == [0, 1]
    train(again, data, tmp_path, images=32, log_every=4, resume=True)
    assert again.entered == [1, 2]
    assert [float(row["open"]) for row in rows(tmp_path / "log.csv")] == [2, 2, 2, 3, 3, 3, 4, 4]
    assert [float(row["stage"]) for row in rows(tmp_path / "log.csv")] == [0, 0, 0, 1, 1, 1, 2, 2]


def test_a_closed_delta_is_not_trained():
    training = toy()
    before = training.encoder.weight.detach().clone()
    for start in range(3):
        training.step(data(4 * start, 4, "cpu"))
    assert torch.equal(training.encoder.weight[2:], before[2:])
    assert not torch.equal(training.encoder.weight[:2], before[:2])


def test_a_lazy_loss_counts_as_often_as_it_was_left_out():
    """Plain gradient descent: the step is the learning rate times weight times interval times the gradient."""
    training = toy(r1_every=7)
    assert [i for i in range(15) if setattr(training, "step_index", i) or training.due("r1")] == [0, 7, 14]
    before = training.critic.weight.detach().clone()
    training.update("critic", {"r1": training.critic.weight.sum()})  # a gradient of 1
    torch.testing.assert_close(before - training.critic.weight, torch.full((1, 4), 0.1 * 2.0 * 7))


def test_losses_are_weighted_and_logged_without_their_weight():
    training = toy(adversarial=0.25)
    before = training.critic.weight.detach().clone()
    one, other = training.critic.weight.sum(), 3 * training.critic.weight.sum()
    logged = training.update("critic", {"l2": one, "adversarial": other})
    torch.testing.assert_close(before - training.critic.weight, torch.full((1, 4), 0.1 * (1 + 0.25 * 3)))
    assert logged["adversarial"] == other.detach() and not logged["adversarial"].requires_grad


def test_a_loss_without_weight_is_not_computed():
    assert "adversarial" in toy().step(data(0, 4, "cpu"))
    assert "adversarial" not in toy(adversarial=0.0).step(data(0, 4, "cpu"))


@pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf])
def test_a_negative_weight_is_refused(weight: float):
    with pytest.raises(ValueError, match="weight of adversarial: expected a finite number of at least 0, got"):
        toy(adversarial=weight)


def test_what_was_not_declared_is_refused():
    training = toy()
    with pytest.raises(ValueError, match="expected losses of l2, adversarial, critic, r1, got lpips"):
        training.update("critic", {"lpips": training.critic.weight.sum()})
    with pytest.raises(ValueError, match="interval of r1: expected at least 1 step, got 0"):
        toy(r1_every=0)
    with pytest.raises(ValueError, match="clip of encoder: expected a positive norm, got -1"):
        toy(clip=-1.0)
    training.also_logged = ()
    with pytest.raises(ValueError, match="got open"):
        training.step(data(0, 4, "cpu"))


def test_schedules_advance_once_a_step(tmp_path: Path):
    """The critic is updated twice in each lazy step; its learning rate is halved once all the same."""
    training = toy()
    train(training, data, tmp_path, images=16)
    for player in training.players.values():
        assert player.optimizer.param_groups[0]["lr"] == pytest.approx(0.1 / 2**4)


@pytest.mark.parametrize("clip, norm", [(0.25, 0.25), (100.0, 2.0), (None, 2.0)])
def test_long_gradients_are_clipped(clip: float | None, norm: float):
    training = toy(clip=clip)
    training.add_player("plain", torch.optim.SGD(training.critic.parameters(), lr=1.0), clip=clip)
    before = training.critic.weight.detach().clone()
    training.update("plain", {"l2": training.critic.weight.sum()})  # a gradient of (1, 1, 1, 1): norm 2
    assert (before - training.critic.weight).norm().item() == pytest.approx(norm)


def test_stops_at_the_first_loss_that_is_not_finite(tmp_path: Path):
    """The term and the step are named; the last checkpoint, of a state before, is kept and can be resumed."""
    training, before = toy(), toy()
    training.poisoned = 5
    train(before, data, tmp_path, images=12)
    train(training, data, tmp_path, images=12, resume=True)
    told = r"step 5, encoder: expected finite losses, got l2 = nan; .* keeps the state after 3 steps"
    with pytest.raises(NonFiniteLoss, match=told):
        train(training, data, tmp_path, images=36, resume=True)
    assert equal(load_checkpoint(tmp_path / "checkpoint.pt"), before.state_dict())
    assert int(rows(tmp_path / "log.csv")[-1]["images"]) == 20  # the steps that led there are logged
    assert all(weight.isfinite().all() for weight in training.encoder.parameters())


def test_too_little_memory_is_told_with_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def step(training, batch):
        raise torch.OutOfMemoryError("8 GiB")

    monkeypatch.setattr(ToyTraining, "_step", step)
    with pytest.raises(MemoryError, match="a batch of 4 does not fit into memory; choose a smaller one"):
        train(toy(), data, tmp_path, images=16)


def test_a_failure_in_the_first_step_leaves_a_checkpoint_too(tmp_path: Path):
    training, fresh = toy(), toy()
    training.poisoned = 0
    with pytest.raises(NonFiniteLoss, match="step 0, encoder"):
        train(training, data, tmp_path, images=12)
    assert equal(load_checkpoint(tmp_path / "checkpoint.pt"), fresh.state_dict())


def test_a_gradient_that_is_not_finite_moves_nothing():
    """The square root of 0 is finite, its gradient is not."""
    training = toy()
    before = training.critic.weight.detach().clone()
    with pytest.raises(NonFiniteLoss, match="a gradient of norm nan from l2"):
        training.update("critic", {"l2": (training.critic.weight * 0).square().sum().sqrt()})
    assert torch.equal(before, training.critic.weight)


def test_checkpoints_go_by_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What a crash in the eighth step leaves, by a clock that goes on by a minute in each step."""
    clock = {"seconds": 0.0}
    monkeypatch.setattr("latentlab.training.loop.time.monotonic", lambda: clock["seconds"])

    def crash(training: ToyTraining) -> None:
        clock["seconds"] += 60.0
        if training.step_index == 8:
            raise RuntimeError("a crash")

    for every, left in ((0.0, 7), (3.0, 6), (5.0, 5), (60.0, 0)):
        with pytest.raises(RuntimeError, match="a crash"):
            train(toy(), data, tmp_path / str(every), images=80, checkpoint_minutes=every, callback=crash)
        assert load_checkpoint(tmp_path / str(every) / "checkpoint.pt")["progress"] == (left, 4 * left)
    with pytest.raises(ValueError, match="checkpoint_minutes: expected a number of at least 0, got -1"):
        train(toy(), data, tmp_path / "negative", images=80, checkpoint_minutes=-1.0)


def test_other_settings_are_refused(tmp_path: Path):
    train(toy(), data, tmp_path, images=4)
    with pytest.raises(ValueError, match=r"got adversarial = 0.3 \(the checkpoint has 0.1\), clip = None"):
        train(toy(adversarial=0.3, clip=None), data, tmp_path, images=8, resume=True)
    with pytest.raises(FileExistsError, match="resume that run, or name another folder"):
        train(toy(), data, tmp_path, images=8)


def test_a_resumed_log_drops_what_is_repeated(tmp_path: Path):
    train(toy(), data, tmp_path, images=8, log_every=4)
    with open(tmp_path / "log.csv", "a") as file:
        file.write("12,1,1,1,1,1,1,1,1\n1")  # written after the checkpoint, the last row cut off by a crash
    train(toy(), data, tmp_path, images=16, log_every=4, resume=True)
    assert [row["images"] for row in rows(tmp_path / "log.csv")] == ["4", "8", "12", "16"]
    assert rows(tmp_path / "log.csv")[-1]["r1"] != "1"


def test_draws_samples(tmp_path: Path):
    train(toy(), data, tmp_path, images=16, samples_every=8)
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["samples_000000008.png", "samples_000000016.png"]


@pytest.mark.slow
def test_two_processes_are_one_run(tmp_path: Path):
    """They end where one process ends, stop together when one of them is told to, and fail together."""
    script = tmp_path / "two.py"
    script.write_text(
        f"""
import os, runpy, signal, torch
from lightning_fabric import Fabric
from latentlab.training.loop import NonFiniteLoss, train
test = runpy.run_path({__file__!r})
fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp", precision="32-true")
fabric.launch()
def toy():
    return test["ToyTraining"](test["ToyConfig"](noise=0.0), fabric)
def stop(training):
    if fabric.global_rank == 1 and training.step_index == 2:
        os.kill(os.getpid(), signal.SIGTERM)
whole, stopped, failing = toy(), toy(), toy()
train(whole, test["data"], r"{tmp_path}/run", images=32)
train(stopped, test["data"], r"{tmp_path}/stopped", images=32, callback=stop)
failing.poisoned = 1 if fabric.global_rank == 1 else -1
try:
    train(failing, test["data"], r"{tmp_path}/failing", images=32)
except NonFiniteLoss as error:
    failure = str(error)
found = {{"whole": whole.state_dict(), "stopped": stopped.step_index, "failure": failure}}
torch.save(found, r"{tmp_path}/" + str(fabric.global_rank))
"""
    )
    subprocess.run([sys.executable, str(script)], check=True, capture_output=True, timeout=300)
    a, b = (torch.load(tmp_path / str(rank), weights_only=True) for rank in range(2))
    alone = toy(noise=0.0)
    train(alone, data, tmp_path / "alone", images=32)
    assert equal(a["whole"], b["whole"])
    torch.testing.assert_close(a["whole"]["encoder"], dict(alone.encoder.state_dict()))
    assert a["stopped"] == b["stopped"] == 2
    assert a["failure"] == b["failure"] and "step 1, encoder: expected finite losses, got l2 = nan" in a["failure"]
