"""The same calls on a CUDA device; skipped without one."""

import pytest
import torch

import latentlab as ll
from latentlab.evaluation.tables import accepted
from latentlab.faces import render, sample_factors
from latentlab.inversion.conditions import mask
from latentlab.inversion_methods import methods_for
from latentlab.training.generator import PRESETS, train_generator

pytestmark = pytest.mark.gpu


def test_generator_agrees_with_the_cpu():
    z = torch.randn(4, 128, generator=torch.Generator().manual_seed(0))
    on_cpu, on_gpu = ll.load("faces-64")(z), ll.load("faces-64", device="cuda")(z.to("cuda"))
    assert on_gpu.is_cuda
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, atol=2e-2, rtol=0)


def test_renderer_agrees_with_the_cpu():
    factors = sample_factors(8, seed=0)
    torch.testing.assert_close(render(factors.to("cuda")).cpu(), render(factors), atol=1e-3, rtol=0)


@pytest.mark.parametrize("method", methods_for(ll.load("faces-64")))
def test_inverts(method):
    G, images = ll.load("faces-64", device="cuda"), ll.faces.real_set()[:4].images.to("cuda")
    inversion = ll.invert(images, G, method, **accepted(method, steps=20))
    assert inversion.latent.is_cuda
    if inversion.trace:
        assert inversion.trace["loss"][-1].mean() < inversion.trace["loss"][0].mean()
    else:
        on_cpu = ll.invert(images.cpu(), ll.load("faces-64"), method)
        torch.testing.assert_close(inversion.latent.cpu(), on_cpu.latent, rtol=0, atol=5e-2)


def test_conditions_paths_and_spaces_stay_on_the_device():
    G, target = ll.load("faces-64", device="cuda"), ll.faces.real_set()[:2].images.to("cuda")
    known = torch.ones(64, 64, device="cuda").tril()
    inversion = ll.invert(target, G, condition=mask(known), record=5, steps=10)
    assert inversion.path.is_cuda and inversion.path_steps == [0, 5, 10]
    a, b = inversion.latent.split(1)
    between = ll.interpolate(a, b, 0.5, space="PN+", statistics=ll.statistics_for(G))
    assert ll.faces.sketch(inversion.synthesize(between)).is_cuda


def test_trains_and_resumes(tmp_path):
    from lightning_fabric import Fabric

    config = PRESETS["tiny-16"]

    def faces(start: int, n: int, device: torch.device) -> torch.Tensor:
        return render(sample_factors(n, seed=0, start=start).to(device), resolution=16)

    def fabric() -> Fabric:
        return Fabric(accelerator="gpu", devices=1, precision="bf16-mixed")

    train_generator(config, faces, tmp_path, images=20, fabric=fabric())
    assert train_generator(config, faces, tmp_path, images=40, fabric=fabric(), resume=True).images == 40
