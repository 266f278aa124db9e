"""check_gradients, on our network and on somebody else's."""

import ctypes

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import compare
import manual
from compare import GradientMismatch, Verdict, assert_gradients_agree, check_gradients, tap
from compare.suite.shallow import shallow_loss
from tests.helpers import network


def faulty(change):
    """The network's loss and gradients with `change` applied to the gradients."""

    def loss_and_gradients(parameters, x, y):
        loss, gradients = manual.loss_and_gradients(parameters, x, y)
        return loss, gradients | change(gradients, parameters)

    return loss_and_gradients


def last_place(array, relative):
    moved = array.copy()
    moved[-1, -1] *= 1 + relative
    return moved


FAULTS = {
    "sum for mean": lambda g, p: {"b1": g["b1"] * 12},
    "sign": lambda g, p: {"W2": -g["W2"]},
    "transpose": lambda g, p: {"W1": g["W1"].T},
    "zero": lambda g, p: {"b2": np.zeros_like(g["b2"])},
    "weight decay": lambda g, p: {"W1": g["W1"] + 1e-6 * p["W1"]},
    "one entry by 1e-11": lambda g, p: {"W1": last_place(g["W1"], 1e-11)},
    "float32 inside": lambda g, p: {"W2": g["W2"].astype(np.float32).astype(np.float64)},
    "wrong dtype": lambda g, p: {"b2": g["b2"].astype(np.float32)},
    "nan": lambda g, p: {"b2": g["b2"] * np.nan},
}


@pytest.mark.sweep
@pytest.mark.parametrize("name", FAULTS)
def test_planted_faults_are_caught_in_the_leaf_that_has_them(name):
    parameters, x, y = network(0, 4, 4, 2, 12)
    report = check_gradients(faulty(FAULTS[name]), shallow_loss, parameters, x, y)
    assert report.verdict is Verdict.DISAGREE
    _, gradients = manual.loss_and_gradients(parameters, x, y)
    (leaf,) = FAULTS[name](gradients, parameters)
    assert report.first_wrong == leaf
    assert [row.path for row in report.rows if row.verdict is not Verdict.AGREE] == [leaf]


def test_a_wrong_loss_is_seen_though_its_gradients_are_right():
    def lost_minus(parameters, x, y):
        loss, gradients = manual.loss_and_gradients(parameters, x, y)
        return -loss, gradients

    report = check_gradients(lost_minus, shallow_loss, *network(0, 4, 3, 2, 12))
    assert report.verdict is Verdict.DISAGREE
    assert report.first_wrong == "loss"


def test_a_loss_that_is_not_finite_leaves_the_verdict_open():
    def loss(parameters):
        return jnp.log(parameters["w"][0])

    def by_hand(parameters):
        return -np.inf, {"w": np.array([np.inf])}

    report = check_gradients(by_hand, loss, {"w": np.zeros(1)})
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "the reference is -inf" in str(report)


def test_any_pytree_of_parameters_and_other_arguments():
    def loss(parameters, ids):
        table, scale = parameters[0], parameters[1]["scale"]
        return jnp.sum(table[ids] ** 2) * scale

    def by_hand(parameters, ids):
        table, scale = parameters[0], parameters[1]["scale"]
        gradient = np.zeros_like(table)
        np.add.at(gradient, ids, 2 * table[ids] * scale)
        return np.sum(table[ids] ** 2) * scale, (gradient, {"scale": np.sum(table[ids] ** 2)})

    parameters = (np.random.default_rng(0).standard_normal((5, 2)), {"scale": np.float64(3)})
    report = check_gradients(by_hand, loss, parameters, np.array([0, 3, 3]))
    assert report.verdict is Verdict.AGREE, str(report)
    assert [row.path for row in report.rows] == ["loss", "1.scale", "0"]  # backward: the scale is used last


def test_the_report_for_people_and_for_machines():
    report = check_gradients(faulty(FAULTS["sign"]), shallow_loss, *network(0, 4, 3, 2, 12))
    assert "W2" in str(report).splitlines()[0]
    assert report.to_dict()["verdict"] == "disagree"
    assert report.to_dict()["first_wrong"] == "W2"
    assert "<table>" in report._repr_html_()
    with pytest.raises(TypeError, match=r"look at report\.verdict"):
        bool(report)


def test_the_assertion():
    problem = network(0, 4, 3, 2, 12)
    assert_gradients_agree(manual.loss_and_gradients, shallow_loss, *problem)
    with pytest.raises(GradientMismatch, match="W2") as caught:
        assert_gradients_agree(faulty(FAULTS["sign"]), shallow_loss, *problem)
    assert caught.value.report.verdict is Verdict.DISAGREE
    assert isinstance(caught.value, AssertionError)


def test_jax_is_left_as_it_was():
    before = dict(jax.config.values)
    compare.check_gradients(manual.loss_and_gradients, shallow_loss, *network(0, 4, 3, 2, 12))
    assert dict(jax.config.values) == before


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_a_fault_in_a_short_dtype_is_named(dtype):
    p, x = np.linspace(1, 2, 24).astype(dtype), np.linspace(-1, 1, 24).astype(dtype)

    def by_hand(p, x):
        return np.sum(p * p * x).astype(dtype), (3 * p * x).astype(dtype)

    report = check_gradients(by_hand, lambda p, x: jnp.sum(p * p * x), p, x, probes=False)
    assert report.verdict is Verdict.DISAGREE
    assert report.diagnoses[0].kind == "factor"


# --------------------------------------------------------------------- numbers, dtypes and names


def scaled_loss(p, x):
    return jnp.mean((x @ p["w"] + p["b"]) ** 2)


def scaled_by_hand(loss=lambda value: value, b=lambda value: value, w=lambda value: value):
    def loss_and_gradients(p, x):
        z = x @ p["w"] + p["b"]
        d = 2 * z / z.dtype.type(len(z))
        return loss(np.mean(z**2)), {"w": w(x.T @ d), "b": b(d.sum())}

    return loss_and_gradients


SINGLE = {"w": np.array([0.5, -1.25, 2.0], np.float32), "b": np.array(0.3, np.float32)}
ROWS = np.random.default_rng(3).standard_normal((10, 3)).astype(np.float32)


@pytest.mark.parametrize("number", [float, lambda value: value.item(), ctypes.c_float])
def test_a_number_that_has_no_dtype_has_the_one_of_its_place(number):
    assert check_gradients(scaled_by_hand(number, float), scaled_loss, SINGLE, ROWS).verdict is Verdict.AGREE
    report = check_gradients(scaled_by_hand(b=lambda value: 3.0 * float(value)), scaled_loss, SINGLE, ROWS)
    assert report.first_wrong == "b"
    assert report.diagnoses[0].kind == "factor"


def test_a_scalar_of_numpy_in_double_precision_is_a_promotion():
    report = check_gradients(scaled_by_hand(b=np.float64), scaled_loss, SINGLE, ROWS)
    assert report.verdict is Verdict.DISAGREE
    assert report.diagnoses[0].kind == "dtype"
    of_the_loss = check_gradients(scaled_by_hand(np.float64), scaled_loss, SINGLE, ROWS)
    assert of_the_loss.verdict is Verdict.AGREE  # nobody goes on to compute with it
    assert "the hand-written loss is float64, the reference's is float32." in of_the_loss.notes


@pytest.mark.parametrize("short", [np.float16, ml_dtypes.bfloat16])
def test_each_leaf_is_held_to_the_rounding_of_its_own_dtype(short):
    parameters = SINGLE | {"w": SINGLE["w"].astype(short)}

    def by_hand(w=1.0, b=1.0):
        def loss_and_gradients(p, x):
            wide = {"w": p["w"].astype(np.float32), "b": p["b"]}
            value, g = scaled_by_hand()(wide, x)
            return value, {"w": (np.float32(w) * g["w"]).astype(short), "b": np.float32(b) * g["b"]}

        return loss_and_gradients

    def found(**factors):
        return check_gradients(by_hand(**factors), scaled_loss, parameters, ROWS, probes=False).first_wrong

    assert found() is None
    assert found(b=1 + 1e-4) == "b"
    assert found(w=1.5) == "w"


def test_two_short_dtypes_have_a_common_one():
    parameters = {"a": np.array([0.5, 2.0], np.float16), "b": np.array([0.5, 2.0], ml_dtypes.bfloat16)}

    def by_hand(times):
        def loss_and_gradients(p):
            return np.float32(sum(np.sum(leaf.astype(np.float32) ** 2) for leaf in p.values())), {
                "a": 2 * p["a"],
                "b": (times * p["b"]).astype(ml_dtypes.bfloat16),
            }

        return check_gradients(loss_and_gradients, lambda p: jnp.sum(p["a"] ** 2) + jnp.sum(p["b"] ** 2), parameters)

    assert by_hand(2).verdict is Verdict.AGREE, str(by_hand(2))
    assert by_hand(3).first_wrong == "b"


def marked(p, x):
    return jnp.mean(tap("z", x @ p) ** 2)


def marked_by_hand(**offered):
    def loss_and_gradients(p, x):
        z = x @ p
        return np.mean(z**2), 2 * x.T @ z / len(x), {name: change(2 * z / len(x)) for name, change in offered.items()}

    return loss_and_gradients


P, DATA = np.array([0.5, -1.25, 2.0]), np.random.default_rng(3).standard_normal((10, 3))


def test_intermediates_that_cannot_be_compared_are_named_first():
    report = check_gradients(marked_by_hand(dz=lambda dz: 17 * dz), marked, P, DATA)
    assert report.verdict is Verdict.AGREE
    assert report.notes[0] == "the gradient 'dz' is not compared: the taps of the loss are z."
    assert check_gradients(marked_by_hand(z=lambda dz: dz), marked, P, DATA).notes == []
    assert check_gradients(marked_by_hand(z=lambda dz: 17 * dz), marked, P, DATA).first_wrong == "z"
    unmarked = check_gradients(marked_by_hand(z=lambda dz: dz), lambda p, x: jnp.mean((x @ p) ** 2), P, DATA)
    assert unmarked.notes[0].startswith("the gradient 'z' is not compared: the loss marks no value")


def test_a_tap_inside_a_loop_is_said_to_be_there():
    def loss(p, x):
        return jax.lax.scan(lambda h, row: (tap("h", h + row @ p), None), 0.0, x)[0]

    def by_hand(p, x):
        return np.sum(x @ p), x.sum(0), {"h": 1.0}

    report = check_gradients(by_hand, loss, P, DATA)
    assert report.verdict is Verdict.AGREE, str(report)
    assert report.notes[0].startswith("the tap 'h' is not compared: inside a loop")


REFUSED = [
    (lambda p, x: (0.0, p, x), marked, P, TypeError, "intermediates a dict of gradients .* third value is ndarray"),
    (lambda p, x: ([p], p), marked, P, TypeError, "first value is list. The loss must be one number"),
    (
        marked_by_hand(),
        lambda p, x: jnp.mean(np.dot(x, p)),
        P,
        TypeError,
        "cannot trace .* jax.numpy instead of numpy",
    ),
    (marked_by_hand(), lambda p, x: float(marked(p, x)), P, TypeError, r"cannot trace .* neither float\(\) nor"),
    (
        marked_by_hand(),
        marked,
        P + 1j,
        TypeError,
        r"one floating-point number, but .*complex128.*\. Take its real part",
    ),
    (marked_by_hand(), lambda p, x: jnp.mean(tap("value", x @ p) ** 2), P, ValueError, "'value' marks .* a parameter"),
    (marked_by_hand(), lambda p, x: tap("loss", marked(p, x)), P, ValueError, "'loss' marks .* that of the loss"),
]


def looped(p, x):
    return jax.lax.while_loop(lambda s: s < 100, lambda s: 2 * s, 1 + marked(p, x))


def by_labels(p, x):
    """JAX's xlogy has no derivative where its first argument is a whole number."""
    return jnp.sum(jax.scipy.special.xlogy(np.arange(p.size), p))


REFUSED += [
    (
        lambda p, x: (0.0, p),
        lambda p, x: {"value": jnp.sum(p)},
        np.ones(3),
        TypeError,
        r"returns a dict with the keys value\. Return only the number, as in lambda",
    ),
    (marked_by_hand(), lambda p, x: (marked(p, x), p), P, TypeError, r"a tuple of 2\. Return only the first"),
    (marked_by_hand(), lambda p, x: x @ p, P, TypeError, r"returns float\d+\[\d+\]\. Sum or average it\.$"),
    (marked_by_hand(), lambda p, x: None, P, TypeError, "returns None"),
    (marked_by_hand(), lambda p, x: "much", P, TypeError, "the loss must return arrays of numbers"),
    (marked_by_hand(), looped, P, TypeError, r"^JAX cannot differentiate the loss: Reverse-mode .*[^.]\.$"),
    (marked_by_hand(), by_labels, abs(P), TypeError, r"^JAX cannot differentiate the loss: .*float0.*[^.]\.$"),
    (lambda p, x: ("much", p), marked, P, TypeError, "must return numbers, but it returns 'much'"),
    (lambda p, x: ("much", p), None, P, TypeError, "must return numbers, but it returns 'much'"),
    (lambda p, x: (0.0, np.array(["a"])), marked, P, TypeError, "must return numbers, but it returns array"),
    (marked_by_hand(), marked, P.astype(P.dtype.newbyteorder()), TypeError, "byte order of another machine"),
]


@pytest.mark.parametrize(("by_hand", "loss", "parameters", "error", "words"), REFUSED)
def test_what_cannot_be_compared_is_refused_in_words(by_hand, loss, parameters, error, words):
    with pytest.raises(error, match=words):
        check_gradients(by_hand, loss, parameters, DATA)


def test_a_length_among_the_arguments_is_to_be_static():
    def loss(p, m):
        return jnp.sum(p.reshape(m, -1) ** 2)

    def by_hand(p, m):
        return np.sum(p**2), 2 * p

    with pytest.raises(TypeError, match=r"name it in static=\[\.\.\.\], or bind it with functools\.partial"):
        check_gradients(by_hand, loss, P, P.size)
    assert check_gradients(by_hand, loss, P, P.size, static=["m"]).verdict is Verdict.AGREE


def test_an_object_among_the_arguments_is_to_be_static():
    def by_hand(p, thing):
        return np.sum(p**2), 2 * p

    with pytest.raises(TypeError, match=r"got <object .*; name it in static="):
        check_gradients(by_hand, lambda p, thing: jnp.sum(p**2), P, object())
    report = check_gradients(by_hand, lambda p, thing: jnp.sum(p**2), P, object(), static=["thing"])
    assert report.verdict is Verdict.AGREE


def test_a_complex_loss_by_hand_is_another_dtype():
    report = check_gradients(lambda p: (np.sum(p**2) + 0j, 2 * p), lambda p: jnp.sum(p**2), P)
    assert report.verdict is Verdict.DISAGREE
    assert "the dtype is complex" in str(report)


def test_random_keys_pass_through():
    def by_hand(p, x, key):
        return marked_by_hand()(p, x)[:2]

    report = check_gradients(by_hand, lambda p, x, key: marked(p, x), P, DATA, jax.random.key(0))
    assert report.verdict is Verdict.AGREE, str(report)


def test_the_report_says_how_its_tolerances_were_measured():
    right, wrong = (check_gradients(marked_by_hand(z=f), marked, P, DATA) for f in (np.copy, np.negative))
    assert right.tolerance_source == (
        "16 standard deviations of rounding in float64 (every operation perturbed, 1 run), plus 2 ulp."
    )
    assert "16 runs" in wrong.tolerance_source
    assert wrong.tolerance_source in " ".join(str(wrong).split())


@pytest.mark.parametrize("constant", [np.log(2 * np.pi) / 2, 5 * np.log(2 * np.pi)])
def test_a_constant_that_a_loss_lacks_is_named(constant):
    report = check_gradients(marked_by_hand(), lambda p, x: marked(p, x) + constant, P, DATA)
    assert report.wrong_side == "loss"
    assert report.diagnoses[0].kind == "constant"
    assert "it is smaller than the reference by the constant" in report.sentence
    assert "log(2 pi) / 2" in report.sentence


def test_what_changes_from_point_to_point_is_no_constant():
    def by_hand(p, x):
        value, gradient, _ = marked_by_hand()(p, x)
        return value + np.round(30 * p[0]), gradient

    report = check_gradients(by_hand, marked, P, DATA)
    assert report.first_wrong == "loss"
    assert all(diagnosis.kind != "constant" for diagnosis in report.diagnoses)


def test_a_fault_without_a_name_and_without_taps_has_a_next_step():
    random = np.random.default_rng(0)
    W, x = random.standard_normal((4, 3)), random.standard_normal(3)
    nameless = random.standard_normal(W.shape)

    def by_hand(W, x):
        A = np.tanh(W @ x)
        dZ = 1 - A**2
        return A.sum(), np.outer(dZ, x) + nameless, {"Z": dZ}

    def loss(W, x):
        return jnp.tanh(W @ x).sum()

    def tapped(W, x):
        return jnp.tanh(tap("Z", W @ x)).sum()

    advice = "mark intermediate values with compare.tap"
    assert advice in str(check_gradients(lambda W, x: by_hand(W, x)[:2], loss, W, x))
    assert advice not in str(check_gradients(by_hand, tapped, W, x))
