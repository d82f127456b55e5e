"""Recipes: how everything that is shipped was built, trained and published."""

import datetime
import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from latentlab import weights
from latentlab.checkpoints import load_checkpoint
from latentlab.editing.shipped import edits_to_tensors
from latentlab.editing.ways import Evidence
from latentlab.encoders.contrastive import ContrastiveConfig, ContrastivePair
from latentlab.encoders.kinds import build_encoder, config_from
from latentlab.encoders.shipped import encoder_for, load_pair, pair_for
from latentlab.faces import BINARY_NAMES, MAIN_NAMES, NAMES, render, sketch, training_factors
from latentlab.inversion.refiners import BUILD
from latentlab.inversion_methods import invert
from latentlab.judges import attributes as judge_attributes
from latentlab.judges import identity as judge_identity
from latentlab.losses import attributes, identity
from latentlab.networks.attributes import AttributeNetwork, ResidualAttributeNetwork
from latentlab.networks.identity import DIMENSIONS
from latentlab.spaces import fingerprint
from latentlab.stylegan.generator import Generator, GeneratorConfig
from latentlab.stylegan.ops import compute_dtype
from latentlab.training.contrastive import ContrastiveTraining, configure_contrastive, training_pairs
from latentlab.training.edits import CANDIDATES as EDIT_WAYS
from latentlab.training.edits import QUICK as QUICK_WAYS
from latentlab.training.edits import choose_edits, training_faces
from latentlab.training.encoders import EncoderTraining, EncoderTrainingConfig, configure, training_pictures
from latentlab.training.feature_space import CONFIGURATIONS as FEATURE_CONFIGURATIONS
from latentlab.training.feature_space import FeatureTraining, FeatureTrainingConfig, configure_features
from latentlab.training.generator import PRESETS, GeneratorTraining, TrainingConfig, replace_mapping, train_generator
from latentlab.training.hfgi import HfgiTraining, configure_hfgi
from latentlab.training.loop import train
from latentlab.training.pictures import PictureFolder
from latentlab.training.publishing import (
    Run,
    discriminator_file,
    publish_attributes,
    publish_contrastive,
    publish_edits,
    publish_encoder,
    publish_generator,
    publish_identity,
    publish_judge,
    publish_refiner,
)
from latentlab.training.readers import fit_factors, fit_identity
from latentlab.training.two_branch import LOSSES, TwoBranchTraining, configure_two_branch
from latentlab.weights.generators import load

LOOKS = {"faces-64-sketch": sketch}  # of the renders that a preset learns from, where it is not their own
PEOPLE = 2_048  # that an identity network learns to tell apart


# --- training --------------------------------------------------------------------------------------------


def train_faces(
    preset: str,
    out: Path,
    *,
    images: int,
    fabric,
    resume: bool = False,
    seed: int | None = None,
    start_from: str | None = None,
    mapping_layers: int | None = None,
    path_length_weight: float | None = None,
    mapping_learning_rate: float | None = None,
) -> GeneratorTraining:
    """Trains a preset's generator on an endless stream of rendered faces; see ``train_generator``.

    seed, mapping_layers, path_length_weight, mapping_learning_rate: instead of the preset's.
    start_from: a shipped generator to fine-tune, with its discriminator; a preset that keeps the mapping needs one.
        With another number of ``mapping_layers`` its mapping is replaced by a new one: see ``replace_mapping``.
    """
    if preset not in PRESETS:
        raise ValueError(f"unknown preset {preset!r}; known are: {', '.join(PRESETS)}")
    config = PRESETS[preset]
    shape = config.generator if mapping_layers is None else replace(config.generator, mapping_layers=mapping_layers)
    given = {"seed": seed, "path_length_weight": path_length_weight, "mapping_learning_rate": mapping_learning_rate}
    config = replace(config, generator=shape, **{name: value for name, value in given.items() if value is not None})
    if not config.learn_mapping and start_from is None:
        raise ValueError(f"{preset} keeps the mapping of the generator it starts from: name one, e.g. faces-64")
    look = LOOKS.get(preset, lambda images: images)

    def faces(start: int, n: int, device: torch.device) -> Tensor:
        return look(render(training_factors(n, config.seed, start).to(device), config.generator.resolution))

    initial = origin = None
    if start_from is not None and not resume:
        initial, origin = _players_of(start_from, config), weights.read_manifest()[discriminator_file(start_from)]
    facts = {"preset": preset, "start_from": origin, "config": asdict(config)}
    _describe(out, "generator", config.seed, facts, fabric)
    return train_generator(config, faces, out, images=images, fabric=fabric, resume=resume, initial=initial)


def _players_of(name: str, config: TrainingConfig) -> dict[str, Tensor]:
    """The players of a shipped generator, "G.*" and "D.*", in the shape that ``config`` trains.

    G is the moving average, the only one that is shipped.
    """
    D, metadata = weights.read_weights(discriminator_file(name))
    donor, wanted = GeneratorConfig.from_dict(metadata["config"]), config.generator
    if replace(donor, mapping_layers=wanted.mapping_layers) != wanted:
        raise ValueError(f"start_from: expected a generator of the preset's shape, {wanted}, got {name} with {donor}")
    G = load(name)
    if donor != wanted:
        if not config.learn_mapping:
            raise ValueError(f"mapping_layers: expected the {donor.mapping_layers} of {name}, whose mapping is kept, "
                             f"got {wanted.mapping_layers}")  # fmt: skip
        G = replace_mapping(G, wanted.mapping_layers, config.seed)
    states = {"G": G.state_dict(), "D": D}
    return {f"{player}.{k}": v for player, state in states.items() for k, v in state.items()}


def train_network(
    kind: str, out: Path, *, images: int, fabric, resume: bool = False, seed: int | None = None
) -> nn.Module:
    """Trains a network that reads faces: one of ``RECIPES`` other than the generator."""
    recipe = RECIPES[kind]
    seed = recipe.seed if seed is None else seed
    start = weights.read_manifest().get(recipe.starts_from)
    _describe(out, kind, seed, {"images": images, "start_from": start}, fabric)
    network = _seeded(seed, partial(recipe.build, {}))
    return recipe.train(network, out, images=images, seed=seed, fabric=fabric, resume=resume)


def train_encoder(
    name: str, out: Path, *, images: int, fabric, resume: bool = False, generator: str = "faces-64",
    data: Path | None = None, pair: Path | None = None, start_from: Path | None = None, **settings: Any,
) -> EncoderTraining | FeatureTraining:  # fmt: skip
    """Trains an encoder: a configuration of ``training.encoders.configure`` or of ``configure_features``.

    generator: a shipped one, or a file, that the codes are for. data: folder of pictures instead of rendered faces.
    pair: file of a contrastive pair, for the loss alignment; None: the shipped one. start_from: run of another
    training, whose encoder is trained further, all codes from the start. settings: fields of the configuration to set
    otherwise.
    """
    G = load(generator)
    into_f = name in FEATURE_CONFIGURATIONS
    settle, begin = (configure_features, FeatureTraining) if into_f else (configure, EncoderTraining)
    further = {"progressive": None} if start_from and not into_f else {}
    config, known = settle(name, G, images=images, **further, **settings), None
    if config.losses.get("alignment"):
        known = pair_for(G) if pair is None else load_pair(pair, G)
        config = replace(config, pair=fingerprint(known, "generator"))
    training = begin(config, G, fabric, known)
    if start_from is not None and not resume:
        training.E.load_state_dict(_encoder_of(start_from, config))
    r = G.resolution
    pictures = training_pictures(config, r) if data is None else PictureFolder(data, r, config.seed)
    facts = {"configuration": name, "generator": generator, "images": images, "config": asdict(config)}
    facts |= {} if data is None else {"data": str(data), "files": len(pictures.files)}
    facts |= {} if start_from is None else {"start_from": json.loads((start_from / "run.json").read_text())}
    _describe(out, "encoder", config.seed, facts, fabric)
    whole_batches = images // config.batch_size * config.batch_size
    train(training, pictures, out, images=whole_batches, resume=resume)
    return training


def train_contrastive(
    out: Path, *, images: int, fabric, resume: bool = False, generator: str = "faces-64", **settings: Any
) -> ContrastiveTraining:
    """Trains the contrastive pair of CLCAE on pictures of a generator and their codes.

    settings: fields of ``ContrastiveTrainingConfig`` to set otherwise.
    """
    G = load(generator)
    config = configure_contrastive(G, images=images, **settings)
    training = ContrastiveTraining(config, G, fabric)
    _describe(out, "contrastive", config.seed, {"generator": generator, "config": asdict(config)}, fabric)
    whole_batches = images // config.batch_size * config.batch_size
    train(training, training_pairs(config, G), out, images=whole_batches, resume=resume)
    return training


def train_hfgi(
    encoder: str, out: Path, *, images: int, fabric, resume: bool = False, generator: str = "faces-64",
    **settings: Any,
) -> HfgiTraining:  # fmt: skip
    """Trains HFGI's networks on rendered faces, with the codes of the named shipped encoder.

    settings: fields of ``HfgiTrainingConfig`` to set otherwise.
    """
    G = load(generator)
    network = encoder_for(G, encoder, device=fabric.device)
    known = {"images": images, "encoder_fingerprint": fingerprint(network, "generator")}
    config = configure_hfgi(G, encoder, **known, **settings)
    training = HfgiTraining(config, G, network, fabric)
    facts = {"encoder": encoder, "generator": generator, "images": images, "config": asdict(config)}
    _describe(out, "hfgi", config.seed, facts, fabric)
    whole_batches = images // config.batch_size * config.batch_size
    train(training, training_pictures(config, G.resolution), out, images=whole_batches, resume=resume)
    return training


def train_two_branch(
    encoder: str, out: Path, *, images: int, fabric, resume: bool = False, generator: str = "faces-64",
    data: Path | None = None, weights: dict[str, float] | None = None, **settings: Any,
) -> TwoBranchTraining:  # fmt: skip
    """Trains the two branches on rendered faces, or the pictures of a folder, with the named shipped encoder.

    weights: of losses by name, instead of the paper's. settings: see ``configure_two_branch``.
    """
    G = load(generator)
    network = encoder_for(G, encoder, device=fabric.device)
    losses = {"losses": LOSSES | (weights or {})}
    config = configure_two_branch(G, network, encoder, images=images, **losses, **settings)
    training = TwoBranchTraining(config, G, network, fabric)
    r = G.resolution
    pictures = training_pictures(config, r) if data is None else PictureFolder(data, r, config.seed)
    facts = {"encoder": encoder, "generator": generator, "images": images, "config": asdict(config)}
    _describe(out, "two_branch", config.seed, facts, fabric)
    whole_batches = images // config.batch_size * config.batch_size
    train(training, pictures, out, images=whole_batches, resume=resume)
    return training


def _encoder_of(run: Path, config: EncoderTrainingConfig | FeatureTrainingConfig) -> dict[str, Tensor]:
    """The encoder that a run of ``latentlab train`` has trained, for a training of the same shape and generator."""
    if not (run / "checkpoint.pt").is_file():
        raise FileNotFoundError(f"start_from: expected the folder of a run with a checkpoint.pt, got {run}")
    state = load_checkpoint(run / "checkpoint.pt")
    theirs = state.get("config", {})
    for name, wanted in (("generator", config.generator), ("shape", asdict(config.shape))):
        if theirs.get(name) != wanted:
            raise ValueError(f"start_from: expected a run whose {name} is {wanted}, got {theirs.get(name)} in {run}")
    return state["E"]


def _fit_people(network: nn.Module, out: Path, *, seed: int, **how: Any) -> nn.Module:
    return fit_identity(network, _seeded(seed, lambda: _margin_loss(network, seed)), out, seed=seed, **how)


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
    faces = render(training_factors(PEOPLE, seed)).split(128)
    with torch.no_grad():
        loss.W.copy_(torch.cat([network.train()(part) for part in faces]).T / 10)
    return loss


def train_edits(
    generator: str,
    out: Path,
    *,
    factors: Sequence[str] = NAMES,
    samples: int = 6_000,
    faces: int = 16,
    steps: int = 200,
    seed: int = 300,
) -> None:
    """Finds the edits of a generator that reads 64 px, see ``choose_edits``; what is in ``out`` is not found again.

    samples: of the generator, to find them from. faces: renders to choose them on, inverted by II2S with ``steps``.
    """
    G = load(generator)
    known = {"generator": generator, "samples": samples, "faces": faces, "steps": steps, "seed": seed}
    described = {"kind": "edits", "fingerprint": fingerprint(G, "generator")} | known
    if (out / "run.json").is_file():
        begun = json.loads((out / "run.json").read_text())
        if differing := [k for k, v in described.items() if begun.get(k) != v]:
            raise ValueError(f"{out}: expected a run of the same settings, got other {', '.join(differing)}; choose "
                             "another folder")  # fmt: skip
    else:
        out.mkdir(parents=True, exist_ok=True)
        command = " ".join(["latentlab", *sys.argv[1:]])
        about = described | {"command": command, "hardware": _hardware()}
        (out / "run.json").write_text(json.dumps(about, indent=1) + "\n")
    targets = training_faces(faces, seed, G.resolution)
    inversion = invert(targets.images, G, method="ii2s", steps=steps, seed=seed)
    evidence = Evidence(G, n=samples, seed=seed)
    main = [name for name in factors if name in MAIN_NAMES]
    edits, trials = choose_edits(evidence, inversion, targets, out, factors=main, ways=EDIT_WAYS)
    others = [name for name in factors if name not in MAIN_NAMES]
    more, tried = choose_edits(evidence, inversion, targets, out, factors=others, ways=QUICK_WAYS)
    edits, trials = {name: (edits | more)[name] for name in factors if name in edits | more}, trials + tried
    tensors, metadata = edits_to_tensors(edits, G)
    weights.write_tensors(out / "edits.safetensors", tensors, metadata)
    (out / "trials.json").write_text(json.dumps([asdict(trial) for trial in trials], indent=1) + "\n")


# --- publishing ------------------------------------------------------------------------------------------


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
    kind = described.pop("kind", None)
    if kind == "edits":
        described["date"] = datetime.date.today().isoformat()
        return publish_edits(run, name, folder or weights.FOLDER, described)
    if kind not in RECIPES:
        raise ValueError(f"{run / 'run.json'}: expected one of the kinds {', '.join(RECIPES)}, got {kind!r}")
    described["date"] = datetime.date.today().isoformat()
    recipe, state = RECIPES[kind], load_checkpoint(run / "checkpoint.pt")
    network = recipe.build(state.get("config", {}))
    network.load_state_dict({k: v.half().to(v.dtype) for k, v in state[recipe.trained].items()})
    network.requires_grad_(False).eval()
    return recipe.publish(Run(name, network, state, described, folder or weights.FOLDER, codes, samples))


# --- the table -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recipe:
    """How one kind of network is built, trained and published.

    build: the untrained network, from the settings in a checkpoint (the readers' have one shape only).
    train: what trains it, once built (a generator's training builds its own).
    publish: writes its weights, with what belongs to them.
    trained: its name in a checkpoint.
    seed: of the renders it sees; a judge shares none with what it judges.
    starts_from: the shipped file whose weights it begins with.
    """

    build: Callable[[dict[str, Any]], nn.Module]
    train: Callable[..., Any]
    publish: Callable[[Run], list[Path]]
    trained: str = "network"
    seed: int = 0
    starts_from: str | None = None


RECIPES = {
    "generator": Recipe(
        lambda config: Generator(GeneratorConfig.from_dict(config["generator"])),
        train_generator, publish_generator, trained="G_ema",
    ),
    "encoder": Recipe(
        lambda config: build_encoder(config["encoder"], config_from(config["encoder"], config["shape"])),
        train_encoder, publish_encoder, trained="E",
    ),
    "contrastive": Recipe(
        lambda config: ContrastivePair(ContrastiveConfig.from_dict(config["shape"])),
        train_contrastive, publish_contrastive, trained="pair",
    ),
    "hfgi": Recipe(
        lambda config: BUILD["hfgi"](config["shape"]), train_hfgi, partial(publish_refiner, kind="hfgi"),
        trained="network",
    ),
    "two_branch": Recipe(
        lambda config: BUILD["two_branch"](config["shape"]), train_two_branch,
        partial(publish_refiner, kind="two_branch"), trained="network",
    ),
    "attributes": Recipe(
        lambda _: AttributeNetwork(list(NAMES), binary=BINARY_NAMES), fit_factors, publish_attributes, seed=100
    ),
    "judge": Recipe(
        lambda _: ResidualAttributeNetwork(list(NAMES), binary=BINARY_NAMES), fit_factors, publish_judge, seed=1_000
    ),
    "identity": Recipe(
        lambda _: identity.build_identity(), _fit_people, partial(publish_identity, file=identity.FILE),
        seed=200, starts_from=attributes.FILE,
    ),
    "identity-judge": Recipe(
        lambda _: judge_identity.build_identity_judge(), _fit_people,
        partial(publish_identity, file=judge_identity.FILE), seed=2_000, starts_from=judge_attributes.FILE,
    ),
}  # fmt: skip


# --- provenance ------------------------------------------------------------------------------------------


def _describe(out: Path, kind: str, seed: int, facts: dict[str, Any], fabric) -> None:
    """Writes ``run.json``, the provenance that goes into the manifest; a resumed run keeps that of its start."""
    if (out / "checkpoint.pt").exists() or not fabric.is_global_zero:
        return
    out.mkdir(parents=True, exist_ok=True)
    command = " ".join(["latentlab", *sys.argv[1:]])
    with fabric.autocast():
        precision = str(compute_dtype(torch.empty(0, device=fabric.device))).removeprefix("torch.")
    described = {"kind": kind, "command": command, "seed": seed, "hardware": _hardware(), "precision": precision}
    (out / "run.json").write_text(json.dumps(described | facts, indent=1) + "\n")


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
