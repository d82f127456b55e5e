"""The papers' own networks: their files' names fit, and what is missing is told.

Their packages are no dependency, so small stand-ins with the same names of layers take their place; where
lpips is installed, the distance is compared with its own.
"""

import pickle
import sys
from types import SimpleNamespace

import pytest
import torch
from foreign import legacy_bytes
from torch import nn

from latentlab.judges.identity import load_identity_judge
from latentlab.judges.perceptual import load_perceptual_judge
from latentlab.losses.identity import load_identity
from latentlab.losses.perceptual import load_perceptual
from latentlab.networks.official import load_official
from latentlab.seeds import stream


def images(size: int = 48) -> torch.Tensor:
    return torch.rand(4, 3, size, size, generator=stream(0, "images")) * 2 - 1


class ResNet(nn.Module):
    def __init__(self, weights: None = None) -> None:
        super().__init__()
        self.conv1, self.fc = nn.Conv2d(3, 8, 7, 4), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.conv1(x).relu().mean((2, 3)))


def test_moco_is_read_from_its_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace(models=SimpleNamespace(resnet50=ResNet)))
    trained = ResNet()
    tensors = {f"module.encoder_q.{k}": v for k, v in trained.state_dict().items() if not k.startswith("fc")}
    tensors |= {"module.encoder_q.fc.0.weight": torch.ones(8, 8), "module.queue": torch.ones(3)}
    torch.save({"epoch": 800, "arch": "resnet50", "state_dict": tensors}, tmp_path / "moco.pth.tar")
    x = images()
    big = nn.functional.interpolate(x, 224)
    wanted = nn.functional.normalize(trained.conv1(big).relu().mean((2, 3)), dim=1)
    for load in (load_identity, load_identity_judge):
        torch.testing.assert_close(load("moco", tmp_path / "moco.pth.tar").features(x), wanted)


class Lpips(nn.Module):
    """Two slices with torchvision's numbers of layers, and a weight for each channel."""

    def __init__(self, net: str, pnet_rand: bool, verbose: bool) -> None:
        super().__init__()
        self.chns, self.scaling_layer = [6, 6], nn.Identity()
        self.net = nn.Module()
        self.net.slice1 = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU())
        self.net.slice2 = nn.Sequential()
        self.net.slice2.add_module("3", nn.Conv2d(6, 6, 3))
        self.net.forward = self.slices
        layers = (nn.Sequential(nn.Dropout(), nn.Conv2d(6, 1, 1, bias=False)) for _ in self.chns)
        self.lins = nn.ModuleList(SimpleModule(layer) for layer in layers)
        for lin in self.lins:
            lin.model[-1].weight.data.abs_()

    def slices(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        first = self.net.slice1(x)
        return first, self.net.slice2(first)


class SimpleModule(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model


def test_lpips_is_its_formula_with_the_weights_of_its_channels(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=Lpips))
    draw = stream(1, "weights")
    shapes = {"0.weight": (6, 3, 3, 3), "0.bias": (6,), "3.weight": (6, 6, 3, 3), "3.bias": (6,)}
    state = {f"features.{k}": torch.randn(shape, generator=draw) / 3 for k, shape in shapes.items()}
    torch.save(state, tmp_path / "alex.pth")
    distance = load_perceptual("alex", tmp_path / "alex.pth")
    torch.testing.assert_close(distance.trunk.lpips.net.slice2.get_submodule("3").weight, state["features.3.weight"])
    x, y = images().split(2)
    unit = nn.functional.normalize
    layers = zip(*map(distance.trunk.features, (x, y)), distance.trunk.lpips.lins, strict=True)
    wanted = sum(lin.model[1]((unit(fx) - unit(fy)) ** 2).mean((1, 2, 3)) for fx, fy, lin in layers)
    torch.testing.assert_close(distance(x, y), wanted, rtol=1e-4, atol=1e-6)


def test_lpips_equals_its_package(tmp_path):
    lpips = pytest.importorskip("lpips")
    reference = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    state = {f"features.{k.split('.', 1)[1]}": v for k, v in reference.net.state_dict().items()}
    torch.save(state, tmp_path / "alex.pth")
    x, y = images(64).split(2)
    found = load_perceptual_judge("alex", tmp_path / "alex.pth")(x, y)
    torch.testing.assert_close(found, reference(x, y).flatten(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name, package", [("alex", "lpips"), ("moco", "torchvision"), ("inception", "torch-fidelity")])
def test_what_is_missing_is_told(name, package, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="no file nowhere.pth: download it once from https://.*judge"):
        load_official(name, "nowhere.pth")
    torch.save({}, tmp_path / "weights.pth")
    monkeypatch.setitem(sys.modules, package.replace("-", "_"), None)
    with pytest.raises(ValueError, match=f"pip install {package}.*judge"):
        load_official(name, tmp_path / "weights.pth")


def test_wrong_files_and_names_are_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=Lpips))
    torch.save({"other": torch.zeros(1)}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="weights.pth: expected the weights of vgg, got others .*download it once"):
        load_official("vgg", tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="unknown backbone 'resnet'; known are: faces, alex"):
        load_perceptual("resnet")


class Dangerous:
    def __reduce__(self):
        return print, ("executed",)


def test_files_that_are_no_weights_are_told_and_not_run(tmp_path, capsys):
    """Never with torch's own advice, which is to load the file without its protection."""
    path = tmp_path / "weights.pth"
    files = {"names builtins.print": pickle.dumps(Dangerous(), 4), "web page": b"<!DOCTYPE html>", "it is empty": b"",
             "LFS pointer": b"version https://git-lfs.github.com", "holds a list": legacy_bytes([1])}  # fmt: skip
    for says, content in files.items():
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"weights.pth: .*{says}.*download it once") as caught:
            load_official("arcface", path)
        assert "\n" not in str(caught.value) and "weights_only" not in str(caught.value)
    assert capsys.readouterr().out == ""


def test_inception_sees_bytes_and_gives_its_features(tmp_path, monkeypatch):
    class Extractor(nn.Module):
        """As torch-fidelity's: reads its weights itself, takes uint8, gives a tuple."""

        def __init__(self, name: str, features: list[str], feature_extractor_weights_path: str) -> None:
            super().__init__()
            assert (name, features) == ("inception", ["2048"])
            self.register_buffer("weight", torch.load(feature_extractor_weights_path, weights_only=True)["weight"])

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
            assert x.dtype == torch.uint8
            return (x.float().mean((2, 3)) @ self.weight,)

    room = SimpleNamespace(FeatureExtractorInceptionV3=Extractor)
    monkeypatch.setitem(sys.modules, "torch_fidelity", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", room)
    weight = torch.randn(3, 5, generator=stream(2, "weights"))
    torch.save({"weight": weight}, tmp_path / "inception.pth")
    grey = torch.tensor([-1.0, 0.0, 1.0, 2.0]).view(4, 1, 1, 1).expand(4, 3, 8, 8)
    levels = torch.tensor([0.0, 128.0, 255.0, 255.0])[:, None].expand(4, 3)  # 127.5 rounds to even; 2 is clipped
    torch.testing.assert_close(load_official("inception", tmp_path / "inception.pth")(grey), levels @ weight)
