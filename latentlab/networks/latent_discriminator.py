"""The latent discriminator of e4e (arXiv 2102.02766, section 5.2), which tells codes of W from an encoder's."""

from jaxtyping import Float
from torch import Tensor, nn

from latentlab.seeds import drawn_from


class LatentDiscriminator(nn.Module):
    """One code (..., D) at a time to a logit (...), positive for W: four plain linear layers (appendix A).

    Leaky ReLU of slope 0.2 between them, torch's default initialisation from ``seed``. Parameters bear the names of
    the official checkpoints (``discriminator_state_dict``).
    """

    def __init__(self, w_dim: int = 512, layers: int = 4, seed: int = 0) -> None:
        super().__init__()
        if layers < 1:
            raise ValueError(f"layers: expected at least 1, got {layers}")
        with drawn_from(seed, "latent discriminator"):
            hidden = [layer for _ in range(layers - 1) for layer in (nn.Linear(w_dim, w_dim), nn.LeakyReLU(0.2))]
            self.mlp = nn.Sequential(*hidden, nn.Linear(w_dim, 1))

    def forward(self, codes: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch"]:
        return self.mlp(codes)[..., 0]
