"""The lesson on the notebook's network, which follows one example through every line of `manual.shallow`."""

import inspect
from dataclasses import replace
from itertools import repeat
from typing import Any

import numpy as np

import autodiff
import autodiff.shallow
import manual
import manual.shallow
from compare.errors import BadInput, unknown
from compare.lesson.content import Plane, Quantity, Step, all_or_first, counted
from compare.lesson.formulas import formulas_of_lines
from compare.lesson.layered import described_subject
from compare.lesson.source import Excerpt, assignment, returned
from compare.lesson.subject import SecondOrder, Subject
from compare.suite.datasets import load
from compare.suite.models import network_model
from compare.suite.problem import Problem
from compare.suite.shallow import shallow_by_hand, shallow_loss
from manual.activations import softmax

HIDDEN, EXAMPLES, SCALE = 4, 40, 0.5
LEARNING_RATE, ITERATIONS = 1.0, 300
GRID = 56  # points along each axis of the picture
ACTIVATIONS = ("tanh", "relu", "sigmoid", "leaky_relu", "elu", "selu", "softplus", "gelu", "silu")

# For each forward step, its title and an explanation.
FORWARD = {
    "Z1": ("A weighted sum for every hidden unit", "Each row of W1 belongs to a unit, each column of x to an example."),
    "A1": (
        "The activation",
        "tanh is nonlinear. Without it, the two linear layers together would be one linear layer.",
    ),
    "Z2": (
        "The output layer",
        "It computes one number for every example, the logit. A positive logit predicts class 1.",
    ),
    "A2": ("The logit as a probability", "The sigmoid maps every logit into the interval from 0 to 1."),
    "loss": (
        "How wrong is the prediction?",
        "The loss is the binary cross-entropy, averaged over the examples. Textbooks write it as "
        "J = −(1/m) ∑ (y log A2 + (1 − y) log(1 − A2)). With A2 = sigmoid(Z2), the formula here has the same value. It "
        "uses the logits Z2, because the form with log A2 meets log 0 as soon as A2 rounds to 0 or 1.",
    ),
}

# For each backward step, the forward line that it differentiates, its title and an explanation.
BACKWARD = {
    "Z2": (
        "loss",
        "Begin at the loss",
        "By the chain rule dJ/dZ2 = dJ/dA2 · A2 (1 − A2), where the last factor is the derivative of the sigmoid. "
        "Since dJ/dA2 = (A2 − y) / (A2 (1 − A2)) / m, that factor cancels, and the error A2 − y of the prediction is "
        "left, divided by m. The factor 1/m of the average appears in this step only.",
    ),
    "W2": (
        "Z2",
        "The weights of the output layer",
        "A weight is multiplied by an activation. So each example contributes dZ2 times that activation, and the "
        "matrix product adds up the contributions of all examples.",
    ),
    "b2": (
        "Z2",
        "The bias of the output layer",
        "Every example uses the same bias, multiplied by 1. So its gradient is the sum of dZ2 over the examples.",
    ),
    "A1": (
        "Z2",
        "Back through the weights",
        "A hidden unit affects the loss through its weights in W2. The backward pass uses the same weights in the "
        "opposite direction, from outputs to hidden units. This is why W2 is transposed.",
    ),
    "Z1": (
        "A1",
        "Back through the activation",
        "The derivative of tanh is 1 − tanh², a function of the value A1, which the forward pass has computed already. "
        "For a saturated unit, with A1 near ±1, it is almost 0, so that almost no gradient passes.",
    ),
    "W1": (
        "Z1",
        "The weights of the hidden layer",
        "The same rule as for W2: the gradient of the weighted sum times the input of the weight, which here is the "
        "data.",
    ),
    "b1": ("Z1", "The bias of the hidden layer", "As for b2, the gradient is a sum over the examples."),
}

# For each step of second order, the forward line that it differentiates, its title and an explanation.
ALONG = {
    "Z1": ("Z1", "The weights move", "R of a product has two terms. x does not move, so that one of them is 0 here."),
    "A1": (
        "A1",
        "Through the activation",
        "R of a function value is the derivative of the function times R of its input.",
    ),
    "Z2": ("Z2", "Weights and activations move", "Both factors of the product move, so that there are two terms."),
    "A2": ("A2", "The prediction moves", "RA2 is RZ2 times the derivative of the sigmoid, A2 (1 − A2)."),
    "dZ2": ("loss", "Begin at the loss again", "y does not move, so that R of (A2 − y) / m is RA2 / m."),
    "dW2": ("Z2", "Two terms for a product", "Both the error dZ2 and the activation A1 move."),
    "db2": ("Z2", "A sum moves as its terms do", "R of a sum is the sum of R of its terms, because R is linear."),
    "dA1": (
        "Z2",
        "Back through weights that move",
        "There is a second term, because W2 is a parameter and moves, too.",
    ),
    "dZ1": (
        "A1",
        "Back through the activation, whose slope moves",
        "The derivative 1 − A1² of tanh moves as well, by −2 A1 RA1. This is the second derivative of tanh times RZ1. "
        "Without the second term, the result would be the product of another matrix with the vector.",
    ),
    "dW1": (
        "Z1",
        "The weights of the hidden layer",
        "There is one term, because x does not move. This is the part of the Hessian-vector product that belongs to "
        "W1.",
    ),
    "db1": ("Z1", "The bias of the hidden layer", "As for Rdb2, it is a sum over the examples."),
}


DEFAULTS: dict[str, Any] = {
    "dataset": "moons",
    "hidden": HIDDEN,
    "activation": "tanh",
    "learning_rate": LEARNING_RATE,
    "iterations": ITERATIONS,
}
MOST = {"hidden": 64, "iterations": 10_000}  # The largest values: a lesson is there to be read.
NAMED = {"moons": "two interleaving half circles", "flower": "a flower of two classes"}


def subject(*, seed: int, **given: Any) -> Subject:
    """The lesson on 40 examples and a network of 4 hidden units, which is small enough to look at every number.

    Args:
        seed: The seed of the data and the initial weights.
        given: Options that replace those in DEFAULTS. `manual.shallow` has tanh as its activation. With any other, the
            network is made of the layers of `manual.network`, with a softmax for its outputs.

    Raises:
        BadInput: For an unknown option, or an unsuitable value.
    """
    options = chosen(given)
    if options["activation"] != DEFAULTS["activation"]:
        return one_hidden(options, seed=seed)
    problem = load(options["dataset"], seed=seed)
    x, y = problem.train_x[:, :EXAMPLES], problem.train_y[:, :EXAMPLES]
    sizes, rate = manual.layer_structure(x, y, options["hidden"]), options["learning_rate"]
    parameters = manual.initialize_parameters(*sizes, seed=seed, scale=SCALE)
    plane = plane_of(x, y)

    def boundary(parameters: Any) -> np.ndarray:
        assert plane is not None
        return manual.forward_propagation(plane.grid, parameters)[0].reshape(plane.y_and_x)

    random = np.random.default_rng(seed)
    vector = {name: random.standard_normal(value.shape) for name, value in parameters.items()}

    def update(parameters: Any, gradients: Any, state: None) -> tuple[Any, None]:
        return manual.update_parameters(parameters, gradients, rate), None

    outputs = "a sigmoid output" if len(y) == 1 else f"{len(y)} sigmoid outputs"
    return Subject(
        model="shallow",
        title="One hidden layer, every derivative by hand",
        about=[
            f"The data are {_described(problem, x)}. The network has {options['hidden']} hidden tanh units and "
            f"{outputs}. It is trained by plain gradient descent at learning rate {rate:g}, with all examples in every "
            "step.",
            "Columns are examples. dQ means dJ/dQ, the gradient of the loss with respect to Q. Of an array with a "
            "column for every example, the first column is shown. So you can follow one "
            f"example{', ringed in the picture,' if plane else ''} through the network and back.",
            *problem.notes,
        ],
        iterations=options["iterations"],
        settings=options | {"examples": x.shape[1], "scale": SCALE, "seed": seed},
        steps=steps(),
        root=assignment(autodiff.shallow, "_compiled_value_and_grad"),
        parameters=parameters,
        args=(x, y),
        by_hand=shallow_by_hand,
        loss=shallow_loss,
        values=lambda parameters, x, y: manual.forward_propagation(x, parameters)[1]._asdict(),
        values_by_jax=lambda parameters, x, y: autodiff.forward_propagation(x, parameters)[1]._asdict(),
        update=update,
        state=None,
        where=lambda values: all_or_first(values.shape),
        plane=plane,
        boundary=boundary if plane else None,
        second=SecondOrder(vector, along_by_hand, returned(inspect.unwrap(autodiff.shallow._compiled_hvp))),
    )


def chosen(given: dict[str, Any]) -> dict[str, Any]:
    """All options, with their defaults. Raises BadInput for an unknown option or an unsuitable value."""
    for option, value in given.items():
        flag = f"--{option.replace('_', '-')}"
        if option not in DEFAULTS:
            known = ", ".join(f"--{name.replace('_', '-')}" for name in DEFAULTS)
            raise BadInput(f"{flag} does not apply to the lesson on shallow, which takes {known}.")
        if isinstance(value, int | float) and not 0 < value < float("inf"):
            raise BadInput(f"{flag} must be positive and finite, got {value}.")
        if value is not None and option in MOST and value > MOST[option]:
            raise BadInput(f"{flag} must be at most {MOST[option]} in a lesson, got {value}.")
    options = DEFAULTS | given
    if options["activation"] not in ACTIVATIONS:
        raise unknown("activation", options["activation"], ACTIVATIONS)
    return options


def one_hidden(options: dict[str, Any], *, seed: int) -> Subject:
    """The lesson on a hidden layer with any activation and a softmax output. Rows are examples."""
    problem = load(options["dataset"], seed=seed)
    x, y = problem.train_x[:, :EXAMPLES], problem.train_y[:, :EXAMPLES]
    if len(y) > 1 and not (y.sum(axis=0) == 1).all():
        raise BadInput(
            f"{problem.name}: an example may belong to several classes at once, but a softmax assigns it to one. "
            "Choose --activation tanh, which has independent outputs."
        )
    labels = (y.argmax(axis=0) if len(y) > 1 else y[0]).astype(int)
    description = [
        {"kind": "dense", "features": options["hidden"]},
        {"kind": options["activation"]},
        {"kind": "dense", "features": max(len(y), 2)},
    ]
    model = network_model(
        description,
        (len(x),),
        seed=seed,
        dtype="float64",
        ops=manual,
        data=f"The data are {_described(problem, x)}. The network has {options['hidden']} hidden "
        f"{options['activation']} units and a softmax over {max(len(y), 2)} classes.",
        batches=lambda: repeat((x.T, labels)),
        held_out=None,
    )
    found = described_subject("shallow", "One hidden layer", model, options | {"optimizer": "sgd"}, seed=seed)
    plane = plane_of(x, y)

    def boundary(parameters: Any) -> np.ndarray:
        assert plane is not None
        return softmax(model.predict(parameters, plane.grid.T))[0][:, 1].reshape(plane.y_and_x)

    return replace(found, plane=plane, boundary=boundary if plane else None)


def _described(problem: Problem, x: np.ndarray) -> str:
    used, known = x.shape[1], problem.train_x.shape[1] + problem.test_x.shape[1]
    count = counted(known, "example") if used == known else f"{used} of {counted(known, 'example')}"
    return f"{count} of {NAMED.get(problem.name, problem.name)}"


def plane_of(x: np.ndarray, y: np.ndarray) -> Plane | None:
    """The plane of two features and two classes, a little larger than the data. None for other data."""
    if len(x) != 2 or len(y) != 1:
        return None
    horizontal, vertical = (np.linspace(row.min() - 0.4, row.max() + 0.4, GRID) for row in x)
    return Plane(x, y, (horizontal, vertical))


def along_by_hand(parameters: Any, vector: Any, x: Any, y: Any) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """The Hessian-vector product, and R of all intermediate values and gradients."""
    _, cache = manual.forward_propagation(x, parameters)
    values, gradients = manual.shallow._forward_along(parameters, vector, x, cache)._asdict(), {}
    product = manual.hessian_vector_product(parameters, vector, x, y, intermediates=gradients)
    return product, values, gradients


def steps() -> list[Step]:
    """The forward steps, the backward steps, and those of second order, in the order of `manual.shallow`."""
    forward = []
    for name, (title, words) in FORWARD.items():
        by_hand, by_jax = _forward(manual, name), _forward(autodiff, name)
        page = manual.shallow.compute_loss if name == "loss" else manual.shallow.forward_propagation
        written = formulas_of_lines(page, by_hand, result="J")
        forward.append(Step(name, False, title, words, by_hand, by_jax, [Quantity(name, name, False)], written))
    backward, page = [], manual.shallow.backpropagation
    for name, (through, title, words) in BACKWARD.items():
        by_hand, by_jax = [assignment(page, f"d{name}")], _forward(autodiff, through)
        written = formulas_of_lines(page, by_hand)
        quantities = [Quantity(f"d{name}", name, True)]
        backward.append(Step(f"d{name}", True, title, words, by_hand, by_jax, quantities, written))
    return forward + backward + [_along(name) for name in ALONG]


def _along(name: str) -> Step:
    through, title, words = ALONG[name]
    gradient = name.startswith("d")
    page = manual.shallow._backward_along if gradient else manual.shallow._forward_along
    by_hand, by_jax = [assignment(page, f"R{name}")], _forward(autodiff, through)
    quantities = [Quantity(f"R{name}", name.removeprefix("d"), gradient, along=True)]
    written = formulas_of_lines(page, by_hand)
    return Step(f"R{name}", False, title, words, by_hand, by_jax, quantities, written, order=2)


def _forward(side: Any, name: str) -> list[Excerpt]:
    """The line of the forward pass that computes a quantity. The loss takes two lines."""
    if name == "loss":
        loss = side.shallow.compute_loss
        return [assignment(loss, "terms"), returned(loss)]
    return [assignment(side.shallow.forward_propagation, name)]
