"""Random streams: every random number of latentlab is drawn from a seed and the name of its use."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def stream(seed: int, *names: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A random generator for one use of a seed, e.g. ``stream(0, "latents", step)``.

    Two uses of the same seed would be correlated, so the seed is hashed together with the names of the use. A stream
    that is named by its step needs no saved state: a resumed training draws the same numbers.
    """
    digest = hashlib.sha256("/".join(map(str, (int(seed), *names))).encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:7], "big"))


@contextmanager
def drawn_from(seed: int, *names: str | int) -> Iterator[torch.Generator]:
    """Context in which torch's default initialisation of layers draws from ``stream(seed, *names)``.

    It yields that stream, for functions that take a generator, and restores the global random state at its end.
    """
    draw = stream(seed, *names)
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(draw.initial_seed())
        yield draw
