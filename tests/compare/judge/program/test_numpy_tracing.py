"""NumPy functions traced by JAX: the same numbers as NumPy's, in the same dtypes, or a reason why not."""

import jax
import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from compare.errors import Untraceable
from compare.judge.program.numpy_names import traceable


@pytest.fixture(autouse=True)
def in_double_precision():
    with jax.enable_x64(True):
        yield


def assert_same(function, *arrays, exactly=False):
    """What is traced is what NumPy computes, in its dtypes and shapes."""
    expected = function(*(array.copy() for array in arrays))
    actual = jax.jit(traceable(function))(*arrays)
    pairs = zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)
    for ours, numpys in pairs:
        numpys = np.asarray(numpys)
        assert ours.shape == numpys.shape
        assert ours.dtype == numpys.dtype
        tolerance = 0.0 if exactly else 64 * float(np.finfo(np.float32 if numpys.dtype == np.float32 else float).eps)
        np.testing.assert_allclose(ours, numpys, rtol=tolerance, atol=tolerance)


def written(change, start=(3, 4)):
    """A function that fills an array of zeros by `change(array, x)` and returns it."""

    def function(x):
        array = np.zeros(start)
        change(array, x)
        return array

    return function


def in_place(array, change):
    change(array)
    return array


def each_row(a, x):
    for i in range(len(x)):
        a[i] = np.tanh(x[i]) + (a[i - 1] if i else 0)


def two_halves(a, x):
    left, right = np.split(a, 2, axis=1)
    left += x[:, :2]
    right[...] = x[:, 2:] ** 2


def swapped(a, x):
    a[:] = x
    first = a[0, 0]
    a[0, 0] = a[1, 1]
    a[1, 1] = first


def through_two_views(a, x):
    block = a[1:, 1:]
    block.T[0] += x[0, :2]
    a[1, 1] *= 2
    block[...] = block + 1


def add_at(a, x):
    np.add.at(a, [0, 0, 2], x[:3])
    np.subtract.at(a, (np.array([1, 1]), np.array([2, 2])), x[0, :2])
    np.maximum.at(a, [1], x[1:2])


def masked(a, x):
    a[x > 0] = 1
    a[:, 0][x[:, 0] < 0] = -3
    np.copyto(a, x, where=x > 1)


def rows_by_mask(a, x):
    a += 1
    a[x.sum(axis=1) > 0] = 0


def picked(a, x):
    positive = x >= 0
    a[positive] = 1 / (1 + np.exp(-x[positive]))
    e = np.exp(x[~positive])
    a[~positive] = e / (1 + e)


def leaky(a, x):
    a += x
    a[a < 0] *= 0.1


def fancy(a, x):
    a[np.arange(3), [3, 0, 1]] -= x[:, 0]
    a[[0, 2]] += x[[1, 1]]
    a[np.ix_([0, 1], [1, 3])] *= 3


def along_axis(a, x):
    np.put_along_axis(a, np.argmax(x, axis=1)[:, None], 1.0, axis=1)


def row_of_the_largest(a, x):
    row = a[np.argmax(x[:, 0])]
    row += 5


WRITES = {
    "rows in a loop": each_row,
    "slices": lambda a, x: a.__setitem__((slice(None, None, 2), slice(1, 3)), x[::2, 1:3]),
    "a transpose": lambda a, x: a.T.__setitem__(0, x[:, 1]),
    "a reshape": lambda a, x: a.reshape(2, 6).__setitem__((1, slice(2)), x[0, :2]),
    "a reshape that copies": lambda a, x: a.T.reshape(-1).__setitem__(slice(None), x.ravel()),
    "ravel of a transpose": lambda a, x: a.T.ravel().fill(1),
    "flatten": lambda a, x: a.flatten().fill(7),
    "squeeze": lambda a, x: np.squeeze(a[None], 0).__setitem__(..., x),
    "moveaxis": lambda a, x: np.moveaxis(a, 0, 1).__setitem__(..., x.T),
    "rot90": lambda a, x: np.rot90(a).__setitem__(..., x.T),
    "flip": lambda a, x: np.flip(a, 1).__setitem__(..., x),
    "a new axis": lambda a, x: a[:, None].__setitem__(..., x[:, None]),
    "expand_dims": lambda a, x: np.expand_dims(a, 0).__setitem__(0, x),
    "swapaxes": lambda a, x: a.swapaxes(0, 1).__setitem__(1, x[:, 1]),
    "atleast_3d": lambda a, x: np.atleast_3d(a).__setitem__((1, 1), 4.0),
    "the diagonal by einsum": lambda a, x: np.einsum("ii->i", a[:, :3]).__setitem__(..., x[:, 0]),
    "fill_diagonal": lambda a, x: np.fill_diagonal(a, x[0, 0]),
    "a negative step": lambda a, x: a[::-1].__setitem__(0, x[0]),
    "halves": two_halves,
    "entries that swap": swapped,
    "views of views": through_two_views,
    "overlapping slices": lambda a, x: in_place(a.__iadd__(x), lambda b: b[1:].__setitem__(..., b[:-1])),
    "np.add.at": add_at,
    "masks": masked,
    "rows by a mask": rows_by_mask,
    "entries that a mask picks": picked,
    "a mask and an operator in place": leaky,
    "fancy indices": fancy,
    "put_along_axis": along_axis,
    "a row whose place is a value": row_of_the_largest,
    "out=": lambda a, x: np.multiply(x, 2, out=a),
    "out= of a slice": lambda a, x: np.exp(x[0], out=a[1]),
    "out= and where=": lambda a, x: np.log(np.abs(x), out=a, where=x > 0),
    "out= of a reduction": lambda a, x: np.sum(x, axis=0, out=a[0]),
    "a method's out=": lambda a, x: x.clip(-1, 1, out=a),
    "operators in place": lambda a, x: a.__iadd__(x).__imul__(2).__isub__(x[0]).__itruediv__(3),
    "sorting in place": lambda a, x: a.__iadd__(x).sort(axis=1),
}


@pytest.mark.sweep
@pytest.mark.parametrize("name", WRITES)
def test_what_is_written_is_written_as_numpy_does(name):
    x = np.random.default_rng(0).normal(size=(3, 4))
    assert_same(written(WRITES[name]), x)


def test_a_view_sees_what_is_written_into_its_array():
    def function(x):
        a = np.zeros(6)
        view, copy, row = a[1:4], a[[1, 2, 3]], a.reshape(2, 3)[1]
        a[:] = x
        return view, copy, row, a.T, a[::2]

    assert_same(function, np.arange(6.0), exactly=True)


def test_a_scalar_is_no_view_and_does_not_change():
    def function(x):
        total = x.sum()
        before, entry = total, x[1]
        total += 1
        x[1] = 9
        return total, before, entry, x

    assert_same(function, np.arange(6.0), exactly=True)


def test_an_argument_written_into_is_written_into():
    def function(x):
        x -= x.mean()
        x[x > 0] = 0
        return x

    assert_same(function, np.random.default_rng(0).normal(size=(3, 4)))


def unsure(write):
    def function(x):
        turned = x.T * 2
        flat = turned.reshape(-1)
        write(turned, flat)
        return flat

    return function


@pytest.mark.parametrize("write", [lambda a, flat: flat.fill(1), lambda a, flat: a.fill(1)], ids=["the view", "it"])
def test_what_may_or_may_not_be_a_view_is_not_written(write):
    """The layout of a ufunc's result is not known here."""
    with pytest.raises(Untraceable, match="may share memory with another"):
        jax.jit(traceable(unsure(write)))(np.ones((3, 4)))
    assert_same(unsure(lambda a, flat: None), np.arange(12.0).reshape(3, 4))


CALLS = {
    "linalg.norm": np.linalg.norm,
    "linalg.solve": lambda x: np.linalg.solve(x[:, :3] + 5 * np.eye(3), x),
    "linalg.inv": lambda x: np.linalg.inv(x[:, :3] + 5 * np.eye(3)),
    "linalg.slogdet": lambda x: np.linalg.slogdet(x[:, :3] + 5 * np.eye(3)).logabsdet,
    "linalg.cholesky": lambda x: np.linalg.cholesky(x @ x.T + np.eye(3)),
    "linalg.multi_dot": lambda x: np.linalg.multi_dot([x, x.T, x]),
    "einsum": lambda x: np.einsum("ij,kj->ik", x, x),
    "einsum of a trace": lambda x: np.einsum("ii", x[:, :3]),
    "clip": lambda x: np.clip(x, -0.5, None),
    "clip by the old names": lambda x: np.clip(x, a_min=-0.5, a_max=0.5),
    "clip in place": lambda x: np.clip(x, -1, 1, out=x) + x,
    "where": lambda x: np.where(x > 0, x, 0.1 * x),
    "select": lambda x: np.select([x > 1, x > 0], [x, x**2], default=0),
    "concatenate": lambda x: np.concatenate([x, np.zeros((1, 4)), x[::-1]]),
    "stack": lambda x: np.stack([x, x**2], axis=-1),
    "hstack and vstack": lambda x: np.vstack([np.hstack([x, x]), np.ones(8)]),
    "block": lambda x: np.block([[x, x], [x, x]]),
    "maximum.reduce": lambda x: np.maximum.reduce(x, axis=1),
    "maximum.accumulate": lambda x: np.maximum.accumulate(x, axis=1),
    "add.reduce where": lambda x: np.add.reduce(x, axis=1, where=x > 0),
    "multiply.outer": lambda x: np.multiply.outer(x[0], x[1]),
    "logaddexp.reduce": lambda x: np.logaddexp.reduce(x, axis=1),
    "sum where": lambda x: np.sum(x, axis=0, where=x > 0, initial=2.0),
    "var": lambda x: np.var(x, axis=1, ddof=1, keepdims=True),
    "average": lambda x: np.average(x, axis=0, weights=[1, 2, 3.0]),
    "cumsum": lambda x: np.cumsum(x, axis=0),
    "take": lambda x: np.take(x, [2, 0, -1], axis=1),
    "take_along_axis": lambda x: np.take_along_axis(x, np.argsort(x, axis=1), axis=1),
    "pad": lambda x: np.pad(x, ((1, 0), (2, 2)), mode="edge"),
    "roll": lambda x: np.roll(x, 2, axis=1),
    "repeat and tile": lambda x: np.repeat(np.tile(x, 2), 2, axis=0),
    "tril": np.tril,
    "diag": lambda x: np.diag(np.diag(x[:, :3])),
    "sliding windows": lambda x: np.lib.stride_tricks.sliding_window_view(x, 2, axis=1).sum(axis=-1),
    "fft": lambda x: np.abs(np.fft.rfft(x, axis=1)),
    "matmul by @": lambda x: x @ x.T @ np.ones((3, 2)),
    "NumPy's array first": lambda x: np.arange(3.0) @ x,
    "tensordot": lambda x: np.tensordot(x, x, axes=([1], [1])),
    "an array of entries": lambda x: np.array([[x[0, 0], 1.0], [2, x[1, 1]]]),
    "divmod": lambda x: np.divmod(x, 0.3),
    "modf": np.modf,
    "nan_to_num": lambda x: np.nan_to_num(x / np.where(x > 0, 1, 0.0).clip(1)),
    "isfinite": np.isfinite,
    "methods": lambda x: x.mean(0) + x.max(axis=0) + x.dot(np.ones(4)).sum() + x.prod() + x.std() + x.conj()[0],
    "item": lambda x: x.sum().item() + x.item(1, 2) + x.item(3),
    "float": lambda x: float(np.sum(x)) + float("2.5"),
    "expit": scipy.special.expit,
    "xlogy": lambda x: scipy.special.xlogy(np.abs(x), np.abs(x)),
    "gammaln": lambda x: scipy.special.gammaln(np.abs(x) + 1),
    "logsumexp": lambda x: scipy.special.logsumexp(x, axis=1, keepdims=True),
    "softmax": lambda x: scipy.special.softmax(x) + scipy.special.log_softmax(x, axis=1),
    "sums of picked entries": lambda x: np.sum(np.log(x[x > 0])) + x[x < 0].mean() + x[x > 0].sum(),
    "complex numbers": lambda x: ((x + 2j * x) * np.exp(1j * x)).imag,
    "iteration": lambda x: sum(v * v for row in x for v in row),
    "an assertion on the type": lambda x: x if isinstance(x, np.ndarray) else None,
    "a dtype that is float": lambda x: np.zeros(3, dtype=float) + x[:, 0].astype(float),
}


@pytest.mark.sweep
@pytest.mark.parametrize("name", CALLS)
def test_functions_give_what_numpys_give(name):
    assert_same(CALLS[name], np.random.default_rng(1).normal(size=(3, 4)))


PROMOTIONS = {
    "float32 by a float": lambda x: x.astype(np.float32) * 2.5,
    "float32 by NumPy's float64": lambda x: x.astype(np.float32) * np.float64(2.5),
    "float32 by float64 zeros": lambda x: x.astype(np.float32) + np.zeros(4),
    "float32 by int32": lambda x: x.astype(np.float32) * np.arange(4, dtype=np.int32),
    "float32 by int8": lambda x: x.astype(np.float32) * np.arange(4, dtype=np.int8),
    "float32 in place": lambda x: in_place(x.astype(np.float32), lambda a: a.__imul__(np.float64(3))),
    "float16": lambda x: np.sqrt(x.astype(np.float16) ** 2),
    "a comparison": lambda x: (x > 0) * 2,
    "counts": lambda x: (x > 0).astype(np.int32) / np.int32(2),
    "the mean of a mask": lambda x: np.mean(x > 0),
    "booleans": lambda x: (x > 0) & ~(x > 1) | np.zeros(4, bool),
    "float32 out": lambda x: np.multiply(x, 2, out=np.empty((3, 4), np.float32)),
    "dtype=": lambda x: np.add(x, 1, dtype=np.float32),
    "zeros_like": lambda x: np.zeros_like(x.astype(np.float32)) + np.ones_like(x, dtype=np.float32),
    "full": lambda x: np.full(3, 2, np.float32) * x[:, 0].astype(np.float32),
}


@pytest.mark.sweep
@pytest.mark.parametrize("name", PROMOTIONS)
def test_dtypes_are_promoted_as_numpy_does(name):
    with np.errstate(over="ignore"):
        assert_same(PROMOTIONS[name], np.random.default_rng(2).normal(size=(3, 4)))


REFUSED = {
    "a decision": (lambda x: x if x.sum() > 0 else -x, "needs the value of an array"),
    "a range": (lambda x: list(range(np.argmax(x[0]))), "needs the value of an array"),
    "nonzero": (lambda x: np.nonzero(x > 0), "shape that depends on values"),
    "where of one argument": (lambda x: np.where(x > 0), "shape that depends on values"),
    "unique": (lambda x: np.unique(x), "shape that depends on values"),
    "two masks": (lambda x: x[x > 0] + x[x < 0], "two masks"),
    "how many a mask picks": (lambda x: len(x[x > 0]), "depends on values"),
    "the shape of picked entries": (lambda x: x[x > 0].shape, "depends on values"),
    "an array into a mask": (lambda x: x.__setitem__(x > 0, np.arange(5.0)), "depends on values"),
    "an array made elsewhere": (lambda x: ELSEWHERE.__setitem__(0, x[0, 0]), "into an untraced array"),
    "in place into one made elsewhere": (lambda x: np.add(x, 1, out=ELSEWHERE), "into an untraced array"),
    "vectorize": (lambda x: np.vectorize(abs)(x), "outside NumPy"),
    "code in C": (lambda x: scipy.special.binom(x, 2), "JAX does not have"),
    "another order": (lambda x: x.reshape(4, 3, order="F"), "order"),
    "strides": (lambda x: x.strides, "JAX does not have"),
    "nan_to_num in place": (lambda x: np.nan_to_num(x, copy=False), "copy=False"),
    "integers": (lambda x: int(x[0, 0]), "needs the value of an array"),
}
ELSEWHERE = np.zeros((3, 4))


@pytest.mark.parametrize("name", REFUSED)
def test_what_only_numbers_tell_is_refused_with_a_reason(name):
    function, reason = REFUSED[name]
    with pytest.raises(Untraceable, match=reason):
        jax.jit(traceable(function))(np.random.default_rng(0).normal(size=(3, 4)))
    assert not ELSEWHERE.any()


STEPS = {
    "add": lambda a, b, k: a + b,
    "multiply in place": lambda a, b, k: in_place(a, lambda c: c.__imul__(b)),
    "a slice": lambda a, b, k: in_place(a, lambda c: c[k:].__iadd__(b[: len(c) - k])),
    "a column": lambda a, b, k: in_place(a, lambda c: c[:, k].__isub__(b[k])),
    "the transpose's row": lambda a, b, k: in_place(a, lambda c: c.T.__setitem__(k, b[:, 0])),
    "flat": lambda a, b, k: in_place(a.copy(), lambda c: c.reshape(-1)[k::3].__imul__(0.5)),
    "the diagonal": lambda a, b, k: in_place(a, lambda c: np.einsum("ii->i", c).__iadd__(b[k])),
    "a mask": lambda a, b, k: in_place(a, lambda c: c.__setitem__(b > 0, k)),
    "a picked update": lambda a, b, k: in_place(a, lambda c: c.__setitem__(m := b > 0, np.tanh(b[m]) * k)),
    "add.at": lambda a, b, k: in_place(a, lambda c: np.add.at(c, [k, 0, k], b)),
    "fancy": lambda a, b, k: in_place(a, lambda c: c.__setitem__(([0, 1], [k, k]), b[0, :2])),
    "alias": lambda a, b, k: in_place(b, lambda c: a[k].__iadd__(c[0])) + a,
    "turned": lambda a, b, k: a.T + b,
    "where": lambda a, b, k: np.where(a > b, a, b * k),
    "product": lambda a, b, k: np.tanh(a @ b),
    "float32": lambda a, b, k: a.astype(np.float32) * b,
    "rows": lambda a, b, k: np.concatenate([a[k:], b[:k]]),
    "out": lambda a, b, k: np.subtract(a, b, out=np.empty_like(a)),
    "reduce": lambda a, b, k: a + b.max(axis=0) - b.mean(axis=1, keepdims=True),
}


@pytest.mark.campaign
@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 2), st.booleans()), min_size=1, max_size=6))
def test_a_random_program_gives_what_numpy_gives(program):
    def function(x):
        a, b = np.zeros((3, 3)), x.copy()
        a += x.T
        for name, k, swap in program:
            a, b = STEPS[name](a, b, k), a
            a, b = (b, a) if swap else (a, b)
        return a, b

    with jax.enable_x64(True):
        assert_same(function, np.random.default_rng(3).normal(size=(3, 3)))


def test_a_range_picks_entries_as_an_array_does():
    labels = np.array([2, 0, 1])
    assert_same(lambda x: x[range(3), labels], np.arange(9.0).reshape(3, 3), exactly=True)
