"""The registry of everything that inverts an image."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor, nn

from latentlab.inversion.ii2s import invert_i2s, invert_ii2s, invert_z_plus
from latentlab.inversion.objective import Objective
from latentlab.inversion.pulse import invert_pulse
from latentlab.inversion.result import Inversion
from latentlab.inversion.sg2 import invert_sg2_w, invert_sg2_wplus

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Method:
    """One way to invert: its function, where it comes from and what kind it is."""

    name: str
    invert: Callable[..., Inversion]
    paper: str
    kind: str
    space: str

    @property
    def keywords(self) -> frozenset[str]:
        """Names of the keywords that the method accepts."""
        parameters = inspect.signature(self.invert).parameters.values()
        named = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
        if any(p.kind is p.VAR_KEYWORD for p in parameters):  # passed on to ``Objective``
            named |= {"steps", "learning_rate", "seed", *inspect.signature(Objective).parameters} - {"images", "G"}
        return frozenset(named)


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("sg2_w", invert_sg2_w, "StyleGAN2 (arXiv 1912.04958), appendix D", "optimiser", "W and noise"),
        Method("sg2_wplus", invert_sg2_wplus, "StyleGAN2, its projector in W+", "optimiser", "W+ and noise"),
        Method("i2s", invert_i2s, "I2S (arXiv 1904.03189), as II2S runs it", "optimiser", "W+"),
        Method("ii2s", invert_ii2s, "II2S (arXiv 2012.09036)", "optimiser", "W+"),
        Method("z_plus", invert_z_plus, "II2S, its ablation of Z+ (Table 7)", "optimiser", "Z+"),
        Method("pulse", invert_pulse, "PULSE (arXiv 2003.03808)", "optimiser", "W+ spheres and noise"),
    )
}


def invert(images: Float[Tensor, "n 3 r r"], G: nn.Module, method: str = "ii2s", **knobs: Any) -> Inversion:
    """Finds codes of ``G`` for images, (N, 3, R, R) in [-1, 1], by a named method.

    knobs: keywords of that method (steps, lambda_, seed, callback, ...); their defaults are the paper's.
    Raises ``ValueError`` for an unknown method, with the known ones, and for images that do not fit.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; known are: {', '.join(METHODS)}")
    return METHODS[method].invert(images, G, **knobs)


def methods() -> "pandas.DataFrame":
    """The registry as a table: name, kind, the space its codes live in, and the paper."""
    import pandas

    rows = [(m.name, m.kind, m.space, m.paper) for m in METHODS.values()]
    return pandas.DataFrame(rows, columns=["name", "kind", "space", "paper"]).set_index("name")
