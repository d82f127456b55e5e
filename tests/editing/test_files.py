"""Every kind of edit comes back from its file the same, and only for the generator that it belongs to."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from latentlab.editing.calibration import Calibrated, fingerprint_for
from latentlab.editing.corrected import correct
from latentlab.editing.edit import Direction, Edit, State, restrict
from latentlab.editing.files import load_edit, read_edits, save_edit
from latentlab.editing.regression import pn_direction
from latentlab.editing.samples import Reader, draw_samples
from latentlab.editing.stylespace import StyleDirection
from latentlab.spaces import measure_statistics
from latentlab.stylegan.generator import Generator, GeneratorConfig

READ = Reader(lambda x: x.flatten(1)[:, 100:103], ("a", "b", "c"))


@pytest.fixture(scope="module")
def G() -> Generator:
    return Generator(GeneratorConfig(16, 16, 16, 2, (16, 16, 8)), seed=1).requires_grad_(False).eval()


def calibrated(edit: Edit, G: Generator) -> Calibrated:
    return Calibrated(edit, 1.5, fingerprint_for(edit, G), 0.2, "measured", "by hand; calibrated")


def codes(G: Generator) -> State:
    return State(G.broadcast(G.mapping(torch.randn(2, 16, generator=torch.Generator().manual_seed(1)))))


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
    for name, edit in (("calibrated", restrict(found["pn"], [0, 3])), ("calibrated style", found["style"])):
        found[name] = calibrated(edit, G)
    samples = draw_samples(G, READ, n=50)
    found["corrected"] = correct(found["w"], G, READ, held=["b"], samples=samples, statistics=statistics)
    try:
        from latentlab.editing.styleflow import flow_edit, train_flow

        found["flow"] = flow_edit(train_flow(samples, ["a"], hidden=(8,), steps=3), "a", G, READ, layers=[1])
    except ValueError:  # without zuko
        pass
    return found


@pytest.mark.parametrize("kind", ["w", "w_plus", "pn", "style", "calibrated", "calibrated style", "corrected", "flow"])
def test_comes_back_the_same(G, edits, kind, tmp_path):
    if kind not in edits:
        pytest.skip("needs zuko, of the extra 'editing'")
    edit, path = edits[kind], tmp_path / "edit.safetensors"
    save_edit(path, edit, G)
    again = load_edit(path, G, READ)
    state = codes(G)
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
    # and so is one that was calibrated with another, in whatever space it moves
    line = calibrated(edits["w"], G)
    assert calibrated(edits["style"], G)(codes(G), torch.ones(2), G).styles is not None
    assert torch.isfinite(line(codes(G), torch.ones(2), sibling).w_plus).all()
    for edit, generator in ((line, other), (calibrated(edits["style"], G), sibling)):
        with pytest.raises(ValueError, match="edit 'a': expected a generator .*; find the edit again"):
            edit(codes(G), torch.ones(2), generator)


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
    torch.save({"comp": v[:, None], "mean": v[0], "std": v[0, :5].abs()}, tmp_path / "pca.pt")
    torch.save({"ckpt": "x.pt", "eigvec": v.T}, tmp_path / "factor.pt")
    torch.save({"up": v[0], "down": -v[0]}, tmp_path / "named.pt")
    np.save(tmp_path / "rows.npy", v.numpy())
    np.save(tmp_path / "layers.npy", v[:1].expand(6, 16).numpy())
    wanted = {"boundary.npy": v[:1], "age.pt": v[:1], "pca.pt": v * v[0, :5].abs()[:, None], "factor.pt": v,
              "named.pt": torch.stack([v[0], -v[0]]), "rows.npy": v}  # fmt: skip
    for file, rows in wanted.items():
        found = read_edits(tmp_path / file, G)
        torch.testing.assert_close(torch.stack([d.vector for d in found.values()]), rows)
        assert all(d.source == file and d.name == name and d.space == "W" for name, d in found.items())
    assert list(read_edits(tmp_path / "factor.pt", G)) == [f"component {i}" for i in range(5)]
    assert list(read_edits(tmp_path / "rows.npy", G)) == [f"rows {i}" for i in range(5)]
    assert list(read_edits(tmp_path / "named.pt", G)) == ["up", "down"]
    assert read_edits(tmp_path / "layers.npy", G)["layers"].vector.shape == (G.num_ws, 16)


def test_own_edits_and_public_directions_open_the_same_way(G, edits, tmp_path):
    save_edit(tmp_path / "mine.safetensors", edits["pn"], G)
    assert read_edits(tmp_path / "mine.safetensors", G)["a"].source == "by hand"
    save_file({"smile": torch.ones(16)}, tmp_path / "public.safetensors")
    assert torch.equal(read_edits(tmp_path / "public.safetensors", G)["smile"].vector, torch.ones(16))


def test_files_that_are_no_directions_of_this_generator(G, tmp_path):
    np.save(tmp_path / "large.npy", np.zeros((1, 512)) + 1)
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object))
    torch.save({"conv.weight": torch.ones(4, 3, 8, 8)}, tmp_path / "model.pt")
    (tmp_path / "x.txt").write_text("smile, age")
    (tmp_path / "broken.safetensors").write_bytes(b"\x10" + bytes(7) + b"{" + bytes(4))
    for file, says in {"large.npy": r"16 dimensions of W, got the shape \(512,\) in 'large'; is it of another",
                       "object.npy": "object.npy: ", "model.pt": r"conv.weight: expected a direction .* got the shape",
                       "x.txt": "no file of weights", "broken.safetensors": "broken"}.items():  # fmt: skip
        with pytest.raises(ValueError, match=says):
            read_edits(tmp_path / file, G)
    with pytest.raises(FileNotFoundError, match="nowhere.npy: expected a file of edits or directions"):
        read_edits(tmp_path / "nowhere.npy", G)
