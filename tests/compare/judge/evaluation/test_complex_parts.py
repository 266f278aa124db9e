"""Complex parameters, in JAX's convention and in PyTorch's: right ones agree, conjugated ones are named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compare import Verdict, check_gradients, check_vjp
from compare.judge.evaluation.complex_parts import has_complex, is_complex, joined, split
from compare.pytrees import leaves_by_path


def drawn(seed, *shape, dtype=np.complex128):
    random = np.random.default_rng(seed)
    return (random.normal(size=shape) + 1j * random.normal(size=shape)).astype(dtype)


A = drawn(1, 5, 3)
Z = drawn(2, 3)


def loss(z, a):
    """|A z|^2 + Re(sum z^2): neither part alone."""
    return jnp.sum(jnp.abs(a @ z) ** 2) + jnp.sum(z**2).real


def by_hand(change=lambda g: g, convention="jax"):
    """Of L = z* H z + Re(z.z), dL/dx + i dL/dy is 2 H z + 2 z*, and JAX has its conjugate."""

    def loss_and_gradients(z, a):
        r = a @ z
        gradient = 2 * np.conj(a).T @ r + 2 * np.conj(z)
        value = np.sum(np.abs(r) ** 2) + np.sum(z**2).real
        return value, change(gradient if convention == "conjugate" else np.conj(gradient)).astype(z.dtype)

    return loss_and_gradients


CONVENTIONS = ["jax", "conjugate"]
FORMULAS = {"jax": "dL/dx - i dL/dy (jax convention)", "conjugate": "dL/dx + i dL/dy (conjugate convention)"}


@pytest.mark.parametrize("convention", CONVENTIONS)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), dtype=st.sampled_from([np.complex128, np.complex64]))
def test_a_right_gradient_agrees_in_its_convention(convention, seed, dtype):
    a, z = drawn(seed, 5, 3, dtype=dtype), drawn([seed, 1], 3, dtype=dtype)
    report = check_gradients(by_hand(convention=convention), loss, z, a, convention=convention)
    assert report.verdict is Verdict.AGREE, str(report)
    assert any(FORMULAS[convention] in note for note in report.notes)
    assert [(row.path, row.dtype, row.shape) for row in report.rows][1:] == [("value", np.dtype(dtype).name, (3,))]


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_the_norm_is_that_of_the_whole(convention):
    report = check_gradients(by_hand(convention=convention), loss, Z, A, convention=convention)
    assert report.rows[1].norm == pytest.approx(np.linalg.norm(by_hand()(Z, A)[1]))


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_the_other_convention_is_conjugated(convention):
    other = CONVENTIONS[1 - CONVENTIONS.index(convention)]
    report = check_gradients(by_hand(convention=other), loss, Z, A, convention=convention)
    assert report.verdict is Verdict.DISAGREE
    assert report.first_wrong == "value"
    assert [diagnosis.kind for diagnosis in report.diagnoses] == ["conjugated"]
    assert "it is conjugated" in report.sentence
    assert FORMULAS[convention].partition(" (")[0] in report.sentence


FAULTS = {
    "twice": lambda g: 2 * g,
    "one part in a thousand": lambda g: 1.001 * g,
    "its sign": lambda g: -g,
    "its imaginary part": lambda g: g.real + 1.001j * g.imag,
    "its real part": lambda g: 1.001 * g.real + 1j * g.imag,
    "one entry": lambda g: g * (1 + 1e-6 * (np.arange(3) == 1)),
    "times i": lambda g: 1j * g,
    "no number": lambda g: g * np.nan,
    "no imaginary part": lambda g: g.real + 0j,
}


@pytest.mark.sweep
@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_wrong_gradients_are_wrong_and_not_called_conjugated(name, convention):
    report = check_gradients(by_hand(FAULTS[name], convention), loss, Z, A, convention=convention)
    assert report.verdict is Verdict.DISAGREE
    assert report.wrong_side == "manual"
    assert report.first_wrong == "value"
    assert {diagnosis.path for diagnosis in report.diagnoses} <= {"value"}
    assert "conjugated" not in [diagnosis.kind for diagnosis in report.diagnoses]


def test_the_part_that_is_wrong_is_named():
    report = check_gradients(by_hand(FAULTS["its imaginary part"]), loss, Z, A)
    assert "in its imaginary part" in report.sentence
    assert report.diagnoses[0].factor == pytest.approx(1.001)
    assert "in its real part" in check_gradients(by_hand(FAULTS["its real part"]), loss, Z, A).sentence


@pytest.mark.sweep
@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("fault", [None, "w", "z"])
def test_real_leaves_beside_complex_ones(convention, fault):
    parameters = {"b": np.array(0.5), "w": np.array([1.0, -2.0, 0.5]), "z": Z}

    def mixed(p):
        return jnp.sum(jnp.abs(p["w"] * p["z"] + p["b"]) ** 2)

    def mixed_by_hand(p):
        r = p["w"] * p["z"] + p["b"]
        times = {name: 1.01 if name == fault else 1.0 for name in p}
        d_z = 2 * p["w"] * r
        gradients = {
            "b": 2 * np.sum(r.real),
            "w": 2 * times["w"] * np.real(np.conj(p["z"]) * r),
            "z": times["z"] * (d_z if convention == "conjugate" else np.conj(d_z)),
        }
        return np.sum(np.abs(r) ** 2), gradients

    report = check_gradients(mixed_by_hand, mixed, parameters, convention=convention)
    assert [row.path for row in report.rows] == ["loss", "b", "w", "z"]
    assert {row.path for row in report.rows if row.verdict is Verdict.DISAGREE} == ({fault} if fault else set())
    assert report.first_wrong == fault


def test_a_complex_number_alone():
    def by_hand(times):
        return lambda c: (abs(c * (1 + 2j)) ** 2, times * 10 * np.conj(c))

    report = check_gradients(by_hand(1), lambda c: jnp.abs(c * (1 + 2j)) ** 2, np.array(2 - 1j))
    assert report.verdict is Verdict.AGREE, str(report)
    assert report.rows[1].shape == ()
    assert check_gradients(by_hand(1.1), lambda c: jnp.abs(c * (1 + 2j)) ** 2, np.array(2 - 1j)).verdict is (
        Verdict.DISAGREE
    )


def test_complex_inputs_of_a_pair():
    """y = z w: JAX does not conjugate, and PyTorch does."""
    w = drawn(5, 3)

    def forward(z, w):
        return z * w, (z, w)

    def backward(dy, cache):
        z, w = cache
        return dy * w, dy * z

    def conjugated(dy, cache):
        z, w = cache
        return dy * np.conj(w), dy * np.conj(z)

    def check(backward, convention):
        return check_vjp(forward, backward, lambda z, w: z * w, Z, w, convention=convention)

    for right, wrong, convention in ((backward, conjugated, "jax"), (conjugated, backward, "conjugate")):
        report = check(right, convention)
        assert report.verdict is Verdict.AGREE, str(report)
        assert [row.path for row in report.rows] == ["output", "z", "w"]
        assert any(FORMULAS[convention] in note for note in report.notes)
        assert check(wrong, convention).verdict is Verdict.DISAGREE


def test_a_convention_that_is_none_is_refused():
    with pytest.raises(ValueError, match="convention must be 'jax' or 'conjugate', got 'torch'"):
        check_gradients(by_hand(), loss, Z, A, convention="torch")


# ------------------------------------------------------------------------------------------------------ its parts


@given(seed=st.integers(0, 2**20), shape=st.sampled_from([(), (3,), (2, 0), (2, 3)]))
@settings(max_examples=10, deadline=None)
def test_what_is_split_is_joined_again(seed, shape):
    tree = {"z": drawn(seed, *shape), "x": np.ones(2), "deeper": [drawn([seed, 1], *shape)], "n": np.arange(2)}
    parts = split(tree)
    assert not any(map(is_complex, jax.tree.leaves(parts)))
    assert jax.tree.all(jax.tree.map(np.array_equal, joined(parts), tree))
    assert list(leaves_by_path(parts)) == ["deeper.0.real", "deeper.0.imag", "n", "x", "z.real", "z.imag"]
    other = split(tree, -1.0)
    np.testing.assert_array_equal(other["z"].imag, -parts["z"].imag)
    np.testing.assert_array_equal(other["z"].real, parts["z"].real)


def test_what_is_complex():
    assert has_complex({"a": np.ones(2), "b": np.ones(2, np.complex64)})
    assert not has_complex({"a": np.ones(2), "b": np.arange(2)})
