"""An exhibit: a version is judged, trained and checked, and options of the judge's reach it."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from compare.judge.reports.verdict import Verdict
from compare.museum.exhibit import Exhibit, by_gradients, by_steps, by_vjp

X = np.array([1.0, 2.0])


def cube(x):
    return x**3, x


judged = by_vjp(cube, lambda x: x**3, X)
EXHIBIT = Exhibit(
    title="A cube's derivative",
    op="cube",
    source="made up",
    wrong="2 * x",
    right="3 * x**2",
    unseen="It is the square's.",
    lesson="Differentiate.",
    faulty=lambda dy, x: dy * 2 * x,
    sound=lambda dy, x: dy * 3 * x**2,
    judge=judged,
    train=lambda version: [version(1.0, 2.0), 0],
    check=lambda version: version(1.0, 0.0) == 0,
    checked="looks at 0",
)


def test_both_versions_are_judged_trained_and_checked():
    assert EXHIBIT.report().verdict is Verdict.DISAGREE
    assert EXHIBIT.corrected().verdict is Verdict.AGREE
    assert EXHIBIT.training_curves() == ([4.0, 0.0], [12.0, 0.0])
    assert EXHIBIT.check_passes() is True
    assert replace(EXHIBIT, faulty=lambda dy, x: 1.0).check_passes() is False
    assert replace(EXHIBIT, check=None).check_passes() is None


@pytest.mark.parametrize(("typical", "words"), [(False, "The original check"), (True, "A usual check")])
def test_whose_check_it_is(typical, words):
    assert replace(EXHIBIT, typical=typical).whose_check == words


def test_a_repair_that_reads_a_number_of_its_own_point_is_seen_with_probes():
    assert judged(EXHIBIT.sound, probes=True).verdict is Verdict.AGREE
    at_its_point = lambda dy, _: dy * 3 * X**2  # noqa: E731
    assert judged(at_its_point).verdict is Verdict.AGREE
    assert judged(at_its_point, probes=True).verdict is Verdict.DISAGREE


def test_a_version_that_returns_gradients_is_judged_by_parameters():
    judge = by_gradients(lambda p, x: jnp.sum(p["w"] * x**2), {"w": np.array([0.5, -1.0])}, X)
    assert judge(lambda p, x: (np.sum(p["w"] * x**2), {"w": x**2})).verdict is Verdict.AGREE
    report = judge(lambda p, x: (np.sum(p["w"] * x**2), {"w": 2 * x**2}))
    assert (report.first_wrong, report.diagnoses[0].factor) == ("w", 2)


def test_a_version_that_is_a_step_is_judged_over_its_batches():
    def step(rate):
        return lambda p, x: {"w": p["w"] - rate * x}

    judge = by_steps(step(0.1), {"w": np.array([0.5, -1.0])}, [(X,), (2 * X,)])
    assert judge(step(0.1)).verdict is Verdict.AGREE
    assert judge(step(0.2)).verdict is Verdict.DISAGREE


@pytest.mark.parametrize(
    ("source", "project"),
    [
        ("kvfrans/notes #5", "kvfrans/notes"),
        ("karpathy/llm.c, pull request 763, of a reviewer's own implementation", "karpathy/llm.c"),
        ("mlpack/mlpack #2360, #3468 and #3470", "mlpack/mlpack"),
        ("CS231n #179", "CS231n"),
        ("Deep-ML, DML-OpenProblem #54", "Deep-ML"),
        ("zero_to_gpt #12; data-science-from-scratch #31", "zero_to_gpt"),
    ],
)
def test_a_project_is_what_the_source_names_first(source, project):
    assert replace(EXHIBIT, source=source).project == project
