"""Compares a hand-written forward and backward pair with JAX's vector-Jacobian product of the same function.

The inner product of the output and a random cotangent is a loss whose gradients are the products to be checked. So
`check_gradients` can check the pair, with perturbed points, rounding tolerances, causes and side effects.
"""

import functools
import keyword
from collections import namedtuple
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compare.errors import BadInput, Untraceable
from compare.judge.evaluation.intermediates import tap
from compare.judge.evaluation.reading import argument
from compare.judge.evaluation.side_effects import apart
from compare.judge.evaluation.static_arguments import positional_names
from compare.judge.gradients import check
from compare.judge.program.numpy_names import traceable
from compare.judge.program.trace import in_words
from compare.judge.reports.gradient_report import GradientMismatch, GradientReport
from compare.judge.reports.verdict import Diagnosis, Row, Verdict
from compare.platform import precise
from compare.pytrees import LOSS, as_array, copies, leaves_by_path

# A separate random stream for the cotangent. Inputs are often drawn from default_rng(0), and a cotangent that equals
# the input hides transposes.
COTANGENTS = 1_000_003
# The names in messages of the arguments of that loss, which the caller does not know.
LABELS = {"inputs": "", "cotangent": "the output gradient", "others": ""}


@dataclass(frozen=True)
class _Contracted:
    """The loss `(floating inputs, cotangent, other inputs) -> <cotangent, function(*inputs)>`.

    Attributes:
        function: the reference.
        places: for each input, whether it is differentiated, because it is a floating-point array.
    """

    function: Callable[..., Any]
    places: tuple[bool, ...]

    def __call__(self, inputs: tuple[Any, ...], cotangent: Any, others: Any) -> Any:
        value = self.function(*_merged(self.places, inputs, others))
        value = jax.tree_util.tree_map_with_path(_marked, value)
        products = jax.tree.map(lambda v, c: jnp.sum((v * jnp.asarray(c).astype(v.dtype)).real), value, cotangent)
        return sum(jax.tree.leaves(products))


def _marked(path: Any, leaf: Any) -> Any:
    """An output, marked with `tap` for the diagnoses: derivatives such as `1 - output**2` are formulas of it."""
    return tap(_name(path), leaf)


def _name(path: Any) -> str:
    return f"output{jax.tree_util.keystr(path)}"


def _merged(places: tuple[bool, ...], inputs: Sequence[Any], others: Any) -> list[Any]:
    floating, rest = iter(inputs), iter(others)
    return [next(floating) if place else next(rest) for place in places]


def _pair(result: Any) -> Any:
    """Returns the result of `forward`. Raises BadInput unless it is a pair."""
    if not isinstance(result, tuple | list) or len(result) != 2:
        count = f" of {len(result)}" if isinstance(result, tuple | list) else ""
        raise BadInput(
            f"forward must return (value, cache), but it returns {type(result).__name__}{count}. If backward needs "
            "nothing, return (value, None)."
        )
    return result


def _named(names: tuple[str, ...], values: Sequence[Any]) -> Any:
    """A NamedTuple, because JAX would sort a dict. Values without a name are called `gradient_2` and so on."""
    extra = tuple(f"gradient_{i}" for i in range(len(names), len(values)))
    return _fields((*names, *extra)[: len(values)])._make(values)


@functools.lru_cache(maxsize=256)
def _fields(names: tuple[str, ...]) -> Any:
    """A NamedTuple class, cached because two pytrees have the same structure only if their classes are the same."""
    return namedtuple("Inputs", names)


def _names_of(function: Callable[..., Any], count: int) -> tuple[str, ...] | None:
    """The names of a function's inputs; None if they are unknown or cannot be the fields of a NamedTuple."""
    found = tuple(positional_names(function, count))
    usable = not any(name.startswith("_") or keyword.iskeyword(name) or name in (LOSS, "output") for name in found)
    return found if len(found) == count and usable else None


def _refuse_names(names: Sequence[str], count: int) -> None:
    """Raises BadInput unless there is one usable name for each input."""
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise BadInput(f"names must be a sequence of names, one for each input, got {names!r}.")
    if len(names) != count:
        raise BadInput(f"names must hold one name for each of the {count} inputs, but it holds {len(names)}.")
    if len(set(names)) < count:
        raise BadInput(f"names must be different from each other, got {', '.join(names)}.")
    for name in names:
        if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
            raise BadInput(f"names must be valid argument names that do not begin with _, got {name!r}.")


def check_vjp(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    function: Callable[..., Any] | None,
    *inputs: Any,
    seed: int = 0,
    names: Sequence[str] | None = None,
    convention: str = "jax",
    **options: Any,
) -> GradientReport:
    """Compare a hand-written forward and backward pair with `function` and JAX's vector-Jacobian product of it.

    The output gradient is random, because one that is all ones hides errors of transposes, sums and batch norms.
    If both sides agree, `backward` is called again with an output gradient that is not contiguous in memory, and with
    one of stride 0, which a sum's gradient has.

    Args:
        forward: the hand-written forward pass, `(*inputs) -> (value, cache)`.
        backward: the hand-written backward pass, `(output_gradient, cache) -> gradient`, or a tuple with one gradient
            for each floating-point input, in order (or for each input, with None for the others). One more value in
            the tuple, a dict, holds the gradients of intermediates that `function` marks with `tap`; an error is then
            located among them.
        function: the reference, `(*inputs) -> value`, traceable by JAX. If it is None, `forward` itself is traced.
        *inputs: the inputs. Those that are not floating-point arrays are not differentiated.
        seed: the seed of the output gradient and of everything else that is random in the check.
        names: the names of the inputs in the report; by default those of `forward`'s arguments.
        convention: "jax": neither output gradients nor gradients of complex values are conjugated. "conjugate": both
            are, as in PyTorch.
        **options: those of `check_gradients`.

    Returns:
        The report, with a row for the output, which is compared entry by entry, and one for each input.

    Raises:
        TypeError: if JAX cannot trace or differentiate `function`.
        BadInput: a ValueError, if no input is a floating-point array, `forward` returns no pair, or names are unusable.
    """
    arrays = [np.array(x) if isinstance(x, float) else jax.tree.map(argument, x) for x in inputs]
    places = tuple(isinstance(x, np.ndarray) and jnp.issubdtype(x.dtype, jnp.inexact) for x in arrays)
    if not any(places):
        raise BadInput("none of the inputs is a floating-point array: there is nothing to differentiate.")
    floating = tuple(x for x, place in zip(arrays, places, strict=True) if place)
    if names is not None:
        _refuse_names(names, len(arrays))
    own = function is None
    reference = _value_of(forward) if function is None else function
    called = tuple(names) if names is not None else _names_of(forward, len(arrays)) or _names_of(reference, len(arrays))
    build = tuple
    if called is not None:
        build = functools.partial(_named, tuple(name for name, place in zip(called, places, strict=True) if place))
    rest = [(i, x) for i, (x, place) in enumerate(zip(arrays, places, strict=True)) if not place]
    others = _named(tuple(f"input_{i}" if called is None else called[i] for i, _ in rest), [x for _, x in rest])
    value, _ = _pair(forward(*(np.copy(x) if isinstance(x, np.ndarray) else x for x in arrays)))
    value = jax.tree.map(as_array, value)
    if not own:
        with precise(floating, others), in_words("function"):
            shapes = jax.eval_shape(_plain_function(reference), *arrays)
        wrong = _output_mismatch(value, shapes)
        if wrong is not None:
            return wrong
    conjugate = convention == "conjugate"
    random = np.random.default_rng([seed, COTANGENTS])

    def cotangent_of(array: np.ndarray) -> np.ndarray:
        drawn = random.standard_normal(array.shape)
        if np.iscomplexobj(array):
            drawn = drawn + 1j * random.standard_normal(array.shape)
        return drawn.astype(array.dtype)

    cotangent = jax.tree.map(cotangent_of, value)
    outputs = tuple(_name(path) for path, _ in jax.tree_util.tree_flatten_with_path(value)[0])

    overwritten: list[bool] = []

    def gradients(inputs: tuple[Any, ...], cotangent: Any, others: Any) -> tuple[Any, Any, Any]:
        """Returns (value, gradients, gradients of intermediates)."""
        value, cache = _pair(forward(*_merged(places, inputs, others)))
        shown = copies(value)  # a copy from before the backward pass, which may modify the output
        given = backward(_conjugated(cotangent) if conjugate else cotangent, cache)
        if any(apart(leaves_by_path(shown), leaves_by_path(value)).values()):
            overwritten.append(True)
        if not isinstance(given, tuple | list):
            given = (given,)
        intermediates = {}
        if len(given) > 1 and isinstance(given[-1], dict) and len(given) - 1 in (len(floating), len(places)):
            *given, intermediates = given
        if len(given) == len(places):
            given = tuple(g for g, place in zip(given, places, strict=True) if place)
        return shown, build(given), intermediates

    def by_hand(inputs: tuple[Any, ...], cotangent: Any, others: Any) -> tuple[Any, ...]:
        value, given, intermediates = gradients(inputs, cotangent, others)
        leaves = jax.tree.leaves(jax.tree.map(as_array, value))
        wide = [np.real(np.asarray(v, np.result_type(v, np.float64)) * c) for v, c in _pairs(leaves, cotangent)]
        return sum(float(np.sum(w)) for w in wide), given, intermediates, dict(zip(outputs, leaves, strict=True))

    report = check(
        by_hand,
        _Contracted(reference, places),
        build(floating),
        (cotangent, others),
        seed=seed,
        outputs=outputs,
        given=lambda cotangent, others: dict(zip(outputs, map(np.asarray, jax.tree.leaves(cotangent)), strict=True)),
        hidden=frozenset({LOSS}),
        convention=convention,
        own=own,
        labels=LABELS,
        **options,
    )
    report = replace(report, outputs=outputs)
    if overwritten:
        cause = Diagnosis(
            "output", "modifies-output", "the backward pass modifies the output of the forward pass: work on a copy."
        )
        return replace(report, verdict=Verdict.DISAGREE, diagnoses=[cause, *report.diagnoses], wrong_side="manual")
    if report.verdict is Verdict.AGREE:
        return _in_other_layouts(report, gradients, floating, cotangent, others)
    return report


def _conjugated(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: np.conj(as_array(leaf)), tree)


def _pairs(leaves: list[np.ndarray], cotangent: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    return zip(leaves, map(np.asarray, jax.tree.leaves(cotangent)), strict=True)


def _value_of(forward: Callable[..., Any]) -> Callable[..., Any]:
    """The output of the hand-written forward pass, as a function for JAX to trace. Raises Untraceable if it cannot."""
    function = traceable(forward)

    def value(*inputs: Any) -> Any:
        try:
            return _pair(function(*inputs))[0]
        except (Untraceable, BadInput):
            raise
        except Exception as error:  # raised by the code under test, perhaps because a traced array is no NumPy array
            words = str(error).partition("\n")[0]
            raise Untraceable(f"JAX cannot trace it ({type(error).__name__}: {words})") from error

    return value


def _plain_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """A new function that calls the given one, so that JAX traces it again and does not use its cache."""

    def called(*inputs: Any) -> Any:
        return function(*inputs)

    return called


def _output_mismatch(value: Any, expected: Any) -> GradientReport | None:
    """The report on an output with a wrong structure or shape, so that nothing else can be compared; else None."""
    if jax.tree.structure(value) != jax.tree.structure(expected):
        ours, theirs = jax.tree.structure(value), jax.tree.structure(expected)
        words = f"the output has the structure {ours}, the reference has {theirs}."
        return GradientReport(
            Verdict.DISAGREE, [], "output", [Diagnosis("output", "structure", words)], "manual", outputs=("output",)
        )
    leaves, _ = jax.tree_util.tree_flatten_with_path(value)
    rows, causes = [], []
    for (path, ours), right in zip(leaves, jax.tree.leaves(expected), strict=True):
        name = _name(path)
        same = ours.shape == right.shape
        words = "" if same else f"the shape is {ours.shape} and should be {right.shape}"
        verdict = Verdict.AGREE if same else Verdict.DISAGREE
        rows.append(Row(name, verdict, right.shape, str(right.dtype), float("nan"), message=words))
        if not same:
            causes.append(Diagnosis(name, "shape", f"{words}."))
    if not causes:
        return None
    outputs = tuple(row.path for row in rows)
    return GradientReport(Verdict.DISAGREE, rows, causes[0].path, causes, "manual", outputs=outputs)


def _in_other_layouts(
    report: GradientReport, gradients: Callable[..., Any], inputs: Any, cotangent: Any, others: Any
) -> GradientReport:
    """The report, DISAGREE if the backward pass depends on the memory layout of the output gradient."""
    constant = jax.tree.map(lambda c: np.full(c.shape, c.flat[0] if c.size else 0, c.dtype), cotangent)
    layouts = (
        ("not contiguous", cotangent, jax.tree.map(_strided, cotangent)),
        ("of stride 0 (as that of a sum)", constant, jax.tree.map(_of_stride_0, constant)),
    )
    # Differences are relative to the gradients for the random output gradient, because a constant output gradient may
    # lead to gradients that consist of rounding errors only, such as those of a softmax.
    sizes: dict[str, float] = {}
    for words, plain, relaid in layouts:
        try:
            with np.errstate(all="ignore"):
                right, found = (copies(gradients(copies(inputs), c, copies(others))[1]) for c in (plain, relaid))
        except Exception as error:  # the code under test may reject such arrays
            note = f"the backward pass rejects an output gradient that is {words} in memory: {error}"
            return replace(report, notes=[*report.notes, note])
        leaves = leaves_by_path(right)
        sizes = sizes or {path: float(np.max(np.abs(leaf), initial=0)) for path, leaf in leaves.items()}
        differing = [path for path, leaf in leaves.items() if not _alike(leaf, found, path, sizes.get(path, 0.0))]
        if differing:
            message = (
                f"the gradient of {', '.join(differing)} depends on how the output gradient lies in memory: it "
                f"differs if that is {words}. Read it with its strides, or copy it first (np.ascontiguousarray)."
            )
            cause = Diagnosis(differing[0], "layout", message)
            return replace(report, verdict=Verdict.DISAGREE, diagnoses=[cause, *report.diagnoses], wrong_side="manual")
    return report


def _alike(right: np.ndarray, found: Any, path: str, size: float) -> bool:
    """Whether two gradients agree in half of the digits of the dtype, because rounding errors depend on the layout.

    Args:
        right: the gradient for a contiguous output gradient.
        found: the gradients for another layout.
        path: the path of the gradient in them.
        size: the least magnitude to which the difference is relative.
    """
    other = leaves_by_path(found).get(path)
    if other is None or other.shape != right.shape:
        return False
    with np.errstate(all="ignore"):
        gap = np.max(np.abs(np.asarray(other - right)), initial=0)
        largest = np.max(np.abs(right), initial=size)
        return bool(gap <= float(jnp.finfo(right.dtype).eps) ** 0.5 * largest) or not np.isfinite(right).all()


def _strided(array: np.ndarray) -> np.ndarray:
    """The same values in another layout: the first axis is the fastest in memory, and every other number is unused.

    Code that assumes a contiguous array reads wrong numbers.
    """
    if not array.ndim:
        return array
    memory = np.full((*array.shape[:0:-1], 2 * array.shape[0]), 7, array.dtype)
    spread = memory[..., ::2].transpose()
    spread[...] = array
    return spread


def _of_stride_0(array: np.ndarray) -> np.ndarray:
    """An array of stride 0, in a buffer of full size, so that code that ignores strides does not read beyond it."""
    memory = np.full(max(array.size, 1), 7, array.dtype)
    memory[0] = array.flat[0] if array.size else 0
    return np.lib.stride_tricks.as_strided(memory, array.shape, (0,) * array.ndim)


def assert_vjp_agrees(*args: Any, **options: Any) -> None:
    """`check_vjp` for tests, with the same arguments.

    Raises:
        GradientMismatch: an AssertionError with the report, unless the verdict is AGREE.
    """
    report = check_vjp(*args, **options)
    if report.verdict is not Verdict.AGREE:
        raise GradientMismatch(report)
