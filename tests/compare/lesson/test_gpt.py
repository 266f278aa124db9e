"""A GPT as a lesson, by every line of its backward."""

import inspect
import re

import pytest

import manual
import manual.normalization
import manual.shallow
from compare import Verdict
from compare.lesson import lesson


@pytest.mark.campaign
def test_a_gpt_is_taught_by_every_line_of_its_backward():
    found = lesson("gpt")
    assert found.verdict is Verdict.AGREE
    backward = [step for step in found.steps if step.backward]
    blocks = [step for step in backward if step.name.startswith("d blocks.0")]
    lines = [excerpt.code for step in blocks for excerpt in step.by_hand if excerpt.file == "manual/transformer.py"]
    halves = (manual.transformer._hidden_layer_backward, manual.transformer._attention_backward)
    source = "".join(map(inspect.getsource, halves))
    places = [source.index(f"    {line}\n") for line in lines]
    assert places == sorted(places)
    assert len(blocks) == len(re.findall(r"^    dx.*? = ", source, flags=re.MULTILINE)) == 10
    assert len(lines) == len(re.findall(r"^    dq.*? = |^    dx.*? = |^    do = ", source, flags=re.MULTILINE)) == 12
    paths = {quantity.path for step in backward for quantity in step.quantities}
    assert set(found.backward_mode.inputs[:-2]) <= paths  # every parameter
    program = [equation.text.partition(" = ")[2].split()[0] for equation in found.backward_mode.gradient]
    assert len(program) > 100
    assert not {"jit", "pjit", "closed_call"} & set(program)  # calls are entered
