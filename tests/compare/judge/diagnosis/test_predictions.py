"""Causes that the reference's own program predicts: terms left out, contributions overwritten, sums in 16 bits."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from compare import Verdict, check_gradients, check_hvp, check_vjp

RANDOM = np.random.default_rng(0)
X, W, B = RANDOM.standard_normal((6, 8)), RANDOM.standard_normal(8), RANDOM.standard_normal(8)
BF16 = np.dtype(ml_dtypes.bfloat16)


def kinds(report):
    assert report.verdict is Verdict.DISAGREE
    return [diagnosis.kind for diagnosis in report.diagnoses]


# ------------------------------------------------------------------------------------------------- norms

GROUPS = {"layer": lambda x: (x, -1), "batch": lambda x: (x, 0), "group": lambda x: (x.reshape(len(x), 2, -1), -1)}


def normalized(norm, by_variance):
    def function(x, w, b):
        values, axis = GROUPS[norm](x)
        centered = values - values.mean(axis, keepdims=True)
        squares = (centered**2).mean(axis, keepdims=True)
        variance = values.var(axis, keepdims=True) if by_variance else squares
        return w * (centered / jnp.sqrt(variance + 1e-5)).reshape(x.shape) + b

    return function


def norm_by_hand(norm, change):
    """`change(scale, d, mean of d, x_hat, mean of d x_hat)` is the gradient of x."""

    def forward(x, w, b):
        values, axis = GROUPS[norm](x)
        scale = 1 / np.sqrt(values.var(axis, keepdims=True) + 1e-5)
        x_hat = (values - values.mean(axis, keepdims=True)) * scale
        return w * x_hat.reshape(x.shape) + b, (x_hat, scale, w, axis)

    def backward(dy, cache):
        x_hat, scale, w, axis = cache
        d = (dy * w).reshape(x_hat.shape)
        mean, by_variance = d.mean(axis, keepdims=True), (d * x_hat).mean(axis, keepdims=True)
        dx = change(scale, d, mean, x_hat, by_variance).reshape(dy.shape)
        return dx, (dy * x_hat.reshape(dy.shape)).sum(0), dy.sum(0)

    return forward, backward


@pytest.mark.sweep
@pytest.mark.parametrize("by_variance", [True, False])
@pytest.mark.parametrize("norm", GROUPS)
@pytest.mark.parametrize(
    ("mean", "variance", "kind", "words"),
    [
        (0, 1, "missing-term", ["sum or mean over axis"]),
        (1, 0, "missing-term", ["the variance over axis"]),
        (0, 0, "missing-term", ["the variance over axis", "sum or mean over axis"]),
        (1, 0.5, "term", ["the variance over axis", "has the factor 0.5"]),
    ],
)
def test_a_norm_without_one_of_its_terms(norm, by_variance, mean, variance, kind, words):
    pair = norm_by_hand(norm, lambda s, d, m, x_hat, v: s * (d - mean * m - variance * x_hat * v))
    report = check_vjp(*pair, normalized(norm, by_variance), X, W, B, references=False)
    assert kinds(report) == [kind]
    assert all(part in report.diagnoses[0].message for part in words)


@pytest.mark.sweep
@pytest.mark.parametrize(
    "change",
    [
        lambda s, d, m, x_hat, v: s * (d - m - x_hat * v**2),
        lambda s, d, m, x_hat, v: s * (d - m - x_hat * v) + 1e-6 * x_hat**2,
        lambda s, d, m, x_hat, v: s * (d - 0.3 * m - 0.7 * x_hat * v),
        lambda s, d, m, x_hat, v: s**2 * d,
    ],
)
def test_a_norm_that_is_wrong_in_another_way_has_no_missing_term(change):
    report = check_vjp(*norm_by_hand("layer", change), normalized("layer", True), X, W, B, references=False)
    assert not {"missing-term", "term"} & set(kinds(report))


def test_a_norm_without_its_variance_in_16_bits():
    x, w, b = (RANDOM.standard_normal(shape).astype(BF16) for shape in ((64, 64), 64, 64))
    forward, backward = norm_by_hand("layer", lambda s, d, m, x_hat, v: s * (d - m))

    def narrow_forward(*inputs):
        y, cache = forward(*(value.astype(np.float32) for value in inputs))
        return y.astype(BF16), cache

    def narrow_backward(dy, cache):
        return tuple(value.astype(BF16) for value in backward(dy.astype(np.float32), cache))

    def reference(*inputs):
        return normalized("layer", True)(*(value.astype(jnp.float32) for value in inputs)).astype(jnp.bfloat16)

    report = check_vjp(narrow_forward, narrow_backward, reference, x, w, b, references=False, probes=False)
    assert kinds(report) == ["missing-term"]
    assert "the variance over axis 1" in report.diagnoses[0].message


def test_a_softmax_without_its_sum():
    def forward(x):
        y = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
        return y, y

    report = check_vjp(forward, lambda dy, y: y * dy, jax.nn.softmax, X, references=False)
    assert kinds(report) == ["missing-term"]


# --------------------------------------------------------------------------------- embeddings and padding

TABLE, IDS = RANDOM.standard_normal((5, 4)), np.array([3, 1, 3, 0, 1, 3])


def table_gradient(write):
    def backward(dy, cache):
        gradient = np.zeros(TABLE.shape)
        write(gradient, IDS, dy)
        return gradient

    return backward


def overwrite(gradient, ids, dy):
    gradient[ids] += dy


def overwrite_backwards(gradient, ids, dy):
    gradient[ids[::-1]] = dy[::-1]


def average(gradient, ids, dy):
    np.add.at(gradient, ids, dy)
    gradient /= np.maximum(np.bincount(ids, minlength=len(gradient)), 1)[:, None]


def add(gradient, ids, dy):
    np.add.at(gradient, ids, dy)


def add_unevenly(gradient, ids, dy):
    np.add.at(gradient, ids, dy * np.linspace(0.5, 1, len(dy))[:, None])


def clip_rows(gradient, ids, dy):
    np.add.at(gradient, ids, dy)
    np.tanh(gradient, out=gradient)


def skip_one(gradient, ids, dy):
    np.add.at(gradient, ids[1:], dy[1:])


def embedding(write, function=lambda table, ids: table[ids]):
    return check_vjp(
        lambda table, ids: (table[ids], None), table_gradient(write), function, TABLE, IDS, references=False
    )


@pytest.mark.parametrize(
    ("write", "words"), [(overwrite, "last"), (overwrite_backwards, "first"), (average, "averaged")]
)
def test_contributions_of_repeated_ids(write, words):
    report = embedding(write)
    assert kinds(report) == ["averaged-repeats" if write is average else "lost-repeats"]
    assert words in report.diagnoses[0].message


@pytest.mark.parametrize("write", [add_unevenly, clip_rows, skip_one])
def test_repeated_ids_that_are_wrong_in_another_way(write):
    assert "lost-repeats" not in kinds(embedding(write))


def test_a_row_of_padding():
    mask = (np.arange(5) != 3)[:, None]
    report = check_vjp(
        lambda table, ids: (mask * np.tanh(table), table),
        lambda dy, table: dy * (1 - np.tanh(table) ** 2),
        lambda table, ids: mask * jnp.tanh(table),
        TABLE,
        IDS,
        references=False,
    )
    assert kinds(report) == ["missing-mask"]
    assert "at index 3 of axis 0" in report.diagnoses[0].message


# ------------------------------------------------------------------------------ a sum that stops growing


def counted(ours, n=1600, terms=1.0):
    b, x = np.zeros(12, BF16), np.full((n, 12), terms, BF16)

    def by_hand(b, x):
        return np.asarray((b.astype(np.float32) + x.astype(np.float32)).sum()).astype(BF16), ours.astype(BF16)

    return check_gradients(by_hand, lambda b, x: (b + x).sum(), b, x, references=False, probes=False)


def test_a_sum_that_stops_growing_in_its_accumulator():
    report = counted(256 * np.ones(12))
    assert kinds(report) == ["accumulator"]
    assert "its sum of 1600 terms is accumulated in bfloat16 and stops growing (at 256, where 1600 is expected)" in (
        report.diagnoses[0].message
    )


@pytest.mark.parametrize("ours", [300 * np.ones(12), 512 * np.ones(12), 256 * np.arange(12), 128 * np.ones(12)])
def test_a_sum_that_is_wrong_in_another_way_has_no_accumulator(ours):
    assert "accumulator" not in kinds(counted(ours))


def test_a_product_whose_sums_stop_growing():
    x, c = np.ones((1600, 3), BF16), np.ones((1600, 4), BF16)

    def by_hand(w, x, c):
        return np.asarray(0.0, BF16), np.full((3, 4), 256).astype(BF16)

    report = check_gradients(
        by_hand, lambda w, x, c: jnp.sum((x @ w) * c), np.zeros((3, 4), BF16), x, c, references=False, probes=False
    )
    assert kinds(report) == ["accumulator"]


# ---------------------------------------------------------------------------------- weights, and rounding


def weighted(axis, power=1.0):
    def backward(dy, cache):
        x, w = cache
        return dy * (1 - np.tanh(x) ** 2) * np.expand_dims(w, 1 - axis) ** power, (dy * np.tanh(x)).sum(0)

    return check_vjp(
        lambda x, w: (np.tanh(x) * w, (x, w)),
        backward,
        lambda x, w: jnp.tanh(x) * w,
        X[:, :6],
        W[:6] ** 2,
        references=False,
    )


def test_a_weight_along_the_wrong_axis():
    report = weighted(axis=0)
    assert kinds(report) == ["wrong-axis"]
    assert "multiplies it along axis 0, and should multiply it along axis 1" in report.diagnoses[0].message


@pytest.mark.parametrize(("axis", "power"), [(0, 2.0), (1, 0.5), (0, 1.01)])
def test_a_weight_that_is_wrong_in_another_way(axis, power):
    assert "wrong-axis" not in kinds(weighted(axis, power))


def curved(gradient):
    x = np.random.default_rng(3).standard_normal(40)
    return check_gradients(
        lambda x: (np.sum(np.tanh(x) ** 2), gradient(x)), lambda x: jnp.sum(jnp.tanh(x) ** 2), x, references=False
    )


def exactly(x):
    return 2 * np.tanh(x) * (1 - np.tanh(x) ** 2)


def central_difference(x):
    x = x.astype(np.float64)  # in a wider dtype it would be right
    steps = 1e-6 * np.eye(len(x))
    return np.array([(np.sum(np.tanh(x + s) ** 2) - np.sum(np.tanh(x - s) ** 2)) / 2e-6 for s in steps])


def in_float32(x):
    return exactly(x.astype(np.float32)).astype(np.float64) * (1 + 1e-16 * x)


@pytest.mark.parametrize(
    "gradient",
    [
        central_difference,
        lambda x: 2 * np.clip(np.tanh(x), -0.9, 0.9) * (1 - np.tanh(x) ** 2),
        lambda x: exactly(x) / (1 + 1e-7 * np.abs(x)),
        lambda x: exactly(x + 3e-8),
        lambda x: 2 * np.tanh(x) * (1 - np.tanh(x) ** 2 + 1e-7),
        lambda x: exactly(x) + 1e-7 * np.random.default_rng(0).standard_normal(x.shape),
    ],
)
def test_systematic_errors_of_the_size_of_rounding_are_no_lost_precision(gradient):
    """Differences of the loss, a clip, an epsilon in another place, a shift, noise that is added."""
    assert "precision" not in kinds(curved(gradient))


def test_work_in_float32_is_lost_precision():
    assert kinds(curved(in_float32)) == ["precision"]


def through_tanh(slope):
    def loss_and_gradient(w, x):
        t = np.tanh(x @ w)
        return np.sum(t**3), x.T @ (3 * t**2 * slope(t))

    return loss_and_gradient


SQUARE = RANDOM.standard_normal((4, 5))


@pytest.mark.parametrize(
    ("slope", "kind", "words"),
    [
        (
            lambda t: 1 - t,
            "wrong-factor",
            "the factor is 1 - t, and should be 1 - t**2, the derivative of t = tanh(...)",
        ),
        (lambda t: t * (1 - t), "wrong-factor", "the factor is t (1 - t), and should be 1 - t**2"),
        (lambda t: 1 - 0.999 * t, None, ""),
        (lambda t: (1 - t) * (1 + t**2), None, ""),
    ],
)
def test_the_terms_in_which_jax_writes_the_derivative_of_tanh_are_none_of_the_users(slope, kind, words):
    w = RANDOM.standard_normal((5, 3))
    report = check_gradients(through_tanh(slope), lambda w, x: jnp.sum(jnp.tanh(x @ w) ** 3), w, SQUARE, probes=False)
    assert report.verdict is Verdict.DISAGREE
    assert kinds(report) == ([] if kind is None else [kind])
    assert all(words in cause.message for cause in report.diagnoses)


def test_a_term_that_is_multiplied_by_a_tanh_is_one_of_the_users():
    """x + x tanh(y): what comes back through the product alone is left out."""
    x, y = RANDOM.standard_normal((2, 4, 3))

    def by_hand(p, y):
        s = p * (1 + np.tanh(y))
        return np.sum(s**3), 3 * s**2

    report = check_gradients(by_hand, lambda p, y: jnp.sum((p + p * jnp.tanh(y)) ** 3), x, y, probes=False)
    assert kinds(report) == ["missing-term"]


def test_a_product_with_a_hessian_without_its_second_order_terms():
    x, target, w = RANDOM.standard_normal((9, 4)), RANDOM.standard_normal(9), RANDOM.standard_normal(4)
    report = check_hvp(
        lambda w, v, x, target: 2 * x.T @ ((1 - np.tanh(x @ w) ** 2) ** 2 * (x @ v)),
        lambda w, x, target: jnp.sum((jnp.tanh(x @ w) - target) ** 2),
        w,
        x,
        target,
    )
    (cause,) = report.diagnoses
    assert cause.kind == "gauss-newton"
