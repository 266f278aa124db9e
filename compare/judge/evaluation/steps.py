"""Calls training steps on copies of their arguments and checks their results and side effects."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compare.errors import BadInput
from compare.judge.reports.verdict import Diagnosis, Row
from compare.pytrees import Pytree, as_array, leaves_by_path, paths

STATE = "state."  # prefix of the names of the state's leaves
Step = Callable[..., Any]  # ((parameters, state), *batch) -> (parameters, state); or the caller's step, see with_state

# If two calls with the same arguments differ by more than this share of the first result's error, the difference is no
# rounding error.
OTHERWISE = 0.02

KEEPS_STATE = Diagnosis(
    None,
    "depends-on-earlier-calls",
    "it returns different results for the same arguments: does it keep state between calls (an optimizer's moments, a "
    "counter, random numbers)? Each step is called more than once, so pass the state as `state=`, or with the batches.",
)


def with_state(step: Step, name: str, state: Pytree) -> Step:
    """Turns a step into a function from (parameters, state) to (parameters, state), with state {} if it has none.

    Args:
        step: `(parameters, *batch) -> parameters`; with a state, `(parameters, state, *batch) -> (parameters, state)`.
        name: the name of the step in messages.
        state: the initial state, or None.

    Returns:
        The function. It raises BadInput if the step does not return parameters and state.
    """

    def both(both: Pytree, *batch: Pytree) -> Any:
        if state is None:
            result = (step(both[0], *batch), {})
        else:
            result = step(*both, *batch)
            if not isinstance(result, tuple | list) or len(result) != 2:
                raise BadInput(
                    f"with state=, {name} must return (parameters, state), but it returned {described(result)}."
                )
        for what, actual, expected in zip(("parameters", "state"), result, both, strict=True):
            alike = jax.tree.structure(actual) == jax.tree.structure(expected)
            if not alike and _names(expected) and not _names(expected) & _names(actual):
                raise BadInput(
                    f"{name} returned {described(actual)} instead of the {what}, {described(expected)}. Return the "
                    f"updated {what} in the same structure, even if it updates them in place."
                )
        return tuple(result)

    return both


def _names(tree: Pytree) -> set[str]:
    return {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]}


def described(tree: Pytree) -> str:
    """A short description of a tree, for messages."""
    if tree is None or isinstance(tree, str | bytes):
        return repr(tree)[:60]
    if isinstance(tree, dict):
        return f"a dict with {', '.join(map(str, tree)) or 'nothing'}"
    if isinstance(tree, list | tuple):
        return f"a {type(tree).__name__} of {len(tree)}"
    shape = getattr(tree, "shape", None)
    return f"{type(tree).__name__} {tree!r:.40}" if shape is None else f"an array of shape {tuple(shape)}"


def as_arguments(batch: Pytree, number: int) -> tuple[Any, ...]:
    """The batch as a step's arguments.

    Args:
        batch: the batch.
        number: its number, for the message.

    Returns:
        A tuple of arguments.

    Raises:
        BadInput: if the batch is not a tuple or a list.
    """
    if isinstance(batch, tuple | list):
        return tuple(batch)
    raise BadInput(
        f"batch {number} is {described(batch)}; each must be a tuple of arguments. Pass a single argument as (batch,)."
    )


def start_of(parameters: Pytree, state: Pytree) -> tuple[Any, Any]:
    """Copies parameters and state as arrays.

    Args:
        parameters: the initial parameters. Python floats get the dtype of the other parameters.
        state: the initial state, or None.

    Returns:
        (parameters, state), with state {} if there is none.

    Raises:
        BadInput: for complex numbers, or if a parameter has the same name in reports as a leaf of the state.
    """
    given = [as_array(leaf).dtype for leaf in jax.tree.leaves(parameters) if type(leaf) is not float]
    floating = [dtype for dtype in given if jnp.issubdtype(dtype, jnp.inexact)]
    own = np.result_type(*floating) if floating else np.dtype(np.float64)

    def array(leaf: Any) -> np.ndarray:
        return np.array(leaf, own) if type(leaf) is float else np.array(as_array(leaf))

    start = jax.tree.map(array, (parameters, {} if state is None else state))
    if any(leaf.dtype.kind == "c" for leaf in jax.tree.leaves(start)):
        raise BadInput("parameters and state must be real. Pass the real and the imaginary parts as two arrays.")
    named, others = leaves_by_path(start[0]), (f"{STATE}{path}" for path in leaves_by_path(start[1]))
    twice = next((name for name in others if name in named), None)
    if twice:
        raise BadInput(
            f"a parameter is called {twice!r}, but reports give this name to the state's {twice[len(STATE) :]!r}. "
            "Rename the parameter."
        )
    return start


def settled(result: Any, asked: Any) -> Any:
    """A step's result with the dtypes of its arguments, in cases where the difference is not the step's fault.

    Python numbers have no dtype, and JAX converts 64-bit integers to 32 bits if it is set to 32 bits.

    Args:
        result: (parameters, state), as the step returned them.
        asked: the step's arguments (parameters, state).

    Returns:
        The result; unchanged if its structure is not that of the arguments.
    """
    if jax.tree.structure(result) != jax.tree.structure(asked):
        return result

    def settle(leaf: Any, model: Any) -> Any:
        model = as_array(model).dtype
        fits = type(leaf) in (int, float) and (type(leaf) is int or jnp.issubdtype(model, jnp.inexact))
        shorter = model.kind in "iu" and getattr(leaf, "dtype", model) == jax.dtypes.canonicalize_dtype(model)
        return np.array(leaf, model) if fits or shorter else leaf

    return jax.tree.map(settle, result, asked)


def owned(tree: Pytree) -> Any:
    """A copy of all arrays, because a step may modify its arguments and reuse the memory of its results."""
    return jax.tree.map(lambda leaf: np.array(as_array(leaf)) if hasattr(leaf, "__array__") else leaf, tree)


class Careful:
    """Calls a step of the hand-written side on copies of its arguments, and copies its results.

    Args:
        step: the step.
        some: selects the entries of each leaf that are kept: all of them, unless the model is huge.

    Attributes:
        side_effects: the arguments that the step modifies.
    """

    def __init__(self, step: Step, some: Callable[[np.ndarray], np.ndarray] = lambda leaf: leaf) -> None:
        self.step, self.some = step, some
        self.side_effects: list[Diagnosis] = []

    def __call__(self, both: Pytree, *batch: Pytree) -> Any:
        return self.whole(both, *batch, some=self.some)

    def whole(self, both: Pytree, *batch: Pytree, some: Callable[[np.ndarray], np.ndarray] = lambda leaf: leaf) -> Any:
        """Calls the step and returns all entries of its result, or those that `some` selects."""
        given = (*owned(both), *owned(batch))
        return self._read(self.step(given[:2], *given[2:]), both, batch, given, some)

    def if_possible(self, both: Pytree, *batch: Pytree) -> Any:
        """All entries of the step's result; None if the step raises an exception, so that it cannot be taken there."""
        given = (*owned(both), *owned(batch))
        try:
            result = self.step(given[:2], *given[2:])
        except Exception:  # whatever it raises
            return None
        return self._read(result, both, batch, given, lambda leaf: leaf)

    def _read(
        self, result: Any, both: Pytree, batch: tuple[Pytree, ...], given: tuple[Any, ...], some: Callable[..., Any]
    ) -> Any:
        result = settled(result, both)
        leaves, structure = jax.tree.flatten(result)
        models, asked = jax.tree.flatten(both)
        if paths(structure) == paths(asked):  # a leaf of another shape is kept whole, so that it is reported
            pairs = zip(leaves, models, strict=True)
            leaves = [some(as_array(leaf)) if np.shape(leaf) == np.shape(model) else leaf for leaf, model in pairs]
        result = jax.tree.unflatten(structure, leaves)
        result = owned(result)
        if not self.side_effects:
            self._look_at((*both, *batch), given)
        return result

    def _look_at(self, before: tuple[Any, ...], after: tuple[Any, ...]) -> None:
        names = ["parameters", "state", *(f"batch[{i}]" for i in range(len(before) - 2))]
        changed = []
        for name, kept, given in zip(names, before, after, strict=True):
            now = leaves_by_path(given)
            for path, leaf in leaves_by_path(kept).items():
                equal = np.array_equal(leaf, now[path], equal_nan=leaf.dtype.kind in "fc")
                changed += [] if equal else [name if path == "value" else f"{name}.{path}"]
        own = [name for name in changed if not name.startswith("batch[")]
        others = [name for name in changed if name.startswith("batch[")]
        if others:
            words = f"it modifies its data: {', '.join(others)}. Work on a copy."
            self.side_effects.append(Diagnosis(others[0], "modifies-arguments", words))
        if own:
            words = f"it updates in place: {', '.join(own)}. Earlier references to these arrays see the new values."
            self.side_effects.append(Diagnosis(own[0], "updates-in-place", words))

    def answers_otherwise(
        self, first: Any, both: Pytree, batch: tuple[Pytree, ...], right: Any, rows: list[Row]
    ) -> bool:
        """Whether a second call with the same arguments differs from the first one by more than rounding errors.

        Args:
            first: the result of the first call.
            both: (parameters, state).
            batch: the other arguments.
            right: the reference's result.
            rows: the comparison of the first call with the reference, which has the tolerances.
        """
        ours, again, theirs = map(both_leaves, (first, self(both, *batch), jax.tree.map(self.some, right)))
        allowed = {row.path: np.nan_to_num(row.tolerance) for row in rows}
        for path, leaf in again.items():
            before, true = ours.get(path), theirs.get(path)
            if before is None or true is None or not before.shape == true.shape == leaf.shape or not leaf.size:
                continue
            change = _largest(leaf, before)
            if change > OTHERWISE * max(_largest(before, true), float(allowed.get(path, 0.0))):
                return True
        return False


def both_leaves(both: Pytree) -> dict[str, np.ndarray]:
    """The leaves of (parameters, state) by path. The paths of the state's leaves begin with `state.`."""
    parameters, state = both
    return leaves_by_path(parameters) | {f"{STATE}{path}": leaf for path, leaf in leaves_by_path(state).items()}


def _largest(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference of two arrays. Entries that are NaN in one of them are ignored."""
    with np.errstate(all="ignore"):
        return float(np.nanmax(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)), initial=0.0))
