"""The training loop: everything that latentlab trains runs through ``train``.

A ``Training`` is what is trained: its modules, the optimizers that move them, its losses by name and weight, and
one step. ``train`` repeats the step and adds what every run needs: data in order, a log, sample pictures,
checkpoints, interruption and resume. Read from top to bottom: the parts, the training, the loop.
"""

import math
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from tqdm.auto import tqdm

from latentlab.checkpoints import deferred_interrupt, differing_settings, load_checkpoint, save_checkpoint
from latentlab.memory import keep_freed_memory
from latentlab.seeds import stream
from latentlab.training.log import Log

# data(start, n, device) is the batch of the images start .. start + n - 1 of an endless sequence
Data = Callable[[int, int, torch.device], Any]


class NonFiniteLoss(ValueError):
    """A loss or its gradient is infinite or not a number; the optimizer was not stepped."""


@dataclass(frozen=True)
class Loss:
    """The weight of a loss in the sum that its player minimizes, and every how many steps it is computed."""

    weight: float
    every: int

    @property
    def scale(self) -> float:
        # Lazy regularization (StyleGAN2, appendix B): computed at every k-th step, it counts k times there.
        return self.weight * self.every


@dataclass(frozen=True)
class Player:
    """An optimizer with the schedule of its learning rate and the largest norm that its gradient may have."""

    optimizer: torch.optim.Optimizer
    schedule: LRScheduler | None
    clip: float | None

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What the optimizer moves."""
        return [weight for group in self.optimizer.param_groups for weight in group["params"]]


class Training:
    """What ``train`` trains. A subclass defines

    - ``__init__``: calls ``super().__init__(config, fabric)``, then ``add_module``, ``add_player`` and ``add_loss``;
    - ``_step(batch)``: computes the losses, hands them to ``update``, player by player, and returns what to log;
    - where wanted, ``stage_starts`` with ``enter_stage`` (progressive training) and ``draw_samples``.

    config: a dataclass with at least ``batch_size`` (of all processes together, so that a run does not depend on
        their number) and ``seed``. Its fields are the settings of the run: a checkpoint is resumed only with
        equal ones.
    fabric: a Lightning ``Fabric`` (device, precision, number of processes, which share every batch).

    Random numbers come from ``stream(name)``, which depends on seed, step and process only, so that no generator's
    state has to be saved. Whatever else a resumed run needs must be a parameter or a buffer of an added module.
    With several processes ``update`` averages the gradients; other quantities that must agree are passed
    through ``mean_over_processes``. Of buffers that differ, those of the first process are saved.
    """

    also_logged: tuple[str, ...] = ()  # names beside those of the losses that ``_step`` may return
    later_settings: tuple[str, ...] = ()  # what older checkpoints lack: a run goes on from them with its own value
    stage_starts: Sequence[int] = ()  # the steps at which stages 1, 2, .. begin, ascending; stage 0 is before them

    def __init__(self, config: Any, fabric) -> None:
        self.config, self.fabric = config, fabric
        self.share, rest = divmod(config.batch_size, fabric.world_size)  # of a batch, for each process
        if rest or not self.share:
            raise ValueError(
                f"batch_size: {fabric.world_size} processes cannot share a batch of {config.batch_size} "
                f"evenly; choose a multiple of {fabric.world_size}"
            )
        self.modules: dict[str, nn.Module] = {}
        self.players: dict[str, Player] = {}
        self.losses: dict[str, Loss] = {}
        self.step_index = self.images = 0
        self.stage: int | None = None  # set at the first step, and again at the first after a resume
        self._moved: set[str] = set()

    # --- what a subclass sets up -----------------------------------------------------------------------

    def add_module(self, name: str, module: nn.Module) -> nn.Module:
        """Moves a module to the device and enters it into the checkpoints; returns it."""
        self.modules[name] = module.to(self.fabric.device, memory_format=torch.channels_last)
        return self.modules[name]

    def add_player(
        self,
        name: str,
        optimizer: torch.optim.Optimizer,
        *,
        schedule: LRScheduler | None = None,
        clip: float | None = None,
    ) -> None:
        """An optimizer that ``update(name, losses)`` steps.

        schedule: advances once in each training step in which the player was updated.
        clip: the gradient is scaled down to this norm where it is longer.
        """
        if clip is not None and not clip > 0:
            raise ValueError(f"clip of {name}: expected a positive norm, got {clip}; None switches clipping off")
        self.players[name] = Player(optimizer, schedule, clip)

    def add_loss(self, name: str, weight: float = 1.0, *, every: int = 1) -> None:
        """A loss by name; with ``every`` k it is computed at each k-th step only and weighs k times as much there."""
        if not 0 <= weight < math.inf:
            raise ValueError(
                f"weight of {name}: expected a finite number of at least 0, got {weight}; 0 switches it off"
            )
        if every < 1:
            raise ValueError(f"interval of {name}: expected at least 1 step, got {every}")
        self.losses[name] = Loss(weight, every)

    def _step(self, batch: Any) -> dict[str, Tensor]:
        raise NotImplementedError

    def enter_stage(self, stage: int) -> None:
        """Called before the first step of each stage, and again when a run is resumed within it."""

    def draw_samples(self) -> Image.Image | None:
        """A picture of how far the training is, or None; called without gradients."""

    @property
    def columns(self) -> list[str]:
        """The names of what a step may log."""
        return [*self.losses, *self.also_logged, *["stage"] * bool(self.stage_starts)]

    # --- what a step is made of ------------------------------------------------------------------------

    def step(self, batch: Any) -> dict[str, Tensor]:
        """One training step on this process's share of a batch; returns what to log, a scalar for each name."""
        stage = bisect_right(self.stage_starts, self.step_index)
        if stage != self.stage:
            self.stage = stage
            self.enter_stage(stage)
        self._moved.clear()
        logged = self._step(batch)
        if self.stage_starts:
            logged["stage"] = torch.tensor(float(stage))
        if undeclared := logged.keys() - set(self.columns):
            raise ValueError(f"log: expected names of losses or of also_logged, got {', '.join(sorted(undeclared))}")
        for name in self._moved:
            if (schedule := self.players[name].schedule) is not None:
                schedule.step()
        self.step_index += 1
        self.images += self.config.batch_size
        return logged

    def due(self, name: str) -> bool:
        """Whether a loss is to be computed in this step: its weight is above 0 and its interval has come round."""
        loss = self.losses[name]
        return loss.weight > 0 and self.step_index % loss.every == 0

    def stream(self, name: str) -> torch.Generator:
        """Random numbers of this step and process for one use."""
        return stream(self.config.seed, name, self.step_index, self.fabric.global_rank, device=self.fabric.device)

    def update(self, player: str, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """One optimizer step of a player down the weighted sum of ``losses``.

        Returns each loss, unweighted, detached and averaged over the processes. Raises ``NonFiniteLoss`` before
        the optimizer is stepped. Gradients are averaged by hand because the wrappers of data parallelism do not
        follow the double backward of R1 and path length.
        """
        if unknown := losses.keys() - self.losses.keys():
            raise ValueError(
                f"{player}: expected losses of {', '.join(self.losses)}, got {', '.join(sorted(unknown))}; "
                "enter them with add_loss"
            )
        optimizer, parameters = self.players[player].optimizer, self.players[player].parameters
        optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(sum(loss * self.losses[name].scale for name, loss in losses.items()))
        values = torch.stack([loss.detach().float() for loss in losses.values()])
        self._average([weight.grad for weight in parameters if weight.grad is not None] + [values])
        norm = nn.utils.clip_grad_norm_(parameters, self.players[player].clip or math.inf)  # inf only measures
        self._refuse_nonfinite(player, dict(zip(losses, values, strict=True)), norm)
        optimizer.step()
        self._moved.add(player)
        return dict(zip(losses, values.unbind(), strict=True))

    def _average(self, tensors: list[Tensor]) -> None:
        """Replaces tensors by their means over the processes, in one exchange."""
        if self.fabric.world_size > 1:
            flat = self.mean_over_processes(torch.cat([tensor.flatten() for tensor in tensors]))
            for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
                tensor.copy_(mean.view_as(tensor))

    def _refuse_nonfinite(self, player: str, values: dict[str, Tensor], norm: Tensor) -> None:
        if torch.isfinite(torch.stack([*values.values(), norm])).all():  # one look at the device for all of them
            return
        wrong = [f"{name} = {float(value)}" for name, value in values.items() if not torch.isfinite(value)]
        wrong = wrong or [f"a gradient of norm {float(norm)} from {' + '.join(values)}"]
        raise NonFiniteLoss(f"step {self.step_index}, {player}: expected finite losses, got {', '.join(wrong)}")

    def mean_over_processes(self, value: Tensor) -> Tensor:
        """The mean of a tensor over the processes that share the batch."""
        return value if self.fabric.world_size == 1 else self.fabric.all_reduce(value, reduce_op="mean")

    def any_process(self, flag: bool) -> bool:
        """Whether the flag is set in any process: all of them must stop at the same step."""
        if self.fabric.world_size == 1:
            return flag
        return bool(self.mean_over_processes(torch.tensor(float(flag), device=self.fabric.device)) > 0)

    # --- checkpoints -----------------------------------------------------------------------------------

    def _saved(self) -> dict[str, Any]:
        optimizers = {f"optimizer_{name}": player.optimizer for name, player in self.players.items()}
        schedules = {
            f"schedule_{name}": player.schedule for name, player in self.players.items() if player.schedule is not None
        }
        return self.modules | optimizers | schedules

    def state_dict(self) -> dict[str, Any]:
        """All that ``load_state_dict`` needs to go on bit for bit: tensors and plain values."""
        state = {name: part.state_dict() for name, part in self._saved().items()}
        return state | {"progress": (self.step_index, self.images), "config": asdict(self.config)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where ``state`` stands; a run with other settings raises ``ValueError`` that names them."""
        mine = asdict(self.config)
        saved = {name: mine[name] for name in self.later_settings} | state.get("config", {})
        if differing := differing_settings(mine, saved):
            raise ValueError(
                f"resume: expected the settings of the checkpoint, got {', '.join(differing)}; "
                "give the same settings, or start a run in another folder"
            )
        for name, part in self._saved().items():
            part.load_state_dict(state[name])
        self.step_index, self.images = state["progress"]
        self.stage = None


def train(
    training: Training,
    data: Data,
    out: str | Path,
    *,
    images: int,
    resume: bool = False,
    checkpoint_minutes: float = 5.0,
    samples_every: int = 20_000,
    log_every: int = 1_000,
    callback: Callable[[Any], None] | None = None,
) -> None:
    """Repeats ``training.step`` until it has seen ``images`` images.

    data: ``data(start, n, device)`` gives this process's share of a batch, the images start .. start + n - 1.
    out: receives ``checkpoint.pt`` (at the start, every ``checkpoint_minutes`` and at the end; always whole),
        ``log.csv`` (means over every ``log_every`` images) and ``samples_*.png``.
    resume: go on from ``out/checkpoint.pt``, bit for bit as if never interrupted (on the same machine).
    callback: called after each step.

    Ctrl-C and SIGTERM finish the step, write a checkpoint and return. The first loss that is not finite raises
    ``NonFiniteLoss``, which names it, and leaves the last checkpoint as it is.
    """
    keep_freed_memory()
    out, fabric = Path(out), training.fabric
    checkpoint = _Checkpoint(training, out / "checkpoint.pt", checkpoint_minutes)
    checkpoint.begin(resume)
    log = Log(out / "log.csv", training.columns, training.images, active=fabric.is_global_zero)
    with deferred_interrupt() as interrupted, _progress_bar(training, images, out.name) as bar, log:
        stop = False
        while training.images < images and not stop:
            before = training.images
            batch = data(before + fabric.global_rank * training.share, training.share, fabric.device)
            try:
                log.add(training.step(batch))
            except NonFiniteLoss as error:
                log.write(training.images)
                raise NonFiniteLoss(f"{error}; {checkpoint}") from error
            except torch.OutOfMemoryError as error:
                size = training.config.batch_size
                raise MemoryError(f"a batch of {size} does not fit into memory; choose a smaller one") from error
            if callback is not None:
                callback(training)
            bar.update(training.images - before)
            stop = training.any_process(interrupted.is_set())
            last = stop or training.images >= images
            if last or training.images // log_every > before // log_every:
                bar.set_postfix(log.write(training.images))
            if last or checkpoint.is_due():
                checkpoint.write()
            if last or training.images // samples_every > before // samples_every:
                _write_samples(training, out / f"samples_{training.images:09d}.png")
        if stop:
            bar.write(f"interrupted at {training.images} images; {checkpoint}")


def _progress_bar(training: Training, images: int, name: str) -> tqdm:
    shown = {"unit": "img", "unit_scale": True, "mininterval": 1.0, "disable": not training.fabric.is_global_zero}
    bar = tqdm(total=images, initial=training.images, desc=name, **shown)
    if training.images >= images:
        bar.write(f"{training.images} images were seen already, {images} are asked for: nothing to do")
    return bar


def _write_samples(training: Training, path: Path) -> None:
    if training.fabric.is_global_zero:
        with torch.no_grad():
            picture = training.draw_samples()
        if picture is not None:
            picture.save(path)


class _Checkpoint:
    """The file that a run resumes from; the first process writes it."""

    def __init__(self, training: Training, path: Path, minutes: float) -> None:
        if not minutes >= 0:
            raise ValueError(f"checkpoint_minutes: expected a number of at least 0, got {minutes}")
        self.training, self.path, self.seconds = training, path, 60 * minutes

    def begin(self, resume: bool) -> None:
        """Takes the state of the file, or writes the first one; never over that of another run."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if resume:
            self.training.load_state_dict(load_checkpoint(self.path))
        elif self.path.exists():
            raise FileExistsError(f"{self.path} exists: resume that run, or name another folder")
        self.training.fabric.barrier()  # no process may still be looking when the first one writes
        self.step, self.written = self.training.step_index, time.monotonic()
        if not resume:
            self.write()

    def __str__(self) -> str:
        return f"{self.path} keeps the state after {self.step} steps: resume goes on from there"

    def is_due(self) -> bool:
        return time.monotonic() - self.written >= self.seconds

    def write(self) -> None:
        if self.training.fabric.is_global_zero:
            save_checkpoint(self.training.state_dict(), self.path)
        self.step, self.written = self.training.step_index, time.monotonic()
