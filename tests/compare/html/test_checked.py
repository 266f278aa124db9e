"""Pages of `backproof check`: every kind of report, and names that would be markup."""

from html.parser import HTMLParser

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compare import Verdict, check_custom_rules, check_gradients, check_trajectory
from compare.check.optimizers import update_rule
from compare.check.recorded_checks import check_recording
from compare.check.recorded_runs import check_runs
from compare.check.recording import recorded_steps
from compare.html.checked import checked_page
from tests.compare.check.records import steps

ODD = "<script>alert('&')</script>\"é"


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.scripts = []
        self.text = ""
        self.inside = ""

    def handle_starttag(self, tag, attrs):
        self.inside = tag

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts.append(data)
        self.text += data


def loss(parameters, x, y):
    return jnp.mean((x @ parameters["w"] + parameters["b"] - y) ** 2)


def gradients(factor):
    return check_gradients(
        lambda p: (np.sum(p[ODD] ** 2), {ODD: factor * 2 * p[ODD]}), lambda p: jnp.sum(p[ODD] ** 2), {ODD: np.ones(3)}
    )


def rules():
    square = jax.custom_vjp(lambda x: x**2)
    square.defvjp(lambda x: (x**2, x), lambda x, g: (3 * x * g,))
    return check_custom_rules(square, np.arange(1.0, 4))


def recording(**faults):
    return check_recording(recorded_steps(steps(3, **faults)), loss, optimizer=update_rule("sgd:lr=0.1"))


REPORTS = {
    "gradients": lambda: gradients(1),
    "wrong gradients": lambda: gradients(2),
    "a recording": recording,
    "a recording with a wrong step": lambda: recording(gradient=lambda g: g | {"w": -g["w"]}, at=2),
    "a recording with a wrong update": lambda: recording(update=lambda p: p | {"w": -p["w"]}, at=2),
    "runs": lambda: check_runs({ODD: np.ones(3)}, {ODD: np.zeros(3)}),
    "a trajectory": lambda: check_trajectory(lambda w, x: w - x, lambda w, x: w - 2 * x, np.ones(2), [(np.ones(2),)]),
    "rules": rules,
}


@pytest.mark.sweep
@pytest.mark.parametrize("kind", REPORTS)
def test_a_page_says_what_the_report_says_and_runs_no_name(kind):
    report = REPORTS[kind]()
    page = checked_page(report, f"{ODD}.safetensors")
    tags = Tags()
    tags.feed(page)
    assert not [script for script in tags.scripts if "alert" in script]
    assert "<script>alert" not in page
    assert report.verdict.value in page.lower()
    assert ODD in tags.text
    if report.verdict is Verdict.AGREE:
        return
    what = report.sentence.partition(": ")[2].split(": ")[-1].removesuffix(".")
    assert what.split(ODD)[-1].strip() in tags.text


def test_a_recordings_page_has_its_notes():
    page = checked_page(recording(gradient=lambda g: g | {"w": -g["w"]}, at=2), "run")
    assert "Note: the gradients of the steps after step 2, the first wrong one, were not checked" in page


def test_a_recordings_page_has_a_section_for_each_step_and_the_updates():
    page = checked_page(recording(), "run")
    for name in ("step-1", "step-2", "step-3", "updates"):
        assert f'id="{name}"' in page
