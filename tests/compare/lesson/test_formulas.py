"""Formulas made from the source: every backward step has its own, and they compute what the source computes."""

import ast
import re
from typing import Any, NamedTuple

import numpy as np
import pytest

import manual
from compare.lesson import MODELS
from compare.lesson.formulas import Line, as_text, formulas, formulas_of_lines, inputs_of
from compare.lesson.source import body
from compare.suite.cases import all_cases
from compare.suite.ops import catalog
from manual.activations import SoftmaxCache, softmax_backward
from manual.attention import _matrices
from tests.compare.lesson.taught import subject_of

COUNTS = {"shallow": 7, "mlp": 4, "convnet": 9, "rnn": 4, "lstm": 4, "gru": 4, "gpt": 14}


def written(function: Any, inputs: Any = ()) -> list[list[str]]:
    return [as_text(part) for part in formulas(function, inputs)]


@pytest.mark.sweep
@pytest.mark.parametrize("model", MODELS)
def test_every_backward_step_of_every_lesson_has_a_formula(model):
    backward = [step for step in subject_of(model).steps if step.backward]
    with_formula = [step.name for step in backward if any(line.code for part in step.formulas for line in part.lines)]
    assert with_formula == [step.name for step in backward]
    assert len(with_formula) == COUNTS[model]


def test_there_are_46_of_them():
    assert sum(COUNTS.values()) == 46
    assert COUNTS.keys() == MODELS.keys()


@pytest.mark.sweep
@pytest.mark.parametrize("name", catalog())
def test_every_op_of_the_catalog_has_its_formulas(name):
    """So that one which a network takes up later has them, too."""
    op = catalog()[name]
    first, *called = formulas(op.backward, inputs_of(op.forward))
    assert any(line.code for line in first.lines)
    assert not first.title
    assert all(part.title and part.lines for part in called)


# ----------------------------------------------------------------- formulas compute what the source does


def indices(entry: ast.Subscript) -> str:
    """p[b, q, k] as "bqk"."""
    return "".join(name.id for name in ast.walk(entry.slice) if isinstance(name, ast.Name))


class Evaluated(ast.NodeTransformer):
    """The sums over indices that formulas have, as calls of einsum; and functions apart from arrays of their names."""

    def visit_Call(self, node):
        name = ast.unparse(node.func)
        if name != "total":
            self.generic_visit(node)
            node.func = ast.parse(f"FUNCTIONS[{name!r}]", mode="eval").body
            return node
        factors = [part for part in ast.walk(node.args[1]) if isinstance(part, ast.Subscript)]
        letters = [indices(factor) for factor in factors]
        arrays = ", ".join(ast.unparse(factor.value) for factor in factors)
        inputs = ",".join(letters)
        return ast.parse(f"FUNCTIONS['einsum']('{inputs}->' + OUT, {arrays})", mode="eval").body


FUNCTIONS = {name: getattr(np, name) for name in ("exp", "log", "sqrt", "tanh", "where", "clip", "sign", "sum", "mean")}
FUNCTIONS |= {"max": np.maximum, "min": np.minimum, "einsum": np.einsum, "size": np.size}
FUNCTIONS |= {"softmax_backward": softmax_backward, "SoftmaxCache": SoftmaxCache}
RENAMES = {"weight": "W", "bias": "b", "deviation": "s", "root": "r", "label_smoothing": "a"}  # of fields, on pages
# Ops whose formulas are a list of assignments: without loops or choices, and with at most the call of softmax's.
STRAIGHT = [
    *("tanh", "sigmoid", "relu", "leaky_relu", "elu", "selu", "softplus", "silu", "softmax", "log_softmax", "swiglu"),
    *("dense", "dropout", "layer_norm", "rms_norm", "batch_norm", "batch_norm_inference", "attention"),
    *("mean_squared_error", "mean_absolute_error", "huber", "hinge", "kl_divergence"),
]


def computed(lines: tuple[Line, ...], names: dict[str, Any]) -> dict[str, Any]:
    """What the formulas give, run one after another."""
    known = {"FUNCTIONS": FUNCTIONS, "pi": np.pi} | names
    for line in lines:
        if not line.code or (line.note == "if `b` is given" and known["b"] is None):
            continue
        (statement,) = ast.parse(line.code).body
        assert isinstance(statement, ast.Assign)
        target = statement.targets[0]
        name = ast.unparse(target.value) if isinstance(target, ast.Subscript) else ast.unparse(target)
        out = indices(target) if isinstance(target, ast.Subscript) else ""
        code = ast.unparse(Evaluated().visit(statement.value))
        known[name] = eval(code, {}, known | {"OUT": out})
    return known


@pytest.mark.parametrize("name", STRAIGHT)
def test_formulas_compute_what_the_backward_computes(name):
    op = catalog()[name]
    case = next(case for case in all_cases()[name] if "none" not in map(str, case.options.values()))
    value, cache = op.forward(*case.inputs, **case.options)
    dy = np.random.default_rng(0).standard_normal(np.shape(value))
    gradients = op.backward(dy, cache)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    names = {"cache": cache} | cache._asdict()
    names |= {own: names[field] for field, own in RENAMES.items() if field in names}
    features = names["weight"].shape[-1] if "weight" in names else 0
    names |= {"dy": dy, "output_gradient": dy, "key_heads": 0}
    names |= {"all_axes_but_the_last": tuple(range(dy.ndim - 1)), "axes": tuple(range(dy.ndim - 1))}
    if name == "dense":
        names |= {"dy": dy.reshape(-1, features), "ones": np.ones((len(names["x"]), 1))}
    if name == "attention":
        key_heads, depth = names["key"].shape[2:]
        arrays = {"q": names["query"], "k": names["key"], "v": names["value"], "do": dy}
        names |= {symbol: _matrices(array, key_heads) for symbol, array in arrays.items()}
        names["depth"] = depth
        gradients = tuple(_matrices(gradient, key_heads) for gradient in gradients)
    part, *called = formulas(op.backward, inputs_of(op.forward))
    assert [inner.title.partition("(")[0] for inner in called] == ["softmax_backward"] * (name == "attention")
    found = computed(part.lines, names)
    gave = dict(said_gradients(part.lines))
    for given, gradient in zip(inputs_of(op.forward), gradients, strict=False):
        if gradient is not None:
            actual = np.reshape(found[gave.get(given, f"d{given}")], gradient.shape)
            np.testing.assert_allclose(actual, gradient, rtol=1e-12, atol=1e-14)


def said_gradients(lines: tuple[Line, ...]) -> list[tuple[str, str]]:
    """The pairs (input, name of its gradient) that the last note tells."""
    (*_, last) = lines
    found = re.fullmatch(r"(.*) (?:is the gradient|are the gradients) of (.*)", last.note.replace("`", ""))
    return list(zip(*(names.split(", ") for names in found.group(2, 1)), strict=True)) if found else []


# --------------------------------------------------------------------------------- what is written how


class KeptCache(NamedTuple):
    y: np.ndarray
    deviation: np.ndarray
    rate: float


def widened(x):
    return x.astype(np.float64)


def centered(x, axis):
    if x.ndim == 0:
        raise ValueError
    return x - x.mean(axis=axis, keepdims=True, dtype=np.float64)


def test_casts_checks_and_names_of_fields_are_left_out_and_lengths_said():
    def backward(output_gradient, cache: KeptCache):
        """dx = something else, which is not read."""
        if output_gradient.ndim == 0:
            raise ValueError("no axes")
        dy, (y, s, rate) = output_gradient.astype(np.float64), cache
        n, m = y.shape[0], len(s)
        if m > n:
            raise ValueError("too many")
        g = np.asarray(rate * dy * centered(widened(y), axis=-1)).astype(dy.dtype)
        return (g / s / n).reshape(y.shape)

    assert written(backward, ["x"]) == [
        [
            "s is the deviation of the forward pass; n is y.shape[0]",
            "g = rate dy ⊙ (y − mean[last axis](y))",
            "dx = g / s / n   (reshaped)",
        ]
    ]


def test_a_reshape_within_a_formula_is_written():
    """Where it is not the whole, what is around it depends on it."""

    def backward(output_gradient, x):
        dW = x.reshape(-1, 2).T @ output_gradient
        return dW

    assert written(backward)[0] == ["dW = reshape(x)ᵀ dy", "returns dW"]


def test_what_is_assigned_to_dy_is_not_called_the_output_gradient():
    def backward(output_gradient, x):
        dy = 2 * output_gradient
        return dy * x

    assert written(backward, ["x"])[0] == ["dy = 2 output_gradient", "dx = dy ⊙ x"]


def test_loops_choices_and_updates_are_written_in_their_order():
    def backward(output_gradient, x, exact):
        da = np.zeros_like(x)
        for t in reversed(range(x.shape[1])):
            da[:, t] = output_gradient[:, t] * x[:, t]
        scale = x
        if exact:
            t = np.expm1(x)
            scale = t * t
        else:
            scale = scale + np.log1p(x)
        np.add.at(da, x, scale)
        return da

    assert written(backward, ["x"])[0] == [
        "da = 0",
        "for t = x.shape[1] − 1, …, 1, 0:",
        "  da_t = dy_t ⊙ x_t",
        "scale = x",
        "if exact:",
        "  t = exp(x) − 1",
        "  scale = t t",
        "otherwise:",
        "  scale = scale + log(1 + x)",
        "da_x += scale   (added up where indices are equal)",
        "da is the gradient of x",
    ]


def test_a_function_of_the_page_that_is_one_formula_is_written_where_it_is_called_and_others_below():
    first, *called = written(manual.recurrent.lstm_backward, ["x"])
    assert "dU[ij]" not in first
    assert "dU_ij = ∑[b, t] h_before[bti] da_btj" in first  # of `_sum_of_products`
    assert [lines[0] for lines in called] == [
        "with lstm_step_backward(dh, dc_from_next, gates, c_before, c):",
        "with dense_backward(output_gradient, cache):",
    ]
    assert "  dc = dc_from_next + dh ⊙ o ⊙ (1 − tanh_c²)" in called[0]


def test_a_function_that_is_called_twice_is_written_once():
    called = formulas(manual.attention.multi_head_attention_backward)[1:]
    assert [part.title.partition("(")[0] for part in called] == [
        "dense_backward",
        "attention_backward",
        "softmax_backward",
    ]


def test_a_constant_of_the_page_is_written_as_what_it_is():
    assert "  u′ = sqrt(2 / π) (1 + 3·0.044715 t²)" in written(manual.activations.gelu_backward, ["x"])[0]


# ------------------------------------------------------------------------ branches that a call decides


class OptionsCache(NamedTuple):
    x: np.ndarray
    bias: np.ndarray | None
    kept: np.ndarray
    exact: bool
    rate: float


def of_options(output_gradient, cache: OptionsCache):
    dy, (x, bias, kept, exact, rate) = output_gradient, cache
    if exact:
        g = dy * rate
        dx = g * x
    else:
        dx = dy + rate
    dbias = None if bias is None else np.sum(dy, axis=0)
    if x.ndim == 2:
        dx = np.where(kept[..., None], dx, 0)
    if x.max() > 100:
        dx = dx / 2
    return dx, dbias


def options(**changed):
    known = {"x": np.ones((3, 2)), "bias": None, "kept": np.ones(3, bool), "exact": True, "rate": 1.0}
    return {"cache": OptionsCache(**known | changed)}


def test_only_the_branches_that_a_call_takes_are_written():
    """What depends on the entries of an array stays a choice: other data would take the other branch."""
    (part,) = formulas(of_options, ["x", "bias"], options())
    assert as_text(part) == ["g = dy", "dx = g ⊙ x", "if max(x) > 100:", "  dx = dx / 2"]
    (part,) = formulas(of_options, ["x", "bias"], options(exact=False, rate=0.0, bias=np.ones(2)))
    assert as_text(part)[:2] == ["dx = dy", "dbias = ∑[axis 0] dy"]


def test_an_option_that_matters_stays():
    (part,) = formulas(of_options, ["x", "bias"], options(rate=0.5, kept=np.array([True, False, True])))
    assert as_text(part)[:3] == ["g = dy rate", "dx = g ⊙ x", "dx = dx if kept, 0 otherwise"]


def after_a_choice(output_gradient, cache: OptionsCache):
    bias = None
    if cache.x.max() > 100:
        bias = 2
        dx = output_gradient * bias
    else:
        dx = output_gradient
    if bias is None:
        dx = dx + 1
    return dx


def test_what_one_branch_assigns_is_not_known_in_the_other_nor_after_it():
    (part,) = formulas(after_a_choice, ["x"], options())
    assert as_text(part)[-2:] == ["if bias is not given:", "  dx = dx + 1"]


def test_without_a_call_every_branch_is_written():
    (part,) = formulas(of_options, ["x", "bias"])
    notes = [line.note for line in part.lines]
    assert {"if `exact`:", "otherwise:", "if `bias` is given", "if `ndim(x) == 2`:"} <= set(notes)


def twice(output_gradient, cache: OptionsCache):
    first = branching(output_gradient, cache.exact)
    second = branching(first, cache.bias)
    return second


def once(output_gradient, cache: OptionsCache):
    return branching(output_gradient, cache.exact)


def branching(y, exact):
    z = y
    if exact:
        z = 2 * y
    z = z * z
    return z


def test_a_function_that_is_called_in_two_ways_is_written_whole(monkeypatch):
    monkeypatch.setattr(
        "compare.lesson.formulas._Reader.resolved", lambda self, f: {"branching": branching}.get(ast.unparse(f))
    )
    _, called = formulas(twice, [], options(bias=0))
    assert "if exact:" in [line.strip() for line in as_text(called)]
    _, called = formulas(once, [], options())
    assert as_text(called)[1:4] == ["  z = y", "  z = 2 y", "  z = z ⊙ z"]


@pytest.mark.sweep
@pytest.mark.parametrize("model", [model for model in MODELS if model != "shallow"])
def test_no_lesson_shows_a_branch_that_its_network_does_not_take(model):
    for step in subject_of(model).steps:
        notes = [line.note for part in step.formulas for line in part.lines]
        assert not [note for note in notes if note.startswith("if ") or note == "otherwise:"], step.name


def test_a_mask_that_masks_nothing_is_left_out_and_its_other_uses_are_explained():
    """cross_entropy counts the rows whose label is not to be ignored; here these are all rows."""
    (loss,) = (step for step in subject_of("mlp").steps if step.name == "d loss")
    lines = as_text(loss.formulas[0])
    assert lines[:2] == ["counted is True at every entry", "n = ∑ counted"]
    assert "dz = dy ⊙ (T ⊙ p − q)" in lines


def test_the_form_of_gelu_is_that_of_the_layer():
    form = {
        model: str([as_text(part) for step in subject_of(model).steps for part in step.formulas])
        for model in ("mlp", "gpt")
    }
    assert "0.044715" in form["gpt"]
    assert "exp(−t² / 2)" not in form["gpt"]
    assert "exp(−t² / 2)" in form["mlp"]
    assert "0.044715" not in form["mlp"]


def test_lines_of_a_function_are_written_as_the_function_would_be():
    function = manual.activations.silu_backward
    (part,) = formulas_of_lines(function, body(function), result="dx")
    assert as_text(part) == ["s′ = s ⊙ (1 − s)", "dx = dy ⊙ (s + x ⊙ s′)"]


def tried(output_gradient):
    try:
        return output_gradient
    except ValueError:
        return None


def counted(output_gradient):
    while output_gradient:
        pass


def with_option(output_gradient):
    return np.sum(output_gradient, where=output_gradient > 0)


def of_einsum_in_a_sum(output_gradient, x):
    y = np.einsum("ij->i", x) + np.einsum("ij->i", output_gradient)
    return y


@pytest.mark.parametrize("function", [tried, counted, with_option, of_einsum_in_a_sum])
def test_what_cannot_be_written_is_refused_and_never_written_in_part(function):
    with pytest.raises(ValueError, match="cannot be written as a formula"):
        formulas(function, ["x"])
