"""The inversion methods: the table ``METHODS``, and ``invert``, which runs one by name."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latentlab.encoders.official import fits, load_official
from latentlab.inversion.encoding import invert_clcae, invert_e4e, invert_lsap_e, invert_psp, invert_restyle
from latentlab.inversion.hfgi import invert_hfgi
from latentlab.inversion.ii2s import invert_i2s, invert_ii2s, invert_z_plus
from latentlab.inversion.lsap import invert_lsap_o
from latentlab.inversion.objective import Objective
from latentlab.inversion.projector import project
from latentlab.inversion.pti import invert_pti
from latentlab.inversion.pulse import invert_pulse
from latentlab.inversion.result import Inversion
from latentlab.inversion.sg2 import invert_sg2_w, invert_sg2_wplus
from latentlab.inversion.two_branch import invert_two_branch
from latentlab.losses.perceptual import load_perceptual
from latentlab.spaces import fingerprint
from latentlab.weights import REFINERS, read_manifest
from latentlab.weights import find as find_weights
from latentlab.weights.generators import load

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Method:
    """An inversion method: its function, paper, kind, latent space, and the keywords that it accepts.

    kind: an "optimiser" runs in steps and can be recorded, watched and continued; an "encoder" computes the codes in
    one pass, without steps; a "refiner" improves another inversion, given as ``base=``.
    """

    name: str
    function: Callable[..., Inversion]
    paper: str
    kind: Literal["optimiser", "encoder", "refiner"]
    space: str
    keywords: frozenset[str]

    def __call__(self, images: Float[Tensor, "n 3 r r"], G: nn.Module, **knobs: Any) -> Inversion:
        """Inverts images, (N, 3, R, R) in [-1, 1]. An unknown keyword raises ``ValueError`` listing the known ones."""
        if not isinstance(G, nn.Module):
            raise ValueError(f"G: expected a generator, got {G!r}; open one with ll.load")
        if unknown := sorted(knobs.keys() - self.keywords):
            raise ValueError(
                f"{self.name}: expected keywords among {', '.join(sorted(self.keywords))}; got {', '.join(unknown)}"
            )
        if self.kind == "refiner" and not isinstance(knobs.get("base"), Inversion):
            raise ValueError(
                f"base: expected the Inversion that {self.name} is to refine, got {type(knobs.get('base')).__name__}"
            )
        return self.function(images, G, **knobs)


def keywords_of(*functions: Callable) -> frozenset[str]:
    """Names of the keyword-only parameters of functions."""
    parameters = (p for f in functions for p in inspect.signature(f).parameters.values())
    return frozenset(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)


_II2S = keywords_of(invert_ii2s, Objective)
_SG2 = keywords_of(invert_sg2_w, project, Objective)

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("sg2_w", invert_sg2_w, "StyleGAN2 (arXiv 1912.04958), appendix D", "optimiser", "W and noise", _SG2),
        Method("sg2_wplus", invert_sg2_wplus, "StyleGAN2, its projector in W+", "optimiser", "W+ and noise",
               _SG2 - {"w_plus"}),
        Method("i2s", invert_i2s, "I2S (arXiv 1904.03189), as II2S runs it", "optimiser", "W+", _II2S - {"lambda_"}),
        Method("ii2s", invert_ii2s, "II2S (arXiv 2012.09036)", "optimiser", "W+", _II2S),
        Method("z_plus", invert_z_plus, "II2S, its ablation of Z+ (Table 7)", "optimiser", "Z+", _II2S - {"space"}),
        Method("pulse", invert_pulse, "PULSE (arXiv 2003.03808)", "optimiser", "W+ spheres and noise",
               keywords_of(invert_pulse, Objective)),
        Method("lsap_o", invert_lsap_o, "LSAP (arXiv 2209.12746), by optimisation", "optimiser", "W+ and noise",
               keywords_of(invert_lsap_o, project, Objective)),
        Method("psp", invert_psp, "pSp (arXiv 2008.00951)", "encoder", "W+", keywords_of(invert_psp)),
        Method("e4e", invert_e4e, "e4e (arXiv 2102.02766)", "encoder", "W+", keywords_of(invert_e4e)),
        Method("restyle", invert_restyle, "ReStyle (arXiv 2104.02699) on pSp", "encoder", "W+",
               keywords_of(invert_restyle)),
        Method("clcae", invert_clcae, "CLCAE (arXiv 2211.11448)", "encoder", "F: W+ and a feature map",
               keywords_of(invert_clcae)),
        Method("lsap_e", invert_lsap_e, "LSAP (arXiv 2209.12746), by an encoder", "encoder", "W+",
               keywords_of(invert_lsap_e)),
        Method("hfgi", invert_hfgi, "HFGI (arXiv 2109.06590)", "refiner", "its base's, and a feature map",
               keywords_of(invert_hfgi)),
        Method("two_branch", invert_two_branch, "Two branches (arXiv 2204.12530)", "refiner",
               "its base's, and feature maps", keywords_of(invert_two_branch)),
        Method("pti", invert_pti, "PTI (arXiv 2106.05744)", "refiner", "its base's, and weights",
               keywords_of(invert_pti)),
    )
}  # fmt: skip


def invert(images: Float[Tensor, "n 3 r r"], G: nn.Module, method: str = "ii2s", **knobs: Any) -> Inversion:
    """Inverts images, (N, 3, R, R) in [-1, 1], with the generator ``G`` by the method of this name.

    knobs: keywords of the method (steps, lambda_, seed, callback, ...); defaults are the paper's. Those of one method
    are explained by ``help(latentlab.METHODS["ii2s"].function)``, those that all optimisers share (condition, initial,
    record, patience, callback, resume) by ``help(latentlab.inversion.objective.Objective)``; a callback gets a
    ``latentlab.inversion.descent.Step``. Raises ``ValueError`` for an unknown method or keyword, listing the known
    ones, and for images that do not fit the generator.
    """
    return find_method(method)(images, G, **knobs)


def find_method(name: str) -> Method:
    """The method of this name. An unknown one raises ``ValueError`` that lists the known ones."""
    if name not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}; got {name!r}")
    return METHODS[name]


def open_networks(
    method: str,
    *,
    generator: str | None = None,
    encoder: str | None = None,
    perceptual: tuple[str, str] | None = None,
    device: torch.device | str = "cpu",
) -> tuple[nn.Module, dict[str, Any]]:
    """The generator, and the keywords of a method that are networks from files of the user's.

    generator: what ``ll.load`` opens, by default the one in the file of ``encoder``, or "faces-64". encoder: a
    checkpoint of ``encoders.official``. perceptual: backbone and path of ``losses.perceptual.load_perceptual``. A
    network that the method does not use, or that is for another one, raises ``ValueError``.
    """
    accepted = find_method(method).keywords
    for name, value in {"encoder": encoder, "perceptual": perceptual}.items():
        if value is not None and name not in accepted:
            raise ValueError(f"{name}: expected none, since the method {method} uses none, got {value}")
    found: dict[str, Any] = {}
    if perceptual is not None:
        found["perceptual"] = load_perceptual(*perceptual, device=device)
    if encoder is None:
        return load(generator or "faces-64", device=device), found
    network, G = load_official(encoder, generator=generator)
    if not fits(network, method):
        channels = f"{type(network).__name__} of {network.shape.in_channels} channels"
        raise ValueError(f"{encoder}: expected an encoder for the method {method}, got {channels}; choose the method "
                         "that it is for: psp, e4e, or restyle for 6 channels")  # fmt: skip
    return G.to(device), found | {"encoder": network.to(device)}


def methods() -> "pandas.DataFrame":
    """Table of the methods: name, kind, latent space, paper, and the generators that weights are shipped for, of
    refiners with the encoders whose codes they refine: "faces-64 (e4e, psp)"."""
    import pandas

    rows = [(m.name, m.kind, m.space, m.paper, ", ".join(_generators(m))) for m in METHODS.values()]
    return pandas.DataFrame(rows, columns=["name", "kind", "space", "paper", "weights for"]).set_index("name")


def methods_for(G: nn.Module) -> list[str]:
    """Names of the methods that invert with ``G`` without further arguments: optimisers, and encoders with shipped
    weights."""
    mark = fingerprint(G, "generator")
    encoders = [m.name for m in METHODS.values() if m.kind == "encoder" and find_weights(m.name, mark)]
    return [m.name for m in METHODS.values() if m.kind == "optimiser" or m.name in encoders]


def _generators(method: Method) -> list[str]:
    """The generators with shipped weights of a method; of a refiner's also the encoders that they are for."""
    if method.kind != "refiner":
        return _names_of(method.name)
    found: dict[str, list[str]] = {}
    for kind in (kind for kind in REFINERS if kind.startswith(f"{method.name}_")):
        for generator in _names_of(kind):
            found.setdefault(generator, []).append(kind.removeprefix(f"{method.name}_"))
    return [f"{generator} ({', '.join(encoders)})" for generator, encoders in found.items()]


def _names_of(kind: str) -> list[str]:
    """NAME of the shipped files NAME.KIND.safetensors."""
    suffix = f".{kind}.safetensors"
    return [file.removesuffix(suffix) for file in read_manifest() if file.endswith(suffix)]
