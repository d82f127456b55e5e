"""Checks of answers: each wrong answer gets one sentence, never an empty error."""

import pytest
import torch

from latentlab.exercises import NotYet, expect, expect_close, expect_that

GOOD = torch.zeros(2, 3)


@pytest.mark.parametrize(
    "value, options, sentence",
    [
        (None, {}, "a: expected an answer, got None"),
        ([0, 0], {}, "a: expected a Tensor, got a list"),
        (3, {"kind": (str, dict)}, "a: expected a str or dict, got a int"),
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
    with pytest.raises(NotYet, match=r"a: expected another number, got 486. Think of n p.") as caught:
        expect_close(486.0, 123.4, "a", hint="Think of n p.")
    assert "123" not in str(caught.value)
    with pytest.raises(NotYet, match="up to 2 away"):
        expect_close(GOOD + 2, GOOD, "a")
    with pytest.raises(NotYet, match=r"expected shape \(2, 3\), got \(\)"):
        expect_close(1.0, GOOD, "a")
    with pytest.raises(NotYet, match="expected another number, got nan"):
        expect_close(float("nan"), 1.0, "a")
    with pytest.raises(NotYet, match="^both$"):
        expect_that(torch.tensor([True, False]), "both")
