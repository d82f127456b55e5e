"""Samples of a generator and what is read from their pictures: the data that edits are found from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latentlab.losses.attributes import load_attributes
from latentlab.seeds import stream

Read = Callable[[Tensor], Float[Tensor, "n k"]]


@dataclass(frozen=True, eq=False)
class Reader:
    """Attributes read from images: ``read``, images (N, 3, R, R) to scores (N, K), and the ``names`` of the scores.

    Called like ``read`` itself, and checked: a score for each name, as many rows as images.
    """

    read: Read
    names: tuple[str, ...]

    def __call__(self, images: Tensor) -> Float[Tensor, "n k"]:
        scores = self.read(images)
        if scores.shape != (len(images), len(self.names)):
            raise ValueError(f"read: expected scores of shape {(len(images), len(self.names))}, one for each name, "
                             f"got {tuple(scores.shape)}")  # fmt: skip
        return scores

    def column(self, name: str) -> int:
        """The column of an attribute; ``ValueError`` with the known ones if it is none of them."""
        return column(name, self.names)


def column(name: str, names: Sequence[str]) -> int:
    """The position of an attribute among ``names``; ``ValueError`` if it is none of them."""
    if name not in names:
        raise ValueError(f"attribute: expected one that is read, got {name!r}; read are: {', '.join(names)}")
    return list(names).index(name)


def reader_of(
    read: Read | None, names: Sequence[str] | None, *, like: Tensor, probabilities: bool = True
) -> Reader:
    """``read`` and ``names`` as a ``Reader``; None is the losses' attribute network, see ``losses_reader``.

    like: a tensor of the generator, for the device.
    """
    if read is None:
        return losses_reader(like.device, probabilities=probabilities)
    if isinstance(read, Reader) and names is None:
        return read
    if names is None:
        raise ValueError("names: expected the names of the scores that read gives, got None; pass names=[...]")
    return Reader(read, tuple(names))


def losses_reader(device: torch.device | str = "cpu", *, probabilities: bool = True) -> Reader:
    """The losses' attribute network as a reader: factors in their own units, with gradients.

    Binary factors are ``probabilities``, in which a standard deviation means what it means for the factor itself; or
    logits, for what follows gradients, which vanish in a probability where the network is sure.
    """
    network = load_attributes(device=device)

    def read(images: Tensor) -> Tensor:
        if images.shape[-1] != network.resolution:
            raise ValueError(f"images: expected {network.resolution} px for the losses' attribute network, got "
                             f"{images.shape[-1]}; pass read=, a network for this generator")  # fmt: skip
        values = network(images)
        own = values * network.std + network.mean
        return torch.where(network.binary, values.sigmoid() if probabilities else values, own)

    return Reader(read, tuple(network.names))


@dataclass(frozen=True, eq=False)
class Samples:
    """Codes of one generator and scores of their pictures. w: (N, D). readings: (N, K). names: of the K scores."""

    w: Float[Tensor, "n dim"]
    readings: Float[Tensor, "n k"]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.w) != len(self.readings):
            raise ValueError(f"readings: expected one row for each of {len(self.w)} codes, got {len(self.readings)}")
        if self.readings.shape[1:] != (len(self.names),):
            k = self.readings.shape[1]
            raise ValueError(f"names: expected one for each of {k} readings, got {len(self.names)}")
        if not bool(self.readings.isfinite().all()):
            raise ValueError("readings: expected finite numbers, got NaN or infinite ones")

    def __len__(self) -> int:
        return len(self.w)

    def __getitem__(self, rows: slice | Tensor) -> "Samples":
        return Samples(self.w[rows], self.readings[rows], self.names)

    @property
    def std(self) -> Float[Tensor, " k"]:
        """Standard deviation of every reading over the samples, (K,)."""
        return self.readings.std(0)

    def check(self, reader: Reader, G: nn.Module) -> None:
        """Raises ``ValueError`` unless these are readings by ``reader`` of pictures of ``G``, by a look at two."""
        if self.names != reader.names:
            raise ValueError(f"samples: expected readings of {', '.join(reader.names)}, got {', '.join(self.names)}")
        with torch.no_grad():
            again = reader(G.synthesis(G.broadcast(self.w[:2].to(G.w_avg)), noise="const")).cpu()
        off = ((again - self.readings[:2]).abs() > 0.05 * self.std).any(0)
        if bool(off.any()):
            raise ValueError(f"samples: expected readings by the same network of the same generator, got others for "
                             f"{', '.join(n for n, o in zip(self.names, off.tolist(), strict=True) if o)}; draw them "
                             "anew, e.g. draw_samples(G, losses_reader(probabilities=False)) where gradients are "
                             "followed")  # fmt: skip

    def of(self, name: str) -> Float[Tensor, " n"]:
        """The readings of one attribute, (N,)."""
        return self.readings[:, column(name, self.names)]

    def standardised(self) -> Float[Tensor, "n k"]:
        """Readings with mean 0 and standard deviation 1, float64; ``ValueError`` where one does not vary."""
        y = self.readings.double()
        std = y.std(0)
        if constant := [name for name, s in zip(self.names, std.tolist(), strict=True) if not s > 1e-8]:
            raise ValueError(f"readings: expected samples that vary, got the same value in all of {len(y)} for "
                             f"{', '.join(constant)}; no edit can be found from it")  # fmt: skip
        return (y - y.mean(0)) / std


@torch.no_grad()
def draw_samples(
    G: nn.Module,
    read: Read | None = None,
    names: Sequence[str] | None = None,
    *,
    n: int = 20_000,
    seed: int = 0,
    batch_size: int = 250,
) -> Samples:
    """``n`` samples of ``G`` and what ``read`` sees in them, by default the losses' network."""
    if n < 2:
        raise ValueError(f"n: expected at least 2 samples, got {n}")
    z = torch.randn(n, G.z_dim, generator=stream(seed, "samples"))
    return read_samples(G, z, reader_of(read, names, like=G.w_avg), batch_size=batch_size)


@torch.no_grad()
def read_samples(G: nn.Module, z: Float[Tensor, "n z"], reader: Reader, *, batch_size: int = 250) -> Samples:
    """The codes of W of ``z``, and what ``reader`` sees in their pictures (constant noise, psi 1)."""
    codes, seen = [], []
    for part in z.split(batch_size):
        w = G.mapping(part.to(G.w_avg))
        codes.append(w.cpu())
        seen.append(reader(G.synthesis(G.broadcast(w), noise="const")).float().cpu())
    return Samples(torch.cat(codes), torch.cat(seen), reader.names)
