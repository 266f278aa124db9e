"""The last part of a lesson's page: JAX's program for the gradient, and the cost of forward and backward mode."""

from collections.abc import Sequence

from compare.html.lesson_steps import anchor
from compare.html.page import Html, section, table, tag
from compare.lesson.backward_mode import BackwardMode, Equation
from compare.lesson.content import Lesson, Step
from compare.lesson.text import LINEARIZED, backward_to_loss, inputs_sentence

LONG = 120  # A program of more equations is folded.


def why(lesson: Lesson) -> Html:
    """The section that compares forward and backward mode."""
    mode = lesson.backward_mode
    count = mode.operations
    saved = count["all forward"] / count["backward"]
    rows = [
        ("forward", f"{mode.forward_passes:,}", f"{count['forward']:,}", f"{count['all forward']:,}"),
        ("backward", f"{mode.backward_passes:,}", f"{count['backward']:,}", f"{count['backward']:,}"),
    ]
    return section(
        "Why backward?",
        tag(
            "p",
            f"The chain rule can be applied from either end. A forward pass begins with one parameter and computes how "
            f"the loss changes with it. This network has {mode.parameters:,} parameters, and needs as many passes. A "
            f"backward pass begins with the loss, which is one number, and computes the gradient with respect to every "
            f"value that the loss depends on. One pass is enough.",
        ),
        table(
            ["mode", "passes", "operations in one pass", "operations in all passes"],
            rows,
            caption="The cost of the whole gradient in each mode",
        ),
        tag(
            "p",
            f"Backward mode needs {saved:,.3g} times fewer operations. Both modes were run for this page. All forward "
            f"passes were run side by side in one program, which computes the values of the loss only once. The two "
            f"gradients differ by at most {mode.difference:.1e}. ".replace("e-", "e−"),
            f"An operation is an addition, a multiplication or a function call on single numbers. They are counted in "
            f"the programs that JAX traces, without those that do not affect the result. The loss alone takes "
            f"{count['loss']:,} operations. So the loss with its gradient costs a small constant "
            f"({backward_to_loss(lesson):.2g} here) times the loss, whatever the number of parameters.",
        ),
        tag("h3", "What JAX does"),
        tag(
            "p",
            "JAX runs the forward pass once on placeholders and records every elementary operation. It knows the rule "
            f"for the derivative of each operation. {LINEARIZED}",
        ),
        tag(
            "p",
            "The program below was run equation by equation. If an equation computes the numbers of a step of the "
            "derivation, both before and after training, the step is named beside it. JAX may compute the same numbers "
            "in another way. The results of an unused equation do not affect the loss or the gradient.",
        ),
        tag("p", f"In the program, {inputs_sentence(lesson)}.", class_="soft"),
        _folded(_program(lesson, mode), len(mode.gradient)),
        tag("details", tag("summary", "The loss before it is differentiated"), _listing(mode.loss, "the loss")),
        name="why",
    )


def _folded(program: Html, length: int) -> Html:
    """The program; a long one is folded until the reader opens it."""
    return program if length <= LONG else tag("details", tag("summary", f"The program: {length} operations"), program)


def _program(lesson: Lesson, mode: BackwardMode) -> Html:
    """The program of the gradient, with the hand-written line beside each matched equation."""
    steps = {quantity.label: step for step in lesson.steps for quantity in step.quantities}
    rows, passed = [], False
    for equation in mode.gradient:
        step = steps.get(equation.step or "")
        rows.append(
            tag(
                "li",
                tag("code", equation.text),
                _match(equation, step) if step else "" if equation.used else tag("i", "unused"),
                class_="matched" if step else None,
            )
        )
        if equation.step == "loss" and not passed:
            passed = True
            rows.append(tag("li", "Here the loss is known. The equations below go backward.", class_="turn"))
    return tag("ol", *rows, class_="program", tabindex="0", aria_label="The program of the gradient")


def _match(equation: Equation, step: Step) -> Html:
    alone = len(step.by_hand) == 1 and "\n" not in step.by_hand[0].code
    names = {quantity.label: quantity.shown for quantity in step.quantities}
    words = step.by_hand[0].code if alone else names[str(equation.step)]
    return tag("a", words, href=f"#{anchor(step.name)}")


def _listing(equations: Sequence[Equation], what: str) -> Html:
    text = "\n".join(equation.text for equation in equations)
    return tag("pre", tag("code", text), tabindex="0", role="region", aria_label=f"The program of {what}")
