"""Recorded runs: where two of them part."""

import re

import numpy as np
import pytest

from compare import Verdict
from compare.check.recorded_runs import check_runs


def run(scale=0.0, at=None, seed=0, count=20):
    """A recorded run in float32, moved by rounding that `seed` draws, and from the tensor `at` on by more."""
    random = np.random.default_rng(5)
    noise = np.random.default_rng(seed)
    tensors = {}
    for i in range(count):
        values = random.normal(size=(8, 8))
        values *= 1 + 1e-7 * noise.standard_normal((8, 8)) + (scale if at is not None and i >= at else 0)
        tensors[f"h{i}"] = values.astype(np.float32)
    return tensors


@pytest.mark.parametrize("twin", [False, True])
def test_two_runs_that_differ_by_rounding_agree(twin):
    report = check_runs(run(seed=1), run(seed=2), run(seed=3) if twin else None)
    assert report.verdict is Verdict.AGREE, str(report)


@pytest.mark.parametrize("at", [0, 7, 19])
@pytest.mark.parametrize("twin", [False, True])
def test_where_two_runs_part_is_named(at, twin):
    report = check_runs(run(seed=1), run(1e-2, at, seed=2), run(seed=3) if twin else None)
    assert report.verdict is Verdict.DISAGREE
    assert report.first_wrong == f"h{at}"
    assert f"first differ at h{at}" in report.sentence
    assert f"h{at}" in str(report)
    assert ("may cause" in report.sentence) is not twin


def test_a_twin_that_scatters_excuses_what_it_scatters_by():
    shaky = {name: leaf * np.float32(1.01) for name, leaf in run(seed=1).items()}
    assert check_runs(run(seed=1), run(1e-2, 0, seed=2)).verdict is Verdict.DISAGREE
    assert check_runs(run(seed=1), run(1e-2, 0, seed=2), shaky).verdict is Verdict.AGREE


PARTINGS = {
    "a tensor that is missing": (lambda r: r.pop("h3"), "the second run has no such tensor"),
    "a tensor of its own": (lambda r: r.update(new=np.ones(2)), "the first run has no such tensor"),
    "another shape": (lambda r: r.update(h3=np.ones(2)), r"its shape is \(8, 8\) in the first run"),
    "not finite": (lambda r: r["h3"].fill(np.inf), "not finite"),
}


@pytest.mark.parametrize("name", PARTINGS)
def test_what_cannot_be_compared_is_said(name):
    change, message = PARTINGS[name]
    second = run(seed=1)
    change(second)
    report = check_runs(run(seed=1), second)
    assert report.verdict is Verdict.DISAGREE
    assert any(re.search(message, row.message) for row in report.rows)


def test_whole_numbers_are_the_same_or_not():
    ids = {"ids": np.arange(5), "mask": np.array([True, False])}
    assert check_runs(ids, {name: leaf.copy() for name, leaf in ids.items()}).verdict is Verdict.AGREE
    assert check_runs(ids, ids | {"ids": np.array([0, 1, 2, 3, 5])}).first_wrong == "ids"
    assert check_runs(ids, ids | {"mask": np.array([True, True])}).first_wrong == "mask"
    nan = {"a": np.array([np.nan, 1.0])}
    assert check_runs(nan, {"a": nan["a"].copy()}).verdict is Verdict.AGREE


def test_an_empty_run_is_refused():
    with pytest.raises(ValueError, match="holds no arrays"):
        check_runs({}, run())


def adam(seed, count=3, wrong=0.0):
    """Adam's steps, where half of a gradient is rounding that `seed` draws, and b may be wrong from step 2 on."""
    noise, arrays = np.random.default_rng(seed), {}
    p = {"w": np.ones(8, np.float32), "b": np.zeros(2, np.float32)}
    for step in range(1, count + 1):
        for name, leaf in p.items():
            real = np.arange(1.0, leaf.size + 1) * (np.arange(leaf.size) < max(2, leaf.size / 2))
            g = (real * (1 + 1e-7 * noise.standard_normal(leaf.size)) + 1e-8 * noise.standard_normal(leaf.size)).astype(
                "f4"
            )
            moved = (leaf - 0.1 * g / np.abs(g) - wrong * (name == "b" and step > 1)).astype("f4")
            arrays |= {f"step.{step}/{part}/{name}": one for part, one in
                       (("parameters", leaf), ("gradients", g), ("next", moved))}  # fmt: skip
            p[name] = moved
    return arrays


def test_entries_whose_gradients_are_rounding_part_nobody():
    report = check_runs(adam(1), adam(2))
    assert np.abs(adam(1)["step.3/next/w"] - adam(2)["step.3/next/w"]).max() > 0.1
    assert report.verdict is Verdict.AGREE, str(report)
    assert "entries of parameters were not compared" in str(report)
    assert report.to_dict()["notes"] == report.notes
    report = check_runs(adam(1), adam(2, wrong=1e-3))
    assert report.first_wrong == "step.2/next/b"


def test_a_gradient_of_another_shape_than_its_parameter_is_only_a_tensor():
    one, other = (
        {f"gradients/{k}": g, "next/w": np.ones(3)} for k, g in (("w", np.ones((2, 2))), ("w", np.eye(2) + 1))
    )
    assert check_runs(one, one).verdict is Verdict.AGREE
    assert check_runs(one, other | {"next/w": np.zeros(3)}).first_wrong == "gradients/w"


def test_a_difference_of_all_entries_is_no_rounding():
    """The gradients are the same; what the second run makes of them is not."""
    one = adam(1)
    other = one | {"step.1/next/w": one["step.1/next/w"] * np.float32(1.001)}
    assert check_runs(one, other).first_wrong == "step.1/next/w"
    assert check_runs(one, one).notes == []
