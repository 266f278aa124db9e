"""Which side is wrong, when a difference is all that is seen at first."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compare import Verdict, check_gradients, check_vjp, tap
from compare.judge.reports.gradient_report import BLAME

W, X = np.array([0.3, -1.1, 0.7, 2.0]), np.array([0.5, 2.0, -1.3, 0.8])


def loss(w, x):
    return jnp.sum(x * jnp.tanh(w) ** 3)


def by_hand(w, x):
    t = np.tanh(w)
    return np.sum(x * t**3), 3 * x * t**2 * (1 - t**2)


def changed(loss_too=lambda value: value, gradient=lambda g, w: g):
    def loss_and_gradients(w, x):
        value, g = by_hand(w, x)
        return loss_too(value), gradient(g, w)

    return loss_and_gradients


@jax.custom_vjp
def wrong_tanh(w):
    return jnp.tanh(w)


wrong_tanh.defvjp(lambda w: (jnp.tanh(w), jnp.tanh(w)), lambda t, g: (g * (1 - t),))


def loss_with_a_wrong_rule(w, x):
    return jnp.sum(x * wrong_tanh(w) ** 3)


def entry(relative):
    return lambda g, w: g * (1 + relative * (np.arange(4) == 2))


def check(function, jax_loss=loss, w=W, **options):
    return check_gradients(function, jax_loss, w, X.astype(w.dtype), probes=False, **options)


@pytest.mark.parametrize("gradient", [lambda g, w: -g, lambda g, w: g + 1e-3 * w, entry(1e-4)])
def test_a_wrong_gradient_by_hand(gradient):
    report = check(changed(gradient=gradient))
    assert report.verdict is Verdict.DISAGREE
    assert report.wrong_side == "manual"
    assert BLAME["manual"] in str(report)
    assert {name.partition(",")[0] for name in report.references} == {"manual", "autodiff"}


def test_a_fault_too_small_for_finite_differences_is_seen_by_complex_steps():
    report = check(changed(gradient=entry(1e-11)))
    assert report.wrong_side == "manual"
    assert all(opinion.consistent for opinion in report.references.values())


@pytest.mark.parametrize("size", [0.1, 1e-3])
def test_a_kernel_that_refuses_float64_is_blamed_by_differences_of_the_loss_in_jax(size):
    """Neither differences of its own loss see the fault, in float32, nor complex steps, for want of an analytic max."""

    def backward(dy, y):
        if y.dtype != np.float32:
            raise TypeError("float32 only, as kernels in C are")
        return (y * (dy - (1 - np.float32(size)) * (dy * y).sum(axis=1, keepdims=True))).astype(np.float32)

    def forward(x):
        e = np.exp(x - x.max(axis=1, keepdims=True))
        y = e / e.sum(axis=1, keepdims=True)
        return y, y

    x = np.random.default_rng(0).standard_normal((5, 7)).astype(np.float32)
    report = check_vjp(forward, backward, jax.nn.softmax, x)
    assert report.wrong_side == "manual", str(report)
    assert report.references["manual, random"].error > 1e3 * report.references["autodiff, random"].error
    assert "Confirmed by finite differences" in str(report)  # as JAX's differences say, which are what it was blamed by


def test_a_gradient_by_the_name_that_it_has_in_formulas():
    w = {"w": np.ones(3)}
    report = check_gradients(lambda p: (np.sum(p["w"] ** 2), {"dw": 2 * p["w"]}), lambda p: jnp.sum(p["w"] ** 2), w)
    assert report.sentence == "DISAGREE: the gradient of w is called dw: call it w."
    report = check_gradients(lambda p: (np.sum(p["w"] ** 2), {"v": 2 * p["w"]}), lambda p: jnp.sum(p["w"] ** 2), w)
    assert report.sentence == "DISAGREE: the gradient of w: it is missing."


@pytest.mark.parametrize("form", ["d{}", "grad_{}", "{}_grad"])
def test_gradients_by_other_names_are_one_sentence(form):
    p = {"W1": np.ones(3), "b1": np.ones(2), "W2": np.ones(4)}

    def squares(p):
        return sum((v**2).sum() for v in p.values())

    report = check_gradients(lambda p: (squares(p), {form.format(k): 2 * v for k, v in p.items()}), squares, p)
    names = ["W1", "W2", "b1"]
    others = ", ".join(map(form.format, names))
    assert report.sentence == (
        f"DISAGREE: the gradients are called {others}: call them {', '.join(names)}, like the parameters."
    )
    assert len(report.diagnoses) == 1
    unlike = check_gradients(lambda p: (squares(p), {f"{k}x": 2 * v for k, v in p.items()}), squares, p)
    assert "are called" not in str(unlike)


def marked(W, x):
    return jnp.sum(tap("h", jnp.tanh(tap("z", x @ W))) ** 2)


def beside(change):
    """A gradient that is right, and beside it one of an intermediate that is not."""

    def loss_and_gradients(W, x):
        h = np.tanh(x @ W)
        dz = 2 * h * (1 - h**2)
        return np.sum(h**2), x.T @ dz, {"h": 2 * h, "z": change(dz)}

    return loss_and_gradients


def spoilt(dz):
    dz = dz.copy()
    dz[0] = np.nan
    return dz


@pytest.mark.parametrize(("change", "kind"), [(lambda dz: 1.3 * dz, "factor"), (spoilt, "non-finite")])
def test_no_cause_is_named_for_what_agrees(change, kind):
    x, W = (np.random.default_rng(0).standard_normal(shape) for shape in ((5, 3), (3, 2)))
    report = check_gradients(beside(change), marked, W, x)
    assert report.first_wrong == "z"
    assert [(cause.path, cause.kind) for cause in report.diagnoses] == [("z", kind)]
    assert "no leaf of this name" not in str(report)


def test_losses_of_any_gap_within_rounding_are_not_apart_by_a_constant():
    """In 16 bits any two gaps are alike."""
    x = np.random.default_rng(0).standard_normal(12).astype(np.float16)
    by_hand = lambda x: (np.float16(1.4 * np.sum(x.astype(float) ** 4)), 4 * x**3)  # noqa: E731
    report = check_gradients(by_hand, lambda x: jnp.sum(x**4), x, probes=False, references=False)
    assert "constant" not in {cause.kind for cause in report.diagnoses}


def test_a_wrong_derivative_in_jax():
    report = check(by_hand, loss_with_a_wrong_rule)
    assert report.verdict is Verdict.DISAGREE
    assert report.wrong_side == "autodiff"
    assert "The JAX side is wrong" in str(report)


def test_two_losses_each_with_its_own_right_gradient():
    report = check(changed(loss_too=lambda value: 4 * value, gradient=lambda g, w: 4 * g))
    assert report.verdict is Verdict.DISAGREE
    assert report.wrong_side == "loss"
    assert report.first_wrong == "loss"


def test_a_wrong_loss_with_the_gradients_of_the_right_one():
    report = check(changed(loss_too=lambda value: -value))
    assert report.wrong_side == "loss"
    assert report.diagnoses[0].kind == "sign"
    assert any("so the hand-written loss is wrong" in note for note in report.notes)


def test_neither_side_fits_its_loss():
    report = check(changed(gradient=lambda g, w: 2 * g), loss_with_a_wrong_rule)
    assert report.verdict is Verdict.DISAGREE
    assert report.wrong_side is None
    assert any("both may be wrong" in note for note in report.notes)


def test_agreement_that_the_loss_contradicts_is_no_agreement():
    def the_same_mistake(w, x):
        t = np.tanh(w)
        return np.sum(x * t**3), 3 * x * t**2 * (1 - t)

    def loss_of_a_root(w, x):
        def tangent(_, b):
            return b / (1 + jnp.tanh(w))

        t = jax.lax.custom_root(lambda t: t - jnp.tanh(w), w, lambda f, start: jnp.tanh(w), tangent)
        return jnp.sum(x * t**3)

    report = check(the_same_mistake, loss_of_a_root)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "not with finite differences of the loss" in report.sentence
    assert check(the_same_mistake, loss_of_a_root, references=False).verdict is Verdict.AGREE
    # A rule that somebody wrote for a derivative may be meant: it is named.
    report = check(the_same_mistake, loss_with_a_wrong_rule)
    assert report.verdict is Verdict.AGREE
    assert any("custom_vjp" in note and "as intended" in note for note in report.notes), report.notes


@pytest.mark.parametrize(
    "gradient",
    [lambda g, w: g[:2], lambda g, w: g.astype(np.float32), lambda g, w: g / np.zeros(4)],
    ids=["shape", "dtype", "non-finite"],
)
def test_what_is_wrong_before_any_value_is_looked_at_needs_no_reference(gradient):
    with np.errstate(all="ignore"):
        report = check(changed(gradient=gradient))
    assert report.verdict is Verdict.DISAGREE
    assert report.wrong_side == "manual"
    assert report.references == {}
    assert report.diagnoses[0].kind in ("shape", "dtype", "non-finite")


def test_without_references_no_side_is_named():
    report = check(changed(gradient=lambda g, w: -g), references=False)
    assert report.verdict is Verdict.DISAGREE
    assert report.wrong_side is None


def test_code_that_works_in_float32_only():
    def narrow(w, x):
        assert w.dtype == x.dtype == np.float32  # it refuses what its caller never gave
        value, g = by_hand(w, x)
        return value, -g

    report = check(narrow, w=W.astype(np.float32))
    assert report.verdict is Verdict.DISAGREE
    assert report.wrong_side == "manual"


KINKED = np.array([1.0, -2.0, 0.0, 3.0])


@pytest.mark.parametrize(
    ("times", "kind", "words"),
    [
        (np.array([1, 1.3, 1, 1]), "single-entry", "one entry of 4 is wrong: [1] is -1.3"),
        (1.3, "factor", "it is 1.3 times what it should be"),
    ],
)
def test_an_entry_at_a_kink_hides_no_cause_among_the_others(times, kind, words):
    report = check_gradients(lambda x: (np.abs(x).sum(), np.sign(x) * times), lambda x: jnp.abs(x).sum(), KINKED)
    assert report.verdict is Verdict.DISAGREE
    (cause,) = report.diagnoses
    assert cause.kind == kind
    assert cause.message.startswith("next to this point, which is nonsmooth, ")
    assert words in cause.message
    assert "[2]" not in cause.message


@pytest.mark.parametrize("x", [KINKED, KINKED + 0.5])
def test_no_point_beside_is_looked_at_without_need(x):
    """Where an entry is wrong that is at no kink, whatever else is, and where a cause is found at the point itself."""
    noise = np.array([0.3, -0.2, 0.0, 0.7])

    def as_jax_has_it_at_the_kink(x):
        return np.abs(x).sum(), np.where(x == 0, 1, np.sign(x)) + noise

    report = check_gradients(as_jax_has_it_at_the_kink, lambda x: jnp.abs(x).sum(), x)
    assert report.verdict is Verdict.DISAGREE
    assert not any("beside" in cause.message for cause in report.diagnoses)
    report = check_gradients(lambda x: (np.abs(x).sum(), -np.sign(x + 1e-9)), lambda x: jnp.abs(x).sum(), x)
    assert [(cause.kind, "beside" in cause.message) for cause in report.diagnoses] == [("sign", False)]


@pytest.mark.parametrize("analytic", [True, False])
@pytest.mark.parametrize("whole", [True, False])
def test_what_shows_in_a_leaf_as_a_whole_is_not_taken_back(whole, analytic):
    """Differences of a loss in 16 bits see neither: of one entry, that may be said. Complex steps see both."""
    random = np.random.default_rng(100)
    bfloat16 = jnp.bfloat16
    x, w = random.standard_normal((2, 64, 32)).astype(bfloat16)
    factors = np.full((64, 32), 1.02 if whole else 1.0)
    factors[5, 4] *= 1.0 if whole else 1.2

    def backward(dy, inputs):
        x, w = inputs
        dx, dw = (dy.astype(np.float32) * value.astype(np.float32) for value in (w, x))
        return (dx * factors).astype(bfloat16), dw.astype(bfloat16)

    def product(x, w):
        return x * w if analytic else x * w + 0 * jnp.sort(x)  # through which no complex step goes

    report = check_vjp(lambda x, w: (x * w, (x, w)), backward, product, x, w)
    assert report.verdict is Verdict.DISAGREE
    assert report.wrong_side == ("manual" if analytic else None)
    assert any("cannot resolve their difference" in note for note in report.notes) == (not whole and not analytic)


TREE = {"a": W, "b": X + 3.0}


def tree_loss(p, x):
    return jnp.sum(x * jnp.tanh(p["a"]) ** 3) + jnp.sum(jnp.exp(p["b"]))


def test_one_factor_of_every_gradient_is_said_once():
    def twice(p, x):
        value, a = by_hand(p["a"], x)
        return value + np.sum(np.exp(p["b"])), {"a": 2 * a, "b": 2 * np.exp(p["b"])}

    report = check_gradients(twice, tree_loss, TREE, X, probes=False)
    assert [(cause.path, cause.kind, cause.factor) for cause in report.diagnoses] == [
        (None, "factor", pytest.approx(2))
    ]
    assert report.sentence.startswith("DISAGREE: every gradient is 2 times what it should be: all share this factor")
    assert "Fix this first" not in str(report)


def test_of_parameters_that_are_wrong_the_first_with_a_cause_is_named_and_nothing_follows_from_it():
    def different(p, x):
        value, a = by_hand(p["a"], x)
        at_random = np.random.default_rng(0).standard_normal(4)
        return value + np.sum(np.exp(p["b"])), {"a": a + at_random, "b": -np.exp(p["b"])}

    report = check_gradients(different, tree_loss, TREE, X, probes=False)
    assert report.first_wrong == "b"
    assert report.sentence.startswith("DISAGREE: the gradient of b: the sign is wrong")
    assert "Fix this first" not in str(report)


def test_a_parameter_that_is_one_array_has_the_name_of_its_argument():
    report = check(changed(gradient=lambda g, w: -g))
    assert report.sentence.startswith("DISAGREE: the gradient of w: the sign is wrong")
    assert report.first_wrong == "value"
