"""Losses where they are hard: ignored, saturated, empty or impossible targets; and faults that must be seen."""

import math
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from autodiff import losses as by_jax
from compare import Verdict, check_vjp
from manual import losses as by_hand
from manual.fast import losses as fast

LOSSES = by_hand.LOSSES
REDUCTIONS = ("mean", "sum", "none")


def manual_vjp(name, dy, predictions, targets, *, rules=LOSSES, **options):
    """Value and gradient. A dy of 1 stands for an array of ones where the value is an array."""
    forward, backward = rules[name]
    value, cache = forward(predictions, targets, **options)
    return value, backward(dy * np.ones_like(value), cache)


fast_vjp = partial(manual_vjp, rules=fast.LOSSES)


def autodiff_vjp(name, dy, predictions, targets, **options):
    """The same."""
    with jax.enable_x64(True):
        return tuple(map(np.asarray, compiled_vjp(name, tuple(options.items()))(dy, predictions, targets)))


@lru_cache
def compiled_vjp(name, options):
    @jax.jit
    def run(dy, predictions, targets):
        value, pullback = jax.vjp(partial(by_jax.LOSSES[name], targets=targets, **dict(options)), predictions)
        return value, pullback((dy * jnp.ones_like(value)).astype(value.dtype))[0]

    return run


def reductions_for(vjp):
    """All by hand; in JAX, where each means a compilation, the last says the most."""
    return REDUCTIONS[-1:] if vjp is autodiff_vjp else REDUCTIONS


SIDES = pytest.mark.parametrize("vjp", [manual_vjp, fast_vjp, autodiff_vjp], ids=["page", "fast", "autodiff"])
BY_HAND = pytest.mark.parametrize("vjp", [manual_vjp, fast_vjp], ids=["page", "fast"])
RANDOM = np.random.default_rng(0)

# ------------------------------------------------------------------- values, from somewhere else

P, T = RANDOM.standard_normal((2, 2, 3, 4))
LABELS = np.where(T > 0, 1.0, 0.0)
Q = RANDOM.dirichlet(np.ones(4), (2, 3))
Q[0, 0] = 0, 0, 1, 0
LOG_P = np.log(RANDOM.dirichlet(np.ones(4), (2, 3)))
S, SOFTMAX = scipy.special.expit(P), scipy.special.softmax(P, -1)
SIGNS = 2 * LABELS - 1
M = 0.8 - SIGNS * P

# first argument, targets, options, terms, derivative of each term
REFERENCES = {
    "binary_cross_entropy": (P, LABELS, {}, -np.log(np.where(LABELS == 1, S, 1 - S)), S - LABELS),
    "cross_entropy": (P, Q, {}, -np.sum(Q * np.log(SOFTMAX), -1), SOFTMAX - Q),
    "mean_squared_error": (P, T, {}, (P - T) ** 2, 2 * (P - T)),
    "mean_absolute_error": (P, T, {}, abs(P - T), np.sign(P - T)),
    "huber": (P, T, {"delta": 0.6}, scipy.special.huber(0.6, P - T), (P - T) / np.maximum(1, abs(P - T) / 0.6)),
    "hinge": (P, SIGNS, {"margin": 0.8}, M.clip(0), -SIGNS * (M > 0)),
    "kl_divergence": (LOG_P, Q, {}, np.sum(scipy.special.rel_entr(Q, np.exp(LOG_P)), -1), -Q),
}  # fmt: skip


@BY_HAND
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", LOSSES)
def test_values_and_gradients_are_those_of_another_formula(vjp, name, reduction):
    predictions, targets, options, terms, slopes = REFERENCES[name]
    expected, n = {"mean": (terms.mean(), terms.size), "sum": (terms.sum(), 1), "none": (terms, 1)}[reduction]
    dy = np.random.default_rng(1).standard_normal(expected.shape)
    value, gradient = vjp(name, dy, predictions, targets, reduction=reduction, **options)
    np.testing.assert_allclose(value, expected, rtol=1e-13, atol=1e-15)
    per_row = dy[..., None] if reduction == "none" and terms.ndim < slopes.ndim else dy
    np.testing.assert_allclose(gradient, per_row * slopes / n, rtol=1e-12, atol=1e-15)


def naive_cross_entropy(logits, ids, smoothing, ignored):
    """Sum, gradient of the sum, and number of rows that count, one entry after the other."""
    total, count, gradient = 0.0, 0, np.zeros_like(logits)
    for row, index in np.ndenumerate(ids):
        if index == ignored:
            continue
        count += 1
        exponentials = [math.exp(z) for z in logits[row]]
        for c, exponential in enumerate(exponentials):
            q = (1 - smoothing) * (c == index) + smoothing / len(exponentials)
            total -= q * math.log(exponential / sum(exponentials))
            gradient[(*row, c)] = exponential / sum(exponentials) - q
    return total, gradient, count


@pytest.mark.sweep
@SIDES
@pytest.mark.parametrize("smoothing", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("ignored", [-100, 2])
def test_cross_entropy_of_ignored_and_smoothed_rows(vjp, ignored, smoothing):
    ids = np.array([[2, 0, 3], [ignored, 1, 2]])
    total, gradient, count = naive_cross_entropy(P, ids, smoothing, ignored)
    assert count == (5 if ignored == -100 else 3)
    divisors = {"mean": count} if vjp is autodiff_vjp else {"sum": 1, "mean": count}
    for reduction, n in divisors.items():
        options = {"label_smoothing": smoothing, "ignore_index": ignored, "reduction": reduction}
        value, dz = vjp("cross_entropy", 1.0, P, ids, **options)
        np.testing.assert_allclose(value, total / n, rtol=1e-13)
        np.testing.assert_allclose(dz, gradient / n, rtol=1e-12, atol=1e-15)


@SIDES
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_when_all_rows_are_ignored_the_loss_is_zero(vjp, reduction):
    value, dz = vjp("cross_entropy", 1.0, P, np.full((2, 3), -100), reduction=reduction, label_smoothing=0.1)
    np.testing.assert_array_equal(value, 0)
    np.testing.assert_array_equal(dz, np.zeros_like(P))


@SIDES
def test_an_ignored_row_adds_nothing_whatever_its_logits(vjp):
    logits = P.copy()
    logits[0, 1], logits[1, 2, 0] = np.nan, -np.inf
    ids = np.array([[2, -100, 3], [0, 1, 1]])
    value, dz = vjp("cross_entropy", 1.0, logits, ids)
    rest = [0, 2, 3, 4, 5]
    expected, gradient = vjp("cross_entropy", 1.0, logits.reshape(6, 4)[rest], ids.ravel()[rest])
    np.testing.assert_allclose(value, expected, rtol=1e-14)
    np.testing.assert_allclose(dz.reshape(6, 4)[rest], gradient, rtol=1e-14)
    np.testing.assert_array_equal(dz[0, 1], 0)
    assert dz[1, 2, 0] == 0  # a masked class has no probability


@SIDES
def test_impossible_classes_meet_masked_logits(vjp):
    """0 log 0 = 0, where a target of 0 meets a probability of 0."""
    logits, q = np.array([[-np.inf, 0.0, 1.0]]), np.array([[0.0, 0.75, 0.25]])
    p = np.exp([0, 1]) / (1 + np.e)
    value, dz = vjp("cross_entropy", 1.0, logits, q)
    np.testing.assert_allclose(value, -0.75 * np.log(p[0]) - 0.25 * np.log(p[1]), rtol=1e-14)
    np.testing.assert_allclose(dz, [[0, p[0] - 0.75, p[1] - 0.25]], rtol=1e-14)
    with np.errstate(divide="ignore"):
        value, gradient = vjp("kl_divergence", 1.0, np.log([[0, *p]]), q)
    np.testing.assert_allclose(value, 0.75 * np.log(0.75 / p[0]) + 0.25 * np.log(0.25 / p[1]), rtol=1e-13)
    np.testing.assert_array_equal(gradient, -q)


@SIDES
def test_probabilities_need_not_sum_to_one(vjp):
    logits, q = np.log([[1.0, 3.0]]), np.array([[2.0, 1.0]])
    value, dz = vjp("cross_entropy", 1.0, logits, q, label_smoothing=0.5)  # q becomes (1.25, 0.75)
    np.testing.assert_allclose(value, -1.25 * np.log(0.25) - 0.75 * np.log(0.75), rtol=1e-14)
    np.testing.assert_allclose(dz, [[2 * 0.25 - 1.25, 2 * 0.75 - 0.75]], rtol=1e-14)


@SIDES
def test_one_class_leaves_nothing_to_learn(vjp):
    value, dz = vjp("cross_entropy", 1.0, np.array([[-3.0], [1e4]]), np.array([0, 0]), label_smoothing=0.3)
    assert value == 0
    np.testing.assert_allclose(dz, [[0], [0]], atol=1e-16)  # 1 - (1 - 0.3) - 0.3


@SIDES
def test_one_row_without_a_batch(vjp):
    for reduction in reductions_for(vjp):
        value, dz = vjp("cross_entropy", 1.0, np.log([1.0, 2.0, 5.0]), np.array(2), reduction=reduction)
        assert value.shape == ()
        np.testing.assert_allclose(value, np.log(8 / 5), rtol=1e-14)
        np.testing.assert_allclose(dz, [1 / 8, 2 / 8, 5 / 8 - 1], rtol=1e-14)
    value, gradient = vjp("kl_divergence", 1.0, np.log([0.5, 0.5]), np.array([0.25, 0.75]), reduction="none")
    np.testing.assert_allclose(value, 0.25 * np.log(0.5) + 0.75 * np.log(1.5), rtol=1e-14)
    np.testing.assert_array_equal(gradient, [-0.25, -0.75])


# ------------------------------------------------------------------------------------ saturation

HUGE = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]])
# terms and slopes at HUGE, by hand
SATURATED = {
    "binary_cross_entropy": (
        np.array([[1, 1, 1], [0, 1, 0]]),
        [[0, 1e4, np.log(2)], [0, 0, 1e4]],
        [[0, -1, -0.5], [0, 0, 1]],
    ),
    "cross_entropy": (np.array([1, 2]), [2e4, np.log(2)], [[1, -1, 0], [0, 0.5, -0.5]]),
    "mean_squared_error": (np.zeros((2, 3)), [[1e8, 1e8, 0], [1e8, 1e8, 1e8]], [[2e4, -2e4, 0], [-2e4, 2e4, 2e4]]),
    "mean_absolute_error": (np.zeros((2, 3)), [[1e4, 1e4, 0], [1e4, 1e4, 1e4]], [[1, -1, 0], [-1, 1, 1]]),
    "huber": (np.zeros((2, 3)), [[9999.5, 9999.5, 0], [9999.5, 9999.5, 9999.5]], [[1, -1, 0], [-1, 1, 1]]),
    "hinge": (-np.ones((2, 3), int), [[10001, 0, 1], [0, 10001, 10001]], [[1, 0, 1], [0, 1, 1]]),
    "kl_divergence": (np.array([[0, 1, 0], [0, 0.5, 0.5]]), [1e4, -np.log(2) - 1e4], [[0, -1, 0], [0, -0.5, -0.5]]),
}


@pytest.mark.sweep
@SIDES
@pytest.mark.parametrize("name", LOSSES)
def test_saturated(vjp, name):
    """Finite and silent, in every reduction: warnings are errors here."""
    targets, terms, slopes = SATURATED[name]
    for dtype in (np.float64, np.float32):
        tolerance = 8 * float(np.finfo(dtype).eps)
        for reduction in reductions_for(vjp):
            value = {"mean": np.mean(terms), "sum": np.sum(terms), "none": terms}[reduction]
            n = np.size(terms) if reduction == "mean" else 1
            ours, gradient = vjp(name, 1.0, HUGE.astype(dtype), targets, reduction=reduction)
            assert ours.dtype == gradient.dtype == dtype
            largest = 1 if reduction == "none" else np.abs(terms).max()  # in a sum, terms of 1e4 may cancel
            np.testing.assert_allclose(ours, value, rtol=tolerance, atol=tolerance * largest)
            np.testing.assert_allclose(gradient, np.array(slopes) / n, rtol=tolerance, atol=tolerance)


@SIDES
def test_smoothed_and_saturated(vjp):
    value, dz = vjp("cross_entropy", 1.0, HUGE[:1], np.array([0]), label_smoothing=0.3)
    np.testing.assert_allclose(value, 0.1 * (2e4 + 1e4), rtol=1e-14)
    np.testing.assert_allclose(dz, [[0.2, -0.1, -0.1]], rtol=1e-14)


@SIDES
def test_at_kinks_the_slope_is_zero(vjp):
    _, gradient = vjp("mean_absolute_error", 1.0, np.array([2.0, 3.0]), np.array([2.0, 2.0]), reduction="sum")
    np.testing.assert_array_equal(gradient, [0, 1])
    scores, targets = np.array([1.0, -1.0, 0.5]), np.array([1, -1, -1])
    np.testing.assert_array_equal(vjp("hinge", 1.0, scores, targets, reduction="sum")[1], [0, 0, 1])
    scores = np.array([0.25, -0.25, 0.0])
    _, gradient = vjp("hinge", 1.0, scores, targets, reduction="sum", margin=0.25)
    np.testing.assert_array_equal(gradient, [0, 0, 1])
    # no kink, but the seam of two formulas
    _, gradient = vjp("huber", 1.0, np.array([0.5, -0.5]), np.zeros(2), reduction="sum", delta=0.5)
    np.testing.assert_array_equal(gradient, [0.5, -0.5])


# ------------------------------------------------------------------------------------- bad input


@pytest.mark.sweep
@pytest.mark.parametrize("bad", [-1, 4, -101, 2**31])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_an_index_that_is_no_class_is_an_error_or_nan(bad, smoothing):
    ids = np.array([[2, 0, 3], [-100, bad, 2]])
    message = rf"targets hold the index {bad}, but there are 4 classes: 0 to 3\. Use ignore_index, which is -100,"
    with pytest.raises(ValueError, match=message):
        by_hand.cross_entropy(P, ids, label_smoothing=smoothing)
    value, dz = autodiff_vjp("cross_entropy", 1.0, P, ids, label_smoothing=smoothing)
    assert np.isnan(value)
    assert np.isnan(dz[1, 1]).any()
    terms, _ = autodiff_vjp("cross_entropy", 1.0, P, ids, label_smoothing=smoothing, reduction="none")
    assert np.isnan(terms).tolist() == [[False, False, False], [False, True, False]]


def test_unsigned_indices_are_never_ignored_by_accident():
    """-100 is 156 to a byte, and no byte is -100."""
    ids = np.array([[2, 0, 3], [1, 156, 2]], np.uint8)
    with pytest.raises(ValueError, match="the index 156"):
        by_hand.cross_entropy(P, ids)
    assert np.isnan(autodiff_vjp("cross_entropy", 1.0, P, ids)[0])
    ids[1, 1] = 3
    np.testing.assert_allclose(by_hand.cross_entropy(P, ids)[0], autodiff_vjp("cross_entropy", 1.0, P, ids)[0])


def test_hinge_wants_signs():
    with pytest.raises(ValueError, match=r"must be -1 or 1, got 0\.0\. Labels y of 0 and 1 become 2 \* y - 1\."):
        by_hand.hinge(P, LABELS)
    value, gradient = autodiff_vjp("hinge", 1.0, P, LABELS)
    assert np.isnan(value)
    np.testing.assert_array_equal(np.isnan(gradient), LABELS == 0)


@pytest.mark.parametrize("side", [by_hand, fast, by_jax])
def test_bad_input(side):
    x = jnp.zeros((2, 3)) if side is by_jax else np.zeros((2, 3))
    ids = np.zeros(2, int)
    for name in LOSSES:
        targets = ids if name == "cross_entropy" else np.ones((2, 3))
        message = r'reduction must be "mean", "sum" or "none", got \'average\'\.'
        with pytest.raises(ValueError, match=message):
            getattr(side, name)(x, targets, reduction="average")
        if name != "cross_entropy":
            message = (
                r" has shape \(2, 3\) and targets \(2, 1\); they must be equal\. Reshape one of them: broadcasting"
            )
            with pytest.raises(ValueError, match=message):
                getattr(side, name)(x, targets[:, :1])
    for targets, text in [
        (np.zeros((2, 3), int), r"int64 of shape \(2, 3\)"),
        (np.zeros((2, 1), int), r"int64 of shape \(2, 1\)"),
        (np.zeros(2, np.float32), r"float32 of shape \(2,\)"),
        (np.zeros((2, 3), bool), r"bool of shape \(2, 3\)"),
    ]:
        with jax.enable_x64(True), pytest.raises(ValueError, match=f"targets are {text}; logits of shape") as raised:
            side.cross_entropy(x, targets)
        expected = r"class indices (integers) of shape (2,), or probabilities (floating) of shape (2, 3): cast one-hot"
        assert expected in str(raised.value)
    with pytest.raises(ValueError, match=r"label_smoothing must be between 0 and 1, got 1\.5\."):
        side.cross_entropy(x, ids, label_smoothing=1.5)
    with pytest.raises(ValueError, match=r"logits must have classes on their last axis, got shape \(2, 0\)\."):
        side.cross_entropy(x[:, :0], ids)
    with pytest.raises(ValueError, match=r"log_predictions must have classes on their last axis, got shape \(2, 0\)"):
        side.kl_divergence(x[:, :0], np.zeros((2, 0)))
    for delta in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=f"delta must be positive, got {delta}"):
            side.huber(x, np.zeros((2, 3)), delta=delta)


@pytest.mark.parametrize("rules", [LOSSES, fast.LOSSES], ids=["page", "fast"])
@pytest.mark.parametrize("name", LOSSES)
def test_an_output_gradient_of_another_shape(name, rules):
    predictions, targets, options, terms, _ = REFERENCES[name]
    forward, backward = rules[name]
    _, cache = forward(predictions, targets, **options)
    message = r"output_gradient has shape \(2, 3\), but reduction='mean' needs \(\)\."
    with pytest.raises(ValueError, match=message):
        backward(np.ones((2, 3)), cache)
    _, cache = forward(predictions, targets, reduction="none", **options)
    with pytest.raises(ValueError, match=r"output_gradient has shape \(4, 1\), but reduction='none' needs \(2, 3"):
        backward(np.ones((4, 1)), cache)
    assert backward(np.ones(terms.shape), cache).shape == predictions.shape


# ------------------------------------------------------------------------------ shapes and purity


@pytest.mark.sweep
@SIDES
@pytest.mark.parametrize("name", LOSSES)
def test_empty_batches(vjp, name):
    x = np.zeros((0, 3))
    targets = np.zeros(0, int) if name == "cross_entropy" else x
    for reduction in REDUCTIONS[:1] if vjp is autodiff_vjp else REDUCTIONS:
        value, gradient = vjp(name, 1.0, x, targets, reduction=reduction)
        rows = (0,) if name in ("cross_entropy", "kl_divergence") else (0, 3)
        assert value.shape == (rows if reduction == "none" else ())
        np.testing.assert_array_equal(value, 0)
        assert gradient.shape == (0, 3)


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("vjp", "dtype"),
    [
        (manual_vjp, "float16"),
        (manual_vjp, "float32"),
        (fast_vjp, "float16"),
        (fast_vjp, "float32"),
        (autodiff_vjp, "float32"),
    ],
)
@pytest.mark.parametrize("name", LOSSES)
def test_the_dtype_of_the_predictions_is_kept(vjp, name, dtype):
    """Whatever that of the targets, the options and the output gradient."""
    predictions, targets, options, _, slopes = REFERENCES[name]
    options = {option: np.float64(value) for option, value in options.items()}
    if name == "cross_entropy":
        options["label_smoothing"] = np.float64(0)
    predictions, tolerance = predictions.astype(dtype), 8 * float(np.finfo(dtype).eps)
    for reduction in reductions_for(vjp):
        value, gradient = vjp(name, np.float64(0.5), predictions, targets, reduction=reduction, **options)
        assert value.dtype == gradient.dtype == dtype
        if reduction == "none":
            np.testing.assert_allclose(gradient, 0.5 * slopes, rtol=tolerance, atol=tolerance)


@SIDES
def test_smoothing_by_a_numpy_scalar_promotes_nothing(vjp):
    for targets in (np.array([[2, 0, 3], [-100, 1, 2]]), Q):
        options = {"label_smoothing": np.float64(0.1)}
        value, dz = vjp("cross_entropy", 1.0, P.astype(np.float32), targets, **options)
        assert value.dtype == dz.dtype == np.float32


@BY_HAND
def test_many_terms_of_float16_do_not_overflow_in_their_mean(vjp):
    x = np.full(70_000, 2.0, np.float16)
    value, gradient = vjp("mean_squared_error", 1.0, x, np.zeros(70_000))
    assert value == 4
    np.testing.assert_allclose(gradient, 4 / 70_000, rtol=1e-2)


@pytest.mark.parametrize("rules", [LOSSES, fast.LOSSES], ids=["page", "fast"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", LOSSES)
def test_read_only_and_scattered_memory_is_read_and_never_written(name, reduction, rules):
    forward, backward = rules[name]
    predictions, targets, options, _, _ = REFERENCES[name]
    predictions, targets = (np.asfortranarray(array)[::-1, ::2] for array in (predictions, targets))
    choices = [targets, np.array([[1, -100], [3, 0]])] if name == "cross_entropy" else [targets]
    for targets in choices:
        kept = predictions.copy(), targets.copy()
        predictions.flags.writeable = targets.flags.writeable = False
        value, cache = forward(predictions, targets, reduction=reduction, **options)
        before = [np.copy(part) for part in cache]
        first, again = (backward(np.ones_like(value), cache) for _ in range(2))
        np.testing.assert_array_equal(first, again)
        expected, gradient = manual_vjp(name, 1.0, *kept, reduction=reduction, rules=rules, **options)
        np.testing.assert_allclose(value, expected, rtol=1e-14)
        np.testing.assert_allclose(first, gradient, rtol=1e-14)
        for now, then in zip((predictions, targets, *cache), (*kept, *before), strict=True):
            np.testing.assert_array_equal(now, then)
        parts = [predictions, targets, *(part for part in cache if isinstance(part, np.ndarray))]
        assert not any(np.shares_memory(first, part) for part in parts)


# ------------------------------------------------------------------------------------ properties


@given(arrays(np.float64, (3, 4), elements=st.floats(-50, 50)), arrays(np.int64, 3, elements=st.integers(0, 3)))
def test_an_index_is_a_distribution_with_all_in_one_place(logits, ids):
    one_hot = np.eye(4)[ids]
    for smoothing in (0.0, 0.2):
        by_index = manual_vjp("cross_entropy", 1.0, logits, ids, label_smoothing=smoothing)
        by_probability = manual_vjp("cross_entropy", 1.0, logits, one_hot, label_smoothing=smoothing)
        for ours, theirs in zip(by_index, by_probability, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(by_index[1].sum(-1), 0, atol=1e-15)
    two = np.stack([np.zeros(3), logits[:, 0]], -1)  # softmax of (0, z) is sigmoid of z
    labels = ids % 2
    pair, _ = manual_vjp("cross_entropy", 1.0, two, labels)
    alone, _ = manual_vjp("binary_cross_entropy", 1.0, logits[:, 0], labels)
    np.testing.assert_allclose(pair, alone, rtol=1e-12, atol=1e-14)


# ---------------------------------------------------------------------------------------- faults

IDS = np.array([[2, 0, -100], [-100, 1, 3]])


def mean_over_all_rows(output_gradient, cache):
    """The 1/n of a mean, with the ignored rows in n."""
    return by_hand.cross_entropy_backward(output_gradient * 4 / 6, cache)


def ignored_rows_pulled_to_class_zero(output_gradient, cache):
    return by_hand.cross_entropy_backward(output_gradient, cache._replace(counted=np.ones((2, 3), bool)))


def smoothing_forgotten(output_gradient, cache):
    return by_hand.cross_entropy_backward(output_gradient, cache._replace(label_smoothing=0.0))


def test_planted_faults_of_cross_entropy_are_seen():
    options = {"targets": IDS, "label_smoothing": 0.1}
    forward, function = partial(by_hand.cross_entropy, **options), partial(by_jax.cross_entropy, **options)
    for backward in (mean_over_all_rows, ignored_rows_pulled_to_class_zero, smoothing_forgotten):
        report = check_vjp(forward, backward, function, P)
        assert report.verdict is Verdict.DISAGREE, backward
        assert report.first_wrong == "logits"
        assert report.wrong_side == "manual"
    report = check_vjp(forward, mean_over_all_rows, function, P)
    assert report.diagnoses[0].factor == pytest.approx(4 / 6)


def test_planted_faults_of_the_others_are_seen():
    def half_squared_error(output_gradient, cache):
        return by_hand.mean_squared_error_backward(output_gradient / 2, cache)

    def unclipped(output_gradient, cache):
        return output_gradient * cache.d / cache.d.size

    def mean_over_entries(output_gradient, cache):
        return by_hand.kl_divergence_backward(output_gradient / 4, cache)

    for name, backward in [
        ("mean_squared_error", half_squared_error),
        ("huber", unclipped),
        ("kl_divergence", mean_over_entries),
    ]:
        predictions, targets, options, _, _ = REFERENCES[name]
        forward, function = (partial(getattr(side, name), targets=targets, **options) for side in (by_hand, by_jax))
        report = check_vjp(forward, backward, function, predictions)
        assert report.verdict is Verdict.DISAGREE, name
        assert report.wrong_side == "manual"


@pytest.mark.parametrize("side", [by_hand, fast])
@pytest.mark.parametrize(
    ("dtype", "sizes"), [("float16", [5.0, 9.0]), ("float32", [10.0, 20.0]), ("float64", [20.0, 40.0])]
)
def test_what_is_left_of_a_confident_right_answer_is_not_lost_beside_its_logit(side, dtype, sizes):
    """Its loss is log(1 + exp(-|z|)), and not the difference of two numbers of the size of z."""
    z = np.array([*sizes, *(-size for size in sizes)], dtype)
    terms, _ = side.binary_cross_entropy(z, (z > 0).astype(dtype), reduction="none")
    right = np.log1p(np.exp(-np.abs(z.astype(float))))
    np.testing.assert_allclose(np.asarray(terms, float), right, rtol=4 * np.finfo(dtype).eps)
