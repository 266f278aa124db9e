"""What a docstring says to somebody who learns: all but its asides."""

import inspect
import re

import manual
import manual.normalization
import manual.shallow
from compare.lesson import MODELS
from compare.lesson.docstrings import is_equations, paragraphs
from tests.compare.lesson.taught import subject_of


def with_asides(x):
    """Two terms from the head of this file. Raises ValueError if x is odd. (So it is.)

    A product, because BLAS is faster than np.sum.

        y = 1 + x     raises np.nan
    """


def test_a_docstring_is_taught_without_its_asides():
    layer_norm = paragraphs(manual.normalization.layer_norm_backward)
    assert "below" in layer_norm[0]  # and no longer "from the head of this file"
    assert layer_norm[1].startswith("    x_hat = (x - mean) / s")
    assert layer_norm[3].endswith("dx = (g - mean of g - x_hat (mean of g x_hat)) / s")
    assert len(layer_norm) == 5
    for model in MODELS:
        for step in subject_of(model).steps:
            assert not re.search(r"Raises|ValueError|BLAS|np\.|head of this file", step.words + step.derivation)


def test_only_asides_are_left_out(monkeypatch):
    monkeypatch.setattr(inspect.getmodule(with_asides), "__doc__", "A file.\n\n    a = b\n\nMore.")
    assert paragraphs(with_asides) == ["Two terms below. (So it is.)", "    a = b", "    y = 1 + x     raises np.nan"]


def test_a_function_without_a_docstring_says_nothing():
    assert paragraphs(lambda x: x) == [""]


def test_equations_are_what_is_indented_or_in_columns():
    assert is_equations("    y = x")
    assert is_equations("tanh   1 - y**2\nsigmoid   y (1 - y)")
    assert not is_equations("The derivative of y = x is 1.")
