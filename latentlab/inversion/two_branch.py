"""Two branches (Yin et al. 2022, arXiv 2204.12530): the image's own content is fused in wherever an edit leaves the
generator's features alone."""

import time
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latentlab.editing.edit import Direction, Edit, State, apply_edit, carry, join
from latentlab.editing.sparse import sparse_edits
from latentlab.encoders.backbone import CodeEncoder
from latentlab.encoders.shipped import encoder_for
from latentlab.inversion.objective import check_images
from latentlab.inversion.refiners import check_base, refiner_for, restore_network
from latentlab.inversion.result import Inversion
from latentlab.networks.two_branch import TwoBranch
from latentlab.spaces import fingerprint

LEVEL = "level."


@torch.no_grad()
def invert_two_branch(
    images: Float[Tensor, "n 3 r r"], G: nn.Module, *, base: Inversion, network: TwoBranch | None = None,
    encoder: CodeEncoder | None = None, batch_size: int = 16,
) -> Inversion:  # fmt: skip
    """Fuses content of images into their inversion, and into every edit of it (section 3).

    images: (N, 3, R, R) in [-1, 1]. base: their inversion by the encoder that ``network`` was trained for. network,
    encoder: by default those that are shipped for the base's method; ``load_refiner`` and ``load_encoder`` open others.
    See ``TwoBranchEditor`` for its edits: ``inv.edit(inv.editor.edits["smile"], 1.5)``.
    """
    check_images(images, G)
    if len(base) != len(images):
        raise ValueError(f"base: expected an inversion of the {len(images)} images, got one of {len(base)}")
    if (mark := fingerprint(base.generator, "generator")) != (own := fingerprint(G, "generator")):
        raise ValueError(f"base: expected an inversion by the generator {own}, got one by {mark}")
    if network is None:
        network = refiner_for(G, "two_branch", base.method, device=images.device)
    encoder = encoder_for(G, base.method, device=images.device) if encoder is None else encoder
    if encoder.config.widths[3] != network.config.seen or encoder.config.w_dim != network.config.w_dim:
        raise ValueError(f"encoder: expected codes of width {network.config.w_dim} and features of width "
                         f"{network.config.seen}, got {encoder.config.w_dim} and "
                         f"{encoder.config.widths[3]}")  # fmt: skip
    check_base(network, base)
    if (wanted := network.encoder_fingerprint) and (got := fingerprint(encoder, "generator")) != wanted:
        raise ValueError(f"encoder: expected {wanted}, with which the networks were trained, got {got}; pass that one "
                         "as encoder=, or train networks for this one")  # fmt: skip
    began, editor, parts = time.perf_counter(), TwoBranchEditor(network), []
    for i in range(0, len(images), batch_size):
        state, part = base.state[i : i + batch_size], images[i : i + batch_size]
        levels = {f"{LEVEL}{k}": x for k, x in enumerate(encoder.levels(part))}
        none = state.w_plus.new_zeros(len(part), len(network.config.attributes))
        parts.append(editor.fuse(replace(state, kept={"code": state.w_plus, "targets": none, **levels}), G))
    state = join(parts)
    seconds = base.seconds + time.perf_counter() - began
    knobs = {"base": base.method, "network": fingerprint(network, "generator")}
    return Inversion(state, state.draw(G), G, "two_branch", seconds=seconds, knobs=knobs, editor=editor)


def restore_editor(G: nn.Module, base: str, mark: str) -> "TwoBranchEditor":
    """The editor of a saved inversion whose networks have this fingerprint; base: the method of the codes."""
    return TwoBranchEditor(restore_network(G, "two_branch", base, mark))


@dataclass(frozen=True, eq=False)
class TwoBranchEditor:
    """Applies edits as the two branches do: to the codes first, then the content is fused into the edited picture.

    An edit with the name of one of the network's attributes goes along the network's direction, in the edit's layers,
    whatever vector it has itself. Its strength is turned into the network's standard deviations where both know their
    own unit (``Edit.std``); targets beyond the network's range raise ``ValueError``. Any other edit changes the codes
    as it does otherwise, and the content is fused where it leaves the features alone.
    """

    network: TwoBranch

    @cached_property
    def edits(self) -> dict[str, Direction]:
        """The edits of the network's attributes by name; a strength of 1 is a target of one standard deviation."""
        return sparse_edits(self.network)

    def __call__(self, edit: Edit, state: State, strengths: Float[Tensor, " n"], G: nn.Module) -> State:
        plain = replace(state, features=None)  # the maps are fused again; styles that are held go along with codes
        if edit.name not in self.edits:
            return self.fuse(apply_edit(edit, plain, strengths, G), G)
        own = self.edits[edit.name]
        scale = edit.std / own.std if edit.std > 0 and own.std > 0 else 1.0  # NaN where a unit is not known
        change = self.network.targets(edit.name, scale * strengths)
        targets = state.kept["targets"] + change
        self.network.check(targets)
        shift = self.network.style_shift(change)
        if edit.layers is not None:
            shift = shift * torch.tensor([i in edit.layers for i in range(shift.shape[1])]).to(shift)[:, None]
        after = replace(plain, w_plus=plain.w_plus + shift, kept={**plain.kept, "targets": targets})
        return self.fuse(carry(plain, after, G), G)

    def fuse(self, state: State, G: nn.Module) -> State:
        """The state with the fused feature maps of its codes and styles; without a content branch the state itself."""
        if not self.network.config.resolutions:
            return replace(state, features=None)
        fused: dict[int, Tensor] = {}
        for r, fusion in self._fusion(state, G).items():  # ascending: each block reads what is fused before it
            fused[r] = fusion(replace(state, features=fused).feature_maps(G, r, replaced=True)[r])
        return replace(state, features=fused)

    def relevance(self, state: State, G: nn.Module) -> dict[int, Float[Tensor, "n 1 _ _"]]:
        """The relevance maps of a state by resolution: 1 where the image's content is taken."""
        if not self.network.config.resolutions:
            return {}
        return self.network.relevance(*self._features(state, G))

    def _fusion(self, state: State, G: nn.Module) -> dict:
        levels = [state.kept[name] for name in sorted(name for name in state.kept if name.startswith(LEVEL))]
        contents = self.network.contents(levels, state.kept["targets"])
        return self.network.fusion(*self._features(state, G), contents)

    def _features(self, state: State, G: nn.Module) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        """The generator's feature maps of the inversion and of its edit, as fine as they are fused.

        Styles are held only after an edit of S, so the inversion has none.
        """
        finest, inverted = max(self.network.config.resolutions), replace(state, w_plus=state.kept["code"], styles=None)
        return inverted.feature_maps(G, finest), state.feature_maps(G, finest)
