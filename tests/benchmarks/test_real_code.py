"""The campaign on other people's derivatives: evidence, planted faults, verdicts against expectations, exit status."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import real_code
from benchmarks.real.case import RealCase, broken, elementwise, evidence, product, ridders
from compare import Verdict

X = np.random.default_rng(0).standard_normal(6)


def quartic(x):
    return np.sum(x**4), 4 * x**3


def case(by_hand=quartic, **more):
    return RealCase("quartic", by_hand, lambda x: jnp.sum(x**4), X, **more)


def twice(x):
    return np.sum(x**4), 8 * x**3


def test_differences_are_as_exact_as_they_say():
    slope, error = ridders(lambda t: np.sin(1 + t), 0.1)
    assert abs(slope - np.cos(1)) <= max(10 * error, 1e-12)
    assert error < 1e-9


def test_evidence_knows_a_right_gradient_a_wrong_one_and_another_loss():
    right, wrong = evidence(case()), evidence(case(twice))
    assert right is not None
    assert max(right.error, right.apart) < 1e-9
    assert wrong is not None
    assert wrong.error == pytest.approx(0.5, rel=1e-6)
    other = evidence(case(lambda x: (np.sum(x**4) + 1, 4 * x**3)))
    assert other is not None
    assert other.error < 1e-9
    assert other.apart > 0.01
    nan = evidence(case(lambda x: (np.sum(x**4), x * np.nan)))
    assert nan is not None
    assert nan.error == np.inf
    assert evidence(case(kind="update")) is None


def test_evidence_of_a_vector_jacobian_product():
    A = np.random.default_rng(1).standard_normal((3, 6))

    def vjp(backward):
        return RealCase("A x", (lambda x: (A @ x, None), backward), lambda x: A @ x, (X,), kind="vjp")

    right, wrong = evidence(vjp(lambda g, cache: A.T @ g)), evidence(vjp(lambda g, cache: -A.T @ g))
    assert right is not None
    assert max(right.error, right.apart) < 1e-9
    assert wrong is not None
    assert wrong.error == pytest.approx(2)


def test_planted_faults_are_what_they_say_and_are_caught():
    dropped = case(without=lambda x: (np.sum(x**4), 0 * x))
    planted = dict(broken(dropped))
    assert list(planted) == ["one entry 1% off", "one leaf 1% too large", "one term dropped"]
    one = planted["one entry 1% off"].by_hand(X)[1] / (4 * X**3)
    assert np.sort(one) == pytest.approx([1, 1, 1, 1, 1, 1.01])
    assert planted["one leaf 1% too large"].by_hand(X)[1] == pytest.approx(1.01 * 4 * X**3)
    for wrong in planted.values():
        assert wrong.check().verdict is Verdict.DISAGREE
    assert dropped.check().verdict is Verdict.AGREE


def test_products_and_functions_of_one_number_are_checked_as_gradients():
    times = product("twelve", lambda x: (4 * x**3, lambda v: 12 * x**2 * v), lambda x: jnp.sum(x**4), X)
    assert times.check().verdict is Verdict.AGREE
    tanh = elementwise("tanh", np.tanh, lambda x: 1 - np.tanh(x), jnp.tanh, X)
    assert tanh.check().verdict is Verdict.DISAGREE


@pytest.fixture
def chosen(monkeypatch):
    def choose(*cases):
        monkeypatch.setattr(real_code, "LIBRARIES", {"numpy": "none"})
        monkeypatch.setattr(real_code, "cases_of", lambda library: iter(cases))

    return choose


def crash(x):
    raise ZeroDivisionError("no such thing")


def test_sound_and_faulty_ones_as_expected_exit_0(chosen, capsys, tmp_path):
    chosen(case(), case(twice, faulty="it is twice too large"))
    path = tmp_path / "real.json"
    assert real_code.main(["--faults", "--json", str(path)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Known to be wrong: it is twice too large" in out
    found = json.loads(path.read_text())
    assert [result["outcome"] for result in found["results"]] == ["AGREE", "DISAGREE"]
    assert [result["outcome"] for result in found["planted"]] == ["DISAGREE"] * 2
    assert real_code.main(["--evidence"]) == 0


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (case(twice), "quartic: DISAGREE, expected AGREE"),
        (case(faulty="nothing is"), "quartic: AGREE, expected DISAGREE"),
        (case(crash), "quartic: crash, expected AGREE"),
    ],
)
def test_a_verdict_other_than_expected_exits_1(chosen, capsys, wrong, words):
    chosen(wrong)
    assert real_code.main([]) == 1
    out = capsys.readouterr().out
    assert words in out
    if "crash" in words:
        assert "ZeroDivisionError: no such thing" in out


def test_evidence_against_what_a_case_says_of_itself_exits_1(chosen, capsys):
    chosen(case(twice), case(faulty="nothing is"))
    assert real_code.main(["--evidence"]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "the case is marked as sound" in out
    assert "the case is marked as faulty" in out


def test_what_is_not_installed_is_skipped_and_said(monkeypatch, capsys):
    monkeypatch.setattr(real_code, "LIBRARIES", {"no-such-library": "none"})
    assert real_code.main([]) == 0
    assert "no-such-library is not installed: skipped" in capsys.readouterr().err


@pytest.mark.parametrize("library", ["scikit-learn", "scipy"])
def test_names_of_cases_are_different(library):
    names = [case.name for case in real_code.cases_of(library)]
    assert len(names) == len(set(names)) > 50
