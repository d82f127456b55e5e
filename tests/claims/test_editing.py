"""Claims about edits on worlds whose answer is known: lines, scatter, matched errors, and the rules."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small import small_generator

from latentlab import claims
from latentlab.claims import editing
from latentlab.claims.finding import Finding
from latentlab.claims.runs import Bench
from latentlab.editing.edit import Direction
from latentlab.editing.ways import Evidence
from latentlab.evaluation import true_edit
from latentlab.faces import real_set
from latentlab.metrics import pn_norm
from latentlab.spaces import measure_statistics, statistics_for
from latentlab.stylegan.generator import Generator, GeneratorConfig

STD = {"smile": 0.3, "age": 0.2, "beard": 0.3, "glasses": 0.46}


def test_the_best_line_is_the_best():
    draw = torch.Generator().manual_seed(0)
    J = torch.randn(5, 3, 8, generator=draw, dtype=torch.float64)
    x = editing.best_line(J, 1)
    assert float(J.mean(0)[1] @ x) == pytest.approx(1)

    def loss(x: torch.Tensor) -> torch.Tensor:  # up to its length, which does not count
        t = torch.linspace(0.1, 3, 300).double()[:, None] * x
        e_k = torch.eye(3).double()[1]
        return ((t @ J.flatten(0, 1).T).unflatten(1, (5, 3)) - e_k).square().sum(2).mean(1).add(
            editing.RIDGE * t.square().sum(1)
        ).min()  # fmt: skip

    tried = [loss(x + 0.05 * torch.randn(8, generator=draw, dtype=torch.float64)) for _ in range(20)]
    assert min(tried) > loss(x)


def test_scatter_is_what_differs_between_faces():
    rows = np.arange(4)
    equal, opposite = np.ones((4, 3)), np.array([[1.0, -1, 1], [-1, 1, -1], [1, -1, 1], [-1, 1, -1]])
    shares = [float(editing._scatter_share(x, rows, 0)) for x in (equal, opposite, opposite + 1)]
    assert shares == pytest.approx([0, 1, 0.5])
    assert editing._scatter_share(opposite, np.zeros((7, 4)), 1) == pytest.approx(np.zeros(7))  # one face, four times


@pytest.fixture
def evidence(monkeypatch) -> Evidence:
    G = small_generator()

    def read(images: torch.Tensor) -> torch.Tensor:
        return torch.stack([images.mean((1, 2, 3)), images[:, 0].mean((1, 2))], 1)

    found = Evidence(G, read, ["light", "red"], n=400, statistics=measure_statistics(G, 20_000))
    monkeypatch.setattr(editing, "_evidence", lambda G, n: found)
    monkeypatch.setattr(editing, "FACTORS", ("light", "red"))
    monkeypatch.setattr(editing, "statistics_for", lambda G: found.statistics)
    return found


def test_distances_are_those_of_the_edited_codes(evidence):
    G, (n, _) = evidence.G, (24, None)
    found = editing._leaving(Bench(G))
    codes, s = editing._codes(G, n), evidence.statistics
    assert found.controls["unedited_pn_norm"] == pytest.approx(float(pn_norm(codes, s).mean()), rel=1e-3)
    edits = [editing._calibrated(evidence.pn_regression[name], evidence, False) for name in ("light", "red")]
    ends = [pn_norm(edit(editing.State(codes), torch.full((n,), 2.0), G).w_plus, s) for edit in edits]
    ratio = torch.stack(ends).log().mean() - pn_norm(codes, s).log().mean()
    assert found.measured["pn"] == pytest.approx(float(ratio.exp()), rel=1e-3)
    assert found.measured["w_by_pn"] == pytest.approx(found.measured["w"] / found.measured["pn"], rel=1e-3)
    assert statistics_for(G).fingerprint == s.fingerprint


@dataclass
class Blend:
    """An inversion without error whose edits lead towards the truth, and as much noise as their vector says."""

    faces: object
    interrupted: bool = False

    @property
    def image(self) -> torch.Tensor:
        return self.faces.images

    def __getitem__(self, rows) -> "Blend":
        return Blend(self.faces[rows])

    def edit(self, edit, strengths: torch.Tensor) -> torch.Tensor:
        truth = true_edit(self.faces, edit, editing.STRENGTH).images
        step = (strengths / editing.STRENGTH).view(-1, 1, 1, 1)
        noise = torch.randn(self.image.shape, generator=torch.Generator().manual_seed(0))
        return self.image + step * (truth - self.image + float(edit.vector) * noise)


def test_total_errors_are_at_matched_strength(monkeypatch):
    def edits(noise: float) -> dict[str, Direction]:
        return {name: Direction(name, torch.tensor([noise]), std) for name, std in STD.items()}

    monkeypatch.setattr(editing, "JUDGED", {False: (3, 1)})
    monkeypatch.setattr(editing, "Inversion", lambda *parts: Blend(real_set().clean[:3]))
    found = SimpleNamespace(latent=torch.zeros(3, 10, 16), image=torch.zeros(3, 3, 64, 64))
    monkeypatch.setattr(Bench, "find", lambda self, run, kind, n: found)
    monkeypatch.setattr(editing, "edits_for", lambda G: edits(0.0))
    monkeypatch.setattr(editing, "_evidence", lambda G, n: SimpleNamespace(w_regression=edits(0.1)))
    monkeypatch.setattr(editing, "_calibrated", lambda edit, evidence, full: edit)
    G = Generator(GeneratorConfig(64, 16, 16, 2, (8,) * 5))
    found = editing._worth(Bench(G))
    for name in STD:
        assert found.measured[f"default_{name}"] < 0.15 and found.measured[f"w_{name}"] > 0.5
        difference = found.measured[f"w_{name}"] - found.measured[f"default_{name}"]
        assert found.measured[f"w_minus_default_{name}"] == pytest.approx(difference, abs=1e-4)
        assert found.samples[f"default_{name}"]["n"] <= 3
    verdict, reason = claims.CLAIMS["EDIT-4"].judge(found)
    assert verdict in ("reproduced", "partly reproduced", "not reproduced") and "smile: better than no edit" in reason


def interval(**means: float) -> Finding:
    return Finding(means, {k: [v - 0.05, v + 0.05] for k, v in means.items()})


@pytest.mark.parametrize(
    "id, changed, says",
    [("EDIT-1", {}, "reproduced"), ("EDIT-1", {"w": 1.5}, "partly reproduced"),
     ("EDIT-1", {"pn": 3.0, "w_by_pn": 1.0}, "partly reproduced"),
     ("EDIT-2", {}, "reproduced"), ("EDIT-2", {"shrinks_beard_hair_length": 0.0}, "partly reproduced"),
     ("EDIT-2", {"plain_glasses_age": -0.3}, "partly reproduced"),
     ("EDIT-3", {}, "reproduced"), ("EDIT-3", {"scatter_share_age": 0.4}, "partly reproduced"),
     ("EDIT-3", {"shared_by_own_yaw": 1.5}, "partly reproduced"),
     ("EDIT-4", {}, "reproduced"), ("EDIT-4", {"default_age": 1.1}, "partly reproduced"),
     ("EDIT-4", {"w_minus_default_smile": -0.2}, "partly reproduced")],
)  # fmt: skip
def test_rules_of_editing(id: str, changed: dict, says: str):
    numbers = {
        "EDIT-1": {"w": 9.0, "pn": 1.1, "w_by_pn": 8.0},
        "EDIT-2": {f"{kind}_{a}_{b}": 0.3 for a, b, _ in editing.ENTANGLED for kind in ("plain", "shrinks")},
        "EDIT-3": {f"{kind}_{name}": v for name in editing.LINES
                   for kind, v in (("scatter_share", 0.8), ("shared_by_own", 5.0))},
        "EDIT-4": {f"{kind}_{name}": 0.5 for name in editing.FACTORS for kind in ("default", "w_minus_default")},
    }[id]  # fmt: skip
    assert claims.CLAIMS[id].judge(interval(**numbers | changed))[0] == says
