"""A loss and its gradient, traced once: its draws, loops, casts and derivative rules are its own in float64 too."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

import autodiff
import manual
from compare import Verdict, check_gradients, tap
from compare.judge.program.plan import as_it_is
from compare.judge.program.trace import Program, Taps, bound, traced, under_jax, widened

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((20, 5)).astype(np.float32)
W = RANDOM.standard_normal(5).astype(np.float32)


def dropped(w, x, key):
    return jnp.mean(((x * jax.random.bernoulli(jax.random.PRNGKey(key), 0.3, x.shape)) @ w) ** 2)


def normal(w, x, key):
    return jnp.sum(w * jax.random.normal(jax.random.key(key), w.shape, jnp.float32))


def looping(w, x, key):
    total, _ = lax.scan(lambda h, row: (h + row @ w, None), jnp.zeros((), jnp.float32), x)
    counted = lax.fori_loop(0, 3, lambda i, h: h * jnp.float32(0.5) + i, total)
    doubled = lax.while_loop(lambda h: h < 100, lambda h: 2 * h, jnp.float32(key))
    return lax.cond(total > 0, lambda h: h**2, lambda h: jnp.float32(3) * h, counted) + doubled


def cast(w, x, key):
    return jnp.mean(lax.reduce_precision((x @ w).astype(jnp.float32), 8, 23) ** 2).astype("float32")


def solved(w, x, key):
    return jnp.sum(jnp.linalg.solve(x[:5], w)) + jnp.fft.rfft(w).real.sum() + jnp.linalg.slogdet(x[:5])[1]


@jax.custom_jvp
def tripled(x):
    return x


tripled.defjvp(lambda primals, tangents: (tripled(primals[0]), 3 * tangents[0].astype(jnp.float32)))


@jax.custom_vjp
def sevenfold(x, n):
    return x * n


sevenfold.defvjp(lambda x, n: (x * n, n), lambda n, g: (jnp.float32(7) * g, None))


def ruled(w, x, key):
    return jnp.sum(sevenfold(tripled(jax.nn.softplus(w)), key) + jax.nn.relu(w))


# ------------------------------------------------------------------------------------------------ float64


@pytest.mark.sweep
@pytest.mark.parametrize("loss", [dropped, normal, looping, cast, solved, ruled])
def test_in_float64_it_does_the_same_and_rounds_less(loss):
    program = traced(loss, W, X, 3)
    narrow = jax.value_and_grad(loss)(W, X, 3)
    wide = program.gradient(W, X, 3)
    assert program(W, X, 3) == wide[0]
    for ours, right in zip(jax.tree.leaves(wide), jax.tree.leaves(narrow), strict=True):
        assert ours.dtype == np.float64
        np.testing.assert_allclose(ours, right, rtol=1e-4, atol=1e-5)
    assert not np.array_equal(wide[0], narrow[0])


def test_derivative_rules_are_those_of_their_author():
    _, gradient = traced(ruled, W, X, 3).gradient(W, X, 3)
    np.testing.assert_allclose(gradient["value"], 21 / (1 + np.exp(-widened(W))) + (W > 0), rtol=1e-12)


def test_what_is_narrower_than_the_arguments_stays_narrow():
    def rounded(w):
        return jnp.sum(w.astype(jnp.bfloat16).astype(jnp.float32))

    assert traced(rounded, W)(W) == pytest.approx(float(np.sum(W.astype(jnp.bfloat16), dtype="d")))
    narrow = W.astype(jnp.bfloat16)  # and what is as fine as they are does not
    assert traced(rounded, narrow)(W) == pytest.approx(float(np.sum(W, dtype="d")), rel=1e-12)


@pytest.mark.parametrize(("narrow_stays", "at_double"), [(False, 1 / 3), (True, float(np.float32(1 / 3)))])
def test_of_arguments_of_two_dtypes_the_narrower_is_widened_or_stays(narrow_stays, at_double):
    with jax.enable_x64(True):
        program = Program(lambda w, x: w * (x / 3), np.float64(1), np.float32(1), narrow_stays=narrow_stays)
        assert program(np.float64(1), np.float32(1)) == at_double


@pytest.mark.parametrize("second", [np.float32, np.float16])
def test_data_narrower_than_all_parameters_stay_narrow(second):
    """Of parameters of two dtypes nobody can say which of them data should have."""
    with jax.enable_x64(True):
        assert traced(lambda w, x: w * x, np.float64(1), np.float32(1)).narrow_stays
        assert not traced(lambda w, x: w[0] * w[1] * x, [np.float64(1), second(1)], np.float32(1)).narrow_stays


def test_integers_and_truth_values_are_what_they_were():
    def counts(w):
        return {"index": jnp.argmax(w), "larger": w > 0, "third": jnp.arange(5) // 3, "bits": jnp.uint8(200)}

    for name, value in traced(counts, W)(W).items():
        assert value.dtype == counts(W)[name].dtype
        np.testing.assert_array_equal(value, counts(W)[name])


def test_other_shapes_are_traced_as_the_first_were_and_once():
    calls = []

    def loss(w, x, key):
        calls.append(x.shape)
        return dropped(w, x, key)

    program = traced(loss, W, X, 7)
    assert program.at(W, X, 7) is program
    assert program.at(W, X + 1, 8) is program
    short = X[:4]
    for _ in range(2):
        assert program(W, short, 7) == pytest.approx(float(dropped(W, short, 7)), rel=1e-5)
    with jax.enable_x64(True):
        wide_w, wide_x = widened((W, short))
        assert dropped(wide_w, wide_x, 7) != pytest.approx(float(program(W, short, 7)), rel=1e-1)  # other numbers
    assert calls == [(20, 5), (4, 5)]
    assert program.at(W, short, 7).narrow_stays == program.narrow_stays


def test_a_function_that_reads_another_global_is_another_program():
    factor = [2.0]

    def loss(w):
        return factor[0] * jnp.sum(w)

    first = traced(loss, W)(W)
    factor[0] = 3.0
    assert traced(loss, W)(W) == pytest.approx(1.5 * first)


def test_an_array_of_the_function_s_own_is_widened_with_it():
    table = np.arange(5, dtype=np.float32)
    program = traced(lambda w: jnp.sum(w * jnp.asarray(table) + jnp.where(w > 0, w, 0.0)), W)
    loss, gradient = program.gradient(W)
    assert loss.dtype == gradient["value"].dtype == np.float64
    np.testing.assert_array_equal(gradient["value"], table + (W > 0))


def test_the_gradient_is_traced_once_and_only_when_it_is_asked_for():
    calls = []

    @jax.custom_vjp
    def watched(x):
        return 2 * x

    def backward(_, g):
        calls.append("backward")
        return (2 * g,)

    watched.defvjp(lambda x: (2 * x, None), backward)
    program = traced(lambda w: jnp.sum(watched(w)), W)
    program(W)
    assert calls == []
    for _ in range(3):
        np.testing.assert_array_equal(program.gradient(W)[1]["value"], 2)
    assert calls == ["backward"]


def test_only_the_first_argument_is_differentiated_and_its_leaves_are_named():
    parameters = {"b": (W, np.float32(2)), "a": [X]}
    loss, gradients = traced(lambda p, y: p["b"][1] * jnp.sum(p["a"][0] @ p["b"][0] * y), parameters, X[:, 0]).gradient(
        parameters, X[:, 0]
    )
    assert list(gradients) == ["a.0", "b.0", "b.1"]
    np.testing.assert_allclose(gradients["b.1"], loss / 2, rtol=1e-14)
    np.testing.assert_allclose(gradients["b.0"], 2 * widened(X).T @ widened(X[:, 0]), rtol=1e-14)


@pytest.mark.parametrize(
    "loss",
    [
        lambda w: float(w[0]) * w[1],
        lambda w: w[0] if w[0] > 0 else w[1],
        lambda w: np.sum(np.asarray(w)),
        lambda w: X[w > 0].sum(),
        lambda w: jnp.sum(w[w > 0]),
        lambda w: X[w[0]],
        lambda w: jnp.zeros(w[0].astype(int)),
    ],
)
def test_a_loss_that_asks_for_values_is_refused_in_words(loss):
    with pytest.raises(TypeError, match=r"JAX cannot trace the loss.*: use jax\.numpy instead of numpy"):
        traced(loss, W)


@pytest.mark.parametrize(("loss", "error"), [(lambda w: [][1] * w, IndexError), (lambda w: w + None, TypeError)])
def test_an_error_of_the_loss_s_own_is_left_as_it_is(loss, error):
    with pytest.raises(error) as raised:
        traced(loss, W)
    assert "cannot trace" not in str(raised.value)


TABLE_OF_NUMBERS = np.array([0.5, 2.0, -3.0, 4.0])


@jax.custom_vjp
def looked_up(x, indices):
    return jnp.sum(x * jnp.asarray(TABLE_OF_NUMBERS)[indices])


def looked_up_backward(indices, g):
    """It indexes an array of the caller's by what is traced: by each turn's index, in a loop."""
    table = jnp.asarray(TABLE_OF_NUMBERS)
    _, rows = lax.scan(lambda carry, i: (carry, g * table[i]), 0.0, indices)
    return rows, None


looked_up.defvjp(lambda x, indices: (looked_up(x, indices), indices), looked_up_backward)


def test_a_custom_rule_gets_arrays_of_jax_s():
    def kept_in_the_program(x, indices):
        table = TABLE_OF_NUMBERS.copy()

        @jax.custom_vjp
        def inner(x, table, indices):
            return jnp.sum(x * table[indices])

        inner.defvjp(
            lambda x, table, indices: (inner(x, table, indices), (table, indices)),
            lambda kept, g: (g * jax.vmap(lambda i: kept[0][i])(kept[1]), None, None),
        )
        return inner(x, table, indices)

    indices = np.array([3, 0, 2])
    x = np.ones(3)
    for loss in (looked_up, kept_in_the_program):
        with jax.enable_x64(True):
            _, gradient = Program(loss, x, indices).gradient(x, indices)
        np.testing.assert_array_equal(gradient["value"], TABLE_OF_NUMBERS[indices])


def test_what_a_custom_rule_stands_for_may_have_no_derivative_of_its_own():
    @jax.custom_vjp
    def looped(x):
        return lax.while_loop(lambda s: s < 100, lambda s: 2 * s, x)

    looped.defvjp(lambda x: (looped(x), x), lambda x, g: (g * looped(x) / x,))
    program = Program(looped, np.float64(1.5))
    assert program.plain_gradient(np.float64(1.5)) is None
    assert program.gradient(np.float64(1.5))[1]["value"] == 128  # 1.5, doubled until it is 192


@pytest.mark.parametrize("where", ["outside", "in a call", "in a loop", "in a branch"])
def test_what_the_table_does_not_know_has_a_name(where):
    def gamma(w):
        return jnp.sum(w * jax.random.gamma(jax.random.key(0), 2.0 + w**2))

    loss = {
        "outside": gamma,
        "in a call": jax.jit(gamma),
        "in a loop": lambda w: lax.fori_loop(0, 2, lambda i, c: c + gamma(w), 0.0),
        "in a branch": lambda w: lax.cond(w[0] > 0, gamma, jnp.sum, w),
    }[where]
    assert traced(loss, W).unknown == ["random_gamma"]


@pytest.mark.parametrize("loss", [dropped, normal, looping, cast, solved, ruled])
def test_the_table_knows_draws_loops_casts_solves_and_rules(loss):
    assert traced(loss, W, X, 3).unknown == []


def shuffled(w, key):
    k1, k2 = jax.random.split(jax.random.PRNGKey(key))
    return jnp.sum(jax.random.choice(k1, w, (5,)) * jax.random.permutation(k2, w))


def keys_in_a_loop(w, key):
    def turn(c, key):
        return c * jax.random.bernoulli(key, 0.7, c.shape), jax.random.fold_in(key, 1)

    keys = jax.random.split(jax.random.key(key), 4)
    c, more = lax.scan(turn, w, keys)
    more = jnp.concatenate([more, keys])[::2]
    chosen = jnp.where(c[0] > 0, more[0], more[key])
    return jnp.sum(w * jax.random.normal(chosen, w.shape)) + jnp.sum(
        jax.vmap(lambda k: w[0] * jax.random.uniform(k))(more)
    )


@pytest.mark.sweep
@pytest.mark.parametrize("loss", [shuffled, keys_in_a_loop])
def test_keys_go_where_numbers_go(loss):
    value, gradient = traced(loss, W, 3).gradient(W, 3)
    narrow = jax.jit(jax.value_and_grad(loss))(W, 3)
    np.testing.assert_allclose(value, narrow[0], rtol=1e-5)
    np.testing.assert_allclose(gradient["value"], narrow[1], rtol=1e-5, atol=1e-6)
    report = check_gradients(lambda w, key: narrow, loss, W, 3, probes=False, references=False)
    assert report.verdict is Verdict.AGREE


# ------------------------------------------------------------------------------------------------ under JAX


def test_derivative_rules_survive_evaluation_under_jax():
    @jax.custom_jvp
    def f(x):
        return x

    f.defjvp(lambda primals, tangents: (primals[0], 7 * tangents[0]))
    closed = jax.make_jaxpr(jax.jit(lambda x: f(x) * 2))(1.0)

    def again(x):
        return under_jax(closed.jaxpr, closed.consts, [x], bound)[0]

    assert jax.grad(again)(1.0) == 14


def test_numbers_in_a_wide_tree_are_wide_and_the_rest_is_what_it_was():
    key = jax.random.key(1)
    tree = widened({"a": W, "n": np.arange(3), "b": np.ones(2, jnp.bfloat16), "key": key, "number": 2.5})
    assert [tree[name].dtype for name in ("a", "n", "b")] == [np.float64, np.int64, np.float64]
    assert tree["key"] is key
    assert tree["number"] == 2.5


# ---------------------------------------------------------------------------------------------------- taps

A, V = np.array([[0.5, -1.0], [2.0, 0.3]]), np.array([1.0, -2.0])


def two_layers(w, x):
    hidden = tap("hidden", jnp.tanh(w @ x))
    return jnp.sum(tap("output", w @ hidden) ** 2)


def cut(taps, loss=two_layers, parameters=A, args=(V,)):
    with jax.enable_x64(True):
        return traced(loss, parameters, *args).gradient(parameters, *args, taps=taps)[1]["value"]


def test_marked_values_and_their_gradients_are_found():
    taps = Taps()
    gradient = cut(taps)
    hidden = np.tanh(A @ V)
    np.testing.assert_allclose(taps.values["hidden"], hidden, rtol=1e-14)
    np.testing.assert_allclose(taps.values["output"], A @ hidden, rtol=1e-14)
    np.testing.assert_allclose(taps.gradients["output"], 2 * A @ hidden, rtol=1e-14)
    np.testing.assert_allclose(taps.gradients["hidden"], A.T @ (2 * A @ hidden), rtol=1e-14)
    with jax.enable_x64(True):
        np.testing.assert_allclose(gradient, jax.grad(two_layers)(A, V), rtol=1e-13)


def test_a_cut_backward_pass_goes_on_from_what_it_is_given():
    given = {"output": np.array([1.0, 0.0]), "hidden": np.array([0.0, 1.0])}
    taps = Taps(given)
    gradient = cut(taps)
    hidden = np.tanh(A @ V)
    np.testing.assert_allclose(taps.gradients["output"], 2 * A @ hidden, rtol=1e-14)  # not cut yet
    np.testing.assert_allclose(taps.gradients["hidden"], A.T @ given["output"], rtol=1e-14)
    through_hidden = np.outer(given["hidden"] * (1 - hidden**2), V)
    np.testing.assert_allclose(gradient, np.outer(given["output"], hidden) + through_hidden, rtol=1e-14)


@settings(max_examples=20, deadline=None)
@given(weight=st.floats(-3, 3))
def test_what_comes_back_through_a_tap_can_be_weighted(weight):
    """Through the tap that is cut it goes on from what is given; through the other, as often as its weight says."""
    hidden, given = np.tanh(A @ V), np.array([1.0, 0.0])
    taps = Taps({"output": given}, {"hidden": weight})
    gradient = cut(taps)
    np.testing.assert_allclose(taps.gradients["output"], 2 * A @ hidden, rtol=1e-14)
    through_hidden = np.outer(A.T @ given * (1 - hidden**2), V)
    np.testing.assert_allclose(gradient, np.outer(given, hidden) + weight * through_hidden, rtol=1e-13, atol=1e-13)


def test_a_value_that_depends_on_no_parameter_has_a_gradient_too():
    def loss(w, x):
        return jnp.sum(tap("data", 3 * x) * w)

    taps = Taps()
    np.testing.assert_array_equal(cut(taps, loss, V), 3 * V)
    np.testing.assert_array_equal(taps.gradients["data"], V)


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
def test_a_tap_of_a_narrow_value_takes_what_it_is_given_in_its_own_dtype(dtype):
    def loss(w):
        return jnp.sum(tap("narrow", w.astype(dtype)).astype(w.dtype) ** 2)

    taps = Taps({"narrow": np.array([0.1, 0.2])})
    gradient = cut(taps, loss, V, ())
    assert taps.values["narrow"].dtype == dtype
    np.testing.assert_array_equal(gradient, np.array([0.1, 0.2]).astype(dtype).astype(float))


def test_marks_in_loops_are_seen_by_nobody_and_those_on_integers_have_no_gradient():
    def loss(w, x):
        w = lax.fori_loop(0, 2, lambda i, c: tap("turn", jnp.sin(c)), w)
        return jnp.sum(w * tap("index", jnp.arange(2)))

    taps = Taps({"turn": V, "index": V})
    gradient = cut(taps, loss, V)
    assert taps.gradients == {}
    assert taps.values.keys() == {"index"}
    np.testing.assert_array_equal(taps.values["index"], [0, 1])
    np.testing.assert_allclose(gradient, [0, np.cos(np.sin(-2)) * np.cos(-2)], rtol=1e-14)


@pytest.mark.parametrize("wrap", [jax.jit, jax.checkpoint, lambda f: jax.jit(jax.checkpoint(jax.jit(f)))])
def test_marks_inside_of_calls_are_seen(wrap):
    taps, plain = Taps({"output": V}), Taps({"output": V})
    np.testing.assert_allclose(cut(taps, wrap(two_layers)), cut(plain), rtol=1e-13)
    np.testing.assert_allclose(taps.gradients["hidden"], plain.gradients["hidden"], rtol=1e-13)


def test_a_rule_goes_on_around_the_taps():
    def doubled(step, inputs):
        outputs = step.run(inputs, as_it_is)
        return [2 * outputs[0]] if step.name == "tanh" else outputs

    taps = Taps()
    with jax.enable_x64(True):
        traced(two_layers, A, V).gradient(A, V, rule=doubled, taps=taps)
    np.testing.assert_allclose(taps.values["hidden"], 2 * np.tanh(A @ V), rtol=1e-14)


# ------------------------------------------------------------------------ what a check makes of float32 losses


def by_hand_dropped(w, x, key, keep=0.3, at=None):
    mask = np.asarray(jax.random.bernoulli(jax.random.PRNGKey(key if at is None else at), keep, x.shape))
    dropped_x = x * mask
    z = dropped_x @ w
    return np.mean(z**2), 2 * dropped_x.T @ z / np.float32(len(x))


def by_hand_looping(w, x, factor=2.0):
    total = np.float32(0)
    for row in x:
        total = total + row @ w
    return total * total, np.float32(factor) * total * x.sum(axis=0)


def loop(w, x):
    total, _ = lax.scan(lambda h, row: (h + row @ w, None), jnp.zeros((), jnp.float32), x)
    return total * total


def by_hand_cast(w, x, factor=2.0):
    z = x @ w
    return np.mean(z**2), np.float32(factor) * x.T @ z / np.float32(len(x))


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("right", "wrong", "loss", "args"),
    [
        (by_hand_dropped, lambda *a: by_hand_dropped(*a, at=8), dropped, (X, 7)),
        (by_hand_looping, lambda *a: by_hand_looping(*a, factor=2.001), loop, (X,)),
        (by_hand_cast, lambda *a: by_hand_cast(*a, factor=2.001), lambda w, x: cast(w, x, 0), (X,)),
    ],
    ids=["dropout", "scan", "cast"],
)
def test_float32_losses_that_name_their_dtype_are_judged(right, wrong, loss, args):
    assert check_gradients(right, loss, W, *args).verdict is Verdict.AGREE
    assert check_gradients(wrong, loss, W, *args).verdict is Verdict.DISAGREE


def test_constants_are_what_float32_makes_of_them_and_so_do_not_contradict_the_gradient():
    """0.9 and 0.1 add up to 1 only to float32's rounding, and the largest logit that is taken out comes back so far."""
    targets = np.array([0, 1, 2, 3, 4])
    logits = RANDOM.standard_normal((5, 5)).astype(np.float32)

    def by_hand(z, targets):
        loss, cache = manual.losses.cross_entropy(z, targets, label_smoothing=0.1)
        return loss, manual.losses.cross_entropy_backward(np.float32(1), cache)

    report = check_gradients(by_hand, partial(autodiff.losses.cross_entropy, label_smoothing=0.1), logits, targets)
    assert report.verdict is Verdict.AGREE


@pytest.mark.sweep
@pytest.mark.parametrize("kinds", [("float64", "float32"), ("float32", "bfloat16"), ("float32", "float16")])
@pytest.mark.parametrize("wrong", [False, True])
def test_work_that_is_narrow_on_both_sides_is_held_to_its_own_rounding(kinds, wrong):
    """Data that both sides scale in their own, narrower dtype; a fault of a tenth is seen all the same."""
    wide, narrow = map(jnp.dtype, kinds)
    random = np.random.default_rng(0)
    w, x = random.standard_normal(6).astype(wide), random.standard_normal((9, 6)).astype(narrow)

    def by_hand(w, x):
        z = (x / narrow.type(3)).astype(wide)
        r = z @ w
        return np.sum(r * r) / 2, z.T @ r * wide.type(1.1 if wrong else 1)

    def by_jax(w, x):
        return jnp.sum(((x / 3).astype(w.dtype) @ w) ** 2) / 2

    report = check_gradients(by_hand, by_jax, w, x)
    assert report.verdict is (Verdict.DISAGREE if wrong else Verdict.AGREE), str(report)
