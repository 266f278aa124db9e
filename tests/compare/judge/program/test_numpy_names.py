"""What a traced function reaches by name is copied; nothing of the caller's changes."""

import copy
import functools
import gc
import math
import sys
import textwrap
import types
import weakref
from math import sqrt
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import log_loss

from compare import Verdict, check_gradients
from compare.judge.program.numpy_names import renamed, traceable
from compare.judge.program.numpy_tracing import TracedArray

CACHE = {}
X = np.random.default_rng(0).normal(size=(4, 3))


@pytest.fixture(autouse=True)
def in_double_precision():
    with jax.enable_x64(True):
        yield


class Base:
    def __init__(self, n):
        self.n, self.grad, self.seen = n, np.zeros((n, 3)), []

    def forward(self, x):
        out = np.zeros_like(x)
        for i in range(self.n):
            out[i] = x[i] ** 2
        self.grad[...] = 2 * x
        self.seen.append(x)
        return out


class Layer(Base):
    scale = 3.0

    def __init__(self, n):
        super().__init__(n)
        self.x = None

    @staticmethod
    def total(x):
        sums = np.zeros(1)
        for row in x:
            sums[0] += row.sum()
        return sums[0]

    @property
    def factor(self):
        return np.ones(1)[0] * self.scale

    def forward(self, x):
        self.x = x
        return self.factor * super().forward(x)

    def loss_and_gradient(self, x):
        return float(self.total(self.forward(x))), self.factor * self.grad

    __call__ = loss_and_gradient


def helper(x):
    out = np.empty(x.shape)
    out[...] = x * 2
    return out


TABLE = {"double": (helper, None)}


def with_a_table(x):
    return TABLE["double"][0](x)


def remembers(x):
    CACHE["x"] = x
    return CACHE["x"] * 2


def with_math(x):
    return math.exp(x[0, 0]) + sqrt(x[0, 0] ** 2) + math.sqrt(4)


def factory(power, buffer):

    def function(x):
        out = np.zeros(x.shape)
        buffer.append(power)
        out += x**power
        return out

    return function


def makes_an_object(x):
    layer = Layer(4)
    return layer.forward(x), layer.grad


FUNCTIONS = {
    "a closure": factory(3, []),
    "a partial": functools.partial(lambda power, x: helper(x) ** power, 2),
    "a method": Layer(4).forward,
    "an object": Layer(4),
    "a table of functions": with_a_table,
    "what it remembers": remembers,
    "math": with_math,
    "an object of its own": makes_an_object,
    "a default": lambda x, f=helper: f(x),
    "a lambda": lambda x: np.zeros(3) + x,
}


@pytest.mark.sweep
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_callable_of_any_kind_is_traced(name):
    traced = jax.jit(traceable(FUNCTIONS[name]))(X)
    for ours, numpys in zip(jax.tree.leaves(traced), jax.tree.leaves(FUNCTIONS[name](X)), strict=True):
        np.testing.assert_allclose(ours, numpys, rtol=1e-14)


def test_a_neighboring_module_is_traced_too(monkeypatch):
    module = types.ModuleType("somebodys_ops")
    exec(
        "import numpy as np\ndef relu(x):\n    y = np.zeros(x.shape)\n    y[x > 0] = x[x > 0]\n    return y",
        vars(module),
    )
    monkeypatch.setitem(sys.modules, "somebodys_ops", module)
    np.testing.assert_array_equal(jax.jit(traceable(lambda x: module.relu(x)))(X), np.maximum(X, 0))


def test_nothing_of_the_callers_changes():
    buffer = []
    layer, function = Layer(4), factory(2, buffer)
    before = copy.deepcopy(vars(layer))
    names, zeros = dict(globals()), np.zeros
    CACHE.clear()
    for one in (layer.forward, layer, function, remembers, with_a_table):
        jax.jit(traceable(one))(X)
    assert CACHE == {}
    assert not layer.seen
    assert layer.x is None
    assert np.array_equal(layer.grad, before["grad"])
    assert buffer == []
    assert globals() == names
    assert np.zeros is zeros
    assert Layer.forward.__globals__ is globals()
    assert isinstance(np.zeros(2), np.ndarray)
    assert not isinstance(np.zeros(2), TracedArray)


def test_code_of_installed_packages_is_left_as_it_is():
    copied = renamed(lambda x: log_loss(x, helper))
    assert copied.__globals__["log_loss"] is log_loss
    assert copied.__globals__["helper"] is not helper


@pytest.mark.parametrize("fault", [1.0, 1.02, -1.0])
def test_an_object_with_layers_is_judged_by_its_own_loss(fault):
    """The backward pass is wrong by `fault`; the layers remember what they were given, as layers do."""

    class Net:
        def __init__(self):
            self.x = self.h = np.zeros((0, 0))

        def __call__(self, w, x):
            self.x, self.h = x, np.zeros((len(x), 2))
            for i in range(len(x)):
                self.h[i] = np.tanh(x[i] @ w)
            return float(np.sum(self.h**2)), fault * self.backward()

        def backward(self):
            return self.x.T @ (2 * self.h * (1 - self.h**2))

    report = check_gradients(Net(), None, np.random.default_rng(1).normal(size=(3, 2)), X)
    assert report.verdict is (Verdict.AGREE if fault == 1 else Verdict.DISAGREE)
    assert any("traced from its NumPy code" in note for note in report.notes)


def test_nothing_is_kept_after_the_check():
    class Data:
        scale = 2.0

    data = Data()
    kept = weakref.ref(data)

    def by_hand(w, x, data=data):
        out = np.zeros(len(x))
        out += x @ w * data.scale
        return np.sum(out**2), 2 * data.scale * x.T @ out

    assert check_gradients(by_hand, None, np.ones(3), X).verdict is Verdict.AGREE
    del by_hand, data
    gc.collect()
    assert kept() is None


def test_a_function_of_the_interpreters_main_module_is_traced(tmp_path):
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(textwrap.dedent("""
        import numpy as np
        def f(x):
            y = np.zeros(x.shape)
            y[0] = x[0]
            return y
    """), names)  # fmt: skip
    assert np.array_equal(jax.jit(traceable(names["f"]))(X)[0], X[0])


def softmax_regression(w, x, y, fault=1.0):
    z = x @ w
    z = z - z.max(axis=1, keepdims=True)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    loss = -np.mean(np.log(p[np.arange(len(y)), y]))
    dz = p.copy()
    dz[np.arange(len(y)), y] -= 1
    return float(loss), (fault * x.T @ (dz / np.asarray(len(y), w.dtype))).astype(w.dtype)


def layer_norm(w, x, y, fault=1.0):
    out = np.zeros_like(x)
    mean, var = np.mean(x, axis=1, keepdims=True), np.var(x, axis=1, keepdims=True)
    out[...] = (x - mean) / np.sqrt(var + x.dtype.type(1e-5))
    r = np.empty((len(x), w.shape[1]), x.dtype)
    np.matmul(out, w, out=r)
    return np.mean(r**2), (fault * 2 / r.size * out.T @ r).astype(w.dtype)


def leaky(w, x, y, fault=1.0):
    z = x @ w
    h = z.copy()
    h[z < 0] *= z.dtype.type(0.1)
    dh = 2 * h
    dh[z < 0] *= z.dtype.type(0.1)
    return np.full(1, np.sum(h**2), np.float64)[0], (fault * x.T @ dh).astype(w.dtype)


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", [np.float64, np.float32, "bfloat16"], ids=str)
@pytest.mark.parametrize("function", [softmax_regression, layer_norm, leaky])
@pytest.mark.parametrize("fault", [1.0, 1.5])
def test_networks_in_numpy_are_judged_in_any_dtype(function, dtype, fault):
    w, x = np.random.default_rng(5).normal(size=(3, 2)).astype(dtype), X.astype(dtype)
    y = np.array([0, 1, 1, 0], np.int32)
    with jax.enable_x64(False):
        report = check_gradients(lambda w, x, y: function(w, x, y, fault), None, w, x, y)
    assert report.verdict is (Verdict.AGREE if fault == 1 else Verdict.DISAGREE), str(report)
    assert any("traced from its NumPy code" in note for note in report.notes), str(report)


class Row(NamedTuple):
    forward: Any


@functools.lru_cache
def layers():
    return Row(lambda x: _filled(x))


def _filled(x):
    result = np.zeros(x.shape)
    result[:] = x**2
    return result


def test_functions_in_named_tuples_and_behind_a_cache_are_copied():
    x = np.arange(3.0)
    with jax.enable_x64(True):
        gradient = jax.grad(lambda x: jnp.sum(traceable(lambda x: layers().forward(x))(x)))(x)
    np.testing.assert_allclose(gradient, 2 * x)


def test_what_a_library_keeps_of_a_traced_call_is_kept_in_a_copy():
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, WhiteKernel

    x = np.random.default_rng(0).standard_normal((6, 2))
    process: Any = GaussianProcessRegressor(RBF(1.0) + WhiteKernel(0.1), optimizer=None).fit(x, x[:, 0])  # type: ignore[arg-type]

    def likelihood(theta):
        return process.log_marginal_likelihood(theta, eval_gradient=True, clone_kernel=False)

    report = check_gradients(likelihood, None, np.array([0.3, -1.2]))
    assert report.verdict is Verdict.AGREE, str(report)
    assert isinstance(process.kernel_.theta[0], np.floating)
