"""A lesson as text for a terminal: every step with its formulas, its code, and its numbers."""

import re
from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from compare.judge.reports.tables import WIDTH, plain_text, table
from compare.lesson.backward_mode import letters
from compare.lesson.content import Entry, Lesson, Numbers, Quantity, Step, counted
from compare.lesson.formulas import as_text as formulas_as_text
from compare.lesson.layered import symbol_of
from compare.lesson.source import Excerpt

ENTRIES = 4  # The number of entries of each quantity that are printed.
DOCUMENTED = "From the documentation of the function, which covers all of its options:"
LINEARIZED = (
    "JAX differentiates in two stages. First it computes every value together with the factors of its derivative, by "
    "the rules of forward mode. This is the first half of the program. The derivative is then a linear function, and "
    "JAX transposes it, from the last operation to the first. This is the second half."
)

SECOND_ORDER = (
    "How does the gradient change as the parameters move along a vector? The answer is the product of the Hessian with "
    "the vector. The Hessian itself, which has a row and a column for every parameter, is not needed. RQ is the "
    "derivative of Q along the vector. R obeys the rules of differentiation, so it is enough to apply R to every line "
    "above, first forward and then backward."
)


def as_text(lesson: Lesson, *, width: int = WIDTH) -> str:
    """The whole lesson as plain text, no line of which is longer than `width` characters."""
    return plain_text(*_parts(lesson), width=width)


def _parts(lesson: Lesson) -> Iterator[RenderableType]:
    yield f"{lesson.model}: {lesson.title}"
    yield from lesson.about
    for backward, heading in ((False, "FORWARD"), (True, "BACKWARD")):
        yield f"\n{heading}"
        if backward:
            yield "JAX derives all of the following from the forward pass, with one line:"
            yield _code([lesson.root])
        for step in lesson.steps:
            if step.backward is backward and step.order == 1:
                yield from _step(lesson, step)
    if lesson.second_root is not None:
        yield "\nSECOND ORDER"
        yield f"{SECOND_ORDER} JAX derives it with one line:"
        yield _code([lesson.second_root])
        for step in lesson.steps:
            if step.order == 2:
                yield from _step(lesson, step)
    yield "\nWHY BACKWARD"
    yield from _why(lesson)
    first, last = lesson.losses[0], lesson.losses[-1]
    yield f"\nLoss: from {first:.6g} to {last:.6g} in {counted(len(lesson.losses) - 1, 'step')}"
    yield f"\n{lesson.sentence}"


def _step(lesson: Lesson, step: Step) -> Iterator[RenderableType]:
    yield f"\n{step.title}" if step.short else f"\n{step.name}: {step.title}"
    if step.short:
        yield Padding(DOCUMENTED, (0, 2))
    yield Padding(_text(step.words), (0, 2))
    if step.derivation:
        yield Padding(_text(step.derivation), (1, 2, 0, 2))
    for part in step.formulas:
        yield Padding(_text("\n".join(formulas_as_text(part))), (0, 0, 0, 4))
    yield _code(step.by_hand)
    yield _code(step.by_jax)
    for quantity in step.quantities:
        yield from _numbers(lesson, quantity)


def _code(excerpts: Sequence[Excerpt]) -> Padding:
    grid = Table.grid(padding=(0, 2))
    for excerpt in excerpts:
        for i, (number, line) in enumerate(excerpt.numbered()):
            grid.add_row(f"{excerpt.file}:{number}" if i == 0 else f"{'':>{len(excerpt.file)}}:{number}", _text(line))
    return Padding(grid, (0, 0, 0, 4))


def _text(words: str) -> RenderableType:
    return Text(words)  # so that rich does not read brackets as markup


def _numbers(lesson: Lesson, quantity: Quantity) -> Iterator[RenderableType]:
    what = "along the vector" if quantity.along else "gradient" if quantity.gradient else "value"
    values = ("value",) if quantity.gradient and not quantity.along else ()
    rows, words = [], []
    for moment in (lesson.moments[0], lesson.moments[-1]):
        here = moment.numbers[quantity.label]
        for i, entry in enumerate(here.entries[:ENTRIES]):
            rows.append((f"step {moment.step}" if i == 0 else "", *_cells(quantity, entry)))
        words.append(f"{_judged(here)} after {counted(moment.step, 'step')}")
    headers = ("", "entry", *values, f"{what} by hand", f"{what} by JAX", "difference")
    yield Padding(table(headers, rows, left=2), (0, 0, 0, 4))
    shape = "x".join(map(str, here.shape)) or "scalar"
    largest = f"{quantity.shown}, {shape}, largest difference: {', '.join(words)}"
    yield Padding(_text(largest), (0, 0, 0, 4))


def _cells(quantity: Quantity, entry: Entry) -> tuple[str, ...]:
    values = (shown(entry.value),) if entry.value is not None else ()
    return indexed(entry), *values, shown(entry.by_hand), shown(entry.by_jax), f"{entry.difference:.1e}"


def _judged(numbers: Numbers) -> str:
    verdict = "" if numbers.verdict is None else f" ({numbers.verdict.value})"
    return f"{numbers.largest_difference:.1e}{verdict}"


def _why(lesson: Lesson) -> Iterator[RenderableType]:
    why = lesson.backward_mode
    yield cost_sentence(lesson)
    yield "This is JAX's program for the gradient. An arrow marks an equation that computes the numbers of a step:"
    yield LINEARIZED
    yield Padding(_text(f"In the program, {inputs_sentence(lesson)}."), (0, 0, 0, 4))
    names = {quantity.label: quantity.shown for step in lesson.steps for quantity in step.quantities}
    rows = [(e.text, f"<- {names.get(e.step, e.step)}" if e.step else "" if e.used else "unused") for e in why.gradient]
    grid = Table.grid(padding=(0, 2))
    for text, step in rows:
        grid.add_row(_text(text), step)
    yield Padding(grid, (0, 0, 0, 4))


def cost_sentence(lesson: Lesson) -> str:
    """The costs of forward and backward mode in words."""
    why = lesson.backward_mode
    count, saved = why.operations, why.operations["all forward"] / why.operations["backward"]
    return (
        f"This network has {why.parameters:,} parameters. Forward mode needs one pass for each of them, and one pass "
        f"takes {count['forward']:,} operations. All {why.forward_passes:,} passes were run here side by side, so that "
        f"they share the values of the loss: together they take {count['all forward']:,} operations. Backward mode "
        f"needs one pass of {count['backward']:,} operations, which is {saved:,.3g} times fewer. That is a small "
        f"constant ({backward_to_loss(lesson):.2g} here) times the {count['loss']:,} operations of the loss alone. The "
        f"operations are counted in the programs that JAX traces; those that do not affect the result are left out. "
        f"The gradients of both modes differ by at most {why.difference:.1e}."
    )


def backward_to_loss(lesson: Lesson) -> float:
    """The operations of the loss with its gradient, as a multiple of those of the loss."""
    count = lesson.backward_mode.operations
    return count["backward"] / count["loss"]


def inputs_sentence(lesson: Lesson) -> str:
    """A list of the program's inputs and the letters that it calls them by."""
    named = [f"{letters(i)} is {symbol_of(name)}" for i, name in enumerate(lesson.backward_mode.inputs)]
    return ", ".join(named)


def shown(number: float) -> str:
    """The number with four significant digits, and an exponent without a leading zero."""
    return re.sub(r"e([+-])0", r"e\1", f"{number:.4g}")


def indexed(entry: Entry) -> str:
    """The index of an entry in brackets; empty for a number."""
    return f"[{', '.join(map(str, entry.index))}]" if entry.index else ""
