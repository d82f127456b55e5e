"""Edits from scores, choices and pairs: the true line in a linear world, and honest about examples that say nothing."""

import math

import pytest
import torch
from worlds import StyleWorld, first

from latentlab.editing.edit import State
from latentlab.editing.lab import edit_from_choices, edit_from_pairs, edit_from_scores, read_scores
from latentlab.editing.samples import Reader
from latentlab.spaces import measure_statistics, p_to_w, w_to_p


class PWorld(StyleWorld):
    """Codes are standard normal in P, which PN then is up to a rotation."""

    def mapping(self, z):
        return p_to_w(super().mapping(z))


TRUE = torch.tensor([0.6, 0.8, 0.0, 0.0, 0.0, 0.0])
READ = Reader(first(2), ("a", "b"))


@pytest.fixture(scope="module")
def G() -> PWorld:
    return PWorld()


@pytest.fixture(scope="module")
def statistics(G):
    return measure_statistics(G, 50_000)


@pytest.fixture(scope="module")
def w(G):
    return G.mapping(torch.randn(400, 6, generator=torch.Generator().manual_seed(0)))


def test_scores_give_their_line_and_their_agreement(G, w, statistics):
    scores = w_to_p(w) @ TRUE * 5 + 3
    found = edit_from_scores(G, w, scores, "mine", statistics=statistics, read=READ)
    assert torch.cosine_similarity(found.edit.step, TRUE, 0) > 0.99 and found.agreement > 0.99
    # one deviation of the codes along the line
    x = w_to_p(w)
    assert float(found.edit.step.norm()) == pytest.approx(float((x @ TRUE).std()), rel=0.1)
    after = found.edit(State(G.broadcast(w)), torch.ones(400), G).w_plus[:, 0]
    moved = G.A[:2] @ (after - w).mean(0) / found.effect.std
    torch.testing.assert_close(found.effect.mean, moved, atol=0.15, rtol=0)
    assert "400 scores" in found.edit.source and found.edit.name == "mine" and found.edit.space == "PN"


def test_labels_and_few_choices(G, w, statistics):
    truth = w_to_p(w) @ TRUE > 0.5
    labels = edit_from_scores(G, w, truth.tolist(), "label", statistics=statistics, read=READ)
    assert torch.cosine_similarity(labels.edit.step, TRUE, 0) > 0.95 and "400 labels" in labels.edit.source
    order = (w_to_p(w) @ TRUE).argsort().tolist()
    few = edit_from_choices(G, w, order[-5:], order[:5], "liked", statistics=statistics, read=READ)
    assert torch.cosine_similarity(few.edit.step, TRUE, 0) > 0.7 and few.agreement > 0.5
    means = w_to_p(w[order[-5:]]).mean(0) - w_to_p(w[order[:5]]).mean(0)
    wide = edit_from_choices(G, w, order[-5:], order[:5], "liked", statistics=statistics, read=READ, lambda_ridge=1e6)
    difference = statistics.w_to_pn(w[order[-5:]]).mean(0) - statistics.w_to_pn(w[order[:5]]).mean(0)
    step = torch.linalg.solve(statistics.eigenvectors * statistics.floored.sqrt(), wide.edit.step.double())
    assert torch.cosine_similarity(step.float(), difference, 0) > 0.999 and means.norm() > 0


def test_random_labels_do_not_agree(G, w, statistics):
    """Six dimensions fit 30 random scores with a correlation of .45 on average; on those left out there is none."""
    noise = torch.randn(10, 30, generator=torch.Generator().manual_seed(4))
    found = [edit_from_scores(G, w[:30], scores, "noise", statistics=statistics).agreement for scores in noise]
    assert sum(found) / 10 < 0.15
    pair = edit_from_choices(G, w, [0], [1], "two", statistics=statistics, read=READ)
    assert math.isnan(pair.agreement)


def test_pairs_of_codes_and_of_pictures(G, w, statistics):
    noise = 0.1 * torch.randn(20, 6, generator=torch.Generator().manual_seed(5))
    with_ = p_to_w(w_to_p(w[:20]) + 2 * TRUE + noise)
    found = edit_from_pairs(G, w[:20], with_, "hat", statistics=statistics, read=READ)
    torch.testing.assert_close(found.edit.step, 2 * TRUE, atol=0.1, rtol=0)
    assert found.agreement > 0.95 and "20 pairs" in found.edit.source
    edited = found.edit(State(G.broadcast(w[:20])), torch.ones(20), G).w_plus[:, 0]
    torch.testing.assert_close(edited, with_, atol=0.8, rtol=0)
    codes = {}

    def invert(images):
        return codes[images]

    pictures = [G.synthesis(G.broadcast(x)) for x in (w[:20], with_)]
    codes |= {pictures[0]: G.broadcast(w[:20]), pictures[1]: G.broadcast(with_)}
    layered = edit_from_pairs(G, *pictures, "hat", invert=invert, statistics=statistics, read=READ)
    torch.testing.assert_close(layered.edit.step, found.edit.step.expand(3, 6))
    one = edit_from_pairs(G, w[:1], with_[:1], "hat", statistics=statistics)
    assert math.isnan(one.agreement) and one.effect is None  # nothing reads pictures of 4 px
    unlike = [edit_from_pairs(G, w[i : i + 4], w[i + 4 : i + 8], "nothing", statistics=statistics).agreement
              for i in range(0, 160, 8)]  # fmt: skip
    assert abs(sum(unlike) / 20) < 0.2  # .5 with the mean of all four, its own difference included


def test_scores_from_a_file(G, w, statistics, tmp_path):
    file = tmp_path / "scores.csv"
    file.write_text("picture,age,glasses\n" + "".join(f"{i}.png,{i / 2},{i % 3 == 0}\n" for i in range(10)))
    assert read_scores(file, "age", 10).tolist() == [i / 2 for i in range(10)]
    assert read_scores(file, "glasses", 10).tolist() == [float(i % 3 == 0) for i in range(10)]
    with pytest.raises(ValueError, match="expected a column 'beard', got picture, age, glasses"):
        read_scores(file, "beard", 10)
    with pytest.raises(ValueError, match="expected a row for each of 11 samples, got 10"):
        read_scores(file, "age", 11)
    with pytest.raises(ValueError, match="expected numbers in 'picture', got '0.png' in row 0"):
        read_scores(file, "picture", 10)


def test_bad_input(unchecked, G, w, statistics):
    known = {"statistics": statistics, "read": READ}
    with pytest.raises(ValueError, match="scores: expected two classes, .* one value in all of 400"):
        edit_from_scores(G, w, torch.ones(400), "x", **known)
    with pytest.raises(ValueError, match=r"scores: expected one for each of 400 codes, got \(3,\)"):
        edit_from_scores(G, w, [1.0, 2.0, 3.0], "x", **known)
    with pytest.raises(ValueError, match="scores: expected finite numbers, got 1"):
        edit_from_scores(G, w[:2], [1.0, math.nan], "x", **known)
    with pytest.raises(ValueError, match="scores: expected numbers, or True and False, got str"):
        edit_from_scores(G, w[:2], ["no", "yes"], "x", **known)
    for codes in (w[:, :5], w[:, None].expand(-1, 3, -1)):
        with pytest.raises(ValueError, match=r"w: expected codes of W, \(N, 6\), got \(400, "):
            edit_from_scores(G, codes, torch.arange(400.0), "x", **known)
    for ridge in (-1.0, 0.0):
        with pytest.raises(ValueError, match="lambda_ridge: expected 0 or more"):
            edit_from_scores(G, w[:5], range(5), "x", lambda_ridge=ridge, **known)
    with pytest.raises(ValueError, match="statistics: expected those of the mapping network"):
        edit_from_scores(StyleWorld(torch.ones(6, 6)), w, w[:, 0], "x", **known)
    for liked, disliked, says in (([], [1], "at least one sample each, got 0"), ([1, 2], [2], r"got \[2\] in both"),
                                  ([1], [400], r"from 0 to 399, got \[400\]")):  # fmt: skip
        with pytest.raises(ValueError, match=says):
            edit_from_choices(G, w, liked, disliked, "x", **known)
    with pytest.raises(ValueError, match="expected the same shape as without"):
        edit_from_pairs(G, w, w[:3], "x", **known)
    with pytest.raises(ValueError, match="got the same"):
        edit_from_pairs(G, w, w, "x", **known)
    with pytest.raises(ValueError, match="invert: expected what takes pictures to codes"):
        edit_from_pairs(G, torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4), "x", **known)
    with pytest.raises(ValueError, match=r"expected codes \(N, 6\) or \(N, 3, 6\), got \(2, 5\)"):
        edit_from_pairs(G, torch.zeros(2, 5), torch.ones(2, 5), "x", **known)
