"""The notebook's network as a lesson: one example is followed through every line of `manual.shallow`."""

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
from compare.lesson.content import Plane, Quantity, Step, all_or_first
from compare.lesson.formulas import formulas_of_lines
from compare.lesson.layered import described_subject
from compare.lesson.source import Excerpt, assignment, returned
from compare.lesson.subject import SecondOrder, Subject
from compare.suite.datasets import load
from compare.suite.models import network_model
from compare.suite.shallow import shallow_by_hand, shallow_loss
from manual.activations import softmax

HIDDEN, EXAMPLES, SCALE = 4, 40, 0.5
LEARNING_RATE, ITERATIONS = 1.0, 300
GRID = 56  # points along each axis of the picture
ACTIVATIONS = ("tanh", "relu", "sigmoid", "leaky_relu", "elu", "selu", "softplus", "gelu", "silu")

# Name and title of each step forward, and why it is so.
FORWARD = {
    "Z1": ("A weighted sum for every hidden unit", "Each row of W1 belongs to a unit, each column of x to an example."),
    "A1": ("Squashed", "Without a bend between them, two linear layers would be one linear layer."),
    "Z2": ("The hidden units vote", "One number for every example: its logit, positive where the vote is for class 1."),
    "A2": ("The vote as a probability", "sigmoid maps every logit into the interval from 0 to 1."),
    "loss": (
        "How wrong is that?",
        "Binary cross-entropy, averaged over the examples: the surprise at the right labels. In textbooks it is "
        "J = −(1/m) ∑ (y log A2 + (1 − y) log(1 − A2)). With A2 = sigmoid(Z2) what is shown here equals that; it is "
        "written from the logits Z2, because the form with log A2 meets log 0 as soon as A2 rounds to 0 or 1.",
    ),
}

# The quantity of each step backward, the forward line it goes back through, its title, and why it is so.
BACKWARD = {
    "Z2": (
        "loss",
        "Begin at the loss",
        "By the chain rule dJ/dZ2 = dJ/dA2 · A2 (1 − A2), the last factor being the sigmoid's derivative. With "
        "dJ/dA2 = (A2 − y) / (A2 (1 − A2)) / m it cancels: what is left is how far the prediction is off. The 1/m "
        "of the average appears here, once.",
    ),
    "W2": (
        "Z2",
        "What did each weight carry?",
        "A weight multiplies the activation that it carries. So each example contributes dZ2 times that activation, "
        "and the product of matrices adds up the contributions of all examples.",
    ),
    "b2": ("Z2", "The bias carries 1", "A bias is used by every example alike, so it hears from all of them: a sum."),
    "A1": (
        "Z2",
        "Back through the weights",
        "A hidden unit reaches the loss through its weight in W2. Backward the same weights are used the other way "
        "around, hence the transpose.",
    ),
    "Z1": (
        "A1",
        "Back through the bend",
        "tanh' = 1 - tanh²: a function of the value, which the forward pass has computed already. A saturated unit, "
        "with A1 near ±1, lets hardly anything through.",
    ),
    "W1": (
        "Z1",
        "The first weights, as the second",
        "The same rule as for W2: what arrives at the sum, times what the weight carries, which here is the data.",
    ),
    "b1": ("Z1", "And the first bias", "As for b2: the sum over the examples."),
}

# What R is taken of in each step of second order, the forward line that it goes through, its title, and why it is so.
ALONG = {
    "Z1": ("Z1", "The weights move", "R of a product has two terms; x stays, so that here one of them is 0."),
    "A1": ("A1", "Through the bend", "R of a function is its slope times R of what it is given."),
    "Z2": ("Z2", "Weights and activations move", "Both factors of the product do, so that there are two terms."),
    "A2": ("A2", "The prediction moves", "By the slope of the sigmoid, A2 (1 − A2)."),
    "dZ2": ("loss", "Begin at the loss again", "y stays; what is left of dZ2 is A2 / m."),
    "dW2": ("Z2", "Two terms for a product", "The error moves, and the activation that it is multiplied by."),
    "db2": ("Z2", "A sum moves as its terms do", "R is linear."),
    "dA1": ("Z2", "Back through weights that move", "The second term is there because W2 is a parameter, too."),
    "dZ1": (
        "A1",
        "Back through the bend, which bends",
        "The slope of tanh moves, too: by −2 A1 RA1, which is the second derivative of tanh times RZ1. Without this "
        "term it would be the product with another matrix.",
    ),
    "dW1": ("Z1", "The first weights", "x stays: one term. This is the first part of the Hessian times the vector."),
    "db1": ("Z1", "And the first bias", "As for Rdb2."),
}


DEFAULTS: dict[str, Any] = {
    "dataset": "moons",
    "hidden": HIDDEN,
    "activation": "tanh",
    "learning_rate": LEARNING_RATE,
    "iterations": ITERATIONS,
}
MOST = {"hidden": 64, "iterations": 10_000}  # a lesson is read
NAMED = {"moons": "two interleaving half circles", "flower": "a flower of two classes"}


def subject(*, seed: int, **given: Any) -> Subject:
    """40 examples of a data set, and a network of 4 hidden units: few enough for every number to be looked at.

    Args:
        seed: For the data and the initial weights.
        given: What is to be instead of DEFAULTS. With another activation than tanh, which is that of `manual.shallow`,
            the network is taken from the layers of `manual.network`, and its outputs from softmax.

    Raises:
        BadInput: For options that there are not, or whose values make no sense.
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
            f"{_described(problem.name, x)}; a network of {options['hidden']} hidden tanh units and {outputs}; plain "
            f"gradient descent at learning rate {rate:g}, all examples in every step.",
            "Columns are examples. dQ means dJ/dQ, the gradient of the loss itself. Of what has a column for every "
            "example, the first is shown: follow that one example"
            f"{', ringed in the picture,' if plane else ''} through the network and back.",
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
    """All options. Raises BadInput for one that there is not, or whose value makes no sense."""
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
    """A hidden layer of any activation, and softmax: the layers of `manual.network`, examples in rows."""
    problem = load(options["dataset"], seed=seed)
    x, y = problem.train_x[:, :EXAMPLES], problem.train_y[:, :EXAMPLES]
    if len(y) > 1 and not (y.sum(axis=0) == 1).all():
        raise BadInput(
            f"{problem.name}: examples have several outputs at once, and a softmax has one class for each. "
            "Take --activation tanh, whose outputs are apart."
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
        data=f"{_described(problem.name, x)}; a network of {options['hidden']} hidden {options['activation']} units "
        f"and a softmax of {max(len(y), 2)} classes.",
        batches=lambda: repeat((x.T, labels)),
        held_out=None,
    )
    found = described_subject("shallow", "One hidden layer", model, options | {"optimizer": "sgd"}, seed=seed)
    plane = plane_of(x, y)

    def boundary(parameters: Any) -> np.ndarray:
        assert plane is not None
        return softmax(model.predict(parameters, plane.grid.T))[0][:, 1].reshape(plane.y_and_x)

    return replace(found, plane=plane, boundary=boundary if plane else None)


def _described(dataset: str, x: np.ndarray) -> str:
    return f"{x.shape[1]} examples of {NAMED.get(dataset, dataset)}"


def plane_of(x: np.ndarray, y: np.ndarray) -> Plane | None:
    """The picture of two features and two classes, a little larger than the data; None for other data."""
    if len(x) != 2 or len(y) != 1:
        return None
    horizontal, vertical = (np.linspace(row.min() - 0.4, row.max() + 0.4, GRID) for row in x)
    return Plane(x, y, (horizontal, vertical))


def along_by_hand(parameters: Any, vector: Any, x: Any, y: Any) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """The Hessian times the vector, and R of all values and gradients on the way."""
    _, cache = manual.forward_propagation(x, parameters)
    values, gradients = manual.shallow._forward_along(parameters, vector, x, cache)._asdict(), {}
    product = manual.hessian_vector_product(parameters, vector, x, y, intermediates=gradients)
    return product, values, gradients


def steps() -> list[Step]:
    """Forward, then backward, then both along a vector, in the order of `manual.shallow`."""
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
    """The line of the forward pass that computes a quantity; the loss has two."""
    if name == "loss":
        loss = side.shallow.compute_loss
        return [assignment(loss, "terms"), returned(loss)]
    return [assignment(side.shallow.forward_propagation, name)]
