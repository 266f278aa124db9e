"""Derivatives in PyTorch against PyTorch's own: kernels, modules and custom operators beside an eager reference.

The reference is run in float64 and differentiated by autograd. How far two correct computations may be apart is
measured as elsewhere in this project: the reference is run again with every operation's result moved by what its
rounding may be, in the dtype of the tensors, here by a dispatch mode. The report is that of the other checks.

Needs PyTorch (`pip install 'backproof[torch]'`), which nothing else of this project imports.
"""

# PyTorch is optional: where it is not installed, nothing is known of its names, and this file's own is like it.
# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from compare.errors import BadInput
from compare.judge.diagnosis.causes import diagnose, shape_or_dtype
from compare.judge.diagnosis.evidence import Evidence
from compare.judge.evaluation.wider import decided
from compare.judge.reports.gradient_report import GradientMismatch, GradientReport
from compare.judge.reports.verdict import Diagnosis, Row, Verdict, compare_leaves
from compare.judge.roundoff.perturbation import unit_roundoff, working_dtype
from compare.judge.roundoff.tolerance import CONFIRMED, SAMPLES, Scatter
from compare.pytrees import Leaves, as_array

# Operations that only move numbers, or make tensors of constants.
EXACT = frozenset(
    """
    _reshape_alias _to_copy _unsafe_view alias arange as_strided bitwise_and bitwise_not bitwise_or cat clone contiguous
    copy_ detach diagonal embedding empty empty_like eq expand fill_ flip full full_like ge gather gt index index_put
    index_select le lift_fresh lt masked_fill max maximum min minimum ne neg new_empty new_empty_strided new_zeros ones
    ones_like permute relu repeat reshape roll scalar_tensor select select_backward slice slice_backward split squeeze
    stack t threshold_backward transpose tril triu unbind unfold unsqueeze view where zeros zeros_like
    """.split()  # noqa: SIM905  # one name a line would fill two pages
)
WIDER = {torch.float16: torch.float32, torch.bfloat16: torch.float32, torch.float32: torch.float64}


def check_function(
    function: Callable[..., Any],
    reference: Callable[..., Any],
    *tensors: Any,
    seed: int = 0,
    order: int = 1,
    names: tuple[str, ...] | None = None,
    layouts: bool = True,
    strict: bool = False,
    probes: bool = True,
) -> GradientReport:
    """Compare a function of PyTorch and its backward pass with an eager reference.

    Args:
        function: `torch.autograd.Function.apply`, a module, a custom operator, a compiled function. It gets the tensors
            on their own device and in their own dtype.
        reference: the same in PyTorch's operations, differentiated by autograd in float64. Of a module, another module
            with parameters of the same names, which are given the same values.
        tensors: the inputs. Floating-point ones are differentiated; others pass through.
        seed: for the output gradient, and for what else is drawn.
        order: 2 to judge the backward pass of the backward pass, too.
        names: of the inputs, for the report; by default those of the reference.
        layouts: whether to look at inputs and an output gradient that are not contiguous, at an expanded output
            gradient, and at inputs that need no gradient.
        strict: whether lost digits are a fault.
        probes: whether to look at another point, with the inputs 4 times as large and moved.

    Returns:
        A report with a row for the output, each input, and each parameter.

    Raises:
        BadInput: a ValueError, if nothing can be differentiated, or the reference cannot be.
    """
    pair = _Pair(function, reference, tensors, seed, names)
    point = _looked_at(pair, tensors)
    report = _reported(pair, point)
    if report.verdict is Verdict.AGREE and probes:
        report = _elsewhere(pair, report)
    if report.verdict is Verdict.AGREE and order >= 2:
        report = _second_order(pair, report, strict)
    if report.verdict is Verdict.AGREE and layouts:
        report = _layouts(pair, point, report)
    if strict and report.verdict is Verdict.AGREE and report.arithmetic:
        causes = [Diagnosis(None, "arithmetic", words) for words in report.arithmetic]
        return replace(report, verdict=Verdict.DISAGREE, diagnoses=causes, wrong_side="manual")
    return report


def assert_function_agrees(*args: Any, **options: Any) -> None:
    """`check_function`, but raise GradientMismatch unless the verdict is AGREE."""
    report = check_function(*args, **options)
    if report.verdict is not Verdict.AGREE:
        raise GradientMismatch(report)


@dataclass
class _Pair:
    """Both functions, and what is known of them before any number is looked at."""

    function: Callable[..., Any]
    reference: Callable[..., Any]
    tensors: tuple[Any, ...]
    seed: int
    names: tuple[str, ...] | None
    places: list[bool] = field(default_factory=list)
    dtype: Any = None

    def __post_init__(self) -> None:
        self.places = [isinstance(x, torch.Tensor) and x.is_floating_point() for x in self.tensors]
        moving = [x.dtype for x, place in zip(self.tensors, self.places, strict=True) if place]
        moving += [p.dtype for p in self._parameters(self.function).values()]
        if not moving:
            raise BadInput("none of the tensors is a floating-point one: there is nothing to differentiate.")
        self.dtype = max(moving, key=lambda dtype: torch.finfo(dtype).eps)  # the coarsest: what sets the rounding
        self.names = (
            self.names or _names_of(self.reference, len(self.tensors)) or _names_of(self.function, len(self.tensors))
        )
        if self.names is None or len(self.names) != len(self.tensors):
            self.names = tuple(f"input {i}" for i in range(len(self.tensors)))

    @staticmethod
    def _parameters(function: Any) -> dict[str, torch.Tensor]:
        return dict(function.named_parameters()) if isinstance(function, torch.nn.Module) else {}

    def labels(self) -> list[str]:
        assert self.names is not None
        return [name for name, place in zip(self.names, self.places, strict=True) if place]

    def exact(self) -> tuple[Callable[..., Any], dict[str, torch.Tensor]]:
        """The reference in float64, and its parameters by name."""
        if not isinstance(self.reference, torch.nn.Module):
            return self.reference, {}
        module = copy.deepcopy(self.reference).double()
        own = self._parameters(self.function)
        if own:
            named = dict(module.named_parameters())
            if named.keys() != own.keys():
                lacking = sorted(own.keys() ^ named.keys())
                raise BadInput(
                    f"the reference must have the module's parameters, but they differ in {', '.join(lacking)}."
                )
            with torch.no_grad():
                for name, parameter in named.items():
                    parameter.copy_(own[name].double())
        return module, dict(module.named_parameters())


def _names_of(function: Callable[..., Any], count: int) -> tuple[str, ...] | None:
    import inspect

    if isinstance(function, torch.nn.Module):
        function = function.forward
    try:
        signature = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = tuple(parameter.name for parameter in signature if parameter.kind in positional)[:count]
    return found if len(found) == count else None


@dataclass
class _Point:
    """Both sides at one point: values by name, and rows."""

    tensors: tuple[Any, ...]
    outputs: tuple[str, ...]
    actual: Leaves
    expected: Leaves
    tolerance: Leaves
    rows: list[Row]
    samples: int
    arithmetic: dict[str, str]


# ------------------------------------------------------------------------------------ running both sides


def _run(
    function: Callable[..., Any],
    parameters: dict[str, torch.Tensor],
    pair: _Pair,
    tensors: tuple[Any, ...],
    cotangents: list[torch.Tensor] | None = None,
    needed: set[str] | None = None,
    who: str = "function",
) -> tuple[list[torch.Tensor], dict[str, torch.Tensor | None]]:
    """(outputs, gradients by name) of a function at tensors that are detached from whatever they came from."""
    given, leaves = [], {}
    labels = iter(pair.labels())
    for x, place in zip(tensors, pair.places, strict=True):
        if not place:
            given.append(x)
            continue
        name = next(labels)
        leaf = _same_layout(x.detach()).requires_grad_(needed is None or name in needed)
        given.append(leaf)
        if leaf.requires_grad:
            leaves[name] = leaf
    leaves |= {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
    result = function(*given)
    outputs = _tensors(result, who)
    cotangents = _cotangents(pair, outputs) if cotangents is None else cotangents
    if len(outputs) != len(cotangents):
        raise BadInput(f"function returns {len(cotangents)} tensors, and the reference {len(outputs)}.")
    used = [(o, c) for o, c in zip(outputs, cotangents, strict=True) if o.requires_grad]
    if not used:
        raise BadInput(
            f"what {who} returns does not depend on the inputs in a way that autograd sees: nothing can be "
            "differentiated. Look for detach(), .data, numpy() or torch.no_grad() in it."
        )
    for o, c in used:
        if o.shape != c.shape:
            raise BadInput(
                f"function returns a tensor of shape {tuple(c.shape)}, and the reference one of {tuple(o.shape)}."
            )
    gradients = torch.autograd.grad(
        [o for o, _ in used], list(leaves.values()), [c.to(o.dtype) for o, c in used], allow_unused=True
    )
    return [o.detach() for o in outputs], dict(zip(leaves, gradients, strict=True))


def _tensors(result: Any, who: str) -> list[torch.Tensor]:
    """The floating-point tensors that a function returns. Raises BadInput, a ValueError, if there are none."""
    found = [result] if isinstance(result, torch.Tensor) else list(result) if isinstance(result, tuple | list) else []
    tensors = [x for x in found if isinstance(x, torch.Tensor) and x.is_floating_point()]
    if not tensors:
        raise BadInput(
            f"{who} must return a floating-point tensor, or a tuple of them, but it returns {type(result).__name__}."
        )
    return tensors


def _same_layout(x: torch.Tensor) -> torch.Tensor:
    """A copy with the same strides, so that nobody writes into the caller's memory."""
    if 0 in x.stride():
        return x.clone()
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device).copy_(x)


def _cotangents(pair: _Pair, outputs: list[torch.Tensor]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1_000_003 + pair.seed)
    return [torch.randn(o.shape, generator=generator, dtype=torch.float64).to(o.dtype).to(o.device) for o in outputs]


def _double(tensors: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in tensors)


def _array(x: torch.Tensor | None, like: Any = None) -> np.ndarray:
    return np.zeros(like.shape, as_array(like.detach().cpu()).dtype) if x is None else as_array(x.detach().cpu())


class _Rounding(TorchDispatchMode):
    """Moves every operation's result by what its rounding may be in `dtype`, sums being formed in `work`."""

    def __init__(self, dtype: Any, seed: int) -> None:
        super().__init__()
        numpy_dtype = as_array(torch.zeros((), dtype=dtype)).dtype
        self.stored = unit_roundoff(numpy_dtype)
        self.work = unit_roundoff(working_dtype(numpy_dtype))
        self.generator = torch.Generator().manual_seed(seed)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        if name.rstrip("_") in EXACT or name in EXACT:
            return result
        terms = _terms(name, args)

        def moved(x: Any) -> Any:
            if not isinstance(x, torch.Tensor) or not x.is_floating_point():
                return x
            scale = self.stored * x.abs()
            if terms is not None and terms.shape == x.shape:
                scale = scale + 3**0.5 * self.work * terms  # whose standard deviation is that of the draws
            noise = torch.rand(x.shape, generator=self.generator, dtype=torch.float64).to(x.device)
            change = scale * 2 * (noise - 0.5)  # no operation rounds by more
            return torch.where(torch.isfinite(change), x + change, x)

        return tree_map(moved, result)


def _terms(name: str, args: Any) -> Any:
    """What a sum of products errs in proportion to: the square root of the number of terms times their norm."""
    if name in ("mm", "bmm"):
        a, b = args[0], args[1]
        return a.shape[-1] ** 0.5 * ((a * a) @ (b * b)).sqrt()
    if name == "addmm":
        a, b = args[1], args[2]
        return a.shape[-1] ** 0.5 * ((a * a) @ (b * b)).sqrt()
    if name in ("sum", "mean") and isinstance(args[0], torch.Tensor):
        x = args[0]
        axes = args[1] if len(args) > 1 and isinstance(args[1], list | tuple) else None
        keep = bool(args[2]) if len(args) > 2 and isinstance(args[2], bool) else False
        total = (x * x).sum() if axes is None else (x * x).sum(axes, keepdim=keep)
        count = x.numel() / max(total.numel(), 1)
        return count**0.5 * total.sqrt() / (count if name == "mean" else 1)
    return None


def _looked_at(pair: _Pair, tensors: tuple[Any, ...]) -> _Point:
    """Both sides at a point, a disagreement looked at with more samples and in a wider dtype before it is one."""
    outputs, gradients = _run(pair.function, pair._parameters(pair.function), pair, tensors)
    exact, own = pair.exact()
    cotangents = [c.double() for c in _cotangents(pair, outputs)]
    wide = _double(tensors)
    try:
        right, right_gradients = _run(exact, own, pair, wide, cotangents, who="the reference")
    except (RuntimeError, TypeError) as error:
        words = str(error).partition("\n")[0]
        raise BadInput(f"the reference cannot be differentiated, or run in float64: {words}") from None
    named = ("output",) if len(outputs) == 1 else tuple(f"output[{i}]" for i in range(len(outputs)))
    inputs = dict(zip(pair.labels(), (x for x, p in zip(tensors, pair.places, strict=True) if p), strict=True))
    inputs |= pair._parameters(pair.function)
    actual = {name: _array(o) for name, o in zip(named, outputs, strict=True)}
    actual |= {name: _array(g, inputs[name]) for name, g in gradients.items()}
    model = {name: np.zeros(o.shape, _array(o).dtype) for name, o in zip(named, outputs, strict=True)}
    model |= {name: np.zeros(x.shape, _array(x).dtype) for name, x in inputs.items() if name in gradients}
    expected = {name: _array(o) for name, o in zip(named, right, strict=True)}
    expected |= {name: _array(right_gradients.get(name), inputs[name]).astype(np.float64) for name in gradients}
    point = None
    for samples in (SAMPLES, *CONFIRMED):
        tolerance, parts = _measured(pair, exact, own, wide, cotangents, named, expected, model, samples)
        rows = compare_leaves(actual, model, expected, tolerance, parts=parts)
        point = _Point(tensors, named, actual, expected, tolerance, rows, samples, {})
        if Verdict.of([row.verdict for row in rows]) is not Verdict.DISAGREE:
            return point
    assert point is not None  # there was a measurement
    return _widely(pair, point)


def _measured(
    pair: _Pair,
    exact: Callable[..., Any],
    own: dict[str, torch.Tensor],
    wide: tuple[Any, ...],
    cotangents: list[torch.Tensor],
    named: tuple[str, ...],
    expected: Leaves,
    model: Leaves,
    samples: int,
) -> tuple[Leaves, dict[str, Any]]:
    scatters = {name: Scatter(value) for name, value in expected.items()}
    for sample in range(samples):
        with _Rounding(pair.dtype, 1009 * pair.seed + sample):
            outputs, gradients = _run(exact, own, pair, wide, cotangents)
        values = dict(zip(named, outputs, strict=True)) | gradients
        for name, scatter in scatters.items():
            value = values.get(name)
            scatter.add(expected[name] if value is None else _array(value))
    tolerance = {name: scatter.tolerance(model[name].dtype) for name, scatter in scatters.items()}
    return tolerance, {name: scatter.parts(model[name].dtype) for name, scatter in scatters.items()}


def _widely(pair: _Pair, point: _Point) -> _Point:
    """The point, its rows settled by what the function gives in a wider dtype, if it takes one."""
    to = WIDER.get(pair.dtype)
    if to is None or isinstance(pair.function, torch.nn.Module):
        return point
    tensors = tuple(x.to(to) if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in point.tensors)
    try:
        narrow = [torch.from_numpy(point.expected[name]) for name in point.outputs]
        cotangents = [c.to(to) for c in _cotangents(pair, [x.to(pair.dtype) for x in narrow])]
        outputs, gradients = _run(pair.function, {}, pair, tensors, cotangents)
    except Exception:  # any refusal of a wider dtype means the same
        return point
    wide = {name: _array(o) for name, o in zip(point.outputs, outputs, strict=True)}
    wide |= {name: _array(g) for name, g in gradients.items() if g is not None}
    rows, arithmetic = decided(point.rows, point.actual, point.expected, wide)
    return replace(point, rows=rows, arithmetic=arithmetic)


# ------------------------------------------------------------------------------------ what is said of it


def _reported(pair: _Pair, point: _Point, probe: str | None = None) -> GradientReport:
    verdict = Verdict.of([row.verdict for row in point.rows])
    wrong = [row for row in point.rows if row.verdict is Verdict.DISAGREE]
    causes: list[Diagnosis] = []
    for row in wrong:
        causes += _causes(pair, point, row)
    notes = []
    if verdict is Verdict.INCONCLUSIVE:
        row = next(row for row in point.rows if row.verdict is Verdict.INCONCLUSIVE)
        notes = [f"{row.path}: {row.message}. Look at a point where the reference is finite."]
    runs = "1 run" if point.samples == 1 else f"{point.samples} runs"
    return GradientReport(
        verdict,
        point.rows,
        wrong[0].path if wrong else None,
        causes,
        "manual" if wrong else None,
        probe,
        notes=notes,
        arithmetic=list(point.arithmetic.values()),
        outputs=point.outputs,
        allowance=f"16 standard deviations of rounding in {pair.dtype} (every operation perturbed, {runs}).",
    )


def _causes(pair: _Pair, point: _Point, row: Row) -> list[Diagnosis]:
    actual, expected = point.actual.get(row.path), point.expected.get(row.path)
    if actual is None or expected is None:
        return [Diagnosis(row.path, "missing-leaf", f"{row.message}.")]
    plain = shape_or_dtype(row.path, actual, np.zeros(expected.shape, row.dtype))
    if plain is not None:
        return [plain]
    if not np.isfinite(np.asarray(actual, np.float64)).all():
        return [Diagnosis(row.path, "non-finite", f"{row.message}.")]
    arrays = {
        name: np.asarray(_array(x), np.float64)
        for name, x in zip(pair.names or (), point.tensors, strict=True)
        if isinstance(x, torch.Tensor) and x.is_floating_point()
    }
    sizes = {f"{name}.shape[{axis}]": n for name, x in arrays.items() for axis, n in enumerate(x.shape)}
    evidence = Evidence(
        row.path,
        np.asarray(actual, np.float64),
        expected,
        point.tolerance[row.path],
        sizes=sizes,
        thresholds={name: x for name, x in arrays.items() if x.shape == expected.shape},
        parameter=arrays.get(row.path),
        known={name: x for name, x in arrays.items() if name != row.path},
        dtype=np.dtype(np.float64),
    )
    with np.errstate(all="ignore"):
        return diagnose(evidence)


def _elsewhere(pair: _Pair, report: GradientReport) -> GradientReport:
    """The report, or one on a fault that shows at inputs 4 times as large: a finite one, that no rounding explains."""
    name = "inputs x 4, moved"
    generator = torch.Generator().manual_seed(pair.seed + 17)

    def moved(x: Any) -> Any:
        if not isinstance(x, torch.Tensor) or not x.is_floating_point():
            return x
        size = float(x.detach().double().pow(2).mean().sqrt()) or 1.0 if x.numel() else 1.0
        noise = 0.1 * size * torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x.device)
        if bool((x >= 0).all()) or bool((x <= 0).all()):  # a sign may mean something
            return 4 * x.detach()
        return (4 * (x.detach().double() + noise)).to(x.dtype)

    try:
        there = _looked_at(pair, tuple(map(moved, pair.tensors)))
    except Exception as error:  # it may refuse what its caller never gave it
        return replace(report, probes={name: f"the code under test raised {error}"})
    finite = [np.isfinite(np.asarray(there.actual[n], np.float64)).all() for n in there.actual]
    finite += [np.isfinite(v).all() for v in there.expected.values()]
    if not all(finite):
        words = f"at the perturbed point {name!r}, what was returned is not finite."
        return replace(report, probes={name: "not finite"}, arithmetic=[*report.arithmetic, words])
    found = _reported(pair, there, name)
    if found.verdict is Verdict.DISAGREE:
        return replace(found, probes={name: "disagree"})
    return replace(report, probes={name: found.verdict.value})


# ------------------------------------------------------------------------------------ layouts, and second order


def _layouts(pair: _Pair, point: _Point, report: GradientReport) -> GradientReport:
    """The report, and faults that only other layouts, other calls or other needs show."""
    parameters = pair._parameters(pair.function)
    outputs, usual = _run(pair.function, parameters, pair, pair.tensors)
    plain = _cotangents(pair, outputs)
    ones = [torch.full_like(c, 0.5) for c in plain]
    looks: Iterator[tuple[str, Any, Any, Any, set[str] | None]] = iter(
        [
            ("asked again", pair.tensors, plain, plain, None),
            ("with inputs that are not contiguous", tuple(map(_spread, pair.tensors)), plain, plain, None),
            ("with an output gradient that is not contiguous", pair.tensors, [*map(_spread, plain)], plain, None),
            (
                "with an expanded output gradient, as that of a sum is",
                pair.tensors,
                [torch.full((), 0.5, dtype=c.dtype, device=c.device).expand(c.shape) for c in plain],
                ones,
                None,
            ),
        ]
    )
    labels = pair.labels()
    some = [
        (f"when {label} needs no gradient", pair.tensors, plain, plain, set(labels) - {label})
        for label in labels
        if len(labels) > 1
    ]
    causes, notes = [], list(report.notes)
    for words, tensors, cotangents, same, needed in [*looks, *some]:
        try:
            expected = usual if same is plain else _run(pair.function, parameters, pair, pair.tensors, same)[1]
            found_outputs, found = _run(pair.function, parameters, pair, tensors, cotangents, needed)
        except Exception as error:  # a refusal is no wrong answer
            notes.append(f"{words}, it is refused: {str(error).partition(chr(10))[0]}")
            continue
        wrong = [
            name
            for name, value in found.items()
            if not _close(value, expected[name], point.tolerance.get(name), same, plain)
        ]
        wrong += [
            name
            for name, a, b in zip(point.outputs, found_outputs, outputs, strict=True)
            if not _close(a, b, point.tolerance[name], plain, plain)
        ]
        if wrong:
            kind = "not-deterministic" if words == "asked again" else "layout"
            causes.append(Diagnosis(wrong[0], kind, f"{words}, {', '.join(wrong)} is another."))
            break
    if causes:
        return replace(report, verdict=Verdict.DISAGREE, diagnoses=causes, wrong_side="manual", notes=notes)
    return replace(report, notes=notes)


def _close(one: Any, other: Any, tolerance: Any, same: Any, plain: Any) -> bool:
    if one is None or other is None:
        return one is other
    a, b = (np.asarray(_array(x), np.float64) for x in (one, other))
    eps = float(jnp.finfo(_array(one).dtype).eps)
    allowed = eps**0.5 * np.abs(b).max(initial=0)
    if same is plain and tolerance is not None and tolerance.shape == a.shape:
        allowed = np.maximum(2 * tolerance, 4 * eps * np.abs(b))
    return bool((np.abs(a - b) <= allowed).all() or not np.isfinite(b).all())


def _spread(x: Any) -> Any:
    """The same numbers, not contiguous in memory."""
    if not isinstance(x, torch.Tensor) or not x.dim() or not x.is_floating_point():
        return x
    memory = torch.full((*reversed(x.shape[1:]), 2 * x.shape[0]), 7, dtype=x.dtype, device=x.device)
    view = memory[..., ::2].permute(*reversed(range(x.dim())))
    with torch.no_grad():
        return view.copy_(x)


def _second_order(pair: _Pair, report: GradientReport, strict: bool) -> GradientReport:
    """The report, or one on the backward pass of the backward pass: the gradient of <gradients, v>."""
    labels = pair.labels()
    count = len(pair.tensors)
    outputs, _ = _run(pair.function, pair._parameters(pair.function), pair, pair.tensors)
    cotangents = _cotangents(pair, outputs)

    def once(function: Callable[..., Any]) -> Callable[..., Any]:
        def gradients(*given: Any) -> Any:
            tensors, weights = given[:count], given[count:]
            moving = [x for x, place in zip(tensors, pair.places, strict=True) if place]
            found = torch.autograd.grad(
                _tensors(function(*tensors), "function"), moving, weights, create_graph=True, allow_unused=True
            )
            zero = sum((w * 0).sum() for w in weights)  # so that a gradient that is constant can be differentiated
            return tuple(zero + (x * 0 if g is None else g + x * 0) for g, x in zip(found, moving, strict=True))

        return gradients

    try:
        twice = (once(pair.function), once(pair.reference))
        names = (*(pair.names or ()), *(f"output gradient {i}" for i in range(len(cotangents))))
        second = check_function(
            *twice, *pair.tensors, *cotangents, seed=pair.seed + 1, names=names, layouts=False, strict=strict
        )
    except RuntimeError as error:
        words = f"the backward pass cannot be differentiated: {str(error).partition(chr(10))[0]}"
        cause = Diagnosis(None, "second-order", words)
        return replace(report, verdict=Verdict.DISAGREE, diagnoses=[cause], wrong_side="manual")
    if second.verdict is Verdict.AGREE:
        return replace(report, notes=[*report.notes, "the backward pass of the backward pass agrees, too."])
    renamed = {f"output[{i}]": f"d{label}" for i, label in enumerate(labels)} | {"output": f"d{labels[0]}"}
    rows = [replace(row, path=renamed.get(row.path, f"{row.path} (second order)")) for row in second.rows]
    diagnoses = [
        replace(d, path=d.path and renamed.get(d.path, d.path), message=f"in the second derivative, {d.message}")
        for d in second.diagnoses
    ]
    first = second.first_wrong and renamed.get(second.first_wrong, f"{second.first_wrong} (second order)")
    outputs = tuple(row.path for row in rows)
    return replace(second, rows=rows, diagnoses=diagnoses, first_wrong=first, outputs=outputs)
