"""Where the caller says what a parameter or an argument is, it stays that at every perturbed point."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compare import Probe, Verdict, check_gradients
from compare.judge.evaluation.domain import DOMAINS, checked, kept
from compare.judge.evaluation.perturbed_points import DEFAULT
from compare.judge.program.inputs import Inputs


def definite(n, seed=0):
    a = np.random.default_rng(seed).standard_normal((n, n))
    return a @ a.T + np.eye(n)


INSIDE = {
    "positive": lambda leaf: (leaf > 0).all(),
    "negative": lambda leaf: (leaf < 0).all(),
    "unit interval": lambda leaf: ((leaf > 0) & (leaf < 1)).all(),
    "positive definite": lambda leaf: np.array_equal(leaf, leaf.T) and (np.linalg.eigvalsh(leaf) > 0).all(),
    "fixed": lambda leaf: True,
}
START = {
    "positive": np.array([0.5, 2.0, 1e-3, 40.0]),
    "negative": np.array([-0.5, -2.0, -1e-3]),
    "unit interval": np.array([0.2, 0.7, 0.4, 1e-6, 0.999]),
    "positive definite": definite(4),
    "fixed": np.array([1.0, -2.0, 3.0]),
}


def alone(domain, before, after):
    """Moved parameters `p`, without arguments, in their domain."""
    return kept(domain, Inputs(before, names=("p",)), Inputs(after, names=("p",)), np.random.default_rng(0)).parameters


POINTS = [probe for probe in DEFAULT if probe.name != "repeated ids"]


def test_each_domain_has_its_test():
    assert INSIDE.keys() == START.keys() == DOMAINS.keys()


@pytest.mark.sweep
@pytest.mark.parametrize("probe", POINTS, ids=lambda probe: probe.name)
@pytest.mark.parametrize("kind", DOMAINS)
@pytest.mark.parametrize("place", ["parameters", "argument"])
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_domain_is_kept_and_its_leaf_is_moved_in_it(probe, kind, place, seed):
    random, start = np.random.default_rng(seed), START[kind]
    given = ({"q": start, "w": np.ones(2)}, np.ones(3)) if place == "parameters" else (np.ones(2), start)
    before = Inputs(given[0], given[1:], ("p", "data"))
    moved = before.moved(probe.move, random)
    if moved is None:
        return
    domain = {"q" if place == "parameters" else "data": kind}
    after = kept(domain, before, moved, random)
    leaf = after.parameters["q"] if place == "parameters" else after.args[0]
    assert leaf.dtype == start.dtype
    assert leaf.shape == start.shape
    assert INSIDE[kind](leaf)
    assert np.array_equal(leaf, start) == (kind == "fixed")
    other, as_moved = (after.args, moved.args) if place == "parameters" else (after.parameters, moved.parameters)
    np.testing.assert_array_equal(other, as_moved)  # of which nothing was said


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("kind", DOMAINS)
def test_a_domain_is_kept_in_other_dtypes(kind, dtype):
    start = START[kind].astype(dtype)
    after = alone({"q": kind}, {"q": start}, {"q": 10 * start})["q"]
    assert after.dtype == dtype
    assert np.isfinite(after).all()
    assert kind == "positive definite" or INSIDE[kind](after)


def test_what_is_positive_grows_as_the_point_does():
    before = np.array([1.0, 2.0])
    after = alone({"p": "positive"}, before, 1000 * before)
    assert 300 < np.linalg.norm(after) / np.linalg.norm(before) < 3000


def test_stacks_of_definite_matrices_stay_stacks_of_them():
    before = np.stack([definite(3, seed) for seed in range(4)])
    after = alone({"p": "positive definite"}, before, -before)
    assert after.shape == before.shape
    assert all(INSIDE["positive definite"](matrix) for matrix in after)


def test_names_are_those_of_arguments_leaves_and_leaves_of_arguments():
    parameters, args = {"W": np.ones(2), "q": np.full(2, 0.5)}, ({"scale": np.ones(3), "shift": np.ones(3)}, np.ones(2))
    before = Inputs(parameters, args, ("p", "options", "x"))
    for name in ("p", "W", "p.W", "options", "options.scale", "x"):
        assert checked({name: "fixed"}, before) == {name: "fixed"}
        after = kept({name: "fixed"}, before, before.converted(lambda leaf: 2 * leaf), np.random.default_rng())
        still = [
            name
            for name, leaf in (
                ("W", after.parameters["W"]),
                ("q", after.parameters["q"] * 2),
                ("scale", after.args[0]["scale"]),
                ("shift", after.args[0]["shift"]),
                ("x", after.args[1]),
            )
            if np.array_equal(leaf, np.ones(leaf.shape))
        ]
        expected = {
            "p": ["W", "q"],
            "W": ["W"],
            "p.W": ["W"],
            "options": ["scale", "shift"],
            "options.scale": ["scale"],
            "x": ["x"],
        }
        assert still == expected[name]


@pytest.mark.parametrize(
    ("domain", "message"),
    [
        (
            {"w": "positiv"},
            "the domain of 'w' must be one of 'positive', 'negative', 'unit interval', .*, got 'positiv'",
        ),
        ({"w": ""}, "the domain of 'w' must be one of .*, got ''"),
        ({"v": "positive"}, "domain names 'v', which is not among W, options, options.scale, w"),
        ({"scale": "positive"}, "domain names 'scale', which is not among"),
    ],
)
def test_unknown_names_and_kinds_are_refused(domain, message):
    called = []

    def by_hand(w, options):
        called.append(w)
        return np.sum(w["W"]), {"W": np.ones(2)}

    with pytest.raises(ValueError, match=message):
        check_gradients(
            by_hand,
            lambda w, options: jnp.sum(w["W"]),
            {"W": np.ones(2)},
            {"scale": np.ones(2)},
            domain=domain,
        )
    assert called == []


# ------------------------------------------------------------------------------------------------------ in a check


def entropy(p, y):
    return -np.sum(y * np.log(p) + (1 - y) * np.log(1 - p)), (1 - y) / (1 - p) - y / p


def entropy_loss(p, y):
    return -jnp.sum(y * jnp.log(p) + (1 - y) * jnp.log(1 - p))


P, LABELS = np.array([0.2, 0.7, 0.4]), np.array([0.0, 1.0, 1.0])


def saturating(p, y):
    """Right at P, and wrong nearer to 0 and 1."""
    loss, gradient = entropy(p, y)
    return loss, np.clip(gradient, -2.6, 2.6)


def test_perturbed_points_say_more_of_a_probability_that_stays_one():
    with np.errstate(all="ignore"):
        without = check_gradients(entropy, entropy_loss, P, LABELS)
        within = check_gradients(entropy, entropy_loss, P, LABELS, domain={"p": "unit interval"})
        assert without.verdict is within.verdict is Verdict.AGREE
        assert set(within.probes.values()) <= {"agree", "does not apply"}
        assert "agree" not in [without.probes[name] for name in ("parameters x 10, other data", "parameters x 1000")]
        wrong = check_gradients(saturating, entropy_loss, P, LABELS, domain={"p": "unit interval"})
    assert wrong.verdict is Verdict.DISAGREE
    assert wrong.probe is not None


def volume(s):
    return np.linalg.slogdet(s)[1], np.linalg.inv(s)


def test_a_covariance_stays_one():
    """By Cholesky: of no other matrix."""

    def by_hand(s):
        l = np.linalg.cholesky(s)  # noqa: E741
        inverse = np.linalg.inv(l)
        return 2 * np.sum(np.log(np.diag(l))), inverse.T @ inverse

    report = check_gradients(
        by_hand, lambda s: jnp.linalg.slogdet((s + s.T) / 2)[1], definite(4), domain={"s": "positive definite"}
    )
    assert report.verdict is Verdict.AGREE, str(report)
    assert all("raised" not in words for words in report.probes.values())


def test_a_point_of_the_caller_s_is_kept_in_the_domain_too():
    seen = []

    def by_hand(w, x):
        seen.append((w.copy(), x.copy()))
        return np.sum(w * x**2), x**2

    negate = Probe("negated", lambda w, args, random: (-w, (-args[0],)))
    domain = {"w": "positive", "x": "fixed"}
    x = np.array([1.0, -3.0])
    report = check_gradients(
        by_hand, lambda w, x: jnp.sum(w * x**2), np.array([1.0, 2.0]), x, probes=[negate], domain=domain
    )
    assert report.verdict is Verdict.AGREE
    assert all((w > 0).all() and np.array_equal(given, x) for w, given in seen)
    assert len({tuple(w) for w, _ in seen}) == 2
