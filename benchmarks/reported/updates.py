"""Reported bugs of optimizers. The problem is linear least squares, so that only the update can be wrong."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.reported.elementwise import normal
from benchmarks.reported.entry import ReportedFault, into

FAULTS: list[ReportedFault] = []
fault = into(FAULTS)
RATE, MOMENTUM, BETAS, DECAY, STEPS = 0.05, 0.9, (0.9, 0.99), 0.1, 12
EPSILON = 1e-3  # large enough for its place to matter
# One leaf's update: (value, gradient, state, step, numpy or jax.numpy) -> (value, state)
Rule = Callable[[Any, Any, Any, Any, Any], tuple[Any, Any]]


def parameters() -> dict[str, np.ndarray]:
    return {"W": normal(3, 2), "b": normal(2, seed=1)}


def batches() -> list[tuple[np.ndarray, np.ndarray]]:
    return [(normal(8, 3, seed=10 + i), normal(8, 2, seed=50 + i)) for i in range(STEPS)]


def gradients(p: Any, x: Any, y: Any) -> dict[str, Any]:
    r = (x @ p["W"] + p["b"] - y) / len(x)
    return {"W": x.T @ r, "b": r.sum(axis=0)}


def runs(by_hand: Rule, in_jax: Rule, slots: int, change: Any = None, change_in_jax: Any = None) -> tuple[Any, ...]:
    """The arguments of a check of two training runs, with `slots` buffers for each leaf.

    `change(gradients, numpy)`, if given, is applied to all gradients before the rule.
    """

    def step(rule: Rule, lib: Any, change: Any) -> Callable[..., Any]:
        def stepped(p: Any, state: Any, x: Any, y: Any) -> Any:
            g = gradients(p, x, y)
            g = change(g, lib) if change else g
            count = state["count"] + 1
            done = {name: rule(p[name], g[name], state[name], count, lib) for name in p}
            return {name: new for name, (new, _) in done.items()}, {
                "count": count,
                **{name: buffers for name, (_, buffers) in done.items()},
            }

        return stepped

    return step(by_hand, np, change), jax.jit(step(in_jax, jnp, change_in_jax)), parameters(), batches()


def start(slots: int) -> dict[str, Any]:
    return {"count": np.array(0.0)} | {name: (np.zeros_like(v),) * slots for name, v in parameters().items()}


def update(name: str, source: str, wrong: str, slots: int, kinds: str = "", places: str = "W b") -> Any:
    """A decorator for a rule with a first argument `broken`. JAX runs the correct rule."""

    def decorate(rule: Callable[..., tuple[Any, Any]]) -> Any:
        def pair(broken: bool) -> tuple[Any, ...]:
            return runs(lambda *a: rule(broken, *a), lambda *a: rule(False, *a), slots)

        return fault(name, source, "trajectory", places, wrong, kinds, state=start(slots))(pair)

    return decorate


@update(
    "Adam's epsilon scaled by its correction",
    "pytorch/pytorch#22628",
    "Epsilon is added before the correction of the second moment.",
    2,
    "update-rule wrong-order",
)
def adam_epsilon(broken: bool, value: Any, g: Any, state: Any, t: Any, lib: Any) -> Any:
    m, v = BETAS[0] * state[0] + (1 - BETAS[0]) * g, BETAS[1] * state[1] + (1 - BETAS[1]) * g**2
    first, second = 1 - BETAS[0] ** t, lib.sqrt(1 - BETAS[1] ** t)
    root = (lib.sqrt(v) + EPSILON) / second if broken else lib.sqrt(v) / second + EPSILON
    return value - RATE * m / first / root, (m, v)


@update(
    "RMSprop's epsilon outside of the root",
    "keras-team/keras#4356",
    "Epsilon is added to the root instead of to what is under it.",
    1,
    "update-rule wrong-order",
)
def rmsprop_epsilon(broken: bool, value: Any, g: Any, state: Any, t: Any, lib: Any) -> Any:
    v = 0.9 * state[0] + 0.1 * g**2
    return value - RATE * g / (lib.sqrt(v) + EPSILON if broken else lib.sqrt(v + EPSILON)), (v,)


@update(
    "the first step is dampened",
    "ml-explore/mlx#473",
    "Dampening is applied at the first step, too, when there is no momentum yet.",
    1,
    "factor momentum update-rule missing-mask",
)
def dampening(broken: bool, value: Any, g: Any, state: Any, t: Any, lib: Any) -> Any:
    share = 0.7 if broken else lib.where(t == 1, 1.0, 0.7)
    v = MOMENTUM * state[0] + share * g
    return value - RATE * v, (v,)


@update(
    "momentum scales the gradient",
    "ml-explore/mlx#87",
    "The gradient enters the velocity with the weight 1 - momentum.",
    1,
    "factor momentum update-rule",
)
def momentum_average(broken: bool, value: Any, g: Any, state: Any, t: Any, lib: Any) -> Any:
    v = MOMENTUM * state[0] + (1 - MOMENTUM if broken else 1.0) * g
    return value - RATE * v, (v,)


@update(
    "Adadelta's parenthesis",
    "deeplearning4j/nd4j#1239",
    "The average is (rho E + (1 - rho)) g^2 instead of rho E + (1 - rho) g^2.",
    2,
    "update-rule wrong-order",
)
def adadelta(broken: bool, value: Any, g: Any, state: Any, t: Any, lib: Any) -> Any:
    squares = (0.9 * state[0] + 0.1) * g**2 if broken else 0.9 * state[0] + 0.1 * g**2
    step = lib.sqrt(state[1] + EPSILON) / lib.sqrt(squares + EPSILON) * g
    return value - step, (squares, 0.9 * state[1] + 0.1 * step**2)


@update(
    "Adadelta's momentum times the step rate",
    "BRML/climin#29",
    "The step of before is multiplied by the step rate for a second time.",
    2,
    "momentum update-rule wrong-number",
)
def adadelta_momentum(broken: bool, value: Any, g: Any, state: Any, t: Any, lib: Any) -> Any:
    squares = 0.9 * state[0] + 0.1 * g**2
    step = MOMENTUM * state[1] * (RATE if broken else 1.0) + RATE * g / lib.sqrt(squares + EPSILON)
    return value - step, (squares, step)


@update(
    "bias correction in place",
    "frgfm/holocron#1",
    "The corrected average takes the place of the average, so that corrections accumulate.",
    2,
    "factor bias-correction update-rule wrong-operand",
    "state.W.0 state.b.0",
)
def corrected_in_place(broken: bool, value: Any, g: Any, state: Any, t: Any, lib: Any) -> Any:
    m, v = BETAS[0] * state[0] + (1 - BETAS[0]) * g, BETAS[1] * state[1] + (1 - BETAS[1]) * g**2
    corrected = m / (1 - BETAS[0] ** t)
    new = value - RATE * corrected / (lib.sqrt(v / (1 - BETAS[1] ** t)) + EPSILON)
    return new, (corrected if broken else m, v)


@update(
    "AdaBelief without bias correction",
    "FluxML/Flux.jl#1962",
    "Neither moment is corrected for its start at 0.",
    2,
    "bias-correction update-rule missing-factor",
)
def adabelief(broken: bool, value: Any, g: Any, state: Any, t: Any, lib: Any) -> Any:
    m = BETAS[0] * state[0] + (1 - BETAS[0]) * g
    s = BETAS[1] * state[1] + (1 - BETAS[1]) * (g - m) ** 2 + EPSILON
    first, second = (1.0, 1.0) if broken else (1 - BETAS[0] ** t, 1 - BETAS[1] ** t)
    return value - RATE * m / first / (lib.sqrt(s / second) + EPSILON), (m, s)


def adamw(value: Any, g: Any, state: Any, t: Any, lib: Any, coupled: Any = 0.0) -> tuple[Any, Any]:
    """A step of Adam without decoupled weight decay. The decay `coupled` is added to the gradient."""
    g = g + coupled * value
    m, v = BETAS[0] * state[0] + (1 - BETAS[0]) * g, BETAS[1] * state[1] + (1 - BETAS[1]) * g**2
    return RATE * m / (1 - BETAS[0] ** t) / (lib.sqrt(v / (1 - BETAS[1] ** t)) + EPSILON), (m, v)


@update(
    "AdamW's decay in the gradient",
    "nntrainer/nntrainer#3565",
    "The weight decay is added to the gradient instead of being decoupled from it.",
    2,
    "weight-decay update-rule",
)
def decay_coupled(broken: bool, value: Any, g: Any, state: Any, t: Any, lib: Any) -> Any:
    step, state = adamw(value, g, state, t, lib, coupled=DECAY if broken else 0.0)
    return (value if broken else value * (1 - RATE * DECAY)) - step, state


@update(
    "AdamW's decay without the learning rate",
    "tensorflow/addons#2282",
    "The decay is subtracted without being multiplied by the learning rate.",
    2,
    "weight-decay update-rule",
)
def decay_unscaled(broken: bool, value: Any, g: Any, state: Any, t: Any, lib: Any) -> Any:
    step, state = adamw(value, g, state, t, lib)
    return value * (1 - (DECAY if broken else RATE * DECAY)) - step, state


@update(
    "AdamW's decay without the parameter",
    "e-sensing/torchopt#14",
    "The decay is subtracted without being multiplied by the parameter.",
    2,
    "weight-decay update-rule missing-factor",
)
def decay_constant(broken: bool, value: Any, g: Any, state: Any, t: Any, lib: Any) -> Any:
    step, state = adamw(value, g, state, t, lib)
    return value - RATE * DECAY * (1.0 if broken else value) - step, state


@update(
    "AdamW's decay after the step",
    "aiqm/torchani#261",
    "What decays is the parameter after the step, and not before it.",
    2,
    "weight-decay update-rule wrong-order",
)
def decay_late(broken: bool, value: Any, g: Any, state: Any, t: Any, lib: Any) -> Any:
    step, state = adamw(value, g, state, t, lib)
    kept = 1 - RATE * DECAY
    return (value - step) * kept if broken else value * kept - step, state


@update(
    "weight decay without momentum is none",
    "ml-explore/mlx#440",
    "Where there is no momentum, the weight decay is left out.",
    0,
    "weight-decay",
)
def decay_lost(broken: bool, value: Any, g: Any, state: Any, t: Any, lib: Any) -> Any:
    return value - RATE * (g + (0 if broken else DECAY) * value), state


def clipped(g: Any, lib: Any) -> Any:
    norm = lib.sqrt(sum(lib.sum(each**2) for each in g.values()))
    return {name: each * lib.minimum(1.0, 0.3 / norm) for name, each in g.items()}


def clipped_apart(g: Any, lib: Any) -> Any:
    return {name: each * lib.minimum(1.0, 0.3 / lib.sqrt(lib.sum(each**2))) for name, each in g.items()}


def descent(value: Any, g: Any, state: Any, t: Any, lib: Any) -> Any:
    return value - RATE * g, state


@fault(
    "clipping by each tensor's norm",
    "huggingface/transformers#581",
    "trajectory",
    "W b",
    "Each gradient is clipped to a norm of its own instead of all to one.",
    "clipping factor",
    state=start(0),
)
def clipping_apart(broken: bool) -> tuple[Any, ...]:
    return runs(descent, descent, 0, clipped_apart if broken else clipped, clipped)


@fault(
    "clipping that does nothing",
    "NVIDIA/OpenSeq2Seq#192",
    "trajectory",
    "W b",
    "The clipping of gradients is disabled by a bug.",
    "clipping factor",
    state=start(0),
)
def clipping_off(broken: bool) -> tuple[Any, ...]:
    return runs(descent, descent, 0, None if broken else clipped, clipped)


@fault(
    "Nesterov without looking ahead",
    "hiroyuki-kasai/SGDLibrary#8",
    "trajectory",
    "W b",
    "The gradient is taken at the current point.",
    "momentum update-rule missing-term",
    state=start(1),
)
def nesterov(broken: bool) -> tuple[Any, ...]:
    def step(ahead: float) -> Callable[..., Any]:
        def stepped(p: Any, state: Any, x: Any, y: Any) -> Any:
            g = gradients({name: p[name] + ahead * state[name][0] for name in p}, x, y)
            v = {name: MOMENTUM * state[name][0] - RATE * g[name] for name in p}
            return {name: p[name] + v[name] for name in p}, {
                "count": state["count"] + 1,
                **{name: (v[name],) for name in p},
            }

        return stepped

    return step(0.0 if broken else MOMENTUM), jax.jit(step(MOMENTUM)), parameters(), batches()
