"""The recipe of the shipped edits: trials on rendered faces, in a world whose codes are the factors themselves."""

import json

import pytest
import torch
from torch import nn

from latentlab.editing.edit import Direction, State
from latentlab.editing.samples import losses_reader
from latentlab.editing.ways import Evidence
from latentlab.faces import NAMES, TABLE, Factors, render
from latentlab.inversion.result import Inversion
from latentlab.training import edits as recipe

STD = 15.0  # of yaw, in degrees


class FactorWorld(nn.Module):
    """A generator that renders its codes: w holds the factors of a face."""

    resolution, num_ws, w_dim = 64, 1, len(NAMES)

    def __init__(self):
        super().__init__()
        self.mapping = nn.Linear(1, 1)
        self.register_buffer("w_avg", torch.zeros(len(NAMES)))

    def broadcast(self, w):
        return w[:, None]

    def synthesis(self, w_plus, **_):
        low, high = (torch.tensor([getattr(f, end) for f in TABLE], dtype=torch.float) for end in ("low", "high"))
        return render(Factors(w_plus[:, 0].clamp(low, high)), 64)


def turn(**factors: float) -> Direction:
    vector = torch.zeros(len(NAMES))
    for name, value in factors.items():
        vector[NAMES.index(name)] = value
    return Direction("yaw", vector, STD)


EDITS = {"true": turn(yaw=STD), "leaky": turn(yaw=STD, hair_length=0.5, skin_tone=0.3), "still": turn()}


@pytest.fixture(scope="module")
def faces():
    return recipe.training_faces(4, seed=3)


@pytest.fixture(scope="module")
def inversion(faces):
    G = FactorWorld()
    return Inversion(State(faces.factors.values[:, None]), faces.images, G, "exact")


@pytest.fixture(scope="module")
def reader():
    return losses_reader()


def test_total_error_of_known_edits(faces, inversion, reader):
    trials = {name: recipe.try_edit(edit, inversion, faces, reader, name) for name, edit in EDITS.items()}
    assert trials["true"].error < 0.3 and trials["true"].matched == 1
    assert trials["true"].gain == pytest.approx(1, abs=0.2)
    assert trials["leaky"].error > trials["true"].error + 0.3
    assert trials["still"].error == 1 and trials["still"].matched == 0  # never reaches the target: no edit at all


class ReadOnly(Evidence):
    """Evidence without samples, which nothing here looks at."""

    def __init__(self, G, reader):
        self.G, self.reader = G, reader


def test_the_least_total_error_is_chosen_and_trials_are_kept(faces, inversion, reader, tmp_path, monkeypatch):
    asked = []

    def find(evidence, way, name):
        asked.append(way)
        if way == "none":
            raise ValueError("expected that it moves, got 0")
        return EDITS[way]

    monkeypatch.setattr(recipe, "find_edit", find)
    evidence, ways = ReadOnly(inversion.generator, reader), ("leaky", "true", "none")
    how = {"factors": ["yaw"], "ways": ways}
    chosen, trials = recipe.choose_edits(evidence, inversion, faces, tmp_path, **how)
    torch.testing.assert_close(chosen["yaw"].vector, EDITS["true"].vector)
    assert [trial.way for trial in trials] == list(ways)
    assert trials[2].refused == "expected that it moves, got 0" and trials[2].error == 1
    assert json.loads((tmp_path / "yaw.leaky.json").read_text())["error"] == trials[0].error
    again, _ = recipe.choose_edits(evidence, inversion, faces, tmp_path, **how)
    assert asked == list(ways)  # nothing was found again
    torch.testing.assert_close(again["yaw"].vector, chosen["yaw"].vector)
    assert recipe.choose_edits(evidence, inversion, faces, tmp_path, factors=["yaw"], ways=["none"])[0] == {}
    found, _ = recipe.choose_edits(evidence, inversion, faces, tmp_path, factors=["yaw"], ways=["none", "still"])
    torch.testing.assert_close(found["yaw"].vector, EDITS["still"].vector)  # any edit rather than a refusal
