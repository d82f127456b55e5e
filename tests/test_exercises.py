"""Checks of answers: each wrong answer gets one sentence, never an empty error."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from scipy import stats
from small import small_generator
from torch import nn

from latentlab.editing.edit import Direction, State
from latentlab.editing.samples import Samples
from latentlab.exercises import (
    NotYet,
    alignment,
    clcae,
    comparing,
    editing,
    encoders,
    expect,
    expect_close,
    expect_that,
    generator,
    inversion,
    latent_spaces,
    start,
    two_branch,
)
from latentlab.faces import FaceSet, plain_faces
from latentlab.inversion.result import Inversion
from latentlab.metrics import pn_norm, sncd_of_codes
from latentlab.networks.latent_discriminator import LatentDiscriminator
from latentlab.seeds import stream
from latentlab.spaces import Anchors, Statistics, measure_anchors, measure_statistics, s_to_sn, w_to_s
from latentlab.weights.generators import load

GOOD = torch.zeros(2, 3)


@pytest.mark.parametrize(
    "value, options, sentence",
    [
        (None, {}, "a: expected an answer, got None"),
        ([0, 0], {}, "a: expected a Tensor, got a list"),
        (3, {"kind": (str, dict)}, "a: expected a str or a dict, got an int"),
        (GOOD, {"shape": (3, 2)}, r"a: expected shape \(3, 2\), got \(2, 3\)"),
        (GOOD, {"shape": (-1, 4)}, "-1 stands for any size"),
        (GOOD, {"shape": (6,)}, r"expected shape \(6,\), got \(2, 3\)"),
        (GOOD.double(), {"dtype": torch.float32}, "expected dtype torch.float32, got torch.float64"),
        (GOOD.to("meta"), {}, "expected a tensor on cpu, got one on meta"),
        (GOOD / 0, {}, "expected finite values"),
    ],
)
def test_a_wrong_answer_gets_a_sentence(value, options, sentence):
    with pytest.raises(NotYet, match=sentence) as caught:
        expect(value, "a", **options)
    assert caught.value._render_traceback_() == [f"Not yet. {caught.value}"]


def test_right_answers_pass():
    expect(GOOD, "a", (2, -1), dtype=torch.float32)
    expect({"a": 1}, "a", kind=dict)
    expect_close(GOOD, GOOD + 1e-5, "a")
    expect_close(3, 3.00001, "a")
    expect_that(GOOD == 0, "wrong")


def test_numbers_are_compared_without_giving_the_answer_away():
    with pytest.raises(NotYet, match=r"a: expected a smaller number, got 486. Think of n p.") as caught:
        expect_close(486.0, 123.4, "a", hint="Think of n p.")
    assert "123" not in str(caught.value)
    with pytest.raises(NotYet, match="up to 2 away"):
        expect_close(GOOD + 2, GOOD, "a")
    with pytest.raises(NotYet, match=r"expected shape \(2, 3\), got \(\)"):
        expect_close(1.0, GOOD, "a")
    with pytest.raises(NotYet, match="expected a number, got nan"):
        expect_close(float("nan"), 1.0, "a")
    with pytest.raises(NotYet, match="^both$"):
        expect_that(torch.tensor([True, False]), "both")


SIZES = nn.Module()
SIZES.num_ws, SIZES.w_dim = 4, 3
STATISTICS, ANCHORS, SAMPLES, FACES = map(object.__new__, (Statistics, Anchors, Samples, FaceSet))  # never looked at
INVERSION = object.__new__(Inversion)
CODES = torch.arange(24.0).view(2, 4, 3)
MAPLESS, MAPPED = object.__new__(Inversion), object.__new__(Inversion)
MAPLESS.state, MAPPED.state, MAPPED.generator = State(CODES), State(CODES, features={8: CODES}), None
PICTURES = torch.linspace(-1, 1, 2 * 3 * 16 * 16).view(2, 3, 16, 16)
NUMBERS = torch.linspace(-1, 1, 6).view(2, 3)
SIZES.synthesis = lambda w: PICTURES / 2  # one picture for all codes
STEEP = LatentDiscriminator(3)
STEEP.mlp[-1].weight.data.mul_(1e3)
ATTENTION = nn.MultiheadAttention(3, 1, batch_first=True)


EDITABLE, EDIT = object.__new__(Inversion), object.__new__(Direction)
EDITABLE.image, EDITABLE.edit = PICTURES, lambda edit, strength: PICTURES + strength
WEIGHED = "sum of the weights"


def wrong_mean(weigh):  # of Eq. 8 of notebook 08, with other weights than m
    def outside(p, e, x, y, m):
        weight = weigh(m).expand_as(x)
        return (weight * (e - p - y + x).square()).sum() / weight.sum()

    return outside


SEARCHED = SimpleNamespace(latent=CODES, knobs={"steps": 3, "rate": 0.2})
BRANCHED = ("smile", "age")
CHANGED = PICTURES.clone()
CHANGED[:, :, :4, :4] += 0.1


DRAWN = {"a": object.__new__(Inversion)}  # of PICTURES, nearly
DRAWN["a"].state, DRAWN["a"].image = State(CODES), PICTURES + 0.1
DRAWN["a"].knobs, DRAWN["a"].trace = {"learning_rate": 0.03, "lambda_": 0.0}, {"mse": torch.full((3, 2), 0.01)}
FLAT = PICTURES.clone()
FLAT[:, :, 8:] = 0.5
NOISY = (PICTURES / 2, torch.ones_like(PICTURES), PICTURES / 2 + 0.1)  # pictures, a "noise", 0.1 of it added


def corners_of(points, size=1.0, sign=-1):  # FFHQ's crop, with a wrong size or direction
    left, right, mouth_left, mouth_right = points
    eyes, e = (left + right) / 2, right - left
    m = (mouth_left + mouth_right) / 2 - eyes
    x = torch.nn.functional.normalize(e + torch.stack([m[1], sign * m[0]]), dim=0)
    x = size * x * max(2 * e.norm(), 1.8 * m.norm())
    y = torch.stack([-x[1], x[0]])
    return eyes + 0.1 * m + torch.stack([-x - y, y - x, x + y, x - y])


def nothing(*args):
    return None


def true_map(x, y, r):
    return torch.nn.functional.avg_pool2d(((y - x).abs().amax(1, keepdim=True) <= 0.02).float(), 16 // r)


@pytest.mark.parametrize(
    "check, arguments",
    [
        (start.check_mixing, (None, CODES, SIZES)),
        (start.check_return, (None, EDITABLE, EDIT)),
        (start.check_line, (nothing, CODES[0], CODES[1])),
        (start.check_total_error, (nothing, PICTURES, PICTURES, PICTURES, PICTURES)),
        (generator.check_louder, (None, [GOOD], 0)),
        (generator.check_count, (None, None, (8, 4))),
        (generator.check_gradients, (None, None, torch.tensor(-6.0))),
        (generator.check_down, (nothing, PICTURES)),
        (generator.check_without, (nothing, [PICTURES], PICTURES)),
        (latent_spaces.check_passing, (None, None)),
        (latent_spaces.check_diagonal, (None, GOOD)),
        (latent_spaces.check_double, (None, CODES, SIZES, 0)),
        (latent_spaces.check_radial, (nothing, GOOD, STATISTICS)),
        (latent_spaces.check_dimension, (nothing,)),
        (inversion.check_early_stop, (None, None, {}, {}, ["a"])),
        (inversion.check_inversions, (None, {"a": 0.0}, PICTURES, 1, 0.1)),
        (inversion.check_shell, (nothing, 4, 8)),
        (inversion.check_condition, (nothing, PICTURES)),
        (editing.check_errors, (None,)),
        (editing.check_best_length, (nothing, PICTURES, PICTURES)),
        (editing.check_hold_all, (nothing, {"a": GOOD[0], "b": GOOD[0]}, SAMPLES, 0.2)),
        (editing.check_score, (nothing, PICTURES)),
        (editing.check_two_means, (nothing, GOOD, GOOD[:, 0])),
        (editing.check_gain, (nothing, PICTURES, PICTURES)),
        (encoders.check_equal, (nothing, CODES)),
        (encoders.check_typical, (nothing, CODES, STATISTICS)),
        (encoders.check_fit, (nothing, GOOD, {"a": GOOD}, {})),
        (encoders.check_layer_gain, (None, {"e4e": CODES}, PICTURES, SIZES)),
        (encoders.check_hybrid, (None, ("a",), 1, {}, {})),
        (encoders.check_offsets, (nothing, CODES)),
        (encoders.check_blend, (nothing, CODES, CODES)),
        (alignment.check_aligned, (None, CODES, SIZES, ANCHORS)),
        (alignment.check_crossed, (None, None, 4, 3, SIZES, ANCHORS, STATISTICS)),
        (alignment.check_anchors, (nothing, CODES, SIZES)),
        (alignment.check_references, (nothing, [GOOD[0]])),
        (clcae.check_lowest, (nothing,)),
        (clcae.check_find, (nothing,)),
        (clcae.check_fold, (nothing, ATTENTION, GOOD)),
        (clcae.check_mixed, (nothing, INVERSION, INVERSION)),
        (clcae.check_exchanged, (nothing, lambda w, f: PICTURES, CODES, PICTURES)),
        (two_branch.check_shrink_layers, (nothing, CODES, 0.5)),
        (two_branch.check_several, (nothing, 2, BRANCHED)),
        (two_branch.check_true_map, (nothing, PICTURES, -PICTURES)),
        (two_branch.check_matrix, (nothing, None)),
        (two_branch.check_matrix, (lambda r: r**4, None)),
        (two_branch.check_outside, (nothing,)),
        (comparing.check_noise, (None, PICTURES, PICTURES, PICTURES)),
        (comparing.check_hidden, (None, FACES, (), nothing)),
        (comparing.check_difference, (None, None, GOOD, GOOD)),
        (comparing.check_corners, (nothing,)),
    ],
)
def test_every_check_says_so_if_there_is_no_answer(check, arguments):
    with pytest.raises(NotYet, match="expected an answer, got None"):
        check(*arguments)


def test_no_check_is_left_out():
    """The list above has all checks but one, which needs 2000 codes before it looks at the answer."""
    modules = (start, generator, latent_spaces, inversion, editing, encoders, alignment, clcae, two_branch, comparing)
    checks = {f for m in modules for name, f in vars(m).items() if name.startswith("check_")}
    mark = test_every_check_says_so_if_there_is_no_answer.pytestmark[0]
    assert checks - {case[0] for case in mark.args[1]} == {alignment.check_fair, inversion.check_line}


@pytest.mark.parametrize(
    "check, arguments, sentence",
    [
        (start.check_line, (lambda a, b, n: torch.stack([a] * n), CODES[0], CODES[1]), "first and last code"),
        (start.check_total_error, (lambda x, e, y, t: torch.zeros(2), PICTURES, PICTURES / 2, PICTURES, -PICTURES),
         "total_error"),
        (generator.check_down, (lambda x: x[:, :, ::2, ::2], PICTURES), "a chequerboard"),
        (generator.check_gradients, (torch.tensor(0.5), torch.tensor(-0.5), torch.tensor(-6.0)), "pull_saturating"),
        (generator.check_count, (18, 9088.0, (512, 64)), "numbers: expected an int, got a float"),
        (latent_spaces.check_passing, (256.0, -200.0), "probability .95"),
        (latent_spaces.check_dimension, (lambda x: float(x.square().mean()),), "cloud of dimension 1"),
        (inversion.check_shell, (lambda v: 0.05 * (v.square().mean((1, 2)) - 1).square(), 4, 8), "half of their"),
        (inversion.check_condition, (lambda x: x[:, :, ::2, ::2] - x.mean(), PICTURES), "one image"),
        (inversion.check_condition, (lambda x: x * 2, PICTURES), "nearly all of them"),
        (inversion.check_condition, (lambda x: x.round(), PICTURES), "gradient is 0 everywhere"),
        (inversion.check_shell, (lambda v: 0.05 * (v.detach().square().mean(2) - 1).square().mean(1), 4, 8),
         "differentiable"),
        (latent_spaces.check_passing, (486.4, float(stats.binom.logpmf(219, 512, 0.95)) / math.log(10)), "a larger"),
        (latent_spaces.check_dimension, (lambda x: float(x.std(0).sum() ** 2 / x.var(0).sum()),), "cloud of dimension"),
        (latent_spaces.check_dimension, (lambda x: float(torch.linalg.svdvals(x - x.mean(0)).sum() ** 2
         / torch.linalg.svdvals(x - x.mean(0)).square().sum()),), "cloud of dimension"),
        (editing.check_score, (lambda x: torch.arange(2.0)[: len(x)], PICTURES), "the score of one picture"),
        (inversion.check_condition, (lambda x: x.mean(1), PICTURES), "expected shape"),
        (editing.check_two_means, (lambda w, y, s: w[0], torch.randn(40, 3), torch.randn(40)), "Sort by y"),
        (editing.check_errors, ((0.9, 2.0, 1.4),), "the second error"),
        (editing.check_score, (lambda x: torch.ones(2), PICTURES), "one value for all"),
        (editing.check_score, (lambda x: x.mean((1, 2, 3)) - x.mean(), PICTURES), "the score of one picture"),
        (encoders.check_offsets, (lambda w: (w[:, 0], w[:, 1:]), CODES), "offsets"),
        (encoders.check_blend, (lambda a, b, t: torch.lerp(a, b, 0.5), CODES, -CODES), "one weight for each layer"),
        (encoders.check_hybrid, ({"a": 3}, ("a",), 1, {}, {}), "expected an inversion, got an int"),
        (encoders.check_hybrid, ({"a": SEARCHED}, ("a",), 2, {"steps": 3, "rate": 0.1}, {}), "rate=0.1, got 0.2"),
        (encoders.check_hybrid, ({"a": SEARCHED}, ("a",), 2, {"steps": 3, "weight": 0.1}, {}), "an inversion without"),
        (encoders.check_hybrid, (dict.fromkeys("ab", SEARCHED), ("a", "b"), 2, {}, {"a": CODES + 1}), "without `init"),
        (encoders.check_fit, (lambda own, found: STEEP, GOOD, {"a": GOOD}, {}), "contains r1_penalty"),
        (encoders.check_layer_gain, (NUMBERS.new_tensor([0, 0, 9, 0]), {"e4e": CODES, "pSp": CODES}, PICTURES, SIZES),
         "gain of layer 2"),
        (alignment.check_references, (lambda mu: [torch.zeros(1)] * 2, [torch.tensor([0.6, 0.0])]), "the floor"),
        (clcae.check_lowest, (lambda n, t: math.log(1 + (n - 1) * math.exp(-1 / t)),), "divided by t"),
        (clcae.check_lowest, (lambda n, t: math.log(1 + (n - 1) * math.exp(-1 / (n - 1) - 1 / t)),), "divided by t"),
        (clcae.check_lowest, (lambda n, t: math.log(1 + (n - 1) * math.exp((-1 / (n - 1) - 1) / t**2)),), "by t"),
        (clcae.check_find, (lambda a, b: (a @ b.T).diagonal().mean(),), "similarities of image i"),
        (clcae.check_find, (lambda a, b: ((a @ b.T).argmax(0) == torch.arange(6)).float().mean(),), "of image i"),
        (clcae.check_find, (lambda a, b: ((a @ b.T).diagonal() > 0.9).float().mean(),), "of image i"),
        (clcae.check_find, (lambda a, b: (a.argmax(1) == torch.arange(6)).float().mean(),), "of image i"),
        (clcae.check_fold, (lambda m: (m.in_proj_weight[-3:], m.in_proj_bias[-3:]), ATTENTION, NUMBERS),
         "stands on the right"),
        (clcae.check_fold, (lambda m: [torch.eye(3), torch.ones(3)], ATTENTION, NUMBERS), "where the residual is 0"),
        (clcae.check_fold, (lambda m: (torch.eye(3), torch.eye(3)), ATTENTION, NUMBERS), "a: expected shape"),
        (clcae.check_exchanged, (lambda w, f: f, lambda w, f: f, CODES, PICTURES), "that of the last"),
        (two_branch.check_shrink_layers, (lambda d, a: d * 0.5, CODES + 1, 5.0), "exact zeros"),
        (two_branch.check_shrink_layers, (lambda d, a: d.sign() * (d.abs() - a).clamp(min=0), CODES + 9, 1.0),
         "lengths of the layers"),
        (two_branch.check_several, (lambda s: torch.tensor([[v for _, v in sorted(s.items())] + [0.0] * (2 - len(s))])
                                    .repeat(2, 1), 2, BRANCHED), "in the order of"),
        (two_branch.check_true_map, (lambda x, y, r: torch.ones(2, 1, r, r), PICTURES, CHANGED), "a cell without"),
        (two_branch.check_true_map, (lambda x, y, r: true_map(PICTURES, CHANGED, r), PICTURES, CHANGED), "mirrored"),
        (two_branch.check_matrix, (lambda r: r * r, 64), "pair of positions"),
        (two_branch.check_matrix, ({4: 256, 16: 65536}.get, 128), r"numbers\(6\): expected an answer"),
        (two_branch.check_matrix, (lambda r: r**4, 100), "a power of two"),
        (two_branch.check_matrix, (lambda r: r**4, 256), "16 GiB"),
        (two_branch.check_matrix, (lambda r: r**4, 64), "the next one fits"),
        (two_branch.check_outside, (lambda p, e, x, y, m: (m * (e - p - y + x) ** 2).mean(),), WEIGHED),
        (two_branch.check_outside, (wrong_mean(torch.ones_like),), WEIGHED),
        (two_branch.check_outside, (wrong_mean(lambda m: (m > 0.5).float()),), WEIGHED),
        (two_branch.check_outside, (wrong_mean(lambda m: m / m.sum((1, 2, 3), keepdim=True)),), WEIGHED),
        (two_branch.check_shrink_layers, (lambda d, a: d / (n := d.norm(dim=2, keepdim=True)) * (n - a).clamp(min=0),
                                          CODES + 9, 1.0), "finite values"),
        (clcae.check_find, (lambda a, b: ((a @ b.T).argmax(1) == torch.arange(6)).float(),), r"expected shape \(\)"),
        (clcae.check_lowest, (lambda n, t: torch.zeros(3),), r"expected shape \(\), got \(3,\)"),
        (clcae.check_mixed, (lambda t: MAPLESS, MAPLESS, MAPPED), "expected one, got an inversion without a map"),
        (inversion.check_condition, (lambda x: x[:, :, ::2].diff(dim=2).square().sqrt(), FLAT), "under the root"),
        (inversion.check_shell, (lambda v: 0.05 * (v.square() - 1).square().mean((1, 2)), 4, 8), "first the mean of"),
        (inversion.check_inversions, (DRAWN, {"a": 0.0}, PICTURES, 3, 0.1), "learning_rate=0.1, got 0.03"),
        (inversion.check_inversions, (DRAWN, {"a": 0.5}, PICTURES, 3, 0.03), "lambda_=0.5, got 0"),
        (inversion.check_inversions, (DRAWN, {"a": 0.0}, PICTURES.flip(2), 3, 0.03), "nearer to upright"),
        (inversion.check_inversions, (DRAWN, {"a": 0.0}, PICTURES.flip(0), 3, 0.03), "one of other pictures"),
        (comparing.check_noise, ([0.2], *NOISY), "got a list"),
        (comparing.check_noise, (torch.ones(2), *NOISY), r"expected shape \(\), got \(2,\)"),
        (comparing.check_noise, (0.12, *NOISY), "expected a larger number"),
        (comparing.check_noise, (0.08, *NOISY), "expected a smaller number"),
        (comparing.check_noise, (-0.1, *NOISY), "a positive number"),
        (comparing.check_corners, (lambda points: corners_of(points)[[3, 2, 1, 0]],), "another order"),
        (comparing.check_corners, (lambda points: corners_of(points) + 1,), "the middle of the eyes plus"),
        (comparing.check_corners, (lambda points: corners_of(points, 0.5),), "half of the width"),
        (comparing.check_corners, (lambda points: corners_of(points, sign=1),), "the second coordinate points down"),
        (start.check_return, (PICTURES, EDITABLE, EDIT), "expected a tuple or a list"),
        (start.check_return, ((PICTURES, PICTURES), EDITABLE, EDIT), r"the picture after \+2"),
        (start.check_return, ((PICTURES + 2, PICTURES + 4), EDITABLE, EDIT), "with the other sign"),
        (start.check_line, (lambda a, b, n: torch.stack([a] * 7), CODES[0], CODES[1]), r"line\(a, b, 3\)"),
        (generator.check_gradients, (-nn.functional.softplus(torch.tensor(-6.0)), GOOD[0, 0], torch.tensor(-6.0)),
         "pull_saturating"),  # the loss in the place of its derivative
    ],
)  # fmt: skip
def test_wrong_answers_are_found(check, arguments, sentence):
    with pytest.raises(NotYet, match=sentence):
        check(*arguments)


def test_right_answers_about_two_branches_pass():
    def shrink_layers(d, amount):
        return d * (1 - amount / d.norm(dim=2, keepdim=True).clamp(min=1e-9)).clamp(min=0)

    def outside(plain, edited, x, refined, m):
        weight = m.expand_as(x)
        return (weight * (edited - plain - refined + x).square()).sum() / weight.sum()

    two_branch.check_shrink_layers(shrink_layers, CODES, 4.0)
    two_branch.check_several(lambda s: torch.tensor([[s.get(k, 0.0) for k in BRANCHED]] * 2), 2, BRANCHED)
    two_branch.check_true_map(true_map, PICTURES, CHANGED)
    two_branch.check_matrix(lambda r: r**4, 128)
    two_branch.check_outside(outside)
    two_branch.check_outside(lambda *given: float(outside(*given)))


def test_an_edit_there_and_back_passes():
    start.check_return((PICTURES + 2, PICTURES), EDITABLE, EDIT)


def test_numbers_of_another_inversion_are_refused():
    G = small_generator()
    anchors, statistics = measure_anchors(G, 100), measure_statistics(G, 1000)
    codes = torch.randn(4, G.num_ws, G.w_dim, generator=torch.Generator().manual_seed(0))
    knobs = {"lambda_": 0.005, "steps": 3, "learning_rate": 0.03}
    inv = Inversion(State(codes), G.synthesis(codes), G, "ii2s", knobs=knobs)
    pair = sncd_of_codes(codes, G, anchors), pn_norm(codes, statistics)

    def check(inv, pair):
        alignment.check_crossed({"II2S": pair}, inv, 4, 3, G, anchors, statistics)

    check(inv, pair)
    wrong = {
        "SNCD comes first": (inv, pair[::-1]),
        "an inversion by ii2s, got one by i2s": (replace(inv, method="i2s"), pair),
        "steps=3, got 4": (replace(inv, knobs=knobs | {"steps": 4}), pair),
        "relative to the right one": (replace(inv, state=State(codes.flip(0))), pair),
    }
    for sentence, (found, numbers) in wrong.items():
        with pytest.raises(NotYet, match=sentence):
            check(found, numbers)


def test_codes_that_were_not_searched_for_from_their_starts_are_refused():
    G = load("faces-64")  # codes of the small generator lie nearer to each other than a search goes
    anchors = measure_anchors(G, 2000)
    start = G.broadcast(G.mapping(torch.randn(500, G.z_dim, generator=stream(0, "aligned"))))
    aligned = start[:4].clone().requires_grad_()
    adam = torch.optim.Adam([aligned], lr=0.1)
    for _ in range(100):
        adam.zero_grad()
        sncd_of_codes(aligned, G, anchors).sum().backward()
        adam.step()
    alignment.check_aligned(aligned.detach(), start[:4], G, anchors)
    with pytest.raises(NotYet, match="near its lowest value"):
        alignment.check_aligned(start[:4], start[:4], G, anchors)
    with pytest.raises(NotYet, match="nearest to the code that its search started from"):
        alignment.check_aligned(start.mean(0).expand(4, -1, -1), start[:4], G, anchors)
    with pytest.raises(NotYet, match="each layer with a vector of its own"):
        alignment.check_aligned(G.truncate(start[:4], 0.2), start[:4], G, anchors)


def test_anchors_count_every_code_alike():
    G = load("faces-64")
    w_plus = G.broadcast(G.mapping(torch.randn(300, G.z_dim, generator=stream(0, "anchors"))))

    def anchor(batches):
        return [s.mean(0) for s in s_to_sn(w_to_s(torch.cat(batches), G))]

    assert len(alignment.check_anchors(anchor, w_plus, G)) == G.num_ws
    wrong = {
        "gives the codes of a small batch": lambda batches: [
            torch.stack(m).mean(0) for m in zip(*(anchor([batch]) for batch in batches), strict=True)
        ],
        "is not normalised": lambda batches: [m / m.norm() for m in anchor(batches)],
        "expected .* layers": lambda batches: anchor(batches)[1:],
    }
    for sentence, mistaken in wrong.items():
        with pytest.raises(NotYet, match=sentence):
            alignment.check_anchors(mistaken, w_plus, G)


def test_right_answers_about_comparing_pass():
    assert comparing.check_noise(0.1, *NOISY).shape == PICTURES.shape
    comparing.check_corners(corners_of)


def paired(a, b, n=2000, level=0.95, seed=3):
    d = a - b
    means = d[torch.randint(len(d), (n, len(d)), generator=torch.Generator().manual_seed(seed))].mean(1)
    return means.quantile(torch.tensor([(1 - level) / 2, (1 + level) / 2])).tolist()


def test_the_paired_interval_is_told_from_others():
    generator = torch.Generator().manual_seed(0)
    face = 3 * torch.randn(12, generator=generator)
    a, b = 30 + face, 29.7 + face + 0.2 * torch.randn(12, generator=generator)
    comparing.check_difference(*paired(a, b), a, b)
    apart = [float((a.mean() - b.mean()) + sign * 1.96 * (a.var() / 12 + b.var() / 12).sqrt()) for sign in (-1, 1)]
    wrong = {
        "the other way round": paired(b, a),
        "quantiles .025 and .975": paired(a, b, level=0.9),
        "quantiles of the faces": (a - b).quantile(torch.tensor([0.025, 0.975])).tolist(),
        "draw faces of their own": apart,
        "2000 times": [0.0, 1.0],
        "expected low < high": [1.0, 0.0],
    }
    for sentence, ends in wrong.items():
        with pytest.raises(NotYet, match=sentence):
            comparing.check_difference(*ends, a, b)


def test_an_edit_is_hidden_from_numbers_over_the_faces_that_it_changes():
    faces = plain_faces(4).with_factors(smile=torch.tensor([0.0, 0.1, 0.2, 1.0]))

    def measure(reading):  # as if PSNR were 30 dB on changed faces and, as it is, infinite on others
        def of(name, x, y):
            psnr = torch.where((x != y).flatten(1).any(1), 30.0, math.inf)
            right = {"PSNR": psnr, "SSIM": 0.95, "perceptual": 0.01, "identity": 0.99, "reading, sd": reading}
            return {name: torch.as_tensor(value).expand(len(x)) for name, value in right.items()}

        return of

    found = comparing.check_hidden({"smile": 0.4}, faces, ["gaze_x"], measure(1.5))
    assert found["PSNR"] == 30.0  # without the face that smiles already
    wrong = {
        "a factor of ll.faces.TABLE, got 'grin'": {"grin": 0.4},
        "another factor than gaze_x": {"gaze_x": 0.4},
        "expected one factor": {"smile": 0.4, "yaw": 1.0},
        "got a string|got a str": {"smile": "0.4"},
        "width of its range": {"smile": 50.0},
        "one that changes most faces, got 1 of 4": {"smile": 0.4},
    }
    for sentence, hidden in wrong.items():
        full = faces.with_factors(smile=torch.tensor([1.0, 1.0, 1.0, 0.2])) if "1 of 4" in sentence else faces
        with pytest.raises(NotYet, match=sentence):
            comparing.check_hidden(hidden, full, ["gaze_x"], measure(1.5))
    with pytest.raises(NotYet, match=r"expected reading, sd above 1, got 0.500. Of the five numbers 4 are right"):
        comparing.check_hidden({"smile": 0.4}, faces, ["gaze_x"], measure(0.5))


def test_fair_divides_by_what_samples_have():
    """Twice the lowest value is nearly what samples have, and is not it."""
    G = small_generator()
    anchors = measure_anchors(G, n=4000)
    w_plus = G.broadcast(G.mapping(torch.randn(200, G.z_dim, generator=stream(0, "fair"))))

    def in_units(of):
        means = [m.float() for m in anchors.means()]
        each = [1 - s @ m for s, m in zip(s_to_sn(w_to_s(w_plus, G)), means, strict=True)]
        return torch.stack([x / of(m) for x, m in zip(each, means, strict=True)], 1).mean(1)

    alignment.check_fair(lambda w: in_units(lambda m: 1 - m.square().sum()), w_plus, G, anchors)
    with pytest.raises(AssertionError, match="anchors"):
        alignment.check_fair(lambda w: in_units(lambda m: 2 - 2 * m.norm()), w_plus, G, anchors)
