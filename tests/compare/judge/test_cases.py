"""Inputs of real code on which a check once crashed, each as a kind: in other dtypes and shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


@pytest.mark.parametrize("dtype", DTYPES)
def test_complex_parameters_are_refused_in_a_sentence(dtype):
    z = complex_matrix(dtype, 3)
    with pytest.raises(ValueError, match=r"parameters must be real numbers, got complex\d+ at z\. Make its real and"):
        check_gradients(lambda p: (0.0, p), lambda p: jnp.sum(jnp.abs(p["z"])), {"z": z})
    with pytest.raises(ValueError, match=r"parameters must be real numbers, got complex\d+ at 0\."):
        check_vjp(lambda z: (z, None), lambda dy, _: dy, lambda z: z, z)


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


@pytest.mark.parametrize("kind", MISSHAPEN)
@pytest.mark.parametrize("fault", [None, "V", "W"])
@pytest.mark.parametrize("dtype", DTYPES)
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
