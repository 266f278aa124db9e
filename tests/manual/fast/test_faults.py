"""The well-known faults of backward passes, planted on the page and in what is fast: caught at their place, by name.

A fault is planted into the function of either side: it is told of another cache than it made, or what it returns is
given back the term that it must not have. The near-miss is the function as it is.
"""

import functools
from dataclasses import replace

import numpy as np
import pytest

import autodiff.transformer
import manual.fast
import manual.transformer
from compare import Verdict, check_gradients
from compare.suite.cases import Case
from compare.suite.ops import catalog, verify_op
from manual.transformer import initialize_parameters

SIDES = {"page": manual, "fast": manual.fast}


def arrays(*shapes):
    random = np.random.default_rng(0)
    return tuple(random.standard_normal(shape) for shape in shapes)


def normalized(dy, cache):
    """weight / s, x_hat and dy, by channel."""
    x, mean, s, weight = cache
    return weight / s, (x - mean) / s, dy


def without_mean_path(right, dy, cache):
    scale, _, dy = normalized(dy, cache)
    dx, *others = right(dy, cache)
    return dx + scale * dy.mean(axis=(0, 1)), *others


def constant_sigma(right, dy, cache):
    scale, x_hat, dy = normalized(dy, cache)
    dx, *others = right(dy, cache)
    return dx + scale * x_hat * (dy * x_hat).mean(axis=(0, 1)), *others


def mixed_forms(right, dy, cache):
    """Phi of one form and its slope of the other."""
    return right(dy, cache._replace(approximate=not cache.approximate))


def overwriting(right, dy, cache):
    dweight = right(dy, cache)
    dweight[cache.ids] = dy
    return dweight


def without_mask(right, dy, cache):
    return right(dy, cache._replace(mask=np.ones_like(cache.mask)))


def without_stride(right, dy, cache):
    """Every window passes its gradient to where it would be at stride 1."""
    narrow = cache._replace(geometry=cache.geometry._replace(stride=(1, 1)))
    return right(dy, narrow)[0], *right(dy, cache)[1:]


def without_scale(right, dy, cache):
    dq, dk, dv = right(dy, cache)
    root = np.sqrt(cache.query.shape[3])
    return dq * root, dk * root, dv


def without_forget_path(right, dy, cache):
    """As if nothing of a cell were passed on to the next step."""
    gates = np.copy(cache.gates)
    hidden = gates.shape[2] // 4
    gates[..., hidden : 2 * hidden] = 0
    return right(dy, cache._replace(gates=gates))


NORM = Case(arrays((4, 3, 2), (2,), (2,)))
LSTM = Case(arrays((2, 4, 3), (2, 2), (2, 2), (3, 8), (2, 8), (8,)))
# The op, its call, the fault, the gradients that are wrong with the first one first, and the cause.
FAULTS = {
    "batch norm without the mean path": ("batch_norm", NORM, without_mean_path, ["x"], "missing-term"),
    "batch norm with a constant sigma": ("batch_norm", NORM, constant_sigma, ["x"], "missing-term"),
    "gelu of mixed forms": ("gelu", Case(arrays((3, 5)), {"approximate": True}), mixed_forms, ["x"], "wrong-factor"),
    "exact gelu with the slope of the other": ("gelu", Case(arrays((3, 5))), mixed_forms, ["x"], "wrong-factor"),
    "embedding that overwrites": (
        "embedding",
        Case((*arrays((7, 3)), np.array([5, 0, 5, 2, 5]))),
        overwriting,
        ["weight"],
        "lost-repeats",
    ),
    "dropout without mask": (
        "dropout",
        Case((*arrays((4, 3)), np.arange(12).reshape(4, 3) % 3 > 0), {"rate": 0.2}),
        without_mask,
        ["x"],
        "missing-mask",
    ),
    "convolution without stride": (
        "conv2d",
        Case(arrays((2, 5, 6, 2), (3, 2, 2, 3), (3,)), {"stride": 2}),
        without_stride,
        ["x"],
        "misplaced",
    ),
    "attention without 1/sqrt(d)": (
        "attention",
        Case(arrays((2, 3, 4, 2), (2, 5, 2, 2), (2, 5, 2, 3)), {"causal": True}),
        without_scale,
        ["query", "key"],
        "factor",
    ),
    "lstm without the forget path": (
        "lstm",
        LSTM,
        without_forget_path,
        ["x", "initial_hidden", "initial_cell", "input_weight", "hidden_weight", "bias"],
        "missing-path",
    ),
}


@pytest.mark.sweep
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_caught_at_its_place_and_named(name, side):
    op, case, fault, wrong, kind = FAULTS[name]
    known = catalog(SIDES[side])[op]
    assert verify_op(known, case, probes=False).verdict is Verdict.AGREE
    report = verify_op(replace(known, backward=functools.partial(fault, known.backward)), case, probes=False)
    assert report.verdict is Verdict.DISAGREE
    assert report.wrong_side == "manual"
    assert report.first_wrong == wrong[0]
    assert [row.path for row in report.rows if row.verdict is Verdict.DISAGREE] == wrong
    assert [d.kind for d in report.diagnoses if d.path == wrong[0]] == [kind]


VOCABULARY, HEADS = 7, 2


def forgets_the_first_layer(monkeypatch):
    monkeypatch.setattr(manual.fast.transformer, "_add_rows", lambda table, ids, rows: None)


def forgets_the_last_layer(monkeypatch):
    right = manual.fast.transformer._head_backward

    def without_table(dlogits, cache):
        dx, dtable = right(dlogits, cache)
        return dx, np.zeros_like(dtable)

    monkeypatch.setattr(manual.fast.transformer, "_head_backward", without_table)


def check_tied_embedding():
    """Of the fast transformer; tests/manual/test_transformer.py has the page's."""
    parameters = initialize_parameters(vocabulary=VOCABULARY, context=4, layers=1, heads=HEADS, width=4, seed=0)
    ids, targets = np.random.default_rng(0).integers(0, VOCABULARY, (2, 3, 4))
    by_hand = functools.partial(manual.fast.transformer.loss_and_gradients, heads=HEADS)
    loss = functools.partial(autodiff.transformer.compute_loss, heads=HEADS)
    return check_gradients(by_hand, loss, parameters, ids, targets, probes=False)


def test_a_tied_embedding_with_both_gradients_agrees():
    assert check_tied_embedding().verdict is Verdict.AGREE


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("fault", "kind"), [(forgets_the_first_layer, "missing-path"), (forgets_the_last_layer, "missing-term")]
)
def test_a_tied_embedding_with_one_gradient_is_caught_and_named(fault, kind, monkeypatch):
    fault(monkeypatch)
    report = check_tied_embedding()
    assert report.verdict is Verdict.DISAGREE
    assert report.wrong_side == "manual"
    assert [row.path for row in report.rows if row.verdict is Verdict.DISAGREE] == ["token_embedding"]
    assert [(d.path, d.kind) for d in report.diagnoses] == [("token_embedding", kind)]
