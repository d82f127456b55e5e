"""Evaluation tables: their columns, the edits against known edits, and summaries."""

from dataclasses import replace

import matplotlib.pyplot as plt
import pandas
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import latentlab as ll
from latentlab import plots
from latentlab.editing.edit import Direction, State
from latentlab.editing.shipped import directions_for
from latentlab.evaluation import Judges, evaluate, grade_inversion, load_judges, summarize, true_edit
from latentlab.evaluation.intervals import confidence_interval
from latentlab.faces import FaceSet, real_set, sample_factors
from latentlab.inversion.result import Inversion
from latentlab.metrics import edit_gain, psnr, ssim
from latentlab.networks.attributes import read_factors
from latentlab.priors import pn_norm
from latentlab.spaces import statistics_for

JUDGED = " (face world, 64 px)"


class Painter(nn.Module):
    """A generator that can do one thing: draw ``faces`` with a factor moved by as much as the codes have moved."""

    def __init__(self, G: nn.Module, faces: FaceSet, direction: Direction) -> None:
        super().__init__()
        self.mapping, self.w_avg, self.faces, self.direction = G.mapping, G.w_avg, faces, direction

    def synthesis(self, w_plus: Tensor, **_: object) -> Tensor:
        vector = self.direction.vector
        moved = (w_plus - self.w_avg)[:, 0] @ vector / vector.square().sum() * self.direction.std
        return soft(self.faces.truth(**{self.direction.name: moved}).images)


class Still(Painter):
    """A generator whose pictures stay as they are, whatever the codes."""

    def synthesis(self, w_plus: Tensor, **_: object) -> Tensor:
        return self.faces.images


def soft(images: Tensor) -> Tensor:
    return (images + F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)) / 2


@pytest.fixture(scope="module")
def judges() -> Judges:
    return load_judges()


@pytest.fixture(scope="module")
def G() -> torch.nn.Module:
    return ll.load("faces-64")


@pytest.fixture(scope="module")
def faces() -> FaceSet:
    """Six faces, two of them clean, that have room to turn."""
    real = real_set()
    return real[torch.nonzero(real.factors["yaw"].abs() < 8)[:6, 0]]


def inversion(kind: type, faces: FaceSet, G: torch.nn.Module, factor: str = "yaw") -> Inversion:
    state, painter = State(G.broadcast(G.w_avg.expand(len(faces), -1))), kind(G, faces, directions_for(G)[factor])
    return Inversion(state, state.draw(painter), painter, kind.__name__.lower())


def again(name: str, images: Tensor, like: Inversion) -> Inversion:
    """What each method makes of other images: the same picture, or a soft one."""
    image = images if name == "still" else soft(images)
    return replace(like, image=image, state=State(like.latent[:1].expand(len(images), -1, -1)))


def test_columns_are_the_grades_of_each_image(faces: FaceSet, G: torch.nn.Module, judges: Judges):
    made = inversion(Painter, faces, G)
    table = evaluate([made, inversion(Still, faces, G)], faces, judges)
    assert list(table["method"]) == ["painter"] * 6 + ["still"] * 6 and list(table["image"]) == [*range(6)] * 2
    assert list(table["faces"][:6]) == ["clean" if d == "none" else "strange" for d in faces.details]
    row, image = table[table["method"] == "painter"], made.image.clamp(-1, 1)
    with torch.no_grad():
        wanted = {
            "psnr_db": psnr(image, faces.images),
            "ssim": ssim(image, faces.images),
            "perceptual" + JUDGED: judges.perceptual(image, faces.images),
            "identity" + JUDGED: 1 - judges.identity(image, faces.images),
            "pn_norm": pn_norm(made.latent, statistics_for(G)),
        }
    for name, value in wanted.items():
        torch.testing.assert_close(torch.tensor(row[name].values), value.double(), rtol=1e-4, atol=1e-5)
    for name, value in grade_inversion(made, faces.images).items():
        torch.testing.assert_close(torch.tensor(row[name].values), value.double(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(row["mse"].mean(), float((made.image - faces.images).square().mean()), rtol=1e-5, atol=0)
    assert table[table["method"] == "still"]["mse"].tolist() == [0] * 6
    named = evaluate({"a": made, "b": made}, faces.images, replace(judges, backbone="VGG, 256 px"))
    assert "identity (VGG, 256 px)" in named and set(named["faces"]) == {"unknown"}


def test_a_perfect_picture_that_edits_nothing_does_not_win(faces: FaceSet, G: torch.nn.Module, judges: Judges):
    made = [inversion(kind, faces, G) for kind in (Painter, Still)]
    how = {"edits": [("yaw", 1.5)], "known": directions_for(G)}
    table = evaluate(made, faces, judges, invert=lambda name, x: again(name, x, made[0]), **how)
    mean = summarize(table).pivot(index="measure", columns="method", values="mean")
    assert mean["still"]["mse"] < mean["painter"]["mse"] and mean["still"]["yaw+1.5 gain"] == 0
    assert mean["painter"]["yaw+1.5 gain"] > 0.7
    plain = evaluate(made, faces, judges, **how)  # without an inversion of the truths: the same without an oracle
    pandas.testing.assert_frame_equal(plain, table.drop(columns=["yaw+1.5 oracle", "yaw+1.5 oracle error"]))
    # The painter shows all it can: its edit is its own inversion of the truth.
    gains = table[table["method"] == "painter"].set_index("image")
    assert (gains["yaw+1.5 gain"] - gains["yaw+1.5 oracle"]).abs().max() < 1e-4 and mean["still"]["yaw+1.5 oracle"] == 1
    assert mean["still"]["yaw+1.5 after"] == mean["still"]["yaw+1.5 before"]
    turned = mean["painter"]["yaw+1.5 after"] - mean["painter"]["yaw+1.5 before"]
    assert turned == pytest.approx(1.5 * directions_for(G)["yaw"].std, rel=0.2)
    assert mean["still"]["yaw+1.5 error"] == pytest.approx(1, abs=1e-5) and mean["still"]["yaw+1.5 leakage"] == 0
    assert mean["painter"]["yaw+1.5 error"] < 0.7
    square = (1 - gains["yaw+1.5 gain"]) ** 2 + gains["yaw+1.5 residual"] ** 2
    torch.testing.assert_close((gains["yaw+1.5 error"] ** 2).tolist(), square.tolist(), rtol=1e-3, atol=1e-3)
    assert (gains["yaw+1.5 error"] - gains["yaw+1.5 oracle error"]).abs().max() < 1e-4
    truth = true_edit(faces, directions_for(G)["yaw"], 1.5).images
    read = (read_factors(judges.attributes, truth) - read_factors(judges.attributes, faces.images)).abs()
    others = [k for k, name in enumerate(judges.attributes.names) if name != "yaw"]
    std = sample_factors(20_000, seed=777_777).values.std(0)  # of glasses .46, where the judge's own has 1
    floor = float((read / std)[:, others].mean())  # what a true turn changes besides, as the judge reads it
    assert mean["still"]["yaw+1.5 leakage floor"] == pytest.approx(floor, rel=1e-3)
    assert mean["painter"]["yaw+1.5 leakage"] == pytest.approx(floor, rel=0.5)
    assert mean["painter"]["yaw+1.5 leakage max"] > 3 * mean["painter"]["yaw+1.5 leakage"]
    assert mean["still"]["yaw+1.5 identity" + JUDGED] == pytest.approx(1, abs=1e-4)
    assert mean["painter"]["yaw+1.5 identity" + JUDGED] < 0.99
    gain, residual = edit_gain(made[0].image, soft(truth), faces.images, truth)
    torch.testing.assert_close(gains["yaw+1.5 residual"].tolist(), residual.tolist(), rtol=1e-3, atol=1e-3)
    assert (gains["yaw+1.5 outside"] < 0.5 * gains["yaw+1.5 residual"]).all()  # a blur spoils the edges that move


def test_strength_is_matched_where_it_can_be_and_counted_where_not(faces: FaceSet, G: torch.nn.Module, judges: Judges):
    made = [inversion(kind, faces, G) for kind in (Painter, Still)]
    edits, oracle = [("yaw", 1.0)], lambda name, x: again(name, x, made[0])
    table = evaluate(made, faces, judges, edits=edits, invert=oracle, matched=True, known=directions_for(G))
    assert table["yaw+1 strength"][:6].between(0.85, 1.15).all()  # of soft pictures the judge reads about the same
    torch.testing.assert_close(table["yaw+1 after"][:6].tolist(), table["yaw+1 truth"][:6].tolist(), rtol=0, atol=0.1)
    still = summarize(table).set_index(["method", "measure"]).loc["still"]
    assert still["missing"]["yaw+1 gain"] == 1 and still["n"]["yaw+1 gain"] == 0 and still["missing"]["ssim"] == 0
    wearing = faces.with_factors(glasses=torch.tensor([1.0, 0, 0, 0, 0, 0]))
    made = {"still": inversion(Still, wearing, G, "glasses")}
    how = {"edits": [("glasses", 2.0)], "known": directions_for(G)}
    table = evaluate(made, wearing, invert=lambda name, x: ll.invert(x, G, "ii2s", steps=2), **how)
    assert table["glasses+2 gain"].isna().tolist() == [True] + [False] * 5


def test_summaries_hold_means_intervals_and_missing_values():
    values = torch.randn(40, generator=torch.Generator().manual_seed(0)).exp().double()
    table = pandas.DataFrame({"method": "a", "image": range(40), "faces": "clean", "x": values, "y": values})
    table.loc[:9, "y"] = torch.nan
    summary = summarize(table).set_index("measure")
    ours = summary.loc["x"]
    assert ours["mean"] == pytest.approx(float(values.mean()))
    assert [ours["low"], ours["high"]] == confidence_interval(values.numpy())
    assert summary.loc["y"][["mean", "n", "missing"]].tolist() == pytest.approx([float(values[10:].mean()), 30, 0.25])
    pandas.testing.assert_frame_equal(summarize(table), summarize(table))


def test_figures_show_means_and_intervals():
    rows = [("a", "x", 1.0, 0.5, 2.0, 6, 0.0), ("b", "x", 3.0, 2.0, 4.0, 4, 0.5), ("b", "y", 0.2, 0.1, 0.4, 6, 0.0)]
    rows += [("a", "y", 0.5, 0.4, 0.6, 6, 0.0), ("a", "z", 0.7, 0.6, 0.8, 6, 0.0), ("b", "z", 0.9, 0.8, 1.0, 6, 0.0)]
    summary = pandas.DataFrame(rows, columns=["method", "measure", "mean", "low", "high", "n", "missing"])
    figure = plots.bars(summary, ["x", "y"])
    assert [[patch.get_width() for patch in ax.patches] for ax in figure.axes] == [[1.0, 3.0], [0.5, 0.2]]
    lines = figure.axes[0].collections[0].get_segments()
    assert [list(line[:, 0]) for line in lines] == [[0.5, 2.0], [2.0, 4.0]]
    assert [text.get_text() for text in figure.axes[0].texts] == [" 50% NaN"]
    ax = plots.plane(summary, "x", "y", oracle="z")
    marked = [line for line in ax.lines if line.get_marker() != "None"]
    points = {(line.get_marker(), line.get_xdata()[0], line.get_ydata()[0]) for line in marked}
    assert points == {("s", 1.0, 0.5), ("s", 1.0, 0.7), ("o", 3.0, 0.2), ("o", 3.0, 0.9)}  # a mark for each method
    with pytest.raises(ValueError, match="measure: expected one of x, y, z; got 'w'"):
        plots.bars(summary, ["w"])
    plt.close("all")


def test_bad_input(unchecked, faces: FaceSet, G: torch.nn.Module, judges: Judges):
    made = inversion(Still, faces, G)
    with pytest.raises(ValueError, match=r"expected one or more with different methods, got \['still', 'still'\]"):
        evaluate([made, made], faces, judges)
    with pytest.raises(ValueError, match=r"expected one or more with different methods, got \[\]"):
        evaluate([], faces, judges)
    with pytest.raises(ValueError, match=r"still: .* these \(5, 3, 64, 64\) targets, got one of \(6, 3, 64, 64\)"):
        evaluate([made], faces[:5], judges)
    with pytest.raises(ValueError, match="targets: expected finite values, got NaN"):
        evaluate([made], faces.images * torch.nan, judges)
    with pytest.raises(ValueError, match="images of x: expected finite values, got NaN"):
        evaluate({"x": replace(made, image=made.image / 0)}, faces, judges)
    with pytest.raises(ValueError, match="edits: expected targets with known factors .*, got Tensor"):
        evaluate([made], faces.images, judges, edits=[("yaw", 1.0)])
    with pytest.raises(ValueError, match=r"not \['wings'\]; known: face_width"):
        evaluate([made], faces, judges, edits=[("wings", 1.0)], invert=lambda name, x: made, known=directions_for(G))
    with pytest.raises(ValueError, match=r"invert gave \(6, 3, 64, 64\) for 2 x 6 edited truths"):
        edits = [("yaw", 1.0), ("age", 1.0)]
        evaluate([made], faces, judges, edits=edits, invert=lambda name, x: made, known=directions_for(G))
