"""What a narrow encoding lacks is written by what it has, and is still understood."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import compare
from compare.cli.ascii import SUBSTITUTES, showable


@given(st.text(), st.sampled_from(["ascii", "latin-1", "cp437", "utf-8"]))
def test_everything_can_be_written_and_what_could_be_stays_as_it_is(text, encoding):
    text = text.encode("utf-8", "replace").decode()
    shown = showable(text, encoding)
    shown.encode(encoding)
    if encoding == "utf-8" or text.isascii():
        assert shown == text


@pytest.mark.parametrize(
    ("text", "ascii_only"),
    [
        ("a ≤ b × 2 − 1", "a <= b x 2 - 1"),
        ("52.4 µs", "52.4 us"),
        ("Müller, γ and β", "Muller, gamma and beta"),
        ("x² ᵀ ∂L/∂W", "x^2 ^T dL/dW"),
        ("█▆▄▂▁", "#=-._"),
        ("重", "?"),
    ],
)
def test_signs_that_we_use_have_a_form_that_is_read_aloud_the_same(text, ascii_only):
    assert showable(text, "ascii") == ascii_only
    assert showable(text, "utf-8") == text


def test_no_sign_of_a_report_becomes_a_question_mark():
    """Whatever stands in the strings of what the terminal is shown: boxes come from rich, the rest is ours."""
    rooms = ("cli", "bench", "museum", "judge/reports", "judge/diagnosis", "verify", "lesson")
    folder = Path(compare.__file__).parent
    texts = "".join(p.read_text("utf-8") for room in rooms for p in (folder / room).rglob("*.py"))
    signs = set(re.findall(r"[^\x00-\x7f]", texts)) | {"─"}
    lost = {sign for sign in signs if "?" in showable(sign, "ascii")}
    assert not lost
    assert all(form.isascii() for form in SUBSTITUTES.values())
