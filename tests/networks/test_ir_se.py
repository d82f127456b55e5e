"""IR-SE agrees with the backbone of the public pSp encoder, and ArcFace is read from a file of its names."""

import pytest
import torch
import torch.nn.functional as F
from conformance import TOLERANCE, error, load, rnd

from latentlab.judges.identity import load_identity_judge
from latentlab.networks.ir_se import UNITS, ArcFace, Trunk
from latentlab.seeds import stream


@pytest.fixture(scope="module")
def reference() -> tuple[dict, dict]:
    return load("psp_encoder_ir_se50_64", lambda key: key.startswith(("input_layer", "body", "styles.0.")))


def trunk_of(state: dict) -> dict:
    return {k: v for k, v in state.items() if not k.startswith("styles")}


def test_trunk_agrees_with_psp(reference):
    state, want = reference
    trunk = Trunk().eval().requires_grad_(False)
    missing, unexpected = trunk.load_state_dict(trunk_of(state), strict=False)
    assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing)
    maps = trunk.features(torch.from_numpy(0.5 * rnd("x256", (1, 3, 256, 256))))
    shapes = [(64, 128, 128), (128, 64, 64), (256, 32, 32), (512, 16, 16)]
    assert [tuple(x.shape[1:]) for x in maps] == shapes
    x = maps[-1]
    for i in (0, 2, 4, 6):  # pSp's head of the first code, which reads the trunk's last map alone
        x = F.conv2d(x, state[f"styles.0.convs.{i}.weight"], state[f"styles.0.convs.{i}.bias"], 2, 1)
        x = F.leaky_relu(x, 0.01)
    code = F.linear(x.flatten(1), state["styles.0.linear.weight"] / 512**0.5, state["styles.0.linear.bias"])
    assert error(code, want["codes"][:, 0]) < TOLERANCE


def test_any_depth_and_width():
    trunk = Trunk(widths=(4, 8, 12, 16), units=(2, 1, 3, 1), in_channels=6).eval().requires_grad_(False)
    images = torch.randn(2, 6, 32, 32, generator=stream(0, "images"))
    maps = trunk.features(images)
    assert [tuple(x.shape) for x in maps] == [(2, 4, 16, 16), (2, 8, 8, 8), (2, 12, 4, 4), (2, 16, 2, 2)]
    torch.testing.assert_close(maps[-1], trunk(images))
    torch.testing.assert_close(maps[1], trunk.body[:3](trunk.input_layer(images)))
    assert all(depth == 2 * sum(units) + 2 for depth, units in UNITS.items())  # with the stem and the embedding


def test_impossible_shapes_are_refused():
    with pytest.raises(ValueError, match="expected four positive numbers each, got .*8"):
        Trunk(widths=(4, 8))


def test_arcface_is_read_from_its_file(reference, tmp_path):
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(0)
        network = ArcFace().eval()
    network.load_state_dict(trunk_of(reference[0]), strict=False)
    torch.save(network.state_dict(), tmp_path / "model_ir_se50.pth")
    judge = load_identity_judge("arcface", tmp_path / "model_ir_se50.pth")
    faces = torch.from_numpy(0.5 * rnd("faces", (2, 3, 256, 256))).clamp(-1, 1)
    embeddings = judge.features(faces)
    assert embeddings.shape == (2, 512)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2))
    outside = faces.clone()
    outside[:, :, :35] = 0  # the rows above the face are cropped away
    torch.testing.assert_close(judge(faces, outside), torch.zeros(2), atol=1e-5, rtol=0)
    assert judge.features(faces[:, :, ::4, ::4]).shape == (2, 512)
