"""The page of a lesson: formula, lines and numbers of every step, and a slider that moves through training."""

from collections.abc import Iterator

from compare.html.lesson_pictures import pictures
from compare.html.lesson_steps import Live, lines, step_article, with_formulas
from compare.html.lesson_why import why
from compare.html.page import Html, asset, badge, heading, page, tag
from compare.lesson.content import Lesson, Moment
from compare.lesson.text import SECOND_ORDER, shown


def lesson_page(lesson: Lesson) -> str:
    """The whole page. Without a script it shows the first moment."""
    live = Live(lesson.moments)
    drawn = pictures(lesson)
    body = tag(
        "div",
        heading(
            "backproof lesson",
            lesson.title,
            *(tag("p", with_formulas(text), class_="lead" if i == 0 else None) for i, text in enumerate(lesson.about)),
            tag("p", badge(lesson.verdict.value), " ", lesson.sentence.removeprefix("AGREE: "), class_="sentence"),
        ),
        tag("aside", _slider(lesson), *drawn.figures, class_="stage", aria_label="Training"),
        tag("div", *_steps(lesson, live), why(lesson), class_="steps"),
        class_="course",
    )
    data = {"live": live.texts(), "said": [_said(lesson, moment) for moment in lesson.moments], **drawn.data}
    return page(
        f"{lesson.title} · backproof lesson", body, style=asset("lesson.css"), script=asset("lesson.js"), data=data
    )


def _slider(lesson: Lesson) -> Html:
    said = _said(lesson, lesson.moments[0])
    last = len(lesson.moments) - 1
    control = {"type": "range", "id": "moment", "min": 0, "max": last, "value": 0}
    return tag(
        "div",
        tag("label", "Training", for_="moment"),
        tag("output", said, for_="moment", aria_live="polite"),
        tag("input", **control, autocomplete="off", aria_valuetext=said, hidden=True),
        tag("noscript", "This is before training. To move through it, the slider needs JavaScript."),
        class_="slider",
    )


def _said(lesson: Lesson, moment: Moment) -> str:
    return f"step {moment.step} of {len(lesson.losses) - 1}, loss {shown(moment.loss)}"


def _steps(lesson: Lesson, live: Live) -> Iterator[Html]:
    forward = [step for step in lesson.steps if not step.backward and step.order == 1]
    backward = [step for step in lesson.steps if step.backward]
    yield tag("h2", "Forward", id="forward")
    yield tag("p", "What the network computes, and what it keeps for the way back.", class_="soft")
    yield from (step_article(step, number, live) for number, step in enumerate(forward, 1))
    yield tag("h2", "Backward", id="backward")
    yield tag(
        "p",
        "Every step takes the gradient of what comes after it and makes that of what went into it. By hand each has to "
        "be derived and written; JAX needs the lines of the forward pass, and this one:",
        class_="soft",
    )
    yield tag("div", lines("in JAX, once for all of them", "autodiff", [lesson.root]), class_="root")
    yield from (step_article(step, number, live) for number, step in enumerate(backward, len(forward) + 1))
    if lesson.second_root is not None:
        second = [step for step in lesson.steps if step.order == 2]
        yield tag("h2", "Second order", id="second")
        yield tag("p", with_formulas(f"{SECOND_ORDER} JAX derives it by this line:"), class_="soft")
        yield tag("div", lines("in JAX, once for all of them", "autodiff", [lesson.second_root]), class_="root")
        yield from (
            step_article(step, number, live) for number, step in enumerate(second, len(lesson.steps) - len(second) + 1)
        )
