"""Every row of docs/notebook.md, run: what the notebook does, then what `manual.shallow` does instead."""

import itertools
import symtable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from manual import shallow

# The notebook's code with the damage from saving undone and its mistakes kept; docstrings and comments are left
# out, and some lines joined. It is a string because it is judged as written, and would not pass a linter.
NOTEBOOK = """
def layer_structure(x, y, hidden_size):
    input_size = x.shape[0]
    hidden_size = hidden_size
    output_size = y.shape[0]
    return (input_size, hidden_size, output_size)
def initialize_parameters(input_size, hidden_size, output_size):
    W_1 = np.random.randn(hidden_size, input_size) * 0.001
    b_1 = np.zeros((hidden_size, 1))
    W_2 = np.random.randn(output_size, hidden_size) * 0.001
    b_2 = np.zeros((output_size, 1))
    parameters = {'W_1': W_1, 'b_1': b_1, 'W_2': W_2, 'b_2': b_2}
    return parameters
def tanh(z):
    t = (np.exp(z)-np.exp(-z))/(np.exp(z)+np.exp(-z))
    return t
def sigmoid(z):
    s = 1/(1+np.exp(-z))
    return s
def forward_propagation(x, parameters):
    W_1, b_1, W_2, b_2 = parameters['W_1'], parameters['b_1'], parameters['W_2'], parameters['b_2']
    Z_1 = np.dot(W_1, x) + b_1
    A_1 = tanh(Z_1)
    Z_2 = np.dot(W_2, A_1) + b_2
    A_2 = sigmoid(Z_2)
    cache = {'Z1': Z_1, 'A1': A_1, 'Z2': Z_2, 'A2': A_2}
    return cache
def compute_loss(A2, y, parameters):
    n_observations = y.shape[1]
    loss = 1/n_observations * np.sum(y*np.log(A2) + (1-y)*np.log(1-A2))
    loss = np.squeeze(loss)
    return loss
def backpropagation(parameters, cache, x, y):
    m = x.shape[1]
    W1, W2 = parameters["W1"], parameters["W2"]
    A1, A2 = cache["A1"], cache["A2"]
    dZ2 = A2 - y
    dW2 = 1/m * np.dot(dZ2, A1.T)
    db2 = 1/m * np.sum(dZ2, axis=1, keepdims=True)
    dZ1 = np.dot(W2.T, dZ2) * (1 - np.power(A1, 2))
    dW1 = 1/m * np.dot(dZ1, x.T)
    db1 = 1/m * np.sum(dZ1, axis=1, keepdims=True)
    grads = {"dW1": dW1, "db1": db1, "dW2": dW2, "db2": db2}
    return grads
def update_parameters(parameters, grads, learning_rate = 1):
    W1, b1, W2, b2 = parameters["W1"], parameters["b1"], parameters["W2"], parameters["b2"]
    dW1, db1, dW2, db2 = grads["dW1"], grads["db1"], grads["dW2"], grads["db2"]
    W1, b1 = W1 - learning_rate*dW1, b1 - learning_rate*db1
    W2, b2 = W2 - learning_rate*dW2, b2 - learning_rate*db2
    parameters = {"W1": W1, "b1": b1, "W2": W2, "b2": b2}
    return parameters
def neural_net(x, y, hidden_size, iterations = 1000):
    input_size = layer_sizes(x, y)[0]
    output_size = layer_sizes(x, y)[2]
    parameters = initialize_parameters(input_size, hidden_size, output_size)
    W1, b1, W2, b2 = parameters["W_1"], parameters["b_1"], parameters["W_2"], parameters["b_2"]
    for i in range(0, num_iterations):
        A2, cache = forward_propagation(x, parameters)
        cost = compute_cost(A2, y, parameters)
        grads = backpropagation(parameters, cache, x, y)
        parameters = update_parameters(parameters, grads)
"""

X = np.random.default_rng(0).standard_normal((3, 20))
Y = np.random.default_rng(1).integers(0, 2, (2, 20)).astype(float)
XOR_X, XOR_Y = np.array([[0.0, 0, 1, 1], [0, 1, 0, 1]]), np.array([[0.0, 1, 1, 0]])


class Repair(NamedTuple):
    error: type[Exception]  # what neural_net raises when only the repairs above this one are made
    message: str
    replacements: list[tuple[str, str]]


# What keeps neural_net from running, in the order in which a run meets it. Keys are rows of the document.
NAMES = [("W_1", "W1"), ("b_1", "b1"), ("W_2", "W2"), ("b_2", "b2")]
CACHE = [("A2, cache = forward", "cache = forward"), ("cost(A2", "cost(cache['A2']")]
REPAIRS = {
    "layer-name": Repair(NameError, "'layer_sizes'", [("layer_sizes(", "layer_structure(")]),
    "layer-arguments": Repair(TypeError, "missing 1 .*'hidden_size'", [("(x, y)[", "(x, y, hidden_size)[")]),
    "iterations-name": Repair(NameError, "'num_iterations'", [("num_iterations", "iterations")]),
    "unpacking": Repair(ValueError, r"too many values to unpack \(expected 2", CACHE),
    "loss-name": Repair(NameError, "'compute_cost'", [("compute_cost", "compute_loss")]),
    "parameter-names": Repair(KeyError, "^'W1'$", NAMES),
}

# What is computed or asked for and never read: row, function, variables.
UNREAD = {
    "no-history": ("neural_net", {"cost"}),
    "unused-argument": ("compute_loss", {"parameters"}),
    "unused-locals": ("neural_net", {"W1", "b1", "W2", "b2"}),
}

# Input that the repaired notebook mishandles: row, arguments, its error if it has one, manual's ValueError.
UNCHECKED = {
    "label-column": ((XOR_X, XOR_Y.T, 4), None, r"x has 4 examples \(columns\) and y has 1"),
    "one-label": ((XOR_X, XOR_Y[:, :1], 4), None, r"x has 4 examples \(columns\) and y has 1"),
    "flat-labels": ((XOR_X, XOR_Y[0], 4), (IndexError, "tuple index out of range"), "x and y must be matrices"),
    "no-examples": ((XOR_X[:, :0], XOR_Y[:, :0], 4), (ZeroDivisionError, "division by zero"), "there are no examples"),
    "hidden-size": ((XOR_X, XOR_Y, 0), None, "hidden_size must be at least 1, got 0"),
}


def notebook(*, unrepaired: str | None = None) -> SimpleNamespace:
    """The notebook's functions, with the repairs that stand above `unrepaired`, or with all."""
    source, namespace = NOTEBOOK, {"np": np}
    for row in itertools.takewhile(lambda row: row != unrepaired, REPAIRS):
        for old, new in REPAIRS[row].replacements:
            assert old in source
            source = source.replace(old, new)
    exec(source, namespace)
    return SimpleNamespace(**namespace)


SAVED, REPAIRED = notebook(unrepaired="layer-name"), notebook()


def run_notebook(parameters: shallow.Parameters, x: np.ndarray, y: np.ndarray, iterations: int) -> np.ndarray:
    """The losses of the repaired notebook's loop."""
    losses = np.empty(iterations)
    for i in range(iterations):
        cache = REPAIRED.forward_propagation(x, parameters)
        losses[i] = REPAIRED.compute_loss(cache["A2"], y, parameters)
        parameters = REPAIRED.update_parameters(parameters, REPAIRED.backpropagation(parameters, cache, x, y))
    return losses


def hidden_unit(z: float) -> float:
    """A1 of `manual` at Z1 = z, in a network of one unit each."""
    parameters = {"W1": np.ones((1, 1)), "b1": np.zeros((1, 1)), "W2": np.ones((1, 1)), "b2": np.zeros((1, 1))}
    return shallow.forward_propagation(np.full((1, 1), z), parameters)[1].A1.item()


def breast_cancer() -> tuple[np.ndarray, np.ndarray]:
    x, y = load_breast_cancer(return_X_y=True)
    return np.asarray(x, float).T, np.asarray(y, float).reshape(1, -1)


def test_every_row_has_a_test_and_every_test_a_row():
    text = (Path(__file__).parents[2] / "docs" / "notebook.md").read_text(encoding="utf-8")
    _, _, *rows = (line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|"))
    functions = [name.removeprefix("test_row_").replace("_", "-") for name in globals() if name.startswith("test_row_")]
    assert sorted(rows) == sorted(f"`{row}`" for row in [*REPAIRS, *UNREAD, *UNCHECKED, *functions])


def test_gradients_are_those_of_the_loss_with_its_minus_sign():
    """Against the complex step, Im f(q + ih) / h: it takes no difference, so it is exact to rounding."""
    parameters = shallow.initialize_parameters(3, 4, 2, scale=1.0)
    cache = REPAIRED.forward_propagation(X, parameters)
    gradients = REPAIRED.backpropagation(parameters, cache, X, Y)
    by_manual = shallow.backpropagation(parameters, shallow.Cache(**cache), X, Y)
    for name, value in parameters.items():
        np.testing.assert_allclose(gradients[f"d{name}"], by_manual[name], rtol=1e-13, atol=1e-15)
        for index in np.ndindex(value.shape):
            moved = value.astype(complex)
            moved[index] += 1e-30j
            A2 = REPAIRED.forward_propagation(X, parameters | {name: moved})["A2"]
            slope = -REPAIRED.compute_loss(A2, Y, parameters).imag / 1e-30
            np.testing.assert_allclose(gradients[f"d{name}"][index], slope, rtol=1e-12, atol=1e-15)


def test_repaired_it_trains_as_manual_does():
    assert REPAIRED.neural_net(X, Y, 4, iterations=3) is None  # the repairs are all that a run needs
    parameters = shallow.initialize_parameters(3, 4, 2)
    _, losses = shallow.train(parameters, X, Y, iterations=100, learning_rate=1.0)
    np.testing.assert_allclose(-run_notebook(parameters, X, Y, 100), losses, rtol=1e-11)


@pytest.mark.parametrize("row", REPAIRS)
def test_it_stops_without_the_repair(row):
    with pytest.raises(REPAIRS[row].error, match=REPAIRS[row].message):
        notebook(unrepaired=row).neural_net(X, Y, 4, iterations=2)
    assert shallow.neural_net(X, Y, 4, iterations=2)[1].shape == (2,)


@pytest.mark.parametrize(("function", "variables"), UNREAD.values(), ids=UNREAD)
def test_it_never_reads(function, variables):
    scopes = {scope.get_name(): scope for scope in symtable.symtable(NOTEBOOK, "notebook", "exec").get_children()}
    assert not any(scopes[function].lookup(variable).is_referenced() for variable in variables)


@pytest.mark.parametrize(("arguments", "error", "message"), UNCHECKED.values(), ids=UNCHECKED)
def test_input_goes_unchecked(arguments, error, message):
    with pytest.raises(error[0], match=error[1]) if error else nullcontext():
        assert REPAIRED.neural_net(*arguments, iterations=2) is None
    with pytest.raises(ValueError, match=message):
        shallow.neural_net(*arguments, iterations=2)


@pytest.mark.parametrize("y", [XOR_Y.T, XOR_Y[:, :1]], ids=["label column", "one label"])
def test_row_two_counts(y):
    parameters = shallow.initialize_parameters(2, 4, len(y))
    moved = parameters | {"b2": parameters["b2"] + 1e-30j}
    slope = -REPAIRED.compute_loss(REPAIRED.forward_propagation(XOR_X, moved)["A2"], y, moved).imag / 1e-30
    cache = REPAIRED.forward_propagation(XOR_X, parameters)
    assert cache["A2"].shape == (len(y), 4)
    gradients = REPAIRED.backpropagation(parameters, cache, XOR_X, y)
    assert gradients["db2"].sum() == pytest.approx(slope / 4)
    broadcast = REPAIRED.backpropagation(parameters, cache, XOR_X, np.repeat(y, 4, axis=1))
    assert all((gradients[name] == broadcast[name]).all() for name in gradients)


def test_row_updated_names():
    parameters = shallow.initialize_parameters(3, 4, 2)
    updated = SAVED.update_parameters(parameters, {f"d{name}": 0 for name in parameters})
    with pytest.raises(KeyError, match=r"^'W_1'$"):
        SAVED.forward_propagation(X, updated)
    assert shallow.update_parameters(parameters, parameters, 0.1).keys() == parameters.keys()


def test_row_minus_sign():
    A2, y = np.array([[0.9, 0.2]]), np.array([[1.0, 0.0]])
    assert SAVED.compute_loss(A2, y, None) == pytest.approx(-0.164252, abs=1e-6)
    assert shallow.compute_loss(np.log(A2 / (1 - A2)), y) == pytest.approx(0.164252, abs=1e-6)


def test_row_tanh_overflow():
    assert SAVED.tanh(np.float64(709.78)) == 1
    for z in (709.79, -709.79):
        overflow = pytest.warns(RuntimeWarning, match="overflow encountered in exp")
        with pytest.warns(RuntimeWarning, match="invalid value encountered"), overflow:
            assert np.isnan(SAVED.tanh(np.float64(z)))
        assert hidden_unit(z) == np.sign(z)


def test_row_unscaled_data():
    x, y = breast_cancer()
    parameters = shallow.initialize_parameters(30, 16, 1, scale=0.001)
    with np.errstate(all="ignore"):
        losses = run_notebook(parameters, x, y, 3)
    assert np.isfinite(losses).tolist() == [True, False, False]
    assert np.isfinite(shallow.train(parameters, x, y, iterations=300, learning_rate=1.0)[1]).all()


def test_row_tanh_cancellation():
    error = SAVED.tanh(np.float64(1e-10)) / 1e-10 - 1  # tanh z = z - z^3/3 + ..., so 1e-10 to every digit
    assert error == pytest.approx(8.27e-8, rel=0.01)
    assert SAVED.tanh(np.float64(1e-17)) == 0
    assert [hidden_unit(z) for z in (1e-10, 1e-17)] == [1e-10, 1e-17]


def test_row_sigmoid_overflow():
    assert 0 < SAVED.sigmoid(np.float64(-709.78)) < 1e-308
    with pytest.warns(RuntimeWarning, match="overflow encountered in exp"):
        assert SAVED.sigmoid(np.float64(-709.79)) == 0
    assert shallow.sigmoid(np.array([-710.0])) == pytest.approx(4.476e-309, rel=1e-3)


@pytest.mark.parametrize(
    ("z", "y", "loss"),
    [(36, 0, -36.0437), (36.73, 0, -36.0437), (36.74, 0, -np.inf), (36.74, 1, np.nan), (-710, 1, -np.inf)],
)
def test_row_log_zero(z, y, loss):
    Z2, labels = np.full((1, 1), float(z)), np.full((1, 1), float(y))
    with np.errstate(all="ignore"):
        assert SAVED.compute_loss(SAVED.sigmoid(Z2), labels, None) == pytest.approx(loss, abs=1e-4, nan_ok=True)
    assert shallow.compute_loss(Z2, labels) == pytest.approx(np.logaddexp(0, z if y == 0 else -z), rel=1e-9, abs=0)


def test_row_small_weights():
    def losses(x, y, scale, seed, iterations):
        parameters = shallow.initialize_parameters(len(x), 4, 1, seed=seed, scale=scale)
        return shallow.train(parameters, x, y, iterations=iterations, learning_rate=1.0)[1]

    x, y = breast_cancer()
    x = (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)
    for seed in range(5):
        assert losses(XOR_X, XOR_Y, 0.001, seed, 1000)[-1] == pytest.approx(np.log(2), abs=1e-6)
        assert losses(XOR_X, XOR_Y, 0.1, seed, 1000)[-1] < 0.01
        assert 8 <= np.argmax(losses(x, y, 0.001, seed, 20) < np.log(2) / 2) <= 10
        assert 3 <= np.argmax(losses(x, y, 0.1, seed, 20) < np.log(2) / 2) <= 5


def test_row_unseeded():
    first, second = (SAVED.initialize_parameters(3, 4, 2)["W_1"] for _ in range(2))
    assert (first != second).all()
    first, second = (shallow.initialize_parameters(3, 4, 2, seed=7)["W1"] for _ in range(2))
    assert (first == second).all()


def test_row_float32():
    for dtype, worked_in in ((np.float32, np.float32), (np.float64, np.float64), (np.int64, np.float64)):
        cache = SAVED.forward_propagation(XOR_X.astype(dtype), SAVED.initialize_parameters(2, 4, 1))
        assert {value.dtype for value in cache.values()} == {np.dtype(np.float64)}
        parameters, losses = shallow.neural_net(XOR_X.astype(dtype), XOR_Y.astype(int), 4, iterations=1)
        assert {value.dtype for value in (*parameters.values(), losses)} == {np.dtype(worked_in)}


def test_row_learning_rate():
    with pytest.raises(TypeError, match="unexpected keyword argument 'learning_rate'"):
        REPAIRED.neural_net(X, Y, 4, learning_rate=0.1)
    slow, fast = (shallow.neural_net(X, Y, 4, iterations=9, learning_rate=rate)[1][-1] for rate in (0.1, 1.0))
    assert fast < slow


def test_row_no_result():
    assert REPAIRED.neural_net(X, Y, 4, iterations=1) is None
    parameters, losses = shallow.neural_net(X, Y, 4, iterations=50)
    assert parameters.keys() == {"W1", "b1", "W2", "b2"}
    assert losses.shape == (50,)


def test_row_no_prediction():
    assert not [name for name in vars(SAVED) if "predict" in name]
    parameters, _ = shallow.neural_net(XOR_X, XOR_Y, 4)
    assert (shallow.predict(XOR_X, parameters) == XOR_Y).all()


def test_row_squeeze():
    loss = np.sum(np.ones((2, 3)))
    assert type(np.squeeze(loss)) is type(loss) is np.float64
    assert type(shallow.compute_loss(X, X)) is np.float64
