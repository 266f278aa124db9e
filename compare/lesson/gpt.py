"""A GPT as a lesson: each line of the backward pass in `manual.transformer`, with the op that it calls."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import autodiff.transformer
import manual.transformer
from compare.lesson.content import Quantity, Step
from compare.lesson.formulas import formulas_of_lines
from compare.lesson.layered import LOSS, backward_of, forward_of, network_subject, paragraphs, symbol_of
from compare.lesson.source import Excerpt, assignment, body, containing, leading_to, returned
from compare.lesson.subject import Subject
from compare.suite.models import build
from compare.suite.ops import catalog

SIZES = {"batch": 2, "length": 6, "hidden": 8, "heads": 2, "layers": 1, "iterations": 120, "learning_rate": 0.05}
# The ops of a block in the order of the forward pass, by the names that their inputs and parameters have.
ATTENTION = {"norm1": "layer_norm", "qkv": "dense", "attention": "attention", "projection": "dense"}
HIDDEN = {"norm2": "layer_norm", "up": "dense", "gelu": "gelu", "down": "dense"}


def subject(*, seed: int, **given: Any) -> Subject:
    """The lesson on a GPT of one small block, on one batch of text. `given` are options that replace those in SIZES."""
    model, options = build("gpt", SIZES | given, seed=seed, dtype="float64")
    return network_subject(
        "gpt",
        model,
        options,
        title="A GPT",
        steps=steps(model.parameters, *next(model.batches()), heads=options["heads"]),
        root=returned(inspect.unwrap(autodiff.transformer.loss_and_gradients)),
        values=lambda parameters, x, targets: {"logits": model.predict(parameters, x)},
        seed=seed,
        notation=NOTATION,
    )


NOTATION = (
    "J is the loss. x (block 1, up) is the input of the op up in block 1, and W (block 1, up) its weight. "
    "dJ/dW (block 1, up) is the gradient of the loss with respect to that weight. Within the formulas of one op, x is "
    "its input, y its output, and dx is short for dJ/dx."
)


def steps(parameters: Any, ids: Any, targets: Any, *, heads: int) -> list[Step]:
    """The forward pass in a few steps, and every line of the backward pass.

    Args:
        parameters: The parameters of the network.
        ids: The tokens of a batch.
        targets: The tokens that follow.
        heads: The number of attention heads.
    """
    loss = catalog()[LOSS]
    logits, cache = manual.transformer.apply(parameters, ids, heads=heads)
    _, loss_cache = loss.forward(logits, targets, ignore_index=manual.transformer.IGNORED)
    forward = [
        _forward("a block", "Attention, and a hidden layer", ["_attention", "_hidden_layer"], []),
        _forward("logits", "From ids to logits", ["apply"], ["logits"]),
        forward_of("loss", loss, Quantity("loss", "loss", False, symbol="J"), {"logits": logits, "targets": targets}),
    ]
    backward = [backward_of("loss", loss, ["logits"], {"cache": loss_cache}), *_top(cache)]
    for index in reversed(range(len(parameters["blocks"]))):
        backward += _block(index, parameters["blocks"][index], cache.blocks[index])
    return [*forward, *backward, _embeddings(cache)]


def _forward(name: str, title: str, functions: Sequence[str], values: Sequence[str]) -> Step:
    by_hand, by_jax = (
        [excerpt for function in functions for excerpt in body(getattr(side.transformer, function))]
        for side in (manual, autodiff)
    )
    words = (
        "The embeddings of token and position are added, go through the blocks, and are multiplied by the table again."
    )
    if not values:
        words = "x becomes x + projection(attention(qkv(norm1(x)))), and then x + down(gelu(up(norm2(x))))."
    return Step(name, False, title, words, by_hand, by_jax, [Quantity(value, value, False) for value in values], [])


def _top(cache: Any) -> Iterator[Step]:
    """The output layer, whose weight is the token embedding, and the norm before it."""
    source, by_jax = manual.transformer.apply_backward, autodiff.transformer.apply
    for name, op, paths in (("head", "dense", []), ("norm", "layer_norm", ["norm.weight", "norm.bias"])):
        line, jax_line = containing(source, f"{op}_backward"), containing(by_jax, f'"{name}.input"')
        yield _step(name, "", source, [line], [jax_line], [*paths, f"{name}.input"], cache, op)


def _block(index: int, parameters: Any, cache: Any) -> Iterator[Step]:
    name, by_hand, by_jax = f"blocks.{index}", manual.transformer, autodiff.transformer
    parts = (
        (HIDDEN, by_hand._hidden_layer_backward, by_jax._hidden_layer, "middle"),
        (ATTENTION, by_hand._attention_backward, by_jax._attention, "input"),
    )
    for ops, source, jax_source, stream in parts:
        steps = {f"dx_{part}" for part in ops}
        for part, op in reversed(ops.items()):
            lines = leading_to(source, f"dx_{part}", steps)
            paths = [f"{name}.{part}.{leaf}" for leaf in [*parameters.get(part, {}), "input"]]
            jax_line = containing(jax_source, f".{part}.input")
            yield _step(f"{name}.{part}", "", source, lines, [jax_line], paths, cache, op)
        lines, stream_name = leading_to(source, "dx", steps), f"{name}.{stream}"
        yield _step(stream_name, paragraphs(source)[0], source, lines, [returned(jax_source)], [stream_name], cache)


def _embeddings(cache: Any) -> Step:
    source, by_jax = manual.transformer.apply_backward, [containing(autodiff.transformer.apply, "x = embedding(")]
    lines = [assignment(source, "dpositions"), assignment(source, "dtable")]
    paths = ["position_embedding", "token_embedding"]
    return _step("embeddings", "", source, lines, by_jax, paths, cache, "embedding")


def _step(
    name: str,
    words: str,
    source: Callable[..., Any],
    by_hand: list[Excerpt],
    by_jax: list[Excerpt],
    paths: list[str],
    cache: Any,
    op: str = "",
) -> Step:
    """Lines of the backward pass. If they call an op, its words and its source are shown with them."""
    derivation: list[str] = []
    written = formulas_of_lines(source, by_hand, known={"cache": cache})
    if op:
        called = catalog()[op]
        words, *derivation = paragraphs(called.backward)
        by_hand, by_jax = [*by_hand, *body(called.backward)], [*by_jax, *body(called.function)]
    quantities = [Quantity(f"d {path}", path, True, symbol=symbol_of(path, gradient=True)) for path in paths]
    text, title = "\n\n".join(derivation), _title(name)
    return Step(f"d {name}", True, f"{title}, backward", words, by_hand, by_jax, quantities, written, text, short=title)


def _title(name: str) -> str:
    """A readable name: "block 1, up" for "blocks.0.up"."""
    parts = name.split(".")
    if parts[0] == "blocks":
        stream = {"input": "residual stream", "middle": "residual stream, between attention and hidden layer"}
        return f"block {int(parts[1]) + 1}, {stream.get(parts[2], parts[2])}"
    return {"head": "output layer", "norm": "last norm"}.get(name, name)
