"""Trees: names that nothing else has, numbers of every maker, and what is said of a tree built otherwise."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from compare import Verdict, check_gradients
from compare.pytrees import (
    all_finite,
    as_array,
    as_input,
    laid_out,
    leaves_by_path,
    like,
    number_like,
    own,
    paths,
    structure_mismatches,
)


class Pair(NamedTuple):
    a: Any
    b: Any


ONE, TWO = np.ones(3), np.full(3, 2.0)


def names(tree):
    return paths(jax.tree.structure(tree))


def test_no_two_leaves_have_one_name_and_none_the_loss_s():
    assert names({"a.b": 0, "a": {"b": 0}, "c": 0}) == ["['a']['b']", "['a.b']", "c"]
    assert names({"loss": 0, "w": [0]}) == ["['loss']", "w.0"]
    assert names({"a": {"loss": 0}}) == ["a.loss"]
    assert names(0) == ["value"]


def test_a_wrong_gradient_behind_a_name_that_two_leaves_share_is_seen():
    parameters = {"a.b": ONE, "a": {"b": TWO}, "loss": ONE}

    def loss(p):
        return jnp.sum(p["a.b"] ** 2 + p["a"]["b"] ** 3 + p["loss"])

    def by_hand(wrong):
        def loss_and_gradients(p):
            gradients = {"a.b": 2 * p["a.b"], "a": {"b": 3 * p["a"]["b"] ** 2}, "loss": ONE.copy()}
            if wrong == "a":
                gradients["a"]["b"] *= 2
            elif wrong:
                gradients[wrong] *= 2
            return np.sum(p["a.b"] ** 2 + p["a"]["b"] ** 3 + p["loss"]), gradients

        return loss_and_gradients

    for wrong, path in ((None, None), ("a", "['a']['b']"), ("a.b", "['a.b']"), ("loss", "['loss']")):
        report = check_gradients(by_hand(wrong), loss, parameters, probes=False)
        assert report.first_wrong == path
        assert report.verdict is (Verdict.DISAGREE if wrong else Verdict.AGREE)


@pytest.mark.parametrize(
    ("value", "cure"),
    [
        (ONE.astype(">f8"), r"byte order .* Give x\.astype\(x\.dtype\.newbyteorder\('='\)\)\.$"),
        (np.array(["a"]), r"<U1, which JAX does not have\. Name it in static=.*\.$"),
        (np.array(["2020-01-01"], "M8[D]"), r"datetime64\[D\], which JAX does not have\. Name it in static=.*\.$"),
        (object(), "leaves must be arrays or numbers"),
        (
            np.ones((3, 2), object),
            r"a leaf is an array of Python objects, object\[3, 2\]. If they are numbers, convert",
        ),
    ],
)
def test_an_input_that_jax_cannot_have_is_refused_with_the_cure(value, cure):
    with pytest.raises(TypeError, match=cure):
        as_input(value)


@pytest.mark.skipif(np.longdouble(0).itemsize == 8, reason="long double is float64 here")
@pytest.mark.parametrize(("dtype", "give"), [(np.longdouble, "np.float64"), (np.clongdouble, "np.complex128")])
def test_an_input_of_extended_precision_is_refused_with_the_cure(dtype, give):
    with pytest.raises(TypeError, match=rf"which JAX does not have\. Give x\.astype\({give}\)\."):
        as_input(ONE.astype(dtype))


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.complex128, np.int64, np.uint8, bool, ml_dtypes.bfloat16])
def test_an_input_that_jax_has_is_a_copy(dtype):
    value = ONE.astype(dtype)
    copied = as_input(value)
    assert copied.dtype == value.dtype
    assert not np.shares_memory(copied, value)
    np.testing.assert_array_equal(copied, value)


# ------------------------------------------------------------------------------ built otherwise

BUILT = [
    ([ONE, TWO], (ONE, TWO), None),
    ({"a": ONE}, {"a": TWO}, None),
    ({"a": ONE, "b": TWO}, {"a": ONE}, None),  # a leaf that is missing is found by its name
    (Pair(ONE, TWO), Pair(TWO, ONE), None),
    ([ONE, TWO], {0: ONE, 1: TWO}, "got a dict with the keys 0, 1, expected a list of 2"),
    (Pair(ONE, TWO), (ONE, TWO), "got a tuple of 2, expected Pair(a, b): give the gradients as a Pair"),
    (ONE, [1.0, 1.0, 1.0], "got a list of 3, expected an array of shape (3,): give one array (np.array"),
    ([ONE], ONE, "got an array of shape (3,), expected a list of 1"),
    ({"w": ONE}, [ONE], "got a list of 1, expected a dict with the keys w: give each gradient under its"),
    ({"w": ONE}, None, "got None, expected a dict with the keys w: return the gradients; the gradient of a param"),
    ([ONE], [None], "got None, expected an array of shape (3,): return the gradients"),
    (np.float64(1), {"w": ONE}, "got a dict with the keys w, expected a number"),
]


@pytest.mark.parametrize(("model", "tree", "words"), BUILT)
def test_a_structure_mismatch_is_put_in_words(model, tree, words):
    found = structure_mismatches(model, tree)
    if words is None:
        assert found == {}
    else:
        assert set(found) == set(names(model))
        assert all(message.startswith(words) for message in found.values())


def test_only_the_part_whose_structure_differs_is_named():
    model = {"a": [ONE, TWO], "b": ONE}
    assert structure_mismatches(model, {"a": {"x": ONE}, "b": ONE}).keys() == {"a.0", "a.1"}


@pytest.mark.parametrize(
    ("parameters", "wrap", "words"),
    [
        (ONE, lambda g: g.tolist(), "the gradients: got a list of 3"),
        ([ONE], lambda g: g[0], "the gradients: got an array of shape (3,)"),
        (Pair(ONE, TWO), tuple, "the gradients: got a tuple of 2"),
        ([ONE, TWO], lambda g: dict(enumerate(g)), "the gradients: got a dict"),
        ({"a": [ONE], "b": ONE}, lambda g: g | {"a": g["a"][0]}, "the gradient of a.0: got an array"),
    ],
)
def test_gradients_in_another_tree_are_refused_in_the_first_line(parameters, wrap, words):
    def loss(p):
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(p))

    def by_hand(p):
        gradients = jax.tree.map(lambda leaf: 2 * leaf, p)
        return sum(np.sum(leaf**2) for leaf in jax.tree.leaves(p)), wrap(gradients)

    report = check_gradients(by_hand, loss, parameters, probes=False)
    assert report.verdict is Verdict.DISAGREE
    assert report.wrong_side == "manual"
    assert report.diagnoses[0].kind == "structure"
    assert " ".join(str(report).split()).startswith(f"DISAGREE: {words}")


def test_a_list_for_a_tuple_is_taken_and_its_faults_are_told_apart():
    def by_hand(p):
        return np.sum(p[0] ** 2 + p[1] ** 2), [2 * p[0], -2 * p[1]]

    report = check_gradients(by_hand, lambda p: jnp.sum(p[0] ** 2 + p[1] ** 2), (ONE, TWO), probes=False)
    assert report.first_wrong == "1"
    assert report.diagnoses[0].kind == "sign"
    assert report.wrong_side == "manual"


# ------------------------------------------------------------------------------ whose numbers


def test_a_number_of_python_has_the_dtype_of_its_place_and_numpy_s_its_own():
    model = {"w": np.zeros(2, np.float32), "b": np.zeros((), np.float32)}
    came = like(model, {"w": np.zeros(2), "b": 0.1})
    assert came["b"].dtype == np.float32
    assert came["w"].dtype == np.float64
    assert number_like(np.float64(0.1), model["b"]).dtype == np.float64
    assert number_like(0.1, model["w"]) == 0.1  # one number in the place of several is a wrong shape


class Tensor:
    """As PyTorch's: it refuses to be read while it is part of a graph, and has a dtype that NumPy does not know."""

    def __init__(self, values, dtype="torch.float32", attached=True):
        self.values, self.dtype, self.attached = np.asarray(values, np.float32), dtype, attached

    def detach(self):
        return Tensor(self.values, self.dtype, attached=False)

    def float(self):
        return Tensor(self.values, attached=False)

    def __array__(self, dtype=None, copy=None):
        if self.attached:
            raise RuntimeError("call detach")
        if self.dtype != "torch.float32":
            raise TypeError("unsupported ScalarType")
        return self.values


def test_tensors_of_a_graph_and_of_short_dtypes_are_read():
    np.testing.assert_array_equal(as_array(Tensor([1.0, 2.0])), np.array([1, 2], np.float32))
    short = as_array(Tensor([1.0, 2.5], "torch.bfloat16"))
    assert short.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(short, np.array([1, 2.5], ml_dtypes.bfloat16))


def test_pytorch_s_own_tensors_are_read():
    torch = pytest.importorskip("torch")
    assert as_array(torch.ones(2, requires_grad=True)).tolist() == [1, 1]
    assert as_array(torch.ones(2, dtype=torch.bfloat16)).dtype == ml_dtypes.bfloat16


def test_what_holds_no_numbers_is_refused():
    with pytest.raises(TypeError, match="leaves must be arrays or numbers"):
        as_array(object())


def test_random_keys_are_compared_by_their_data():
    assert leaves_by_path(jax.random.key(3))["value"].dtype == np.uint32


def test_copies_and_other_values_keep_the_memory_layout():
    turned = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    assert own(turned).flags.f_contiguous
    assert laid_out(np.ones((2, 3)), turned).flags.f_contiguous
    assert laid_out(np.asfortranarray(np.ones((2, 3))), np.ones((2, 3))).flags.c_contiguous
    assert laid_out(np.ones((2, 1)), turned).flags.f_contiguous
    assert own(2.0) == 2.0
    assert type(own(2.0)) is float


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64, np.complex64])
def test_what_is_not_finite_is_seen_in_every_precision(dtype):
    assert all_finite(np.ones(3, dtype))
    assert not all_finite(np.array([1.0, np.nan, 1.0], dtype))
    assert not all_finite(np.array([1.0, np.inf, 1.0], dtype))


def test_whole_numbers_and_the_gradients_of_whole_numbers_are_finite():
    assert all_finite(np.arange(3))
    assert all_finite(np.zeros(3, jax.dtypes.float0))
