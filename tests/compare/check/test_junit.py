"""Reports as JUnit's XML."""

from xml.etree import ElementTree

import jax.numpy as jnp
import numpy as np
import pytest

from compare import check_gradients
from compare.check.junit import junit
from compare.check.recorded_runs import check_runs

NAME = "mine & <yours>.py:f"


@pytest.mark.parametrize(("factor", "failures"), [(1, 0), (2, 1)])
def test_each_row_is_a_test_case(factor, failures):
    report = check_gradients(
        lambda p: (sum(np.sum(v**2) for v in p.values()), {"a<b": 2 * p["a<b"] * factor, "c": 2 * p["c"]}),
        lambda p: sum(jnp.sum(v**2) for v in p.values()), {"a<b": np.ones(2), "c": np.ones(3)},
    )  # fmt: skip
    suite = ElementTree.fromstring(junit(report, NAME))
    assert suite.get("name") == NAME
    assert (suite.get("tests"), suite.get("failures")) == (str(len(report.rows)), str(failures))
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    assert "a<b" in cases
    assert (cases["a<b"].find("failure") is not None) is bool(failures)
    properties = {one.get("name"): one.get("value") for one in suite.iter("property")}
    assert properties["verdict"] == report.verdict.value
    assert properties.get("cause") == ("a<b: factor" if failures else None)


def test_what_is_not_decided_is_skipped():
    report = check_gradients(lambda x: (np.inf, 2 * x), lambda x: jnp.sum(x**2) + jnp.inf, np.ones(2))
    suite = ElementTree.fromstring(junit(report, NAME))
    assert int(suite.get("skipped") or 0) == len(list(suite.iter("skipped"))) > 0


def test_runs_have_a_case_for_each_tensor():
    report = check_runs({"a": np.ones(2), "b": np.ones(2)}, {"a": np.ones(2), "b": np.zeros(2)})
    suite = ElementTree.fromstring(junit(report, NAME))
    assert [case.get("name") for case in suite.iter("testcase")] == ["a", "b"]
    assert suite.get("failures") == "1"
