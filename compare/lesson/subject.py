"""The subject of a lesson, which is a network and its data, and the short training run that yields the numbers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compare.judge.evaluation.intermediates import find_taps
from compare.judge.gradients import check_gradients
from compare.judge.program.trace import Program, bound, traced, under_jax
from compare.judge.reports.verdict import Verdict
from compare.lesson.backward_mode import backward_mode
from compare.lesson.content import Lesson, Moment, Numbers, Plane, Quantity, Step, numbers
from compare.lesson.source import Excerpt
from compare.platform import precise
from compare.pytrees import leaves_by_path

Progress = Callable[[str, int], None]
MOMENTS = 31


@dataclass(frozen=True)
class SecondOrder:
    """The second-order part of a lesson: the product of the Hessian with a vector.

    Attributes:
        vector: The vector, a pytree like the parameters.
        by_hand: `(parameters, vector, *args) -> (product, values, gradients)`. The latter two are the derivatives along
            the vector of the intermediate values and of their gradients, by name.
        root: The line of `autodiff` from which JAX derives the product.
    """

    vector: Any
    by_hand: Callable[..., tuple[Any, dict[str, np.ndarray], dict[str, np.ndarray]]]
    root: Excerpt


@dataclass(frozen=True)
class Subject:
    """The network of a lesson, its data, and how it is trained.

    Attributes:
        model: The name of the model.
        title: The title of the lesson.
        about: Paragraphs that introduce it.
        iterations: The number of training steps.
        settings: All options, by name.
        steps: The steps of the derivation.
        root: The line of `autodiff` from which JAX derives all gradients.
        parameters: The initial parameters.
        args: The other arguments of the loss, which are the data.
        by_hand: `(parameters, *args) -> (loss, gradients, gradients of intermediate values)`.
        loss: The loss in JAX, `(parameters, *args) -> loss`.
        values: `(parameters, *args)` -> the intermediate values of the hand-written forward pass, by name.
        values_by_jax: The same in JAX.
        update: `(parameters, gradients, state) -> (parameters, state)`, a step of the optimizer.
        state: The initial state of the optimizer.
        where: `array -> indices`, which chooses the entries that are shown.
        plane: The data for the picture, if they have two features and two classes.
        boundary: `parameters ->` the probability of class 1 on the grid of `plane`.
        second: The second-order part, if the lesson has one.
    """

    model: str
    title: str
    about: Sequence[str]
    iterations: int
    settings: dict[str, Any]
    steps: Sequence[Step]
    root: Excerpt
    parameters: Any
    args: tuple[np.ndarray, ...]
    by_hand: Callable[..., Any]
    loss: Callable[..., Any]
    values: Callable[..., dict[str, Any]]
    values_by_jax: Callable[..., dict[str, Any]]
    update: Callable[..., Any]
    state: Any
    where: Callable[[np.ndarray], Sequence[tuple[int, ...]]]
    plane: Plane | None = None
    boundary: Callable[[Any], np.ndarray] | None = None
    second: SecondOrder | None = None


def taught(subject: Subject, *, seed: int, progress: Progress = lambda what, steps: None) -> Lesson:
    """Train with the hand-written gradients, and compare both sides at up to MOMENTS steps of the run.

    Args:
        subject: The network, its data, and how it is trained.
        seed: The seed of the checks.
        progress: Is called with a description of the current work and the number of comparisons that are done.

    Returns:
        The lesson.
    """
    iterations = subject.iterations
    recorded = _recorded(iterations)
    losses = np.empty(iterations + 1)
    looks: list[_Look] = []
    # A run that diverges shows it in its numbers and its verdict. NumPy would print a warning for every step.
    with precise(subject.parameters), np.errstate(all="ignore"):
        program = traced(subject.loss, subject.parameters, *subject.args)
        taps, by_jax = find_taps(program), jax.jit(jax.value_and_grad(_with_offsets(program)))
        for step, parameters in enumerate(_training(subject, iterations, losses)):
            if step in recorded:
                progress("comparing both sides", len(looks))
                looks.append(_look(subject, step, parameters, by_jax, taps, seed))
        where = {
            q.label: subject.where(looks[0].quantities[q.label]) for step in subject.steps for q in step.quantities
        }
        progress("tracing what JAX does", len(looks))
        ends, first = (looks[0], looks[-1]), [q.label for step in subject.steps for q in step.quantities if not q.along]
        why = backward_mode(
            subject.loss,
            [(look.parameters, *subject.args) for look in ends],
            [{"loss": look.loss, **{label: look.quantities[label] for label in first}} for look in ends],
        )
        moments = [_moment(subject, look, where) for look in looks]
    return Lesson(
        model=subject.model,
        title=subject.title,
        about=subject.about,
        settings=subject.settings,
        steps=subject.steps,
        moments=moments,
        losses=losses,
        backward_mode=why,
        root=subject.root,
        second_root=subject.second.root if subject.second else None,
        plane=subject.plane,
    )


def marked_by_jax(loss: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    """A function `(parameters, *args) -> {name: value}` of the values that the loss marks with `tap`."""

    @jax.jit
    def values(parameters: Any, *args: Any) -> dict[str, Any]:
        seen: dict[str, Any] = {}

        def keep(equation: Any, inputs: list[Any]) -> list[Any]:
            if equation.primitive.name == "name":
                seen[equation.params["name"]] = inputs[0]
            return bound(equation, inputs)

        traced_loss = jax.make_jaxpr(loss)(parameters, *args)
        under_jax(traced_loss.jaxpr, traced_loss.consts, jax.tree.leaves((parameters, *args)), keep)
        return seen

    return values


def _with_offsets(loss: Program) -> Callable[..., Any]:
    """A function `((parameters, offsets), *args) -> loss` that adds to each marked value the offset of its name.

    At offsets of 0, the gradient with respect to an offset is the gradient with respect to the marked value.
    """

    def moved(inputs: tuple[Any, dict[str, Any]], *args: Any) -> Any:
        parameters, offsets = inputs

        def at_marks(equation: Any, values: list[Any]) -> list[Any]:
            name = equation.params["name"] if equation.primitive.name == "name" else ""
            return [values[0] + offsets[name]] if name in offsets else bound(equation, values)

        return under_jax(loss.closed.jaxpr, loss.closed.consts, jax.tree.leaves((parameters, *args)), at_marks)[0]

    return moved


def _recorded(iterations: int) -> np.ndarray:
    """The steps at which both sides are compared: at most MOMENTS, closer together at the start of the run."""
    spread = np.round(iterations * np.linspace(0, 1, MOMENTS) ** 2).astype(int)
    return np.unique(np.minimum(np.maximum(spread, np.arange(MOMENTS)), iterations))


def _training(subject: Subject, iterations: int, losses: np.ndarray) -> Iterator[Any]:
    """Yield the parameters after 0, 1, 2, ... steps, and store the loss at each of them in `losses`."""
    parameters, state = subject.parameters, subject.state
    for step in range(iterations + 1):
        losses[step], gradients, _ = subject.by_hand(parameters, *subject.args)
        yield parameters
        parameters, state = subject.update(parameters, gradients, state)


@dataclass(frozen=True)
class _Look:
    """All values and gradients of both sides at one moment."""

    step: int
    parameters: Any
    reports: list[Any]  # on the gradient and, if there is a second-order part, on the Hessian-vector product
    loss: Any
    loss_by_jax: float
    values: dict[str, np.ndarray]  # the hand-written values; JAX's where `manual` does not name a value
    quantities: dict[str, np.ndarray]  # by label, by hand
    by_jax: dict[str, np.ndarray]  # by label


def _look(
    subject: Subject, step: int, parameters: Any, by_jax: Callable[..., Any], taps: dict[str, Any], seed: int
) -> _Look:
    args, on_device = subject.args, jax.tree.map(jnp.asarray, parameters)
    report = check_gradients(
        subject.by_hand, subject.loss, parameters, *args, seed=seed, probes=False, references=step == 0
    )
    loss, gradients, intermediates = subject.by_hand(parameters, *args)
    ours = leaves_by_path(gradients) | intermediates
    offsets = {name: np.zeros(tap.shape, tap.dtype) for name, tap in taps.items() if name in intermediates}
    loss_by_jax, (of_leaves, of_taps) = by_jax((parameters, offsets), *args)
    theirs = leaves_by_path(of_leaves) | leaves_by_path(of_taps)
    values = {"loss": np.asarray(loss)} | subject.values(parameters, *args)
    values_by_jax = {"loss": np.asarray(loss_by_jax)} | subject.values_by_jax(on_device, *args)
    wanted = [q for step in subject.steps for q in step.quantities]
    reports, along, along_by_jax = [report], {}, {}
    if subject.second is not None:
        second, moving = subject.second, jax.tree.map(np.zeros_like, offsets)
        reports.append(_judged_product(subject, second, parameters, seed))
        product, of_values, of_gradients = second.by_hand(parameters, second.vector, *args)
        along = {True: leaves_by_path(product) | of_gradients, False: of_values}
        _, values_along = jax.jvp(lambda p: subject.values_by_jax(p, *args), (on_device,), (second.vector,))
        start, direction = (parameters, offsets), (second.vector, moving)
        _, gradients_along = jax.jvp(lambda inputs: by_jax(inputs, *args)[1], (start,), (direction,))
        leaves, marks = map(leaves_by_path, gradients_along)
        along_by_jax = {True: leaves | marks, False: values_along}
    by_hand_all = {True: ours, False: values}
    by_jax_all = {True: theirs, False: values_by_jax}
    return _Look(
        step=step,
        parameters=parameters,
        reports=reports,
        loss=loss,
        loss_by_jax=float(loss_by_jax),
        values=values_by_jax | values | leaves_by_path(parameters),
        quantities={q.label: np.asarray((along if q.along else by_hand_all)[q.gradient][q.path]) for q in wanted},
        by_jax={q.label: np.asarray((along_by_jax if q.along else by_jax_all)[q.gradient][q.path]) for q in wanted},
    )


def _judged_product(subject: Subject, second: SecondOrder, parameters: Any, seed: int) -> Any:
    """The report on the Hessian-vector product. It is checked as a gradient, that of <gradient, vector>."""

    def by_hand(parameters: Any, vector: Any, *args: Any) -> tuple[Any, Any]:
        _, gradients, _ = subject.by_hand(parameters, *args)
        pairs = zip(leaves_by_path(gradients).items(), leaves_by_path(vector).values(), strict=True)
        along = sum(np.sum(gradient * direction) for (_, gradient), direction in pairs)
        return along, second.by_hand(parameters, vector, *args)[0]

    def by_jax(parameters: Any, vector: Any, *args: Any) -> Any:
        return jax.jvp(lambda p: subject.loss(p, *args), (parameters,), (vector,))[1]

    args = (second.vector, *subject.args)
    return check_gradients(by_hand, by_jax, parameters, *args, seed=seed, probes=False, references=False)


def _moment(subject: Subject, look: _Look, where: dict[str, Sequence[tuple[int, ...]]]) -> Moment:
    rows = [{row.path: row for row in report.rows} for report in look.reports]
    verdict = Verdict.of([report.verdict for report in look.reports])

    def shown(q: Quantity) -> Numbers:
        value = np.asarray(look.values[q.path]) if q.gradient and not q.along else None
        row = rows[q.along].get(q.path) if q.gradient or q.path == "loss" else None
        return numbers(value, look.quantities[q.label], look.by_jax[q.label], where[q.label], row)

    return Moment(
        step=look.step,
        loss=float(look.loss),
        loss_by_jax=look.loss_by_jax,
        verdict=verdict,
        sentence=next(report.sentence for report in look.reports if report.verdict is verdict),
        numbers={q.label: shown(q) for step in subject.steps for q in step.quantities},
        boundary=subject.boundary(look.parameters) if subject.boundary else None,
    )
