"""Conditions are idempotent, differentiable, and keep exactly the part they promise."""

import numpy as np
import pytest
import torch
from PIL import Image

from latentlab.inversion.conditions import downsample, greyscale, mask

LEFT = torch.cat([torch.ones(16, 8), torch.zeros(16, 8)], 1)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("condition", [greyscale, mask(LEFT), downsample(4)])
def test_changes_the_image_once_and_lets_gradients_through(images, condition):
    once = condition(images.requires_grad_(True))
    assert once.shape == images.shape and not torch.allclose(once, images)
    torch.testing.assert_close(condition(once), once)
    (gradient,) = torch.autograd.grad(once.square().sum(), images)
    assert gradient.isfinite().all() and gradient.flatten(1).norm(dim=1).min() > 0


def test_grey_is_what_pillow_makes_of_it(images):
    pixels = ((images[0] + 1) * 127.5).round().to(torch.uint8)
    expected = Image.fromarray(pixels.permute(1, 2, 0).numpy()).convert("L")
    ours = (greyscale(images)[0] + 1) * 127.5
    assert (ours - torch.from_numpy(np.array(expected, dtype=np.float32))).abs().max() < 1.6


def test_masks(unchecked, images):
    assert torch.equal(mask(LEFT)(images)[..., :8], images[..., :8]) and not mask(LEFT)(images)[..., 8:].any()
    own = torch.stack([LEFT, 1 - LEFT])[:, None]
    assert torch.equal(mask(own)(images)[1, :, :, 8:], images[1, :, :, 8:])
    with pytest.raises(ValueError, match="got a mask that hides everything"):
        mask(torch.stack([LEFT, LEFT * 0])[:, None])
    for bad in (LEFT / 2, LEFT * torch.nan):
        with pytest.raises(ValueError, match="expected only 0 .hidden. and 1"):
            mask(bad)
    with pytest.raises(ValueError, match=r"expected shape \(16, 16\) or \(2, 1, 16, 16\), got \(8, 16\)"):
        mask(LEFT[:8])(images)


def test_blocks_hold_their_mean(images):
    small = downsample(4)(images)
    torch.testing.assert_close(small[1, 2, 4, 9], images[1, 2, 4:8, 8:12].mean())
    assert torch.equal(small[..., ::4, ::4], small[..., 3::4, 3::4])
    for size in (0, 3, 32):
        with pytest.raises(ValueError, match="expected a divisor of the image side 16"):
            downsample(size)(images)
