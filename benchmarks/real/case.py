"""A derivative of a published library: how it is checked, what is known about it, and faults planted in it."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import jax
import numpy as np

from compare import Verdict, check_gradients, check_trajectory, check_vjp
from compare.pytrees import leaves_by_path

Kind = Literal["gradient", "product", "vjp", "update"]
FRESH = 0.1  # a fault is planted in an entry of at least this size, relative to the largest entry of its leaf
STEPS = (
    0.002,
    0.02,
    0.3,
)  # relative step sizes: the first for functions that may not be smooth nearby, the last for losses with few digits
FLOAT32 = ", float32"  # the end of the name of a case that repeats the previous one in this dtype


@dataclass(frozen=True)
class RealCase:
    """A derivative of a library, and the same loss in JAX.

    Attributes:
        name: the function of the library, with its options.
        by_hand: `(parameters, *args) -> (value, gradients)` by the library; for a "vjp" the pair `(forward, backward)`
            that `check_vjp` takes; for an "update" a step.
        reference: the loss in JAX; for a "vjp" the function; for an "update" the step.
        parameters: the parameters in the form that the library takes; for a "vjp" the tuple of its inputs.
        args: arguments that are not differentiated; for an "update" `(batches, state)`.
        kind: the kind of derivative. A "product" is a Hessian-vector product, which is checked as the gradient of
            <gradient, vector>.
        faulty: empty for a correct derivative; else what is wrong with it, and at which input.
        domain: the domains of leaves: "positive", "unit interval", "positive definite", or "fixed" for leaves that must
            not be perturbed, such as packed vectors with constraints on some entries.
        at_least: the relative tolerance of a derivative that is approximate by design.
        without: a variant of `by_hand` that lacks one term of the gradient.
    """

    name: str
    by_hand: Any
    reference: Callable[..., Any]
    parameters: Any
    args: tuple[Any, ...] = ()
    kind: Kind = "gradient"
    faulty: str = ""
    domain: dict[str, str] = field(default_factory=dict)
    at_least: float = 0.0
    without: Callable[..., Any] | None = None

    @property
    def expected(self) -> Verdict:
        return Verdict.DISAGREE if self.faulty else Verdict.AGREE

    def check(self) -> Any:
        """The judge's report on the case."""
        if self.kind == "update":
            batches, state = self.args
            return check_trajectory(self.by_hand, self.reference, self.parameters, batches, state=state)
        wanted = {"domain": self.domain, "at_least": self.at_least}
        known = inspect.signature(check_gradients).parameters
        options = {name: value for name, value in wanted.items() if value and name in known}
        if self.kind == "vjp":
            return check_vjp(*self.by_hand, self.reference, *self.parameters, **options)
        return check_gradients(self.by_hand, self.reference, self.parameters, *self.args, **options)


def product(
    name: str, by_hand: Callable[..., Any], loss: Callable[..., Any], parameters: Any, *args: Any, **more: Any
) -> RealCase:
    """A case for `by_hand(parameters, *args) -> (gradient, Hessian)`, the Hessian a function of a vector.

    It is checked along one vector drawn at random.
    """
    parameters = np.asarray(parameters)
    vector = np.random.default_rng(len(name)).standard_normal(parameters.shape).astype(parameters.dtype)

    def along(p: Any, *args: Any) -> tuple[Any, Any]:
        gradient, times = by_hand(p, *args)
        return np.sum(gradient * vector), times(vector)

    def reference(p: Any, *args: Any) -> Any:
        return jax.jvp(lambda q: loss(q, *args), (p,), (jax.numpy.asarray(vector),))[1]

    return RealCase(name, along, reference, parameters, args, "product", **more)


def elementwise(
    name: str, function: Callable[..., Any], derivative: Callable[..., Any], reference: Any, x: Any, **more: Any
) -> RealCase:
    """A function of one number and its derivative, at all entries of `x`, each with its own weight."""
    x = np.asarray(x)
    weights = np.random.default_rng(len(name)).standard_normal(x.shape).astype(x.dtype)

    def by_hand(x: Any) -> tuple[Any, Any]:
        return np.sum(weights * function(x)), weights * derivative(x)

    return RealCase(name, by_hand, lambda x: jax.numpy.sum(weights * reference(x)), x, **more)


def slope(function: Callable[..., Any]) -> Callable[..., Any]:
    """The derivative of a JAX function of one number, entry by entry."""
    return lambda x: jax.jvp(function, (x,), (jax.numpy.ones_like(x),))[1]


# ----------------------------------------------------------------------------------- evidence


@dataclass(frozen=True)
class Evidence:
    """Evidence on a case that uses neither the judge nor derivatives by JAX.

    Attributes:
        error: the largest difference between the gradient and finite differences of the library's own loss, relative to
            the largest entry of the gradient.
        doubt: the estimated error of these finite differences, in the same unit.
        apart: the relative difference between the library's loss and the one in JAX.
    """

    error: float
    doubt: float
    apart: float


def evidence(case: RealCase) -> Evidence | None:
    """Evidence by Ridders' finite differences in float64, for every entry of the gradient at the case's own point.

    None for an update, which has no loss, and for a case in float32, whose version in float64 is used.
    """
    if case.kind == "update" or case.name.endswith(FLOAT32):
        return None
    value, gradient, start, expected = _in_float64(case)
    found = value(start)
    apart = abs(found - expected) / max(abs(found), abs(expected), np.finfo(np.float64).tiny)
    if not np.isfinite(gradient).all():
        return Evidence(float("inf"), 0.0, apart)
    scale = max(float(np.max(np.abs(gradient))), np.finfo(np.float64).tiny)
    worst, doubt = 0.0, 0.0
    for i in range(start.size):

        def along(t: float, i: int = i) -> float:
            return value(start + t * (np.arange(start.size) == i))

        size = max(abs(start[i]), 0.1)
        derivative, error = min((ridders(along, step * size) for step in STEPS), key=lambda found: found[1])
        worst, doubt = max(worst, abs(derivative - gradient[i]) / scale), max(doubt, error / scale)
    return Evidence(worst, doubt, apart)


def _in_float64(case: RealCase) -> tuple[Callable[[np.ndarray], float], np.ndarray, np.ndarray, float]:
    """The library's value as a function of one vector, its gradient at the case's own point, and that point; JAX's
    value there."""
    if case.kind == "vjp":
        forward, backward = case.by_hand
        moving = [i for i, x in enumerate(case.parameters) if np.asarray(x).dtype.kind == "f"]
        leaves = [np.asarray(case.parameters[i]) for i in moving]
        shape_of = np.asarray(forward(*case.parameters)[0]).shape
        cotangent = np.random.default_rng(0).standard_normal(shape_of)

        def rebuilt(parts: Sequence[np.ndarray]) -> list[Any]:
            inputs = list(case.parameters)
            for i, part in zip(moving, parts, strict=True):
                inputs[i] = part
            return inputs

        def both(parts: Sequence[np.ndarray]) -> tuple[float, Any]:
            result, cache = forward(*rebuilt(parts))
            gradients = backward(cotangent, cache)
            gradients = list(gradients) if isinstance(gradients, tuple | list) else [gradients]
            if len(gradients) == len(case.parameters):
                gradients = [gradients[i] for i in moving]
            return float(np.sum(cotangent * result)), gradients

        with jax.enable_x64(True):
            expected = float(np.sum(cotangent * np.asarray(case.reference(*case.parameters))))
    else:
        leaves, structure = jax.tree.flatten(case.parameters)
        leaves = [np.asarray(leaf) for leaf in leaves]

        def both(parts: Sequence[np.ndarray]) -> tuple[float, Any]:
            loss, gradients = case.by_hand(jax.tree.unflatten(structure, parts), *case.args)[:2]
            return float(loss), jax.tree.leaves(gradients)

        with jax.enable_x64(True):
            expected = float(case.reference(*jax.tree.map(np.asarray, (case.parameters, *case.args))))

    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]

    def parts(vector: np.ndarray) -> list[np.ndarray]:
        return [part.reshape(leaf.shape) for part, leaf in zip(np.split(vector, ends), leaves, strict=True)]

    start = np.concatenate([np.ravel(leaf).astype(np.float64) for leaf in leaves])
    gradient = np.concatenate([np.ravel(np.asarray(g, np.float64)) for g in both(parts(start))[1]])
    return lambda vector: both(parts(vector))[0], gradient, start, expected


def ridders(value: Callable[[float], float], step: float, levels: int = 8) -> tuple[float, float]:
    """The derivative at 0 and an estimate of its error (Ridders 1982; Numerical Recipes, section 5.7)."""
    table = np.full((levels, levels), np.nan)
    best, error = float("nan"), float("inf")
    for i in range(levels):
        h = step / 1.4**i
        table[i, 0] = (value(h) - value(-h)) / (2 * h)
        for j in range(1, i + 1):
            power = 1.4 ** (2 * j)
            table[i, j] = (power * table[i, j - 1] - table[i - 1, j - 1]) / (power - 1)
            doubt = max(abs(table[i, j] - table[i, j - 1]), abs(table[i, j] - table[i - 1, j - 1]))
            if doubt <= error:
                best, error = float(table[i, j]), float(doubt)
    return best, error


# ------------------------------------------------------------------------------------- faults


def broken(case: RealCase) -> Iterator[tuple[str, RealCase]]:
    """The case with a fault planted in the gradient: one entry 1% off, one leaf 1% too large, one term dropped."""
    if case.kind == "update":
        return
    if case.kind == "vjp":
        forward, backward = case.by_hand

        def planted(change: Callable[[Any], Any]) -> RealCase:
            def wrong(output_gradient: Any, cache: Any) -> Any:
                given = backward(output_gradient, cache)
                return change(list(given) if isinstance(given, tuple | list) else given)

            return replace(case, by_hand=(forward, wrong), faulty="planted")

        value, cache = forward(*case.parameters)
        gradients = backward(np.ones_like(np.asarray(value)), cache)
        gradients = list(gradients) if isinstance(gradients, tuple | list) else gradients
    else:

        def planted(change: Callable[[Any], Any]) -> RealCase:
            def wrong(*args: Any) -> Any:
                loss, gradients, *rest = case.by_hand(*args)
                return loss, change(gradients), *rest

            return replace(case, by_hand=wrong, faulty="planted")

        gradients = case.by_hand(jax.tree.map(np.copy, case.parameters), *case.args)[1]
    leaves = {path: np.asarray(leaf, np.float64) for path, leaf in leaves_by_path(gradients).items()}
    path = max(leaves, key=lambda path: leaves[path].size)
    leaf = leaves[path]
    if not leaf.any():
        return
    large = np.argwhere(np.abs(leaf) >= FRESH * np.abs(leaf).max())
    index = tuple(int(i) for i in large[len(large) // 2])

    def scaled(gradients: Any, where: Any) -> Any:
        paths = list(leaves_by_path(gradients))
        flat, structure = jax.tree.flatten(gradients)
        number = paths.index(path)
        changed = np.array(flat[number])
        changed[where] *= changed.dtype.type(1.01)
        return jax.tree.unflatten(structure, [*flat[:number], changed, *flat[number + 1 :]])

    yield "one entry 1% off", planted(lambda gradients: scaled(gradients, index))
    yield "one leaf 1% too large", planted(lambda gradients: scaled(gradients, ...))
    if case.without is not None:
        yield "one term dropped", replace(case, by_hand=case.without, faulty="planted")
