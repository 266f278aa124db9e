"""Inputs of real code and of public reports on which the judge was wrong, each as a kind: A to E, C first."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse, special

from compare import Verdict, check_gradients, check_vjp, tap

DTYPES = [np.float64, np.float32]


def random():
    return np.random.default_rng(0)


# ------------------------------------------------------------------- a matrix of truth values in a product


def at_risk(times):
    """Who is still there when another one goes: the risk sets of Cox's model."""
    return times[None] >= times[:, None]


def risk_by_hand(factor=1.0):
    def loss_and_gradients(z, chosen):
        e = np.exp(z)
        s = chosen @ e
        return np.log(s).sum(), (factor * e * (chosen.T @ (1 / s))).astype(z.dtype)

    return loss_and_gradients


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("product", [jnp.matmul, lambda m, e: jnp.einsum("ij,j->i", m, e), lambda m, e: (m * e).sum(1)])
@pytest.mark.parametrize("data", ["given", "closed over"])
def test_a_boolean_matrix_in_a_product(product, dtype, data):
    z = np.array([0.1, -0.4, 0.3, 0.8], dtype)
    chosen = at_risk(np.array([3.0, 1.0, 2.0, 2.0]))

    def loss(z, m):
        return jnp.sum(jnp.log(product(chosen if data == "closed over" else m, jnp.exp(z))))

    assert check_gradients(risk_by_hand(), loss, z, chosen).verdict is Verdict.AGREE
    report = check_gradients(risk_by_hand(1.01), loss, z, chosen)
    assert report.verdict is Verdict.DISAGREE
    assert report.wrong_side == "manual"


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_product_of_truth_values_counts(dtype):
    """Common neighbors in a graph: adjacency times adjacency."""
    linked = random().random((5, 5)) < 0.5
    w = random().normal(size=(5, 5)).astype(dtype)

    def by_hand(factor):
        def loss_and_gradients(w, linked):
            common = linked.astype(w.dtype) @ linked.astype(w.dtype)
            return np.sum(common * w**2), 2 * w.dtype.type(factor) * common * w

        return loss_and_gradients

    def loss(w, linked):
        common = jax.lax.dot(linked.astype(jnp.int32), linked.astype(jnp.int32))
        return jnp.sum(jnp.where(linked @ linked, common, 0) * w**2)

    assert check_gradients(by_hand(1), loss, w, linked).verdict is Verdict.AGREE
    assert check_gradients(by_hand(1.01), loss, w, linked).verdict is Verdict.DISAGREE


# -------------------------------------------------------------------------------- no number at a nonsmooth point

NAN_AT_ZERO = {
    "abs": (lambda x: np.abs(x).sum(), lambda x: x / np.abs(x), lambda x: jnp.abs(x).sum()),
    "relu": (lambda x: np.maximum(x, 0).sum(), lambda x: (x > 0) * x / x, lambda x: jnp.maximum(x, 0).sum()),
    "norm of rows": (
        lambda x: np.sqrt(x**2).sum(),
        lambda x: x / np.sqrt(x**2),
        lambda x: jnp.abs(x).sum(),
    ),
    "max with 0": (lambda x: np.maximum(x, 0).sum(), lambda x: np.maximum(x, 0) / x, lambda x: jax.nn.relu(x).sum()),
}


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3,), (3, 1)])
@pytest.mark.parametrize("name", NAN_AT_ZERO)
def test_no_number_at_a_nonsmooth_point_is_no_convention(name, shape, dtype):
    value, gradient, loss = NAN_AT_ZERO[name]

    def by_hand(x):
        with np.errstate(all="ignore"):
            return value(x), gradient(x)

    report = check_gradients(by_hand, loss, np.array([1.0, 0.0, 2.0], dtype).reshape(shape))
    assert report.verdict is Verdict.DISAGREE
    assert report.wrong_side == "manual"
    assert [diagnosis.kind for diagnosis in report.diagnoses] == ["non-finite"]
    assert check_gradients(by_hand, loss, np.array([1.0, 0.5, 2.0], dtype).reshape(shape), probes=False).verdict is (
        Verdict.AGREE
    )


def test_one_leaf_without_numbers_is_not_excused_by_another_s_convention():
    def by_hand(p):
        with np.errstate(all="ignore"):
            return np.abs(p["a"]).sum() + np.abs(p["b"]).sum(), {"a": p["a"] / np.abs(p["a"]), "b": 1.0 * (p["b"] >= 0)}

    parameters = {"a": np.array([1.0, 0.0]), "b": np.array([0.0, 2.0])}
    report = check_gradients(by_hand, lambda p: jnp.abs(p["a"]).sum() + jnp.abs(p["b"]).sum(), parameters)
    assert report.verdict is Verdict.DISAGREE
    assert "non-finite" in [diagnosis.kind for diagnosis in report.diagnoses]


# --------------------------------------------------------------------------------------- complex numbers inside


def complex_matrix(dtype, *shape):
    a = random()
    kind = np.complex128 if dtype is np.float64 else np.complex64
    return (a.normal(size=shape) + 1j * a.normal(size=shape)).astype(kind)


def of_matrix(a, x):
    """|A x|^2 for complex A and real x: its gradient is 2 Re(A^H A x)."""
    y = a @ x
    return np.sum(np.abs(y) ** 2, dtype=x.dtype), (2 * (np.conj(a).T @ y).real).astype(x.dtype)


INSIDE = {
    "matmul": lambda a, x: jnp.sum(jnp.abs(a @ x) ** 2),
    "einsum": lambda a, x: jnp.sum(jnp.abs(jnp.einsum("ij,j->i", a, x)) ** 2),
    "vdot": lambda a, x: jnp.vdot(a @ x, a @ x).real,
    "real and imaginary parts": lambda a, x: jnp.sum(jnp.real(a @ x) ** 2 + jnp.imag(a @ x) ** 2),
    "conjugate": lambda a, x: jnp.sum((jnp.conj(a @ x) * (a @ x)).real),
    "loop": lambda a, x: jax.lax.scan(lambda c, row: (c + jnp.abs(row @ x) ** 2, None), jnp.zeros((), x.dtype), a)[0],
    "solve": lambda a, x: jnp.sum(jnp.abs(jnp.linalg.solve(jnp.eye(len(a), dtype=a.dtype) * 2, 2 * a @ x)) ** 2),
}


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", INSIDE)
def test_complex_numbers_inside(name, dtype):
    a, x = complex_matrix(dtype, 4, 3), np.array([1.0, 2.0, -1.0], dtype)
    for factor, verdict in ((1, Verdict.AGREE), (1.01, Verdict.DISAGREE)):

        def by_hand(x, a, factor=factor):
            value, gradient = of_matrix(a, x)
            return value, gradient * x.dtype.type(factor)

        report = check_gradients(by_hand, lambda x, a: INSIDE[name](a, x), x, a)
        assert report.verdict is verdict, str(report)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_spectrum_inside(dtype):
    """sum |F x|^2 is n |x|^2 (Parseval)."""
    x = random().normal(size=8).astype(dtype)

    def by_hand(x, factor=1.0):
        return x.dtype.type(8) * np.sum(x * x), x.dtype.type(16 * factor) * x

    def loss(x):
        return jnp.sum(jnp.abs(jnp.fft.fft(x)) ** 2)

    assert check_gradients(by_hand, loss, x).verdict is Verdict.AGREE
    assert check_gradients(lambda x: by_hand(x, 1.01), loss, x).verdict is Verdict.DISAGREE


@pytest.mark.parametrize("dtype", DTYPES)
def test_complex_exponentials_are_as_inexact_as_their_dtype(dtype):
    """A structure factor |sum exp(i k x)|^2, by JAX in its own dtype."""
    x, k = (10 * random().normal(size=50)).astype(dtype), (3 * random().normal(size=10)).astype(dtype)

    def loss(x, k):
        return jnp.sum(jnp.abs(jnp.sum(jnp.exp(1j * k[:, None] * x), 1)) ** 2)

    run = jax.jit(jax.value_and_grad(loss))
    assert check_gradients(lambda x, k: run(x, k), loss, x, k, probes=False).verdict is Verdict.AGREE
    report = check_gradients(lambda x, k: (run(x, k)[0], run(x, k)[1] * 1.01), loss, x, k, probes=False)
    assert report.verdict is Verdict.DISAGREE


VJPS = {
    "alone": (lambda y: y, lambda y: y),
    "in a tree": (lambda y: {"a": y, "b": y.real}, lambda dy: dy["a"] + dy["b"]),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", VJPS)
def test_a_complex_output(kind, dtype):
    """y = A x: the gradient of x is Re(A^T dy), in JAX's convention."""
    a, x = complex_matrix(dtype, 4, 3), np.array([1.0, 2.0, -1.0], dtype)
    build, gather = VJPS[kind]

    def forward(x):
        return build(a @ x), None

    def backward(dy, _):
        return np.real(a.T @ gather(dy))

    def conjugated(dy, _):
        return np.real(a.T @ np.conj(gather(dy)))

    assert check_vjp(forward, backward, lambda x: build(a @ x), x).verdict is Verdict.AGREE
    report = check_vjp(forward, conjugated, lambda x: build(a @ x), x)
    assert report.verdict is Verdict.DISAGREE
    assert report.wrong_side == "manual"


# -------------------------------------------------- narrow parameters, wide integers, a tap, and a fault


def classified(p, x, y):
    z = tap("h", jnp.tanh(x @ p["W"])) @ p["V"]
    return -jnp.take_along_axis(jax.nn.log_softmax(z), y[:, None], 1).mean()


def classified_by_hand(fault=None):
    """`fault`: the leaf or intermediate that is half as large again."""

    def loss_and_gradients(p, x, y):
        n, rows = x.dtype.type(len(x)), np.arange(len(x))
        h = np.tanh(x @ p["W"])
        z = h @ p["V"]
        z = z - z.max(1, keepdims=True)
        e = np.exp(z)
        s = e.sum(1, keepdims=True)
        dz = e / s
        dz[rows, y] -= 1
        dz /= n
        factor = {name: x.dtype.type(1.5 if name == fault else 1) for name in ("V", "h", "W")}
        dh = factor["h"] * (dz @ p["V"].T)
        gradients = {"W": factor["W"] * (x.T @ (dh * (1 - h * h))), "V": factor["V"] * (h.T @ dz)}
        return -(z - np.log(s))[rows, y].mean(), gradients, {"h": dh}

    return loss_and_gradients


def classification(dtype, labels, examples=12):
    a = random()
    x, w, v = (a.normal(size=shape).astype(dtype) for shape in ((examples, 4), (4, 3), (3, 2)))
    return {"W": w, "V": v}, x, a.integers(0, 2, examples).astype(labels)


@pytest.mark.sweep
@pytest.mark.parametrize("labels", [np.int64, np.int32, np.uint8])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fault", [None, "V", "h", "W"])
def test_labels_of_any_integers_beside_parameters_of_any_width(fault, dtype, labels):
    report = check_gradients(classified_by_hand(fault), classified, *classification(dtype, labels))
    assert report.verdict is (Verdict.AGREE if fault is None else Verdict.DISAGREE)
    assert report.first_wrong == fault
    assert [diagnosis.path for diagnosis in report.diagnoses] == ([] if fault is None else [fault])
    assert fault is None or report.diagnoses[0].factor == pytest.approx(1.5, rel=1e-5)


SCALARS = {
    "a number of NumPy's": np.sqrt(2 / np.pi),
    "a number of Python's": float(np.sqrt(2 / np.pi)),
    "an array of float64": np.array(np.sqrt(2 / np.pi)),
    "an integer of NumPy's": np.int64(2),
    "an array of integers": np.arange(1, 3),
}


@pytest.mark.sweep
@pytest.mark.parametrize("kind", SCALARS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_wide_number_in_the_loss(kind, dtype):
    scale = SCALARS[kind]
    x, w = (random().normal(size=shape).astype(dtype) for shape in ((12, 4), (4, 2)))

    def loss(w, x):
        z = x @ w
        return jnp.mean(scale * z * jnp.tanh(tap("z", z)))

    def by_hand(factor):
        def loss_and_gradients(w, x):
            z = x @ w
            c, t = np.asarray(scale).astype(w.dtype), np.tanh(z)
            dz = c * (t + z * (1 - t * t)) / w.dtype.type(z.size)
            return np.mean(c * z * t), w.dtype.type(factor) * (x.T @ dz)

        return loss_and_gradients

    assert check_gradients(by_hand(1), loss, w, x).verdict is Verdict.AGREE
    report = check_gradients(by_hand(1.5), loss, w, x)
    assert report.verdict is Verdict.DISAGREE
    assert report.wrong_side == "manual"


MISSHAPEN = {
    "transposed": lambda h: h.T,
    "one column": lambda h: h[:, :1],
    "flat": lambda h: h.ravel(),
    "with one more axis": lambda h: h[None],
    "a row short": lambda h: h[:-1],
    "nothing": lambda h: h[:0],
    "a scalar": lambda h: h.sum(),
    "a number of Python's": lambda h: 0.5,
}
NO_GRADIENT = {
    "no numbers": (lambda h: h * np.nan, "non-finite"),
    "integers": (lambda h: np.zeros(h.shape, int), "dtype"),
    "complex": (lambda h: h * 1j, "dtype"),
    "truth values": (lambda h: h > 0, "dtype"),
}


@pytest.mark.sweep
@pytest.mark.parametrize("kind", MISSHAPEN)
@pytest.mark.parametrize(("fault", "dtype"), [(None, np.float32), ("V", np.float32), ("W", np.float64)])
def test_an_intermediate_of_another_shape_than_its_tap(kind, fault, dtype):
    def by_hand(p, x, y):
        loss, gradients, intermediates = classified_by_hand(fault)(p, x, y)
        return loss, gradients, {"h": MISSHAPEN[kind](intermediates["h"])}

    report = check_gradients(by_hand, classified, *classification(dtype, np.int64))
    assert report.verdict is Verdict.DISAGREE
    assert report.first_wrong == ("V" if fault == "V" else "h")
    (of_h,) = [diagnosis for diagnosis in report.diagnoses if diagnosis.path == "h"]
    assert of_h.kind == "shape"
    assert "and should be (12, 3)" in of_h.message
    assert fault is None or fault in [diagnosis.path for diagnosis in report.diagnoses]


@pytest.mark.sweep
@pytest.mark.parametrize("kind", NO_GRADIENT)
@pytest.mark.parametrize("fault", [None, "W"])
def test_an_intermediate_that_can_be_no_gradient(kind, fault):
    change, cause = NO_GRADIENT[kind]

    def by_hand(p, x, y):
        loss, gradients, intermediates = classified_by_hand(fault)(p, x, y)
        return loss, gradients, {"h": change(intermediates["h"])}

    report = check_gradients(by_hand, classified, *classification(np.float32, np.int64))
    assert report.verdict is Verdict.DISAGREE
    assert [diagnosis.kind for diagnosis in report.diagnoses if diagnosis.path == "h"] == [cause]


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**20), fault=st.sampled_from([None, "V", "h", "W"]))
def test_a_classifier_of_any_numbers_is_judged(seed, fault):
    parameters, x, y = classification(np.float32, np.int64)
    moved = np.random.default_rng(seed)
    parameters = {name: moved.normal(size=leaf.shape).astype(leaf.dtype) for name, leaf in parameters.items()}
    report = check_gradients(classified_by_hand(fault), classified, parameters, x, y)
    assert report.verdict is (Verdict.AGREE if fault is None else Verdict.DISAGREE), str(report)
    assert report.first_wrong == fault


# ================================================================================= A. correct code that was blamed

BF = ml_dtypes.bfloat16
WRONG = [pytest.param(1.0, id="right"), pytest.param(1.02, id="wrong")]


def verdict_of(report, wrong):
    """Right code agrees, and code with a wrong factor does not."""
    expected = Verdict.DISAGREE if wrong != 1 else Verdict.AGREE
    assert report.verdict is expected, str(report)
    assert wrong == 1 or report.wrong_side in ("manual", None)
    return report


def soft(times):
    return lambda x: (np.log1p(np.exp(x)).sum(), times / (1 + np.exp(-x)))


def cross_entropy(times):
    def by_hand(z, y):
        p = np.exp(z - z.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        return -np.log(p[np.arange(len(y)), y]).sum(), times * (p - np.eye(z.shape[1])[y])

    return by_hand


def cross_entropy_loss(z, y):
    return -jnp.take_along_axis(jax.nn.log_softmax(z), y[:, None], 1).sum()


def mixture(times):
    def by_hand(x):
        e = np.exp(-(x**2))
        return np.log(e.sum()), times * -2 * x * e / e.sum()

    return by_hand


OVERFLOWS = {
    "log1p(exp x)": (soft, lambda x: jnp.logaddexp(0, x).sum(), lambda a: (a.normal(size=20),)),
    "log(softmax)": (cross_entropy, cross_entropy_loss, lambda a: (a.normal(size=(6, 4)), a.integers(0, 4, 6))),
    "log sum exp": (mixture, lambda x: jax.nn.logsumexp(-(x**2)), lambda a: (a.normal(size=7),)),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", OVERFLOWS)
def test_a1_an_overflow_far_away_convicts_nobody(name, wrong):
    by_hand, loss, draw = OVERFLOWS[name]
    with np.errstate(all="ignore"):
        report = verdict_of(check_gradients(by_hand(wrong), loss, *draw(random())), wrong)
    assert wrong != 1 or any("parameters x 1000" in words for words in report.arithmetic)


def bernoulli(times):
    def by_hand(p, y):
        q = np.clip(p, 1e-15, 1 - 1e-15)
        return -np.sum(y * np.log(q) + (1 - y) * np.log(1 - q)), times * ((1 - y) / (1 - q) - y / q)

    return by_hand


def bernoulli_loss(p, y):
    return -jnp.sum(y * jnp.log(p) + (1 - y) * jnp.log(1 - p))


def arcsine(times):
    return lambda p, y: (np.sum(y * np.arcsin(np.clip(p, -1, 1))), times * y / np.sqrt(1 - np.clip(p, -1, 1) ** 2))


NOT_FINITE_THERE = {
    "log of a probability": (bernoulli, bernoulli_loss),
    "arcsine": (arcsine, lambda p, y: jnp.sum(y * jnp.arcsin(p))),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", NOT_FINITE_THERE)
def test_a2_where_the_reference_s_own_loss_is_no_number_nothing_is_said(name, wrong):
    by_hand, loss = NOT_FINITE_THERE[name]
    with np.errstate(all="ignore"):
        point = np.array([0.2, 0.7, 0.4]), np.array([0.0, 1.0, 1.0])
        report = verdict_of(check_gradients(by_hand(wrong), loss, *point), wrong)
    assert wrong != 1 or any("could not be judged" in note for note in report.notes)


def hazard(times):
    def by_hand(w):
        x = np.array([1.0, -2.0, 3.0])
        e = np.exp(w * x)
        p = 1 - np.exp(-e)
        return np.sum(e), times * np.sum(-np.log(1 - p) * x)

    return by_hand


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("at", [0.7233333333333333, 0.8, 0.9])
def test_a3_a_smooth_loss_has_no_nonsmooth_point(at, wrong):
    def loss(w):
        return jnp.sum(jnp.exp(w * np.array([1.0, -2.0, 3.0])))

    report = verdict_of(check_gradients(hazard(wrong), loss, np.array(at), probes=False), wrong)
    assert "not differentiable" not in str(report)
    assert wrong != 1 or "value loses digits in float64" in str(report)


def beta(times):
    return lambda x: (np.sum(x**2 * (6 - 8 * x + 3 * x**2)), times * 12 * x * (1 - x) ** 2)


def log_normal(times):
    def by_hand(x):
        values = special.log_ndtr(x)
        return values.sum(), times * np.exp(-x * x / 2 - values) / np.sqrt(2 * np.pi)

    return by_hand


def beta_binomial(times):
    return lambda a: (special.betaln(a, 11.0).sum(), times * (special.psi(a) - special.psi(a + 11)))


INEXACT = {
    "betaln": (
        beta_binomial,
        lambda a: jax.scipy.special.betaln(a, 11.0).sum(),
        lambda: np.array([1.5, 9.0, 15.0, 0.2]),
    ),
    "betainc": (
        beta,
        lambda x: jnp.sum(jax.scipy.special.betainc(2.0, 3.0, x)),
        lambda: np.random.default_rng(1).uniform(0.05, 0.95, size=30),
    ),
    "log_ndtr": (
        log_normal,
        lambda x: jax.scipy.special.log_ndtr(x).sum(),
        lambda: np.array([-22.0, -21.5, -25.0, -3.0, 0.5]),
    ),
}


@pytest.mark.sweep
@pytest.mark.parametrize("name", INEXACT)
def test_a4_the_reference_s_special_functions_are_as_exact_as_they_are(name):
    by_hand, loss, draw = INEXACT[name]
    report = check_gradients(by_hand(1.0), loss, draw(), probes=False)
    assert report.verdict in (Verdict.AGREE, Verdict.INCONCLUSIVE), str(report)
    assert check_gradients(by_hand(1.001), loss, draw(), probes=False).verdict is Verdict.DISAGREE


def squares(loss_dtype, gradient_dtype=None, times=1.0):
    def by_hand(w, X):
        r = X @ w
        gradient = w.dtype.type(2 * times) * (X.T @ r)
        return np.sum(r**2, dtype=loss_dtype), gradient if gradient_dtype is None else gradient.astype(gradient_dtype)

    return by_hand


def squares_loss(w, X):
    return jnp.sum((X @ w) ** 2)


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize(("narrow", "wide"), [(np.float32, np.float64), (np.float16, np.float32)])
def test_a5_a_loss_of_a_wider_dtype_is_remarked_upon(narrow, wide, wrong):
    X = np.random.default_rng(1).normal(size=(20, 3)).astype(narrow)
    with np.errstate(all="ignore"):
        report = check_gradients(squares(wide, times=wrong), squares_loss, np.ones(3, narrow), X, probes=False)
    verdict_of(report, wrong)
    assert f"the hand-written loss is {np.dtype(wide)}, the reference's is {np.dtype(narrow)}." in report.notes


@pytest.mark.parametrize("times", [1.0, 1.5])
@pytest.mark.parametrize(("dtype", "other"), [(np.float32, np.float64), (np.float64, np.float32)])
def test_a5_a_gradient_of_another_dtype_is_judged_by_its_values_too(dtype, other, times):
    X = np.random.default_rng(1).normal(size=(20, 3)).astype(dtype)
    report = check_gradients(squares(dtype, other, times), squares_loss, np.ones(3, dtype), X, probes=False)
    assert report.diagnoses[0].kind == "dtype"
    row = report.rows[1]
    assert np.isfinite([row.error, row.tolerance]).all()
    assert ("its values agree" in row.message) == (times == 1 and other is np.float64)  # or they are rounded


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("short", [BF, np.float16])
def test_a6_each_result_has_the_dtype_that_the_reference_gives_it(short, wrong):
    a = random()
    x, w = a.normal(size=(64, 16)).astype(short), a.normal(size=(16, 32)).astype("f4")

    def forward(x, w, b):
        return (x.astype(np.float32) @ w + b).astype(short), (x, w)

    def backward(dy, cache):
        x, w = cache
        dy = dy.astype(np.float32)
        return (dy @ w.T).astype(short), np.float32(wrong) * (x.astype(np.float32).T @ dy), dy.sum(0)

    def function(x, w, b):
        return (x.astype(jnp.float32) @ w + b).astype(x.dtype)

    report = verdict_of(check_vjp(forward, backward, function, x, w, np.zeros(32, "f4")), wrong)
    dtypes = {row.path: row.dtype for row in report.rows}
    assert dtypes == {"output": np.dtype(short).name, "x": np.dtype(short).name, "w": "float32", "b": "float32"}


def kernel(times):
    def by_hand(X):
        d2 = (X * X).sum(1)[:, None] + (X * X).sum(1)[None] - 2 * X @ X.T
        k = np.exp(-d2 / 2)
        return k.sum(), times * -2 * (k.sum(1)[:, None] * X - k @ X)

    return by_hand


def log_terms(times):
    """A sum of log alpha + log beta, of terms of 4e3 that cancel."""
    large = 4e3 * np.arange(1, 9)

    def by_hand(w):
        alpha, beta = large + w, -large + w**2
        return np.sum(np.exp(alpha + beta)), times * np.exp(alpha + beta) * (1 + 2 * w)

    return by_hand


CANCELS = {
    "|a|^2 + |b|^2 - 2ab": (
        kernel,
        lambda X: jnp.exp(-jnp.sum((X[:, None] - X[None]) ** 2, -1) / 2).sum(),
        lambda a: a.normal(size=(30, 5)) + 40,
    ),
    "log alpha + log beta": (log_terms, lambda w: jnp.sum(jnp.exp(w + w**2)), lambda a: a.uniform(0.1, 1, 8)),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", CANCELS)
def test_a7_code_that_cancels_is_right_and_loses_digits(name, wrong):
    by_hand, loss, draw = CANCELS[name]
    report = verdict_of(check_gradients(by_hand(wrong), loss, draw(random()), probes=False), wrong)
    assert wrong != 1 or any("loses digits in float64" in words for words in report.arithmetic)


# A8, complex numbers inside: test_complex_exponentials_are_as_inexact_as_their_dtype.


@pytest.mark.sweep
@pytest.mark.parametrize("function", [lambda x, w: jnp.tanh(x @ w), lambda x, w: (x @ w) ** 2], ids=["tanh", "square"])
@pytest.mark.parametrize("dtype", [np.float16, BF])
def test_a9_jax_s_own_vjp_in_16_bits_is_right(function, dtype):
    a = random()
    x, w = a.normal(size=(16, 32)).astype(dtype), a.normal(size=(32, 8)).astype(dtype)

    def forward(x, w):
        y, pull = jax.vjp(function, jnp.asarray(x), jnp.asarray(w))
        return np.asarray(y), pull

    def backward(dy, pull):
        return tuple(map(np.asarray, pull(jnp.asarray(dy))))

    report = check_vjp(forward, backward, function, x, w)
    assert report.verdict is not Verdict.DISAGREE, str(report)


# ==================================================================================== B. wrong code that passed


def dense(dtype, factor=1.0, leaf="dw", drop=False):
    """A kernel: float32 inside, rounded to 16 bits at the end."""
    wide = np.float32

    def forward(x, w):
        times = wide(factor if leaf == "forward" else 1)
        return (times * (x.astype(wide) @ w.astype(wide))).astype(dtype), (x, w)

    def backward(dy, cache):
        x, w = (array.astype(wide) for array in cache)
        dy = dy.astype(wide)
        dx, dw = dy @ w.T, x.T @ dy
        if drop:
            dw = x[1:].T @ dy[1:]
        times = {"dx": wide(1), "dw": wide(1)} | {leaf: wide(factor)}
        return (times["dx"] * dx).astype(dtype), (times["dw"] * dw).astype(dtype)

    return forward, backward


def dense_inputs(dtype, seed=0):
    a = np.random.default_rng(seed)
    return a.normal(size=(128, 64)).astype(dtype), a.normal(size=(64, 32)).astype(dtype)


def product(x, w):
    return x @ w


def wide_product(x, w):
    return (x.astype(jnp.float32) @ w.astype(jnp.float32)).astype(x.dtype)


@pytest.mark.sweep
@pytest.mark.parametrize("function", [product, wide_product])
@pytest.mark.parametrize("leaf", ["dw", "dx", "forward"])
@pytest.mark.parametrize(("dtype", "factor"), [(BF, 1.02), (BF, 1.5), (np.float16, 1.005)])
def test_b1_a_factor_in_16_bits_is_seen(dtype, factor, leaf, function):
    report = check_vjp(*dense(dtype, factor, leaf), function, *dense_inputs(dtype), probes=False)
    assert report.verdict is Verdict.DISAGREE, str(report)
    assert report.first_wrong == {"dw": "w", "dx": "x", "forward": "output"}[leaf]
    assert report.wrong_side in ("manual", "loss", None)


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", [BF, np.float16])
@pytest.mark.parametrize("seed", range(3))
def test_b1_a_right_kernel_in_16_bits_agrees(dtype, seed):
    with np.errstate(all="ignore"):
        report = check_vjp(*dense(dtype), product, *dense_inputs(dtype, seed))
    assert report.verdict is Verdict.AGREE, str(report)
    assert max(report.power[name] for name in ("x", "w")) < (1.02 if dtype == BF else 1.005)


@pytest.mark.parametrize("dtype", [BF, np.float16])
def test_b1_one_of_128_rows_that_is_dropped_is_seen(dtype):
    assert check_vjp(*dense(dtype, drop=True), product, *dense_inputs(dtype), probes=False).verdict is Verdict.DISAGREE


@pytest.mark.parametrize("fault", ["a row", "an entry", "a column"])
def test_b2_the_output_is_compared_entry_by_entry(fault):
    a = random()
    x, w = a.normal(size=(256, 16)).astype("f4"), a.normal(size=(16, 64)).astype("f4")
    place = {"a row": np.s_[0], "an entry": np.s_[3, 5], "a column": np.s_[:, 7]}[fault]

    def forward(x, w):
        y = x @ w
        y[place] = 0
        return y, (x, w)

    def backward(dy, cache):
        return dy @ cache[1].T, cache[0].T @ dy

    report = check_vjp(forward, backward, product, x, w, probes=False)
    assert report.verdict is Verdict.DISAGREE
    assert report.first_wrong == "output"
    assert check_vjp(lambda x, w: (x @ w, (x, w)), backward, product, x, w, probes=False).verdict is Verdict.AGREE


def interpolated(decide):
    def loss(img, at, c):
        i = decide(jnp, at)
        w = at - i
        return jnp.sum(c * (img[i] * (1 - w) + img[i + 1] * w))

    return loss


def interpolated_by_hand(decide, times):
    def by_hand(img, at, c):
        i = decide(np, at)
        w = at - i
        gradient = np.zeros_like(img)
        np.add.at(gradient, i, c * (1 - w))
        np.add.at(gradient, i + 1, c * w)
        return np.sum(c * (img[i] * (1 - w) + img[i + 1] * w)), times * gradient

    return by_hand


DECIDED = {
    "floor": lambda n, at: n.floor(at).astype(int),
    "conversion": lambda n, at: at.astype(int),
    "ceil": lambda n, at: n.ceil(at).astype(int) - 1,
    "round": lambda n, at: n.round(at - 0.5).astype(int),
    "a whole quotient": lambda n, at: (at // 1.0).astype(int),
}


@pytest.mark.sweep
@pytest.mark.parametrize("name", DECIDED)
@pytest.mark.parametrize("at", [[0.4, 2.7, 6.3, 5.2, 9.3], [0.5, 5.0, 6.0, 5.25, 9.0]], ids=["between", "at borders"])
def test_b3_there_is_a_gradient_behind_what_is_decided(name, at):
    a = random()
    img, c, decide = a.normal(size=12), a.normal(size=5), DECIDED[name]
    point = img, np.array(at), c
    assert check_gradients(interpolated_by_hand(decide, 1), interpolated(decide), *point).verdict is Verdict.AGREE
    for times in (0, 1.001, -1):
        report = check_gradients(interpolated_by_hand(decide, times), interpolated(decide), *point)
        assert report.verdict is Verdict.DISAGREE, str(report)


def test_b3_a_wrong_gradient_at_a_border_is_no_convention():
    """min(floor(u), n - 2) moved would give a false neighbor."""
    img, c = random().normal(size=8), np.array([1.0, -2.0, 0.5])

    def loss(u, img, c):
        i = jnp.minimum(jnp.floor(u), 6).astype(int)
        return jnp.sum(c * (img[i] * (1 - (u - i)) + img[i + 1] * (u - i)))

    def by_hand(of):
        def loss_and_gradients(u, img, c):
            i = np.minimum(np.floor(u), 6).astype(int)
            return np.sum(c * (img[i] * (1 - (u - i)) + img[i + 1] * (u - i))), of(c * (img[i + 1] - img[i]))

        return loss_and_gradients

    u = np.array([7.0, 2.5, 3.2])
    assert check_gradients(by_hand(np.copy), loss, u, img, c, probes=False).verdict is Verdict.AGREE
    wrong = check_gradients(by_hand(lambda g: g * np.array([0.5, 1, 1])), loss, u, img, c, probes=False)
    assert wrong.verdict is Verdict.DISAGREE


def summed_bias(n, factor, dtype):
    def by_hand(b, x):
        total = np.asarray((b.astype("f4") + x.astype("f4")).sum())
        return total.astype(dtype), (np.float32(factor * n) * np.ones(4, "f4")).astype(dtype)

    return check_gradients(by_hand, lambda b, x: (b + x).sum(), np.zeros(4, dtype), np.ones((n, 4), dtype))


@pytest.mark.sweep
@pytest.mark.parametrize("factor", [2, 0, -1])
@pytest.mark.parametrize(("n", "dtype"), [(256, BF), (1024, BF), (1024, np.float16)])
def test_b4_what_may_be_anything_does_not_agree(n, dtype, factor):
    assert summed_bias(n, factor, dtype).verdict is not Verdict.AGREE
    assert summed_bias(n, 1, dtype).verdict is not Verdict.DISAGREE


@pytest.mark.parametrize(("n", "stuck"), [(1600, 256), (700, 256)])
def test_b4_a_sum_that_stops_growing_is_a_fault_unless_it_is_said_to_be_meant(n, stuck):
    b, x = np.zeros(4, BF), np.ones((n, 4), BF)

    def by_hand(b, x):
        return np.asarray((b.astype("f4") + x.astype("f4")).sum()).astype(BF), np.full(4, stuck, BF)

    def loss(b, x):
        return (b + x).sum()

    assert check_gradients(by_hand, loss, b, x).verdict is Verdict.DISAGREE
    assert check_gradients(by_hand, loss, b, x, accumulate="input", probes=False).verdict is not Verdict.DISAGREE


def leaky(times):
    """Right for slopes from 0 on; trained, they turn negative."""

    def by_hand(a, x):
        y = np.where(x > 0, x, a * x)
        return (y**2).sum(), times * (2 * y * np.where((x <= 0) & (a > 0), x, 0)).sum(0)

    return by_hand


def power(times):
    """x^p for p > 0."""

    def by_hand(a, x):
        y = np.abs(x) ** np.abs(a)
        return np.sum(y), times * np.sum(y * np.log(np.abs(x)), 0)

    return by_hand


ONE_SIGN = {
    "the slope of a leaky relu": (leaky, lambda a, x: (jnp.where(x > 0, x, a * x) ** 2).sum()),
    "an exponent": (power, lambda a, x: jnp.sum(jnp.abs(x) ** jnp.abs(a))),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", ONE_SIGN)
def test_b5_what_changes_its_sign_in_training_is_remarked_upon(name, wrong):
    by_hand, loss = ONE_SIGN[name]
    report = verdict_of(
        check_gradients(by_hand(wrong), loss, np.array([0.25, 0.5, 1.5]), random().normal(size=(20, 3))), wrong
    )
    assert wrong != 1 or any("'other signs'" in note and "the sides differ" in note for note in report.notes)


def as_contiguous(dy):
    """What a kernel reads that takes an array for contiguous."""
    strides = np.empty(dy.shape, dy.dtype).strides
    return np.lib.stride_tricks.as_strided(dy, dy.shape, strides)


LAYOUTS = {
    "a product": (
        lambda x, w: (x @ w, (x, w)),
        lambda dy, cache: (dy @ cache[1].T, cache[0].T @ dy),
        product,
        ((6, 5), (5, 4)),
    ),
    "a sum": (lambda x: (x.sum(0), x), lambda dy, x: np.ones_like(x) * dy, lambda x: x.sum(0), ((5, 4),)),
    "tanh": (
        lambda x: (np.tanh(x), np.tanh(x)),
        lambda dy, t: dy * (1 - t * t),
        jnp.tanh,
        ((3, 4),),
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_b6_a_kernel_that_counts_on_contiguous_arrays_is_found(name):
    forward, backward, function, shapes = LAYOUTS[name]
    a = random()
    inputs = [a.normal(size=shape) for shape in shapes]
    assert check_vjp(forward, backward, function, *inputs).verdict is Verdict.AGREE
    report = check_vjp(forward, lambda dy, cache: backward(as_contiguous(dy), cache), function, *inputs)
    assert report.verdict is Verdict.DISAGREE
    assert [diagnosis.kind for diagnosis in report.diagnoses] == ["layout"]
    assert "np.ascontiguousarray" in report.sentence


# ========================================================================== D. JAX is wrong, and was believed


def rows_of(x):
    return np.vstack([x[:1], 0 * x[:1], x[1:]])


NAN_OF_JAX = {
    "the norm of a row of zeros, squared": (
        lambda X, times: ((X * X).sum(), times * 2 * X),
        lambda X: (jnp.linalg.norm(X, axis=1) ** 2).sum(),
    ),
    "the square root of a square, squared": (
        lambda X, times: ((X * X).sum(), times * 2 * X),
        lambda X: (jnp.sqrt(X * X) ** 2).sum(),
    ),
    "a distance to itself": (
        lambda X, times: (((X[:, None] - X[None]) ** 2).sum(), times * 4 * (len(X) * X - X.sum(0))),
        lambda X: (jnp.linalg.norm(X[:, None] - X[None], axis=-1) ** 2).sum(),
    ),
}


@pytest.mark.parametrize("name", NAN_OF_JAX)
def test_d1_what_is_nan_by_jax_and_right_by_hand_is_jax_s_fault(name):
    by_hand, loss = NAN_OF_JAX[name]
    X = rows_of(random().normal(size=(4, 3)))
    report = check_gradients(lambda X: by_hand(X, 1), loss, X)
    assert report.verdict is Verdict.DISAGREE
    assert report.wrong_side == "autodiff"
    assert report.sentence.startswith("DISAGREE: JAX's gradient of X: it is nan at [")
    assert report.references
    wrong = check_gradients(lambda X: by_hand(X, 1.5), loss, X)
    assert wrong.verdict is not Verdict.AGREE
    assert wrong.wrong_side != "autodiff"


def vectors(S, times=1.0):
    """Of v[0, 0]^2 + 2 v[1, 0], v the eigenvectors."""
    w, v = np.linalg.eigh(S)
    dv = np.zeros_like(v)
    dv[0, 0], dv[1, 0] = 2 * v[0, 0], 2.0
    with np.errstate(all="ignore"):
        F = np.where(np.eye(len(w), dtype=bool), 0, 1 / (w[None] - w[:, None]))
    gradient = v @ (F * (v.T @ dv)) @ v.T
    return v[0, 0] ** 2 + 2 * v[1, 0], times * (gradient + gradient.T) / 2


def vectors_loss(S):
    v = jnp.linalg.eigh(S)[1]
    return v[0, 0] ** 2 + 2 * v[1, 0]


@pytest.mark.sweep
@pytest.mark.parametrize("times", [0.0, 1.5, -1.0])
@pytest.mark.parametrize("gap", [1e-14, 1e-13])
def test_d2_nearly_equal_eigenvalues_are_no_agreement(gap, times):
    S = np.diag([1.0, 1.0, 2.0]) + gap * np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 0]])
    assert check_gradients(lambda S: vectors(S, times), vectors_loss, S, probes=False).verdict is Verdict.INCONCLUSIVE
    assert check_gradients(lambda S: vectors(S, times), vectors_loss, S).verdict is not Verdict.AGREE


@jax.custom_vjp
def passed_through(x):
    return jnp.round(x)


passed_through.defvjp(lambda x: (jnp.round(x), None), lambda _, g: (g,))

INTENDED = {
    "stop_gradient": (lambda x: x + jax.lax.stop_gradient(jnp.round(x) - x), "stop_gradient"),
    "custom_vjp": (passed_through, "custom_vjp"),
    "clipped": (lambda x: x + jax.lax.stop_gradient(jnp.clip(x, -0.5, 0.5) - x), "stop_gradient"),
}
FORWARD = {"stop_gradient": np.round, "custom_vjp": np.round, "clipped": lambda x: np.clip(x, -0.5, 0.5)}


@pytest.mark.parametrize("name", INTENDED)
def test_d3_what_jax_s_program_says_of_its_derivative_is_named_and_not_blamed(name):
    function, word = INTENDED[name]
    x, c = np.array([0.3, 1.7, -0.6]), np.array([1.0, 2.0, 3.0])

    def by_hand(times):
        return lambda x: ((c * FORWARD[name](x)).sum(), times * c)

    report = check_gradients(by_hand(1), lambda x: (c * function(x)).sum(), x)
    assert report.verdict is Verdict.AGREE, str(report)
    assert any(word in note for note in report.notes), report.notes
    wrong = check_gradients(by_hand(1.5), lambda x: (c * function(x)).sum(), x)
    assert wrong.verdict is Verdict.DISAGREE
    assert wrong.wrong_side != "autodiff"


# ======================================================================================== E. false or empty words


def kinds(report):
    return {diagnosis.kind for diagnosis in report.diagnoses}


def looked_up(change, padding=None):
    """sum c * table[ids]^2 / 2, by hand with a wrong treatment of ids."""

    def by_hand(table, ids, c):
        values = table[ids]
        gradient = np.zeros_like(table)
        np.add.at(gradient, ids, c[:, None] * values)
        return np.sum(c[:, None] * values**2) / 2, change(gradient, ids)

    return by_hand


def looked_up_loss(table, ids, c):
    return jnp.sum(c[:, None] * table[ids] ** 2) / 2


def lost(gradient, ids):
    """Only the last of the repeated."""
    a = random()
    table, ids_, c = a.normal(size=(6, 3)), REPEATED, a.normal(size=7)
    kept = np.zeros_like(gradient)
    kept[ids_] = c[:, None] * table[ids_]
    return kept


REPEATED = np.array([0, 2, 2, 5, 2, 0, 1])
OF_IDS = {
    "rows are averaged": lambda g, ids: g / np.maximum(np.bincount(ids, minlength=6), 1)[:, None],
    "a repeated row is masked, as padding": lambda g, ids: g * (np.arange(6) != 2)[:, None],
    "repeated rows are noise": lambda g, ids: (
        g + (np.bincount(ids, minlength=6) > 1)[:, None] * random().normal(size=(6, 1))
    ),
}


def id_point():
    a = random()
    return a.normal(size=(6, 3)), REPEATED, a.normal(size=7)


def test_e1_repeats_that_are_lost_are_named():
    report = check_gradients(looked_up(lost), looked_up_loss, *id_point(), probes=False)
    assert kinds(report) == {"lost-repeats"}


@pytest.mark.parametrize("name", OF_IDS)
def test_e1_what_is_wrong_with_repeated_rows_is_not_always_that_they_are_lost(name):
    report = check_gradients(looked_up(OF_IDS[name]), looked_up_loss, *id_point(), probes=False)
    assert report.verdict is Verdict.DISAGREE
    assert "lost-repeats" not in kinds(report)


def covariance(n=4):
    A = random().normal(size=(n, n))
    return A @ A.T + n * np.eye(n)


SYMMETRIC = {
    "log det": (lambda S: (np.linalg.slogdet(S)[1], np.linalg.inv(S).T), lambda S: jnp.linalg.slogdet(S)[1]),
    "a quadratic form": (
        lambda S: (np.sum(S * S) / 2, S.copy()),
        lambda S: jnp.sum(S * S) / 2,
    ),
}


@pytest.mark.parametrize("name", SYMMETRIC)
def test_e2_twice_too_large_off_the_diagonal_is_said_so(name):
    right, loss = SYMMETRIC[name]

    def doubled(S):
        value, G = right(S)
        return value, 2 * G - np.diag(np.diag(G))

    report = check_gradients(doubled, loss, covariance())
    assert report.verdict is Verdict.DISAGREE
    assert "ties" not in kinds(report)
    assert "diag" in report.sentence


@pytest.mark.parametrize("name", SYMMETRIC)
def test_e2_and_other_faults_of_a_symmetric_parameter_are_no_ties(name):
    right, loss = SYMMETRIC[name]
    times = 1 + 0.3 * np.triu(random().normal(size=(4, 4)), 1)
    times = np.triu(times) + np.triu(times, 1).T
    report = check_gradients(lambda S: (right(S)[0], right(S)[1] * times), loss, covariance(), probes=False)
    assert report.verdict is Verdict.DISAGREE
    assert "2G" not in report.sentence


@jax.custom_vjp
def lower(L, b):
    return jax.scipy.linalg.solve_triangular(L, b, lower=True)


def _solved(L, b):
    x = jax.scipy.linalg.solve_triangular(L, b, lower=True)
    return x, (L, x)


def _with_a_ghost(kept, g):
    L, x = kept
    db = jax.scipy.linalg.solve_triangular(L, g, lower=True, trans=1)
    return -jnp.outer(db, x), db  # not only the lower triangle


lower.defvjp(_solved, _with_a_ghost)


def test_e3_a_triangle_that_should_be_zero_is_no_transpose():
    """jax #40421: the other triangle of the gradient is not masked."""
    L, b = np.linalg.cholesky(covariance()), random().normal(size=4)

    def by_hand(L, b):
        x = np.linalg.solve(L, b)
        return np.sum(x**2), np.tril(-np.outer(np.linalg.solve(L.T, 2 * x), x))

    def loss(L, b):
        return jnp.sum(lower(L, b) ** 2)

    report = check_gradients(by_hand, loss, L, b, probes=False)
    assert report.verdict is Verdict.DISAGREE
    assert "transpose" not in kinds(report)


NOT_ROUNDING = {
    "central differences": lambda x: (np.sin(x + 1e-6) - np.sin(x - 1e-6)) / 2e-6 * (1 + 1e-9),
    "differences that are too wide": lambda x: (np.sin(x + 1e-3) - np.sin(x - 1e-3)) / 2e-3,
    "an epsilon elsewhere": lambda x: np.cos(x) / (1 + 1e-8),
    "an epsilon beside a square": lambda x: np.cos(x) / np.sqrt(1 + 1e-8 * (1 + x**2)),
}


@pytest.mark.parametrize("name", NOT_ROUNDING)
def test_e4_errors_that_depend_on_the_data_are_no_precision(name):
    x = random().normal(size=30)
    report = check_gradients(lambda x: (np.sin(x).sum(), NOT_ROUNDING[name](x)), lambda x: jnp.sin(x).sum(), x)
    assert report.verdict is Verdict.DISAGREE
    assert "precision" not in kinds(report)


@pytest.mark.parametrize("short", [np.float32, np.float16])
def test_e4_and_what_is_rounded_is(short):
    x = random().normal(size=300)
    report = check_gradients(
        lambda x: (np.sin(x).sum(), np.cos(x).astype(short).astype(float)), lambda x: jnp.sin(x).sum(), x
    )
    assert report.verdict is Verdict.DISAGREE
    assert kinds(report) == {"precision"}


def normalized(x):
    return (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)


def normalized_forward(x):
    wide = np.asarray(x, np.float64 if x.dtype == np.float64 else np.float32)
    sigma = np.sqrt(wide.var(-1, keepdims=True) + wide.dtype.type(1e-5))
    normal = (wide - wide.mean(-1, keepdims=True)) / sigma
    return normal.astype(x.dtype), (normal, sigma)


def normalized_backward(mean=True, variance=True, times=1.0):
    def backward(dy, cache):
        normal, sigma = cache
        dx = dy.astype(normal.dtype)
        along = (dx * normal).mean(-1, keepdims=True)
        dx = dx - mean * dx.mean(-1, keepdims=True) - variance * normal * along
        return (normal.dtype.type(times) * dx / sigma).astype(dy.dtype)

    return backward


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", [BF, np.float16, np.float64])
def test_e5_a_term_that_is_missing_in_16_bits_is_no_other_cause(dtype):
    x = random().normal(size=(32, 64)).astype(dtype)
    report = check_vjp(normalized_forward, normalized_backward(variance=False), normalized, x, probes=False)
    assert report.verdict is Verdict.DISAGREE
    assert not kinds(report) & {"missing-factor", "wrong-factor", "extra-factor"}


@pytest.mark.parametrize("dtype", [BF, np.float16])
def test_e5_a_flipped_sign_in_16_bits_is_one(dtype):
    x = random().normal(size=(32, 64)).astype(dtype)
    report = check_vjp(normalized_forward, normalized_backward(times=-1), normalized, x, probes=False)
    assert kinds(report) == {"sign"}
    assert "0.999" not in str(report)


@pytest.mark.parametrize("relative", [3e-11, 3e-12, 1e-8, -3e-11])
def test_e6_the_digits_that_differ_are_shown(relative):
    x = random().normal(size=30)
    report = check_gradients(lambda x: ((x * x).sum() * (1 + relative), 2 * x), lambda x: (x * x).sum(), x)
    assert report.verdict is Verdict.DISAGREE
    words = report.rows[0].message.split()
    ours, right = words[0], words[words.index("where") + 1]
    assert ours != right
    assert float(ours) / float(right) - 1 == pytest.approx(relative, rel=0.05)


@pytest.mark.parametrize("relative", [1e-11, 1e-9])
def test_e6_nothing_is_1_times_what_it_should_be(relative):
    x = random().normal(size=30)
    report = check_gradients(lambda x: ((x * x).sum(), 2 * x * (1 + relative)), lambda x: (x * x).sum(), x)
    assert report.verdict is Verdict.DISAGREE
    assert " 1 times" not in " ".join(str(report).split())


@pytest.mark.parametrize("loss_factor", [1.1, -1.0])
def test_e7_the_headline_is_on_a_row_that_disagrees(loss_factor):
    x = random().normal(size=5)
    report = check_gradients(lambda x: (loss_factor * (x * x).sum(), 2 * x), lambda x: (x * x).sum(), x)
    assert report.sentence.startswith("DISAGREE: the loss:")
    assert [row.path for row in report.rows if row.verdict is Verdict.DISAGREE] == ["loss"]


@pytest.mark.sweep
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["h", "W"])
def test_e8_what_is_no_number_is_said_to_be_none(bad, where):
    def by_hand(p, x, y):
        value, gradients, intermediates = classified_by_hand()(p, x, y)
        if where == "W":
            return value, gradients | {"W": gradients["W"] * bad}, intermediates
        return value, gradients, {"h": intermediates["h"] * bad}

    report = check_gradients(by_hand, classified, *classification(np.float64, np.int64), probes=False)
    assert report.first_wrong == where
    assert kinds(report) == {"non-finite"}
    assert "no leaf of this name is expected" not in str(report)


@pytest.mark.parametrize(
    ("shape", "change"),
    [
        ((3,), lambda g: g[:, None]),
        ((3,), lambda g: g[None]),
        pytest.param((2, 3), lambda g: g[..., None], id="one more axis"),
    ],
)
def test_e9_an_axis_that_is_too_many_is_not_to_be_kept(shape, change):
    x = random().normal(size=shape)
    report = check_gradients(lambda x: ((x * x).sum(), change(2 * x)), lambda x: (x * x).sum(), x)
    assert kinds(report) == {"shape"}
    assert "keep the summed axis" not in report.sentence


def test_e9_an_axis_that_is_missing_is_to_be_kept():
    x = random().normal(size=(3, 1))
    report = check_gradients(lambda x: ((x * x).sum(), 2 * x[:, 0]), lambda x: (x * x).sum(), x)
    assert "keepdims=True" in report.sentence


@pytest.mark.parametrize("dtype", [np.float64, BF])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("place", ["x", "w", "in a tree"])
def test_e10_what_is_no_number_in_the_data_is_said_first(bad, place, dtype):
    x, w = np.array([1.0, 2.0, 3.0], dtype), np.array([1.0, 2.0, 3.0], dtype)
    (w if place == "w" else x)[1] = bad

    def loss(w, x):
        return jnp.sum(w**2 * (x["a"] if place == "in a tree" else x))

    def by_hand(w, x):
        array = x["a"] if place == "in a tree" else x
        return np.sum(w**2 * array), 2 * w * array

    with np.errstate(all="ignore"):
        report = check_gradients(by_hand, loss, w, {"a": x} if place == "in a tree" else x)
    assert report.verdict is Verdict.INCONCLUSIVE
    name = {"in a tree": "x: a"}.get(place, place)
    assert report.sentence.startswith(f"INCONCLUSIVE: the input {name} holds {bad} at [1]")


@pytest.mark.parametrize("rename", [lambda k: f"d{k}", lambda k: f"grad_{k}", lambda k: f"{k}_grad"])
def test_e10_gradients_under_other_names_are_one_sentence(rename):
    p = {"W1": np.ones(3), "b1": np.ones(2), "W2": np.ones(4)}

    def by_hand(p):
        return sum((v * v).sum() for v in p.values()), {rename(k): 2 * v for k, v in p.items()}

    report = check_gradients(by_hand, lambda p: sum((v * v).sum() for v in p.values()), p)
    assert report.verdict is Verdict.DISAGREE
    assert len(report.diagnoses) == 1
    assert rename("W1") in report.sentence


def test_e10_inputs_go_by_the_forward_s_names():
    report = check_vjp(
        lambda value, gain: (value * gain, (value, gain)),
        lambda dy, cache: (dy * cache[1], 2 * dy * cache[0]),
        lambda value, gain: value * gain,
        *random().normal(size=(2, 3)),
    )
    assert [row.path for row in report.rows] == ["output", "value", "gain"]
    assert report.sentence.startswith("DISAGREE: the gradient of gain: it is 2 times what it should be")


TERMS = {
    "without the mean's": {"mean": False},
    "without the variance's": {"variance": False},
    "without both": {"mean": False, "variance": False},
}


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", TERMS)
def test_e11_a_norm_without_a_term_is_named(name, dtype):
    x = random().normal(size=(6, 8)).astype(dtype)
    report = check_vjp(normalized_forward, normalized_backward(**TERMS[name]), normalized, x, probes=False)
    assert report.verdict is Verdict.DISAGREE
    assert report.diagnoses
    words = report.sentence
    assert ("mean" in words) == ("mean" in TERMS[name])
    assert ("variance" in words) == ("variance" in TERMS[name])


FLAGS = {
    "a flag": (True, lambda w, flag: (w * w).sum() if flag else 0.0),
    "a length": (3, lambda w, n: (w[:n] ** 2).sum()),
    "a string": ("sum", lambda w, how: getattr(jnp, how)(w * w)),
}


@pytest.mark.parametrize("name", FLAGS)
def test_e12_what_is_no_array_passes_through(name):
    argument, loss = FLAGS[name]
    static = [1] if name == "a length" else ()
    report = check_gradients(lambda w, argument: ((w * w).sum(), 2 * w), loss, np.ones(3), argument, static=static)
    assert report.verdict is Verdict.AGREE


def test_e12_a_length_that_is_traced_is_to_be_named():
    argument, loss = FLAGS["a length"]
    with pytest.raises(TypeError, match=r"static=\["):
        check_gradients(lambda w, n: ((w * w).sum(), 2 * w), loss, np.ones(3), argument)


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.coo_array])
def test_e12_a_sparse_argument_reaches_the_loss_as_an_array(kind):
    w, X = np.ones(3), kind(np.diag([1.0, 2.0, 3.0]))
    for times, verdict in ((1.0, Verdict.AGREE), (1.01, Verdict.DISAGREE)):

        def by_hand(w, X, times=times):
            assert sparse.issparse(X)
            return (X @ w).sum(), times * (X.T @ np.ones(3))

        assert check_gradients(by_hand, lambda w, X: (X @ w).sum(), w, X).verdict is verdict


def test_e12_a_sparse_parameter_is_refused_with_what_to_do():
    X = sparse.csr_matrix(np.eye(3))
    with pytest.raises(TypeError, match=r"(?s)sparse.*toarray"):
        check_gradients(lambda X: (X.sum(), X), lambda X: X.sum(), X)
