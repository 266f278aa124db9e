"""The models of the command: their options, their data, and that both sides start from the same place."""

import itertools

import jax
import numpy as np
import pytest

from compare.errors import BadInput
from compare.platform import precise
from compare.suite.models import MODELS, PRESET_DEFAULTS, build, settled
from tests.compare.suite.tiny import TINY


def made(name, seed=0, dtype="float64", **given):
    return build(name, TINY[name] | given, seed=seed, dtype=dtype)[0]


@pytest.mark.sweep
@pytest.mark.parametrize("name", MODELS)
def test_both_sides_compute_the_same(name):
    model = made(name)
    x, targets = next(model.batches())
    loss, gradients = model.loss_and_gradients(model.parameters, x, targets)
    with precise(model.parameters):
        right, reference = jax.jit(jax.value_and_grad(model.loss))(model.parameters, x, targets)
        expected = jax.jit(model.apply)(model.parameters, x)
        np.testing.assert_allclose(model.predict(model.parameters, x), expected, rtol=1e-10)
    np.testing.assert_allclose(loss, right, rtol=1e-12)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-14), gradients, dict(reference))


@pytest.mark.sweep
@pytest.mark.parametrize("name", MODELS)
def test_batches_are_of_the_size_asked_for_and_do_not_end_and_begin_the_same(name):
    model = made(name)
    batches = list(itertools.islice(model.batches(), 4))
    assert {len(x) for x, _ in batches} == {3}
    assert any(not np.array_equal(batches[0][0], x) for x, _ in batches[1:])
    np.testing.assert_array_equal(next(model.batches())[0], batches[0][0])
    assert not np.array_equal(next(made(name, seed=1).batches())[0], batches[0][0])


@pytest.mark.parametrize("name", MODELS)
def test_work_is_in_the_dtype_asked_for(name):
    model = made(name, dtype="float32")
    assert {leaf.dtype for leaf in jax.tree.leaves(model.parameters)} == {np.dtype("float32")}
    x, _ = next(model.batches())
    assert x.dtype in (np.float32, np.int64)


def test_every_image_is_held_out_or_trained_on():
    model = made("mlp", batch=1348)
    x, _ = next(model.batches())
    assert model.held_out is not None
    held, _ = model.held_out
    assert len(x) + len(held) == 1797
    both = np.concatenate([x, held]).reshape(1797, -1)
    assert len(np.unique(both, axis=0)) == 1797


def test_the_targets_of_text_are_the_next_characters():
    x, targets = next(made("rnn").batches())
    np.testing.assert_array_equal(x[:, 1:], targets[:, :-1])


def test_layers_with_parameters_are_named_by_number_and_kind():
    assert sorted(made("convnet").parameters) == ["0.conv2d", "1.batch_norm", "4.conv2d", "7.dense"]


def test_three_optimizers_are_among_the_defaults():
    assert len({kind.defaults["optimizer"] for kind in MODELS.values()}) >= 3
    assert all(kind.defaults["iterations"] >= 200 for kind in MODELS.values())


def test_a_preset_settles_the_sizes():
    options = settled("gpt", {"preset": "gpt2-124m", "length": 8})
    assert options["hidden"] is options["layers"] is options["heads"] is None
    assert options["length"] == 8
    assert options["iterations"] == PRESET_DEFAULTS["iterations"]
    tiny, _ = build("gpt", {"preset": "tiny", "length": 5, "batch": 2}, seed=0, dtype="float32")
    assert tiny.held_out is None
    assert next(tiny.batches())[0].shape == (2, 5)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("mpl", {}, "no model is called 'mpl'. Did you mean mlp? There are shallow, mlp, convnet"),
        ("lstm", {"heads": 2}, "--heads does not apply to --model lstm, which takes --iterations, --batch"),
        ("mlp", {"learning_rate": float("nan")}, "--learning-rate must be positive and finite, got nan"),
        ("mlp", {"batch": 0}, "--batch must be positive and finite, got 0"),
        ("mlp", {"batch": 2000}, "--batch must be at most 1348"),
        ("gru", {"length": 100_000}, "--length must be less than"),
        ("gpt", {"preset": "gpt3"}, "no preset is called 'gpt3'; there are tiny, gpt2-124m"),
        (
            "gpt",
            {"preset": "tiny", "heads": 2, "hidden": 6},
            "--preset determines the sizes; leave out --hidden, --heads",
        ),
        ("gpt", {"preset": "tiny", "length": 8}, "--length must be at most 7, the context of the preset; got 8"),
        ("gpt", {"hidden": 30, "heads": 4}, "heads"),
    ],
)
def test_bad_options_are_refused(name, given, message):
    with pytest.raises(BadInput) as error:
        build(name, given, seed=0, dtype="float64")
    assert message in str(error.value)
