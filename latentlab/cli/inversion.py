"""Commands on pictures and generators: ``invert``, ``align``, ``convert``, ``methods``."""

import argparse
import math
from pathlib import Path

from latentlab.cli.arguments import device_of


def add_invert(commands: argparse._SubParsersAction) -> None:
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
        device=device_of(options.device),
        say=print,
        **knobs,
    )
    print(table.to_string(index=False, float_format="%.3g"))
    print(f"written to {options.out}/")


def add_align(commands: argparse._SubParsersAction) -> None:
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


def add_convert(commands: argparse._SubParsersAction) -> None:
    convert = commands.add_parser("convert", help="write a generator of another implementation as .safetensors, once")
    convert.add_argument("source", help="an NVIDIA .pkl, a rosinality or encoder .pt, or an official model's name")
    convert.add_argument("--out", type=Path, help="default: beside the source")
    convert.add_argument("--class", dest="c", type=int, metavar="N", help="the class of a conditional model")
    convert.set_defaults(run=_run_convert)


def _run_convert(options: argparse.Namespace) -> None:
    from latentlab.weights.generators import convert

    out, notes = convert(options.source, options.out, c=options.c)
    print("\n".join([*notes, f"written to {out}"]))


def add_methods(commands: argparse._SubParsersAction) -> None:
    methods = commands.add_parser("methods", help="list inversion methods, generators and factors")
    methods.set_defaults(run=_run_methods)


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
