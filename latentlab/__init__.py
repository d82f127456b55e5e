"""latentlab: a course and a laboratory on StyleGAN inversion and editing.

    import latentlab as ll
    G = ll.load("faces-64")
    x = ll.faces.real_set().clean[:4]
    inv = ll.invert(x.images, G, method="ii2s", steps=500)
    older = inv.edit(ll.edits_for(G)["age"], 2)

Images are float32 (N, 3, R, R) in [-1, 1]; z and w are (N, D), w_plus is (N, L, D), losses are (N,).
Importing this package imports nothing else: each name below is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latentlab import claims, faces, metrics, plots, spaces, widgets
    from latentlab.editing.edit import Direction, Edit, State, apply_edit, restrict
    from latentlab.editing.files import read_edits, save_edit
    from latentlab.editing.mixing import interpolate, mix
    from latentlab.editing.regression import find_directions
    from latentlab.editing.shipped import directions_for, edits_for
    from latentlab.editing.sparse import sparse_edits_for
    from latentlab.encoders.shipped import encoder_for, load_encoder, load_pair, pair_for
    from latentlab.evaluation import evaluate, summarize
    from latentlab.images import read_image
    from latentlab.inversion.refiners import load_refiner
    from latentlab.inversion.result import Inversion
    from latentlab.inversion_methods import METHODS, invert, methods
    from latentlab.judges.attributes import load_attribute_judge
    from latentlab.judges.identity import load_identity_judge
    from latentlab.judges.perceptual import load_perceptual_judge
    from latentlab.losses.identity import load_identity
    from latentlab.losses.perceptual import load_perceptual
    from latentlab.spaces import measure_statistics, statistics_for
    from latentlab.weights.generators import convert, generator_names, load, load_discriminator

__version__ = "0.1.0"

_MODULES = ("claims", "faces", "metrics", "plots", "spaces", "widgets")
_NAMES = {
    "Direction": "editing.edit",
    "Edit": "editing.edit",
    "State": "editing.edit",
    "restrict": "editing.edit",
    "apply_edit": "editing.edit",
    "directions_for": "editing.shipped",
    "edits_for": "editing.shipped",
    "sparse_edits_for": "editing.sparse",
    "find_directions": "editing.regression",
    "read_edits": "editing.files",
    "save_edit": "editing.files",
    "encoder_for": "encoders.shipped",
    "load_encoder": "encoders.shipped",
    "load_pair": "encoders.shipped",
    "pair_for": "encoders.shipped",
    "evaluate": "evaluation",
    "summarize": "evaluation",
    "convert": "weights.generators",
    "generator_names": "weights.generators",
    "load": "weights.generators",
    "load_discriminator": "weights.generators",
    "read_image": "images",
    "interpolate": "editing.mixing",
    "mix": "editing.mixing",
    "Inversion": "inversion.result",
    "load_refiner": "inversion.refiners",
    "load_attribute_judge": "judges.attributes",
    "load_identity_judge": "judges.identity",
    "load_perceptual_judge": "judges.perceptual",
    "load_identity": "losses.identity",
    "load_perceptual": "losses.perceptual",
    "METHODS": "inversion_methods",
    "invert": "inversion_methods",
    "methods": "inversion_methods",
    "measure_statistics": "spaces",
    "statistics_for": "spaces",
}
__all__ = sorted([*_MODULES, *_NAMES])


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"latentlab.{name}")
    if name in _NAMES:
        return getattr(import_module(f"latentlab.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'latentlab' has no attribute {name!r}; expected one of {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
