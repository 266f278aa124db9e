"""Probes move what may be moved, and leave alone what would lose its meaning."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from compare import ONE_EXAMPLE, Probe, Verdict, check_gradients
from compare.judge.evaluation.perturbed_points import DEFAULT, scaled

RANDOM = np.random.default_rng(0)
PARAMETERS = {"w": RANDOM.standard_normal((3, 4)), "b": np.zeros(4), "steps": np.array(7)}
DATA = RANDOM.standard_normal((3, 10))
UNTOUCHED = {
    "labels": (RANDOM.random((2, 10)) < 0.5).astype(float),
    "probabilities": RANDOM.random(10),
    "positive numbers": RANDOM.random(10) * 5,
    "sorted offsets": np.array([0, 3, 3, 7, 10]),
    "a mask": RANDOM.random(10) < 0.5,
    "a scalar": np.array(0.1),
    "no array": "relu",
    "nothing": np.zeros((0, 3)),
}
IDS = np.array([4, 0, 6, 2, 5, 1])


def points(*args):
    """The points of the usual probes that apply."""
    for probe in DEFAULT:
        moved = probe.move(PARAMETERS, args, np.random.default_rng(1))
        if moved is not None:
            yield probe.name, *moved


@pytest.mark.parametrize("name", UNTOUCHED)
def test_what_may_be_labels_masks_or_offsets_stays_as_it_is(name):
    for _, _, (data, kept) in points(DATA, UNTOUCHED[name]):
        assert data.shape == DATA.shape
        np.testing.assert_array_equal(kept, UNTOUCHED[name])


def test_shapes_dtypes_and_the_caller_s_own_arrays_stay_as_they_are():
    before = jax.tree.map(np.copy, (PARAMETERS, DATA, IDS))
    for parameters, args in [(p, a) for _, p, a in points(DATA.astype(np.float32), IDS)]:
        for moved, given in zip(
            jax.tree.leaves((parameters, args)), jax.tree.leaves((PARAMETERS, DATA, IDS)), strict=True
        ):
            assert moved.shape == given.shape
        assert args[0].dtype == np.float32
        assert parameters["steps"] == 7
    assert jax.tree.all(jax.tree.map(np.array_equal, before, (PARAMETERS, DATA, IDS)))


def test_data_are_others_and_larger_at_some_probe():
    sizes = [np.abs(data).max() / np.abs(DATA).max() for _, _, (data,) in points(DATA)]
    assert max(sizes) == pytest.approx(3)
    assert any(not np.array_equal(np.sign(data), np.sign(DATA)) for _, _, (data,) in points(DATA))


def test_parameters_are_driven_to_saturation_and_zeros_are_moved():
    largest = max(np.abs(parameters["w"]).max() for _, parameters, _ in points(DATA))
    assert largest > 100 * np.abs(PARAMETERS["w"]).max()
    assert any(parameters["b"].all() for _, parameters, _ in points(DATA))


def test_ids_are_repeated_and_stay_among_those_given():
    found = [ids for name, _, (ids,) in points(IDS) if name == "repeated ids"]
    assert len(found) == 1
    assert len(np.unique(found[0])) < len(found[0])
    assert set(found[0].tolist()) <= set(IDS.tolist())
    assert not [name for name, *_ in points(DATA) if name == "repeated ids"]


def test_the_first_example_alone():
    def alone(*args):
        return ONE_EXAMPLE.move(PARAMETERS, args, RANDOM)

    assert [leaf.shape for leaf in (alone(DATA, np.ones((2, 10))) or ((), ()))[1]] == [(3, 1), (2, 1)]
    assert [leaf.shape for leaf in (alone(DATA.T, np.ones(10)) or ((), ()))[1]] == [(1, 3), (1,)]
    assert alone(DATA, np.ones((4, 5))) is None  # no axis in common: which would be the examples?
    assert alone(DATA) is None


# ------------------------------------------------------------------------------------ in a check


def loss(w, x):
    return jnp.sum(x * w**2)


def right(w, x):
    return np.sum(x * w**2), 2 * w * x


def clipped(w, x):
    return np.sum(x * w**2), np.clip(2 * w * x, -50, 50)


W, X = np.array([0.5, -1.0, 2.0]), np.array([1.0, -2.0, 0.5])


def test_a_fault_that_only_a_probe_shows_is_reported_with_the_probe():
    assert check_gradients(clipped, loss, W, X, probes=False).verdict is Verdict.AGREE
    report = check_gradients(clipped, loss, W, X)
    assert report.verdict is Verdict.DISAGREE
    assert report.probe == DEFAULT[0].name
    assert f"at the perturbed point {report.probe!r}" in report.sentence
    assert report.probes[DEFAULT[0].name] == "disagree"


def test_probes_of_the_caller_take_the_place_of_ours():
    sixty = Probe("sixty", lambda parameters, args, random: (60 * parameters, args))
    none = Probe("none", lambda parameters, args, random: None)
    report = check_gradients(clipped, loss, W, X, probes=[none, sixty])
    assert report.probes == {"none": "does not apply", "sixty": "disagree"}
    assert report.probe == "sixty"


def test_a_function_that_refuses_a_probe_is_not_blamed():
    def careful(w, x):
        if np.abs(w).max() > 3:
            raise ValueError("weights are too large")
        return right(w, x)

    report = check_gradients(careful, loss, W, X)
    assert report.verdict is Verdict.AGREE
    assert any("raised ValueError: weights are too large" in note for note in report.notes)


# --------------------------------------------------------------- what an argument may mean

SQUARE = RANDOM.standard_normal((5, 5))
DIRECTIONS = DATA / np.linalg.norm(DATA, axis=0)
STRUCTURED = {
    "labels of -1 and 1": np.sign(DATA),
    "a ternary mask": np.sign(DATA) * (np.abs(DATA) > 0.5),
    "a symmetric matrix": SQUARE + SQUARE.T,
    "an antisymmetric matrix": SQUARE - SQUARE.T,
    "symmetric matrices": np.stack([SQUARE + SQUARE.T, SQUARE @ SQUARE.T]),
    "a triangular matrix": np.tril(SQUARE),
    "unit columns": DIRECTIONS,
    "unit rows in float32": DIRECTIONS.T.astype(np.float32),
    "unit rows in bfloat16": np.asarray(DIRECTIONS.T, ml_dtypes.bfloat16),
    "one direction": DIRECTIONS[:, 0],
    "a grid": np.linspace(-2, 2, 9),
    "huge numbers of one length": 1e200 * DIRECTIONS,
    "a permutation": np.array([3, 1, 4, 0, 2]),
    "permutations": np.array([[2, 0, 1], [1, 2, 0]]),
    "a permutation from 1": np.array([3, 1, 2]),
}


@pytest.mark.parametrize("name", STRUCTURED)
def test_what_a_formula_may_count_on_stays_as_it_is(name):
    for _, _, (data, kept) in points(DATA, STRUCTURED[name]):
        assert data.shape == DATA.shape
        np.testing.assert_array_equal(kept, STRUCTURED[name])


@pytest.mark.parametrize(
    "data", [SQUARE, DATA[:1], DATA.reshape(-1, 1), DATA.astype(np.float32), DATA.reshape(3, 5, 2)]
)
def test_numbers_of_no_structure_are_others_at_some_probe(data):
    assert any(not np.array_equal(moved, data) for _, _, (moved,) in points(data))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_parameter_of_one_sign_keeps_it(sign):
    scale = sign * np.array([0.01, 1.0, 2.0, 0.0, 3.0])
    for probe in DEFAULT[:2]:
        moved, _ = probe.move({"scale": scale}, (), np.random.default_rng(2)) or ({}, ())
        assert (sign * moved["scale"] > 0).all()
        assert not np.array_equal(moved["scale"] / moved["scale"][1], scale / scale[1])


@pytest.mark.parametrize("order", ["C", "F"])
def test_probes_keep_the_memory_layout(order):
    data, parameters = (np.array(array, order=order) for array in (DATA, SQUARE))
    for probe in (*DEFAULT[:2], ONE_EXAMPLE):
        moved = probe.move(parameters, (data, np.array(np.ones((2, 10)), order=order)), RANDOM)
        assert moved is not None
        for leaf in jax.tree.leaves(moved):
            assert leaf.flags[f"{order}_CONTIGUOUS"], probe.name


def projections(p, n):
    r = p - n * (n @ p)[:, None]
    return np.sum(r * r), 2 * r.sum(0)  # right for unit n, and for no other


def projection_loss(p, n):
    return jnp.sum((p - n * (n @ p)[:, None]) ** 2)


def test_a_formula_for_what_its_arguments_are_is_not_blamed():
    assert check_gradients(projections, projection_loss, W, DIRECTIONS.T).verdict is Verdict.AGREE
    wrong = check_gradients(lambda p, n: (projections(p, n)[0], n.sum(0)), projection_loss, W, DIRECTIONS.T)
    assert wrong.verdict is Verdict.DISAGREE


def test_a_fault_of_other_data_alone_says_so_and_how_to_do_without():
    def counts_on_unit_x(w, x):
        return np.sum(w**2) * (x @ x), 2 * w * min(x @ x, 20.0)

    report = check_gradients(counts_on_unit_x, lambda w, x: jnp.sum(w**2) * (x @ x), W, X)
    assert report.changed == ["w", "x"]
    text = " ".join(str(report).split())
    assert "which changes w and x." in text
    assert "Note: if only w is changed, both sides agree." in text
    assert "probes=False" in text
    assert "The hand-written side is wrong" not in text


def test_a_fault_that_shows_with_the_caller_s_own_data_is_shown_with_them():
    def sooner(w, x):
        return np.sum(x * w**2), np.clip(2 * w * x, -20, 20)

    report = check_gradients(sooner, loss, W, X)
    assert report.probe == DEFAULT[0].name
    assert report.changed == ["w"]
    assert "which changes w." in " ".join(str(report).split())


def test_probes_that_are_none_are_refused_in_words():
    with pytest.raises(ValueError, match=r"probes must be True, False or a list of compare\.Probe, got 'x10'"):
        check_gradients(right, loss, W, X, probes=["x10"])  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("size", [3, 70_000])
def test_tails_are_left_where_that_costs_little(size):
    """At p = 10, exp(-p**2 / 2) is 1e-22 and so is its gradient, whatever its sign."""
    p = np.linspace(9, 11, size)

    def by_hand(sign):
        return lambda p: (np.sum(np.exp(-(p**2) / 2)), sign * p * np.exp(-(p**2) / 2))

    def loss(p):
        return jnp.sum(jnp.exp(-(p**2) / 2))

    right, wrong = (check_gradients(by_hand(sign), loss, p) for sign in (-1, 1))
    assert right.verdict is Verdict.AGREE
    if size == 3:
        assert right.probes["parameters x 0.1"] == "agree"
        assert (wrong.verdict, wrong.probe) == (Verdict.DISAGREE, "parameters x 0.1")
    else:
        assert wrong.probes["parameters x 0.1"] == "does not apply"


def test_a_symmetric_parameter_stays_symmetric():
    """log det of a covariance: on other matrices the derivative of its symmetric part is another one."""
    A = np.random.default_rng(0).normal(size=(6, 6))
    A = A @ A.T + np.eye(6)
    A = (A + A.T) / 2

    def by_hand(A):
        return np.linalg.slogdet(A)[1], np.linalg.inv(A)

    def by_jax(A):
        return jnp.linalg.slogdet((A + A.T) / 2)[1]

    assert check_gradients(by_hand, by_jax, A).verdict is Verdict.AGREE
    doubled = check_gradients(lambda A: (by_hand(A)[0], by_hand(A)[1] * (1 + np.eye(6))), by_jax, A)
    assert doubled.verdict is Verdict.DISAGREE


def test_a_square_weight_that_starts_at_zero_or_one_is_not_kept_symmetric():
    """There a transposed gradient would hide."""
    for start in (np.zeros((4, 4)), np.eye(4)):
        moved, _ = scaled(10)(start, (), np.random.default_rng(0))
        assert not np.allclose(moved, moved.T)


def test_a_triangular_parameter_stays_triangular():
    """np.linalg.solve of a Cholesky factor reads all of it, where a formula may count on the zeros."""
    A = np.random.default_rng(0).normal(size=(5, 5))
    L = np.linalg.cholesky(A @ A.T + np.eye(5))
    for factor in (L, np.ascontiguousarray(L.T)):
        moved, _ = scaled(10)(factor, (), np.random.default_rng(0))
        assert ((moved != 0) == (factor != 0)).all()
        assert not np.allclose(moved[factor != 0], 10 * factor[factor != 0])
