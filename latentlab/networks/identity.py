"""The identity distance: it depends on the person, not on state (pose, expression, ...) and scene."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

DIMENSIONS = 128
AXES = [str(i) for i in range(DIMENSIONS)]  # names of the outputs, which an embedding does not need


class IdentityDistance(nn.Module):
    """Identity distance d(a, b) = 1 - <e(a), e(b)> for embeddings e of unit length.

    It is 0 for equal embeddings and about 1 for two different people. Images (N, 3, H, W) in [-1, 1] of any size are
    resized to ``resolution`` (None: the trunk resizes them) and mapped to (N, D) by ``trunk``. ``features`` of a fixed
    image can be computed once and compared by ``between``.
    """

    def __init__(self, trunk: nn.Module, resolution: int | None = 64) -> None:
        super().__init__()
        self.trunk, self.resolution = trunk, resolution

    def features(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """Embeddings of unit length, (N, D)."""
        if self.resolution and images.shape[-2:] != (self.resolution, self.resolution):
            images = F.interpolate(images, (self.resolution, self.resolution), mode="bilinear", antialias=True)
        return F.normalize(self.trunk(images), dim=1)

    def between(self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Distances between embeddings, (N,)."""
        return 1 - (a * b).sum(1)

    def forward(self, a: Float[Tensor, "n 3 h w"], b: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
        return self.between(self.features(a), self.features(b))


def as_embedding(trunk: nn.Module, start: nn.Module | None = None) -> nn.Module:
    """An embedding network: a trunk with ``DIMENSIONS`` outputs followed by batch normalisation, as in ArcFace.

    start: a network whose weights initialise those of the trunk that have the same name and shape.
    """
    if start is not None:
        own = trunk.state_dict()
        common = {k: v for k, v in start.state_dict().items() if v.shape == own[k].shape}
        trunk.load_state_dict(own | common)
    return nn.Sequential(trunk, nn.BatchNorm1d(DIMENSIONS, affine=False))
