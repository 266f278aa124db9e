"""A sweep over the ops: what it says of a fault, how large the errors are, and which ops there are."""

import pytest

import manual.activations
import manual.fast
from compare import Verdict
from compare.errors import BadInput
from compare.suite.cases import all_cases
from compare.suite.ops import sweep


def test_a_sweep_names_the_case_of_a_fault(monkeypatch):
    rows = manual.activations.ACTIVATIONS
    forward, _ = rows["tanh"]
    monkeypatch.setitem(rows, "tanh", (forward, lambda dy, cache: dy * (1 - cache.y)))
    (found,) = sweep(["tanh"], dtypes=["float64"])
    assert found.verdict is Verdict.DISAGREE
    assert found.worst["float64"] > 1e6
    assert "(7,), float64" in str(found)
    assert "the factor is 1 - t, and should be 1 - t**2, the derivative of t = tanh" in str(found.report)
    assert found.to_dict()["report"]["verdict"] == "disagree"


def test_a_sweep_says_how_large_the_errors_are():
    found = list(sweep(["flatten", "relu"], dtypes=["float64"]))
    assert [result.name for result in found] == ["flatten", "relu"]
    for result in found:
        assert result.verdict is Verdict.AGREE
        assert 0 <= result.worst["float64"] <= 1
        assert result.checks == 2 * len(all_cases()[result.name])  # the page, and what is fast


def test_a_fault_of_what_is_fast_is_found_and_called_so(monkeypatch):
    rows = manual.fast.activations.ACTIVATIONS
    forward, _ = rows["sigmoid"]
    monkeypatch.setitem(rows, "sigmoid", (forward, lambda dy, cache: dy * cache.y))
    (found,) = sweep(["sigmoid"], dtypes=["float64"])
    assert found.verdict is Verdict.DISAGREE
    assert "(7,), float64, fast" in str(found)


def test_an_unknown_op_is_refused():
    with pytest.raises(BadInput, match=r"no op is called 'sofmax'. Did you mean softmax\? There are tanh, sigmoid"):
        list(sweep(["sofmax"]))
