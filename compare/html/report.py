"""The page of `backproof verify --report PATH`: the verdict, the evidence for it, and how to reproduce it."""

from collections.abc import Iterator
from typing import Any

import numpy as np

import autodiff
import manual
from compare.html.judgement import judgement, without_verdict
from compare.html.page import Html, badge, code, facts, figure, html, page, section, table, tag
from compare.html.plots import AUTODIFF, MANUAL, Curve, boundary, drawing, share_of_tolerance, two_curves
from compare.platform import precise
from compare.verify.shallow import Result
from compare.verify.timing import readable

OUTPUTS = 4  # the largest number of outputs whose decision boundary is drawn


def report_page(result: Result, command: str) -> str:
    """The page on a run. `command` is the command that reproduces it."""
    name = f"{result.model} on {result.sizes['name'].partition(': ')[0]}"
    verdict = result.verdict
    top = tag(
        "header",
        tag("p", f"backproof verify · {name}", class_="kicker"),
        tag("p", badge(verdict.value)),
        tag("h1", without_verdict(verdict, result.sentence)),
        *(tag("p", line, class_="soft") for line in (result.problem, *result.network.splitlines())),
        class_="verdict",
    )
    body = html(
        top,
        section("Gradients at the start", judgement(result.gradients, "Gradients of both sides"), name="gradients"),
        section("Training", judgement(result.trajectory, "Training of both sides"), _drift(result), name="training"),
        *_fast(result),
        section("Loss", _losses(result), name="loss"),
        _boundaries(result),
        section("Time per step", _times(result), name="time"),
        section("Environment", facts(result.environment), name="environment"),
        section("How to reproduce it", *_again(result, command), name="again"),
    )
    return page(f"{verdict.name}: {name} · backproof verify", body)


def _fast(result: Result) -> Iterator[Html]:
    """The reports on `manual.fast`, whose gradients and training are compared with the same reference."""
    for report, what in ((result.made_fast, "Gradients at the start"), (result.fast_training, "Training")):
        if report is not None:
            name = f"{what}, by manual.fast"
            yield section(name, judgement(report, name), name=f"fast-{what.split()[0].lower()}")


def _drift(result: Result) -> Html:
    """The distance between the free-running trainings of both sides, as a fraction of its tolerance."""
    run = result.trajectory
    if not run.free:
        return tag("p", "Each step was judged by itself, from the same parameters. So there is no drift to show.")
    values = np.asarray(run.share.values, float)
    with drawing(height=2.6) as (chart, finish):
        axes = chart.subplots()
        axes.set_title("drift, as a fraction of its tolerance", loc="left")
        share_of_tolerance(axes, run.share.steps, values)
        largest = f"{values.max():.2g}" if values.size else "nothing"
        words = (
            f"Both sides train independently. Their distance is at most {largest} times its tolerance. The curve "
            "shows, for each step, the parameter with the largest fraction. A step without any drift has no point."
        )
        return figure(finish("drift", words), words)


def _losses(result: Result) -> Html:
    name = next(iter(result.losses))  # that of `manual`, if it was trained
    steps, by_hand = result.loss_curve(name)
    _, by_jax = result.loss_curve("autodiff")
    with drawing(height=2.6) as (chart, finish):
        axes = chart.subplots()
        axes.set_title("loss", loc="left")
        two_curves(axes, steps, Curve(name, by_hand, MANUAL), Curve("autodiff", by_jax, AUTODIFF))
        finals = ", ".join(f"{side} {losses[-1]:.9g}" for side, losses in result.losses.items())
        words = f"The loss of both sides goes from {float(by_hand[0]):.6g} to {finals}."
        known = [f"{side} {value:.4f}" for side, value in result.accuracy.items() if value is not None]
        return figure(
            finish("losses", words), html(words, f" Held-out accuracy: {', '.join(known) or 'none held out'}.")
        )


def _boundaries(result: Result) -> Html:
    """The decision boundaries of the trained networks, for data with two features."""
    if result.data is None or result.trained is None or result.data.train_x.shape[0] != 2:
        return html()
    return section("Decision boundary", *_planes(result, result.data, result.trained), name="boundary")


def _planes(result: Result, data: Any, trained: dict[str, Any]) -> Iterator[Html]:
    def probability(side: Any, name: str, output: int) -> Any:
        def at(points: np.ndarray) -> np.ndarray:
            with precise(data.train_x):
                value, _ = side.forward_propagation(points.astype(data.train_x.dtype), trained[name])
            return np.asarray(value[output], np.float64)

        return at

    outputs = data.train_y.shape[0]
    for output in range(min(outputs, OUTPUTS)):
        with drawing(height=4.6) as (chart, finish):
            axes = chart.subplots()
            of = f" of output {output}" if outputs > 1 else ""
            axes.set_title(f"probability{of}, and where it is one half", loc="left")
            sides = (probability(side, name, output) for side, name in ((manual, "manual"), (autodiff, "autodiff")))
            boundary(axes, data.train_x, data.train_y[output], *sides)
            words = (
                f"The probability of class 1{of} in the plane of both features: blue is near 0, orange is near 1. The "
                "broad line is where it is 1/2 by hand, and the dashed line on top of it where it is 1/2 by JAX. The "
                "points are the training examples, round for class 0 and square for class 1."
            )
            yield figure(finish(f"boundary{output}", words), words)


def _times(result: Result) -> Html:
    rows = [(side, *map(readable, (t.median, t.fastest, t.slowest))) for side, t in result.times.sides.items()]
    return html(
        table(("side", "median", "fastest", "slowest"), rows, caption="Time per step"),
        tag(
            "p",
            f"{result.times.comparison}, after {result.times.compilation:.2f} s of compilation. "
            f"The sides took turns in {result.times.rounds} rounds.",
        ),
    )


def _again(result: Result, command: str) -> Iterator[Html]:
    yield code(command, label="The command")
    yield tag("p", "All options, chosen or default:")
    yield facts({key.replace("_", " "): value for key, value in result.settings.items()})
