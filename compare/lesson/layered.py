"""The lesson on any network that is given by a list of layers: forward through the layers, and backward.

The text of a step is the docstring of the op's backward pass. Its code is the source of that function. The formulas are
made from the source, with the options that the layer has in this network.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import autodiff.network
import manual.network
import manual.optimizers
from compare.lesson.content import Quantity, Step, largest
from compare.lesson.formulas import NOTHING, Known, formulas, inputs_of
from compare.lesson.source import Excerpt, body, returned
from compare.lesson.subject import Subject, marked_by_jax
from compare.suite.models import Model, build
from compare.suite.ops import Op, catalog

_IMAGES = {"batch": 24, "iterations": 120}
_TEXT = {"batch": 4, "length": 8, "hidden": 4, "iterations": 120}
SIZES: dict[str, dict[str, Any]] = {
    "mlp": _IMAGES | {"hidden": 8, "layers": 1, "learning_rate": 0.01},
    "convnet": _IMAGES | {"hidden": 3, "learning_rate": 0.03},
    "rnn": _TEXT,
    "lstm": _TEXT | {"learning_rate": 0.03},
    "gru": _TEXT,
}
LOSS = "cross_entropy"
FORMULAS = "Within the formulas of one layer, x is its input, y its output, and dx is short for dJ/dx."


def subject(name: str, *, seed: int, **given: Any) -> Subject:
    """The lesson on a model of `compare.suite.models` that has a description: a small one, on one batch.

    Args:
        name: The model, one of SIZES.
        seed: The seed of the parameters and the data.
        given: Options that replace those in SIZES.
    """
    model, options = build(name, SIZES[name] | given, seed=seed, dtype="float64")
    return described_subject(name, TITLES[name], model, options, seed=seed)


def described_subject(name: str, title: str, model: Model, options: dict[str, Any], *, seed: int) -> Subject:
    """The lesson on any model that has a description, on the first of its batches.

    Args:
        name: The name of the lesson's model.
        title: The beginning of the lesson's title.
        model: The model.
        options: Its options, which are shown as settings.
        seed: The seed, which is shown with them.
    """
    description = model.description
    assert description is not None, f"{name} has no description"
    names = [f"{i}.{layer['kind']}" for i, layer in enumerate(description)]

    def values(parameters: Any, x: Any, targets: Any) -> dict[str, Any]:
        """The output of every layer: the input of the next layer, or the logits."""
        listed = [parameters.get(layer, {}) for layer in names]
        labels = [*(f"{layer}.input" for layer in names[1:]), "logits"]
        return {
            label: manual.network.apply(listed[:count], x, description=description[:count])[0]
            for count, label in enumerate(labels, 1)
        }

    return network_subject(
        name,
        model,
        options,
        title=title,
        steps=steps(model, names, *next(model.batches())),
        root=returned(inspect.unwrap(autodiff.network._value_and_grad)),
        values=values,
        seed=seed,
        notation=_notation(model, names),
    )


def _notation(model: Model, names: Sequence[str]) -> str:
    """Sentences on the symbols of a model's lesson, with symbols that the lesson has."""
    said = ["J is the loss."] + (["y (layer 1) is the output of layer 1."] if len(names) > 1 else [])
    symbols = [{leaf: symbol_of(f"{name}.{leaf}") for leaf in model.parameters.get(name, {})} for name in names]
    weighted = next((i for i, own in enumerate(symbols) if "weight" in own), None)
    if weighted is not None:
        own = symbols[weighted]
        bias = f", and {own['bias']} its bias" if "bias" in own else ""
        gradient = symbol_of(f"{names[weighted]}.weight", gradient=True)
        said += [f"{own['weight']} is the weight of layer {weighted + 1}{bias}."]
        said += [f"{gradient} is the gradient of the loss with respect to that weight."]
    return " ".join([*said, FORMULAS])


def network_subject(
    name: str,
    model: Model,
    options: dict[str, Any],
    *,
    title: str,
    steps: Sequence[Step],
    root: Excerpt,
    values: Callable[..., dict[str, Any]],
    seed: int,
    notation: str,
) -> Subject:
    """A lesson's subject, from the parts that differ between lessons on models.

    Args:
        name: The name of the lesson's model.
        model: The model. The lesson uses its first batch.
        options: Its options, with the optimizer, the learning rate and the number of iterations.
        title: The beginning of the title.
        steps: The steps of the derivation.
        root: The line of `autodiff` from which JAX derives all gradients.
        values: `(parameters, x, targets)` -> the intermediate values of the hand-written forward pass, by path.
        seed: The seed, which is shown with the settings.
        notation: Sentences that explain the symbols.
    """
    optimizer = manual.optimizers.OPTIMIZERS[options["optimizer"]](options["learning_rate"])

    def by_hand(parameters: Any, x: Any, targets: Any) -> tuple[Any, Any, dict[str, Any]]:
        intermediates: dict[str, Any] = {}
        loss, gradients = model.loss_and_gradients(parameters, x, targets, intermediates=intermediates)
        return loss, gradients, intermediates

    return Subject(
        model=name,
        title=f"{title}, every derivative by hand",
        about=[
            model.data,
            f"Every training step uses the same batch, with {options['optimizer']} at learning rate "
            f"{options['learning_rate']:g}. {notation} Each table shows the entries that are largest in magnitude "
            "before training.",
        ],
        iterations=options["iterations"],
        settings={key: value for key, value in options.items() if value is not None} | {"seed": seed},
        steps=steps,
        root=root,
        parameters=model.parameters,
        args=next(model.batches()),
        by_hand=by_hand,
        loss=model.loss,
        values=values,
        values_by_jax=marked_by_jax(model.loss),
        update=optimizer.update,
        state=optimizer.initialize(model.parameters),
        where=largest,
    )


SUBJECTS = {name: partial(subject, name) for name in SIZES}
TITLES = {
    "mlp": "A perceptron with a hidden layer",
    "convnet": "A convolutional network",
    "rnn": "A recurrent network",
    "lstm": "A long short-term memory",
    "gru": "A network of gated recurrent units",
}


def steps(model: Model, names: list[str], x: Any, targets: Any) -> list[Step]:
    """The forward step of every layer and of the loss, and the backward step of every layer that has a gradient.

    Args:
        model: The model, which has a description.
        names: The names of its layers, such as "3.dense".
        x: The input of a batch, which decides what the formulas show.
        targets: The targets of the batch.
    """
    known, loss = catalog(), catalog()[LOSS]
    ops = [known[name.partition(".")[2]] for name in names]
    outputs = [*(f"{name}.input" for name in names[1:]), "logits"]
    calls = list(_calls(model, names, ops, x))
    logits = calls[-1].output
    _, loss_cache = loss.forward(logits, targets)
    forward = [
        forward_of(name, op, Quantity(output, output, False, symbol=symbol_of(output)), call.arguments)
        for name, op, output, call in zip(names, ops, outputs, calls, strict=True)
    ]
    of_loss = _arguments(loss, {"logits": logits, "targets": targets}, {})
    forward.append(forward_of("loss", loss, Quantity("loss", "loss", False, symbol="J"), of_loss))
    backward = [backward_of("loss", loss, ["logits"], {"cache": loss_cache})]
    for index in reversed(range(len(names))):
        paths = [f"{names[index]}.{leaf}" for leaf in model.parameters.get(names[index], {})]
        paths += [f"{names[index]}.input"] if index else []
        if paths:
            backward.append(backward_of(names[index], ops[index], paths, {"cache": calls[index].cache}))
    return forward + backward


class _Call(NamedTuple):
    """A call of a layer's op on a batch: its arguments by name, its cache and its output."""

    arguments: Known
    cache: Any
    output: Any


def _calls(model: Model, names: list[str], ops: Sequence[Op], x: Any) -> Iterator[_Call]:
    """The calls of the layers' ops in the forward pass, in their order."""
    assert model.description is not None
    for name, op, layer in zip(names, ops, model.description, strict=True):
        own = model.parameters.get(name, {})
        y, caches = manual.network.apply([own], x, description=[layer])
        first = inputs_of(op.forward)[0]
        given = {"bias": None, first: x} | own
        yield _Call(_arguments(op, given, layer), caches[-1].cache, y)
        x = y


def _arguments(op: Op, inputs: Mapping[str, Any], options: Mapping[str, Any]) -> Known:
    """Those arguments of an op's call that are among the inputs, and its options, with their defaults."""
    own = {p.name: p.default for p in inspect.signature(op.forward).parameters.values() if p.kind is p.KEYWORD_ONLY}
    settled = {name: options.get(name, default) for name, default in own.items()}
    return {name: inputs[name] for name in inputs_of(op.forward) if name in inputs} | settled


def forward_of(name: str, op: Op, quantity: Quantity, known: Known = NOTHING) -> Step:
    """The forward step of a layer.

    Args:
        name: The name of the layer, such as "3.dense", or "loss".
        op: Its op.
        quantity: Its output.
        known: Arguments of the call of the op, which decide what the formulas show.
    """
    sentence = paragraphs(op.forward)[0]
    by_hand, by_jax = body(op.forward), body(op.function)
    try:
        written = formulas(op.forward, known=known)
    except ValueError:  # the docstring and the code are enough for a forward pass
        written = []
    title = _title(name, op)
    return Step(name, False, f"{title}, forward", sentence, by_hand, by_jax, [quantity], written, short=title)


def backward_of(name: str, op: Op, paths: list[str], known: Known = NOTHING) -> Step:
    """The backward step of a layer.

    Args:
        name: The name of the layer, such as "3.dense", or "loss".
        op: Its op.
        paths: The paths of the values whose gradients the step computes.
        known: Arguments of the call of the op's backward pass, which decide what the formulas show.
    """
    sentence, *derivation = paragraphs(op.backward)
    title = _title(name, op)
    return Step(
        f"d {name}",
        True,
        f"{title}, backward",
        sentence,
        body(op.backward),
        body(op.function),
        [Quantity(f"d {path}", path, True, symbol=symbol_of(path, gradient=True)) for path in paths],
        formulas(op.backward, inputs_of(op.forward), known),
        "\n\n".join(derivation),
        short=title,
    )


# The symbols of parameters in the formulas. The weights of a normalization are called weight there.
SYMBOLS = {"weight": "W", "bias": "b", "input_weight": "W", "hidden_weight": "U", "input_bias": "b_x"}
SYMBOLS |= {"hidden_bias": "b_h"}


def symbol_of(path: str, *, gradient: bool = False) -> str:
    """The notation for a value, or for the gradient with respect to it.

    "3.dense.weight" is W (layer 4). "3.dense.input" is y (layer 3), because the input of a layer is the output of the
    layer before. "blocks.0.up.input" is x (block 1, up). Other paths are words: the logits, the position embedding.
    """
    layer = re.fullmatch(r"(\d+)\.(\w+)\.(\w+)", path)
    block = re.fullmatch(r"blocks\.(\d+)(?:\.(\w+))?\.(input|middle|weight|bias)", path)
    part = re.fullmatch(r"(head|norm)\.(input|weight|bias)", path)
    if layer:
        number, kind, leaf = layer.groups()
        symbol, where = ("y", int(number)) if leaf == "input" else (_symbol(kind, leaf), int(number) + 1)
        return f"{_d(symbol, gradient)} (layer {where})"
    if block:
        number, kind, leaf = block.groups()
        symbol = "x" if leaf in ("input", "middle") else _symbol(kind, leaf)
        where = {"middle": ", between attention and hidden layer"}.get(leaf, f", {kind}" if kind else "")
        return f"{_d(symbol, gradient)} (block {int(number) + 1}{where})"
    if part:
        kind, leaf = part.groups()
        where = {"head": "output layer", "norm": "last norm"}[kind]
        return f"{_d('x' if leaf == 'input' else _symbol(kind, leaf), gradient)} ({where})"
    words = path.replace("_", " ")
    return f"dJ/d({words})" if gradient else words


def _symbol(kind: str, leaf: str) -> str:
    return leaf if "norm" in kind else SYMBOLS.get(leaf, leaf)


def _d(symbol: str, gradient: bool) -> str:
    if not gradient:
        return symbol
    return f"dJ/d{symbol}" if len(symbol) == 1 else f"dJ/d({symbol})"


def paragraphs(function: Callable[..., Any]) -> list[str]:
    """The paragraphs of a function's docstring."""
    return (inspect.getdoc(function) or "").split("\n\n")


def _title(name: str, op: Op) -> str:
    """A readable name: "layer 4 (dense)" for "3.dense", and "loss (cross_entropy)"."""
    return f"loss ({op.name})" if name == "loss" else f"layer {int(name.partition('.')[0]) + 1} ({op.name})"
