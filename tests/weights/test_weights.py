"""Shipped weights: complete, found by generator, checked for damage."""

import pytest
import torch

from latentlab import weights
from latentlab.editing.shipped import directions_for
from latentlab.faces import sketch
from latentlab.spaces import fingerprint, statistics_for
from latentlab.stylegan.generator import Generator, GeneratorConfig
from latentlab.weights.generators import generator_names, load, load_discriminator


def test_everything_shipped_opens():
    for file in weights.read_manifest():
        tensors, _ = weights.read_weights(file)
        assert tensors and all(torch.isfinite(t).all() for t in tensors.values() if t.is_floating_point())


def test_shipped_generator_is_whole():
    assert "faces-64" in generator_names()
    G = load("faces-64")
    assert (G.resolution, G.z_dim, G.w_dim) == (64, 128, 128)
    statistics = statistics_for(G)
    assert statistics.n == 1_000_000 and statistics.floor == 1e-4
    torch.testing.assert_close(G.w_avg, statistics.w_mean.float(), atol=2e-3, rtol=1e-2)
    logits = load_discriminator("faces-64")(torch.zeros(4, 3, 64, 64))
    assert logits.shape == (4, 1)


def test_the_sketch_generator_draws_the_same_faces():
    """For over 90 of 100 codes, its image is nearest to the sketch of the face that faces-64 makes of that code."""
    G, S = load("faces-64"), load("faces-64-sketch")
    w_plus = G.broadcast(G.mapping(torch.randn(100, 128, generator=torch.Generator().manual_seed(0))))
    drawn, faces = S.synthesis(w_plus), G.synthesis(w_plus)
    assert drawn.std(1).mean() < 0.1 < faces.std(1).mean()  # hardly any colour
    nearest = torch.cdist(drawn.flatten(1), sketch(faces).flatten(1)).argmin(1)
    assert (nearest == torch.arange(100)).float().mean() > 0.9


def test_files_are_found_by_the_fingerprint_of_their_generator():
    mark = fingerprint(load("faces-64"))
    for kind in ("discriminator", "statistics", "directions"):
        assert weights.find(kind, mark) == f"faces-64.{kind}.safetensors"
        assert weights.find(kind, "0123456789ab") is None
    assert weights.find("w_encoder", mark) is None
    assert fingerprint(untrained := Generator(GeneratorConfig(16, 16, 16, 2, (16, 16, 8)))) != mark
    assert statistics_for(untrained).n == 100_000  # measured, because none are shipped
    with pytest.raises(ValueError, match="expected a generator with shipped directions"):
        directions_for(untrained)


def test_find_does_not_guess(tmp_path):
    for file, mark in {"a.e4e": "aaa", "b.e4e": "bbb", "c.e4e": "bbb", "a.statistics": "bbb"}.items():
        weights.publish(f"{file}.safetensors", {"x": torch.ones(1)}, {}, {"fingerprint": mark}, folder=tmp_path)
    weights.publish("judge.safetensors", {"x": torch.ones(1)}, {}, {}, folder=tmp_path)
    assert weights.find("e4e", "aaa", tmp_path) == "a.e4e.safetensors"
    assert weights.find("statistics", "aaa", tmp_path) is None
    with pytest.raises(ValueError, match="expected one e4e file .* bbb, got b.e4e.safetensors, c.e4e"):
        weights.find("e4e", "bbb", tmp_path)
    with pytest.raises(ValueError, match="kind: expected one of generator, .*, e4e, .*, got 'encoders'"):
        weights.find("encoders", "aaa", tmp_path)


def test_a_changed_byte_is_found(tmp_path):
    weights.publish("a.safetensors", {"x": torch.ones(3)}, {}, {"seed": 0}, folder=tmp_path)
    tensors, _ = weights.read_weights("a.safetensors", tmp_path)
    assert torch.equal(tensors["x"], torch.ones(3))
    weights._check.cache_clear()
    path = tmp_path / "a.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    with pytest.raises(ValueError, match="a.safetensors: expected the manifest's sha256 .* damaged or was replaced"):
        weights.read_weights("a.safetensors", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"shipped files \(a.safetensors\), got 'b.safetensors'"):
        weights.read_weights("b.safetensors", tmp_path)


def test_half_precision_and_metadata_survive(tmp_path):
    x = torch.randn(5, generator=torch.Generator().manual_seed(0))
    weights.write_tensors(tmp_path / "a", {"x": x, "n": torch.arange(3)}, {"names": ["p", "q"]}, half=True)
    tensors, metadata = weights.read_tensors(tmp_path / "a")
    assert torch.equal(tensors["x"], x.half().float()) and tensors["n"].dtype == torch.int64
    assert metadata == {"names": ["p", "q"]}


def test_files_that_are_no_generator_are_refused(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="no file of weights that is known here"):
        load(tmp_path / "a.safetensors")
    (tmp_path / "a.safetensors").write_bytes(bytes([200, *[0] * 7]) + b'{"x":')
    with pytest.raises(ValueError, match="a.safetensors: expected a safetensors file written by latentlab, got"):
        load(tmp_path / "a.safetensors")
    weights.write_tensors(tmp_path / "b.safetensors", {"x": torch.ones(1)}, {})
    with pytest.raises(ValueError, match="no generator that is known here; it holds x"):
        load(tmp_path / "b.safetensors")
    with pytest.raises(ValueError, match="no generator 'ffhq'.*faces-64"):
        load("ffhq")


def test_generator_round_trip(tmp_path):
    G = Generator(GeneratorConfig(16, 16, 16, 2, (16, 16, 8)), seed=1)
    weights.write_tensors(tmp_path / "g.safetensors", G.state_dict(), {"config": G.config.to_dict()})
    again, z = load(tmp_path / "g.safetensors"), torch.ones(1, 16)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in G.state_dict().items())
    torch.testing.assert_close(again(z), G(z))  # not bit for bit: convolutions in another memory format
