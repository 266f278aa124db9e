"""The page's last part: what JAX makes of the loss, beside the derivation, and what each direction costs."""

from collections.abc import Sequence

from compare.html.lesson_steps import anchor
from compare.html.page import Html, section, table, tag
from compare.lesson.backward_mode import BackwardMode, Equation
from compare.lesson.content import Lesson, Step
from compare.lesson.text import LINEARIZED, backward_to_loss, inputs_sentence

LONG = 120  # equations


def why(lesson: Lesson) -> Html:
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
            f"The chain rule can be worked through from either end. Forward, a pass begins with one parameter and says "
            f"how the loss changes with it: this network has {mode.parameters:,} parameters and needs as many passes. "
            f"Backward, a pass begins with the loss, which is one number, and leaves the gradient of everything behind "
            f"it: one pass is enough.",
        ),
        table(
            ["direction", "passes", "operations in one", "operations in all, as run"],
            rows,
            caption="The cost of the whole gradient in each direction",
        ),
        tag(
            "p",
            f"Backward, {saved:,.3g} times fewer are needed. Both ways were run here, the passes forward side by side "
            f"in one program that computes the values of the loss once for all of them, and their results differ by "
            f"at most {mode.difference:.1e}. ".replace("e-", "e−"),
            f"Counted are additions, multiplications and function calls on single numbers in the programs that JAX "
            f"traces, without those that nothing depends on. The loss alone takes {count['loss']:,}: the gradient "
            f"costs a small constant ({backward_to_loss(lesson):.2g} here) times the loss, and not a multiple that "
            f"grows with the number of parameters.",
        ),
        tag("h3", "What JAX does"),
        tag(
            "p",
            "JAX runs the forward lines once on placeholders, and writes down every elementary operation; for each it "
            f"knows one rule. {LINEARIZED}",
        ),
        tag(
            "p",
            "The program was run here, equation by equation: where an equation computes the very numbers of a step of "
            "the derivation, before training and after it, the step stands beside it. JAX may reach the same numbers "
            "in another way. What is called unused is written down, but nothing depends on it.",
        ),
        tag("p", f"In it, {inputs_sentence(lesson)}.", class_="soft"),
        _folded(_program(lesson, mode), len(mode.gradient)),
        tag("details", tag("summary", "The loss before it is differentiated"), _listing(mode.loss, "the loss")),
        name="why",
    )


def _folded(program: Html, length: int) -> Html:
    """A long program is shown to who asks for it."""
    return program if length <= LONG else tag("details", tag("summary", f"The program: {length} operations"), program)


def _program(lesson: Lesson, mode: BackwardMode) -> Html:
    """The gradient's program, each matched equation beside the line that does the same by hand."""
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
            rows.append(tag("li", "Here the loss is known. Everything below goes backward.", class_="turn"))
    return tag("ol", *rows, class_="program", tabindex="0", aria_label="The program of the gradient")


def _match(equation: Equation, step: Step) -> Html:
    alone = len(step.by_hand) == 1 and "\n" not in step.by_hand[0].code
    words = step.by_hand[0].code if alone else str(equation.step)
    return tag("a", words, href=f"#{anchor(step.name)}")


def _listing(equations: Sequence[Equation], what: str) -> Html:
    text = "\n".join(equation.text for equation in equations)
    return tag("pre", tag("code", text), tabindex="0", role="region", aria_label=f"The program of {what}")
