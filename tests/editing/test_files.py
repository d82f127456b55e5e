"""Every kind of edit comes back from its file the same, and only for the generator that it belongs to."""

import numpy as np
import pytest
import torch

from latentlab.editing.calibration import Calibrated
from latentlab.editing.corrected import correct
from latentlab.editing.edit import Direction, Edit, State, restrict
from latentlab.editing.files import load_edit, read_directions, save_edit
from latentlab.editing.regression import pn_direction
from latentlab.editing.samples import Reader, draw_samples
from latentlab.editing.stylespace import StyleDirection
from latentlab.spaces import measure_statistics
from latentlab.stylegan.generator import Generator, GeneratorConfig

READ = Reader(lambda x: x.flatten(1)[:, 100:103], ("a", "b", "c"))


@pytest.fixture(scope="module")
def G() -> Generator:
    return Generator(GeneratorConfig(16, 16, 16, 2, (16, 16, 8)), seed=1).requires_grad_(False).eval()


@pytest.fixture(scope="module")
def edits(G) -> dict[str, Edit]:
    draw, statistics = torch.Generator().manual_seed(0), measure_statistics(G, 2_000)
    vector = 0.3 * torch.randn(16, generator=draw)
    shifts = tuple(0.1 * torch.randn(s.channels, generator=draw) for s in G.style_layers)
    found = {
        "w": Direction("a", vector, 0.5, source="by hand"),
        "w_plus": Direction("a", vector.repeat(G.num_ws, 1)),
        "pn": pn_direction("a", vector, statistics, source="by hand", std=2.0),
        "style": StyleDirection("a", shifts, layers=(1, 2)),
    }
    found["calibrated"] = Calibrated(restrict(found["pn"], [0, 3]), 1.5, 0.2, "measured", "by hand; calibrated")
    samples = draw_samples(G, READ, n=50)
    found["corrected"] = correct(found["w"], G, READ, held=["b"], samples=samples, statistics=statistics)
    try:
        from latentlab.editing.styleflow import flow_edit, train_flow

        found["flow"] = flow_edit(train_flow(samples, ["a"], hidden=(8,), steps=3), "a", G, READ, layers=[1])
    except ValueError:  # without zuko
        pass
    return found


@pytest.mark.parametrize("kind", ["w", "w_plus", "pn", "style", "calibrated", "corrected", "flow"])
def test_comes_back_the_same(G, edits, kind, tmp_path):
    if kind not in edits:
        pytest.skip("needs zuko, of the extra 'editing'")
    edit, path = edits[kind], tmp_path / "edit.safetensors"
    save_edit(path, edit, G)
    again = load_edit(path, G, READ)
    state = State(G.broadcast(G.mapping(torch.randn(2, 16, generator=torch.Generator().manual_seed(1)))))
    strengths = torch.tensor([1.0, -2.0])
    expected = edit(state, strengths, G).draw(G)
    torch.testing.assert_close(again(state, strengths, G).draw(G), expected, atol=1e-5, rtol=1e-5)
    assert (expected - state.draw(G)).abs().max() > 1e-3
    for field in ("name", "unit", "space", "layers", "source"):
        assert getattr(again, field) == getattr(edit, field)
    assert again.std == pytest.approx(edit.std, nan_ok=True) and path.stat().st_size < 20_000


def test_another_generator_is_refused(G, edits, tmp_path):
    path, other = tmp_path / "edit.safetensors", Generator(GeneratorConfig(16, 16, 16, 2, (16, 16, 8)), seed=2)
    for kind in ("w", "style", "calibrated"):
        save_edit(path, edits[kind], G)
        with pytest.raises(ValueError, match="expected an edit of (mapping|generator) .*load it with the generator"):
            load_edit(path, other)
    # the same mapping network, other convolutions: W is the same, S is not
    sibling = Generator(GeneratorConfig(16, 16, 16, 2, (16, 16, 8)), seed=1).requires_grad_(False)
    sibling.blocks["16"].conv1.affine.weight.mul_(1.1)
    save_edit(path, edits["w"], G)
    assert torch.equal(load_edit(path, sibling).vector, edits["w"].vector)
    for kind in ("style", "corrected"):
        save_edit(path, edits[kind], G)
        with pytest.raises(ValueError, match="expected an edit of generator"):
            load_edit(path, sibling, READ)
    with pytest.raises(ValueError, match="expected the mapping network"):
        save_edit(path, edits["pn"], other)


def test_bad_files(unchecked, G, edits, tmp_path):
    path = tmp_path / "edit.safetensors"
    save_edit(path, edits["corrected"], G)
    with pytest.raises(ValueError, match="read: expected one for a, b, c, got one for x, y, z"):
        load_edit(path, G, READ.read, ["x", "y", "z"])
    from latentlab.weights import write_tensors

    write_tensors(path, {"x": torch.zeros(1)}, {})
    with pytest.raises(ValueError, match="expected an edit written by save_edit"):
        load_edit(path, G)

    class Other(Edit):
        def __call__(self, state, strengths, G):
            return state

    other = Other()
    other.name, other.std, other.unit, other.source = "x", 1.0, "", ""
    with pytest.raises(ValueError, match="got Other; it cannot be saved"):
        save_edit(path, other, G)


def test_directions_of_public_repositories(G, tmp_path):
    v = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    np.save(tmp_path / "boundary.npy", v[:1].numpy())
    torch.save(v[:1], tmp_path / "age.pt")
    torch.save({"comp": v[:, None], "mean": v[0], "std": v[0, :5]}, tmp_path / "pca.pt")
    torch.save({"ckpt": "x.pt", "eigvec": v.T}, tmp_path / "factor.pt")
    np.save(tmp_path / "layers.npy", v[:1].expand(6, 16).numpy())
    for file, rows in {"boundary.npy": v[:1], "age.pt": v[:1], "pca.pt": v, "factor.pt": v}.items():
        found = read_directions(tmp_path / file, G)
        torch.testing.assert_close(torch.stack([d.vector for d in found.values()]), rows)
        assert all(d.source == file for d in found.values())
    assert list(read_directions(tmp_path / "pca.pt", G)) == [f"pca {i}" for i in range(5)]
    assert read_directions(tmp_path / "layers.npy", G)["layers"].vector.shape == (6, 16)
    np.save(tmp_path / "large.npy", np.zeros((1, 512)))
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object))
    torch.save({"weights": v}, tmp_path / "model.pt")
    for file, says in {"large.npy": "16 dimensions of W, got shape .*512", "object.npy": "does not load",
                       "model.pt": "got weights", "x.txt": "expected a .npy, .pt or .pth"}.items():  # fmt: skip
        with pytest.raises(ValueError, match=says):
            read_directions(tmp_path / file, G)
