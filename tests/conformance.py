"""Outputs of the public implementations, kept in tests/data/conformance, and the weights they were made with."""

import json
import zlib
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).parent / "data" / "conformance"
TOLERANCE = 1e-4  # of the largest number; a port that is right reaches 1e-6


def rnd(name, shape):
    generator = np.random.RandomState(zlib.crc32(name.encode()))
    count = int(np.prod(shape))
    return generator.standard_normal(count).reshape(shape).astype(np.float32)


def load(name, keep=lambda key: True):
    """(state dict of the reference, its recorded arrays); only the weights whose key `keep` accepts are made"""
    make = {"normal": lambda r, s: s * r, "around_one": lambda r, s: 1 + s * r,
            "positive": lambda r, s: 0.5 + s * np.abs(r)}
    rows = json.loads((FOLDER / f"{name}.json").read_text())["state"]
    state = {key: torch.from_numpy(np.asarray(make[kind](rnd(key, shape), np.float32(scale))))
             for key, shape, kind, scale in rows if keep(key)}
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return state, {key: torch.from_numpy(arrays[key]) for key in arrays}


def error(got, want):
    assert got.shape == want.shape
    return ((got - want).abs().max() / want.abs().max()).item()
