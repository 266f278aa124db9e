"""Compares each custom derivative rule of a JAX program with the derivative of the function that it belongs to.

JAX uses a `custom_vjp` without checking it. The trace of a program contains both the rule and its function. So each
rule can be checked at the inputs that it gets in the program, like a hand-written backward pass or Jacobian-vector
product. Only the program is needed.
"""

import html
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from compare.errors import BadInput
from compare.judge.jvp import check_jvp
from compare.judge.program.trace import bound, under_jax
from compare.judge.reports.gradient_report import GradientMismatch, GradientReport
from compare.judge.reports.tables import plain_text
from compare.judge.reports.verdict import Diagnosis, Verdict, plain
from compare.judge.vjp import check_vjp
from compare.platform import precise
from compare.pytrees import as_array

CUSTOM = ("custom_vjp_call", "custom_jvp_call")


@dataclass(frozen=True)
class RulesReport:
    """The reports on the custom rules of a program.

    Attributes:
        reports: the report on each rule, by its name and source line, in the order of use.
    """

    reports: dict[str, GradientReport] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        return Verdict.of([report.verdict for report in self.reports.values()])

    @property
    def first_wrong(self) -> str | None:
        return next((name for name, report in self.reports.items() if report.verdict is Verdict.DISAGREE), None)

    @property
    def diagnoses(self) -> list[Diagnosis]:
        """The causes of the first wrong rule."""
        return [] if self.first_wrong is None else self.reports[self.first_wrong].diagnoses

    @property
    def sentence(self) -> str:
        wrong = {name: report for name, report in self.reports.items() if report.verdict is not Verdict.AGREE}
        if wrong:
            name, report = next(iter(wrong.items()))
            verdict, _, what = report.sentence.partition(": ")
            return f"{verdict}: {name}: {what}"
        count = len(self.reports)
        if count == 1:
            return "AGREE: 1 custom rule is the derivative of its function."
        return f"AGREE: {count} custom rules are the derivatives of their functions."

    def to_dict(self) -> dict[str, Any]:
        return plain(
            {
                "verdict": self.verdict,
                "sentence": self.sentence,
                "first_wrong": self.first_wrong,
                "reports": {name: report.to_dict() for name, report in self.reports.items()},
            }
        )

    def __str__(self) -> str:
        parts = [self.sentence]
        for name, report in self.reports.items():
            parts += ["", f"{name}:", str(report)]
        return plain_text(*parts)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return "".join(f"<h4>{html.escape(name)}</h4>{report._repr_html_()}" for name, report in self.reports.items())

    def __bool__(self) -> NoReturn:
        raise TypeError("a report is not a truth value; look at report.verdict")


def check_custom_rules(function: Callable[..., Any], *inputs: Any, seed: int = 0, **options: Any) -> RulesReport:
    """Check every `custom_vjp` and `custom_jvp` that `function(*inputs)` uses, at the inputs that it gets there.

    Each rule is compared with JAX's derivative of the rule's function. A `custom_jvp` is checked both as J v and as its
    transpose J' u. The rules of JAX's own functions, such as `jax.nn.relu`, are left out. A rule in a loop or branch is
    checked at the inputs of its first use. A rule that is used inside another rule's function is checked separately.

    Args:
        function: the program, traceable by JAX.
        *inputs: arrays, or pytrees of them, at which it is evaluated.
        seed: the seed of everything random in the check.
        **options: those of `check_gradients`.

    Returns:
        A report for each rule, by its name and source line.

    Raises:
        BadInput: a ValueError, if there is no custom rule besides those of JAX itself.
    """
    arrays = jax.tree.map(lambda x: np.array(as_array(x)) if hasattr(x, "__array__") else x, inputs)
    with precise(arrays, ()):
        closed, _ = jax.make_jaxpr(function, return_shape=True)(*arrays)
        uses = _uses(closed, jax.tree.leaves(arrays))
        reports: dict[str, GradientReport] = {}
        for equation, given in uses:
            name = _name(equation)
            if name not in reports:
                reports[name] = _judged(equation, given, seed, options)
    if not uses:
        raise BadInput(
            "function uses no custom_vjp and no custom_jvp of its own: there is no rule to check. (Those of JAX's own "
            "functions are left out.)"
        )
    return RulesReport(reports)


def _name(equation: Any) -> str:
    places = _places(equation)
    return f"{equation.primitive.name.removesuffix('_call')} of {next(filter(_is_own_place, places), places[0])}"


def _places(equation: Any) -> list[str]:
    """The source lines of the function and its rule; one may be JAX's own, as in `custom_jvp(jnp.sin)`."""
    infos = [equation.params["call_jaxpr"].jaxpr.debug_info]
    infos += [getattr(equation.params.get(rule), "debug_info", None) for rule in ("bwd", "jvp_jaxpr_fun")]
    return [getattr(info, "func_src_info", None) or "a function" for info in infos if info is not None]


def _is_own_place(place: str) -> bool:
    return "/jax/_src/" not in place.replace("\\", "/")


def _is_own(equation: Any) -> bool:
    return any(map(_is_own_place, _places(equation)))


def _uses(closed: Any, inputs: list[Any]) -> list[tuple[Any, list[np.ndarray]]]:
    """The custom rules of a traced program, with their inputs."""
    found: list[tuple[Any, list[np.ndarray]]] = []

    def look(jaxpr: Any, constants: Any, arguments: Any) -> list[Any]:
        return under_jax(jaxpr, constants, arguments, done)

    def done(equation: Any, inputs: list[Any]) -> list[Any]:
        name = equation.primitive.name
        if name in CUSTOM:
            if _is_own(equation):
                found.append((equation, [np.asarray(value) for value in inputs]))
            inside = equation.params["call_jaxpr"]
            look(inside.jaxpr, inside.consts, inputs)
        elif name == "scan":
            fixed = equation.params["num_consts"] + equation.params["num_carry"]
            first = [value[0] for value in inputs[fixed:]]
            inside = equation.params["jaxpr"]
            if equation.params["length"]:
                look(inside.jaxpr, inside.consts, [*inputs[:fixed], *first])
        elif name == "while":
            skipped = equation.params["cond_nconsts"]
            inside = equation.params["body_jaxpr"]
            look(inside.jaxpr, inside.consts, inputs[skipped:])
        elif name == "cond":
            index, *operands = inputs
            inside = equation.params["branches"][int(index)]
            look(inside.jaxpr, inside.consts, operands)
        return bound(equation, inputs)

    look(closed.jaxpr, closed.consts, [jnp.asarray(value) for value in inputs])
    return found


def _judged(equation: Any, given: list[np.ndarray], seed: int, options: dict[str, Any]) -> GradientReport:
    inside = equation.params["call_jaxpr"]

    def inlined(equation: Any, inputs: list[Any]) -> list[Any]:
        """Evaluates the function of a rule inside this one without its rule, which is checked separately."""
        if equation.primitive.name not in CUSTOM or not _is_own(equation):
            return bound(equation, inputs)
        within = equation.params["call_jaxpr"]
        return under_jax(within.jaxpr, within.consts, inputs, inlined)

    def alone(outputs: Any) -> Any:
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def function(*inputs: Any) -> Any:
        return alone(under_jax(inside.jaxpr, inside.consts, list(inputs), inlined))

    def with_rule(*inputs: Any) -> Any:
        return alone(bound(equation, list(inputs)))

    def forward(*inputs: Any) -> Any:
        value, pull = jax.vjp(with_rule, *map(jnp.asarray, inputs))
        return jax.tree.map(np.asarray, value), pull

    def backward(cotangent: Any, pull: Any) -> Any:
        pulled = pull(jax.tree.map(jnp.asarray, cotangent))
        return tuple(None if g.dtype == jax.dtypes.float0 else np.asarray(g) for g in pulled)

    def jvp(primals: Any, tangents: Any) -> Any:
        zeros = [
            np.zeros(np.shape(p), jax.dtypes.float0) if t is None else jnp.asarray(t)
            for p, t in zip(primals, tangents, strict=True)
        ]
        value, tangent = jax.jvp(with_rule, tuple(map(jnp.asarray, primals)), tuple(zeros))
        return jax.tree.map(np.asarray, value), jax.tree.map(np.asarray, tangent)

    names = _argument_names(inside, len(given))
    if equation.primitive.name == "custom_jvp_call":
        report = check_jvp(jvp, function, *given, seed=seed, **options)
        if report.verdict is not Verdict.AGREE:
            return report
    return check_vjp(forward, backward, function, *given, seed=seed, names=names, **options)


def _argument_names(closed: Any, count: int) -> list[str] | None:
    """The names of the function's arguments, if each argument is one array and has a usable name; else None."""
    names = closed.jaxpr.debug_info.arg_names
    if names is None or len(names) != count:
        return None
    usable = all(name and name.isidentifier() and not name.startswith("_") for name in names)
    return list(names) if usable and len(set(names)) == count else None


def assert_custom_rules_agree(*args: Any, **options: Any) -> None:
    """`check_custom_rules` for tests, with the same arguments.

    Raises:
        GradientMismatch: an AssertionError with the report of the first rule that does not agree.
    """
    report = check_custom_rules(*args, **options)
    for one in report.reports.values():
        if one.verdict is not Verdict.AGREE:
            raise GradientMismatch(one)
