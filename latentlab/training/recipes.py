"""How everything that is shipped was made: the trainings on the face world, and publishing their results."""

import datetime
import json
import os
import platform
import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from latentlab import weights
from latentlab.checkpoints import load_checkpoint
from latentlab.editing.regression import find_directions
from latentlab.editing.shipped import directions_to_tensors
from latentlab.faces import BINARY_NAMES, NAMES, in_other_states, render, sample_factors, sketch
from latentlab.judges import attributes as judge_attributes
from latentlab.judges import identity as judge_identity
from latentlab.judges import perceptual as judge_perceptual
from latentlab.losses import attributes, identity
from latentlab.losses.attributes import load_attributes
from latentlab.metrics import verification
from latentlab.networks.attributes import AttributeNetwork, ResidualAttributeNetwork, read_factors
from latentlab.networks.identity import DIMENSIONS, IdentityDistance
from latentlab.networks.perceptual import PerceptualDistance
from latentlab.spaces import fingerprint, measure_statistics, statistics_for
from latentlab.stylegan.generator import Generator, GeneratorConfig
from latentlab.training.generator import PRESETS, GeneratorTraining, train_generator
from latentlab.training.readers import fit_factors, fit_identity
from latentlab.weights.generators import load

# How each network is built, and the seed of the renders it sees: a judge shares none with what it judges.
NETWORKS = {
    "attributes": (lambda: AttributeNetwork(list(NAMES), binary=BINARY_NAMES), 100),
    "judge": (lambda: ResidualAttributeNetwork(list(NAMES), binary=BINARY_NAMES), 1_000),
    "identity": (identity.build_identity, 200),
    "identity-judge": (judge_identity.build_identity_judge, 2_000),
}
LOOKS = {"faces-64-sketch": sketch}  # of the renders that a preset learns from, where it is not their own
PEOPLE, HELD_OUT = 2_048, 1_000  # that an identity network learns to tell apart, and is measured on


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
    """Trains a preset's generator on an endless stream of rendered faces; see ``train_generator``.

    start_from: a shipped generator to fine-tune, with its discriminator; a preset that keeps the mapping needs one.
    """
    if preset not in PRESETS:
        raise ValueError(f"unknown preset {preset!r}; known are: {', '.join(PRESETS)}")
    config = PRESETS[preset] if seed is None else replace(PRESETS[preset], seed=seed)
    if not config.learn_mapping and start_from is None:
        raise ValueError(f"{preset} keeps the mapping of the generator it starts from: name one, e.g. faces-64")
    look = LOOKS.get(preset, lambda images: images)

    def faces(start: int, n: int, device: torch.device) -> Tensor:
        factors = sample_factors(n, seed=config.seed, start=start).to(device)
        return look(render(factors, config.generator.resolution))

    initial = origin = None
    if start_from is not None:
        file = f"{start_from}.training.safetensors"
        initial, origin = weights.read_weights(file)[0], weights.read_manifest()[file]
        if not config.learn_mapping:  # then W must be that of the moving average, which is the one that is used
            initial |= {f"G.{k}": v for k, v in load(start_from).state_dict().items()}
    _describe(out, "generator", config.seed, {"preset": preset, "start_from": origin, "config": asdict(config)})
    initial = None if resume else initial
    return train_generator(config, faces, out, images=images, fabric=fabric, resume=resume, initial=initial)


def train_network(
    kind: str, out: Path, *, images: int, fabric, resume: bool = False, seed: int | None = None
) -> nn.Module:
    """Trains one of ``NETWORKS``: the attribute readers by regression, the identity embeddings by ArcFace."""
    build, usual = NETWORKS[kind]
    seed = usual if seed is None else seed
    start = {"identity": attributes.FILE, "identity-judge": judge_attributes.FILE}.get(kind)
    _describe(out, kind, seed, {"images": images, "start_from": weights.read_manifest().get(start)})
    how = {"images": images, "seed": seed, "fabric": fabric, "resume": resume}
    if not kind.startswith("identity"):
        return fit_factors(_seeded(seed, build), out, **how)
    network = _seeded(seed, build)
    return fit_identity(network, _seeded(seed, lambda: _margin_loss(network, seed)), out, **how)


def _margin_loss(network: nn.Module, seed: int) -> nn.Module:
    """ArcFace with a class for each of ``PEOPLE``, gentler than the paper's (scale 64, margin 28.6 degrees),
    since a person is seen some twenty times only.

    The centres of the classes start at a face of each person: from random ones most of the time would go
    into finding them.
    """
    try:
        from pytorch_metric_learning.losses import ArcFaceLoss
    except ImportError as error:
        raise ValueError("the margin loss needs a package more: pip install pytorch-metric-learning") from error
    loss = ArcFaceLoss(PEOPLE, DIMENSIONS, margin=20, scale=24)
    faces = render(sample_factors(PEOPLE, seed=seed)).split(128)
    with torch.no_grad():
        loss.W.copy_(torch.cat([network.train()(part) for part in faces]).T / 10)
    return loss


def publish_run(
    run: Path, name: str = "faces-64", folder: Path | None = None, *, codes: int = 1_000_000, samples: int = 20_000
) -> list[Path]:
    """Turns the checkpoint of a run into shipped weights with their provenance; returns the files.

    A generator comes with its players, to be fine-tuned; with the statistics of ``codes`` codes; and with directions
    from ``samples`` samples where its resolution is one that the losses' attribute network reads. One that kept the
    mapping of another comes alone: the other's statistics and directions are found for it.
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
    return _publish_network(kind, state, described, folder)


def _publish_network(kind: str, state: dict, described: dict, folder: Path) -> list[Path]:
    network = NETWORKS[kind][0]()
    # What is measured below must belong to the weights as shipped, so they are rounded first.
    network.load_state_dict({k: v.half().to(v.dtype) for k, v in state["network"].items()})
    network.requires_grad_(False).eval()
    publish = partial(weights.publish, provenance=described, folder=folder)
    if kind.startswith("identity"):
        distance = IdentityDistance(network)
        described["held_out"] = _verify(distance, described["seed"])
        file = identity.FILE if kind == "identity" else judge_identity.FILE
        return [publish(file, distance.state_dict(), {})]
    distance = PerceptualDistance(network)
    distance.calibrate(render(sample_factors(512, seed=described["seed"], start=10**7)))
    if kind == "attributes":
        return [publish(attributes.FILE, distance.state_dict(), {"config": network.config})]
    return [
        publish(judge_attributes.FILE, network.state_dict(), {"config": network.config}),
        publish(judge_perceptual.FILE, {"scales": distance.scales}, {}, half=False),
    ]


@torch.no_grad()
def _verify(distance: nn.Module, seed: int) -> dict[str, float]:
    """Verification among people that were not learned, each seen in two states and scenes."""
    who = sample_factors(HELD_OUT, seed=seed, start=10**7)
    views = [render(in_other_states(who, seed, start)).split(250) for start in (2 * 10**7, 3 * 10**7)]
    a, b = (torch.cat([distance.features(part) for part in view]) for view in views)
    pairs, same = 1 - a @ b.T, torch.eye(HELD_OUT, dtype=torch.bool)
    auc, eer = verification(pairs[same], pairs[~same])
    return {"people": HELD_OUT, "auc": auc, "equal_error_rate": eer}


def _publish_generator(name: str, state: dict, described: dict, folder: Path, codes: int, samples: int) -> list[Path]:
    config = GeneratorConfig.from_dict(state["config"]["generator"])
    described["images"] = state["progress"][1]
    G = Generator(config)
    # What is measured below must belong to the weights as shipped, so they are rounded first.
    G.load_state_dict({k: v.half().float() for k, v in state["G_ema"].items()})
    G = G.requires_grad_(False).eval()
    own_codes = state["config"]["learn_mapping"]
    statistics = measure_statistics(G, codes) if own_codes else statistics_for(G)
    G.w_avg.copy_(statistics.w_mean)
    described["fingerprint"] = fingerprint(G)
    metadata = {"config": config.to_dict()}
    players = {f"{p}.{k}": v for p in "GD" for k, v in state[p].items()}
    tensors, numbers = statistics.to_tensors()
    publish = {"folder": folder, "provenance": described}
    files = [weights.publish(f"{name}.generator.safetensors", G.state_dict(), metadata, **publish)]
    if not own_codes:
        return files
    files += [
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
