"""Every row of every table, at every case, in both dtypes, against JAX and finite differences."""

import inspect

import numpy as np
import pytest

import manual.activations
import manual.fast
from compare import Verdict
from compare.errors import BadInput
from compare.suite.cases import all_cases
from compare.suite.ops import catalog, sweep, verify_op

CATALOG, CASES = catalog(), all_cases()


def test_every_row_has_cases_and_every_case_a_row():
    assert list(CASES) == list(CATALOG)


@pytest.mark.parametrize("name", CATALOG)
def test_the_cases_cover_two_shapes_and_every_option(name):
    cases = CASES[name]
    assert len({tuple(np.shape(x) for x in case.inputs) for case in cases}) >= 2
    for option, parameter in inspect.signature(CATALOG[name].forward).parameters.items():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            values = {str(case.options.get(option, parameter.default)) for case in cases}
            assert len(values) >= 2, f"{name}: no case changes {option}"


@pytest.mark.parametrize(("name", "number"), [(name, i) for name, cases in CASES.items() for i in range(len(cases))])
def test_both_sides_agree(name, number):
    for dtype in ("float64", "float32"):
        report = verify_op(CATALOG[name], CASES[name][number], dtype)
        assert report.verdict is Verdict.AGREE, f"{dtype}, {CASES[name][number]}\n{report}"


def test_a_sweep_names_the_case_of_a_fault(monkeypatch):
    rows = manual.activations.ACTIVATIONS
    forward, _ = rows["tanh"]
    monkeypatch.setitem(rows, "tanh", (forward, lambda dy, cache: dy * (1 - cache.y)))
    (found,) = sweep(["tanh"], dtypes=["float64"])
    assert found.verdict is Verdict.DISAGREE
    assert found.worst["float64"] > 1e6
    assert "(7,), float64" in str(found)
    assert "the factor is 1 - output where 1 - output**2 belongs" in str(found.report)
    assert found.to_dict()["report"]["verdict"] == "disagree"


def test_a_sweep_says_how_large_the_errors_are():
    found = list(sweep(["flatten", "relu"], dtypes=["float64"]))
    assert [result.name for result in found] == ["flatten", "relu"]
    for result in found:
        assert result.verdict is Verdict.AGREE
        assert 0 <= result.worst["float64"] <= 1
        assert result.checks == 2 * len(CASES[result.name])  # the page, and what is fast


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
