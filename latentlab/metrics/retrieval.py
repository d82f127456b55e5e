"""Retrieval among pairs: how often a vector finds its own partner."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Retrieval(NamedTuple):
    """Shares of N held-out pairs that are found, 0 to 1, by the image and by the code; chance is 1 / N."""

    code_of_image: float
    image_of_code: float
    chance: float


def retrieved(a: Float[Tensor, "n dim"], b: Float[Tensor, "n dim"]) -> Float[Tensor, " n"]:
    """1 where the nearest of b to a row of a is its own pair, else 0, (N,); by the inner product, of unit vectors the
    cosine.

    >>> retrieved(torch.eye(4), torch.eye(4)[[0, 1, 3, 2]])
    tensor([1., 1., 0., 0.])
    """
    return ((a @ b.T).argmax(1) == torch.arange(len(a), device=a.device)).to(a)


def retrieval(images: Float[Tensor, "n dim"], codes: Float[Tensor, "n dim"]) -> Retrieval:
    """How often an image finds its own code among N, and a code its image.

    >>> retrieval(torch.eye(4), torch.eye(4)[[0, 1, 3, 2]])
    Retrieval(code_of_image=0.5, image_of_code=0.5, chance=0.25)
    """
    found = (float(retrieved(a, b).mean()) for a, b in ((images, codes), (codes, images)))
    return Retrieval(*found, 1 / len(images))
