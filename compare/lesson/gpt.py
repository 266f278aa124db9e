"""A GPT as a lesson: each line of `manual.transformer`'s backward, with the op that it calls."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import autodiff.transformer
import manual.transformer
from compare.lesson.content import Quantity, Step
from compare.lesson.formulas import formulas_of_lines
from compare.lesson.layered import LOSS, backward_of, forward_of, network_subject, paragraphs
from compare.lesson.source import Excerpt, assignment, body, containing, leading_to, returned
from compare.lesson.subject import Subject
from compare.suite.models import build
from compare.suite.ops import catalog

SIZES = {"batch": 2, "length": 6, "hidden": 8, "heads": 2, "layers": 1, "iterations": 120, "learning_rate": 0.05}
# The ops of a block in the order of the forward pass; each has an input of its name, and most have parameters.
ATTENTION = {"norm1": "layer_norm", "qkv": "dense", "attention": "attention", "projection": "dense"}
HIDDEN = {"norm2": "layer_norm", "up": "dense", "gelu": "gelu", "down": "dense"}


def subject(*, seed: int, **given: Any) -> Subject:
    """One block, small, on one batch of text; with `given` instead of some of its sizes."""
    model, options = build("gpt", SIZES | given, seed=seed, dtype="float64")
    return network_subject(
        "gpt",
        model,
        options,
        title="A GPT",
        steps=steps(model.parameters),
        root=returned(inspect.unwrap(autodiff.transformer.loss_and_gradients)),
        values=lambda parameters, x, targets: {"logits": model.predict(parameters, x)},
        seed=seed,
    )


def steps(parameters: Any) -> list[Step]:
    """The forward pass in a few steps, and every line of the backward pass."""
    known = catalog()
    forward = [
        _forward("a block", "Attention, and a hidden layer", ["_attention", "_hidden_layer"], []),
        _forward("logits", "From ids to logits", ["apply"], ["logits"]),
        forward_of("loss", known[LOSS], Quantity("loss", "loss", False)),
    ]
    backward = [backward_of("loss", known[LOSS], ["logits"]), *_top()]
    for index in reversed(range(len(parameters["blocks"]))):
        backward += _block(index, parameters["blocks"][index])
    return [*forward, *backward, _embeddings()]


def _forward(name: str, title: str, functions: Sequence[str], values: Sequence[str]) -> Step:
    by_hand, by_jax = (
        [excerpt for function in functions for excerpt in body(getattr(side.transformer, function))]
        for side in (manual, autodiff)
    )
    words = "Token and position are added up, go through the blocks, and meet every token of the vocabulary."
    if not values:
        words = "x + projection(attention(qkv(norm1(x)))), and of that, x + down(gelu(up(norm2(x))))."
    return Step(name, False, title, words, by_hand, by_jax, [Quantity(value, value, False) for value in values], [])


def _top() -> Iterator[Step]:
    """The output layer, whose weight is the token embedding, and the norm before it."""
    source, by_jax = manual.transformer.apply_backward, autodiff.transformer.apply
    for name, op, paths in (("head", "dense", []), ("norm", "layer_norm", ["norm.weight", "norm.bias"])):
        line, jax_line = containing(source, f"{op}_backward"), containing(by_jax, f'"{name}.input"')
        yield _step(name, "", source, [line], [jax_line], [*paths, f"{name}.input"], op)


def _block(index: int, parameters: Any) -> Iterator[Step]:
    name, by_hand, by_jax = f"blocks.{index}", manual.transformer, autodiff.transformer
    parts = (
        (HIDDEN, by_hand._hidden_layer_backward, by_jax._hidden_layer, "middle"),
        (ATTENTION, by_hand._attention_backward, by_jax._attention, "input"),
    )
    for ops, source, jax_source, stream in parts:
        for part, op in reversed(ops.items()):
            lines = leading_to(source, f'd["{part}.input"]')
            paths = [f"{name}.{part}.{leaf}" for leaf in [*parameters.get(part, {}), "input"]]
            jax_line = containing(jax_source, f".{part}.input")
            yield _step(f"{name}.{part}", "", source, lines, [jax_line], paths, op)
        lines, stream_name = leading_to(source, f'd["{stream}"]'), f"{name}.{stream}"
        yield _step(stream_name, paragraphs(source)[0], source, lines, [returned(jax_source)], [stream_name])


def _embeddings() -> Step:
    source, by_jax = manual.transformer.apply_backward, [containing(autodiff.transformer.apply, "x = embedding(")]
    lines = [assignment(source, "dpositions"), assignment(source, "dtable")]
    return _step("embeddings", "", source, lines, by_jax, ["position_embedding", "token_embedding"], "embedding")


def _step(
    name: str,
    words: str,
    source: Callable[..., Any],
    by_hand: list[Excerpt],
    by_jax: list[Excerpt],
    paths: list[str],
    op: str = "",
) -> Step:
    """Lines of the backward pass. Of an op that they call, words and source are those of the op."""
    derivation: list[str] = []
    written = formulas_of_lines(source, by_hand)
    if op:
        called = catalog()[op]
        words, *derivation = paragraphs(called.backward)
        by_hand, by_jax = [*by_hand, *body(called.backward)], [*by_jax, *body(called.function)]
    quantities = [Quantity(f"d {path}", path, True) for path in paths]
    text = "\n\n".join(derivation)
    return Step(f"d {name}", True, f"{name}, backward", words, by_hand, by_jax, quantities, written, text)
