"""Training of the two branches: what each loss moves, which changes are asked for, and the schedule."""

from dataclasses import replace

import pytest
import torch
from lightning_fabric import Fabric
from small import small_e4e, small_generator

from latentlab.encoders.kinds import build_encoder, slim_config
from latentlab.faces import TABLE
from latentlab.faces.factors import column
from latentlab.spaces import fingerprint
from latentlab.training.encoders import training_pictures
from latentlab.training.loop import train
from latentlab.training.two_branch import TwoBranchTraining, alignment_loss, configure_two_branch


@pytest.fixture(scope="module")
def G():
    return small_generator(1, 32)


@pytest.fixture(scope="module")
def encoder(G):
    return small_e4e(G)


def begin(G, encoder, precision: str = "32-true", **settings) -> tuple[TwoBranchTraining, torch.Tensor]:
    config = configure_two_branch(G, encoder, "e4e", **({"images": 80, "fused": 8, "seed": 3} | settings))
    training = TwoBranchTraining(config, G, encoder, Fabric(accelerator="cpu", precision=precision))
    return training, training_pictures(config, G.resolution)(0, 8, torch.device("cpu"))


def test_the_contents_losses_do_not_move_the_directions(G, encoder):
    """Rows of the ablation then differ in the content alone."""
    found = []
    for losses in ({}, {"alignment": 0.0}, {"alignment": 0.0, "refined_attributes": 0.0, "refined_l2": 0.0}):
        training, batch = begin(G, encoder, losses={"attributes": 10.0, "alignment": 9.0, "refined_attributes": 1.0,
                                                    "refined_l2": 1.0} | losses)  # fmt: skip
        for _ in range(3):
            training.step(batch)
        found.append(training.network.style_directions.detach())
        assert found[0].abs().max() > 0
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
    torch.testing.assert_close(found[0], found[2], rtol=0, atol=0)


def test_without_losses_of_the_content_only_directions_are_computed(G, encoder, monkeypatch):
    """Neither the encoder's maps nor contents nor refined pictures: rows of the ablation without content cost less."""
    calls = {"synthesis": 0, "levels": 0}

    def counted(of, name: str):
        own = getattr(of, name)

        def call(*arguments, **how):
            calls[name] += 1
            return own(*arguments, **how)

        return call

    monkeypatch.setattr(G, "synthesis", counted(G, "synthesis"))
    monkeypatch.setattr(encoder, "levels", counted(encoder, "levels"))  # the codes need them once
    costs = []
    for losses in ({"attributes": 10.0, "alignment": 1.0}, {"attributes": 10.0, "alignment": 0.0, "refined_l2": 0.0}):
        training, batch = begin(G, encoder, losses=losses)
        calls.update(synthesis=0, levels=0)
        logged = training.step(batch)
        costs.append((training.refines, *calls.values(), "alignment" in logged))
    assert costs == [(True, 3, 2, True), (False, 2, 1, False)]


def test_alignment_is_0_where_the_edit_does_the_same_to_both(G, encoder):
    inversion, edit, images = torch.randn(3, 2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).unbind()
    torch.testing.assert_close(alignment_loss(inversion, edit, images, images + edit - inversion), torch.zeros(2))
    # without refinement: the error of the inversion, whatever the edit
    expected = (inversion - images).square().mean((1, 2, 3))
    for other in (edit, -3 * edit):
        torch.testing.assert_close(alignment_loss(inversion, other, images, other), expected)
    # untrained contents, no edit: the error of the inversion again, in a step of the training
    training, batch = begin(G, encoder, edited=0.0)
    logged = training.step(batch)
    plain = G.synthesis(encoder(batch))
    assert float(logged["alignment"]) == pytest.approx(float((plain - batch).square().mean()), rel=1e-3)


def test_changes_stay_within_what_a_face_can_have(G, encoder):
    names = ("glasses", "beard", "yaw")
    training, _ = begin(G, encoder, attributes=names, edited=1.0)
    reader = training.reader
    for name, low, high in (("glasses", 0.0, 1.0), ("beard", 0.0, 1.0), ("yaw", -35.0, 35.0)):
        assert (TABLE[column(name)].low, TABLE[column(name)].high) == (low, high)
    shown = torch.tensor([[0.1, 0.0, 30.0]]).repeat(200, 1)  # glasses as a probability
    mean, std = (x[training.columns_of].masked_fill(training.binary, y) for x, y in ((reader.mean, 0), (reader.std, 1)))
    s = training._draw_changes((shown - mean) / std)
    wanted = shown + s * training.scale * std
    assert ((s != 0).sum(1) <= 1).all() and (s.abs().amax(0) > 0.5).all()
    assert sorted(set(wanted[:, 0].round(decimals=4).tolist())) == pytest.approx([0.1, 1.0])
    assert wanted[:, 1].min() > -1e-5 and wanted[:, 1].max() > 0.3
    assert wanted[:, 2].max() < 35.001 and wanted[:, 2].min() < 10


def test_directions_are_not_asked_to_repair_the_encoder(G, encoder):
    """An inversion that is not edited is right for the style branch, and wrong for the content branch."""
    training, batch = begin(G, encoder, attributes=("smile", "age"), edited=0.0)
    logged = training.step(batch)
    assert logged["attributes"] < 1e-6 and logged["refined_attributes"] > 1e-2


def test_rates_fall_to_0_and_the_shrinkage_with_them(G, encoder):
    training, batch = begin(G, encoder, images=24, losses={"attributes": 10.0, "sparsity": 0.5, "alignment": 1.0})
    shrunk, shrink = [], training.network.shrink
    training.network.shrink = lambda amount: (shrunk.append(amount), shrink(amount))
    for _ in range(3):
        training.step(batch)
    directions, content = training.players["network"].optimizer.param_groups
    assert directions["lr"] == content["lr"] == 0 and content["initial_lr"] == 1e-3
    assert shrunk[:2] == pytest.approx([0.5 * 3e-3] * 2) and 0 < shrunk[2] < shrunk[1]


def test_the_content_begins_slowly(G, encoder):
    """Its last layers are zeros, and Adam's first steps have full size."""
    training, batch = begin(G, encoder, images=8_000)
    rates = []
    for _ in range(3):
        rates.append([group["lr"] for group in training.players["network"].optimizer.param_groups])
        training.step(batch)
    assert [x[0] for x in rates] == pytest.approx([3e-3] * 3)
    assert [x[1] for x in rates] == pytest.approx([1e-5, 2e-5, 3e-5])


def test_a_step_in_half_precision(G, encoder):
    logged, exact = ({k: float(v) for k, v in training.step(batch).items()}
                     for training, batch in (begin(G, encoder, x) for x in ("bf16-mixed", "32-true")))  # fmt: skip
    assert logged != exact
    assert logged == pytest.approx(exact, rel=0.1, abs=0.02)


@pytest.mark.parametrize(("sparsity", "weight"), [("proximal", 0.3), ("subgradient", 100.0)])
def test_sparsity_shortens_the_directions(G, encoder, sparsity, weight):
    norms, zeros = [], []
    for size in (0.0, weight):
        losses = {"attributes": 10.0, "sparsity": size}
        training, batch = begin(G, encoder, images=800, sparsity=sparsity, losses=losses)
        for _ in range(12):
            logged = training.step(batch)
        norms.append(float(training.network.style_directions.detach().abs().sum()))
        zeros.append(float(logged["zeros"]))
        assert ("sparsity" in logged) == (size > 0 and sparsity == "subgradient")
    assert 0 < norms[1] < 0.7 * norms[0]
    assert zeros[0] == 0 and (zeros[1] > 0) == (sparsity == "proximal")


def test_a_step_with_attention_moves_its_matrix(G, encoder):
    training, batch = begin(G, encoder, relevance="attention", images=800)
    before = {name: weight.clone() for name, weight in training.network.named_parameters()}
    for _ in range(3):  # untrained contents add nothing, wherever they are put
        logged = training.step(batch)
    assert all(bool(x.isfinite()) for x in logged.values()) and {"refined_l2", "alignment"} <= logged.keys()
    moved = {name for name, weight in training.network.named_parameters() if not torch.equal(weight, before[name])}
    assert {f"fuse.{r}.{part}.weight" for r in (4, 8) for part in ("query", "key")} < moved


def test_another_encoder_than_that_of_the_settings_is_refused(G, encoder):
    config = configure_two_branch(G, encoder, "e4e", images=80, fused=8)
    assert config.encoder_fingerprint == fingerprint(encoder, "generator")
    fabric, slim = Fabric(accelerator="cpu"), slim_config("e4e", G.config)
    wide = build_encoder("e4e", replace(slim, widths=(8, 16, 32, 32)))
    with pytest.raises(ValueError, match="encoder: expected codes of width 16 and features of width 8, got 16 and 32"):
        TwoBranchTraining(config, G, wide, fabric)
    other = small_e4e(G)
    next(other.parameters()).add_(1)
    with pytest.raises(ValueError, match=f"encoder: expected {config.encoder_fingerprint}, for which the settings"):
        TwoBranchTraining(config, G, other, fabric)


def test_a_run_with_another_encoder_is_not_resumed(G, encoder):
    """A checkpoint of before, which does not know its encoder, is."""
    training, _ = begin(G, encoder)
    state = training.state_dict()
    known = state["config"].pop("encoder_fingerprint")
    training.load_state_dict(state)
    state["config"]["encoder_fingerprint"] = "other"
    with pytest.raises(ValueError, match=f"resume: .*encoder_fingerprint = {known} .the checkpoint has other"):
        training.load_state_dict(state)


def test_content_does_not_undo_an_edit_before_it_is_trained(G, encoder):
    training, _ = begin(G, encoder)
    features = torch.randn(1, G.config.channels[1], 8, 8)
    other = torch.randn_like(features)
    module = training.network.fuse["8"]
    for share, low, high in ((0.0, 0.95, 1.0), (0.08, 0.9, 1.0), (0.6, 0.0, 0.2)):
        m = module.map(features, features + share * other)
        assert low <= m.median() <= high


def test_resumes_bit_for_bit(G, encoder, tmp_path):
    """The schedule, both kinds of parameters and the shrinkage continue."""

    def run(out, images: int, resume: bool = False) -> dict[str, torch.Tensor]:
        training, _ = begin(G, encoder, images=32)
        pictures = training_pictures(training.config, G.resolution)
        train(training, pictures, tmp_path / out, images=images, resume=resume)
        return training.network.state_dict()

    whole = run("whole", 32)
    run("parts", 16)
    parts = run("parts", 32, resume=True)
    assert whole.keys() == parts.keys() and whole["style_directions"].any()
    for name, weight in whole.items():
        assert torch.equal(weight, parts[name]), name
