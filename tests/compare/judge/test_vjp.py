"""check_vjp on layers by hand: right ones pass, wrong ones are caught, whatever computes them and in which dtype."""

import ctypes
import shutil
import subprocess

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from compare import GradientMismatch, Verdict, assert_vjp_agrees, check_gradients, check_vjp, tap
from tests.compare.judge.norms import (
    EPSILON,
    drawn,
    layer_norm,
    layer_norm_backward,
    layer_norm_forward,
    sigma_constant,
)

# --------------------------------------------------------------------------------- normalization


def test_layer_normalization():
    inputs = drawn((5, 6), (6,))
    assert_vjp_agrees(layer_norm_forward, layer_norm_backward, layer_norm, *inputs)
    report = check_vjp(layer_norm_forward, sigma_constant, layer_norm, *inputs)
    assert report.verdict is Verdict.DISAGREE
    assert report.first_wrong == "x"  # the gain's gradient is right
    assert report.wrong_side == "manual"
    assert [row.path for row in report.rows if row.verdict is Verdict.DISAGREE] == ["x"]
    with pytest.raises(GradientMismatch, match="the gradient of x"):
        assert_vjp_agrees(layer_norm_forward, sigma_constant, layer_norm, *inputs)


def tapped_norm(x, gain):
    deviation = tap("deviation", jnp.sqrt(jnp.mean(x**2, axis=-1, keepdims=True) + EPSILON))
    return tap("normal", x / deviation) * gain


def tapped_forward(x, gain):
    deviation = np.sqrt((x**2).mean(axis=-1, keepdims=True) + EPSILON)
    return x / deviation * gain, (x, deviation, gain)


def tapped_backward(*, wrong=1.0):
    def backward(output_gradient, cache):
        x, deviation, gain = cache
        d_normal = output_gradient * gain
        d_deviation = -wrong * np.sum(d_normal * x / deviation**2, axis=-1, keepdims=True)
        d_x = d_normal / deviation + d_deviation * x / deviation / x.shape[1]
        return d_x, np.sum(output_gradient * x / deviation, axis=0), {"normal": d_normal, "deviation": d_deviation}

    return backward


def test_a_backward_may_say_what_it_makes_of_intermediates():
    inputs = drawn((5, 6), (6,))
    assert_vjp_agrees(tapped_forward, tapped_backward(), tapped_norm, *inputs, probes=False)
    report = check_vjp(tapped_forward, tapped_backward(wrong=2.0), tapped_norm, *inputs, probes=False)
    assert report.first_wrong == "deviation"
    assert report.diagnoses[0].factor == pytest.approx(2)
    assert len(report.diagnoses) == 1  # x is right, given what arrives at it


def test_a_path_that_is_left_out_is_named():
    report = check_vjp(
        tapped_forward,
        lambda dy, c: tapped_backward(wrong=0.0)(dy, c)[:2],
        tapped_norm,
        *drawn((5, 6), (6,)),
        probes=False,
    )
    assert [(d.path, d.kind) for d in report.diagnoses] == [("x", "missing-path")]
    assert "through deviation" in report.diagnoses[0].message


def batch_norm(x):
    return (x - jnp.mean(x, axis=0)) / jnp.sqrt(jnp.var(x, axis=0) + EPSILON)


def batch_norm_forward(x):
    sigma = np.sqrt(x.var(axis=0) + EPSILON)
    normal = (x - x.mean(axis=0)) / sigma
    return normal, (normal, sigma)


def batch_norm_backward(output_gradient, cache):
    normal, sigma = cache
    along = (output_gradient * normal).mean(axis=0)
    return (output_gradient - output_gradient.mean(axis=0) - normal * along) / sigma


def test_a_fault_that_an_output_gradient_of_ones_would_hide():
    """The columns of a normalized batch sum to zero, so for ones any gradient of zero is right."""
    (x,) = drawn((5, 6))
    value, cache = batch_norm_forward(x)
    np.testing.assert_allclose(batch_norm_backward(np.ones_like(value), cache), 0, atol=1e-12)
    assert_vjp_agrees(batch_norm_forward, batch_norm_backward, batch_norm, x)
    report = check_vjp(batch_norm_forward, lambda dy, cache: np.zeros_like(dy), batch_norm, x)
    assert report.verdict is Verdict.DISAGREE
    assert report.diagnoses[0].kind == "zeros"


# ------------------------------------------------------------------------- inputs that are no numbers


def look_up(table, ids):
    return table[ids] ** 2


def look_up_forward(table, ids):
    return table[ids] ** 2, (table, ids)


def look_up_backward(output_gradient, cache):
    table, ids = cache
    gradient = np.zeros_like(table)
    np.add.at(gradient, ids, 2 * table[ids] * output_gradient)
    return gradient


def overwriting(output_gradient, cache):
    table, ids = cache
    gradient = np.zeros_like(table)
    gradient[ids] += 2 * table[ids] * output_gradient  # += with repeated ids keeps the last one only
    return gradient


def test_an_embedding_that_overwrites_repeated_rows_shows_at_the_probe_that_repeats_them():
    (table,) = drawn((7, 3))
    ids = np.array([4, 0, 6, 2])  # none twice: at the caller's point there is nothing to see
    assert_vjp_agrees(look_up_forward, look_up_backward, look_up, table, ids)
    assert check_vjp(look_up_forward, overwriting, look_up, table, ids, probes=False).verdict is Verdict.AGREE
    report = check_vjp(look_up_forward, overwriting, look_up, table, ids)
    assert report.verdict is Verdict.DISAGREE
    assert "repeated ids" in (report.probe or "")
    assert report.diagnoses[0].kind == "lost-repeats"
    assert "np.add.at" in report.sentence


def test_integer_inputs_pass_through_and_may_have_a_gradient_of_none():
    (table,) = drawn((7, 3))
    ids = np.array([4, 0, 6, 2])

    def forward(table, ids):
        assert ids.dtype.kind == "i"
        return look_up_forward(table, ids)

    def backward(output_gradient, cache):
        return look_up_backward(output_gradient, cache), None

    report = check_vjp(forward, backward, look_up, table, ids)
    assert report.verdict is Verdict.AGREE
    assert [row.path for row in report.rows] == ["output", "table"]


def test_inputs_without_a_floating_point_array_are_an_error():
    with pytest.raises(ValueError, match="none of the inputs is a floating-point array"):
        check_vjp(look_up_forward, look_up_backward, look_up, np.arange(3), np.arange(2))


# ------------------------------------------------------------------ other precisions, other authors


def gate(x, w):
    return x * w**2


def gate_forward(x, w):
    return x * w**2, (x, w)


def gate_backward(output_gradient, cache):
    x, w = cache
    return output_gradient * w**2, 2 * output_gradient * x * w


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precisions(dtype):
    inputs = drawn((3, 4), (3, 4), dtype=dtype)
    report = check_vjp(gate_forward, gate_backward, gate, *inputs)
    assert report.verdict is Verdict.AGREE, str(report)
    assert {row.dtype for row in report.rows} == {np.dtype(dtype).name}

    def doubled(output_gradient, cache):
        d_x, d_w = gate_backward(output_gradient, cache)
        return d_x, 2 * d_w

    report = check_vjp(gate_forward, doubled, gate, *inputs)
    assert report.verdict is Verdict.DISAGREE
    assert report.first_wrong == "w"

    def promoting(output_gradient, cache):
        return tuple(gradient.astype(np.float32) for gradient in gate_backward(output_gradient, cache))

    report = check_vjp(gate_forward, promoting, gate, *inputs)
    assert report.verdict is Verdict.DISAGREE
    assert report.diagnoses[0].kind == "dtype"


GATE_IN_C = """
void gate_backward(int n, const double *dy, const double *x, const double *w, double *dx, double *dw) {
    for (int i = 0; i < n; i++) {
        dx[i] = dy[i] * w[i] * w[i];
        dw[i] = SIGN 2 * dy[i] * x[i] * w[i];
    }
}
"""


def backward_in_c(folder, sign):
    """The backward pass of a C library. `sign` is "" or "-"."""
    source, library = folder / "gate.c", folder / f"gate{len(sign)}.so"
    source.write_text(GATE_IN_C.replace("SIGN", sign), encoding="utf-8")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
    function = ctypes.CDLL(str(library)).gate_backward
    array = np.ctypeslib.ndpointer(np.float64, flags="C_CONTIGUOUS")
    function.argtypes, function.restype = [ctypes.c_int, *[array] * 5], None

    def backward(output_gradient, cache):
        x, w = cache
        d_x, d_w = np.empty_like(x), np.empty_like(w)
        function(x.size, output_gradient, x, w, d_x, d_w)
        return d_x, d_w

    return backward


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler on this machine")
def test_a_c_library(tmp_path):
    inputs = drawn((3, 4), (3, 4))
    assert_vjp_agrees(gate_forward, backward_in_c(tmp_path, ""), gate, *inputs)
    report = check_vjp(gate_forward, backward_in_c(tmp_path, "-"), gate, *inputs)
    assert report.verdict is Verdict.DISAGREE
    assert report.first_wrong == "w"
    assert report.diagnoses[0].kind == "sign"


def test_pytorch_tensors_from_the_hand_written_side():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    def forward(x, w):
        x, w = torch.from_numpy(x), torch.from_numpy(w)
        return x * w**2, (x, w)

    def backward(output_gradient, cache):
        return gate_backward(torch.from_numpy(output_gradient), cache)

    inputs = drawn((3, 4), (3, 4))
    report = check_vjp(forward, backward, gate, *inputs)
    assert report.verdict is Verdict.AGREE, str(report)
    report = check_vjp(forward, lambda dy, cache: backward(dy, cache)[::-1], gate, *inputs)
    assert report.verdict is Verdict.DISAGREE


@pytest.mark.parametrize(("forward", "came"), [(np.tanh, "ndarray"), (lambda a: (a, a, a), "tuple of 3")])
def test_a_forward_pass_without_a_cache_is_refused_in_words(forward, came):
    with pytest.raises(ValueError, match=rf"forward must return \(value, cache\), but it returns {came}"):
        check_vjp(forward, lambda d, cache: d, jnp.tanh, *drawn((3, 2)))


def test_random_keys_pass_through_a_pair():
    def forward(a, key):
        return np.tanh(a), np.tanh(a)

    def function(a, key):
        return jnp.tanh(a)

    key = jax.random.key(0)
    assert check_vjp(forward, lambda d, t: d * (1 - t**2), function, *drawn((3, 2)), key).verdict is Verdict.AGREE
    assert check_vjp(forward, lambda d, t: d * (1 - t), function, *drawn((3, 2)), key).verdict is Verdict.DISAGREE


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_a_c_function_gets_its_arrays_in_their_order(tmp_path):
    """At every probe, too: a correct function that counts on rows one after the other is not blamed."""
    source = """void f(const double *p, const double *x, int n, int d, double *loss, double *g) {
        *loss = 0; for (int j = 0; j < d; j++) g[j] = 0;
        for (int i = 0; i < n; i++) { double z = 0; for (int j = 0; j < d; j++) z += x[i*d+j] * p[j];
            *loss += z * z; for (int j = 0; j < d; j++) g[j] += 2 * z * x[i*d+j]; } }"""
    (tmp_path / "f.c").write_text(source)
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", tmp_path / "f.so", tmp_path / "f.c"], check=True)
    function = ctypes.CDLL(str(tmp_path / "f.so")).f
    pointer = ctypes.POINTER(ctypes.c_double)

    def by_hand(times):
        def loss_and_gradients(p, x):
            gradient, value = np.empty_like(p), ctypes.c_double()
            p_, x_, g_ = (array.ctypes.data_as(pointer) for array in (p, x, gradient))
            function(p_, x_, *x.shape, ctypes.byref(value), g_)
            return value.value, times * gradient

        return loss_and_gradients

    p, x = drawn((5,), (20, 5))
    assert check_gradients(by_hand(1), lambda p, x: jnp.sum((x @ p) ** 2), p, x).verdict is Verdict.AGREE
    assert check_gradients(by_hand(2), lambda p, x: jnp.sum((x @ p) ** 2), p, x).verdict is Verdict.DISAGREE


def test_a_gradient_that_is_zero_for_a_constant_output_gradient_is_not_taken_for_one_that_depends_on_strides():
    """By whole Jacobians, softmax's is then rounding alone, and another one for a stride of 0: no fault."""

    def forward(x):
        e = np.exp(x - x.max(axis=1, keepdims=True))
        p = e / e.sum(axis=1, keepdims=True)
        return p, p

    def backward(dy, p):
        return np.array([(np.diag(row) - np.outer(row, row)) @ g for row, g in zip(p, dy, strict=True)])

    assert_vjp_agrees(forward, backward, jax.nn.softmax, np.random.default_rng([0, 4, 3]).standard_normal((4, 3)))


@pytest.mark.parametrize("in_place", [True, False])
def test_a_backward_pass_must_leave_the_output_of_the_forward_pass_alone(in_place):
    def forward(x):
        y = np.tanh(x)
        return y, y

    def backward(dy, y):
        slope = np.multiply(1 - y * y, dy, out=y if in_place else None)
        return slope

    report = check_vjp(forward, backward, jnp.tanh, np.array([0.3, -1.0, 2.0]))
    assert report.verdict is (Verdict.DISAGREE if in_place else Verdict.AGREE), str(report)
    assert [cause.kind for cause in report.diagnoses] == ["modifies-output"] * in_place
    if in_place:
        assert "modifies the output of the forward pass" in report.sentence
        assert report.wrong_side == "manual"


def test_no_name_of_the_check_itself_reaches_the_report():
    def forward(x, count):
        return x.sum(0) * count, (x, count)

    def mean(output_gradient, cache):
        return np.broadcast_to(output_gradient * cache[1] / cache[0].shape[0], cache[0].shape)

    def writing(output_gradient, cache):
        output_gradient *= cache[1]
        return np.broadcast_to(output_gradient, cache[0].shape)

    def without(output_gradient, cache):
        return np.broadcast_to(output_gradient, cache[0].shape)

    x = np.random.default_rng(0).standard_normal((7, 3))

    def said(backward):
        return check_vjp(forward, backward, lambda x, count: x.sum(0) * count, x, 5, references=False).sentence

    assert said(mean).endswith("= 1 / x.shape[0]).")
    assert said(without).endswith("(0.2 = 1 / the argument count).")
    assert said(writing) == "DISAGREE: it modifies the output gradient; work on a copy."
