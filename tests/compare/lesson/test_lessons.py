"""The lesson: its lines are those of the source, its numbers those of the run, and it says so where the sides part."""

import inspect
import json
import math
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compare.lesson.shallow
import compare.lesson.subject
import manual
import manual.normalization
import manual.shallow
from compare import Verdict
from compare.cli.terminal import width
from compare.errors import BadInput
from compare.lesson import MODELS, gpt, layered, lesson, shallow
from compare.lesson.backward_mode import backward_mode, operations
from compare.lesson.docstrings import paragraphs
from compare.lesson.source import Excerpt, assignment, body, returned
from compare.lesson.text import as_text
from compare.platform import precise
from compare.suite.datasets import load
from compare.suite.shallow import shallow_loss
from tests.command import assert_no_traceback, assert_refused, invoke

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True, scope="module")
def brief():
    """Few moments of short trainings: every one of them is made in the same way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare.lesson.subject, "MOMENTS", 4)
        patch.setattr(shallow, "ITERATIONS", 12)
        for sizes in (*layered.SIZES.values(), gpt.SIZES):
            patch.setitem(sizes, "iterations", 2)
        yield


@pytest.fixture(scope="module")
def found():
    return lesson()


@pytest.fixture(scope="module")
def found_of_gpt():
    return lesson("gpt")


# --------------------------------------------------------------------------------- the lines shown


def shown_lines(steps):
    return [excerpt for step in steps for excerpt in (*step.by_hand, *step.by_jax)]


@pytest.mark.parametrize("model", MODELS)
def test_every_line_shown_stands_in_its_file_at_its_number(model):
    made = MODELS[model](seed=0)
    excerpts = [made.root, *shown_lines(made.steps)]
    assert {excerpt.file.split("/")[0] for excerpt in excerpts} == {"manual", "autodiff"}
    for excerpt in excerpts:
        lines = (ROOT / excerpt.file).read_text(encoding="utf-8").splitlines()
        there = lines[excerpt.line - 1 : excerpt.line - 1 + len(excerpt.numbered())]
        assert inspect.cleandoc("\n" + "\n".join(there)) == excerpt.code


def test_the_steps_backward_are_those_of_the_page_of_formulas_in_its_order():
    backward = [step for step in shallow.steps() if step.backward]
    source = inspect.getsource(manual.backpropagation)
    places = [source.index(f"    {step.by_hand[0].code}\n") for step in backward]
    assert places == sorted(places)
    assert [step.name for step in backward] == ["dZ2", "dW2", "db2", "dA1", "dZ1", "dW1", "db1"]
    assert all(step.by_hand[0].code.startswith(f"{step.name} = ") for step in backward)


def one():
    a = 1
    b = a + 1
    a = 2
    return b


def nested():
    def inner():
        a = 5
        return a

    return inner


def test_a_line_that_is_not_there_or_not_alone_is_an_error():
    assert assignment(one, "b").code == "b = a + 1"
    assert returned(nested).code == "return inner"
    for function, target, count in ((one, "a", 2), (one, "dZ9", 0), (nested, "a", 0)):
        with pytest.raises(LookupError, match=f"{count} statements of {function.__name__} assign to {target}"):
            assignment(function, target)


def test_a_renamed_line_stops_the_lesson(monkeypatch):
    monkeypatch.setattr(manual.shallow, "backpropagation", one)
    with pytest.raises(LookupError, match="0 statements of one assign to dZ2"):
        shallow.steps()


def guarded(x):
    """What it does."""
    if x < 0:
        raise ValueError("negative")
    y = x + 1

    return y * 2


def delegating(x):
    return guarded(x)


def test_a_body_has_no_docstring_and_no_guards_and_follows_a_function_that_only_calls():
    (excerpt,) = body(guarded)
    assert excerpt.code == "y = x + 1\n\nreturn y * 2"
    first = inspect.getsourcelines(guarded)[1]
    assert excerpt == Excerpt("tests/compare/lesson/test_lessons.py", first + 4, excerpt.code)
    assert body(delegating)[1] == excerpt


def with_asides(x):
    """Two terms from the head of this file. Raises ValueError if x is odd. (So it is.)

    A product, because BLAS is faster than np.sum.

        y = 1 + x     raises np.nan
    """


def test_a_docstring_is_taught_without_its_asides():
    layer_norm = paragraphs(manual.normalization.layer_norm_backward)
    assert layer_norm[0].endswith("with g = weight dy: the three terms below.")
    assert layer_norm[1].startswith("    x_hat = (x - mean) / s")
    assert layer_norm[3].endswith("dx = (g - mean of g - x_hat (mean of g x_hat)) / s")
    assert layer_norm[4].startswith("weight and bias serve every example")
    assert len(layer_norm) == 5
    for model in MODELS:
        for step in MODELS[model](seed=0).steps:
            assert not re.search(r"Raises|ValueError|BLAS|np\.|head of this file", step.words + step.derivation)


def test_only_asides_are_left_out(monkeypatch):
    monkeypatch.setattr(inspect.getmodule(with_asides), "__doc__", "A file.\n\n    a = b\n\nMore.")
    assert paragraphs(with_asides) == ["Two terms below. (So it is.)", "    a = b", "    y = 1 + x     raises np.nan"]


# ------------------------------------------------------------------------------------- the numbers


def recomputed(step):
    """Everything of `shallow` after some steps of training, from formulas written here."""
    problem = load("moons", seed=0)
    x, y = problem.train_x[:, : shallow.EXAMPLES], problem.train_y[:, : shallow.EXAMPLES]
    p = manual.initialize_parameters(2, shallow.HIDDEN, 1, seed=0, scale=shallow.SCALE)
    if step:
        p, _ = manual.train(p, x, y, iterations=step, learning_rate=shallow.LEARNING_RATE)
    m = x.shape[1]
    A1 = np.tanh(p["W1"] @ x + p["b1"])
    A2 = 1 / (1 + np.exp(-p["W2"] @ A1 - p["b2"]))
    values = {"A1": A1, "A2": A2, "loss": -np.sum(y * np.log(A2) + (1 - y) * np.log(1 - A2)) / m}
    values["dZ2"] = (A2 - y) / m
    values["dZ1"] = (p["W2"].T @ values["dZ2"]) / np.cosh(p["W1"] @ x + p["b1"]) ** 2
    with precise(x):
        gradients = jax.grad(shallow_loss)(p, x, y)
    return p, values, {f"d{name}": np.asarray(value) for name, value in gradients.items()}


def test_the_numbers_are_those_of_the_run(found):
    assert [moment.step for moment in found.moments] == [0, 1, 5, 12]
    for moment in found.moments:
        parameters, values, gradients = recomputed(moment.step)
        for label, right in (values | gradients).items():
            for entry in moment.numbers[label].entries:
                expected = pytest.approx(float(right[entry.index]), rel=1e-9, abs=1e-15)
                assert entry.by_hand == expected
                assert entry.by_jax == expected
                assert entry.difference == abs(entry.by_hand - entry.by_jax)
        for name, value in parameters.items():
            for entry in moment.numbers[f"d{name}"].entries:
                assert entry.value == pytest.approx(float(value[entry.index]), rel=1e-12)
        assert moment.loss == pytest.approx(float(values["loss"]))
        assert moment.loss == found.losses[moment.step]


def test_every_entry_of_a_parameter_is_shown_and_of_the_others_the_first_example(found):
    numbers = found.moments[0].numbers
    for name, count in (("dW1", 8), ("db1", 4), ("dW2", 4), ("db2", 1)):
        assert len(numbers[name].entries) == count == math.prod(numbers[name].shape)
    assert [entry.index for entry in numbers["dZ1"].entries] == [(i, 0) for i in range(4)]


def test_the_picture_shows_what_the_network_says(found):
    moment = found.moments[-1]
    parameters, *_ = recomputed(moment.step)
    for row, column in ((0, 0), (10, 50), (55, 3)):
        point = np.array([[found.plane.ticks[0][column]], [found.plane.ticks[1][row]]])
        assert moment.boundary[row, column] == pytest.approx(manual.forward_propagation(point, parameters)[0].item())


def test_the_same_seed_gives_the_same_lesson_and_another_another(found):
    assert lesson().to_dict() == found.to_dict()
    assert lesson(seed=1).to_dict()["losses"] != found.to_dict()["losses"]


# ------------------------------------------------------------------------------------- the verdict


def test_both_sides_agree(found):
    assert found.verdict is Verdict.AGREE
    assert found.sentence == (
        "AGREE: all 7 steps backward, by hand and by JAX, at 4 moments of a training of 12 steps."
    )
    rows = [numbers for moment in found.moments for numbers in moment.numbers.values() if numbers.verdict is not None]
    assert len(rows) == 4 * 8  # the loss and seven gradients
    assert all(numbers.error <= numbers.allowed for numbers in rows)


def test_a_fault_by_hand_is_said_and_ends_with_status_1(monkeypatch, tmp_path):
    right = manual.backpropagation

    def wrong(parameters, cache, x, y, *, intermediates=None):
        gradients = right(parameters, cache, x, y, intermediates=intermediates)
        return gradients | {"W1": 1.001 * gradients["W1"]}

    monkeypatch.setattr(manual, "backpropagation", wrong)
    result = invoke("lesson", "--json", tmp_path / "lesson.json", "--html", tmp_path / "lesson.html")
    assert_no_traceback(result)
    assert result.exit_code == 1
    assert result.stdout.startswith("After 0 steps of training: DISAGREE: the gradient of W1: it is 1.001 times")
    moments = json.loads((tmp_path / "lesson.json").read_text())["moments"]
    for moment in moments:
        verdicts = {label: numbers["verdict"] for label, numbers in moment["numbers"].items() if numbers["verdict"]}
        agreeing = ("loss", "dZ2", "dW2", "db2", "dA1", "dZ1", "db1")
        assert verdicts == dict.fromkeys(agreeing, "agree") | {"dW1": "disagree"}
    page = (tmp_path / "lesson.html").read_text(encoding="utf-8")
    assert "✗ DISAGREE" in page
    assert "✗ disagree" in page


def test_another_order_of_the_same_sums_is_no_fault(monkeypatch):
    right = manual.backpropagation

    def reordered(parameters, cache, x, y, *, intermediates):
        marks = {}
        gradients = right(parameters, cache, x, y, intermediates=marks)
        intermediates.update(marks)
        return gradients | {"W1": sum(np.outer(marks["Z1"][:, k], x[:, k]) for k in range(x.shape[1]))}

    monkeypatch.setattr(manual, "backpropagation", reordered)
    assert lesson().verdict is Verdict.AGREE


# --------------------------------------------------------------------------------- what JAX does


def test_every_step_is_found_in_the_program_that_jax_makes(found):
    matched = [equation.step for equation in found.backward_mode.gradient if equation.step]
    # A2 is none of them: neither the loss nor its derivative is made of it.
    names = ("Z1", "A1", "Z2", "loss", "dZ2", "dW2", "db2", "dA1", "dZ1", "dW1", "db1")
    assert sorted(matched) == sorted(names)
    assert matched.index("Z1") < matched.index("loss") < matched.index("dZ2") < matched.index("dZ1")


def test_an_equation_is_matched_by_its_numbers_at_every_point():
    points = [(np.array([1.0, 2.0]),), (np.array([3.0, 1.0]),)]
    tangents = [{"right": 2 * x, "once": np.array([2.0, 4.0]), "nearly": 2 * x * (1 + 1e-6)} for (x,) in points]
    mode = backward_mode(lambda x: jnp.sum(x**2), points, tangents)
    assert [equation.step for equation in mode.gradient if equation.step] == ["right"]
    assert (mode.parameters, mode.forward_passes, mode.backward_passes) == (2, 2, 1)
    assert mode.difference == 0


def test_what_nothing_depends_on_is_neither_matched_nor_counted():
    def loss(x):
        _ = jnp.sin(x) * 3
        return jax.jit(lambda x: jnp.sum(x**2))(x)

    points = [(np.array([1.0, 2.0]),), (np.array([3.0, 1.0]),)]
    known = [{"lost": 3 * np.sin(x), "loss": np.sum(x**2)} for (x,) in points]
    mode = backward_mode(loss, points, known)
    assert [equation.step for equation in mode.loss if equation.step] == ["loss"]  # within a call
    assert [equation.text.split()[2] for equation in mode.loss if not equation.used] == ["sin", "mul"]
    assert mode.operations["loss"] == 4  # two squares, and the sum of two


def test_passes_forward_are_counted_as_they_are_run():
    """Side by side they share the exponentials; a product with its direction and a sum remain for each."""
    n = 5
    mode = backward_mode(lambda x: jnp.sum(jnp.exp(x)), [(np.arange(1.0, n + 1),)], [{}])
    assert mode.operations["loss"] == 2 * n
    assert mode.operations["forward"] == 4 * n
    assert mode.operations["all forward"] == 2 * n + n * 2 * n


def test_a_call_is_entered(found, found_of_gpt):
    program = found_of_gpt.backward_mode
    for equations in (found.backward_mode.gradient, program.loss, program.gradient):
        words = [equation.text.partition(" = ")[2].split()[0] for equation in equations]
        assert not {"jit", "pjit", "closed_call"} & set(words)
        assert all(equation.text.partition(" = ")[0].count(":") == 1 for equation in equations)
    assert len(program.gradient) > 100


def test_operations_are_counted():
    a, b = np.ones((2, 3)), np.ones((3, 5))

    def count(function, *args):
        return operations(jax.make_jaxpr(function)(*args).jaxpr)

    assert count(lambda a, b: a @ b, a, b) == 2 * 2 * 3 * 5
    assert count(lambda a: jnp.tanh(a).T, a) == 6
    assert count(jnp.sum, a) == 6
    assert count(jax.jit(lambda a: a * a + a), a) == 12
    assert count(lambda a: jax.lax.scan(lambda c, _: (jnp.sin(c), None), a, None, length=7)[0], a) == 42
    image, kernel = np.ones((1, 8, 8, 2)), np.ones((3, 3, 2, 4))
    names = ("NHWC", "HWIO", "NHWC")
    convolve = lambda x, w: jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=names)  # noqa: E731
    assert count(convolve, image, kernel) == 2 * (8 * 8 * 4) * (3 * 3 * 2)


# --------------------------------------------------------------------------- networks of the catalog


@pytest.mark.parametrize("model", ["mlp", "rnn"])
def test_a_network_of_the_catalog_is_taught_by_its_own_ops(model):
    found = lesson(model)
    assert found.verdict is Verdict.AGREE
    kinds = {"mlp": ["flatten", "dense", "gelu", "dense"], "rnn": ["embedding", "rnn", "dense"]}[model]
    forward = [step for step in found.steps if not step.backward]
    assert [step.name.partition(".")[2] for step in forward[:-1]] == kinds
    paths = {quantity.path for step in found.steps for quantity in step.quantities if quantity.gradient}
    assert {path for path in paths if path.endswith("weight")} >= {f"{len(kinds) - 1}.dense.weight"}
    for moment in found.moments:
        assert {numbers.verdict for label, numbers in moment.numbers.items() if label.startswith("d ")} == {
            Verdict.AGREE
        }
        assert all(numbers.largest_difference < 1e-12 for numbers in moment.numbers.values())
    matched = {equation.step for equation in found.backward_mode.gradient}
    assert {f"d {len(kinds) - 1}.dense.weight", "logits", "loss", "d logits"} <= matched


def test_a_gpt_is_taught_by_every_line_of_its_backward(found_of_gpt):
    found = found_of_gpt
    assert found.verdict is Verdict.AGREE
    backward = [step for step in found.steps if step.backward]
    lines = [step.by_hand[0].code for step in backward if step.name.startswith("d blocks.0")]
    halves = (manual.transformer._hidden_layer_backward, manual.transformer._attention_backward)
    source = "".join(map(inspect.getsource, halves))
    places = [source.index(f"    {line}\n") for line in lines]
    assert places == sorted(places)
    assert len(places) == len(re.findall(r"^    inputs\[.*? = ", source, flags=re.MULTILINE)) == 10
    paths = {quantity.path for step in backward for quantity in step.quantities}
    assert set(found.backward_mode.inputs[:-2]) <= paths  # every parameter


def test_a_fault_in_an_op_is_found_in_its_lesson(monkeypatch):
    from manual.network import KINDS

    row = KINDS["dense"]

    def wrong(output_gradient, cache):
        dx, dweight, dbias = row.backward(output_gradient, cache)
        return dx, dweight, 2 * dbias

    monkeypatch.setitem(KINDS, "dense", row._replace(backward=wrong))
    found = lesson("mlp")
    assert found.verdict is Verdict.DISAGREE
    assert "3.dense.bias" in found.sentence


@pytest.mark.parametrize("iterations", [120, 300, 7])
def test_the_bar_counts_to_its_end(iterations, monkeypatch):
    monkeypatch.setattr(compare.lesson.subject, "MOMENTS", 31)
    recorded = compare.lesson.subject._recorded(iterations)
    assert len(recorded) == min(31, iterations + 1)
    assert (recorded[0], recorded[-1]) == (0, iterations)
    assert np.all(np.diff(recorded) > 0)


def test_the_loss_shown_is_that_of_textbooks(found):
    (words,) = (step.words for step in found.steps if step.name == "loss")
    assert "J = −(1/m) ∑ (y log A2 + (1 − y) log(1 − A2))" in words  # what `recomputed` holds the numbers to


# ------------------------------------------------------------------------------------- the command


def test_it_is_as_wide_as_the_terminal(monkeypatch, found):
    assert width(110) == 110  # no terminal
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(isatty=lambda: True))
    for columns, expected in ((40, 60), (80, 80), (300, 110)):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert width(110) == expected
        assert max(map(len, as_text(found, width=expected).splitlines())) <= expected


def test_the_terminal_shows_every_line_and_the_numbers(found):
    text = as_text(found)
    for excerpt in shown_lines(found.steps):
        for number, line in excerpt.numbered():
            assert f":{number}  {line}".rstrip() in text
    assert text.endswith(found.sentence)
    entry = found.moments[-1].numbers["dZ1"].entries[2]
    assert f"{entry.by_hand:.4g}" in text
    assert "<- dZ1" in text
    assert "17 parameters" in text


def test_the_command_prints_the_lesson(found):
    result = invoke("lesson")
    assert_no_traceback(result)
    assert result.exit_code == 0
    assert result.stdout.rstrip("\n") == as_text(found)


def test_bad_input_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(compare.lesson, "taught", lambda *args, **options: pytest.fail("the work began"))
    assert_refused(
        invoke("lesson", "--model", "vgg"), "no lesson on 'vgg'; there are shallow, mlp, convnet, rnn, lstm, gru, gpt"
    )
    assert_refused(invoke("lesson", "--seed", -1), "seed must be from 0 to")
    assert_refused(invoke("lesson", "--html", tmp_path / "no" / "x.html"), "there is no directory")
    same = tmp_path / "same"
    assert_refused(invoke("lesson", "--html", same, "--json", same), "is given for both --html and --json")
    with pytest.raises(BadInput, match="no lesson on 'perceptron'"):
        lesson("perceptron")


def test_a_verdict_that_is_not_agree_decides(found):
    undecided = [replace(found.moments[0], verdict=Verdict.INCONCLUSIVE, sentence="unknown"), *found.moments[1:]]
    assert replace(found, moments=undecided).verdict is Verdict.INCONCLUSIVE
    assert replace(found, moments=undecided).sentence == "After 0 steps of training: unknown"
