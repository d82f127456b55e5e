"""Inversion by encoders: the codes of a batch of images in one pass, or in a few passes (ReStyle)."""

import time
from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latentlab.editing.edit import State, join
from latentlab.encoders.backbone import CodeEncoder, Pyramid
from latentlab.encoders.feature_space import FeatureEncoder
from latentlab.encoders.restyle import refine
from latentlab.encoders.shipped import encoder_for
from latentlab.inversion.objective import check_images
from latentlab.inversion.result import Inversion
from latentlab.spaces import fingerprint

Images = Float[Tensor, "n 3 r r"]
REFINEMENTS = 5  # ReStyle, section 3


def invert_psp(images: Images, G: nn.Module, *, encoder: CodeEncoder | None = None, batch_size: int = 32) -> Inversion:
    """Encodes images with pSp (arXiv 2008.00951), configuration A of e4e: an independent code for each layer.

    images: (N, 3, R, R) in [-1, 1]. encoder: by default the shipped one. batch_size: images that are encoded together;
    it does not change the codes.
    """
    return _encode("psp", images, G, encoder, batch_size)


def invert_e4e(images: Images, G: nn.Module, *, encoder: CodeEncoder | None = None, batch_size: int = 32) -> Inversion:
    """Encodes images with e4e (arXiv 2102.02766), its configuration D; keywords: those of ``invert_psp``."""
    return _encode("e4e", images, G, encoder, batch_size)


def invert_lsap_e(
    images: Images, G: nn.Module, *, encoder: CodeEncoder | None = None, batch_size: int = 32
) -> Inversion:
    """Encodes images with LSAP_E (arXiv 2209.12746), e4e's network aligned by SNCD; keywords: those of ``invert_psp``.
    """
    return _encode("lsap_e", images, G, encoder, batch_size)


def invert_restyle(
    images: Images,
    G: nn.Module,
    *,
    encoder: CodeEncoder | None = None,
    refinements: int = REFINEMENTS,
    batch_size: int = 32,
) -> Inversion:
    """Encodes images with ReStyle (arXiv 2104.02699): ``refinements`` passes, each of which sees the last picture.

    Other keywords: those of ``invert_psp``.
    """

    def encode(network: CodeEncoder, part: Tensor) -> Tensor:
        *_, last = refine(network, part, G.synthesis, steps=refinements)
        return last.codes

    return _encode("restyle", images, G, encoder, batch_size, encode, {"refinements": refinements})


def invert_clcae(
    images: Images,
    G: nn.Module,
    *,
    encoder: FeatureEncoder | None = None,
    space: Literal["W", "W+", "F"] = "F",
    batch_size: int = 32,
) -> Inversion:
    """Encodes images with CLCAE (arXiv 2211.11448), or with another encoder into F space.

    space: how much of what the encoder finds is used: "W", the code w; "W+", the codes w+ (the paper's CLCAE_w+); "F",
    w+ and the feature map f. An edit in F moves the map by as much as it moves the generator's own (Eq. 6).
    Other keywords: those of ``invert_psp``.
    """
    if space not in ("W", "W+", "F"):
        raise ValueError(f"space: expected 'W', 'W+' or 'F', got {space!r}")

    def encode(network: FeatureEncoder, part: Tensor) -> State:
        found = network(part)
        if space == "W" and found.w is None:
            raise ValueError(f"space: expected 'W+' or 'F', since {type(network).__name__} has no w, got 'W'")
        if space == "F":
            # as in the public code toRGB of the replaced block reads what the block itself made of the codes
            return State(found.w_plus, features={found.feature.shape[-1]: found.feature}, replace_rgb=False)
        return State(found.w_plus if space == "W+" else G.broadcast(found.w).clone())

    return _encode("clcae", images, G, encoder, batch_size, encode, {"space": space}, FeatureEncoder)


@torch.no_grad()
def _encode(
    name: str,
    images: Images,
    G: nn.Module,
    encoder: Pyramid | None,
    batch_size: int,
    encode: Callable[[Pyramid, Tensor], Tensor | State] = lambda network, part: network(part),
    knobs: dict[str, Any] | None = None,
    kind: type[Pyramid] = CodeEncoder,
) -> Inversion:
    check_images(images, G)
    if batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
    encoder = encoder_for(G, name, device=images.device) if encoder is None else encoder
    check_encoder(encoder, G, kind)
    knobs = {"encoder": fingerprint(encoder, "generator")} | (knobs or {})  # refiners are trained for one encoder
    began = time.perf_counter()
    try:
        parts = [encode(encoder, part) for part in images.split(batch_size)]
        state = join([part if isinstance(part, State) else State(part) for part in parts])
        pictures = torch.cat([state[rows].draw(G) for rows in torch.arange(len(state)).split(batch_size)])
    except torch.OutOfMemoryError as error:
        raise MemoryError(f"{name}: {len(images)} images did not fit into memory in parts of {batch_size}; choose a "
                          "smaller batch_size") from error  # fmt: skip
    return Inversion(state, pictures, G, name, {}, time.perf_counter() - began, knobs)


def check_encoder(encoder: Pyramid, G: nn.Module, kind: type[Pyramid] = CodeEncoder) -> None:
    """Raises ``ValueError`` unless the encoder is of this kind and its codes have the shape of the generator's."""
    if not isinstance(encoder, kind):
        raise ValueError(f"encoder: expected a {kind.__name__}, got {type(encoder).__name__}; open one with "
                         "ll.encoder_for or encoders.shipped.load_encoder")  # fmt: skip
    found, wanted = (encoder.shape.layers, encoder.shape.w_dim), (G.num_ws, G.w_dim)
    if found != wanted:
        raise ValueError(f"encoder: expected one for codes of shape {wanted}, got {found}: it belongs to another "
                         "generator")  # fmt: skip
