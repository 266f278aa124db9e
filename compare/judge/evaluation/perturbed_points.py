"""Perturbed points: other parameters and arguments, which reveal errors that are invisible at the caller's point.

A `Probe` computes a perturbed point from the caller's point. The probes scale the parameters, so that activations
saturate, and add noise to them, so that biases and gains are no longer 0 and 1. They permute and scale data, and repeat
ids.

The code under test must be expected to work at a perturbed point. Parameters take many values in training, so they are
changed. A leaf whose entries have one sign keeps its sign, because it may be a scale, and a symmetric leaf stays
symmetric. Arguments are changed only if they look like arbitrary numbers: of both signs, unordered, and without a
structure that a formula may rely on (`structured`). Values between 0 and 1 may be labels, probabilities or masks, and
are not changed.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compare.judge.program.inputs import Inputs
from compare.judge.roundoff.perturbation import unit_roundoff
from compare.pytrees import Pytree, laid_out

Arguments = tuple[Any, ...]

SMALL = 2**16  # up to this number of entries in all parameters, the time of another point is negligible


@dataclass(frozen=True)
class Probe:
    """A perturbed point, at which both sides are also compared.

    Attributes:
        name: the name of the point in the report.
        move: `(parameters, args, random) -> (parameters, args)`, or None if the perturbation does not apply to them.
        advisory: whether an error at this point is reported as a remark only, because the code under test may not have
            to work for such parameters.
    """

    name: str
    move: Callable[[Any, Arguments, np.random.Generator], tuple[Any, Arguments] | None]
    advisory: bool = False


def scaled(factor: float) -> Callable[..., Any]:
    """A move that multiplies the parameters by a factor and adds noise to them.

    The noise changes zeros, which scaling does not change. A parameter of 0 hides errors in the gradients of other
    parameters, because its products are 0.

    Args:
        factor: the factor.

    Returns:
        The move, for `Probe`.
    """

    def move(parameters: Pytree, args: Arguments, random: np.random.Generator) -> tuple[Any, Arguments]:
        def moved(leaf: Any) -> Any:
            if not is_floating(leaf):
                return leaf
            noise = 0.1 * random.standard_normal(leaf.shape)
            if is_symmetric(leaf):  # for example a covariance matrix: a formula may read one triangle only
                noise = (noise + np.swapaxes(noise, -1, -2)) / 2
            elif _triangular(leaf):
                noise = np.where(leaf == 0, 0.0, noise)
            wide, added = np.asarray(leaf, np.float64), typical_size(leaf) * noise
            if leaf.any() and ((leaf >= 0).all() or (leaf <= 0).all()):
                sign = -1 if (leaf < 0).any() else 1
                return cast(factor * np.where(leaf == 0, sign * np.abs(added), wide * np.exp(noise)), leaf)
            return cast(factor * (wide + added), leaf)

        return jax.tree.map(moved, parameters), args

    return move


def scaled_by(factor: float, inputs: Inputs, random: np.random.Generator) -> Inputs:
    """The inputs moved by `scaled`."""
    parameters, args = scaled(factor)(inputs.parameters, inputs.args, random)
    return replace(inputs, parameters=parameters, args=args)


def is_symmetric(leaf: np.ndarray) -> bool:
    """Whether it is a stack of symmetric matrices. Diagonal ones do not count: a weight may start as the identity."""
    if leaf.ndim < 2 or leaf.shape[-1] != leaf.shape[-2]:
        return False
    return np.array_equal(leaf, np.swapaxes(leaf, -1, -2)) and bool(np.triu(np.asarray(leaf, np.float64), 1).any())


def _triangular(leaf: np.ndarray) -> bool:
    """Whether exactly one triangle of a matrix is zero, as in a Cholesky factor."""
    if leaf.ndim != 2 or leaf.shape[0] != leaf.shape[1]:
        return False
    return bool(np.triu(leaf != 0, 1).any()) != bool(np.tril(leaf != 0, -1).any())


def cast(values: np.ndarray, leaf: np.ndarray) -> np.ndarray:
    """The values in the dtype and the memory layout of a leaf."""
    with np.errstate(over="ignore"):
        return laid_out(np.asarray(values).astype(leaf.dtype), leaf)


def is_floating(leaf: Any) -> bool:
    """Whether it is an array of real floating-point numbers of any precision with at least one entry."""
    return isinstance(leaf, np.ndarray) and jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.size > 0


def _shrunk(parameters: Pytree, args: Arguments, random: np.random.Generator) -> tuple[Any, Arguments] | None:
    """Smaller parameters, which leave tails where all gradients vanish, such as that of exp(-p**2 / 2) at p = 10.

    Models with many parameters are left out, because their parameters are near zero at the start, and because the
    point would take a quarter of the check's time.
    """
    if _many(parameters):
        return None
    return scaled(0.1)(parameters, args, random)


def _many(parameters: Pytree) -> bool:
    return sum(np.size(leaf) for leaf in jax.tree.leaves(parameters)) > SMALL


def typical_size(leaf: np.ndarray) -> float:
    """The root mean square of the entries; 1 if it is 0 or if there are no entries."""
    wide = np.asarray(leaf, np.float64)
    return (float(np.sqrt(np.mean(np.square(wide)))) if wide.size else 0.0) or 1.0


# ------------------------------------------------------------------------ which arguments may be changed


def structured(leaf: np.ndarray) -> bool:
    """Whether an array has a structure that is unlikely by chance, so that the code under test may rely on it.

    The structures are: entries with only one absolute value besides 0 (masks, labels of -1 and 1); sorted entries (a
    grid); a symmetric, antisymmetric or triangular matrix; rows or columns of equal norm (directions).
    """
    if leaf.size < 2:
        return False
    wide, near = np.asarray(leaf, np.float64), max(1e-5, 8 * unit_roundoff(leaf.dtype))

    def equal(a: Any, b: Any) -> bool:
        return np.allclose(a, b, rtol=near, atol=0)

    sizes = np.abs(wide[wide != 0])
    if not sizes.size or equal(sizes, sizes[0]):
        return True
    if leaf.ndim == 1 and ((np.diff(wide) >= 0).all() or (np.diff(wide) <= 0).all()):
        return True
    if leaf.ndim > 1 and leaf.shape[-1] == leaf.shape[-2]:
        turned = np.swapaxes(wide, -1, -2)
        if equal(wide, turned) or equal(wide, -turned) or not np.triu(wide, 1).any() or not np.tril(wide, -1).any():
            return True
    scale = sizes.max()  # dividing by it keeps the squares in the norm from overflowing
    lengths = [scale * np.linalg.norm(wide / scale, axis=axis) for axis in range(leaf.ndim)]
    return any(equal(norms, 1) or (norms.size > 1 and equal(norms, norms.flat[0])) for norms in lengths)


def _is_data(leaf: Any) -> bool:
    return is_floating(leaf) and bool((leaf < 0).any()) and bool((leaf > 0).any()) and not structured(leaf)


def _is_ids(leaf: Any) -> bool:
    """Whether it holds unsorted integers with gaps or repeats.

    Sorted integers may be offsets, and unsorted ones without gaps and repeats may be a permutation.
    """
    if not isinstance(leaf, np.ndarray) or not np.issubdtype(leaf.dtype, np.integer) or leaf.size < 3:
        return False
    ordered = np.sort(leaf, axis=-1)
    permutation = leaf.shape[-1] > 1 and bool((np.diff(ordered, axis=-1) == 1).all())
    return bool((np.diff(leaf.ravel()) < 0).any()) and not permutation


def _other_data(args: Arguments, random: np.random.Generator) -> Arguments:
    def other(leaf: Any) -> Any:
        return cast(3 * random.permutation(np.asarray(leaf, np.float64), axis=-1), leaf) if _is_data(leaf) else leaf

    return jax.tree.map(other, args)


def _scaled_data(parameters: Pytree, args: Arguments, random: np.random.Generator) -> tuple[Any, Arguments]:
    """Parameters between their usual size and saturation, with data other than the caller's."""
    moved, _ = scaled(10)(parameters, args, random)
    return moved, _other_data(args, random)


def _repeated_ids(parameters: Pytree, args: Arguments, random: np.random.Generator) -> tuple[Any, Arguments] | None:
    if not any(map(_is_ids, jax.tree.leaves(args))):
        return None

    def drawn(leaf: Any) -> Any:
        if not _is_ids(leaf):
            return leaf
        return laid_out(random.choice(leaf.ravel()[: max(2, leaf.size // 2)], leaf.shape), leaf)

    return parameters, jax.tree.map(drawn, args)


def _other_signs(parameters: Pytree, args: Arguments, random: np.random.Generator) -> tuple[Any, Arguments] | None:
    """Changes half of the signs of a leaf whose entries have one sign. All other points keep such a sign.

    A slope of 0.25 may become negative in training, but a variance may not. The point is left out for models with many
    parameters, because it would take a quarter of the check's time.
    """

    def one_sign(leaf: Any) -> bool:
        return is_floating(leaf) and bool(leaf.any()) and bool((leaf >= 0).all() or (leaf <= 0).all())

    def turned(leaf: Any) -> Any:
        if not one_sign(leaf):
            return leaf
        signs = random.choice((-1.0, 1.0), leaf.shape)
        return cast((signs if leaf.size > 1 else -1.0) * np.asarray(leaf, np.float64), leaf)

    if _many(parameters) or not any(map(one_sign, jax.tree.leaves(parameters))):
        return None
    return jax.tree.map(turned, parameters), args


DEFAULT = (
    Probe("parameters x 10, other data", _scaled_data),
    Probe("parameters x 1000", scaled(1000)),
    Probe("parameters x 0.1", _shrunk),
    Probe("repeated ids", _repeated_ids),
    Probe("other signs", _other_signs, advisory=True),
)


def first_example(parameters: Pytree, args: Arguments, random: np.random.Generator) -> tuple[Any, Arguments] | None:
    """The first example only.

    The axis of the examples is the first or the last one, if all arrays have the same length along it. This point is
    not among the defaults. Other shapes need another trace, and the axis of the examples may be wrong: an axis of a
    square matrix or of a single array may hold features. Pass ONE_EXAMPLE in `probes` to use it.

    Args:
        parameters: the parameters, which are not changed.
        args: the other arguments.
        random: not used; all moves have this argument.

    Returns:
        The parameters and the arguments with one example; None if no axis or only one array can hold examples.
    """
    arrays = [leaf for leaf in jax.tree.leaves(args) if isinstance(leaf, np.ndarray) and leaf.ndim]
    axis = next((axis for axis in (0, -1) if len({array.shape[axis] for array in arrays}) == 1), None)
    if axis is None or len(arrays) < 2:
        return None

    def first(leaf: Any) -> Any:
        return laid_out(np.take(leaf, [0], axis), leaf) if isinstance(leaf, np.ndarray) and leaf.ndim else leaf

    return parameters, jax.tree.map(first, args)


ONE_EXAMPLE = Probe("the first example alone", first_example)
