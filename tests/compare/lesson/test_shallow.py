"""The notebook's network as a lesson: its steps are the page's, its numbers those of formulas written here."""

import inspect

import jax
import numpy as np
import pytest

import manual
import manual.normalization
import manual.shallow
from compare import Verdict, check_gradients
from compare.errors import BadInput
from compare.lesson import lesson, shallow
from compare.platform import precise
from compare.suite.datasets import load
from compare.suite.shallow import shallow_loss


def test_the_steps_backward_are_those_of_the_page_of_formulas_in_its_order():
    backward = [step for step in shallow.steps() if step.backward]
    source = inspect.getsource(manual.backpropagation)
    places = [source.index(f"    {step.by_hand[0].code}\n") for step in backward]
    assert places == sorted(places)
    assert [step.name for step in backward] == ["dZ2", "dW2", "db2", "dA1", "dZ1", "dW1", "db1"]
    assert all(step.by_hand[0].code.startswith(f"{step.name} = ") for step in backward)


def test_the_steps_of_second_order_are_those_of_the_page_in_its_order():
    second = [step for step in shallow.steps() if step.order == 2]
    functions = (manual.shallow._forward_along, manual.shallow._backward_along)
    source = "".join(map(inspect.getsource, functions))
    places = [source.index(f"    {step.by_hand[0].code}\n") for step in second]
    assert places == sorted(places)
    names = ["RZ1", "RA1", "RZ2", "RA2", "RdZ2", "RdW2", "Rdb2", "RdA1", "RdZ1", "RdW1", "Rdb1"]
    assert [step.name for step in second] == names
    assert all(step.by_hand[0].code.startswith(f"{step.name} = ") for step in second)
    assert all(line.code for step in second for line in step.formulas[0].lines)


@pytest.mark.campaign
def test_the_numbers_of_second_order_are_differences_of_those_of_first_order(found):
    """Of the gradient of the loss of JAX, at both ends of the training."""
    subject, h = shallow.subject(seed=0), 1e-6
    assert subject.second is not None
    vector, (x, y) = subject.second.vector, subject.args
    for moment in (found.moments[0], found.moments[-1]):
        parameters, *_ = recomputed(moment.step)
        with precise(x):
            after, before = (
                jax.device_get(jax.grad(shallow_loss)({k: v + s * vector[k] for k, v in parameters.items()}, x, y))
                for s in (h, -h)
            )
        for name in parameters:
            for entry in moment.numbers[f"Rd{name}"].entries:
                expected = (after[name][entry.index] - before[name][entry.index]) / (2 * h)
                assert entry.by_hand == pytest.approx(float(expected), rel=1e-6, abs=1e-8)
                assert entry.by_jax == pytest.approx(entry.by_hand, rel=1e-9, abs=1e-14)
                assert entry.value is None


@pytest.mark.campaign
def test_a_fault_of_second_order_is_found_in_the_lesson(monkeypatch):
    """The second derivative of tanh is left out."""
    right = manual.hessian_vector_product

    def wrong(parameters, vector, x, y, *, intermediates):
        product = right(parameters, vector, x, y, intermediates=intermediates)
        _, cache = manual.forward_propagation(x, parameters)
        first: dict[str, np.ndarray] = {}
        manual.backpropagation(parameters, cache, x, y, intermediates=first)
        RA1 = manual.shallow._forward_along(parameters, vector, x, cache).A1
        RdZ1 = intermediates["Z1"] + 2 * first["A1"] * cache.A1 * RA1
        return product | {"W1": RdZ1 @ x.T, "b1": np.sum(RdZ1, axis=1, keepdims=True)}

    monkeypatch.setattr(manual, "hessian_vector_product", wrong)
    found = lesson()
    assert found.verdict is Verdict.DISAGREE
    last = found.moments[-1].numbers
    assert {last[label].verdict for label in ("RdW1", "Rdb1")} == {Verdict.DISAGREE}
    assert {last[label].verdict for label in ("RdW2", "Rdb2", "dW1")} == {Verdict.AGREE}


def test_a_renamed_line_stops_the_lesson(monkeypatch):
    def renamed(parameters, cache, x, y):
        return {"W1": x, "b1": y}

    monkeypatch.setattr(manual.shallow, "backpropagation", renamed)
    with pytest.raises(LookupError, match="0 statements of renamed assign to dZ2"):
        shallow.steps()


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


def test_the_picture_shows_what_the_network_says(found):
    moment = found.moments[-1]
    parameters, *_ = recomputed(moment.step)
    for row, column in ((0, 0), (10, 50), (55, 3)):
        point = np.array([[found.plane.ticks[0][column]], [found.plane.ticks[1][row]]])
        assert moment.boundary[row, column] == pytest.approx(manual.forward_propagation(point, parameters)[0].item())


def test_the_loss_shown_is_that_of_textbooks(found):
    (words,) = (step.words for step in found.steps if step.name == "loss")
    assert "J = −(1/m) ∑ (y log A2 + (1 − y) log(1 − A2))" in words  # what `recomputed` holds the numbers to


@pytest.mark.campaign
def test_another_network_on_other_data_is_taught(tmp_path):
    """Labels of text, three classes, three features: no plane, and an output for each class."""
    rows = [f"{i % 3};{i % 5};{(i * i) % 7};{'abc'[i % 3]}" for i in range(24)]
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(["p;q;r;kind", *rows]), encoding="utf-8")
    found = lesson(dataset=str(path), hidden=3, learning_rate=0.5, iterations=5)
    assert found.verdict is Verdict.AGREE
    assert found.plane is None
    assert found.moments[0].numbers["dW1"].shape == (3, 3)
    assert found.moments[0].numbers["dW2"].shape == (3, 3)
    assert len(found.losses) == 6
    assert "The network has 3 hidden tanh units and 3 sigmoid outputs." in found.about[0]
    assert any("each of the 3 classes has an output: a, b, c" in sentence for sentence in found.about)


@pytest.mark.sweep
@pytest.mark.parametrize("activation", [name for name in shallow.ACTIVATIONS if name != "tanh"])
def test_every_other_activation_has_a_subject_whose_gradient_agrees(activation):
    subject = shallow.subject(seed=0, activation=activation, hidden=5, iterations=1)
    report = check_gradients(subject.by_hand, subject.loss, subject.parameters, *subject.args, probes=False)
    assert report.verdict is Verdict.AGREE
    assert [step.name for step in subject.steps if step.backward] == [
        "d loss",
        "d 2.dense",
        f"d 1.{activation}",
        "d 0.dense",
    ]
    assert subject.boundary is not None
    picture = subject.boundary(subject.parameters)
    assert picture.shape == (shallow.GRID, shallow.GRID)
    assert 0 <= picture.min() < picture.max() <= 1


def test_several_outputs_at_once_have_no_softmax(tmp_path):
    x, y = np.random.default_rng(0).standard_normal((12, 2)), np.arange(24).reshape(12, 2) % 3 > 0
    np.savez(tmp_path / "many.npz", x=x, y=y)
    with pytest.raises(BadInput, match="several classes at once"):
        shallow.subject(seed=0, dataset=str(tmp_path / "many.npz"), activation="relu")
    assert shallow.subject(seed=0, dataset=str(tmp_path / "many.npz")).parameters["W2"].shape == (2, 4)
