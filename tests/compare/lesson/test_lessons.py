"""The lessons that there are, and those that there are not."""

import numpy as np
import pytest

from compare.errors import BadInput
from compare.lesson import MODELS, lesson


@pytest.mark.campaign
def test_the_same_seed_gives_the_same_lesson_and_another_another(found):
    told = []
    again = lesson(progress=lambda what, done: told.append((what, done)))
    assert again.to_dict() == found.to_dict()
    assert told == [("building the model", 0), *(("comparing both sides", i) for i in range(4)), (told[-1][0], 4)]
    starts = [MODELS["shallow"](seed=seed).parameters["W1"] for seed in (0, 1)]
    assert not np.array_equal(*starts)


def test_a_lesson_that_there_is_not_is_refused():
    with pytest.raises(BadInput, match=r"no lesson is called 'perceptron'; there are shallow, mlp, .*, gpt\."):
        lesson("perceptron")
    for seed in (-1, 2**32):
        with pytest.raises(BadInput, match=rf"seed must be from 0 to 2\*\*32 - 1 = 4294967295, got {seed}\."):
            lesson(seed=seed)
