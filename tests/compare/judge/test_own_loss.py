"""A gradient against differences of its own loss: single wrong entries found, noise not blamed."""

import ctypes
import ctypes.util
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from compare import Verdict, check_gradients, check_vjp
from compare.judge import own_loss
from compare.judge.evaluation.side_effects import Watched
from compare.judge.program.inputs import Inputs

N = 10_000


class Counted:
    """A loss of 10,000 entries and its gradient with wrong entries, which a decision keeps from being traced."""

    def __init__(self, wrong, dtype: Any = np.float64, noise=0.0):
        self.wrong, self.calls, self.noise = wrong, 0, noise
        self.random = np.random.default_rng(0)
        self.weights = np.random.default_rng(1).uniform(0.5, 2, N).astype(dtype)

    def __call__(self, w):
        self.calls += 1
        if np.isnan(w[0]):
            raise ValueError("not a number")
        value = np.sum(self.weights * np.sin(w)) * (1 + self.noise * self.random.standard_normal())
        gradient = self.weights * np.cos(w)
        for place, factor in self.wrong.items():
            gradient[place] *= factor
        return value, gradient.astype(w.dtype)


def point(dtype: Any = np.float64):
    return np.random.default_rng(2).uniform(-1, 1, N).astype(dtype)


@pytest.mark.sweep
@pytest.mark.parametrize("place", [0, 1, 17, 2499, 5000, 5001, 7777, 8192, 9998, 9999])
def test_one_wrong_entry_of_ten_thousand_is_found_in_few_evaluations(place, monkeypatch):
    counted, spent = Counted({place: 1.5}), []
    search = own_loss._bisected

    def searching(*args):
        before = counted.calls
        found = search(*args)
        spent.append(counted.calls - before)
        return found

    monkeypatch.setattr(own_loss, "_bisected", searching)
    report = check_gradients(counted, None, point())
    assert report.verdict is Verdict.DISAGREE
    assert report.wrong_side == "manual"
    (cause,) = report.diagnoses
    assert cause.kind == "single-entry"
    assert f"[{place}] is" in cause.message
    assert max(spent) < 60


def test_several_wrong_entries_are_all_named():
    report = check_gradients(Counted({17: 2, 5000: 0, 9999: -1}), None, point())
    assert report.verdict is Verdict.DISAGREE
    (cause,) = report.diagnoses
    for place in (17, 5000, 9999):
        assert f"[{place}]" in cause.message


def test_a_whole_wrong_leaf_names_no_entries():
    report = check_gradients(Counted(dict.fromkeys(range(N), 1.1)), None, point())
    assert report.verdict is Verdict.DISAGREE
    assert all(cause.kind != "single-entry" for cause in report.diagnoses)


def test_float32_is_differenced_in_float64_where_it_works():
    report = check_gradients(Counted({}, np.float32), None, point(np.float32))
    assert report.verdict is Verdict.AGREE
    report = check_gradients(Counted({123: 3}, np.float32), None, point(np.float32))
    assert report.verdict is Verdict.DISAGREE
    assert "[123] is" in report.diagnoses[0].message


@pytest.mark.sweep
@pytest.mark.parametrize("noise", [1e-9, 1e-6, 1e-3])
@pytest.mark.parametrize("seed", range(3))
def test_a_noisy_loss_does_not_blame_a_right_gradient(noise, seed):
    report = check_gradients(Counted({}, noise=noise), None, point(), seed=seed)
    assert report.first_wrong is None
    assert not [cause for cause in report.diagnoses if cause.kind == "single-entry"]


def leaf_by_leaf(w, b, change=lambda g: g):
    value = float(np.sum(np.tanh(w @ b)))
    if value > 1e9:
        raise ValueError("too large")
    d = 1 - np.tanh(w @ b) ** 2
    return value, change({"w": np.outer(d, b)})


SMALL_FAULTS = {
    "a factor": lambda g: {"w": 2 * g["w"]},
    "a sign": lambda g: {"w": -g["w"]},
    "two percent": lambda g: {"w": 1.02 * g["w"]},
    "a row left out": lambda g: {"w": g["w"] * (np.arange(4) != 2)[:, None]},
    "another shape": lambda g: {"w": g["w"].T},
    "not finite": lambda g: {"w": g["w"] * np.nan},
    "no leaf": lambda g: {},
    "another dtype": lambda g: {"w": g["w"].astype(np.float32)},
    "rows turned": lambda g: {"w": g["w"][::-1].copy()},
    "zero": lambda g: {"w": 0 * g["w"]},
    "an offset": lambda g: {"w": g["w"] + 0.01},
}


@pytest.mark.parametrize("name", SMALL_FAULTS)
def test_faults_of_a_small_leaf_are_caught_with_a_cause(name):
    w, b = np.random.default_rng(0).normal(size=(4, 3)), np.array([0.3, -1, 2])
    report = check_gradients(lambda p, b: leaf_by_leaf(p["w"], b, SMALL_FAULTS[name]), None, {"w": w}, b)
    assert report.verdict is Verdict.DISAGREE
    assert report.first_wrong == "w"
    assert any("differences" in note for note in report.notes)


def erfs(w):
    """The C library's erf, which nothing traces."""
    erf = ctypes.CDLL(ctypes.util.find_library("m")).erf
    erf.restype, erf.argtypes = ctypes.c_double, [ctypes.c_double]
    return sum(erf(float(v)) for v in w.ravel()), 2 / np.sqrt(np.pi) * np.exp(-(w**2))


SOUND = {
    "C": (lambda w: erfs(w + 0), np.linspace(-2, 2, 6)),
    "a branch": (lambda w: (np.sum(w**2), 2 * w) if w[0] > 0 else (np.sum(w**4), 4 * w**3), np.array([1.0, -2, 3])),
    "a search": (lambda w: (w[(i := int(np.argmax(w)))] ** 2, 2 * w * (np.arange(3) == i)), np.array([1.0, 4, 3])),
    "large values": (lambda w: (1e12 + float(np.sum(w**2)), 2 * w) if w[0] else None, np.array([1.0, -2, 3])),
    "tiny values": (lambda w: (float(np.sum(w**2)) * 1e-200, 2e-200 * w) if w[0] else None, np.array([1.0, -2, 3])),
    "zero at zero": (lambda w: (float(np.sum(w**2)), 2 * w) if w[0] < 9 else None, np.zeros(3)),
    "one number": (lambda w: (float(w) ** 3, 3 * w**2) if float(w) else None, np.float64(1.5)),
    "steep": (lambda w: (float(np.sum(np.exp(20 * w))), 20 * np.exp(20 * w)) if w[0] else None, np.array([1.0, 0.5])),
    "no loss of precision in float32": (
        lambda w: (np.sum(np.exp(w)), np.exp(w)) if w[0] else None, np.array([1, 2, 3], np.float32)),
    "constant": (lambda w: (3.0 if w[0] else 2.0, 0 * w), np.ones(4)),
    "a leaf that is not used": (
        lambda p: (float(p["a"]) ** 2, {"a": 2 * p["a"], "b": 0 * p["b"]}) if p["a"] else None,
        {"a": np.float64(3), "b": np.ones(3)}),
}  # fmt: skip


@pytest.mark.parametrize("name", SOUND)
def test_sound_functions_that_are_not_traced_agree(name):
    function, at = SOUND[name]
    report = check_gradients(function, None, at)
    assert report.verdict is Verdict.AGREE, str(report)
    assert any("differences of the hand-written loss" in note for note in report.notes)


def test_a_jump_beside_the_point_is_not_blamed():
    def stepped(w):
        return float(np.sum(w**2)) + (5.0 if w[0] >= 1 else 0.0), 2 * w

    assert check_gradients(stepped, None, np.ones(3)).first_wrong is None


def test_a_loss_that_is_not_finite_is_inconclusive():
    report = check_gradients(lambda w: (np.inf if w[0] else 0.0, 2 * w), None, np.ones(3))
    assert report.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_what_jax_cannot_differentiate_is_looked_at_by_differences(factor):
    def by_hand(p, labels):
        return np.sum(scipy.special.xlogy(labels, p)), factor * labels / p

    report = check_gradients(by_hand, None, np.array([0.3, 0.5, 0.2]), np.array([0, 1, 2]))
    assert report.verdict is (Verdict.AGREE if factor == 1 else Verdict.DISAGREE), str(report)
    assert any("because JAX cannot differentiate the loss" in note for note in report.notes)

    def forward(p, labels):
        return scipy.special.xlogy(labels, p), (p, labels)

    def backward(given, cache):
        return factor * given * cache[1] / cache[0]

    report = check_vjp(forward, backward, None, np.array([0.3, 0.5, 0.2]), np.array([0, 1, 2]))
    assert report.verdict is (Verdict.AGREE if factor == 1 else Verdict.DISAGREE), str(report)


def test_without_a_loss_there_is_nothing_to_compare_with():
    with pytest.raises(ValueError, match="no loss to compare with"):
        check_gradients(lambda w: (None, 2 * w if w[0] else w), None, np.ones(3))


def test_what_a_gradient_does_to_its_input_is_said():
    def writes(w):
        if w[0] > 1e6:
            raise ValueError
        value, gradient = float(np.sum(w**2)), 2 * w
        w *= 0
        return value, gradient

    report = check_gradients(writes, None, np.ones(3))
    assert report.verdict is Verdict.DISAGREE
    assert report.diagnoses


def test_the_reason_why_there_is_no_better_reference_is_given():
    watched = Watched(lambda w: (float(np.sum(w**2)), 2 * w))
    report = own_loss.check_by_differences(watched, Inputs(np.ones(3), names=("w",)), 0, "it is written in C")
    assert report.verdict is Verdict.AGREE
    assert any("because it is written in C" in note for note in report.notes)


@pytest.mark.parametrize(("dtype", "verdict"), [(np.float32, Verdict.DISAGREE), (jnp.bfloat16, Verdict.INCONCLUSIVE)])
def test_a_gradient_that_a_rough_loss_cannot_refute_is_not_agreed_with(dtype, verdict):
    def by_hand(w):
        squares = [float(str(x)) ** 2 for x in w.tolist()]  # whose values a trace does not have
        return np.asarray(sum(squares)).astype(w.dtype), 5 * w

    report = check_gradients(by_hand, None, np.arange(1.0, 5.0).astype(dtype))
    assert report.verdict is verdict, str(report)


def saturated(w):
    """Right, and of no digit in float64 where w is large: 1 - p is what rounding leaves of it."""
    p = 1 / (1 + np.exp(-w))
    if np.isnan(w[0]):
        raise ValueError("not a number")
    return np.sum(np.logaddexp(0, -w)), p - 1


def test_lost_digits_are_no_wrong_derivation_where_a_wider_dtype_has_them():
    report = check_gradients(saturated, None, np.array([29.0, 30.0, 31.0]))
    assert report.verdict is Verdict.AGREE, str(report)
    assert any("loses digits" in words for words in report.arithmetic)
    assert check_gradients(saturated, None, np.array([29.0, 30.0]), strict=True).verdict is Verdict.DISAGREE


@pytest.mark.parametrize("factor", [1.01, -1, 0])
def test_a_wrong_derivation_is_as_wrong_in_a_wider_dtype(factor):
    def wrong(w):
        value, gradient = saturated(w)
        return value, factor * gradient

    assert check_gradients(wrong, None, np.array([29.0, 30.0])).verdict is Verdict.DISAGREE


def test_a_fault_of_saturation_is_found_at_the_other_point():
    def clipped(w, x):
        z = x @ w
        if np.isnan(z[0]):
            raise ValueError("not a number")
        p = 1 / (1 + np.exp(-z))
        return np.sum(np.logaddexp(0, z)), x.T @ np.clip(p, 1e-4, 1)

    x = np.random.default_rng(0).normal(size=(20, 3))
    report = check_gradients(clipped, None, np.array([0.5, -0.3, 0.2]), x)
    assert report.verdict is Verdict.DISAGREE
    assert report.probe == "parameters x 10, other data"


def test_a_loss_of_many_narrow_steps_convicts_nobody():
    """Smooth at the point, and rough at the steps that differences take."""

    def stairs(w):
        if np.isnan(w[0]):
            raise ValueError("not a number")
        return float(np.sum(w + 1e-4 * np.sin(1e6 * w))), 1 + 100 * np.cos(1e6 * w)

    assert check_gradients(stairs, None, np.array([0.3, 0.7])).verdict is not Verdict.DISAGREE


def test_an_index_that_jax_refuses_is_no_argument_that_is_wrong():
    """JAX's words about the index were once taken for those about an argument of the loss."""

    class Label:
        def __index__(self):
            return 1

    x = np.array([1.0, -2.0, 3.0])
    report = check_gradients(lambda x: (x[Label()] ** 2, np.array([0, 2 * x[1], 0])), None, x)
    assert report.verdict is Verdict.AGREE, str(report)


def test_a_list_of_numbers_in_place_of_an_array_is_one_sentence():
    def listed(w, x):
        return float(np.sum(w * x)), x.tolist()

    report = check_gradients(listed, None, np.ones(3), np.arange(3.0))
    assert report.sentence.endswith("give one array (np.array of it, if it is a list of numbers).")
