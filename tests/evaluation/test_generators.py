"""Measures of a latent space, on worlds whose answer is known."""

import math
import shutil

import pytest
import torch

from latentlab.editing.regression import fit_directions
from latentlab.evaluation import generators
from latentlab.evaluation.generator_page import PICTURES, SPACE, STEP
from latentlab.evaluation.generators import (
    Samples,
    change_samples,
    held_out_r2,
    measure_dimension,
    measure_linearity,
    measure_mapping,
    measure_path_length,
    path_lengths,
    summarize_changes,
)
from latentlab.faces import NAMES
from latentlab.jobs.pages import write_generators
from latentlab.seeds import stream
from latentlab.spaces import measure_statistics
from latentlab.stylegan.generator import Generator, GeneratorConfig

GRADES = ("psnr_db", "pn_norm")


def small_generator(seed: int = 0, mapping_layers: int = 2) -> Generator:
    config = GeneratorConfig(16, 64, 64, mapping_layers, (16, 16, 8))
    return Generator(config, seed=seed).requires_grad_(False).eval()


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_r2_is_that_of_scikit_learn_and_held_out():
    from sklearn.linear_model import LinearRegression

    x, noise = draw(300, 5), draw(300, 3, seed=1)
    y = x[:, :3] * torch.tensor([1.0, 1.0, 0.0]) + noise * torch.tensor([0.0, 1.0, 1.0])
    ours = held_out_r2(x, y)
    fitted = LinearRegression().fit(x[:200].numpy(), y[:200].numpy()).predict(x[200:].numpy())
    rest = ((fitted - y[200:].numpy()) ** 2).mean(0) / y[200:].var(0, correction=0).numpy()
    torch.testing.assert_close(ours, torch.from_numpy(1 - rest).float(), rtol=1e-3, atol=1e-3)
    assert ours[0] > 0.999 and 0.3 < ours[1] < 0.7 and ours[2] < 0.1


def test_deep_mapping_networks_have_a_lower_effective_dimension():
    """What the layers of an untrained mapping do to W; and of isotropic codes the dimension is all of them."""
    found = {}
    for layers in (1, 2, 8):
        G = small_generator(mapping_layers=layers)
        statistics = measure_statistics(G, 4_000)
        w = G.mapping(draw(600, 64))
        readings = w @ draw(64, len(NAMES), seed=2)  # every factor linear in W
        found[layers] = measure_dimension(statistics) | measure_linearity(statistics, Samples(w, readings, w, w))
    dimensions = [found[layers]["effective_dimension"] for layers in (1, 2, 8)]
    assert 0.4 * 64 < dimensions[0] < 64 and dimensions[0] > 1.2 * dimensions[1] > 2 * dimensions[2]
    assert all(f["r2_w"] > 0.99 and f["r2_w smile"] > 0.99 for f in found.values())
    assert all(f["r2_pn"] < f["r2_w"] for f in found.values())  # PN bends what is straight in W


@pytest.mark.parametrize("bent", [False, True])
def test_leakage_of_a_straight_step(monkeypatch, bent):
    """Where pictures are codes and factors linear in them, a direction moves its factor alone. Where another factor
    depends on the square of it, that one moves one way for some faces and the other way for others: scatter."""
    G = small_generator(mapping_layers=1)
    G.mapping.forward = lambda z: z
    G.synthesis = lambda w_plus, **_: w_plus[:, :1].unflatten(2, (8, 8)).expand(-1, 3, -1, -1) / 10
    axes = torch.linalg.qr(draw(64, 64, seed=4)).Q[:, : len(NAMES)]

    def read(network: object, x: torch.Tensor) -> torch.Tensor:
        factors = 10 * x[:, 0].flatten(1) @ axes
        if bent:
            factors[:, NAMES.index("roll")] += factors[:, NAMES.index("smile")].square()
        return factors

    monkeypatch.setattr(generators, "load_attribute_judge", lambda: None)
    monkeypatch.setattr(generators, "read_factors", read)
    w = draw(3_000, 64, seed=6)
    samples = Samples(w, read(None, G.synthesis(G.broadcast(w))), w, w)
    directions = fit_directions(samples.w, samples.readings, list(NAMES))
    changes = change_samples(G, samples, {name: directions[name] for name in ("smile", "yaw")})
    found = summarize_changes(changes)
    assert found["reached smile"] == pytest.approx(1, abs=0.1)
    others = len(NAMES) - 1
    if bent:  # roll moves by 2 s + 1, s the smile before, in units of its spread, sqrt(1 + 2)
        assert found["scatter smile"] == pytest.approx(2 / 3**0.5 / others, rel=0.5)
        assert found["leakage smile"] > 2 * found["leakage yaw"]
    else:
        assert found["leakage smile"] < 0.05 and found["scatter smile"] < 0.01


def test_path_length_of_a_linear_generator_does_not_vary():
    """|J^T y| is the same for every code up to the draw of y."""
    G = small_generator()
    matrix = draw(G.num_ws * 64, 3 * 16 * 16, seed=5) / 10
    G.synthesis = lambda w_plus: (w_plus.flatten(1) @ matrix).unflatten(1, (3, 16, 16))
    found = measure_path_length(path_lengths(G, 32))
    assert found["path_length_variation"] < 0.1
    bent = small_generator()
    bent.synthesis = lambda w_plus: (w_plus.flatten(1) @ matrix).unflatten(1, (3, 16, 16)) ** 3
    assert measure_path_length(path_lengths(bent, 32))["path_length_variation"] > 3 * found["path_length_variation"]


def test_how_far_the_mapping_has_moved():
    """From either start of a training; of a stranger it cannot be told."""
    for name in ("weights of G", "weights of a mapping"):
        G = small_generator(stream(7, name).initial_seed())
        assert measure_mapping(G, 7) == {"mapping_moved": 0.0}
        for layer in G.mapping.layers:
            layer.weight.mul_(1.25)
        assert measure_mapping(G, 7)["mapping_moved"] == pytest.approx(0.25)
    assert math.isnan(measure_mapping(small_generator(3), 7)["mapping_moved"])


@pytest.fixture
def run(tmp_path):
    """The folder of a training run."""
    G = small_generator()
    config = {"generator": G.config.to_dict(), "seed": 7, "path_length_weight": 2.0}
    (tmp_path / "mine").mkdir()
    torch.save({"config": config, "G_ema": G.state_dict(), "progress": (3, 24, 0.0)}, tmp_path / "mine/checkpoint.pt")
    return tmp_path / "mine"


def test_a_page_of_generators(monkeypatch, run, tmp_path):
    """A shipped one by name and a run by its folder, whose moving average is what counts. What was measured is kept,
    unless the weights have changed."""
    measured = []

    def measure(opened, n):
        measured.append(opened.name)
        return {"r2_w": 0.5, "r2_w low": 0.46, "r2_w high": 0.54, "axes_below_floor": 3.0} | measure_mapping(
            opened.G, opened.seed
        )

    monkeypatch.setattr(generators, "_measure", measure)
    sources = ["faces-64-deep", str(run)]
    table = write_generators(tmp_path, sources)
    assert table["generator"].tolist() == ["faces-64-deep", "mine"] and table["images"].tolist() == [600224, 24]
    assert table["mapping_layers"].tolist() == [8, 2] and table["mapping_moved"][0] < 0.05
    assert table["path_length_weight"].tolist() == [0, 2] and (tmp_path / "generators.png").is_file()
    page = (tmp_path / "generators.md").read_text()
    assert "| `mine` | 2 | 2 | 1 | 7 | 24 |" in page and "| 0.500 ± 0.040 |" in page
    write_generators(tmp_path, sources[::-1])
    assert measured == ["faces-64-deep", "mine"]  # kept, in any order
    state = torch.load(run / "checkpoint.pt")
    next(iter(state["G_ema"].values())).add_(1)
    torch.save(state, run / "checkpoint.pt")
    write_generators(tmp_path, sources)
    assert measured == ["faces-64-deep", "mine", "mine"]
    shutil.rmtree(run)  # its row stays
    later = write_generators(tmp_path, ["faces-64-deep"])
    assert later["generator"].tolist() == ["faces-64-deep", "mine"] and later["images"].tolist() == [600224, 24]
    assert (tmp_path / "generators.md").read_text().count("| `mine` | 2 | 2 | 1 | 7 | 24 |") == 1
    with pytest.raises(ValueError, match="no generator 'magic'"):
        write_generators(tmp_path, ["magic"])


def test_all_measures_of_a_generator(monkeypatch):
    """Those of samples have intervals, which hold them."""

    def samples(*_: object) -> Samples:
        return Samples(*(draw(120, k, seed=k) for k in (64, len(NAMES), 4, 5)))

    def learn(G: Generator, name: str) -> object:
        return fit_directions(draw(99, 64), draw(99, len(NAMES)), list(NAMES))[name]

    monkeypatch.setattr(generators, "draw_judged", samples)
    monkeypatch.setattr(generators, "render_judged", samples)
    monkeypatch.setattr(generators, "learn_edit", learn)
    monkeypatch.setattr(generators, "grade_all", lambda faces, *_: dict.fromkeys(GRADES, draw(len(faces))))
    monkeypatch.setattr(generators, "measure_statistics", lambda G, n: measure_statistics(G, 1_000))
    monkeypatch.setattr(generators, "read_factors", lambda judge, x: x.flatten(1)[:, : len(NAMES)])
    row = generators._measure(generators.Opened("mine", small_generator(), 7, {}), 120)
    names = [name for name in row if f"{name} low" in row]
    assert all(row[f"{name} low"] <= row[name] <= row[f"{name} high"] for name in names)
    assert set(SPACE) | set(STEP) | set(PICTURES) <= set(row)
    assert {"axes_below_floor", "effective_dimension", "mapping_moved"} == set(SPACE) - set(names)
