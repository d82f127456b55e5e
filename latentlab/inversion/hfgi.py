"""HFGI (Wang et al. 2022, arXiv 2109.06590): what a code leaves of an image is fused into a feature map."""

import time
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latentlab.editing.edit import Edit, State, apply_edit
from latentlab.inversion.objective import check_images
from latentlab.inversion.refiners import check_base, refiner_for, restore_network
from latentlab.inversion.result import Inversion
from latentlab.networks.hfgi import Hfgi
from latentlab.spaces import fingerprint


@torch.no_grad()
def invert_hfgi(
    images: Float[Tensor, "n 3 r r"], G: nn.Module, *, base: Inversion, network: Hfgi | None = None,
    batch_size: int = 16,
) -> Inversion:  # fmt: skip
    """Fuses the residual of an inversion into a feature map of the generator (HFGI, section 3).

    images: (N, 3, R, R) in [-1, 1]. base: their inversion, by the encoder that ``network`` was trained for. Its codes
    stay as they are. network: by default the one that is shipped for the base's encoder; ``load_refiner`` opens others.
    The residual is kept in the state: an edit changes the codes, aligns the residual with the edited picture, and fuses
    it again.
    """
    check_images(images, G)
    if len(base) != len(images):
        raise ValueError(f"base: expected an inversion of the {len(images)} images, got one of {len(base)}")
    if (mark := fingerprint(base.generator, "generator")) != (own := fingerprint(G, "generator")):
        raise ValueError(f"base: expected an inversion by the generator {own}, got one by {mark}")
    network = refiner_for(G, "hfgi", base.method, device=images.device) if network is None else network
    check_base(network, base)
    if network.config.resolution != G.resolution:
        raise ValueError(f"network: expected one for {G.resolution} px, got one for {network.config.resolution}")
    began = time.perf_counter()
    state = replace(base.state, kept={"residual": images - base.state.draw(G)})
    editor = HfgiEditor(network)
    parts = [editor.fuse(state[i : i + batch_size], G) for i in range(0, len(state), batch_size)]
    layer = network.config.layer
    state = replace(state, features={layer: torch.cat([part.features[layer] for part in parts])})
    seconds = base.seconds + time.perf_counter() - began
    knobs = {"base": base.method, "layer": layer, "network": fingerprint(network, "generator")}
    return Inversion(state, state.draw(G), G, "hfgi", seconds=seconds, knobs=knobs, editor=editor)


def restore_editor(G: nn.Module, base: str, mark: str) -> "HfgiEditor":
    """The editor of a saved inversion whose networks have this fingerprint; base: the method of the codes."""
    return HfgiEditor(restore_network(G, "hfgi", base, mark))


@dataclass(frozen=True, eq=False)
class HfgiEditor:
    """Applies edits as HFGI does: to the codes first, then the residual is fused into their own feature map."""

    network: Hfgi

    def __call__(self, edit: Edit, state: State, strengths: Float[Tensor, " n"], G: nn.Module) -> State:
        return self.fuse(apply_edit(edit, replace(state, features=None), strengths, G), G)

    def fuse(self, state: State, G: nn.Module) -> State:
        """The state with the feature map of its codes and its residual."""
        plain, layer = replace(state, features=None), self.network.config.layer
        fused = self.network(plain.feature_maps(G)[layer], state.kept["residual"], plain.draw(G))
        return replace(state, features={layer: fused})
