"""Publishing: what the result of each training becomes among the shipped weights."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from latentlab import weights
from latentlab.editing.regression import find_directions
from latentlab.editing.shipped import directions_to_tensors
from latentlab.encoders.shipped import PAIR
from latentlab.faces import NAMES, render, training_factors, training_states
from latentlab.judges import attributes as judge_attributes
from latentlab.judges import perceptual as judge_perceptual
from latentlab.losses import attributes
from latentlab.losses.attributes import load_attributes
from latentlab.metrics import verification
from latentlab.networks.attributes import read_factors
from latentlab.networks.identity import IdentityDistance
from latentlab.networks.perceptual import PerceptualDistance
from latentlab.spaces import fingerprint, measure_statistics, statistics_for
from latentlab.training.contrastive import measure_retrieval
from latentlab.weights.generators import load

HELD_OUT = 1_000  # people that an identity network is measured on, and pairs that a contrastive pair is


@dataclass(frozen=True)
class Run:
    """A finished training with what its publisher needs.

    network: as it is shipped, rounded to half precision, so that what is measured belongs to those weights.
    state: the whole checkpoint. described: the provenance, which may be added to.
    codes, samples: how many to measure the statistics and the directions of a generator with.
    """

    name: str
    network: nn.Module
    state: dict[str, Any]
    described: dict[str, Any]
    folder: Path
    codes: int
    samples: int

    def write(self, file: str, tensors: dict[str, Tensor], metadata: dict[str, Any], *, half: bool = True) -> Path:
        """Adds a file to the shipped weights."""
        return weights.publish(file, tensors, metadata, self.described, half=half, folder=self.folder)


def discriminator_file(name: str) -> str:
    return f"{name}.discriminator.safetensors"


def publish_generator(run: Run) -> list[Path]:
    G, described = run.network, run.described
    described["images"] = run.state["progress"][1]
    own_codes = run.state["config"].get("learn_mapping", True)
    statistics = measure_statistics(G, run.codes) if own_codes else statistics_for(G)
    G.w_avg.copy_(statistics.w_mean)
    described["fingerprint"] = fingerprint(G)
    metadata = {"config": G.config.to_dict()}
    files = [run.write(f"{run.name}.generator.safetensors", G.state_dict(), metadata)]
    if not own_codes:
        return files
    files.append(run.write(discriminator_file(run.name), run.state["D"], metadata))
    tensors, numbers = statistics.to_tensors()
    files.append(run.write(f"{run.name}.statistics.safetensors", tensors, numbers, half=False))
    reader = load_attributes()
    if G.resolution == reader.resolution:
        found = find_directions(G, lambda x: read_factors(reader, x), list(NAMES), n=run.samples)
        tensors, names = directions_to_tensors(found), {"names": list(found)}
        files.append(run.write(f"{run.name}.directions.safetensors", tensors, names))
    return files


def publish_encoder(run: Run) -> list[Path]:
    config, described = run.state["config"], run.described
    described["images"] = run.state["progress"][1]
    described["fingerprint"] = config["generator"]
    metadata = {"encoder": config["encoder"], "config": run.network.config.to_dict()}
    metadata |= {"refinements": config.get("refinements", 1), "fingerprint": config["generator"]}
    return [run.write(f"{run.name}.{config['encoder']}.safetensors", run.network.state_dict(), metadata)]


def publish_contrastive(run: Run) -> list[Path]:
    G, described = load(run.described["generator"]), run.described
    described["images"], described["fingerprint"] = run.state["progress"][1], fingerprint(G, "generator")
    described["held_out"] = {"pairs": HELD_OUT} | measure_retrieval(run.network, G, HELD_OUT)._asdict()
    metadata = {PAIR: "CLCAE", "config": run.network.config.to_dict(), "fingerprint": described["fingerprint"]}
    return [run.write(f"{run.name}.{PAIR}.safetensors", run.network.state_dict(), metadata)]


def publish_refiner(run: Run, kind: str) -> list[Path]:
    """HFGI's networks, or those of the two branches, by their name as a method."""
    config, described = run.state["config"], run.described
    described["images"] = run.state["progress"][1]
    described["fingerprint"] = config["generator"]
    metadata = {"refiner": kind, "config": run.network.config.to_dict(), "fingerprint": config["generator"]}
    metadata |= {"encoder": config["encoder"], "encoder_fingerprint": config.get("encoder_fingerprint")}
    return [run.write(f"{run.name}.{kind}_{config['encoder']}.safetensors", run.network.state_dict(), metadata)]


def _perceptual(run: Run) -> PerceptualDistance:
    """The distance of the network's features, calibrated on faces that its training has not reached."""
    distance = PerceptualDistance(run.network)
    distance.calibrate(render(training_factors(512, run.described["seed"], start=10**7)))
    return distance


def publish_attributes(run: Run) -> list[Path]:
    return [run.write(attributes.FILE, _perceptual(run).state_dict(), {"config": run.network.config})]


def publish_judge(run: Run) -> list[Path]:
    scales = {"scales": _perceptual(run).scales}
    return [
        run.write(judge_attributes.FILE, run.network.state_dict(), {"config": run.network.config}),
        run.write(judge_perceptual.FILE, scales, {}, half=False),
    ]


def publish_identity(run: Run, file: str) -> list[Path]:
    distance = IdentityDistance(run.network)
    run.described["held_out"] = _verify(distance, run.described["seed"])
    return [run.write(file, distance.state_dict(), {})]


@torch.no_grad()
def _verify(distance: nn.Module, seed: int) -> dict[str, float]:
    """Verification among people that were not learned, each seen in two states and scenes."""
    who = training_factors(HELD_OUT, seed, start=10**7)
    views = [render(training_states(who, seed, start)).split(250) for start in (2 * 10**7, 3 * 10**7)]
    a, b = (torch.cat([distance.features(part) for part in view]) for view in views)
    pairs, same = 1 - a @ b.T, torch.eye(HELD_OUT, dtype=torch.bool)
    auc, eer = verification(pairs[same], pairs[~same])
    return {"people": HELD_OUT, "auc": auc, "equal_error_rate": eer}


def publish_edits(out: Path, name: str, folder: Path, described: dict[str, Any]) -> list[Path]:
    tensors, metadata = weights.read_tensors(out / "edits.safetensors")
    described["chosen"] = {}
    for factor in metadata["edits"]:
        rows = [trial for trial in json.loads((out / "trials.json").read_text()) if trial["factor"] == factor]
        best = min(rows, key=lambda trial: (bool(trial["refused"]), trial["error"]))
        described["chosen"][factor] = {"way": best["way"], "error": round(best["error"], 3)}
    return [weights.publish(f"{name}.edits.safetensors", tensors, metadata, described, folder=folder)]
