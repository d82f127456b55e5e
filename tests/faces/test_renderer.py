"""Rendering: value range, determinism, masks, and the parts of the image that each factor changes."""

import pytest
import torch

from latentlab.faces import NAMES, PARTS, TABLE, Factors, render, sample_factors

# Factors that may change the image only where these parts are, before or after the change.
LOCAL = {
    "iris_colour": {"eyes"},
    "gaze_x": {"eyes"},
    "gaze_y": {"eyes"},
    "brow_thickness": {"brows"},
    "brow_angle": {"brows"},
    "glasses": {
        "glasses",
        "eyes",
        "skin",
        "brows",
        "wrinkles",
        "nose",
        "beard",
    },  # lenses tint what lies below
    "background_light": {"background"},
    "background_a": {"background"},
    "background_b": {"background"},
    "shirt_light": {"shirt"},
    "shirt_a": {"shirt"},
    "shirt_b": {"shirt"},
    "skin_tone": set(PARTS) - {"background", "hair", "shirt"},
    "hair_red": {"hair", "brows", "beard"},
    "mouth_open": set(PARTS) - {"background", "shirt"},  # the jaw drops
}


@pytest.fixture(scope="module")
def plain() -> Factors:
    """Three faces that show every factor: little fringe, no glasses, some beard, old enough for wrinkles."""
    faces = sample_factors(3, seed=0).replace(yaw=10, pitch=2, roll=3, fringe=0.1, glasses=0, age=0.6, beard=0.5)
    return faces.replace(hair_length=0.3, hair_grey=0.2, smile=0.2, mouth_open=0.3, skin_tone=0.3, hair_tone=0.4)


def other_end(factors: Factors, name: str) -> Factors:
    factor = TABLE[NAMES.index(name)]
    now = factors[name]
    return factors.replace(**{name: torch.where(now - factor.low > factor.high - now, factor.low, factor.high)})


def test_value_range_and_shape():
    images = render(sample_factors(8, seed=1), resolution=48)
    assert images.shape == (8, 3, 48, 48) and images.dtype == torch.float32
    assert torch.isfinite(images).all() and images.abs().max() <= 1
    assert images.std() > 0.2


def test_ends_of_all_ranges_can_be_rendered():
    corners = Factors(torch.tensor([[f.low for f in TABLE], [f.high for f in TABLE]], dtype=torch.float32))
    assert torch.isfinite(render(corners)).all()


def test_images_do_not_depend_on_the_batch():
    factors = sample_factors(20, seed=2)  # more than a chunk
    together = render(factors)
    alone = torch.cat([render(factors[i]) for i in (0, 7, 19)])
    torch.testing.assert_close(together[[0, 7, 19]], alone, atol=1e-5, rtol=0)
    assert torch.equal(together, render(factors))


def test_low_and_high_resolutions_show_the_same_face():
    factors = sample_factors(8, seed=3)
    large = torch.nn.functional.avg_pool2d(render(factors, 256), 4)
    assert (render(factors, 64) - large).abs().mean(dim=(1, 2, 3)).max() < 0.025
    smooth = render(factors, 64, supersample=4)
    assert (smooth - large).abs().max() < 0.05


def test_faces_fill_the_frame_as_in_ffhq():
    factors = sample_factors(32, seed=6)
    _, masks = render(factors, 32, masks=True)
    head = sum(masks[name] for name in PARTS if name not in ("background", "shirt", "neck"))
    has_head = head.amax(dim=3)[:, 0] > 0.5  # by row of pixels
    assert 0.6 < has_head.float().mean() < 0.95
    eyes = masks["eyes"].sum(dim=(1, 3)).mean(0)
    height = (eyes * torch.linspace(1, -1, 32)).sum() / eyes.sum()
    assert -0.05 < height < 0.2


def test_masks_cover_every_pixel_once():
    factors = sample_factors(6, seed=5).replace(glasses=1, beard=0.8, age=0.9)
    images, masks = render(factors, masks=True)
    assert tuple(masks) == PARTS
    total = sum(masks.values())
    torch.testing.assert_close(total, torch.ones_like(total), atol=1e-4, rtol=0)
    assert min(m.min() for m in masks.values()) >= 0
    assert torch.equal(images, render(factors))
    shown = {name for name, mask in masks.items() if mask.mean() > 1e-4}
    assert shown == set(PARTS) - {"detail"}


@pytest.mark.parametrize("name", NAMES)
def test_every_factor_changes_the_right_parts(name: str, plain: Factors):
    moved = other_end(plain, name)
    before, parts = render(plain, masks=True)
    after, moved_parts = render(moved, masks=True)
    change = (after - before).abs().amax(dim=1, keepdim=True)
    assert change.amax(dim=(1, 2, 3)).min() > 0.05, "no visible change"
    if name in LOCAL:
        allowed = sum(parts[p] + moved_parts[p] for p in LOCAL[name])
        assert change[allowed < 1e-4].max() < 1e-4


def test_poses_move_the_face_in_the_right_direction():
    face = sample_factors(1, seed=8).replace(yaw=0, pitch=0, roll=0, glasses=0, fringe=0)
    axis = torch.linspace(-1, 1, 64)

    def middle(mask: torch.Tensor) -> tuple[float, float]:
        weight = mask[0, 0] / mask.sum()
        return (weight.sum(0) * axis).sum().item(), -(weight.sum(1) * axis).sum().item()

    def mouth(**pose: float) -> tuple[float, float]:
        return middle(render(face.replace(**pose), masks=True)[1]["mouth"])

    x, y = mouth()
    assert abs(x) < 0.02
    assert mouth(yaw=30.0)[0] > x + 0.1 > x - 0.1 > mouth(yaw=-30.0)[0]
    assert mouth(pitch=15.0)[1] > y > mouth(pitch=-15.0)[1]
    assert mouth(roll=10.0)[0] > x  # counter-clockwise: the chin swings to the right


def test_far_ear_is_hidden_when_the_head_turns():
    face = sample_factors(1, seed=8).replace(roll=0, hair_length=0, glasses=0, yaw=0)
    frontal = render(face, masks=True)[1]["ears"]
    turned = render(face.replace(yaw=35), masks=True)[1]["ears"]
    assert frontal[..., :32].sum() > 3 and frontal[..., 32:].sum() > 3
    assert turned[..., 32:].sum() < 0.35 * turned[..., :32].sum()


def test_bad_arguments_are_refused(plain: Factors):
    with pytest.raises(ValueError, match="resolution: expected at least 16, got 8"):
        render(plain, resolution=8)
    with pytest.raises(ValueError, match="supersample: expected at least 1, got 0"):
        render(plain, supersample=0)
    with pytest.raises(ValueError, match="factors: expected at least one face, got none"):
        render(plain[:0])


@pytest.mark.gpu
def test_a_gpu_renders_the_same_images():
    factors = sample_factors(8, seed=1)
    there = render(factors.to("cuda"))
    assert there.device.type == "cuda"
    torch.testing.assert_close(there.cpu(), render(factors), atol=2e-3, rtol=0)
