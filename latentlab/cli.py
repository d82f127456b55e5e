"""The command line: ``latentlab invert | edits | faces | demo | course | methods | train | claims | ..``."""

import argparse
import math
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import latentlab

CLCAE_CONFIGURATIONS = ("full", "no_alignment", "multi_token", "no_w_plus_block", "no_f_block")
HOURS = ("edits", "regularizers", "two_branch", "full-size")  # of `latentlab benchmark`, when asked for


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command. Errors in the input are printed as one line, without a traceback."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except (ValueError, OSError, MemoryError) as error:
        print(f"latentlab {options.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("latentlab", description="StyleGAN inversion and editing with measured results.")
    parser.add_argument("--version", action="version", version=f"latentlab {latentlab.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    _add_invert(commands)
    _add_edits(commands)
    _add_align(commands)
    _add_convert(commands)
    _add_demo(commands)
    _add_faces(commands)
    _add_train(commands)
    _add_publish(commands)
    methods = commands.add_parser("methods", help="list inversion methods, generators and factors")
    methods.set_defaults(run=_run_methods)
    _add_claims(commands)
    weights = commands.add_parser("weights", help="print how the shipped weights were made")
    weights.add_argument("--page", type=Path, metavar="FILE", help="write the table into docs/weights.md instead")
    weights.set_defaults(run=_run_weights)
    _add_course(commands)
    benchmark = commands.add_parser("benchmark", help="measure speed, networks, samples and inversions")
    tables = ("speed", "optimisers", "networks", "samples", "inversions", "learning-rates", "encoders", "generators")
    only = f"one table instead of all but {', '.join(HOURS)}, which take long"
    benchmark.add_argument("--only", choices=(*tables, *HOURS), help=only)
    benchmark.add_argument("--check", action="store_true", help="compare speed with its marks; exit code 1 if missed")
    several = "method of the inversions; can be repeated for --only inversions"
    benchmark.add_argument("--method", action="append", default=[], help=several)
    edits = benchmark.add_argument_group("for --only edits, which goes on with what is in --out")
    edits.add_argument("--way", action="append", default=[], help="way to find edits (default: all); can be repeated")
    edits.add_argument("--factor", action="append", default=[], help="(default: the main ones); can be repeated")
    edits.add_argument("--faces", type=int, default=40, metavar="N", help="faces, and samples (%(default)s)")
    edits.add_argument("--steps", type=int, default=300, help="of the inversions (%(default)s)")
    found = "folder of edits that are found, e.g. --out of `latentlab train edits` (default: edits in --out)"
    edits.add_argument("--found", type=Path, metavar="FOLDER", help=found)
    runs = "folder of training runs, for --only encoders (default: the shipped encoders) and two_branch"
    benchmark.add_argument("--runs", type=Path, metavar="FOLDER", help=runs)
    benchmark.add_argument(
        "--generator", action="append", default=[], metavar="SOURCE",
        help="generator of the table of generators: a name, a .safetensors file or a folder of a training run; of "
        "full-size: a file (default: faces-64; full-size: random weights at 256, 512, 1024 px); can be repeated",
    )  # fmt: skip
    benchmark.add_argument("--device", default="cpu", help="cpu, cuda, or auto (%(default)s)")
    benchmark.add_argument("--out", type=Path, default=Path("out/benchmark"), help="output folder (%(default)s)")
    page = "page whose sections are replaced by the tables that are measured, e.g. docs/benchmarks.md"
    benchmark.add_argument("--page", type=Path, metavar="FILE", help=page)
    benchmark.set_defaults(run=_run_benchmark)
    return parser


def _add_invert(commands: argparse._SubParsersAction) -> None:
    invert = commands.add_parser(
        "invert",
        help="invert pictures and edit them",
        epilog="example: latentlab invert face.png --method ii2s --edit smile=+2 --out out/",
    )
    invert.add_argument("images", type=Path, help="picture, e.g. a PNG or JPEG of any size, or folder of pictures")
    generator = "name of a shipped or official generator, or a file (.safetensors, .pkl, .pt, ..) (default: faces-64, "
    invert.add_argument("--generator", help=generator + "or the one inside of --encoder)")
    invert.add_argument("--method", default="ii2s", help="one of those listed by `latentlab methods` (%(default)s)")
    invert.add_argument("--base", default="e4e", help="method whose inversion a refiner improves (%(default)s)")
    invert.add_argument("--steps", type=int, help="number of steps (default: the paper's)")
    encoder = "checkpoint of the public pSp, e4e or ReStyle, for --method psp, e4e or restyle"
    invert.add_argument("--encoder", metavar="FILE", help=encoder)
    perceptual = "LPIPS for the search, from torchvision's weights: vgg=FILE or alex=FILE (default: the face world's)"
    invert.add_argument("--perceptual", metavar="NAME=FILE", type=_named_file, help=perceptual)
    strength = (
        "strength in standard deviations of the factor, e.g. smile=+2; or of an edit in a file, e.g. "
        "mine.edit.safetensors=+2, age.pt=+3, ffhq_pca.pt:'component 3'=+2; can be repeated"
    )
    invert.add_argument("--edit", action="append", default=[], metavar="EDIT=STRENGTH", type=_edit, help=strength)
    invert.add_argument("--batch", type=int, help="pictures inverted together (default: as many as take some 4 GB)")
    invert.add_argument("--precision", default="32", choices=("32", "bf16"), help="bf16: less memory (%(default)s)")
    invert.add_argument("--device", default="cpu", help="cpu, cuda, or auto (%(default)s)")
    invert.add_argument("--seed", type=int, default=0, help="random seed of the method (%(default)s)")
    invert.add_argument("--out", type=Path, default=Path("out"), help="output folder (%(default)s)")
    invert.set_defaults(run=_run_invert)


def _edit(text: str) -> tuple[str, float]:
    name, _, strength = text.rpartition("=")
    try:
        if not name.strip() or not math.isfinite(float(strength)):
            raise ValueError
        return name.strip(), float(strength)
    except ValueError:
        says = f"expected FACTOR=STRENGTH, e.g. smile=+2, or FILE=STRENGTH, got {text!r}"
        raise argparse.ArgumentTypeError(says) from None


def _named_file(text: str) -> tuple[str, str]:
    name, _, path = text.partition("=")
    if not name or not path:
        raise argparse.ArgumentTypeError(f"expected NAME=FILE, e.g. vgg=vgg16.pth, got {text!r}")
    return name, path


def _run_invert(options: argparse.Namespace) -> None:
    from latentlab.inversion_methods import find_method
    from latentlab.jobs import invert_files

    knobs = {} if options.steps is None else {"steps": options.steps}
    if "seed" in find_method(options.method).keywords:  # encoders are deterministic
        knobs["seed"] = options.seed
    table = invert_files(
        options.images,
        options.out,
        generator=options.generator,
        method=options.method,
        base=options.base,
        encoder=options.encoder,
        perceptual=options.perceptual,
        edits=options.edit,
        batch_size=options.batch,
        precision=options.precision,
        device=_device(options.device),
        say=print,
        **knobs,
    )
    print(table.to_string(index=False, float_format="%.3g"))
    print(f"written to {options.out}/")


def _add_edits(commands: argparse._SubParsersAction) -> None:
    edits = commands.add_parser("edits", help="find an edit of one's own from scores of a generator's samples")
    what = edits.add_subparsers(dest="what", required=True, metavar="what")
    sample = what.add_parser(
        "sample",
        help="write samples to be scored, and a table for the scores",
        epilog="example: latentlab edits sample --n 200 --out out/samples",
    )
    sample.add_argument("--n", type=int, default=200, help="number of samples (%(default)s)")
    sample.add_argument("--seed", type=int, default=0, help="random seed of the samples (%(default)s)")
    sample.add_argument("--out", type=Path, default=Path("out/samples"), help="output folder (%(default)s)")
    sample.set_defaults(run=_run_edits_sample)
    find = what.add_parser(
        "find",
        help="find the edit along which scores rise",
        epilog="example: latentlab edits find --samples out/samples --scores scores.csv --column smiling --name smile "
        "--out smile.edit.safetensors",
    )
    table = "table with a row for each sample; two values are labels, other numbers are scores"
    find.add_argument("--scores", type=Path, required=True, metavar="CSV", help=table)
    find.add_argument("--column", required=True, help="its column of scores")
    which = find.add_mutually_exclusive_group(required=True)
    which.add_argument("--samples", type=Path, help="folder of `latentlab edits sample`")
    which.add_argument("--n", type=int, help="without the folder: how many samples of --seed it has")
    find.add_argument("--seed", type=int, default=0, help="random seed of the samples, for --n (%(default)s)")
    find.add_argument("--name", required=True, help="name of the edit")
    find.add_argument("--out", type=Path, required=True, help="file of the edit, e.g. smile.edit.safetensors")
    find.set_defaults(run=_run_edits_find)
    for parser in (sample, find):
        source = "name of a shipped or official generator, or a file (%(default)s)"
        parser.add_argument("--generator", default="faces-64", help=source)
        parser.add_argument("--device", default="cpu", help="cpu, cuda, or auto (%(default)s)")


def _run_edits_sample(options: argparse.Namespace) -> None:
    from latentlab.jobs import write_samples

    write_samples(
        options.out, generator=options.generator, n=options.n, seed=options.seed, device=_device(options.device)
    )
    print(f"{options.n} samples, scores.csv for their scores and codes.safetensors written to {options.out}/")


def _run_edits_find(options: argparse.Namespace) -> None:
    from latentlab.jobs import find_edit_of_scores

    found = find_edit_of_scores(
        options.scores, options.column, options.name, options.out, generator=options.generator, samples=options.samples,
        n=options.n, seed=options.seed, device=_device(options.device),
    )  # fmt: skip
    print(f"{found.edit.name}: {found.edit.source}")
    print(f"agreement with samples that it was not found from: {found.agreement:.2f} (1 is perfect, 0 is chance)")
    if found.effect is None:
        print("effect: not measured, since no attribute network reads pictures of this generator")
    else:
        print("effect of strength 1, in standard deviations of what the losses' network reads in samples; the largest:")
        print(found.effect.table().head(6).to_string(float_format="%+.2f"))
    print(f"written to {options.out}; use it with: latentlab invert PICTURE --edit {options.out}=+1")


def _add_align(commands: argparse._SubParsersAction) -> None:
    align = commands.add_parser(
        "align",
        help="cut a face out of a photograph as FFHQ's were, for generators trained on FFHQ",
        epilog="example: latentlab align photo.jpg --points 203,100 247,103 204,140 244,141 --out face.png",
    )
    align.add_argument("photo", type=Path)
    align.add_argument(
        "--points", nargs="+", type=_point, metavar="X,Y",
        help="left eye, right eye, left and right corner of the mouth, as seen in the picture (default: they are "
        "looked for, see --predictor)",
    )  # fmt: skip
    align.add_argument("--predictor", type=Path, help="dlib's file of 68 landmarks; without, scikit-image's cascade")
    align.add_argument("--face", type=int, help="which of several faces, counted from the left")
    align.add_argument("--resolution", type=int, default=1024, help="%(default)s")
    align.add_argument("--out", type=Path, default=Path("out/aligned.png"), help="%(default)s")
    align.set_defaults(run=_run_align)


def _point(text: str) -> tuple[float, float]:
    try:
        x, y = text.split(",")
        return float(x), float(y)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not X,Y, e.g. 203.4,100") from None


def _run_align(options: argparse.Namespace) -> None:
    from latentlab.alignment import Landmarks, align_face, choose_face, find_faces
    from latentlab.images import open_picture

    picture, notes = open_picture(options.photo)
    if options.points:
        face = Landmarks.from_points(options.points)
    else:
        face = choose_face(find_faces(picture, options.predictor), options.face)
        notes += [] if options.predictor else ["eyes and mouth are assumed from the face's box; --points is more exact"]
    aligned, more = align_face(picture, face, options.resolution)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    aligned.save(options.out)
    print("\n".join([*notes, *more, f"written to {options.out}"]))


def _add_convert(commands: argparse._SubParsersAction) -> None:
    convert = commands.add_parser("convert", help="write a generator of another implementation as .safetensors, once")
    convert.add_argument("source", help="an NVIDIA .pkl, a rosinality or encoder .pt, or an official model's name")
    convert.add_argument("--out", type=Path, help="default: beside the source")
    convert.add_argument("--class", dest="c", type=int, metavar="N", help="the class of a conditional model")
    convert.set_defaults(run=_run_convert)


def _run_convert(options: argparse.Namespace) -> None:
    from latentlab.weights.generators import convert

    out, notes = convert(options.source, options.out, c=options.c)
    print("\n".join([*notes, f"written to {out}"]))


def _device(name: str) -> str:
    import torch

    has_cuda = torch.cuda.is_available()
    device = {"gpu": "cuda", "auto": "cuda" if has_cuda else "cpu"}.get(name, name)
    if device != "cpu" and not (device.startswith("cuda") and has_cuda):
        available = "cpu, cuda or auto" if has_cuda else "cpu or auto, since there is no CUDA device"
        raise ValueError(f"--device: expected {available}, got {name!r}")
    return device


def _add_demo(commands: argparse._SubParsersAction) -> None:
    demo = commands.add_parser("demo", help="invert and edit three faces, and write pictures and a table")
    demo.add_argument("--out", type=Path, default=Path("out/demo"), help="output folder (%(default)s)")
    demo.add_argument("--steps", type=int, default=500, help="number of steps (%(default)s)")
    demo.set_defaults(run=_run_demo)


def _run_demo(options: argparse.Namespace) -> None:
    from latentlab.jobs import demo

    table = demo(options.out, steps=options.steps)
    print(table.to_string(index=False, float_format="%.2f"))
    print("written to " + ", ".join(str(options.out / f) for f in ("demo.png", "samples.png", "faces.png", "demo.csv")))


def _add_faces(commands: argparse._SubParsersAction) -> None:
    faces = commands.add_parser("faces", help="write faces of the real set as PNG files, and a table of their factors")
    faces.add_argument("-n", type=int, default=6, help="number of faces, at most 120 (%(default)s)")
    faces.add_argument("--resolution", type=int, default=64, help="side of the pictures in pixels (%(default)s)")
    faces.add_argument("--out", type=Path, default=Path("out/faces"), help="output folder (%(default)s)")
    faces.set_defaults(run=_run_faces)


def _run_faces(options: argparse.Namespace) -> None:
    from latentlab.jobs import write_faces

    write_faces(options.out, options.n, options.resolution)
    print(f"{options.n} faces and factors.csv written to {options.out}/")


def _add_train(commands: argparse._SubParsersAction) -> None:
    train = commands.add_parser("train", help="train a generator or one of the networks of losses and judges")
    what = train.add_subparsers(dest="what", required=True, metavar="what")
    for name, run, help_, default in (
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
        if name == "generator":
            presets = "faces-64, faces-64-sketch, or tiny-16 for a quick trial (%(default)s)"
            parser.add_argument("--preset", default="faces-64", help=presets)
            parser.add_argument("--start-from", help="shipped generator to fine-tune, with its discriminator")
            parser.add_argument(
                "--mapping-layers", type=int, metavar="N",
                help="layers of the mapping network (the preset's: 8, tiny-16: 2); with --start-from, another number "
                "than there replaces the mapping by a new one and keeps synthesis and discriminator",
            )  # fmt: skip
            parser.add_argument(
                "--path-length", type=float, metavar="W",
                help="weight of path-length regularization (the paper's: 2; the presets': 0, without)",
            )  # fmt: skip
            parser.add_argument(
                "--mapping-lr", type=float, metavar="X",
                help="learning rate of the mapping network relative to the rest (1)",
            )  # fmt: skip
        if run is _run_train_encoder:
            parser.add_argument("--generator", default="faces-64", help="shipped one that it is for (%(default)s)")
            parser.add_argument("--data", type=Path, metavar="FOLDER", help="of pictures (default: rendered faces)")
            parser.add_argument("--start-from", type=Path, metavar="RUN", help="run whose encoder is trained further")
            parser.add_argument("--batch", type=int, default=8, help="images of a step, on all devices (%(default)s)")
            parser.add_argument("--learning-rate", type=float, default=2e-3, help="of Ranger (%(default)s)")
            parser.add_argument(
                "--loss", action="append", default=[], metavar="NAME=WEIGHT", help="another weight; may be repeated"
            )
            pair = "contrastive pair for the loss alignment, a file of `latentlab publish` (default: the shipped one)"
            parser.add_argument("--pair", type=Path, metavar="FILE", help=pair)
        if name == "clcae":
            parser.add_argument("--config", default="full", choices=CLCAE_CONFIGURATIONS, help="(%(default)s)")
        if name == "contrastive":
            parser.add_argument("--generator", default="faces-64", help="shipped one that it is for (%(default)s)")
            parser.add_argument("--batch", type=int, default=64, help="pairs of a step, on all devices (%(default)s)")
            parser.add_argument("--learning-rate", type=float, default=1e-3, help="of Adam (%(default)s)")
        if name in ("hfgi", "two_branch"):
            codes, second = "whose codes are refined (%(default)s)", {"hfgi": "lsap_e", "two_branch": "psp"}[name]
            parser.add_argument("--encoder", default="e4e", choices=("e4e", second), help=codes)
            parser.add_argument("--generator", default="faces-64", help="shipped one that it is for (%(default)s)")
        if name == "two_branch":
            parser.add_argument("--data", type=Path, metavar="FOLDER", help="of pictures (default: rendered faces)")
            parser.add_argument("--attribute", action="append", default=[], help="to edit; may be repeated")
            fused = "largest resolution at which content is fused (%(default)s)"
            parser.add_argument("--fused", type=int, default=16, metavar="PX", help=fused)
            parser.add_argument("--relevance", default="cosine", choices=("cosine", "attention"), help="(%(default)s)")
            parser.add_argument(
                "--loss", action="append", default=[], metavar="NAME=WEIGHT", help="another weight; may be repeated"
            )
        if name == "e4e":
            rows = "A (pSp), B (delta regularization), C (latent discriminator) or D (both; %(default)s)"
            parser.add_argument("--config", default="D", choices=tuple("ABCD"), help=rows)
        parser.add_argument("--images", type=int, default=default, help="number of training images (%(default)s)")
        parser.add_argument("--out", type=Path, required=True, help="folder of the run")
        parser.add_argument("--resume", action="store_true", help="continue from the checkpoint in --out, bit for bit")
        parser.add_argument("--seed", type=int, default=None, help="random seed (default: the recipe's)")
        parser.add_argument("--accelerator", default="auto", help="of Lightning Fabric: auto, cpu or gpu (%(default)s)")
        parser.add_argument("--devices", type=int, default=1, help="number of devices, one process each (%(default)s)")
        parser.add_argument(
            "--precision", default="auto", choices=("auto", "bf16-mixed", "32-true"),
            help="auto: bf16-mixed where GPU or CPU have units for bfloat16, else 32-true, three times faster there",
        )  # fmt: skip
        parser.set_defaults(run=run)
    edits = what.add_parser("edits", help="the default edits of a generator, found in several ways and chosen")
    edits.add_argument("--generator", default="faces-64", help="shipped generator (%(default)s)")
    edits.add_argument("--samples", type=int, default=6_000, help="of the generator, to find them from (%(default)s)")
    edits.add_argument("--faces", type=int, default=16, help="renders to choose them on (%(default)s)")
    edits.add_argument("--factors", nargs="+", metavar="FACTOR", help="only these (default: all)")
    edits.add_argument("--out", type=Path, required=True, help="folder of the run; what is there is not found again")
    edits.set_defaults(run=_run_train_edits)


def _run_train_edits(options: argparse.Namespace) -> None:
    from latentlab.faces import NAMES
    from latentlab.training.recipes import train_edits

    wanted = options.factors or NAMES
    train_edits(options.generator, options.out, factors=wanted, samples=options.samples, faces=options.faces)
    print(f"written to {options.out}/; add it to the weights with: latentlab publish {options.out} --name NAME")


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
    print(f"written to {options.out}/; add it to the weights with: latentlab publish {options.out} --name NAME")


def _run_train_encoder(options: argparse.Namespace) -> None:
    from latentlab.training.recipes import train_encoder

    name = {"psp": "A"}.get(options.what, getattr(options, "config", options.what))
    settings = {"batch_size": options.batch, "learning_rate": options.learning_rate}
    if options.seed is not None:
        settings["seed"] = options.seed
    train_encoder(
        name, options.out, images=options.images, fabric=_fabric(options), resume=options.resume,
        generator=options.generator, data=options.data, pair=options.pair, start_from=options.start_from,
        weights=_loss_weights(options.loss), **settings,
    )  # fmt: skip
    print(f"written to {options.out}/; add it to the weights with: latentlab publish {options.out} --name NAME")


def _run_train_contrastive(options: argparse.Namespace) -> None:
    from latentlab.training.recipes import train_contrastive

    settings = {"batch_size": options.batch, "learning_rate": options.learning_rate}
    if options.seed is not None:
        settings["seed"] = options.seed
    train_contrastive(
        options.out, images=options.images, fabric=_fabric(options), resume=options.resume, generator=options.generator,
        **settings,
    )  # fmt: skip
    print(f"written to {options.out}/; add it to the weights with: latentlab publish {options.out} --name NAME")


def _run_train_hfgi(options: argparse.Namespace) -> None:
    from latentlab.training.recipes import train_hfgi

    settings = {} if options.seed is None else {"seed": options.seed}
    train_hfgi(
        options.encoder, options.out, images=options.images, fabric=_fabric(options), resume=options.resume,
        generator=options.generator, **settings,
    )  # fmt: skip
    print(f"written to {options.out}/; add it to the weights with: latentlab publish {options.out} --name NAME")


def _run_train_two_branch(options: argparse.Namespace) -> None:
    from latentlab.training.recipes import train_two_branch

    settings = {} if options.seed is None else {"seed": options.seed}
    settings |= {"attributes": tuple(options.attribute)} if options.attribute else {}
    train_two_branch(
        options.encoder, options.out, images=options.images, fabric=_fabric(options), resume=options.resume,
        generator=options.generator, data=options.data, weights=_loss_weights(options.loss),
        fused=options.fused, relevance=options.relevance, **settings,
    )  # fmt: skip
    print(f"written to {options.out}/; add it to the weights with: latentlab publish {options.out} --name NAME")


def _loss_weights(given: list[str]) -> dict[str, float]:
    """NAME=WEIGHT of the command line, as a dict."""
    weights = {}
    for text in given:
        name, _, weight = text.partition("=")
        try:
            weights[name] = float(weight)
        except ValueError:
            raise ValueError(f"--loss: expected NAME=WEIGHT, e.g. perceptual=0.8, got {text!r}") from None
    return weights


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


def _add_publish(commands: argparse._SubParsersAction) -> None:
    publish = commands.add_parser("publish", help="add the result of a training run to the shipped weights")
    publish.add_argument("run_folder", type=Path, metavar="run", help="folder of the run, --out of `latentlab train`")
    publish.add_argument("--name", required=True, help="name of the weights, e.g. faces-64; existing ones are replaced")
    publish.add_argument("--folder", type=Path, default=None, help="folder of the weights (default: latentlab/weights)")
    publish.set_defaults(run=_run_publish)


def _run_publish(options: argparse.Namespace) -> None:
    from latentlab.training.recipes import publish_run

    for path in publish_run(options.run_folder, options.name, options.folder):
        print(path)


def _run_methods(options: argparse.Namespace) -> None:
    from latentlab.faces import TABLE
    from latentlab.inversion_methods import methods
    from latentlab.weights.downloads import MODELS
    from latentlab.weights.generators import generator_names

    print(f"{methods().to_string()}\n\ngenerators: {', '.join(generator_names())}")
    print(f"official ones, downloaded when asked for: {', '.join(MODELS)}\n\nfactors")
    for factor in TABLE:
        span = f"{factor.low:g} to {factor.high:g} {factor.unit}"
        print(f"  {factor.name:17}{factor.group:10}{span:22}{factor.description}")


def _add_claims(commands: argparse._SubParsersAction) -> None:
    claims = commands.add_parser("claims", help="print the ledger of the papers' claims, or measure them again")
    claims.add_argument("--only", nargs="+", default=[], metavar="ID", help="only these claims, e.g. II2S-1 LSAP-1")
    claims.add_argument("--explain", nargs="+", default=[], metavar="ID", help="the whole record of these claims")
    claims.add_argument(
        "--full", action="store_true",
        help="measure at full size and record it: hours, in as many sessions as you like, since descents are kept in "
        "the user's cache folder and Ctrl-C loses nothing",
    )  # fmt: skip
    claims.add_argument("--left", action="store_true", help="print what is left to do at full size, and its time")
    claims.add_argument("--faces", type=int, metavar="N", help="at most so many faces of each kind; the record says so")
    claims.add_argument("--kinds", nargs="+", choices=("clean", "strange"), help="only these faces; the record says so")
    claims.add_argument("--batch", type=int, metavar="N", help="faces that descend together (10); more on a GPU")
    claims.add_argument("--generator", default="faces-64", help="another one is recorded beside faces-64 (%(default)s)")
    claims.add_argument("--device", default="cpu", help="cpu, cuda, or auto (%(default)s)")
    claims.add_argument("--pages", action="store_true", help="write docs/claims.md")
    claims.add_argument("--coverage", action="store_true", help="simulate the coverage of the intervals, and --pages")
    claims.add_argument("--ledger", type=Path, help="file of the ledger (default: notebooks/claims.json)")
    claims.set_defaults(run=_run_claims)


def _run_claims(options: argparse.Namespace) -> None:
    from latentlab.claims import pages

    if options.pages or options.coverage:
        coverages = pages.coverage_table() if options.coverage else None
        print("\n".join(str(path) for path in pages.write_pages(options.ledger, coverages=coverages)))
    elif options.left or options.full:
        _measure_claims(options)
    elif options.explain:
        print("\n\n".join(pages.explanation(id, options.ledger) for id in options.explain))
    else:
        print(pages.listing(options.only, options.ledger))


def _measure_claims(options: argparse.Namespace) -> None:
    from latentlab import claims
    from latentlab.claims import pages
    from latentlab.claims.runs import Bench
    from latentlab.weights.generators import load

    G = load(options.generator, device=_device(options.device))
    asked = {"faces": options.faces, "kinds": options.kinds, "batch": options.batch}
    knobs = {name: value for name, value in asked.items() if value is not None}
    for id in options.only or claims.CLAIMS:
        if options.left:
            print(f"{id:8} {claims.remaining(id, Bench.kept(G, **knobs))}", flush=True)
            continue
        name = Path(options.generator).stem
        try:
            claims.write([id], options.ledger, G=G, name=name, say=lambda text: print(text, flush=True), **knobs)
        except KeyboardInterrupt:
            print(f"\n{id} is not finished; the same command goes on where this one stopped", file=sys.stderr)
            raise
        print(pages.line(id, options.ledger), flush=True)


def _run_weights(options: argparse.Namespace) -> None:
    from latentlab.evaluation.benchmark_page import describe_weights, write_section
    from latentlab.weights import read_manifest

    table = describe_weights(read_manifest())
    if options.page:
        write_section(options.page, "weights", table)
        table = f"written to {options.page}"
    print(table)


def _add_course(commands: argparse._SubParsersAction) -> None:
    course = commands.add_parser(
        "course",
        help="copy the notebooks into a folder, for a class",
        epilog="example: latentlab course --student handout/",
    )
    course.add_argument("folder", type=Path, help="a new folder, or an empty one")
    course.add_argument("--student", action="store_true", help="leave the solutions out")
    course.add_argument("--notebooks", type=Path, help="folder of the notebooks (default: that of this checkout)")
    course.set_defaults(run=_run_course)


def _run_course(options: argparse.Namespace) -> None:
    from latentlab.jobs import copy_course

    files = copy_course(options.folder, student=options.student, notebooks=options.notebooks)
    without = ", without solutions" if options.student else ""
    print(f"{len(files)} files written to {options.folder}/{without}")


def _run_benchmark(options: argparse.Namespace) -> int:
    from latentlab import jobs
    from latentlab.evaluation import benchmark_page, edit_tables, encoder_page, generators, marks, timing
    from latentlab.evaluation import tables as measured

    device = _device(options.device)
    measure = {
        "speed": lambda: timing.measure_speed(device),
        "optimisers": lambda: timing.measure_optimisers(device),
        "networks": lambda: measured.measure_networks(device=device),
        "samples": lambda: measured.measure_samples(device=device),
        "inversions": lambda: measured.measure_inversions(options.method, device=device),
        "learning-rates": lambda: measured.measure_learning_rates(device=device),
        "encoders": lambda: jobs.write_encoders(
            options.out, (options.generator or ["faces-64"])[0], options.runs, partial(print, flush=True)
        ),
        "generators": lambda: generators.measure_generators(options.generator or ["faces-64"]),
        "full-size": lambda: jobs.write_full_size(options.out, options.generator, device, partial(print, flush=True)),
        "edits": lambda: edit_tables.measure_edits(
            options.out, generator=(options.generator or ["faces-64"])[0], method=(options.method or ["ii2s"])[0],
            steps=options.steps, ways=options.way, factors=options.factor, n=options.faces, found=options.found,
            device=device, say=partial(print, flush=True),
        ),
        "regularizers": lambda: jobs.write_regularizers(
            options.out, faces=options.faces, say=partial(print, flush=True)
        ),
        "two_branch": lambda: jobs.write_branches(options.out, _runs(options), partial(print, flush=True)),
    }  # fmt: skip
    chosen = [mark for mark in marks.MARKS if options.only in (None, mark.table)]
    if options.check and not chosen:
        with_marks = " or ".join(dict.fromkeys(mark.table for mark in marks.MARKS))
        raise ValueError(f"--check: expected --only {with_marks}, or no --only, got --only {options.only}")
    names = dict.fromkeys(mark.table for mark in chosen) if options.check else [k for k in measure if k not in HOURS]
    options.out.mkdir(parents=True, exist_ok=True)
    tables = {}
    for name in [options.only] if options.only else names:
        tables[name] = table = measure[name]()
        table.to_csv(options.out / f"{name}.csv", index=False, float_format="%.6g")
        if options.page and name in benchmark_page.COLUMNS:
            told = benchmark_page.provenance(name, device)
            benchmark_page.write_section(options.page, name, benchmark_page.section(name, table, told))
        table = encoder_page.summarize_encoders(table) if name == "encoders" else table
        print(f"\n{name}\n{table.to_string(index=False, float_format='%.3g')}", flush=True)
    if not options.check:
        return 0
    checked = marks.check_marks(tables, chosen)
    print(f"\nmarks\n{checked.to_string(index=False, float_format='%.3g')}")
    return int("missed" in set(checked["verdict"]))


def _runs(options: argparse.Namespace) -> Path:
    if options.runs is None:
        raise ValueError(f"--runs: expected a folder of training runs for --only {options.only}, got none")
    return options.runs


if __name__ == "__main__":
    sys.exit(main())
