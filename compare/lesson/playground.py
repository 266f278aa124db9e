"""The network of the playground: the backward pass of the lesson, with a wrong version of each line.

    Z1 = W1 x + b1      A1 = f(Z1)      Z2 = W2 A1 + b2      A2 = sigmoid(Z2)

The lines are run as they are shown. The page has the same mathematics as a small script; a test holds both to `manual`.
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
    """A line of the backward pass, and a fault in it that people make."""

    name: str
    right: str
    wrong: str
    fault: str


# f' as it stands in the line of dZ1, and what is written there by mistake.
ACTIVATIONS = {
    "tanh": ("dZ1 = dA1 * (1 - A1**2)", "dZ1 = dA1 * (1 - Z1**2)", "The derivative is taken at Z1, where A1 belongs."),
    "relu": ("dZ1 = dA1 * (Z1 > 0)", "dZ1 = dA1 * A1", "The value of relu stands where its derivative belongs."),
    "sigmoid": ("dZ1 = dA1 * A1 * (1 - A1)", "dZ1 = dA1 * (1 - A1)", "One factor of the derivative is forgotten."),
}
_HAND: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "sigmoid": lambda z: sigmoid(z)[0],
}
_JAX = {"tanh": jnp.tanh, "relu": jax.nn.relu, "sigmoid": jax.nn.sigmoid}


def lines(activation: str) -> list[Line]:
    """The backward pass, in its order."""
    return [
        Line("dZ2", "dZ2 = (A2 - y) / m", "dZ2 = A2 - y", "The average's 1/m is forgotten: every gradient is m times."),
        Line("dW2", "dW2 = dZ2 @ A1.T", "dW2 = dZ2 @ Z1.T", "The weights meet the sums before the bend, not after."),
        Line("db2", "db2 = dZ2.sum(axis=1)", "db2 = dZ2.mean(axis=1)", "A mean over the examples where a sum belongs."),
        Line("dA1", "dA1 = W2.T @ dZ2", "dA1 = -W2.T @ dZ2", "A minus sign too many."),
        Line("dZ1", *ACTIVATIONS[activation]),
        Line("dW1", "dW1 = dZ1 @ x.T", "dW1 = dZ1 @ x.T / m", "Divided by m once more: dZ1 has the 1/m already."),
        Line("db1", "db1 = dZ1.sum(axis=1)", "db1 = dZ1.mean(axis=1)", "A mean over the examples where a sum belongs."),
    ]


def by_hand(activation: str, broken: str = "") -> Callable[..., tuple[float, dict[str, Any], dict[str, Any]]]:
    """`(parameters, x, y) -> (loss, gradients, intermediates)` by the lines, of which the broken one is wrong.

    Biases have an axis of their own: b1 (units,), b2 (1,).
    """
    source = "\n".join(line.wrong if line.name == broken else line.right for line in lines(activation))
    program = compile(source, f"<backward pass, {broken or 'unbroken'}>", "exec")

    def loss_and_gradients(
        parameters: Any, x: np.ndarray, y: np.ndarray
    ) -> tuple[float, dict[str, Any], dict[str, Any]]:
        Z1 = parameters["W1"] @ x + parameters["b1"][:, np.newaxis]
        A1 = _HAND[activation](Z1)
        Z2 = parameters["W2"] @ A1 + parameters["b2"][:, np.newaxis]
        made = {"x": x, "y": y, "m": x.shape[1], "W2": parameters["W2"], "Z1": Z1, "A1": A1, "A2": sigmoid(Z2)[0]}
        exec(program, made)
        loss = float(manual.compute_loss(Z2, y))
        gradients = {name: made[f"d{name}"] for name in ("W1", "W2", "b1", "b2")}
        return loss, gradients, {name: made[f"d{name}"] for name in ("Z2", "A1", "Z1")}

    return loss_and_gradients


def loss_in_jax(activation: str) -> Callable[..., Any]:
    """The same loss, from which JAX derives what the lines are held to."""

    def loss(parameters: Any, x: Any, y: Any) -> Any:
        Z1 = tap("Z1", parameters["W1"] @ x + parameters["b1"][:, None])
        A1 = tap("A1", _JAX[activation](Z1))
        Z2 = tap("Z2", parameters["W2"] @ A1 + parameters["b2"][:, None])
        return jnp.sum(jnp.maximum(Z2, 0) - y * Z2 + jnp.log1p(jnp.exp(-jnp.abs(Z2)))) / x.shape[1]

    return loss


@dataclass(frozen=True)
class Judged:
    """What the judge says of a backward pass."""

    verdict: str
    sentence: str


@dataclass(frozen=True)
class Playground:
    """Data of two features and two classes by name, and the verdicts by activation and broken line, "" for none.

    It begins with `chosen` (the first of the data if it is empty), `hidden` units, `activation` and `rate`.
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
    """The made sets, the lesson's own data if they are in the plane, and what the judge says of every broken line.

    It says so of the first set, at the first weights: which line is wrong, and why, does not depend on the data. It
    begins with the lesson's settings, where it has what they name.
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
