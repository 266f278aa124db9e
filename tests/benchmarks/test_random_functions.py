"""Small functions at random: right ones are right by differences, a fault is seen, and every block has its turn."""

import numpy as np
import pytest

from benchmarks.random_functions import BLOCKS, ELEMENTWISE, HEADS, Drawing, RandomFunction, is_seen, random_function


def block_alone(make, number):
    """With a head, of parameters and of x: a gain before the block makes the gradient of x one of a parameter."""
    draw = Drawing(np.random.default_rng(number), np.float64)
    x = draw.normal(4, 4)
    shift = BLOCKS[1](draw, 4, 4)
    while shift.name != "tanh":
        shift = BLOCKS[1](draw, 4, 4)
    if make in HEADS:
        return RandomFunction(x, (shift, make(draw, 4, 4)))
    block = make(draw, 4, 4)
    value, _ = block.forward(block.parameters, x)
    return RandomFunction(x, (shift, block, HEADS[number % len(HEADS)](draw, *value.shape)))


def off(function, seed=0, h=1e-6):
    """How far the slope by hand is from that by differences, along one direction, as a share of it."""
    random = np.random.default_rng(seed)
    by_hand = function.loss_and_gradients()
    direction = {name: random.standard_normal(leaf.shape) for name, leaf in function.parameters.items()}

    def at(step):
        return by_hand({name: leaf + step * direction[name] for name, leaf in function.parameters.items()})[0]

    measured = (at(h) - at(-h)) / (2 * h)
    _, gradients = by_hand(function.parameters)
    return abs(sum(np.sum(direction[name] * gradients[name]) for name in direction) - measured) / abs(measured)


@pytest.mark.parametrize("make", [*BLOCKS, *HEADS], ids=lambda make: make.__name__)
def test_a_block_is_right_and_each_of_its_faults_is_wrong(make):
    for number in range(4 * len(ELEMENTWISE) if make.__name__ == "elementwise" else 4):
        function = block_alone(make, number)
        assert off(function) < 1e-5
        for fault in function.blocks[1].faults:
            wrong = RandomFunction(function.x, function.blocks, (1, fault))
            assert not is_seen(function, wrong) or off(wrong) > 1e-5, fault


@pytest.mark.parametrize("make", [*BLOCKS, *HEADS], ids=lambda make: make.__name__)
def test_each_fault_of_a_block_is_seen_somewhere(make):
    functions = [block_alone(make, number) for number in range(6)]
    for fault in {fault for function in functions for fault in function.blocks[1].faults}:
        having = [function for function in functions if fault in function.blocks[1].faults]
        assert any(is_seen(function, RandomFunction(function.x, function.blocks, (1, fault))) for function in having)


def test_all_kinds_of_blocks_are_drawn_with_and_without_faults_in_both_dtypes():
    functions = [random_function(0, number, number % 3 == 2) for number in range(400)]
    names = {block.name for function in functions for block in function.blocks}
    draw = Drawing(np.random.default_rng(0), np.float64)
    fixed = [make(draw, 3, 3).name for make in (*BLOCKS, *HEADS) if make.__name__ != "elementwise"]
    assert names == {*fixed, *ELEMENTWISE}
    at_fault = {function.blocks[function.fault[0]].name for function in functions if function.fault}
    assert len(at_fault) > len(names) / 2
    assert {str(function.x.dtype) for function in functions} == {"float32", "float64"}


def test_everything_keeps_the_dtype():
    for number in range(60):
        function = random_function(1, number, number % 3 == 2)
        value, gradients = function.loss_and_gradients()(function.parameters)
        for array in (value, *gradients.values()):
            assert array.dtype == function.x.dtype, str(function)


def test_the_same_number_is_the_same_function_and_another_is_another():
    first, same, other = (random_function(0, number, False) for number in (4, 4, 6))
    np.testing.assert_array_equal(first.x, same.x)
    assert str(first) == str(same)
    assert first.x.shape != other.x.shape or (first.x != other.x).all()
