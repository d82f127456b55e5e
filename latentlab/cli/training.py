"""Commands that make weights: ``train``, ``publish``, ``weights``."""

import argparse
from pathlib import Path

from latentlab.cli.arguments import loss_weights

CLCAE_CONFIGURATIONS = ("full", "no_alignment", "multi_token", "no_w_plus_block", "no_f_block")


def add_train(commands: argparse._SubParsersAction) -> None:
    train = commands.add_parser("train", help="train a generator or one of the networks of losses and judges")
    what = train.add_subparsers(dest="what", required=True, metavar="what")
    for name, run, help_, images in (
        ("generator", _run_train_generator, "StyleGAN2 on the face world", 1_000_000),
        ("psp", _run_train_encoder, "the encoder of pSp, configuration A of e4e", 150_000),
        ("e4e", _run_train_encoder, "the encoder of e4e in one of its configurations", 150_000),
        ("restyle", _run_train_encoder, "pSp's encoder as ReStyle trains it, to refine its own codes", 50_000),
        ("w_encoder", _run_train_encoder, "an encoder into W", 150_000),
        ("lsap_e", _run_train_encoder, "e4e's encoder with SNCD in place of the latent discriminator", 150_000),
        ("style_transformer", _run_train_encoder, "cross-attention in the manner of StyleTransformer", 30_000),
        ("clcae", _run_train_encoder, "CLCAE's encoder or one of its ablations", 30_000),
        ("feature_style", _run_train_encoder, "an encoder into F space in the manner of FeatureStyle", 30_000),
        ("contrastive", _run_train_contrastive, "CLCAE's contrastive pair, on pictures of a generator", 100_000),
        ("hfgi", _run_train_hfgi, "HFGI's networks, which refine the codes of a shipped encoder", 50_000),
        ("two_branch", _run_train_two_branch, "sparse directions and content features on a shipped encoder", 50_000),
        ("attributes", _run_train_network, "the losses' attribute network, also the trunk of their distance", 300_000),
        ("judge", _run_train_network, "the attribute judge, also the trunk of the perceptual judge", 300_000),
        ("identity", _run_train_network, "the losses' identity embedding", 100_000),
        ("identity-judge", _run_train_network, "the identity judge", 100_000),
    ):
        parser = what.add_parser(name, help=help_)
        if run is _run_train_generator:
            _add_of_generator(parser)
        elif run is not _run_train_network:
            parser.add_argument("--generator", default="faces-64", help="shipped one that it is for (%(default)s)")
        if run is _run_train_encoder:
            _add_of_encoder(parser)
        if name in _OWN:
            _OWN[name](parser)
        _add_of_run(parser, images)
        parser.set_defaults(run=run)
    _add_of_edits(what.add_parser("edits", help="the shipped edits of a generator, found in several ways and chosen"))


def _add_of_generator(parser: argparse.ArgumentParser) -> None:
    presets = "faces-64, faces-64-sketch, or tiny-16 for a quick trial (%(default)s)"
    parser.add_argument("--preset", default="faces-64", help=presets)
    parser.add_argument("--start-from", help="shipped generator to fine-tune, with its discriminator")
    layers = (
        "layers of the mapping network (the presets': 2); with --start-from, another number than there "
        "replaces the mapping by a new one and keeps synthesis and discriminator"
    )
    parser.add_argument("--mapping-layers", type=int, metavar="N", help=layers)
    path_length = "weight of path-length regularization (faces-64: 2, as in the paper; other presets: 0, without)"
    parser.add_argument("--path-length", type=float, metavar="W", help=path_length)
    relative = "learning rate of the mapping network relative to the rest (1)"
    parser.add_argument("--mapping-lr", type=float, metavar="X", help=relative)


def _add_of_encoder(parser: argparse.ArgumentParser) -> None:
    _add_data_and_losses(parser)
    parser.add_argument("--start-from", type=Path, metavar="RUN", help="run whose encoder is trained further")
    parser.add_argument("--batch", type=int, default=8, help="images of a step, on all devices (%(default)s)")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="of Ranger (%(default)s)")
    pair = "contrastive pair for the loss alignment, a file of `latentlab publish` (default: the shipped one)"
    parser.add_argument("--pair", type=Path, metavar="FILE", help=pair)


def _add_data_and_losses(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="of pictures (default: rendered faces)")
    another = "another weight; may be repeated"
    parser.add_argument("--loss", action="append", default=[], metavar="NAME=WEIGHT", help=another)


def _add_of_e4e(parser: argparse.ArgumentParser) -> None:
    rows = "A (pSp), B (delta regularization), C (latent discriminator) or D (both; %(default)s)"
    parser.add_argument("--config", default="D", choices=tuple("ABCD"), help=rows)


def _add_of_clcae(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", default="full", choices=CLCAE_CONFIGURATIONS, help="(%(default)s)")


def _add_of_pair(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch", type=int, default=64, help="pairs of a step, on all devices (%(default)s)")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="of Adam (%(default)s)")


def _add_of_hfgi(parser: argparse.ArgumentParser) -> None:
    whose = "whose codes are refined (%(default)s)"
    parser.add_argument("--encoder", default="e4e", choices=("e4e", "lsap_e"), help=whose)


def _add_of_two_branch(parser: argparse.ArgumentParser) -> None:
    whose = "whose codes are edited and refined (%(default)s)"
    parser.add_argument("--encoder", default="e4e", choices=("e4e", "psp"), help=whose)
    _add_data_and_losses(parser)
    parser.add_argument("--attribute", action="append", default=[], help="to edit; may be repeated")
    fused = "largest resolution at which content is fused (%(default)s)"
    parser.add_argument("--fused", type=int, default=16, metavar="PX", help=fused)
    parser.add_argument("--relevance", default="cosine", choices=("cosine", "attention"), help="(%(default)s)")


_OWN = {  # options of single trainings
    "e4e": _add_of_e4e,
    "clcae": _add_of_clcae,
    "contrastive": _add_of_pair,
    "hfgi": _add_of_hfgi,
    "two_branch": _add_of_two_branch,
}


def _add_of_run(parser: argparse.ArgumentParser, images: int) -> None:
    parser.add_argument("--images", type=int, default=images, help="number of training images (%(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoint in --out, bit for bit")
    parser.add_argument("--seed", type=int, default=None, help="random seed (default: the recipe's)")
    parser.add_argument("--accelerator", default="auto", help="of Lightning Fabric: auto, cpu or gpu (%(default)s)")
    parser.add_argument("--devices", type=int, default=1, help="number of devices, one process each (%(default)s)")
    auto = "auto: bf16-mixed where GPU or CPU have units for bfloat16, else 32-true, three times faster there"
    parser.add_argument("--precision", default="auto", choices=("auto", "bf16-mixed", "32-true"), help=auto)


def _add_of_edits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--generator", default="faces-64", help="shipped generator (%(default)s)")
    parser.add_argument("--samples", type=int, default=6_000, help="of the generator, to find them from (%(default)s)")
    parser.add_argument("--faces", type=int, default=16, help="renders to choose them on (%(default)s)")
    parser.add_argument("--factors", nargs="+", metavar="FACTOR", help="only these (default: all)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; what is there is not found again")
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
        fused=options.fused, relevance=options.relevance, **settings,
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
    publish = commands.add_parser("publish", help="add the result of a training run to the shipped weights")
    publish.add_argument("run_folder", type=Path, metavar="run", help="folder of the run, --out of `latentlab train`")
    publish.add_argument("--name", required=True, help="name of the weights, e.g. faces-64; existing ones are replaced")
    publish.add_argument("--folder", type=Path, default=None, help="folder of the weights (default: latentlab/weights)")
    publish.set_defaults(run=_run_publish)


def _run_publish(options: argparse.Namespace) -> None:
    from latentlab.training.recipes import publish_run

    for path in publish_run(options.run_folder, options.name, options.folder):
        print(path)


def add_weights(commands: argparse._SubParsersAction) -> None:
    weights = commands.add_parser("weights", help="print how the shipped weights were made")
    weights.add_argument("--page", type=Path, metavar="FILE", help="write the table into docs/weights.md instead")
    weights.set_defaults(run=_run_weights)


def _run_weights(options: argparse.Namespace) -> None:
    from latentlab.evaluation.benchmark_page import describe_weights, write_section
    from latentlab.weights import read_manifest

    table = describe_weights(read_manifest())
    if options.page:
        write_section(options.page, "weights", table)
        table = f"written to {options.page}"
    print(table)
