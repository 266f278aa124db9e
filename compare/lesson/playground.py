"""The network of the playground: the backward pass of the lesson, with a wrong version of each line.

    Z1 = W1 x + b1      A1 = f(Z1)      Z2 = W2 A1 + b2      A2 = sigmoid(Z2)

The lines are executed as they are shown. The page computes the same in JavaScript. A test compares both with `manual`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import manual
from compare.judge.evaluation.intermediates import tap
from compare.judge.gradients import check_gradients
from compare.lesson.content import Plane
from compare.platform import precise
from compare.suite.datasets import load
from manual.activations import sigmoid


@dataclass(frozen=True)
class Line:
    """A line of the backward pass, and a common mistake in it.

    Attributes:
        name: The quantity that the line computes.
        right: The line.
        wrong: The line with the mistake.
        fault: A sentence on the mistake.
    """

    name: str
    right: str
    wrong: str
    fault: str


# For each activation, the line of dZ1, a wrong version of it, and the mistake.
ACTIVATIONS = {
    "tanh": (
        "dZ1 = dA1 * (1 - A1**2)",
        "dZ1 = dA1 * (1 - Z1**2)",
        "The derivative is computed from Z1 and not from A1.",
    ),
    "relu": ("dZ1 = dA1 * (Z1 > 0)", "dZ1 = dA1 * A1", "The value of relu is used in place of its derivative."),
    "sigmoid": ("dZ1 = dA1 * A1 * (1 - A1)", "dZ1 = dA1 * (1 - A1)", "The factor A1 of the derivative is missing."),
}
_HAND: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "sigmoid": lambda z: sigmoid(z)[0],
}
_JAX = {"tanh": jnp.tanh, "relu": jax.nn.relu, "sigmoid": jax.nn.sigmoid}


MEAN = "It is a mean over the examples and should be a sum."


def lines(activation: str) -> list[Line]:
    """The lines of the backward pass, in their order."""
    return [
        Line(
            "dZ2",
            "dZ2 = (A2 - y) / m",
            "dZ2 = A2 - y",
            "The 1/m of the average is missing: all gradients are m times too large.",
        ),
        Line(
            "dW2", "dW2 = dZ2 @ A1.T", "dW2 = dZ2 @ Z1.T", "The value before the activation is used, not the one after."
        ),
        Line("db2", "db2 = dZ2.sum(axis=1)", "db2 = dZ2.mean(axis=1)", MEAN),
        Line("dA1", "dA1 = W2.T @ dZ2", "dA1 = -W2.T @ dZ2", "There is one minus sign too many."),
        Line("dZ1", *ACTIVATIONS[activation]),
        Line(
            "dW1", "dW1 = dZ1 @ x.T", "dW1 = dZ1 @ x.T / m", "It is divided by m twice: dZ1 has the factor 1/m already."
        ),
        Line("db1", "db1 = dZ1.sum(axis=1)", "db1 = dZ1.mean(axis=1)", MEAN),
    ]


def by_hand(activation: str, broken: str = "") -> Callable[..., tuple[float, dict[str, Any], dict[str, Any]]]:
    """A function `(parameters, x, y) -> (loss, gradients, intermediates)` that executes the lines.

    Args:
        activation: A name in ACTIVATIONS.
        broken: The name of the line that is replaced by its wrong version; empty for none.

    The biases are vectors: b1 (units,), b2 (1,).
    """
    source = "\n".join(line.wrong if line.name == broken else line.right for line in lines(activation))
    program = compile(source, f"<backward pass, {broken or 'unbroken'}>", "exec")

    def loss_and_gradients(
        parameters: Any, x: np.ndarray, y: np.ndarray
    ) -> tuple[float, dict[str, Any], dict[str, Any]]:
        Z1 = parameters["W1"] @ x + parameters["b1"][:, np.newaxis]
        A1 = _HAND[activation](Z1)
        Z2 = parameters["W2"] @ A1 + parameters["b2"][:, np.newaxis]
        values = {"x": x, "y": y, "m": x.shape[1], "W2": parameters["W2"], "Z1": Z1, "A1": A1, "A2": sigmoid(Z2)[0]}
        exec(program, values)
        loss = float(manual.compute_loss(Z2, y))
        gradients = {name: values[f"d{name}"] for name in ("W1", "W2", "b1", "b2")}
        return loss, gradients, {name: values[f"d{name}"] for name in ("Z2", "A1", "Z1")}

    return loss_and_gradients


def loss_in_jax(activation: str) -> Callable[..., Any]:
    """The same loss in JAX, whose gradient the lines are compared with."""

    def loss(parameters: Any, x: Any, y: Any) -> Any:
        Z1 = tap("Z1", parameters["W1"] @ x + parameters["b1"][:, None])
        A1 = tap("A1", _JAX[activation](Z1))
        Z2 = tap("Z2", parameters["W2"] @ A1 + parameters["b2"][:, None])
        return jnp.sum(jnp.maximum(Z2, 0) - y * Z2 + jnp.log1p(jnp.exp(-jnp.abs(Z2)))) / x.shape[1]

    return loss


@dataclass(frozen=True)
class Judged:
    """The judge's verdict on a backward pass, and its sentence."""

    verdict: str
    sentence: str


@dataclass(frozen=True)
class Playground:
    """What the playground of a page needs.

    Attributes:
        data: Data sets with two features and two classes, by name.
        verdicts: The judge's verdicts, by activation and by broken line, "" for none.
        hidden: The number of hidden units at the start.
        chosen: The data set at the start; the first if it is empty.
        activation: The activation at the start.
        rate: The learning rate at the start.
    """

    data: dict[str, tuple[np.ndarray, np.ndarray]]
    verdicts: dict[str, dict[str, Judged]]
    hidden: int
    chosen: str = ""
    activation: str = "tanh"
    rate: float = 1.0


HIDDEN, EXAMPLES = 6, 60
OWN = "data of the lesson"


def playground(
    own: Plane | None = None, *, seed: int = 0, settings: Mapping[str, Any] = MappingProxyType({})
) -> Playground:
    """A playground that begins with the settings of a lesson.

    Args:
        own: The data of the lesson, which are added to the generated data sets.
        seed: The seed of the data and the weights.
        settings: The settings of the lesson. Those that the playground does not have are ignored.

    Returns:
        The playground. The judge's verdicts are computed on the first data set at the initial weights, because the
        cause of a broken line does not depend on the data.
    """
    data = {}
    for name in ("moons", "flower"):
        problem = load(name, seed=seed)
        data[name] = problem.train_x[:, :EXAMPLES], problem.train_y[:, :EXAMPLES]
    x, y = data["moons"]
    if own is not None and not any(np.array_equal(own.x, known[:, : own.x.shape[1]]) for known, _ in data.values()):
        data[OWN] = own.x, own.y
    hidden, activation = settings.get("hidden", HIDDEN), settings.get("activation")
    begin = {
        "chosen": OWN if OWN in data else next((name for name in data if name == settings.get("dataset")), ""),
        "activation": activation if activation in ACTIVATIONS else "tanh",
        "rate": settings.get("learning_rate", 1.0),
    }
    random = np.random.default_rng(seed)
    shapes = {"W1": (hidden, 2), "b1": (hidden,), "W2": (1, hidden), "b2": (1,)}
    parameters = {name: random.standard_normal(shape) for name, shape in shapes.items()}
    verdicts = {}
    with precise(parameters):
        for activation in ACTIVATIONS:
            loss = loss_in_jax(activation)
            verdicts[activation] = {
                broken: _judged(check_gradients(by_hand(activation, broken), loss, parameters, x, y, probes=False))
                for broken in ("", *(line.name for line in lines(activation)))
            }
    return Playground(data, verdicts, hidden, **begin)


def _judged(report: Any) -> Judged:
    return Judged(report.verdict.value, report.sentence)
