"""A GPT of two layers and two steps, recorded in C and by PyTorch, and judged from its file.

The campaign has four layers; the judge's work grows with them, and what it says of a block does not.
"""

import pytest

from benchmarks.recorded_gpt import (
    FAULTS,
    LAYERS,
    SOURCE,
    is_named,
    judged,
    planted,
    recorded_by_c,
    recorded_by_torch,
)
from compare import Verdict
from tests.compare.check.writers.languages import compiled_c, compiler


@pytest.fixture(scope="module", params=["c", "torch"])
def recorded(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpt")
    if request.param == "torch":
        pytest.importorskip("torch")
        return recorded_by_torch(folder, layers=2)
    compiler("cc")
    text = SOURCE.read_text(encoding="utf-8")
    assert text.count(f"L = {LAYERS},") == 1
    return recorded_by_c(folder, text.replace(f"L = {LAYERS},", "L = 2,"))


@pytest.mark.sweep
def test_a_sound_recording_agrees(recorded):
    layers = {name.split(".")[2] for name in recorded if "/parameters/blocks." in name}
    assert (len(layers), "step.2/loss" in recorded) == (2, True)
    report = judged(recorded)
    assert report.verdict is Verdict.AGREE, str(report)
    assert report.updates is not None
    assert report.notes == []


@pytest.mark.campaign
def test_a_fault_in_one_tensor_of_the_second_step_is_named(recorded, request):
    part = {"c": "gradients/blocks.1.qkv.weight", "torch": "next/token.weight"}[
        request.node.callspec.params["recorded"]
    ]
    wrong = dict(planted(recorded))
    assert len(wrong) == 2 * 12 * 3 + 4 * 3 + 2 + 1  # every parameter thrice, what leaves the blocks, the loss
    report = judged(wrong[part])
    assert is_named(report, part), str(report)
    assert not is_named(report, "gradients/norm.bias")
    assert part.partition("/")[2] in report.sentence


def test_the_program_compiles_without_a_warning(tmp_path):
    compiled_c(SOURCE, tmp_path / "gpt", "-lm")


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_another_line_of_the_program(name):
    assert SOURCE.read_text().count(FAULTS[name].right) == 1
