"""Descriptions of networks: in words, in JSON, and what is said of those that make no sense or do not fit."""

import json

import jax
import numpy as np
import pytest

import autodiff.network
import manual.network
from manual._description import layers_of
from tests.networks import CLASSES, CONV, DROPPING, NETWORKS, UNIT, WORDS, point

SIDES = [manual.network, autodiff.network]

# ------------------------------------------------------------------------------------ descriptions


def test_a_description_in_words():
    assert manual.network.describe(CONV, (6, 8, 2)) == [
        "0  conv2d      features=4, kernel=3, padding=1                                  (6, 8, 4)  76",
        "1  batch_norm                                                                   (6, 8, 4)  8",
        "2  relu                                                                         (6, 8, 4)  0",
        "3  max_pool2d  window=2                                                         (3, 4, 4)  0",
        "4  dropout     rate=0.3                                                         (3, 4, 4)  0",
        "5  conv2d      features=3, kernel=[2, 3], stride=[1, 2], padding=1, bias=False  (4, 2, 3)  72",
        "6  flatten                                                                      (24,)      0",
        "7  layer_norm                                                                   (24,)      48",
        "8  dense       features=3                                                       (3,)       75",
    ]


@pytest.mark.sweep
@pytest.mark.parametrize("name", NETWORKS)
def test_both_sides_describe_and_shape_alike(name):
    description, shape, *_ = NETWORKS[name]
    lines = manual.network.describe(description, shape)
    assert lines == autodiff.network.describe(description, shape)
    parameters, x, *_ = point(name)
    value, _ = manual.network.apply(parameters, x, description=description)
    assert f"  {value.shape[1:]}  " in lines[-1]
    assert sum(leaf.size for leaf in jax.tree.leaves(parameters)) == sum(int(line.split()[-1]) for line in lines)


@pytest.mark.sweep
@pytest.mark.parametrize("name", NETWORKS)
def test_a_description_survives_json_and_use(name):
    description, shape, *_ = NETWORKS[name]
    stored = json.loads(json.dumps(description))
    for side in SIDES:
        assert side.describe(stored, shape) == side.describe(description, shape)
    parameters, x, *_ = point(name)
    value, _ = manual.network.apply(parameters, x, description=description)
    np.testing.assert_array_equal(manual.network.apply(parameters, x, description=stored)[0], value)
    assert stored == description


# ---------------------------------------------------------------------------------------- errors

DENSE = {"kind": "dense", "features": 3}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    ("description", "text"),
    [
        ([], r"a description is a list of at least one layer, as in \[{'kind': 'dense', .*\], got \[\]"),
        ([DENSE, {"features": 3}], "layer 1 must be a dict with a kind, such as {'kind': .*, got {'features': 3}"),
        ([{"kind": "densse"}], "layer 0: no kind of layer is called 'densse'; there are dense, embedding, conv1d"),
        ([{"kind": "dense"}], r"layer 0 \(dense\) needs the option 'features'; it knows features, bias"),
        ([DENSE | {"size": 3}], r"layer 0 \(dense\) has no option 'size'; it knows features, bias"),
        ([DENSE, {"kind": "relu", "slope": 1}], r"layer 1 \(relu\) has no option 'slope'; it knows none"),
        ([DENSE | {"features": 0}], r"layer 0 \(dense\): features must be at least 1, got 0"),
        ([DENSE | {"features": "3"}], r"layer 0 \(dense\): features must be at least 1, got '3'"),
        ([DENSE | {"bias": 1}], r"layer 0 \(dense\): bias must be true or false, got 1"),
        (
            [DENSE | {"features": np.int64(3)}],
            r"layer 0 \(dense\): features must be of a JSON type, got int64; int\(\)",
        ),
        ([{"kind": "conv1d", "features": 2, "kernel": [3, 3]}], r"layer 0 \(conv1d\): kernel must be one number, or"),
        ([{"kind": "conv2d", **DENSE, "kernel": 3}], None),
    ],
)
def test_descriptions_that_make_no_sense(side, description, text):
    if text is None:
        description[0]["kind"] = "conv2d"
        text = (
            r"layer 0 \(conv2d\) needs input with the axes \(batch, height, width, channels\), got \(batch, 6, 2\). Re"
        )
    with pytest.raises(ValueError, match=text):
        side.describe(description, (6, 2))


@pytest.mark.parametrize("side", SIDES)
def test_layers_that_do_not_fit_their_input(side):
    flat_first = [{"kind": "flatten"}, {"kind": "max_pool2d", "window": 2}]
    with pytest.raises(
        ValueError, match=r"layer 1 \(max_pool2d\) needs input with the axes .*, got \(batch, 12\)\. Put a"
    ):
        side.initialize_parameters(flat_first, (3, 4))
    with pytest.raises(ValueError, match=r"layer 1 \(embedding\) needs integer input, got float"):
        side.initialize_parameters([DENSE, WORDS[0]], (4,))
    description = [DENSE, {"kind": "relu"}]
    parameters = [{"weight": np.ones((2, 3)), "bias": np.ones(3)}, {}]
    for bad, text in (
        (
            np.ones(2),
            r"layer 0 \(dense\) needs input with the axes \(batch, ..., features\), got \(batch\)\. Reshape x",
        ),
        (np.ones((4, 2), np.int64), r"layer 0 \(dense\) needs floating input, got int(32|64)\. Cast x\."),
        (np.ones((4, 2), np.float32), r"layer 0 \(dense\) has input and parameters of float32 and float64: cast one"),
        (
            np.ones((4, 5)),
            r"layer 0 \(dense\) needs the parameters bias \(3,\), weight \(5, 3\); got bias \(3,\), weight \(2, 3\)\.",
        ),
    ):
        with pytest.raises(ValueError, match=text):
            side.apply(parameters, bad, description=description)
    with pytest.raises(ValueError, match="the description has 2 layers and parameters 1 entries; there must be one"):
        side.apply(parameters[:1], np.ones((4, 2)), description=description)
    with pytest.raises(ValueError, match=r"layer 1 \(relu\) needs the parameters none; got weight \(2,\)\."):
        side.apply([parameters[0], {"weight": np.ones(2)}], np.ones((4, 2)), description=description)


@pytest.mark.parametrize("side", SIDES)
def test_masks_and_statistics_for_layers_that_take_none(side):
    x = np.ones((2, 2))
    for options, text in (
        (
            {"masks": {1: np.ones((2, 2))}},
            r"masks are for dropout layers, which are \[0\] here; got one for layer 1 \(b",
        ),
        (
            {"masks": {-2: np.ones((2, 2))}},
            r"masks are for dropout layers, which are \[0\] here; got one for layer -2\.",
        ),
        (
            {"statistics": {0: {}}},
            r"statistics are for batch_norm layers, which are \[1\] here; got one for layer 0 \(dr",
        ),
        (
            {"statistics": {1: {"mean": np.ones(2)}}},
            r"statistics of layer 1 \(batch_norm\) must be a mean and a variance",
        ),
    ):
        with pytest.raises(ValueError, match=text):
            side.apply(UNIT, x, description=DROPPING, **options)
    with pytest.raises(ValueError, match="masks are for dropout layers, which are none here; got one for layer 0"):
        side.apply([{}], x, description=[{"kind": "relu"}], masks={0: x})
    with pytest.raises(ValueError, match=r"statistics are for batch_norm layers, which are \[1\] here"):
        side.update_statistics(UNIT, x, {0: {"mean": x, "variance": x}}, description=DROPPING)


@pytest.mark.parametrize("side", SIDES)
def test_an_unknown_loss(side):
    with pytest.raises(
        ValueError, match="no loss is called 'cross-entropy'; there are binary_cross_entropy, cross_ent"
    ):
        side.loss_and_gradients(
            [{}], np.ones((2, 2)), CLASSES[:2], description=[{"kind": "relu"}], loss="cross-entropy"
        )


def test_what_is_no_list_is_no_description():
    for wrong in ({"kind": "dense"}, "dense", None):
        with pytest.raises(ValueError, match="a description is a list of at least one layer"):
            layers_of(wrong)
    with pytest.raises(ValueError, match=r"layer 0 must be a dict with a kind, such as .*, got 'dense'"):
        layers_of(["dense"])
    with pytest.raises(ValueError, match=r"layer 0: no kind of layer is called \['dense'\]"):
        layers_of([{"kind": ["dense"]}])
