"""Commands on pictures and generators: ``invert``, ``align``, ``convert``, ``methods``."""

import argparse
import math
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path

from latentlab.cli.arguments import add_command, add_device, add_out, device_of

WIDTH = 100  # characters of a line that is printed


def add_invert(commands: argparse._SubParsersAction) -> None:
    invert = add_command(
        commands, "invert", "Invert pictures and edit them.",
        example="latentlab invert face.png --method ii2s --edit smile=+2 --out out/",
    )  # fmt: skip
    invert.add_argument("images", type=Path, help="Picture of any size, e.g. a PNG or JPEG, or a folder of pictures.")
    generator = (
        "Generator that draws the pictures: the name of a shipped or official one, or a file (.safetensors, .pkl, "
        ".pt, ..) (default: faces-64, or the one in the file of --encoder)."
    )
    invert.add_argument("--generator", metavar="SOURCE", help=generator)
    method = "Inversion method, one of those that `latentlab methods` lists (default: %(default)s)."
    invert.add_argument("--method", default="ii2s", metavar="NAME", help=method)
    base = "Method whose inversion is improved, if --method is a refiner (default: %(default)s)."
    invert.add_argument("--base", default="e4e", metavar="NAME", help=base)
    steps = "Number of steps of a search, at least 1; encoders take none (default: the number in the method's paper)."
    invert.add_argument("--steps", type=int, metavar="N", help=steps)
    encoder = (
        "Checkpoint of the public pSp, e4e or ReStyle, for --method psp, e4e or restyle (default: the shipped encoder "
        "of the generator)."
    )
    invert.add_argument("--encoder", metavar="FILE", help=encoder)
    perceptual = (
        "Network by which a search compares pictures: LPIPS on torchvision's weights, as vgg=FILE or alex=FILE "
        "(default: the network of the face world)."
    )
    invert.add_argument("--perceptual", metavar="NAME=FILE", type=_named_file, help=perceptual)
    strength = (
        "Edit and its strength: a factor, in standard deviations of it, e.g. smile=+2; or a file of an edit, e.g. "
        "mine.edit.safetensors=+2, age.pt=+3, ffhq_pca.pt:'component 3'=+2. Can be repeated; each edit is made on the "
        "inversion by itself (default: no edits)."
    )
    invert.add_argument("--edit", action="append", default=[], metavar="EDIT=STRENGTH", type=_edit, help=strength)
    batch = "Number of pictures that are inverted together, at least 1 (default: as many as take some 4 GB)."
    invert.add_argument("--batch", type=int, metavar="N", help=batch)
    precision = "Precision of the search: 32, or bf16, which takes less memory (default: %(default)s)."
    invert.add_argument("--precision", default="32", choices=("32", "bf16"), help=precision)
    add_device(invert)
    seed = "Random seed of the search (default: %(default)s)."
    invert.add_argument("--seed", type=int, default=0, metavar="N", help=seed)
    add_out(invert, "out")
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
    from latentlab.jobs.inversions import invert_files

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
    print(table.set_index("picture").to_string(float_format="%.3g", line_width=WIDTH))
    print(f"written to {options.out}/")


def add_align(commands: argparse._SubParsersAction) -> None:
    align = add_command(
        commands, "align", "Cut a face out of a photograph as FFHQ's were cut, for generators trained on FFHQ.",
        example="latentlab align photo.jpg --points 203,100 247,103 204,140 244,141 --out face.png",
    )  # fmt: skip
    align.add_argument("photo", type=Path, help="Photograph with a face, e.g. a PNG or JPEG.")
    points = (
        "Four points in pixels from the upper left: the left eye, the right eye, the left and the right corner of the "
        "mouth, left and right as seen in the picture (default: those that a detector finds)."
    )
    align.add_argument("--points", nargs="+", type=_point, metavar="X,Y", help=points)
    predictor = "File of dlib's 68 landmarks, to find the points with (default: none, scikit-image's cascade)."
    align.add_argument("--predictor", type=Path, metavar="FILE", help=predictor)
    face = "Number of the face if there are several, counted from 1 at the left (default: the only one)."
    align.add_argument("--face", type=int, metavar="N", help=face)
    resolution = "Side of the written picture in pixels (default: %(default)s)."
    align.add_argument("--resolution", type=int, default=1024, metavar="PX", help=resolution)
    out = "File to write the crop to (default: %(default)s)."
    align.add_argument("--out", type=Path, default=Path("out/aligned.png"), metavar="FILE", help=out)
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
    says = "Write a generator of another implementation as .safetensors, which opens faster."
    convert = add_command(commands, "convert", says, example="latentlab convert ffhq.pkl --out ffhq.safetensors")
    source = "Generator to convert: a .pkl of NVIDIA, a .pt of rosinality or an encoder, or an official model's name."
    convert.add_argument("source", help=source)
    out = "File to write (default: the source's name with .safetensors, beside it)."
    convert.add_argument("--out", type=Path, metavar="FILE", help=out)
    label = "Number of the class that a conditional model is to draw, from 0 (default: none, for other models)."
    convert.add_argument("--class", dest="c", type=int, metavar="N", help=label)
    convert.set_defaults(run=_run_convert)


def _run_convert(options: argparse.Namespace) -> None:
    from latentlab.weights.generators import convert

    out, notes = convert(options.source, options.out, c=options.c)
    print("\n".join([*notes, f"written to {out}"]))


def add_methods(commands: argparse._SubParsersAction) -> None:
    methods = add_command(commands, "methods", "List the inversion methods, the generators, and the factors of faces.")
    methods.set_defaults(run=_run_methods)


KINDS = {
    "optimiser": "Optimisers: they search for the code in steps",
    "encoder": "Encoders: a network finds the code at once",
    "refiner": "Refiners: they improve the inversion of another method, --base",
}


def _run_methods(options: argparse.Namespace) -> None:
    from latentlab.faces import TABLE
    from latentlab.inversion_methods import methods
    from latentlab.weights.downloads import MODELS
    from latentlab.weights.generators import generator_names

    table = methods()
    for kind, title in KINDS.items():
        rows = table[table["kind"] == kind]
        cells = {"name": rows.index, "latent space": rows["space"], "paper": rows["paper"]}
        if kind != "optimiser":  # these need no weights of their own
            cells["weights for"] = [weights or "-" for weights in rows["weights for"]]
        print(f"{title}\n{_in_columns(cells)}\n")
    print(f"Generators that are shipped\n  {', '.join(generator_names())}\n")
    print("Official generators, downloaded when asked for")
    print(textwrap.fill(", ".join(MODELS), WIDTH, initial_indent="  ", subsequent_indent="  "))
    cells = {"name": [], "group": [], "range": [], "description": []}
    for factor in TABLE:
        span = f"{factor.low:g} to {factor.high:g} {factor.unit}"
        for column, cell in zip(cells.values(), (factor.name, factor.group, span, factor.description), strict=True):
            column.append(cell)
    print(f"\nFactors of rendered faces\n{_in_columns(cells)}")


def _in_columns(columns: Mapping[str, Iterable[str]]) -> str:
    """A table of text, each column flush left and as wide as its longest cell."""
    filled = [[name, *cells] for name, cells in columns.items()]
    widths = [max(map(len, column)) for column in filled]
    rows = zip(*filled, strict=True)
    return "\n".join("  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
