"""Networks with a description as lessons, by the docstrings and lines of their ops."""

import re

import pytest

from compare import Verdict
from compare.lesson import MODELS, lesson
from compare.lesson.layered import SIZES, symbol_of
from compare.lesson.text import inputs_sentence


@pytest.mark.sweep
@pytest.mark.parametrize("model", ["mlp", "rnn"])
def test_a_network_of_the_catalog_is_taught_by_its_own_ops(model):
    found = lesson(model)
    assert found.verdict is Verdict.AGREE
    kinds = {"mlp": ["flatten", "dense", "gelu", "dense"], "rnn": ["embedding", "rnn", "dense"]}[model]
    forward = [step for step in found.steps if not step.backward]
    assert [step.name.partition(".")[2] for step in forward[:-1]] == kinds
    paths = {quantity.path for step in found.steps for quantity in step.quantities if quantity.gradient}
    assert {path for path in paths if path.endswith("weight")} >= {f"{len(kinds) - 1}.dense.weight"}
    for moment in found.moments:
        assert {numbers.verdict for label, numbers in moment.numbers.items() if label.startswith("d ")} == {
            Verdict.AGREE
        }
        assert all(numbers.largest_difference < 1e-12 for numbers in moment.numbers.values())
    assert f"is W (layer {len(kinds)})" in inputs_sentence(found)
    matched = {equation.step for equation in found.backward_mode.gradient}
    assert {f"d {len(kinds) - 1}.dense.weight", "logits", "loss", "d logits"} <= matched


@pytest.mark.campaign
def test_a_fault_in_an_op_is_found_in_its_lesson(monkeypatch):
    from manual.network import KINDS

    row = KINDS["dense"]

    def wrong(output_gradient, cache):
        dx, dweight, dbias = row.backward(output_gradient, cache)
        return dx, dweight, 2 * dbias

    monkeypatch.setitem(KINDS, "dense", row._replace(backward=wrong))
    found = lesson("mlp")
    assert found.verdict is Verdict.DISAGREE
    assert "3.dense.bias" in found.sentence


@pytest.mark.parametrize(
    ("path", "value", "gradient"),
    [
        ("2.dense.weight", "W (layer 3)", "dJ/dW (layer 3)"),
        ("2.dense.input", "y (layer 2)", "dJ/dy (layer 2)"),  # the output of the layer before
        ("1.gru.input_bias", "b_x (layer 2)", "dJ/d(b_x) (layer 2)"),
        ("1.batch_norm.weight", "weight (layer 2)", "dJ/d(weight) (layer 2)"),
        ("blocks.0.up.bias", "b (block 1, up)", "dJ/db (block 1, up)"),
        ("blocks.1.norm2.input", "x (block 2, norm2)", "dJ/dx (block 2, norm2)"),
        ("blocks.0.input", "x (block 1)", "dJ/dx (block 1)"),
        ("blocks.0.middle", *(f"{x} (block 1, between attention and hidden layer)" for x in ("x", "dJ/dx"))),
        ("head.input", "x (output layer)", "dJ/dx (output layer)"),
        ("logits", "logits", "dJ/d(logits)"),
        ("token_embedding", "token embedding", "dJ/d(token embedding)"),
    ],
)
def test_a_path_has_a_notation(path, value, gradient):
    assert symbol_of(path) == value
    assert symbol_of(path, gradient=True) == gradient


@pytest.mark.parametrize("given", [{"model": model} for model in SIZES] + [{"activation": "relu"}], ids=str)
def test_the_sentences_on_symbols_name_only_what_the_lesson_has(given):
    model = given.get("model", "shallow")
    subject = MODELS[model](seed=0, **{key: value for key, value in given.items() if key != "model"})
    known = {quantity.symbol for step in subject.steps for quantity in step.quantities}
    known |= {symbol.removeprefix("dJ/d") for symbol in known}
    said = re.findall(r"(?:dJ/d)?\w+ \(layer \d+\)", subject.about[1])
    assert len(said) >= 3
    assert set(said) <= known
