"""Where the two sides part: gradients of the values in between, and each backward step judged alone.

`tap(name, value)` marks a value in a JAX function. A check then knows the loss's gradient with respect to it,
and can do two things with the gradients of the same name that the hand-written side offers:

- compare them, as if they were parameters;
- put them in the place of its own while it goes backward. Every gradient that JAX finds then is what the
  hand-written side should have found from its own, possibly wrong, gradients further down. Whatever still
  differs is wrong by itself, so that one fault is blamed once.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.extend import core

from compare.judge.program.compiling import compiled
from compare.judge.program.interpreter import Rule, called_program, equations, interpreted, run
from compare.judge.program.widening import Program
from compare.pytrees import LOSS, paths


def tap(name: str, value: Any) -> Any:
    """Mark `value` as an intermediate called `name`. Returns it unchanged; does nothing outside a check.

    A name may be used once in a function. Inside `lax.scan`, `while_loop` or `cond` a mark is not seen, because
    there is no one value to compare; mark what goes in or comes out.
    """
    return checkpoint_name(value, name)


def find_taps(loss: Program) -> dict[str, jax.ShapeDtypeStruct]:
    """The marked values of a traced loss, in the order of the forward pass.

    Raises ValueError if a name marks two values.
    """
    found: dict[str, jax.ShapeDtypeStruct] = {}
    for equation in equations(loss.closed.jaxpr):
        if equation.primitive.name == "name":
            name, value = equation.params["name"], equation.invars[0].aval
            if name in found:
                raise ValueError(f"the name {name!r} marks two values in the loss; give each tap a name of its own.")
            found[name] = jax.ShapeDtypeStruct(value.shape, value.dtype)
    return found


def not_compared(loss: Program, taps: dict[str, jax.ShapeDtypeStruct], offered: set[str]) -> list[str]:
    """Sentences about gradients of intermediates that are offered under names that no tap has."""
    lost = sorted(offered - taps.keys())
    if not lost:
        return []
    text = str(loss.closed)
    inside = [name for name in lost if f"name[name={name}]" in text]
    sentences = []
    if inside:
        sentences.append(
            f"{_listed('the tap', inside)} inside a loop, a branch or a custom derivative of the loss (lax.scan, "
            "while_loop, cond), where no one value has that name: not compared. Mark what goes in or comes out."
        )
    if lost != inside:
        others = [name for name in lost if name not in inside]
        known = f"taps are {', '.join(taps)}" if taps else "the loss marks nothing with tap(name, value)"
        sentences.append(f"no tap is called {', '.join(map(repr, others))}; {known}: not compared.")
    return sentences


def _listed(what: str, names: list[str]) -> str:
    return f"{what}{'s' if len(names) > 1 else ''} {', '.join(map(repr, names))} {'are' if len(names) > 1 else 'is'}"


def backward_order(loss: Program, parameters: Any) -> list[str]:
    """Names of the loss, the taps and the parameters, in the order in which a backward pass reaches them.

    A parameter follows the tap through which the last part of its gradient arrives.
    """
    program = loss.closed.jaxpr
    names = paths(jax.tree.structure(parameters))
    position: dict[str, float] = {LOSS: float("inf")}
    nearest: dict[str, list[str]] = {path: [] for path in names}

    def walk(jaxpr: Any, sources: list[frozenset[str]]) -> list[frozenset[str]]:
        reach: dict[Any, frozenset[str]] = dict(zip(jaxpr.invars, sources, strict=True))

        def of(atom: Any) -> frozenset[str]:
            return frozenset() if isinstance(atom, core.Literal) else reach.get(atom, frozenset())

        for equation in jaxpr.eqns:
            inputs = [of(atom) for atom in equation.invars]
            inner = called_program(equation)
            if inner is not None:
                outputs = walk(inner[0], inputs)
            elif equation.primitive.name == "name":
                name = equation.params["name"]
                position[name] = len(position)
                for path in inputs[0]:
                    nearest[path].append(name)
                outputs = [frozenset()]
            else:
                outputs = [frozenset().union(*inputs)] * len(equation.outvars)
            reach.update(zip(equation.outvars, outputs, strict=True))
        return [of(atom) for atom in jaxpr.outvars]

    sources = [frozenset({path}) for path in names] + [frozenset()] * (len(program.invars) - len(names))
    (open_paths,) = walk(program, sources)
    for path in open_paths:
        nearest[path].append(LOSS)
    for path in names:
        position[path] = min((position[name] for name in nearest[path]), default=0.0) - 0.5
    return sorted(position, key=lambda name: -position[name])


@functools.lru_cache(maxsize=128)
def with_offsets(loss: Callable[..., Any]) -> Callable[..., Any]:
    """`(parameters, offsets), *args -> loss`, each tapped value moved by the offset of its name.

    At zero offsets, the gradient with respect to them is that of the tapped values.
    """

    def moved(inputs: tuple[Any, dict[str, Any]], *args: Any) -> Any:
        parameters, offsets = inputs
        return interpreted(loss, _at_taps(offsets, lambda name, value: value + offsets[name]))(parameters, *args)

    return moved


@functools.lru_cache(maxsize=128)
def with_upstream(loss: Callable[..., Any]) -> Callable[..., Any]:
    """`(parameters, offsets), upstream, *args -> loss`, whose backward pass is cut at every tap.

    What arrives at a tap becomes the gradient of its offset; what goes on from there is `upstream[name]`.
    """

    def cut(inputs: tuple[Any, dict[str, Any]], upstream: dict[str, Any], *args: Any) -> Any:
        parameters, offsets = inputs
        rule = _at_taps(offsets, lambda name, value: _cut(value, offsets[name], upstream[name]))
        return interpreted(loss, rule)(parameters, *args)

    return cut


@functools.lru_cache(maxsize=128)
def with_weights(loss: Callable[..., Any]) -> Callable[..., Any]:
    """`(parameters, offsets), upstream, weights, *args -> loss`, as `with_upstream`, and every tap that is not cut
    weighted: what comes back through it is multiplied by `weights[name]`. At 0 it is a constant.
    """

    def weighted(
        inputs: tuple[Any, dict[str, Any]], upstream: dict[str, Any], weights: dict[str, Any], *args: Any
    ) -> Any:
        parameters, offsets = inputs

        def change(name: str, value: Any) -> Any:
            if name in offsets:
                return _cut(value, offsets[name], upstream[name])
            return _weighted(value, weights[name])

        return interpreted(loss, _at_taps({*offsets, *weights}, change))(parameters, *args)

    return weighted


def _at_taps(names: Any, change: Callable[[str, Any], Any]) -> Rule:
    def rule(equation: Any, inputs: list[Any]) -> list[Any]:
        name = equation.params["name"] if equation.primitive.name == "name" else ""
        return [change(name, inputs[0])] if name in names else run(equation, inputs)

    return rule


@jax.custom_vjp
def _cut(value: Any, offset: Any, upstream: Any) -> Any:
    return value


def _cut_forward(value: Any, offset: Any, upstream: Any) -> tuple[Any, Any]:
    return value, upstream


def _cut_backward(upstream: Any, gradient: Any) -> tuple[Any, Any, Any]:
    return upstream, gradient, jnp.zeros_like(upstream)


_cut.defvjp(_cut_forward, _cut_backward)


@jax.custom_vjp
def _weighted(value: Any, weight: Any) -> Any:
    return value


_weighted.defvjp(lambda value, weight: (value, weight), lambda weight, gradient: (weight * gradient, 0.0 * weight))


@functools.lru_cache(maxsize=128)
def tapped_values(loss: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    """`parameters, *args -> {name: value}` of the marked values."""

    @compiled
    def values(parameters: Any, *args: Any) -> dict[str, Any]:
        seen: dict[str, Any] = {}

        def keep(equation: Any, inputs: list[Any]) -> list[Any]:
            if equation.primitive.name == "name":
                seen[equation.params["name"]] = inputs[0]
            return run(equation, inputs)

        interpreted(loss, keep)(parameters, *args)
        return seen

    return values


def zero_offsets(taps: dict[str, jax.ShapeDtypeStruct]) -> dict[str, np.ndarray]:
    return {name: np.zeros(tap.shape, tap.dtype) for name, tap in taps.items()}
