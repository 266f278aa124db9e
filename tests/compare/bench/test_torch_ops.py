"""PyTorch, which has other authors, on every op of the catalog that it has: the value and every gradient.

Where one person reads one paper for both sides of this project, both may be wrong together. How PyTorch's functions
are called is said in compare/bench/torch_ops.py. Its optimizers are in tests/manual/test_optimizers.py.
"""

import inspect
from dataclasses import replace

import jax
import numpy as np
import pytest

from compare.bench.torch_ops import NOT_IN_TORCH, TORCH_OPS, as_tensors
from compare.suite.cases import Case, all_cases
from compare.suite.ops import DTYPES, catalog

torch = pytest.importorskip("torch", reason="PyTorch is not installed: .venv/bin/pip install -e '.[peers]'")
CATALOG, CASES = catalog(), all_cases()

# Two correct programs differ by the roundings on the way, of numbers of about the size of the result: by 5 at most, in
# units of eps times its norm, over all cases here. But a constant row, normalized, has 53: what rounding left of its
# mean is multiplied by 1 / sqrt(1e-5). In float64, 128 are 3e-14 of the norm.
ROUNDINGS = 128


def by_hand(name, case):
    """The value and the gradients, as lists of arrays, and the random cotangent that they are for."""
    value, cache = CATALOG[name].forward(*case.inputs, **case.options)
    random = np.random.default_rng(1)
    cotangent = jax.tree.map(lambda v: np.asarray(random.standard_normal(v.shape), v.dtype), value)
    gradients = CATALOG[name].backward(cotangent, cache)
    return {"value": jax.tree.leaves(value), "gradients": jax.tree.leaves(gradients)}, cotangent


def by_torch(function, case, cotangent):
    """The same of PyTorch."""
    inputs = [as_tensors(x) for x in case.inputs]
    floating = [x.requires_grad_() for x in inputs if torch.is_tensor(x) and x.is_floating_point()]
    options = {option: as_tensors(value) for option, value in case.options.items()}
    value = jax.tree.leaves(function(*inputs, **options))
    gradients = torch.autograd.grad(value, floating, [torch.tensor(c) for c in jax.tree.leaves(cotangent)])
    return {"value": [v.detach().numpy() for v in value], "gradients": [g.numpy() for g in gradients]}


def assert_close(ours, theirs):
    """Leaf by leaf, on the scale of the largest: what is 0 but for rounding, such as the gradient of a bias of keys,
    has the size of the terms that cancel."""
    assert len(ours) == len(theirs)
    size = max(np.linalg.norm(leaf) for leaf in theirs)
    for number, (mine, leaf) in enumerate(zip(ours, theirs, strict=True)):
        assert (mine.shape, mine.dtype) == (leaf.shape, leaf.dtype), f"leaf {number}"
        error, allowed = np.abs(mine - leaf), ROUNDINGS * np.finfo(leaf.dtype).eps * size
        assert (error <= allowed).all(), f"leaf {number} is off by {np.max(error):.3g}; allowed is {allowed:.3g}"


def in_every_reduction(name, case):
    if "reduction" not in inspect.signature(CATALOG[name].forward).parameters:
        return [case]
    return [replace(case, options=case.options | {"reduction": kind}) for kind in ("mean", "sum", "none")]


def both_opinions(name):
    """(ours, PyTorch's) at every case, in both dtypes."""
    for case in CASES[name]:
        for variant in in_every_reduction(name, case):
            for dtype in DTYPES:
                ours, cotangent = by_hand(name, variant.astype(dtype))
                yield ours, by_torch(TORCH_OPS[name], variant.astype(dtype), cotangent)


def test_an_op_is_pytorchs_or_there_is_a_reason():
    assert sorted([*TORCH_OPS, *NOT_IN_TORCH]) == sorted(CATALOG)


# Said of even kernels: that a copy is made of x.
quiet = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")


@pytest.mark.sweep
@quiet
@pytest.mark.parametrize("name", TORCH_OPS)
def test_pytorch_agrees(name):
    for ours, theirs in both_opinions(name):
        for kind in ("value", "gradients"):
            assert_close(ours[kind], theirs[kind])


# At kinks, where authors choose a slope; far out, where they let exp overflow or not; at a tie.
KINKS_AND_TAILS = np.array([0.0, -0.0, 1e-300, 30, -30, 800, -800, 1e4, -1e4])
EDGES = {
    **{
        name: Case((KINKS_AND_TAILS,)) for name in CATALOG if CATALOG[name].module == "activations" and name != "swiglu"
    },
    "binary_cross_entropy": Case((KINKS_AND_TAILS,), {"targets": np.arange(9) % 2, "reduction": "none"}),
    "cross_entropy": Case((np.stack([KINKS_AND_TAILS, -KINKS_AND_TAILS]),), {"targets": np.array([3, 8])}),
    "mean_absolute_error": Case((np.array([1.0, 2.0, -3.0]),), {"targets": np.array([1.0, 2.5, -3.0])}),
    "huber": Case((np.array([1.0, 0.0, -1.0]),), {"targets": np.array([0.5, 0.5, -1.0]), "delta": 0.5}),
    "max_pool2d": Case((np.array([[3.0, 1, 2, 2], [1, 3, 2, 1]]).reshape(1, 2, 4, 1),), {"window": 2}),
}


@pytest.mark.parametrize("name", EDGES)
def test_pytorch_has_the_same_conventions(name):
    ours, cotangent = by_hand(name, EDGES[name])
    theirs = by_torch(TORCH_OPS[name], EDGES[name], cotangent)
    for kind in ("value", "gradients"):
        assert_close(ours[kind], theirs[kind])


def test_pytorch_has_no_mean_of_no_rows():
    case = Case((np.ones((2, 3)),), {"targets": np.array([-100, -100])})
    ours, cotangent = by_hand("cross_entropy", case)
    assert ours["value"] == [0]
    assert np.isnan(by_torch(TORCH_OPS["cross_entropy"], case, cotangent)["value"])


def test_the_module_of_pytorch_attends_alike():
    """Of one size throughout, as it demands; the weights of query, key and value stand in one matrix."""
    random = np.random.default_rng(2)
    x, weights, biases = random.standard_normal((2, 5, 6)), random.standard_normal((4, 6, 6)), random.random((4, 6))
    case = Case((x, None, *weights, *biases), {"heads": 3, "causal": True})

    def module(x, _, q, k, v, o, bq, bk, bv, bo, *, heads, causal):
        layer = torch.nn.MultiheadAttention(6, heads, batch_first=True, dtype=torch.float64)
        parameters = {
            "in_proj_weight": torch.cat([q, k, v], dim=1).T,
            "in_proj_bias": torch.cat([bq, bk, bv]),
            "out_proj.weight": o.T,
            "out_proj.bias": bo,
        }
        hidden = torch.ones(5, 5, dtype=torch.bool).triu(1)
        return torch.func.functional_call(layer, parameters, (x, x, x), {"attn_mask": hidden})[0]

    ours, cotangent = by_hand("multi_head_attention", case)
    theirs = by_torch(module, case, cotangent)
    for kind in ("value", "gradients"):
        assert_close(ours[kind], theirs[kind])


def test_dropout_with_the_mask_that_pytorch_drew():
    x = 1 + np.random.default_rng(3).random((50, 4))
    torch.manual_seed(0)
    mask = torch.nn.functional.dropout(torch.tensor(x), 0.4).numpy() != 0
    assert 0 < np.count_nonzero(mask) < x.size

    def seeded(x, mask, *, rate):
        torch.manual_seed(0)
        return torch.nn.functional.dropout(x, rate)

    case = Case((x, mask), {"rate": 0.4})
    ours, cotangent = by_hand("dropout", case)
    theirs = by_torch(seeded, case, cotangent)
    for kind in ("value", "gradients"):
        assert_close(ours[kind], theirs[kind])


def changed(leaves, number, change):
    """The leaves with the largest entry of one of them changed."""
    leaf = np.array(leaves[number])
    entry = np.unravel_index(np.argmax(np.abs(leaf)), leaf.shape)
    leaf[entry] = change(leaf[entry])
    return [*leaves[:number], leaf, *leaves[number + 1 :]]


@pytest.mark.sweep
@quiet
@pytest.mark.parametrize("name", TORCH_OPS)
def test_one_entry_wrong_by_a_thousandth_is_noticed_and_the_last_digit_of_all_is_not(name):
    for ours, theirs in both_opinions(name):
        for kind in ("value", "gradients"):
            leaves = ours[kind]
            assert_close([np.nextafter(leaf, np.inf) for leaf in leaves], theirs[kind])
            sizes = [np.linalg.norm(leaf) for leaf in leaves]
            for number, size in enumerate(sizes):
                if size > 0.1 * max(sizes):  # or it may be less than the rounding of others
                    with pytest.raises(AssertionError, match=f"leaf {number} is off by"):
                        assert_close(changed(leaves, number, lambda entry: 1.001 * entry), theirs[kind])
                    with pytest.raises(AssertionError, match=f"leaf {number} is off by nan"):
                        assert_close(changed(leaves, number, lambda entry: np.nan), theirs[kind])


def test_a_gate_in_the_wrong_place_is_noticed():
    """The forget and the input gate of an LSTM exchanged, as some libraries store them."""
    case = CASES["lstm"][0]
    ours, cotangent = by_hand("lstm", case)
    swap = np.r_[5:10, 0:5, 10:20]
    *rest, input_weight, hidden_weight, bias = case.inputs
    elsewhere = replace(case, inputs=(*rest, input_weight[:, swap], hidden_weight[:, swap], bias[swap]))
    with pytest.raises(AssertionError, match="leaf 0 is off by"):
        assert_close(ours["value"], by_torch(TORCH_OPS["lstm"], elsewhere, cotangent)["value"])
