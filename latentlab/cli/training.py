"""Commands that make weights: ``train``, ``publish``, ``weights``."""

import argparse
from pathlib import Path

from latentlab.cli.arguments import add_command, loss_weights

CLCAE_CONFIGURATIONS = ("full", "no_alignment", "multi_token", "no_w_plus_block", "no_f_block")


def add_train(commands: argparse._SubParsersAction) -> None:
    example = "latentlab train generator --preset tiny-16 --images 2000 --out out/tiny"
    train = add_command(commands, "train", "Train a generator, an encoder or another network.", example=example)
    train.description += (
        " Times are for the default number of images on one core of a 2.5 GHz CPU; a GPU is used where there is one."
    )
    what = train.add_subparsers(dest="what", required=True, metavar="what")
    for name, run, says, images in (
        ("generator", _run_train_generator, "StyleGAN2 on rendered faces; 25 h.", 1_000_000),
        ("psp", _run_train_encoder, "Encoder of pSp, into W+; 2 h.", 150_000),
        ("e4e", _run_train_encoder, "Encoder of e4e, into W+ and near W; 2 h.", 150_000),
        ("restyle", _run_train_encoder, "Encoder of ReStyle on pSp, in three passes; 3 h.", 50_000),
        ("w_encoder", _run_train_encoder, "Encoder into W, one code for all layers; 2 h.", 150_000),
        ("lsap_e", _run_train_encoder, "Encoder of LSAP: e4e with the loss SNCD; 2.5 h.", 150_000),
        ("style_transformer", _run_train_encoder, "Encoder into W+ by cross-attention; 20 min.", 30_000),
        ("clcae", _run_train_encoder, "Encoder of CLCAE, into W+ and feature maps; 1 h.", 30_000),
        ("feature_style", _run_train_encoder, "Encoder of FeatureStyle, into feature maps; 45 min.", 30_000),
        ("contrastive", _run_train_contrastive, "Contrastive pair that `clcae` needs; 25 min.", 100_000),
        ("hfgi", _run_train_hfgi, "Networks of HFGI, which refine e4e; 45 min.", 50_000),
        ("two_branch", _run_train_two_branch, "Sparse directions and a content branch; 1 h.", 50_000),
        ("attributes", _run_train_network, "Attribute network that methods are trained with; 1 h.", 300_000),
        ("judge", _run_train_network, "Attribute network that methods are graded by; 1 h.", 300_000),
        ("identity", _run_train_network, "Identity network that methods train with; 20 min.", 100_000),
        ("identity-judge", _run_train_network, "Identity network that methods are graded by; 20 min.", 100_000),
    ):
        parser = add_command(what, name, says)
        if run is _run_train_generator:
            _add_of_generator(parser)
        elif run is not _run_train_network:
            _add_source(parser, "Generator that the network is for: a shipped one, or a file")
        if run is _run_train_encoder:
            _add_of_encoder(parser)
        if name in _OWN:
            _OWN[name](parser)
        _add_of_run(parser, images)
        parser.set_defaults(run=run)
    _add_of_edits(add_command(what, "edits", "Edits of a generator, found in several ways; 1 h."))


def _add_source(parser: argparse.ArgumentParser, says: str) -> None:
    parser.add_argument("--generator", default="faces-64", metavar="SOURCE", help=f"{says} (default: %(default)s).")


def _add_of_generator(parser: argparse.ArgumentParser) -> None:
    preset = "Preset of the settings: faces-64, faces-64-sketch, or tiny-16 for a trial (default: %(default)s)."
    parser.add_argument("--preset", default="faces-64", metavar="NAME", help=preset)
    start = "Shipped generator whose training is continued, with its discriminator (default: none, random weights)."
    parser.add_argument("--start-from", metavar="NAME", help=start)
    layers = (
        "Number of layers of the mapping network, at least 1 (default: the preset's, 2). With --start-from, another "
        "number than that generator's replaces its mapping network by a new one."
    )
    parser.add_argument("--mapping-layers", type=int, metavar="N", help=layers)
    path_length = "Weight of path-length regularization, 0 for none (default: the preset's; faces-64: 2, others: 0)."
    parser.add_argument("--path-length", type=float, metavar="X", help=path_length)
    relative = "Learning rate of the mapping network relative to that of the rest, above 0 (default: the preset's, 1)."
    parser.add_argument("--mapping-lr", type=float, metavar="X", help=relative)


def _add_of_encoder(parser: argparse.ArgumentParser) -> None:
    _add_data_and_losses(parser)
    start = "Folder of a training run whose encoder is trained further (default: none, a new encoder)."
    parser.add_argument("--start-from", type=Path, metavar="RUN", help=start)
    _add_rates(parser, 8, 2e-3, "images", "Ranger")
    pair = (
        "Contrastive pair for the loss called alignment: a file that `latentlab publish` wrote (default: the shipped "
        "one, if that loss has a weight)."
    )
    parser.add_argument("--pair", type=Path, metavar="FILE", help=pair)


def _add_data_and_losses(parser: argparse.ArgumentParser) -> None:
    data = "Folder of pictures to train on (default: none; rendered faces)."
    parser.add_argument("--data", type=Path, metavar="FOLDER", help=data)
    weight = "Weight of a loss, e.g. perceptual=0.8; can be repeated (default: the paper's weights)."
    parser.add_argument("--loss", action="append", default=[], metavar="NAME=WEIGHT", help=weight)


def _add_rates(parser: argparse.ArgumentParser, batch: int, rate: float, what: str, optimizer: str) -> None:
    size = f"Number of {what} of a step, on all devices together (default: %(default)s)."
    parser.add_argument("--batch", type=int, default=batch, metavar="N", help=size)
    speed = f"Learning rate of the optimizer, {optimizer} (default: %(default)s)."
    parser.add_argument("--learning-rate", type=float, default=rate, metavar="X", help=speed)


def _add_of_e4e(parser: argparse.ArgumentParser) -> None:
    rows = (
        "Configuration of e4e's ablation: A is pSp, B adds delta regularization, C a latent discriminator, D both "
        "(default: %(default)s)."
    )
    parser.add_argument("--config", default="D", choices=tuple("ABCD"), help=rows)


def _add_of_clcae(parser: argparse.ArgumentParser) -> None:
    rows = f"Configuration of CLCAE's ablation: {', '.join(CLCAE_CONFIGURATIONS)} (default: %(default)s)."
    parser.add_argument("--config", default="full", choices=CLCAE_CONFIGURATIONS, metavar="NAME", help=rows)


def _add_of_pair(parser: argparse.ArgumentParser) -> None:
    _add_rates(parser, 64, 1e-3, "pairs of a picture and its code", "Adam")


def _add_of_hfgi(parser: argparse.ArgumentParser) -> None:
    encoder = "Shipped encoder whose codes are refined (default: %(default)s)."
    parser.add_argument("--encoder", default="e4e", choices=("e4e", "lsap_e"), help=encoder)


def _add_of_two_branch(parser: argparse.ArgumentParser) -> None:
    encoder = "Shipped encoder whose codes are edited and refined (default: %(default)s)."
    parser.add_argument("--encoder", default="e4e", choices=("e4e", "psp"), help=encoder)
    _add_data_and_losses(parser)
    attribute = "Attribute to learn an edit of, e.g. smile; can be repeated (default: the recipe's)."
    parser.add_argument("--attribute", action="append", default=[], metavar="NAME", help=attribute)
    fused = "Largest resolution of the feature maps that content is added to, in pixels, or 0 (default: %(default)s)."
    parser.add_argument("--fused", type=int, default=16, metavar="PX", help=fused)
    relevance = (
        "How the places that an edit concerns are found: by the cosine of the features before and after, or by "
        "attention (default: %(default)s)."
    )
    parser.add_argument("--relevance", default="cosine", choices=("cosine", "attention"), help=relevance)
    sparsity = (
        "How the loss called sparsity acts: by proximal steps, which give exact zeros, or by its subgradient, which "
        "only gives small numbers; its weight has another unit in each (default: %(default)s)."
    )
    parser.add_argument("--sparsity", default="proximal", choices=("proximal", "subgradient"), help=sparsity)


_OWN = {  # options of single trainings
    "e4e": _add_of_e4e,
    "clcae": _add_of_clcae,
    "contrastive": _add_of_pair,
    "hfgi": _add_of_hfgi,
    "two_branch": _add_of_two_branch,
}


def _add_of_run(parser: argparse.ArgumentParser, images: int) -> None:
    number = "Number of training images, at least 1 (default: %(default)s)."
    parser.add_argument("--images", type=int, default=images, metavar="N", help=number)
    out = "Folder of the run, for its checkpoint, log and provenance."
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help=out)
    resume = "Continue from the checkpoint in --out, bit for bit."
    parser.add_argument("--resume", action="store_true", help=resume)
    parser.add_argument("--seed", type=int, default=None, metavar="N", help="Random seed (default: the recipe's).")
    accelerator = "Accelerator of Lightning Fabric: auto, cpu or gpu (default: %(default)s)."
    parser.add_argument("--accelerator", default="auto", metavar="NAME", help=accelerator)
    devices = "Number of devices, with one process each (default: %(default)s)."
    parser.add_argument("--devices", type=int, default=1, metavar="N", help=devices)
    auto = (
        "Precision of the training: bf16-mixed, 32-true, or auto, which is bf16-mixed where the hardware computes "
        "bfloat16 and else 32-true, three times as fast there (default: %(default)s)."
    )
    parser.add_argument("--precision", default="auto", choices=("auto", "bf16-mixed", "32-true"), help=auto)


def _add_of_edits(parser: argparse.ArgumentParser) -> None:
    _add_source(parser, "Shipped generator to find edits for")
    samples = "Number of samples of the generator to find edits from (default: %(default)s)."
    parser.add_argument("--samples", type=int, default=6_000, metavar="N", help=samples)
    faces = "Number of rendered faces to choose among the edits on (default: %(default)s)."
    parser.add_argument("--faces", type=int, default=16, metavar="N", help=faces)
    parser.add_argument("--factors", nargs="+", metavar="FACTOR", help="Factors to find edits of (default: all).")
    out = "Folder of the run; edits that are there already are not found again."
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help=out)
    parser.set_defaults(run=_run_train_edits)


def _run_train_edits(options: argparse.Namespace) -> None:
    from latentlab.faces import NAMES
    from latentlab.training.recipes import train_edits

    wanted = options.factors or NAMES
    train_edits(options.generator, options.out, factors=wanted, samples=options.samples, faces=options.faces)
    _say_done(options)


def _fabric(options: argparse.Namespace):
    import logging

    from lightning_fabric import Fabric

    from latentlab.training.precision import choose_precision

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    if options.images < 1:
        raise ValueError(f"--images: expected at least 1, got {options.images}")
    precision = choose_precision(options.accelerator) if options.precision == "auto" else options.precision
    try:
        fabric = Fabric(accelerator=options.accelerator, devices=options.devices, precision=precision)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"--accelerator {options.accelerator}: {error}") from error
    fabric.launch()
    return fabric


def _run_train_generator(options: argparse.Namespace) -> None:
    from latentlab.training.recipes import train_faces

    train_faces(
        options.preset, options.out, images=options.images, fabric=_fabric(options), resume=options.resume,
        seed=options.seed, start_from=options.start_from, mapping_layers=options.mapping_layers,
        path_length_weight=options.path_length, mapping_learning_rate=options.mapping_lr,
    )  # fmt: skip
    _say_done(options)


def _run_train_encoder(options: argparse.Namespace) -> None:
    from latentlab.training.recipes import train_encoder

    name = {"psp": "A"}.get(options.what, getattr(options, "config", options.what))
    settings = {"batch_size": options.batch, "learning_rate": options.learning_rate}
    if options.seed is not None:
        settings["seed"] = options.seed
    train_encoder(
        name, options.out, images=options.images, fabric=_fabric(options), resume=options.resume,
        generator=options.generator, data=options.data, pair=options.pair, start_from=options.start_from,
        weights=loss_weights(options.loss), **settings,
    )  # fmt: skip
    _say_done(options)


def _run_train_contrastive(options: argparse.Namespace) -> None:
    from latentlab.training.recipes import train_contrastive

    settings = {"batch_size": options.batch, "learning_rate": options.learning_rate}
    if options.seed is not None:
        settings["seed"] = options.seed
    train_contrastive(
        options.out, images=options.images, fabric=_fabric(options), resume=options.resume, generator=options.generator,
        **settings,
    )  # fmt: skip
    _say_done(options)


def _run_train_hfgi(options: argparse.Namespace) -> None:
    from latentlab.training.recipes import train_hfgi

    settings = {} if options.seed is None else {"seed": options.seed}
    train_hfgi(
        options.encoder, options.out, images=options.images, fabric=_fabric(options), resume=options.resume,
        generator=options.generator, **settings,
    )  # fmt: skip
    _say_done(options)


def _run_train_two_branch(options: argparse.Namespace) -> None:
    from latentlab.training.recipes import train_two_branch

    settings = {} if options.seed is None else {"seed": options.seed}
    settings |= {"attributes": tuple(options.attribute)} if options.attribute else {}
    train_two_branch(
        options.encoder, options.out, images=options.images, fabric=_fabric(options), resume=options.resume,
        generator=options.generator, data=options.data, weights=loss_weights(options.loss),
        fused=options.fused, relevance=options.relevance, sparsity=options.sparsity, **settings,
    )  # fmt: skip
    _say_done(options)


def _run_train_network(options: argparse.Namespace) -> None:
    from latentlab.training.recipes import train_network

    train_network(
        options.what,
        options.out,
        images=options.images,
        fabric=_fabric(options),
        resume=options.resume,
        seed=options.seed,
    )


def _say_done(options: argparse.Namespace) -> None:
    print(f"written to {options.out}/; add it to the weights with: latentlab publish {options.out} --name NAME")


def add_publish(commands: argparse._SubParsersAction) -> None:
    says = "Add the result of a training run to the shipped weights."
    publish = add_command(commands, "publish", says, example="latentlab publish runs/e4e --name faces-64")
    publish.add_argument("run_folder", type=Path, metavar="run", help="Folder of the run, --out of `latentlab train`.")
    name = "Name of the weights, e.g. faces-64; files of that name are replaced."
    publish.add_argument("--name", required=True, help=name)
    folder = "Folder of the weights (default: latentlab/weights in this checkout)."
    publish.add_argument("--folder", type=Path, default=None, metavar="FOLDER", help=folder)
    publish.set_defaults(run=_run_publish)


def _run_publish(options: argparse.Namespace) -> None:
    from latentlab.training.recipes import publish_run

    for path in publish_run(options.run_folder, options.name, options.folder):
        print(path)


def add_weights(commands: argparse._SubParsersAction) -> None:
    weights = add_command(commands, "weights", "Print how the shipped weights were made.")
    page = "Page whose table is replaced, e.g. docs/weights.md, instead of printing (default: none)."
    weights.add_argument("--page", type=Path, metavar="FILE", help=page)
    weights.set_defaults(run=_run_weights)


def _run_weights(options: argparse.Namespace) -> None:
    from latentlab.evaluation.benchmark_page import describe_weights, write_section
    from latentlab.weights import read_manifest

    table = describe_weights(read_manifest())
    if options.page:
        write_section(options.page, "weights", table)
        table = f"written to {options.page}"
    print(table)
