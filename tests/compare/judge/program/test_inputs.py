"""What a check carries: parameters and arguments, under their names, and the same at other points."""

import numpy as np
import pytest

from compare.judge.program.inputs import Inputs

PARAMETERS = {"w": np.asfortranarray(np.arange(6.0, dtype=np.float32).reshape(2, 3)), "b": [np.ones(2, np.float16)]}
INPUTS = Inputs(PARAMETERS, ({"x": np.ones(4)}, 3), ("parameters", "data", "n"), {"data": "", "n": "the number"})


def test_leaves_have_names_and_dtypes():
    assert list(INPUTS.leaves) == ["b.0", "w"]
    assert INPUTS.dtype == np.float32
    assert INPUTS.by_name["n"] == 3
    assert {name: list(leaves) for name, leaves in INPUTS.by_argument.items()} == {
        "parameters": ["b.0", "w"],
        "data": ["x"],
        "n": ["value"],
    }


@pytest.mark.parametrize(
    ("name", "path", "label"),
    [("parameters", "w", "parameters.w"), ("data", "x", "x"), ("n", "value", "the number"), ("data", "value", "")],
)
def test_labels_replace_names_in_messages(name, path, label):
    assert INPUTS.label(name, path) == label


def test_copies_protect_the_arrays():
    parameters, data, n = INPUTS.copies()
    parameters["w"] += 1
    data["x"] += 1
    assert n == 3
    assert INPUTS.leaves["w"][0, 0] == 0
    assert INPUTS.args[0]["x"][0] == 1


def test_at_another_point_the_names_stay():
    there = INPUTS.moved(lambda p, args, random: ({**p, "w": 2 * p["w"]}, [args[0], 4]), np.random.default_rng(0))
    assert there is not None
    assert there.leaves["w"][1, 2] == 10
    np.testing.assert_array_equal(there.args[0]["x"], INPUTS.args[0]["x"])
    assert there.args[1] == 4
    assert (there.names, there.labels) == (INPUTS.names, INPUTS.labels)
    assert INPUTS.leaves["w"][1, 2] == 5  # leaves that were named before are not those of the other point
    assert INPUTS.moved(lambda p, args, random: None, np.random.default_rng(0)) is None


def test_along_a_direction_in_float64_and_in_its_own_memory_layout():
    direction = {path: np.full(leaf.shape, 0.1) for path, leaf in INPUTS.leaves.items()}
    there = INPUTS.along(direction, -2.0)
    assert there.leaves["w"].dtype == there.leaves["b.0"].dtype == np.float64
    assert there.leaves["w"].flags.f_contiguous
    np.testing.assert_allclose(there.leaves["w"], PARAMETERS["w"] - 0.2)
    assert there.args is INPUTS.args


def test_every_leaf_is_converted():
    there = INPUTS.converted(lambda leaf: leaf + 1)
    assert there.args[1] == 4
    assert there.leaves["b.0"].tolist() == [2, 2]
    assert there.names == INPUTS.names


def test_a_move_may_modify_what_it_gets_and_returns_a_pair():
    inputs = Inputs({"w": np.ones(2)}, (np.zeros(3),), ("p", "x"))

    def move(parameters, args, random):
        parameters["w"] *= 3
        parameters["b"] = np.zeros(1)
        return parameters, args

    there = inputs.moved(move, np.random.default_rng(0))
    assert there is not None
    assert there.leaves.keys() == {"w", "b"}
    assert inputs.parameters["w"].tolist() == [1.0, 1.0]
    assert list(inputs.parameters) == ["w"]
    with pytest.raises(ValueError, match="unpack"):
        inputs.moved(lambda *given: (*given[:2], 1), np.random.default_rng(0))
