"""Faults that are planted in the notebook's network, with the place and the possible names of the cause of each.

Most are one wrong line of the backward pass (`backward`). The others are in the loss, on JAX's side (`jax_faults`), or
in the side effects of the function (`conduct_faults`). Faults of training are in `trajectory_faults`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks import conduct_faults as conduct
from benchmarks import jax_faults
from benchmarks.backward import LINES, ByHand, Line, by_hand
from benchmarks.networks import Problem, network
from compare.suite.shallow import shallow_loss

Sizes = tuple[int, int, int, int]  # n_x, n_h, n_y, m
OBLONG: Sizes = (4, 6, 3, 12)
SQUARE: Sizes = (5, 5, 5, 5)  # for faults such as a transpose, which would have a wrong shape with other sizes


@dataclass(frozen=True)
class Fault:
    """A check that must not agree.

    Attributes:
        name: what is wrong.
        by_hand: the hand-written loss and gradients.
        loss: the loss in JAX.
        dtype: the dtype of parameters and data.
        place: the first wrong quantity in the order of the backward pass; None if no quantity is wrong.
        kinds: the kinds of diagnoses that name the cause; none if the cause has no common name.
        wrong_side: "manual" or "autodiff" if the gradient of that side does not fit the loss, and "loss" if each
            gradient fits one of the losses, and these differ.
        sizes: (n_x, n_h, n_y, m).
        saturated: whether the fault shows only where activations saturate.
        conduct: whether the fault is a side effect only.
        strict: whether the derivation is right and only the arithmetic fails, far from the point; this is a fault with
            strict=True only.
    """

    name: str
    by_hand: ByHand
    loss: Callable[..., Any]
    dtype: str
    place: str | None
    kinds: frozenset[str]
    wrong_side: str
    sizes: Sizes = OBLONG
    saturated: bool = False
    conduct: bool = False
    strict: bool = False

    def problem(self) -> Problem:
        """An ordinary point at which to check: (parameters, x, y)."""
        return network(np.random.default_rng(0), self.sizes, dtype=self.dtype)


def _line(
    name: str, place: str, kinds: str = "", *, square: bool = False, saturated: bool = False, **lines: Line
) -> Fault:
    side = "loss" if lines.keys() == {"J"} else "manual"
    sizes = SQUARE if square else OBLONG
    return Fault(
        name, by_hand(**lines), shallow_loss, "float64", place, frozenset(kinds.split()), side, sizes, saturated
    )


def _fragile(name: str, place: str, **lines: Line) -> Fault:
    kinds = frozenset({"arithmetic"})
    return Fault(name, by_hand(**lines), shallow_loss, "float64", place, kinds, "manual", saturated=True, strict=True)


def _conduct(name: str, kinds: str, make: Callable[[], ByHand]) -> Fault:
    return Fault(name, make(), shallow_loss, "float64", None, frozenset(kinds.split()), "manual", conduct=True)


def _other(name: str, place: str, kinds: str, wrong_side: str, loss: Any = shallow_loss, **lines: Line) -> Fault:
    return Fault(name, by_hand(**lines), loss, "float64", place, frozenset(kinds.split()), wrong_side)


def _placed(array: Any, index: Any, value: Any) -> Any:
    """A copy of `array` with `value` at `index`."""
    copy = array.copy()
    copy[index] = value
    return copy


def _single(array: Any, relative: float) -> Any:
    """A copy of `array` whose largest entry is off by a relative error."""
    index = np.unravel_index(np.argmax(np.abs(array)), array.shape)
    return _placed(array, index, array[index] * (1 + relative))


def _each(change: Callable[[Any], Any]) -> Line:
    """The dict of gradients with every leaf changed."""
    return lambda v: {name: change(gradient) for name, gradient in LINES["gradients"](v).items()}


def _clipped_by_norm(v: Any) -> Any:
    gradients = LINES["gradients"](v)
    norm = sum(float(np.sum(gradient**2)) for gradient in gradients.values()) ** 0.5
    return {name: gradient * min(1.0, 0.1 / norm) for name, gradient in gradients.items()}


def _uncancelled(v: Any) -> Any:
    """The chain rule through A2 without cancelling A2 (1 - A2), which gives 0/0 where A2 rounds to 0 or 1."""
    dA2 = (-v.y / v.A2 + (1 - v.y) / (1 - v.A2)) / v.m
    return dA2 * v.A2 * (1 - v.A2)


def _narrow(dtype: Any, line: str) -> Line:
    """A line that is computed in a narrower dtype. Its result has the original dtype."""

    def narrowed(v: Any) -> Any:
        arrays = {name: value.astype(dtype) for name, value in vars(v).items() if isinstance(value, np.ndarray)}
        return LINES[line](type(v)(**vars(v) | arrays)).astype(v.x.dtype)

    return narrowed


def _lines() -> list[Fault]:
    return [
        # factors
        _line("dZ2 without 1/m", "Z2", "factor", dZ2=lambda v: v.A2 - v.y),
        _line("dW2 divided by m again", "W2", "factor", dW2=lambda v: v.dZ2 @ v.A1.T / v.m),
        _line("dZ2 over m - 1", "Z2", "factor", dZ2=lambda v: (v.A2 - v.y) / (v.m - 1)),
        _line("dZ2 over n_y too", "Z2", "factor", dZ2=lambda v: (v.A2 - v.y) / (v.m * v.n_y)),
        _line("dZ2 twice, as for squares", "Z2", "factor", dZ2=lambda v: 2 * (v.A2 - v.y) / v.m),
        _line("dW1 halved", "W1", "factor", dW1=lambda v: 0.5 * (v.dZ1 @ v.x.T)),
        _line("db1 summed over its broadcast", "b1", "factor", db1=lambda v: v.m * LINES["db1"](v)),
        _line("db2 mean for sum", "b2", "factor", db2=lambda v: np.mean(v.dZ2, axis=1, keepdims=True)),
        _line("db1 mean for sum", "b1", "factor", db1=lambda v: np.mean(v.dZ1, axis=1, keepdims=True)),
        _line("learning rate in all gradients", "W2", "factor", gradients=_each(lambda g: 0.01 * g)),
        _line("learning rate in dW2", "W2", "factor", dW2=lambda v: 0.1 * (v.dZ2 @ v.A1.T)),
        _line("clipped by norm", "W2", "factor clipping", gradients=_clipped_by_norm),
        # signs
        _line("dZ2 = y - A2", "Z2", "sign", dZ2=lambda v: (v.y - v.A2) / v.m),
        _line("dW1 negated", "W1", "sign", dW1=lambda v: -v.dZ1 @ v.x.T),
        _line("db2 negated", "b2", "sign", db2=lambda v: -LINES["db2"](v)),
        # transposes and order
        _line("dW1 transposed", "W1", "transpose", square=True, dW1=lambda v: v.x @ v.dZ1.T),
        _line("dW2 transposed", "W2", "transpose", square=True, dW2=lambda v: v.A1 @ v.dZ2.T),
        _line("dA1 through W2, not its transpose", "A1", "transpose", square=True, dA1=lambda v: v.W2 @ v.dZ2),
        _line("reshape for transpose", "W2", "permutation transpose",
              dW2=lambda v: (v.A1 @ v.dZ2.T).reshape(v.W2.shape)),
        _line("dW1 shifted by a column", "W1", "shift permutation", dW1=lambda v: np.roll(LINES["dW1"](v), 1, axis=1)),
        _line("db1 shifted by one", "b1", "shift permutation", db1=lambda v: np.roll(LINES["db1"](v), 1, axis=0)),
        _line("dW2 upside down", "W2", "permutation", dW2=lambda v: LINES["dW2"](v)[::-1]),
        _line("dW1 rows permuted", "W1", "permutation", dW1=lambda v: LINES["dW1"](v)[[2, 0, 1, 5, 4, 3]]),
        _line("dZ1 examples reversed", "Z1", "permutation", dZ1=lambda v: LINES["dZ1"](v)[:, ::-1]),
        # sums
        _line("db2 first column", "b2", "missing-sum", db2=lambda v: v.dZ2[:, :1]),
        _line("db1 last column", "b1", "missing-sum", db1=lambda v: v.dZ1[:, -1:]),
        _line("dW2 last example only", "W2", "missing-sum", dW2=lambda v: v.dZ2[:, -1:] @ v.A1[:, -1:].T),
        _line("last example dropped", "W1", "missing-sum", dW1=lambda v: v.dZ1[:, :-1] @ v.x[:, :-1].T),
        _line("db1 over all axes", "b1", "broadcast missing-sum", db1=lambda v: np.full_like(v.b1, v.dZ1.sum())),
        _line("db2 one value broadcast", "b2", "broadcast missing-sum",
              db2=lambda v: np.full_like(v.b2, v.dZ2[0].sum())),
        _line("dW1 columns averaged", "W1", "broadcast missing-sum",
              dW1=lambda v: np.ones_like(v.W1) * LINES["dW1"](v).mean(axis=1, keepdims=True)),
        _line("db1 over the wrong axis", "b1", "missing-sum", square=True,
              db1=lambda v: v.dZ1.sum(axis=0).reshape(-1, 1)),
        # elementwise factors
        _line("tanh' missing", "Z1", "missing-factor", dZ1=lambda v: v.dA1),
        _line("tanh' = 1 - A1", "Z1", "wrong-factor", dZ1=lambda v: v.dA1 * (1 - v.A1)),
        _line("tanh' = 1 + A1^2", "Z1", "wrong-factor", dZ1=lambda v: v.dA1 * (1 + v.A1**2)),
        _line("tanh' = A1 (1 - A1)", "Z1", "wrong-factor", dZ1=lambda v: v.dA1 * v.A1 * (1 - v.A1)),
        _line("tanh' of A1", "Z1", "wrong-factor", dZ1=lambda v: v.dA1 * (1 - np.tanh(v.A1) ** 2)),
        _line("tanh' = 1 - Z1^2", "Z1", "wrong-factor", dZ1=lambda v: v.dA1 * (1 - v.Z1**2)),
        _line("tanh' = 1 - |A1|", "Z1", "wrong-factor", dZ1=lambda v: v.dA1 * (1 - np.abs(v.A1))),
        _line("tanh' twice", "Z1", "extra-factor", dZ1=lambda v: v.dA1 * (1 - v.A1**2) ** 2),
        _line("sigmoid' left in", "Z2", "extra-factor", dZ2=lambda v: (v.A2 - v.y) / v.m * v.A2 * (1 - v.A2)),
        # one operand for another
        _line("dW2 with x for A1", "W2", square=True, dW2=lambda v: v.dZ2 @ v.x.T),
        _line("dW1 with A1 for x", "W1", square=True, dW1=lambda v: v.dZ1 @ v.A1.T),
        _line("dW2 with Z1 for A1", "W2", dW2=lambda v: v.dZ2 @ v.Z1.T),
        _line("db1 from dA1", "b1", db1=lambda v: np.sum(v.dA1, axis=1, keepdims=True)),
        _line("dA1 through W1", "A1", square=True, dA1=lambda v: v.W1.T @ v.dZ2),
        _line("dA1 through the updated W2", "A1", dA1=lambda v: (v.W2 - 0.5 * v.dW2).T @ v.dZ2),
        _line("labels shifted by one", "Z2", dZ2=lambda v: (v.A2 - np.roll(v.y, 1, axis=1)) / v.m),
        _line("decision for probability", "Z2", dZ2=lambda v: ((v.A2 > 0.5) - v.y) / v.m),
        # what was added
        _line("weight decay in dW1", "W1", "weight-decay", dW1=lambda v: v.dZ1 @ v.x.T + 1e-3 * v.W1),
        _line("weight decay 1e-6 in both", "W2", "weight-decay",
              dW2=lambda v: v.dZ2 @ v.A1.T + 1e-6 * v.W2, dW1=lambda v: v.dZ1 @ v.x.T + 1e-6 * v.W1),
        # entries
        _line("dW1 one entry by 1e-11", "W1", "single-entry", dW1=lambda v: _single(LINES["dW1"](v), 1e-11)),
        _line("db2 one entry by 1e-11", "b2", "single-entry", db2=lambda v: _single(LINES["db2"](v), 1e-11)),
        _line("dW1 one entry by 1e-4", "W1", "single-entry", dW1=lambda v: _single(LINES["dW1"](v), 1e-4)),
        _line("dW2 one entry by 1e-4", "W2", "single-entry", dW2=lambda v: _single(LINES["dW2"](v), 1e-4)),
        _line("dW2 one entry overwritten", "W2", "single-entry", dW2=lambda v: _placed(LINES["dW2"](v), (0, 1), 1.0)),
        _line("dW1 first row zero", "W1", "zeros", dW1=lambda v: _placed(LINES["dW1"](v), 0, 0.0)),
        _line("db1 zero", "b1", "zeros", db1=lambda v: np.zeros_like(v.b1)),
        _line("dZ1 half the batch zero", "Z1", "zeros", dZ1=lambda v: _placed(LINES["dZ1"](v), np.s_[:, ::2], 0.0)),
        _line("dW1 column copied over another", "W1",
              dW1=lambda v: _placed(LINES["dW1"](v), np.s_[:, 1], LINES["dW1"](v)[:, 0])),
        _line("clipped by value", "W2", "clipping", gradients=_each(lambda g: np.clip(g, -0.03, 0.03))),
        # what only saturation shows
        _line("A2 clipped at 1e-7", "Z2", "clipping", saturated=True,
              dZ2=lambda v: (np.clip(v.A2, 1e-7, 1 - 1e-7) - v.y) / v.m),
        _line("A2 clipped at 1e-4", "Z2", "clipping", saturated=True,
              dZ2=lambda v: (np.clip(v.A2, 1e-4, 1 - 1e-4) - v.y) / v.m),
        _line("dZ1 masked where Z1 < -4", "Z1", "zeros clipping", saturated=True,
              dZ1=lambda v: np.where(v.Z1 < -4, 0, LINES["dZ1"](v))),
        _fragile("dZ2 through dA2", "Z2", dZ2=_uncancelled),
        _fragile("loss from A2", "loss", J=lambda v: -np.sum(v.y * np.log(v.A2) + (1 - v.y) * np.log(1 - v.A2)) / v.m),
        _fragile("sigmoid overflows", "Z2", A2=lambda v: np.exp(v.Z2) / (1 + np.exp(v.Z2))),
        # precision and form
        _line("Z1 in float32", "loss", "precision", Z1=_narrow(np.float32, "Z1")),
        _line("dZ2 in float32", "Z2", "precision", dZ2=_narrow(np.float32, "dZ2")),
        _line("dW2 in float32", "W2", "precision", dW2=_narrow(np.float32, "dW2")),
        _line("db1 in float16", "b1", "precision", db1=_narrow(np.float16, "db1")),
        _line("dW1 in another dtype", "W1", "dtype",
              dW1=lambda v: LINES["dW1"](v).astype("float32" if v.x.dtype == np.float64 else "float64")),
        _line("db1 missing", "b1", "missing-leaf",
              gradients=lambda v: {name: g for name, g in LINES["gradients"](v).items() if name != "b1"}),
        _line("db1 of shape (n_h,)", "b1", "shape", db1=lambda v: np.sum(v.dZ1, axis=1)),
        _line("dW2 flattened", "W2", "shape", dW2=lambda v: LINES["dW2"](v).ravel()),
        _line("db2 is the parameter itself", "b2", "view-of-parameters", db2=lambda v: v.b2),
    ]  # fmt: skip


def _losses() -> list[Fault]:
    """Wrong losses on one side, or different losses on the two."""

    def log_terms(v: Any) -> Any:
        return v.y * np.log(v.A2), (1 - v.y) * np.log(1 - v.A2)

    return [
        _line("loss without its minus", "loss", "sign", J=lambda v: -LINES["J"](v)),
        _line("loss over n_y too", "loss", "factor", J=lambda v: LINES["J"](v) / v.n_y),
        _line("loss summed, not averaged", "loss", "factor", J=lambda v: LINES["J"](v) * v.m),
        _line("loss in bits", "loss", "factor", J=lambda v: LINES["J"](v) / float(np.log(2))),
        _line("loss without 1 - y", "loss", J=lambda v: -np.sum(log_terms(v)[0]) / v.m),
        _line("loss of log(A2 + 1e-8)", "loss", J=lambda v: -np.sum(
            v.y * np.log(v.A2 + 1e-8) + (1 - v.y) * np.log(1 - v.A2 + 1e-8)) / v.m),
        _other("by hand a sum, gradients too", "loss", "factor", "loss",
               J=lambda v: LINES["J"](v) * v.m, dZ2=lambda v: v.A2 - v.y),
        _other("JAX's loss without its minus", "loss", "sign", "loss", jax_faults.negated),
        _other("JAX's loss summed, not averaged", "loss", "factor", "loss", jax_faults.summed),
        _other("JAX's loss over n_y too", "loss", "factor", "loss", jax_faults.averaged_over_outputs),
        _other("JAX's loss without 1 - y", "loss", "", "loss", jax_faults.without_second_term),
        _other("JAX's network with relu", "loss", "", "loss", jax_faults.relu_network),
        _other("JAX's tanh with its own wrong vjp", "Z1", "wrong-factor", "autodiff", jax_faults.wrong_tanh_vjp),
        _other("JAX's cost with its own wrong vjp", "Z2", "factor", "autodiff", jax_faults.wrong_cost_vjp),
        _other("JAX stops the gradient of b1", "b1", "zeros", "autodiff", jax_faults.stops_b1),
    ]  # fmt: skip


def _conducts() -> list[Fault]:
    return [
        _conduct("x standardized in place", "modifies-arguments", conduct.standardizes_x_in_place),
        _conduct("parameters updated in place", "modifies-arguments", conduct.updates_parameters_in_place),
        _conduct("parameters replaced in their dict", "modifies-arguments", conduct.replaces_parameters_in_their_dict),
        _conduct("labels overwritten", "modifies-arguments", conduct.flips_labels_in_place),
        _conduct("dW1 always in one buffer", "shared-buffer", conduct.reuses_its_buffer),
        _conduct("all gradients always in the same buffers", "shared-buffer", conduct.reuses_every_buffer),
        _conduct("gradients accumulated", "depends-on-earlier-calls", conduct.accumulates),
        _conduct("A1 of the call before", "depends-on-earlier-calls", conduct.uses_the_activations_of_the_call_before),
        _conduct("scaled by the number of calls", "depends-on-earlier-calls", conduct.scales_with_the_number_of_calls),
        _conduct("dropout without a seed", "not-deterministic", conduct.drops_units_at_random),
        _conduct("noise without a seed", "not-deterministic", conduct.adds_noise),
        _conduct("db1 written into b1", "view-of-parameters modifies-arguments",
                 conduct.writes_its_gradient_into_a_parameter),
    ]  # fmt: skip


# The faults that are also planted in float32: some of each kind, and none that is below the rounding errors there.
IN_FLOAT32 = frozenset(
    {
        "dZ2 without 1/m", "dZ2 over m - 1", "db2 mean for sum", "dZ2 = y - A2", "dW1 transposed",
        "reshape for transpose", "dW2 upside down", "db2 first column", "last example dropped", "db1 over all axes",
        "tanh' missing", "tanh' of A1", "sigmoid' left in", "dW2 with Z1 for A1", "dA1 through the updated W2",
        "weight decay in dW1", "dW1 one entry by 1e-4", "dW2 one entry by 1e-4", "dW1 first row zero",
        "A2 clipped at 1e-4", "dZ1 masked where Z1 < -4", "dZ2 through dA2", "db1 in float16",
        "dW1 in another dtype", "db1 of shape (n_h,)", "loss without its minus", "JAX's loss summed, not averaged",
        "JAX's tanh with its own wrong vjp", "parameters updated in place", "gradients accumulated",
    }
)  # fmt: skip


def gradient_faults() -> tuple[Fault, ...]:
    """All faults. They are new objects in each call, because some of them have state."""
    wide = [*_lines(), *_losses(), *_conducts()]
    again = [fault for fault in [*_lines(), *_losses(), *_conducts()] if fault.name in IN_FLOAT32]
    return (*wide, *(replace(fault, name=f"{fault.name} (float32)", dtype="float32") for fault in again))


FAULTS = gradient_faults()
