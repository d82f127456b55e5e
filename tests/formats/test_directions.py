"""Directions from the files that people have."""

import zipfile

import foreign
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from latentlab.formats.directions import read_directions

VECTOR = torch.arange(1.0, 9.0)
LAYERS = torch.arange(1.0, 25.0).reshape(3, 8)


def test_one_direction_is_named_after_its_file(tmp_path):
    np.save(tmp_path / "smile.npy", VECTOR.double().numpy()[None])  # InterFaceGAN: (1, D), float64
    foreign.dump_torch(VECTOR[None], tmp_path / "age.pt")  # e4e: (1, D)
    foreign.dump_torch(LAYERS[None].requires_grad_(), tmp_path / "pose.pt", legacy=True)
    for name, want in (("smile.npy", VECTOR), ("age.pt", VECTOR), ("pose.pt", LAYERS)):
        found = read_directions(tmp_path / name)
        assert found.keys() == {name.split(".")[0]} and torch.equal(found[name.split(".")[0]], want)


def test_several_directions_have_their_names(tmp_path):
    both = {"age": VECTOR, "pose": LAYERS}
    np.savez_compressed(tmp_path / "a.npz", **{k: v.numpy() for k, v in both.items()})
    foreign.dump_torch(both, tmp_path / "a.pt")
    save_file(both, tmp_path / "a.safetensors", metadata={"format": "pt"})  # as most libraries write it
    for suffix in ("npz", "pt", "safetensors"):
        found = read_directions(tmp_path / f"a.{suffix}")
        assert found.keys() == both.keys() and all(torch.equal(found[k], v) for k, v in both.items())


def test_components_of_ganspace_are_standard_deviations(tmp_path):
    components = {"lat_comp": torch.eye(8)[:3, None], "lat_stdev": torch.tensor([3.0, 2.0, 1.0]),
                  "lat_mean": torch.zeros(1, 8), "act_comp": torch.ones(3, 1, 8)}  # fmt: skip
    found = read_directions(foreign.dump_torch(components, tmp_path / "ffhq_pca.pt"))
    assert list(found) == ["component 0", "component 1", "component 2"]
    wanted = torch.eye(8)[:3] * torch.tensor([3.0, 2.0, 1.0])[:, None]
    assert torch.equal(torch.stack(list(found.values())), wanted)
    np.savez(tmp_path / "cached.npz", **{k: v.numpy() for k, v in components.items()})  # GANSpace's own cache
    assert torch.equal(torch.stack(list(read_directions(tmp_path / "cached.npz").values())), wanted)
    copy = {"comp": components["lat_comp"], "std": components["lat_stdev"], "mean": torch.zeros(8)}  # e4e's
    found = read_directions(foreign.dump_torch(copy, tmp_path / "copy.pt"))
    assert torch.equal(torch.stack(list(found.values())), wanted)
    del copy["std"]
    found = read_directions(foreign.dump_torch(copy, tmp_path / "plain.pt"))
    assert torch.equal(torch.stack(list(found.values())), torch.eye(8)[:3])
    with pytest.raises(ValueError, match=r"std: expected one for each of 3 components, got the shape \(8,\)"):
        read_directions(foreign.dump_torch(copy | {"std": torch.ones(8)}, tmp_path / "wrong.pt"))


def test_factors_are_columns(tmp_path):
    factors = {"ckpt": "stylegan2.pt", "eigvec": torch.arange(24.0).reshape(8, 3) + 1}
    found = read_directions(foreign.dump_torch(factors, tmp_path / "factor.pt"))
    assert list(found) == ["component 0", "component 1", "component 2"]
    assert torch.equal(found["component 1"], factors["eigvec"][:, 1])


def test_rows_of_one_array_stay_together(tmp_path):
    """One direction of W+ or several of W: only a generator tells."""
    rows = torch.arange(1.0, 401.0).reshape(50, 8)
    np.save(tmp_path / "rows.npy", rows.numpy())
    assert torch.equal(read_directions(tmp_path / "rows.npy")["rows"], rows)


@pytest.mark.parametrize("value, says", [
    (torch.zeros(8), "got zeros"), (torch.full((8,), torch.nan), "NaN"), (torch.ones(()), "got the shape"),
    (torch.ones(4, 3, 8), r"got the shape \(4, 3, 8\)"), ({"epoch": 3}, "no directions")])  # fmt: skip
def test_what_is_no_direction_is_refused(tmp_path, value, says):
    with pytest.raises(ValueError, match=rf"a.pt: .*{says}"):
        read_directions(foreign.dump_torch(value, tmp_path / "a.pt"))


def test_arrays_of_objects_and_bombs_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}, print], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="a.npy: expected an array of floats, got the header .*descr.*O"):
        read_directions(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.arange(8))
    with pytest.raises(ValueError, match="expected an array of floats, got the header .*<i8"):
        read_directions(tmp_path / "b.npy")
    with zipfile.ZipFile(tmp_path / "c.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x.npy", bytes(65 * 2**20))
    with pytest.raises(ValueError, match="c.npz: its arrays claim more than 64 MiB"):
        read_directions(tmp_path / "c.npz")
    (tmp_path / "d.npy").write_bytes(b"\x93NUMPY\x01\x00\x46\x00{'descr': '<f4', 'fortran_order': False, "
                                     b"'shape': (99999999999,), }" + b" " * 5 + b"\n")  # fmt: skip
    with pytest.raises(ValueError, match=r"d.npy: an array of shape \(99999999999,\) is claimed, and"):
        read_directions(tmp_path / "d.npy")


@pytest.mark.parametrize("array", [
    LAYERS.numpy().T, LAYERS.numpy().astype(np.float16), LAYERS.double().numpy()[:, None], VECTOR.numpy()[::2]])
def test_arrays_are_read_as_numpy_reads_them(tmp_path, array):
    """By columns and by rows, of every width, in every version of the layout."""
    for version in ((1, 0), (2, 0), (3, 0)):
        with open(tmp_path / "a.npy", "wb") as file:
            np.lib.format.write_array(file, array, version)
        want = torch.from_numpy(np.load(tmp_path / "a.npy").astype(np.float32)).squeeze()
        assert torch.equal(read_directions(tmp_path / "a.npy")["a"], want)
