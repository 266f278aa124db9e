"""The part of a lesson's page in which the reader changes the network and breaks a line of its backward pass."""

from dataclasses import asdict
from typing import Any

from compare.html.page import Html, html, section, table, tag
from compare.lesson.playground import ACTIVATIONS, Playground, lines

RATES = ("0.01", "0.03", "0.1", "0.3", "1", "3", "10")
UNITS = 16  # the largest number of hidden units that can be chosen


def playground_part(play: Playground) -> Html:
    """The section of the page. Its controls are hidden until the script runs."""
    rates = sorted({*RATES, f"{play.rate:g}"}, key=float)
    choices = [
        ("data", "Data", _select("data", {name: name for name in play.data}, play.chosen)),
        (
            "hidden",
            "Hidden units",
            html(_units(play.hidden), tag("output", play.hidden, id="play-units", for_="play-hidden")),
        ),
        ("activation", "Activation", _select("activation", {name: name for name in ACTIVATIONS}, play.activation)),
        ("rate", "Learning rate", _select("rate", {rate: rate for rate in rates}, f"{play.rate:g}")),
        (
            "line",
            "Wrong line",
            _select("line", {"": "none"} | {line.name: line.name for line in lines(play.activation)}),
        ),
    ]
    controls = tag(
        "div",
        *(tag("p", tag("label", label, for_=f"play-{name}"), control) for name, label, control in choices),
        class_="choices",
    )
    code = (tag("span", line.right, id=f"play-code-{i}") for i, line in enumerate(lines(play.activation)))
    return section(
        "Change it, break it",
        tag(
            "p",
            "Choose data, size, activation and learning rate. Then break one line of the backward pass, and see how "
            "the network trains and what two checks find. Often the loss falls as far as with the right line. This is "
            "why such mistakes stay unnoticed. The network here has one sigmoid output. It is trained in your browser, "
            "from weights of its own. The pictures beside the slider belong to the lesson, not to this network.",
        ),
        tag("noscript", tag("p", "This part needs JavaScript.")),
        tag(
            "div",
            controls,
            tag(
                "pre", tag("code", *code), tabindex="0", role="region", aria_label="The backward pass", class_="wrapped"
            ),
            tag("p", tag("span", id="play-fault"), " ", tag("code", id="play-instead")),
            tag("div", _plane(), _curves(), class_="pictures"),
            tag("p", id="play-said", role="status"),
            tag("h3", "What finite differences say"),
            tag(
                "p",
                "Your browser moves each parameter a little, at the initial weights, and measures how the loss "
                "changes. A right gradient predicts that change.",
                class_="soft",
            ),
            table(
                ["gradient", "off by", "verdict"],
                [_row(name) for name in ("W1", "b1", "W2", "b2")],
                caption="The gradients of the backward pass compared with finite differences of the loss",
            ),
            tag("h3", "What the judge says"),
            tag("p", id="play-judge"),
            tag(
                "p",
                f"This was computed when the page was made, for each line and activation, with {play.hidden} hidden "
                f"units on {next(iter(play.data))}. The judge compares every gradient, also those of intermediate "
                "values, with JAX's, and names the first that is wrong.",
                class_="soft",
            ),
            id="play-all",
            hidden=True,
        ),
        name="play",
    )


def playground_data(play: Playground) -> dict[str, Any]:
    """The data for the script: examples, lines of code and verdicts."""
    return {
        "data": {name: {"x": x.round(4).tolist(), "y": y[0].tolist()} for name, (x, y) in play.data.items()},
        "lines": {name: [asdict(line) for line in lines(name)] for name in ACTIVATIONS},
        "verdicts": {
            name: {line: {"verdict": found.verdict, "sentence": found.sentence} for line, found in verdicts.items()}
            for name, verdicts in play.verdicts.items()
        },
    }


def _select(name: str, options: dict[str, str], chosen: str = "") -> Html:
    made = (tag("option", text, value=value, selected=value == chosen) for value, text in options.items())
    return tag("select", *made, id=f"play-{name}", autocomplete="off")


def _units(hidden: int) -> Html:
    return tag("input", type="range", id="play-hidden", min=1, max=max(UNITS, hidden), value=hidden, autocomplete="off")


def _plane() -> Html:
    words = "The examples in the plane, and the trained network's probability of class 1 at every point."
    drawn = tag("canvas", id="play-plane", width=336, height=336, role="img", aria_label=words)
    caption = "● class 1, ○ class 0. Deeper blue means a higher probability of class 1."
    return tag("figure", drawn, tag("figcaption", caption))


def _curves() -> Html:
    paths = (tag("path", id=f"play-{which}", class_=which) for which in ("right", "wrong"))
    words = "The loss over the steps of training, with the right line and with the wrong line."
    drawn = tag("svg", *paths, viewBox="0 0 300 104", role="img", aria_label=words, class_="curves")
    keys = html(tag("span", "right line", class_="right"), ", ", tag("span", "wrong line (dashed)", class_="wrong"))
    return tag("figure", drawn, tag("figcaption", "The loss over 300 steps: ", keys, "."))


def _row(name: str) -> tuple[Html | str, ...]:
    return f"d{name}", tag("span", id=f"play-off-{name}"), tag("span", id=f"play-verdict-{name}")
