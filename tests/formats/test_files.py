"""Generators from files that are built as the real ones are: exact, told apart by content, explained if they fail."""

import argparse
import warnings
from pathlib import Path

import conformance
import foreign
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from latentlab.cli import main
from latentlab.formats import nvlabs, rosinality
from latentlab.formats.encoders import read_encoder
from latentlab.formats.generators import read_generator, state_shapes
from latentlab.stylegan import Generator, GeneratorConfig
from latentlab.weights.generators import convert, load

# Shape checks of every opcode take a hundred times as long as the opcode; tests/weights loads with them.
pytestmark = pytest.mark.usefixtures("unchecked")
CONFIG = GeneratorConfig(16, 10, 12, 2, (8, 8, 6))
TAPS = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 64


@pytest.fixture
def state():
    """Ours, with a mean that is not zero."""
    state = Generator(CONFIG, seed=3).state_dict()
    state["w_avg"] += torch.arange(12) / 10
    return state


def theirs(state):
    return nvlabs.generator_to(state) | {"synthesis.b8.conv0.resample_filter": TAPS}


def assert_holds(G, state, clamp=None):
    assert G.config == GeneratorConfig(16, 10, 12, 2, (8, 8, 6), clamp)
    got = G.state_dict()
    assert got.keys() == state.keys() and all(torch.equal(got[name], state[name]) for name in state)


# --- the real structures ------------------------------------------------------------------------------------


def test_nvidia_vectors_through_a_pickle(tmp_path):
    state, want = conformance.load("nvlabs_generator_64")
    G = load(foreign.dump_nvidia(state, tmp_path / "network-snapshot-000000.pkl"))
    assert conformance.error(G.mapping(want["z"]), want["ws"][:, 0]) < 1e-5
    assert conformance.error(G.synthesis(want["ws"]), want["image_const_noise"]) < 1e-5


@pytest.mark.parametrize("legacy", [False, True])
def test_rosinality_vectors_through_a_checkpoint(tmp_path, legacy):
    state, want = conformance.load("rosinality_generator_64")
    file = foreign.dump_torch({"g_ema": state, "latent_avg": torch.zeros(512)}, tmp_path / "550000.pt", legacy)
    G = load(file)
    w = G.mapping(want["z"])
    assert conformance.error(w, want["w"]) < 1e-5
    assert conformance.error(G.synthesis(G.broadcast(w)), want["image"]) < 1e-5


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_nvidia_pickles_of_every_protocol(tmp_path, state, protocol):
    snapshot = {"G": foreign.persistent(theirs(state) | {"mapping.w_avg": torch.zeros(12)}), "D": None}
    snapshot |= {"G_ema": foreign.persistent(theirs(state), clamp=256), "augment_pipe": None}
    assert_holds(load(foreign.dump(snapshot, tmp_path / "a.pkl", protocol)), state, 256)


def test_a_network_alone_and_a_plain_state_dict(tmp_path, state):
    assert_holds(load(foreign.dump(foreign.persistent(theirs(state)), tmp_path / "a.pkl")), state)
    assert_holds(load(foreign.dump_torch(nvlabs.generator_to(state), tmp_path / "a.bin")), state)
    with pytest.warns(UserWarning, match="G is used"):
        assert_holds(load(foreign.dump({"G": foreign.persistent(theirs(state))}, tmp_path / "a.pkl")), state)


def test_half_precision_is_widened(tmp_path, state):
    half = {key: tensor.half() for key, tensor in nvlabs.generator_to(state).items()}
    G = load(foreign.dump_torch(half, tmp_path / "a.pt"))
    assert_holds(G, {key: tensor.half().float() for key, tensor in state.items()})


def test_trainers_leave_more_than_weights(tmp_path, state):
    """rosinality's train.py saves both generators, the optimizers and an argparse.Namespace, and no latent_avg."""
    G, ours = Generator(CONFIG), rosinality.generator_to(state)
    adam = torch.optim.Adam(G.parameters())
    sum(p.sum() for p in G.parameters()).backward()
    adam.step()
    file = {"g": rosinality.generator_to(G.state_dict()), "d": {"x": torch.ones(2)}, "g_ema": ours, "ada_aug_p": 0.0,
            "g_optim": adam.state_dict(), "args": argparse.Namespace(size=16, lr=np.float64(0.002))}  # fmt: skip
    with pytest.warns(UserWarning, match="no mean latent .* 10,000 codes"):
        loaded = load(foreign.dump_torch(file, tmp_path / "a.pt"))
    mean = loaded.mapping(torch.randn(20_000, 10, generator=torch.Generator().manual_seed(1))).mean(0)
    torch.testing.assert_close(loaded.w_avg, mean, atol=0.05, rtol=0)
    assert_holds(loaded, state | {"w_avg": loaded.w_avg})
    with pytest.warns(UserWarning, match="no g_ema .* g is used"):
        load(foreign.dump_torch({"g": ours, "latent_avg": state["w_avg"]}, tmp_path / "b.pt"))


def test_files_of_data_parallel_and_without_noise(tmp_path, state):
    ours = {f"module.{k}": v for k, v in rosinality.generator_to(state).items() if not k.startswith("noises")}
    with pytest.warns(UserWarning, match="no noise maps"):
        G = load(foreign.dump_torch({"g_ema": ours, "latent_avg": state["w_avg"]}, tmp_path / "a.pt"))
    assert torch.equal(G.blocks["8"].conv0.weight, state["blocks.8.conv0.weight"])
    assert 0.5 < G.blocks["16"].conv1.noise_const.std() < 1.5


def encoder_file(state, kind="Encoder4Editing", rows=6):
    encoder = {f"encoder.{k}": torch.ones(2, 2) for k in ("input_layer.0.weight", "styles.0.linear.weight")}
    decoder = {f"decoder.{k}": v for k, v in rosinality.generator_to(state).items()}
    return {"state_dict": encoder | decoder, "latent_avg": state["w_avg"].repeat(rows, 1),
            "opts": {"encoder_type": kind, "device": "cuda:0", "learning_rate": 1e-4}}  # fmt: skip


@pytest.mark.parametrize("class_name, kind", [
    ("Encoder4Editing", "e4e"), ("GradualStyleEncoder", "psp"), ("ProgressiveBackboneEncoder", "restyle_e4e"),
    ("BackboneEncoder", "restyle_psp")])  # fmt: skip
def test_encoder_checkpoints_hold_a_generator_and_an_encoder(tmp_path, state, class_name, kind):
    path = foreign.dump_torch(encoder_file(state, class_name), tmp_path / "a.pt")
    G = load(path)
    torch.testing.assert_close(G.w_avg, state["w_avg"])
    assert_holds(G, state | {"w_avg": G.w_avg})
    found = read_encoder(path)
    assert (found.kind, found.options["learning_rate"], found.latent_avg.shape) == (kind, 1e-4, (6, 12))
    assert found.state.keys() == {"input_layer.0.weight", "styles.0.linear.weight"}


def test_encoders_that_do_not_say_what_they_are(tmp_path, state):
    file = encoder_file(state)
    del file["opts"]
    path = foreign.dump_torch(file, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="pass kind=, one of psp, e4e"):
        read_encoder(path)
    assert read_encoder(path, kind="psp").kind == "psp"
    alone = {"state_dict": {"encoder.cross_attention.0.norm1.weight": torch.ones(2)}, "opts": argparse.Namespace(x=1)}
    found = read_encoder(foreign.dump_torch(alone, tmp_path / "b.pt"))
    assert (found.kind, found.options, found.latent_avg) == ("clcae", {"x": 1}, None)
    with pytest.raises(ValueError, match="no encoder in it"):
        read_encoder(foreign.dump_torch({"g_ema": rosinality.generator_to(state)}, tmp_path / "c.pt"))


def test_rows_of_latent_avg_that_differ_are_reported(tmp_path, state):
    file = encoder_file(state)
    file["latent_avg"] = file["latent_avg"] + torch.arange(6.0)[:, None]
    with pytest.warns(UserWarning, match="6 different rows"):
        G = load(foreign.dump_torch(file, tmp_path / "a.pt"))
    torch.testing.assert_close(G.w_avg, state["w_avg"] + 2.5)


# --- conditional --------------------------------------------------------------------------------------------


def conditional(state, classes=5):
    draw = torch.Generator().manual_seed(7)
    embed = {"mapping.embed.weight": torch.randn(12, classes, generator=draw),
             "mapping.embed.bias": torch.randn(12, generator=draw)}  # fmt: skip
    first = {"mapping.fc0.weight": torch.randn(12, 22, generator=draw) * 100}
    return theirs(state) | embed | first


def mapped(state, z, c):
    """w as StyleGAN2-ADA computes it: both inputs normalised, concatenated, two layers."""
    def unit(x):
        return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()

    y = c @ state["mapping.embed.weight"].T / c.shape[1] ** 0.5 + state["mapping.embed.bias"]
    x = torch.cat([unit(z), unit(y)], 1)
    for i in range(2):
        weight, bias = state[f"mapping.fc{i}.weight"], state[f"mapping.fc{i}.bias"]
        x = nn.functional.leaky_relu(x @ weight.T * 0.01 / weight.shape[1] ** 0.5 + bias * 0.01, 0.2) * 2**0.5
    return x


@pytest.mark.filterwarnings("ignore:.*conditional")
def test_a_conditional_model_is_opened_for_a_condition(tmp_path, state):
    ours = conditional(state)
    path = foreign.dump_nvidia(ours, tmp_path / "cifar10.pkl")
    z = torch.randn(4, 10, generator=torch.Generator().manual_seed(1))
    for c, vector in ((3, [0, 0, 0, 1.0, 0]), ([0.5, 0.5, 0, 0, 0], [0.5, 0.5, 0, 0, 0])):
        want = mapped(ours, z, torch.tensor([vector]).repeat(4, 1))
        torch.testing.assert_close(load(path, c=c).mapping(z), want, rtol=1e-5, atol=1e-6)
    for c in (None, 5, [1.0, 0]):
        with pytest.raises(ValueError, match=r"c: expected a class 0..4 or a vector \(5,\)"):
            load(path, c=c)
    with pytest.raises(ValueError, match="c: expected None, got 1: faces-64 has no conditions"):
        load("faces-64", c=1)
    with pytest.raises(ValueError, match="c: expected None, got 1: .*no conditions"):
        load(foreign.dump_nvidia(theirs(state), tmp_path / "a.pkl"), c=1)


# --- conversion ----------------------------------------------------------------------------------------------


def test_conversion_is_exact_and_told(tmp_path, state):
    source = foreign.dump_nvidia(theirs(state), tmp_path / "a.pkl", clamp=256)
    out, notes = convert(source)
    assert out == tmp_path / "a.safetensors" and notes == []
    assert_holds(load(out), state, 256)
    with pytest.raises(ValueError, match="a.safetensors: expected a new file"):
        convert(source)
    anywhere, _ = convert(source, tmp_path / "sub" / "b.bin")
    assert_holds(load(anywhere), state, 256)  # its content tells what it is


def test_shapes_of_the_state_are_those_of_a_generator(state):
    assert state_shapes(CONFIG) == {name: tuple(tensor.shape) for name, tensor in state.items()}


# --- what is no generator --------------------------------------------------------------------------------------

SG3 = {"synthesis.input.freqs": torch.ones(2), "synthesis.L0_36_512.weight": torch.ones(2)}
DISCRIMINATOR = {"b16.fromrgb.weight": torch.ones(2), "b4.fc.weight": torch.ones(2)}
WRONG_BYTES = {
    "empty": (b"", "it is empty"),
    "page": (b"\n<!DOCTYPE html><html><title>Google Drive - Quota exceeded</title>", "web page .*quota"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 381", "LFS pointer.*git lfs pull"),
    "json": (b'{"error": {"code": 403}}', "JSON text"),
    "array": (b"\x93NUMPY\x01\x00", "numpy array.*read_directions"),
    "gzip": (b"\x1f\x8b\x08\x00", "unpack it"),
    "hdf5": (b"\x89HDF\r\n\x1a\n", "HDF5"),
    "picture": (b"\x89PNG\r\n\x1a\n", "picture"),
    "hole": (bytes(4096), "begins with zeros"),
    "text": (b"hello, these are no weights", "no file of weights that is known"),
    "zip": (b"PK\x03\x04" + bytes(100), "no readable table of contents"),
}
WRONG_VALUES = {
    "stylegan3": ({"G_ema": SG3}, "StyleGAN3 generator.*StyleGAN2 configurations of that"),
    "stylegan1": ({"g_synthesis.blocks.4x4.const": torch.ones(2)}, "StyleGAN1"),
    "discriminator": ({"d": {"final_linear.0.weight": torch.ones(2)}}, "discriminator alone"),
    "optimizer": ({"g_optim": {"state": {}, "param_groups": []}}, "optimizer alone"),
    "encoder": ({"state_dict": {"encoder.styles.0.convs.0.weight": torch.ones(2)}}, "encoder and no generator"),
    "arcface": ({"output_layer.3.weight": torch.ones(2)}, "ArcFace.*load_identity"),
    "direction": (torch.ones(1, 512), r"one tensor of shape \(1, 512\)"),
    "numbers": ([1, 2], "holds a list"),
    "nothing": ({}, "no generator that is known here; it holds nothing"),
    "other": ({"epoch": 3, "model": {"layer1.weight": torch.ones(2)}}, "it holds epoch, model, layer1.weight"),
}


@pytest.mark.parametrize("name", WRONG_BYTES)
def test_what_is_no_weights_is_named(tmp_path, name):
    content, says = WRONG_BYTES[name]
    (tmp_path / "ffhq.pt").write_bytes(content)
    with pytest.raises(ValueError, match=rf"ffhq.pt: .*{says}"):
        load(tmp_path / "ffhq.pt")


@pytest.mark.parametrize("name", WRONG_VALUES)
def test_weights_of_something_else_are_named(tmp_path, name):
    value, says = WRONG_VALUES[name]
    with pytest.raises(ValueError, match=rf"a.pt: .*{says}"):
        load(foreign.dump_torch(value, tmp_path / "a.pt"))


@pytest.mark.parametrize("networks, says", [
    ({"G_ema": foreign.persistent(SG3)}, "StyleGAN3"),
    ({"D": foreign.persistent(DISCRIMINATOR, "Discriminator")}, "discriminator alone"),
    ({"augment_pipe": foreign.persistent({"x": torch.ones(1)}, "AugmentPipe")}, "no generator"),
])  # fmt: skip
def test_nvidia_pickles_of_something_else_are_named(tmp_path, networks, says):
    with pytest.raises(ValueError, match=says):
        load(foreign.dump(networks, tmp_path / "a.pkl"))


def test_tensorflow_pickles_get_advice(tmp_path):
    (tmp_path / "a.pkl").write_bytes(b"\x80\x03cdnnlib.tflib.network\nNetwork\nq\x00)\x81.")
    with pytest.raises(ValueError, match="TensorFlow.*legacy.py.*StyleGAN1"):
        load(tmp_path / "a.pkl")


def changed(state, **tensors):
    return state | {name.replace("__", "."): tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize("change, says", [
    ({"synthesis__b8__conv0__weight": None}, r"generator \(16 px\) lacks blocks.8.conv0.weight: it is not whole"),
    ({"mapping__fc0__weight": None}, "mapping.fc0.weight: expected a matrix.*got none"),
    ({"mapping__fc0__weight": torch.ones(3)}, r"expected a matrix.*got one of shape \(3,\)"),
    ({"synthesis__b8__conv1__bias": torch.ones(9)}, "expected the shape"),
    ({"synthesis__b16__conv1__weight": torch.full((6, 6, 3, 3), torch.nan)}, "blocks.16.conv1.weight holds NaN"),
    ({"synthesis__b32__conv1__bias": torch.ones(6)}, "lacks blocks.32"),
    ({"synthesis__b20__conv1__bias": torch.ones(6)}, "power of two|widths"),
    ({"synthesis__b8__depth__weight": torch.ones(6)}, "unknown"),
    ({"synthesis__b8__resample_filter": torch.ones(4, 4)}, "expected the filter"),
    ({"mapping__w_avg": torch.ones(3)}, r"w_avg: expected the shape \(12,\), got \(3,\)"),
    ({"synthesis__b4__conv1__noise_strength": torch.ones(2)}, "expected the shape"),
])  # fmt: skip
def test_damaged_generators_are_refused(tmp_path, state, change, says):
    tensors = {k: v for k, v in changed(theirs(state), **change).items() if v is not None}
    with pytest.raises(ValueError, match=says):
        load(foreign.dump_nvidia(tensors, tmp_path / "a.pkl"))


@pytest.mark.parametrize("part, attributes, says", [
    ("synthesis", {"b8": {"architecture": "resnet"}}, "b8.architecture resnet instead of 'skip'"),
    ("mapping", {"fc1": {"bias_gain": 1.0}}, "fc1.bias_gain 1.0 instead of 0.01"),
    ("mapping", {"fc1": {"activation": "relu"}}, "fc1.activation relu"),
])  # fmt: skip
def test_generators_of_another_kind_are_refused(tmp_path, state, part, attributes, says):
    """What the tensors cannot tell is read from the attributes of the modules."""
    G = foreign.persistent(theirs(state))
    modules = G.attributes["_modules"][part].attributes["_modules"]
    for name, values in attributes.items():
        modules[name].attributes |= values
    with pytest.raises(ValueError, match=f"not known here: .*{says}"):
        load(foreign.dump({"G_ema": G}, tmp_path / "a.pkl"))
    G = foreign.persistent(theirs(state), clamp=256)
    G.attributes["_modules"]["synthesis"].attributes["_modules"]["b8"].attributes["_modules"]["conv0"].attributes[
        "conv_clamp"] = None  # fmt: skip
    with pytest.raises(ValueError, match="several clamps"):
        load(foreign.dump({"G_ema": G}, tmp_path / "a.pkl"))


def test_pictures_that_no_trained_generator_paints_are_reported(tmp_path, state):
    loud = state | {f"blocks.{r}.torgb.bias": torch.full((3,), 50.0) for r in (4, 8, 16)}
    with pytest.warns(UserWarning, match=r"most of the picture .* beyond \[-2, 2\]"):
        load(foreign.dump_nvidia(theirs(loud), tmp_path / "a.pkl"))
    flat = state | {f"blocks.{r}.torgb.weight": state[f"blocks.{r}.torgb.weight"] * 0 for r in (4, 8, 16)}
    with pytest.warns(UserWarning, match="of one colour"):
        load(foreign.dump_nvidia(theirs(flat), tmp_path / "b.pkl"))
    names = "blocks.16.torgb.weight", "blocks.16.torgb.affine.bias"
    wild = state | {name: state[name] * 1e30 for name in names}
    with pytest.raises(ValueError, match="mean latent holds NaN or infinite"):
        load(foreign.dump_nvidia(theirs(wild), tmp_path / "c.pkl"))


def test_reading_leaves_no_note_for_a_sound_file(tmp_path, state):
    with warnings.catch_warnings(action="error"):
        load(foreign.dump_nvidia(theirs(state), tmp_path / "a.pkl"))
    assert read_generator(tmp_path / "a.pkl").notes == []


def test_unknown_names_are_told(tmp_path):
    with pytest.raises(ValueError, match="no generator 'nowhere.pkl': expected a file.*faces-64.*ffhq-1024"):
        load(Path("nowhere.pkl"))


def test_the_command_line_converts_and_inverts(tmp_path, capsys, monkeypatch):
    """A file of somebody else's, from the shell: a picture is inverted with it, and its statistics are kept."""
    monkeypatch.setenv("LATENTLAB_CACHE", str(tmp_path / "cache"))
    state = Generator(GeneratorConfig(32, 10, 12, 2, (8, 8, 6, 4)), seed=3).state_dict()
    file = {"g_ema": rosinality.generator_to(state), "latent_avg": state["w_avg"]}
    path = foreign.dump_torch(file, tmp_path / "own.pt")
    assert main(["convert", str(path)]) == 0
    assert capsys.readouterr().out == f"written to {tmp_path / 'own.safetensors'}\n"
    assert main(["convert", str(path)]) == 2
    assert "latentlab convert: " in (says := capsys.readouterr().err) and "expected a new file" in says
    Image.new("RGB", (40, 40), "grey").save(tmp_path / "grey.png")
    out, picture = tmp_path / "out", str(tmp_path / "grey.png")
    assert main(["invert", picture, "--generator", str(path), "--steps", "2", "--out", str(out)]) == 0
    assert (out / "grey.inversion.png").is_file() and len(list((tmp_path / "cache" / "statistics").iterdir())) == 1


@pytest.mark.slow
def test_a_full_size_generator_goes_through_all_formats_unchanged(tmp_path):
    """FFHQ's configuration at 1024 px: NVIDIA's pickle to .safetensors to rosinality's checkpoint and back."""
    config = GeneratorConfig(1024, 512, 512, 8, (512, 512, 512, 512, 512, 256, 128, 64, 32))
    state = Generator(config, seed=18).requires_grad_(False).state_dict()
    state["w_avg"] += torch.randn(512, generator=torch.Generator().manual_seed(0)) / 10
    first = load(convert(foreign.dump_nvidia(nvlabs.generator_to(state), tmp_path / "ffhq.pkl"))[0])
    file = {"g_ema": rosinality.generator_to(first.state_dict()), "latent_avg": first.w_avg}
    second = load(foreign.dump_torch(file, tmp_path / "ffhq.pt"))
    back = load(foreign.dump_nvidia(nvlabs.generator_to(second.state_dict()), tmp_path / "back.pkl"))
    for G in (first, second, back):
        assert G.config == config
        got = G.state_dict()
        assert all(torch.equal(got[name], state[name]) for name in state)
    w_plus = first.broadcast(first.w_avg[None])
    assert torch.equal(first.synthesis(w_plus), back.synthesis(w_plus))
