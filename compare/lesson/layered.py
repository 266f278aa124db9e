"""The lesson on any network with a description: forward through its layers, and backward.

The text of a step is the docstring of the op's backward pass. Its lines are the source, from which the formulas are
made.
"""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import autodiff.network
import manual.network
import manual.optimizers
from compare.lesson.content import Quantity, Step, largest
from compare.lesson.formulas import formulas, inputs_of
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


def subject(name: str, *, seed: int, **given: Any) -> Subject:
    """One of `compare.suite.models` that has a description, small, on one batch; with `given` instead of its sizes."""
    model, options = build(name, SIZES[name] | given, seed=seed, dtype="float64")
    return described_subject(name, TITLES[name], model, options, seed=seed)


def described_subject(name: str, title: str, model: Model, options: dict[str, Any], *, seed: int) -> Subject:
    """A model that has a description, on the first of its batches."""
    description = model.description
    assert description is not None, f"{name} has no description"
    names = [f"{i}.{layer['kind']}" for i, layer in enumerate(description)]

    def values(parameters: Any, x: Any, targets: Any) -> dict[str, Any]:
        """What the first layers make of the input, then one more, and so on: the input of the next, or the logits."""
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
        steps=steps(model, names),
        root=returned(inspect.unwrap(autodiff.network._value_and_grad)),
        values=values,
        seed=seed,
    )


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
) -> Subject:
    """What the lessons on models have in common: one batch, the model's optimizer, gradients in between."""
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
            f"In this lesson all steps are taken on one batch, by {options['optimizer']} at learning rate "
            f"{options['learning_rate']:g}. d Q means dJ/dQ, the gradient of the loss. Of each array the entries are "
            "shown that have the largest gradient, or value, at the start.",
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


def steps(model: Model, names: list[str]) -> list[Step]:
    """Every layer forward, the loss, and every layer that has anything to differentiate, backward."""
    known, loss = catalog(), catalog()[LOSS]
    ops = [known[name.partition(".")[2]] for name in names]
    outputs = [*(f"{name}.input" for name in names[1:]), "logits"]
    forward = [
        forward_of(name, op, Quantity(output, output, False))
        for name, op, output in zip(names, ops, outputs, strict=True)
    ]
    forward.append(forward_of("loss", loss, Quantity("loss", "loss", False)))
    backward = [backward_of("loss", loss, ["logits"])]
    for index in reversed(range(len(names))):
        paths = [f"{names[index]}.{leaf}" for leaf in model.parameters.get(names[index], {})]
        paths += [f"{names[index]}.input"] if index else []
        if paths:
            backward.append(backward_of(names[index], ops[index], paths))
    return forward + backward


def forward_of(name: str, op: Op, quantity: Quantity) -> Step:
    sentence = paragraphs(op.forward)[0]
    by_hand, by_jax = body(op.forward), body(op.function)
    try:
        written = formulas(op.forward)
    except ValueError:  # of the way forward, the code and the docstring say enough
        written = []
    return Step(name, False, f"{_title(name, op)}, forward", sentence, by_hand, by_jax, [quantity], written)


def backward_of(name: str, op: Op, paths: list[str]) -> Step:
    sentence, *derivation = paragraphs(op.backward)
    return Step(
        f"d {name}",
        True,
        f"{_title(name, op)}, backward",
        sentence,
        body(op.backward),
        body(op.function),
        [Quantity(f"d {path}", path, True) for path in paths],
        formulas(op.backward, inputs_of(op.forward)),
        "\n\n".join(derivation),
    )


def paragraphs(function: Callable[..., Any]) -> list[str]:
    """Of a function's docstring."""
    return (inspect.getdoc(function) or "").split("\n\n")


def _title(name: str, op: Op) -> str:
    """cross_entropy for the loss, and "layer 4 (dense)" for 3.dense, as its parameters are called."""
    return op.name if name == "loss" else f"layer {int(name.partition('.')[0]) + 1} ({op.name})"
