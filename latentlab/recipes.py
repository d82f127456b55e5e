"""How everything that is shipped was made: the trainings on the face world, and publishing their results."""

import datetime
import json
import os
import platform
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from latentlab import weights
from latentlab.checkpoints import load_checkpoint
from latentlab.editing.directions import directions_to_tensors, find_directions
from latentlab.faces import NAMES, render, sample_factors
from latentlab.judges.attributes import FILE as JUDGE_FILE
from latentlab.judges.attributes import AttributeJudge
from latentlab.losses.attributes import FILE as LOSSES_FILE
from latentlab.losses.attributes import AttributeNetwork, load_attributes
from latentlab.losses.perceptual import PerceptualDistance
from latentlab.regression import fit_factors, read_factors
from latentlab.spaces import fingerprint, measure_statistics
from latentlab.stylegan.generator import Generator, GeneratorConfig
from latentlab.stylegan.training import PRESETS, GeneratorTraining, train_generator

# Seeds of the renders each network sees; a judge shares none with what it judges.
LOSSES_SEED, JUDGES_SEED = 100, 1_000


def train_faces(
    preset: str,
    out: Path,
    *,
    images: int,
    fabric,
    resume: bool = False,
    seed: int | None = None,
    start_from: str | None = None,
) -> GeneratorTraining:
    """Trains a preset's generator on an endless stream of rendered faces; see ``train_generator``."""
    if preset not in PRESETS:
        raise ValueError(f"unknown preset {preset!r}; known are: {', '.join(PRESETS)}")
    config = PRESETS[preset] if seed is None else replace(PRESETS[preset], seed=seed)

    def faces(start: int, n: int, device: torch.device) -> Tensor:
        return render(sample_factors(n, seed=config.seed, start=start).to(device), config.generator.resolution)

    initial = origin = None
    if start_from is not None:
        file = f"{start_from}.training.safetensors"
        initial, origin = weights.read_weights(file)[0], weights.read_manifest()[file]
    _describe(out, "generator", config.seed, {"preset": preset, "start_from": origin, "config": asdict(config)})
    initial = None if resume else initial
    return train_generator(config, faces, out, images=images, fabric=fabric, resume=resume, initial=initial)


def train_attributes(out: Path, *, images: int, fabric, resume: bool = False, seed: int = LOSSES_SEED) -> nn.Module:
    """Trains the losses' attribute network, whose stages are the perceptual trunk."""
    _describe(out, "attributes", seed, {"images": images})
    network = _seeded(seed, lambda: AttributeNetwork(list(NAMES)))
    return fit_factors(network, out, images=images, seed=seed, fabric=fabric, resume=resume)


def train_judge(out: Path, *, images: int, fabric, resume: bool = False, seed: int = JUDGES_SEED) -> nn.Module:
    """Trains the attribute judge: another architecture, other renders."""
    _describe(out, "judge", seed, {"images": images})
    network = _seeded(seed, lambda: AttributeJudge(list(NAMES)))
    return fit_factors(network, out, images=images, seed=seed, fabric=fabric, resume=resume)


def publish_run(
    run: Path, name: str = "faces-64", folder: Path | None = None, *, codes: int = 1_000_000, samples: int = 20_000
) -> list[Path]:
    """Turns the checkpoint of a run into shipped weights with their provenance; returns the files.

    A generator comes with the statistics of ``codes`` codes, and with directions from ``samples`` samples
    where its resolution is one that the losses' attribute network reads.
    """
    if not (run / "run.json").is_file():
        raise FileNotFoundError(f"{run} is no run of `latentlab train`: it holds no run.json")
    described = json.loads((run / "run.json").read_text())
    kind = described.pop("kind")
    described["date"] = datetime.date.today().isoformat()
    state = load_checkpoint(run / "checkpoint.pt")
    folder = folder or weights.FOLDER
    if kind == "generator":
        return _publish_generator(name, state, described, folder, codes, samples)
    if kind == "attributes":
        return _publish_attributes(state, described, folder)
    judge = AttributeJudge(list(NAMES))
    judge.load_state_dict(state["network"])
    return [weights.publish(JUDGE_FILE, judge.state_dict(), {"config": judge.config}, described, folder=folder)]


def _publish_attributes(state: dict, described: dict, folder: Path) -> list[Path]:
    trunk = AttributeNetwork(list(NAMES))
    trunk.load_state_dict(state["network"])
    distance = PerceptualDistance(trunk).eval()
    distance.calibrate(render(sample_factors(512, seed=described["seed"], start=10**7)))
    return [weights.publish(LOSSES_FILE, distance.state_dict(), {"config": trunk.config}, described, folder=folder)]


def _publish_generator(
    name: str, state: dict, described: dict, folder: Path, codes: int, samples: int
) -> list[Path]:
    config = GeneratorConfig.from_dict(state["config"]["generator"])
    described["images"] = state["progress"][1]
    G = Generator(config)
    # What is measured below must belong to the weights as shipped, so they are rounded first.
    G.load_state_dict({k: v.half().float() for k, v in state["G_ema"].items()})
    G = G.requires_grad_(False).eval()
    statistics = measure_statistics(G, codes)
    G.w_avg.copy_(statistics.w_mean)
    described["fingerprint"] = fingerprint(G)
    metadata = {"config": config.to_dict()}
    players = {f"{p}.{k}": v for p in "GD" for k, v in state[p].items()}
    tensors, numbers = statistics.to_tensors()
    publish = {"folder": folder, "provenance": described}
    files = [
        weights.publish(f"{name}.generator.safetensors", G.state_dict(), metadata, **publish),
        weights.publish(f"{name}.training.safetensors", players, metadata, **publish),
        weights.publish(f"{name}.statistics.safetensors", tensors, numbers, half=False, **publish),
    ]
    reader = load_attributes()
    if config.resolution == reader.resolution:
        found = find_directions(G, lambda x: read_factors(reader, x), list(NAMES), n=samples)
        file, names = f"{name}.directions.safetensors", {"names": list(found)}
        files.append(weights.publish(file, directions_to_tensors(found), names, **publish))
    return files


def _describe(out: Path, kind: str, seed: int, facts: dict[str, Any]) -> None:
    """Writes ``run.json``, the provenance that goes into the manifest."""
    out.mkdir(parents=True, exist_ok=True)
    if (out / "run.json").exists():
        return
    command = " ".join(["latentlab", *sys.argv[1:]])
    described = {"kind": kind, "command": command, "seed": seed, "hardware": _hardware()} | facts
    (out / "run.json").write_text(json.dumps(described, indent=1) + "\n")


def _hardware() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{os.cpu_count()} cores {_processor()}, torch {torch.__version__}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _seeded(seed: int, build) -> nn.Module:
    """Builds a network from torch's default initialisation without touching the global random state."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        return build()
