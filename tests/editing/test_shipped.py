"""Edits that are shipped with a generator."""

import pytest

from latentlab.editing.shipped import edits_for
from latentlab.weights.generators import load


def test_an_unknown_factor_is_answered_with_those_that_there_are():
    edits = edits_for(load("faces-64"))
    assert edits["smile"].name == "smile" and edits.get("smiling") is None
    with pytest.raises(KeyError, match=r"expected a factor with a shipped edit, e\.g\. smile.*; got 'smiling'"):
        edits["smiling"]
    with pytest.raises(KeyError, match="got 'xyz'"):
        edits["xyz"]
