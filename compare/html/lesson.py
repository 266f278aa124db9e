"""The page of a lesson: the formulas, code and numbers of every step, and a slider that moves through training."""

from collections.abc import Iterator

from compare.html.judgement import announced
from compare.html.lesson_pictures import pictures
from compare.html.lesson_steps import Live, anchor, lines, step_article, with_formulas
from compare.html.lesson_why import why
from compare.html.page import Html, asset, heading, html, page, tag
from compare.html.playground import playground_data, playground_part
from compare.lesson.content import Lesson, Moment, Step
from compare.lesson.playground import Playground
from compare.lesson.text import SECOND_ORDER, shown


def lesson_page(lesson: Lesson, play: Playground | None = None) -> str:
    """The whole page of a lesson.

    Args:
        lesson: The lesson.
        play: If given, the page has a part in which the reader can change the network.

    Returns:
        The HTML document. Without JavaScript it shows the numbers before training.
    """
    live = Live(lesson.moments)
    drawn = pictures(lesson)
    body = tag(
        "div",
        heading(
            "backproof lesson",
            lesson.title,
            *(tag("p", with_formulas(text), class_="lead" if i == 0 else None) for i, text in enumerate(lesson.about)),
            tag("p", announced(lesson.verdict, lesson.sentence), class_="sentence"),
        ),
        tag("aside", _slider(lesson), *drawn.figures, class_="stage", aria_label="Training"),
        tag(
            "div",
            _contents(lesson, play),
            *_steps(lesson, live),
            why(lesson),
            *([playground_part(play)] if play else []),
            class_="steps",
        ),
        class_="course",
    )
    data = {"live": live.texts(), "said": [_said(lesson, moment) for moment in lesson.moments], **drawn.data}
    script = asset("lesson.js")
    if play:
        data["play"] = playground_data(play)
        script += asset("playground.js")
    return page(f"{lesson.title} · backproof lesson", body, style=asset("lesson.css"), script=script, data=data)


def lesson_frame(lesson: Lesson) -> str:
    """The page of a lesson in a frame, for a notebook. There its style and scripts are separate from the notebook's."""
    return tag(
        "iframe",
        srcdoc=lesson_page(lesson),
        sandbox="allow-scripts",
        title=lesson.title,
        style="width: 100%; height: 45rem; border: 0",
    )


def _contents(lesson: Lesson, play: Playground | None) -> Html:
    """Links to every part of the page and to its steps."""
    forward = [step for step in lesson.steps if not step.backward and step.order == 1]
    backward = [step for step in lesson.steps if step.backward]
    second = [step for step in lesson.steps if step.order == 2]
    parts = [("forward", "Forward", forward), ("backward", "Backward", backward)]
    parts += [("second", "Second order", second)] if lesson.second_root is not None else []
    parts += [("why", "Why backward?", [])] + ([("play", "Change it, break it", [])] if play else [])

    def part(name: str, title: str, steps: list[Step]) -> Html:
        links = (html(tag("a", step.shown, href=f"#{anchor(step.name)}"), " ") for step in steps)
        return tag("li", tag("a", title, href=f"#{name}", class_="part"), html(" ", *links) if steps else "")

    return tag("nav", tag("ol", *(part(*one) for one in parts)), class_="contents", aria_label="Contents")


def _slider(lesson: Lesson) -> Html:
    said = _said(lesson, lesson.moments[0])
    last = len(lesson.moments) - 1
    control = {"type": "range", "id": "moment", "min": 0, "max": last, "value": 0}
    return tag(
        "div",
        tag("label", "Training", for_="moment"),
        tag("output", said, for_="moment", aria_live="polite"),
        tag("input", **control, autocomplete="off", aria_valuetext=said, hidden=True),
        tag("noscript", "The numbers are those before training. To move on, the slider needs JavaScript."),
        class_="slider",
    )


def _said(lesson: Lesson, moment: Moment) -> str:
    return f"step {moment.step} of {len(lesson.losses) - 1}, loss {shown(moment.loss)}"


def _steps(lesson: Lesson, live: Live) -> Iterator[Html]:
    forward = [step for step in lesson.steps if not step.backward and step.order == 1]
    backward = [step for step in lesson.steps if step.backward]
    yield tag("h2", "Forward", id="forward")
    yield tag("p", "The forward pass computes the loss, and keeps values that the backward pass needs.", class_="soft")
    yield from (step_article(step, number, live) for number, step in enumerate(forward, 1))
    yield tag("h2", "Backward", id="backward")
    yield tag(
        "p",
        "Every step takes the gradient with respect to its output and computes the gradient with respect to its "
        "inputs. By hand, each of these has to be derived and written. JAX needs the forward pass and this line:",
        class_="soft",
    )
    yield tag("div", lines("in JAX, one line for all steps", "autodiff", [lesson.root]), class_="root")
    yield from (step_article(step, number, live) for number, step in enumerate(backward, len(forward) + 1))
    if lesson.second_root is not None:
        second = [step for step in lesson.steps if step.order == 2]
        yield tag("h2", "Second order", id="second")
        yield tag("p", with_formulas(f"{SECOND_ORDER} JAX derives it with this line:"), class_="soft")
        yield tag("div", lines("in JAX, one line for all steps", "autodiff", [lesson.second_root]), class_="root")
        yield from (
            step_article(step, number, live) for number, step in enumerate(second, len(lesson.steps) - len(second) + 1)
        )
