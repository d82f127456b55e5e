"""Training of CLCAE's contrastive pair (arXiv 2211.11448, section 3.1) on synthetic pairs, and its use as a loss."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from latentlab.encoders.contrastive import ContrastiveConfig, ContrastivePair, info_nce
from latentlab.images import tile
from latentlab.metrics import Retrieval, retrieval, retrieved
from latentlab.seeds import stream
from latentlab.spaces import fingerprint
from latentlab.stylegan import Generator
from latentlab.training.loop import Training

LARGEST = math.log(100)  # of logit_scale = log(1 / t), as in CLIP (arXiv 2103.00020, section 2.5)
HELD_OUT = 10**8  # number of the first pair that no training sees

Pairs = tuple[Float[Tensor, "n 3 r r"], Float[Tensor, "n dim"]]


@dataclass(frozen=True)
class ContrastiveTrainingConfig:
    """The settings of a training of the pair.

    shape: of both encoders. generator: fingerprint of the one that draws the pairs. images: number of pairs, one of the
    settings since the schedule ends with it; the paper draws 100,000 once, here no pair is seen twice.
    batch_size: the paper's is 256; the other pairs of a batch are the negatives. learning_rate: of Adam, along half a
    cosine down to 0.
    """

    shape: ContrastiveConfig
    generator: str
    images: int
    batch_size: int = 64
    learning_rate: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        refuse_single(self.batch_size)
        if self.images < self.batch_size:
            raise ValueError(f"images: expected at least a batch of {self.batch_size}, got {self.images}")


def refuse_single(batch_size: int) -> None:
    """Raises ``ValueError`` for a batch that has no negatives."""
    if batch_size < 2:
        raise ValueError(f"batch_size: expected at least 2 with a contrastive loss, got {batch_size}; the other pairs "
                         "of a batch are the negatives")  # fmt: skip


def configure_contrastive(G: Generator, **settings) -> ContrastiveTrainingConfig:
    """The settings for a generator. settings: fields to set otherwise; ``images`` is needed."""
    known = {"shape": ContrastiveConfig.slim(G.config), "generator": fingerprint(G, "generator")}
    return ContrastiveTrainingConfig(**known | settings)


class ContrastiveTraining(Training):
    """The pair and its temperature; the generator is frozen."""

    also_logged = ("retrieval", "temperature")

    def __init__(self, config: ContrastiveTrainingConfig, G: Generator, fabric) -> None:
        super().__init__(config, fabric)
        if config.generator != fingerprint(G, "generator"):
            raise ValueError(f"generator: expected {config.generator}, got {fingerprint(G, 'generator')}")
        self.G = G.to(fabric.device, memory_format=torch.channels_last).requires_grad_(False).eval()
        pair = ContrastivePair(config.shape, stream(config.seed, "pair").initial_seed())
        pair.set_averages(G.w_avg, G.synthesis(G.broadcast(G.w_avg[None]))[0])
        self.pair = self.add_module("pair", pair).train()
        self.add_loss("contrastive")
        steps = config.images / config.batch_size
        adam = torch.optim.Adam(self.pair.parameters(), lr=config.learning_rate)
        fall = LambdaLR(adam, lambda step: 0.5 + 0.5 * math.cos(math.pi * min(step / steps, 1)))
        self.add_player("pair", adam, schedule=fall)

    def _step(self, batch: Pairs) -> dict[str, Tensor]:
        """One update on pairs; returns what to log."""
        images, w = batch
        with self.fabric.autocast():
            seen, codes = self.pair(images.contiguous(memory_format=torch.channels_last), w)
        seen, codes = (gather(self.fabric, x.float()) for x in (seen, codes))
        scale = self.pair.images.logit_scale
        logged = self.update("pair", {"contrastive": info_nce(seen, codes, scale).mean()})
        with torch.no_grad():
            scale.clamp_(max=LARGEST)
        found = retrieved(seen.detach(), codes.detach()).mean()
        return logged | {"retrieval": found, "temperature": (-scale.detach()).exp()}

    def draw_samples(self) -> Image.Image:
        """Similarities of 24 held-out pairs, white 1 and black -1, a row for each image and a column for each code."""
        self.pair.eval()
        seen, codes = self.pair(*draw_pairs(self.G, self.config.seed, HELD_OUT, 24))
        self.pair.train()
        return tile((seen @ codes.T).expand(1, 3, -1, -1), columns=1, scale=8)


def gather(fabric, x: Float[Tensor, "n dim"]) -> Float[Tensor, "m dim"]:
    """The rows of all processes, with gradients: every process computes the loss of the whole batch, and the mean of
    the gradients over the processes, which ``Training.update`` takes, is the gradient of one process with that batch.

    Batch normalisation is not synchronised: in a network that trains every process normalises with the moments of its
    own part of the batch, so that this holds for the given vectors, not for the step as a whole.
    The public code gathers without gradients, which leaves out how the negatives of other processes should move.
    """
    return x if fabric.world_size == 1 else fabric.all_gather(x, sync_grads=True).flatten(0, 1)


def alignment(
    pair: ContrastivePair, images: Float[Tensor, "n 3 r r"], w: Float[Tensor, "n dim"], fabric
) -> Float[Tensor, ""]:
    """The frozen pair as a loss: how well codes of W fit their images, against those of the batch (CLCAE, Eq. 3)."""
    seen, codes = (gather(fabric, x.float()) for x in pair(images, w))
    return info_nce(seen, codes, pair.images.logit_scale).mean()


def freeze_pair(pair: ContrastivePair | None, mark: str | None, device: torch.device) -> ContrastivePair:
    """The pair of an alignment loss on a device, frozen; ``ValueError`` unless it is the one that a run began with."""
    if pair is None:
        raise ValueError("pair: expected a trained contrastive pair for the loss alignment, got none; train one with "
                         "`latentlab train contrastive`, or give the loss weight 0")  # fmt: skip
    if mark != (own := fingerprint(pair, "generator")):
        raise ValueError(f"pair: expected the contrastive pair {mark}, got {own}")
    return pair.to(device, memory_format=torch.channels_last).requires_grad_(False).eval()


@torch.no_grad()
def draw_pairs(G: Generator, seed: int, start: int, n: int) -> Pairs:
    """The pairs start .. start + n - 1 of an endless sequence: images (n, 3, R, R) and their codes of W, (n, D)."""
    z = torch.stack([torch.randn(G.z_dim, generator=stream(seed, "pairs", i)) for i in range(start, start + n)])
    w = G.mapping(z.to(G.w_avg))
    return G.synthesis(G.broadcast(w)), w


def training_pairs(config: ContrastiveTrainingConfig, G: Generator):
    """The endless sequence of pairs that a pair of encoders is trained on, as ``train`` wants it."""
    return lambda start, n, device: draw_pairs(G, config.seed, start, n)


@torch.no_grad()
def measure_retrieval(pair: ContrastivePair, G: Generator, n: int = 1_000, seed: int = 0) -> Retrieval:
    """How often image and code find each other among ``n`` held-out pairs; chance is 1 / n."""
    pair = pair.eval()
    parts = [pair(*draw_pairs(G, seed, HELD_OUT + i, min(100, n - i))) for i in range(0, n, 100)]
    return retrieval(*(torch.cat(side) for side in zip(*parts, strict=True)))
