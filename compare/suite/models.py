"""The models of `backproof verify --model`: networks of the catalog, with bundled data.

A `Model` has both sides of a network. The options of a model are the keys of its `defaults`. Parameters are named by
the number and the kind of their layer, as in `2.conv2d.weight`, so that reports name the op.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

import autodiff.network
import autodiff.transformer
import manual
import manual.network
import manual.transformer
from compare.errors import BadInput, unknown
from compare.suite.datasets import characters, digit_images
from manual.transformer import PRESETS

Batch = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Model:
    """A network with its data.

    Attributes:
        data: a description of the data.
        network: a description of the network, in lines.
        parameters: the initial parameters.
        loss_and_gradients: by hand, `(parameters, x, targets, intermediates=None) -> (loss, gradients)`.
        predict: by hand, `(parameters, x) -> logits`.
        loss: in JAX, `(parameters, x, targets) -> loss`.
        apply: in JAX, `(parameters, x) -> logits`.
        batches: returns an infinite iterator over batches.
        held_out: the held-out examples, if any.
        description: the layers in the form that `manual.network` takes; None for a model without such a description.
    """

    data: str
    network: list[str]
    parameters: Any
    loss_and_gradients: Callable[..., Any]
    predict: Callable[..., Any]
    loss: Callable[..., Any]
    apply: Callable[..., Any]
    batches: Callable[[], Iterator[Batch]]
    held_out: Batch | None
    description: list[dict[str, Any]] | None = None


@dataclass(frozen=True)
class Kind:
    """A function that builds a model from its options, and their defaults."""

    build: Callable[..., Model]
    defaults: dict[str, Any]


def settled(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """All options of a model: those given, and the defaults of the others.

    Raises:
        BadInput: for an unknown model or option, or an unsuitable value.
    """
    if name not in MODELS:
        raise unknown("model", name, ["shallow", *MODELS])
    defaults = MODELS[name].defaults
    for option, value in given.items():
        if option not in defaults:
            known = ", ".join(map(_flag, defaults))
            raise BadInput(f"{_flag(option)} does not apply to --model {name}, which takes {known}.")
        if isinstance(value, int | float) and not 0 < value < float("inf"):
            raise BadInput(f"{_flag(option)} must be positive and finite, got {value}.")
    preset = given.get("preset")
    if preset is None:
        return defaults | given
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    fixed = [option for option in ("hidden", "layers", "heads") if option in given]
    if fixed:
        raise BadInput(f"--preset determines the sizes; leave out {', '.join(map(_flag, fixed))}.")
    sizes = dict.fromkeys(("hidden", "layers", "heads"))
    return defaults | sizes | PRESET_DEFAULTS | given


def build(
    name: str, given: dict[str, Any], *, seed: int, dtype: Any, ops: ModuleType = manual
) -> tuple[Model, dict[str, Any]]:
    """Build a model.

    Args:
        name: its name in MODELS.
        given: options that replace its defaults.
        seed: the seed of parameters and data.
        dtype: the dtype of parameters and data.
        ops: the hand-written side, `manual` or `manual.fast`.

    Returns:
        (model, options), with all options.

    Raises:
        BadInput: for an unknown model or option, or an unsuitable value.
    """
    options = settled(name, given)
    return MODELS[name].build(options, np.random.default_rng(seed), seed=seed, dtype=np.dtype(dtype), ops=ops), options


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"


# ------------------------------------------------------------------------------------ plain networks


def network_model(
    description: list[dict[str, Any]], shape: tuple[int, ...], *, seed: int, dtype: Any, ops: ModuleType, **data: Any
) -> Model:
    """A model from a description of its layers.

    Args:
        description: the layers, in the form that `manual.network` takes.
        shape: the shape of an example.
        seed: the seed of the parameters.
        dtype: the dtype of the parameters.
        ops: the hand-written side, `manual` or `manual.fast`.
        **data: the attributes of the model that concern its data.

    Returns:
        The model. Its parameters are a dict by layer.
    """

    def loss_and_gradients(parameters: Any, x: Any, targets: Any, intermediates: Any = None) -> tuple[Any, Any]:
        loss, gradients = manual.network.loss_and_gradients(
            listed(parameters, description), x, targets, description=description, intermediates=intermediates, ops=ops
        )
        return loss, named(gradients, description)

    def predict(parameters: Any, x: Any) -> np.ndarray:
        return manual.network.apply(listed(parameters, description), x, description=description, ops=ops)[0]

    return Model(
        network=manual.network.describe(description, shape),
        parameters=named(manual.network.initialize_parameters(description, shape, seed=seed, dtype=dtype), description),
        loss_and_gradients=loss_and_gradients,
        predict=predict,
        loss=lambda parameters, x, targets: autodiff.network.compute_loss(
            listed(parameters, description), x, targets, description=description
        ),
        apply=lambda parameters, x: autodiff.network.apply(listed(parameters, description), x, description=description),
        description=description,
        **data,
    )


def named(parameters: list[Any], description: list[dict[str, Any]]) -> dict[str, Any]:
    """The parameters of `manual.network`, which are a list, as a dict by layer, without layers that have none."""
    return {name: leaves for name, leaves in zip(_names(description), parameters, strict=True) if leaves}


def listed(parameters: dict[str, Any], description: list[dict[str, Any]]) -> list[Any]:
    """The inverse of `named`."""
    return [parameters.get(name, {}) for name in _names(description)]


def _names(description: list[dict[str, Any]]) -> list[str]:
    return [f"{i}.{layer['kind']}" for i, layer in enumerate(description)]


def _mlp(options: dict[str, Any], random: np.random.Generator, *, seed: int, dtype: Any, ops: ModuleType) -> Model:
    hidden = [{"kind": "dense", "features": options["hidden"]}, {"kind": "gelu"}] * options["layers"]
    description = [{"kind": "flatten"}, *hidden, {"kind": "dense", "features": 10}]
    return network_model(
        description, (8, 8, 1), seed=seed, dtype=dtype, ops=ops, **_digits(options["batch"], random, dtype)
    )


def _convnet(options: dict[str, Any], random: np.random.Generator, *, seed: int, dtype: Any, ops: ModuleType) -> Model:
    channels = options["hidden"]
    description = [
        # Without a bias, because the batch normalization that follows would cancel it.
        {"kind": "conv2d", "features": channels, "kernel": 3, "padding": 1, "bias": False},
        {"kind": "batch_norm"},
        {"kind": "relu"},
        {"kind": "max_pool2d", "window": 2},
        {"kind": "conv2d", "features": 2 * channels, "kernel": 3, "padding": 1},
        {"kind": "relu"},
        {"kind": "global_average_pool"},
        {"kind": "dense", "features": 10},
    ]
    return network_model(
        description, (8, 8, 1), seed=seed, dtype=dtype, ops=ops, **_digits(options["batch"], random, dtype)
    )


def _recurrent(
    kind: str, options: dict[str, Any], random: np.random.Generator, *, seed: int, dtype: Any, ops: ModuleType
) -> Model:
    text = _Text(options["batch"], options["length"], random)
    description = [
        {"kind": "embedding", "vocabulary": text.vocabulary, "features": options["hidden"]},
        {"kind": kind, "features": options["hidden"]},
        {"kind": "dense", "features": text.vocabulary},
    ]
    return network_model(description, (options["length"],), seed=seed, dtype=dtype, ops=ops, **text.data)


def _digits(batch: int, random: np.random.Generator, dtype: Any) -> dict[str, Any]:
    """The digits, in random order. A quarter of them is held out."""
    images, labels = digit_images()
    order = random.permutation(len(images))
    x, y = images[order].astype(dtype), labels[order]
    held = len(x) // 4
    if batch > len(x) - held:
        raise BadInput(f"--batch must be at most {len(x) - held}, the number of images to train on; got {batch}.")

    def batches() -> Iterator[Batch]:
        draws = np.random.default_rng(0)
        while True:
            chosen = held + draws.permutation(len(x) - held)[:batch]
            yield x[chosen], y[chosen]

    words = f"digits: 8x8 images in 10 classes, {len(x) - held} to train on, {held} held out; batches of {batch}"
    return {"data": words, "batches": batches, "held_out": (x[:held], y[:held])}


class _Text:
    """Windows of the help texts of Python's standard library. The target of each character is the next one."""

    def __init__(self, batch: int, length: int, random: np.random.Generator) -> None:
        alphabet, ids = characters()
        train, held = np.split(ids, [9 * len(ids) // 10])
        if length >= len(held):
            raise BadInput(f"--length must be less than {len(held)}, the length of the held-out text; got {length}.")
        start = int(random.integers(2**32))

        def windows(text: np.ndarray, count: int, draws: np.random.Generator) -> Batch:
            at = draws.integers(0, len(text) - length, (count, 1)) + np.arange(length)
            return text[at], text[at + 1]

        def batches() -> Iterator[Batch]:
            draws = np.random.default_rng(start)
            while True:
                yield windows(train, batch, draws)

        self.vocabulary = len(alphabet)
        words = (
            f"pydoc_data.topics: {len(train):,} characters to train on, {len(held):,} held out, "
            f"{len(alphabet)} different ones; batches of {batch} x {length}"
        )
        held_out = windows(held, 32, np.random.default_rng(start))
        self.data = {"data": words, "batches": batches, "held_out": held_out}


# --------------------------------------------------------------------------------------- transformer


def _gpt(options: dict[str, Any], random: np.random.Generator, *, seed: int, dtype: Any, ops: ModuleType) -> Model:
    batch, length = options["batch"], options["length"]
    if options["preset"]:
        sizes = PRESETS[options["preset"]]
        if length > sizes["context"]:
            raise BadInput(f"--length must be at most {sizes['context']}, the context of the preset; got {length}.")
        data = _random_tokens(sizes["vocabulary"], batch, length, random)
    else:
        text = _Text(batch, length, random)
        data = text.data
        sizes = {"vocabulary": text.vocabulary, "context": length, "layers": options["layers"]}
        sizes |= {"heads": options["heads"], "width": options["hidden"]}
    heads = sizes["heads"]
    try:
        parameters = manual.transformer.initialize_parameters(**sizes, seed=seed, dtype=dtype)
    except ValueError as error:
        raise BadInput(str(error)) from error
    words = ", ".join(f"{name} {value:,}" for name, value in sizes.items())

    def predict(parameters: Any, x: Any) -> np.ndarray:
        return ops.transformer.apply(parameters, x, heads=heads)[0]

    return Model(
        network=[f"GPT in the layout of GPT-2: {words}"],
        parameters=parameters,
        loss_and_gradients=partial(ops.transformer.loss_and_gradients, heads=heads),
        predict=predict,
        loss=partial(autodiff.transformer.compute_loss, heads=heads),
        apply=partial(autodiff.transformer.apply, heads=heads),
        **data,
    )


def _random_tokens(vocabulary: int, batch: int, length: int, random: np.random.Generator) -> dict[str, Any]:
    start = int(random.integers(2**32))

    def batches() -> Iterator[Batch]:
        draws = np.random.default_rng(start)
        while True:
            ids = draws.integers(0, vocabulary, (batch, length + 1))
            yield ids[:, :-1], ids[:, 1:]

    return {"data": f"random tokens, batches of {batch} x {length}", "batches": batches, "held_out": None}


# With these optimizers, 200 steps can be compared in float32. Adam and RMSProp turn a gradient that consists of
# rounding errors, such as that of the bias of attention's keys, into a step of full length, so the gpt has momentum.
_TRAINING = {"iterations": 200, "batch": 32, "optimizer": "adam", "learning_rate": 0.01}
_TEXT = _TRAINING | {"hidden": 32, "length": 24, "batch": 16}
_GPT = _TEXT | {"layers": 2, "heads": 4, "preset": None, "optimizer": "momentum", "learning_rate": 0.1}
MODELS: dict[str, Kind] = {
    "mlp": Kind(_mlp, _TRAINING | {"hidden": 32, "layers": 2, "optimizer": "adamw", "learning_rate": 0.003}),
    "convnet": Kind(_convnet, _TRAINING | {"hidden": 8}),
    "rnn": Kind(partial(_recurrent, "rnn"), _TEXT | {"optimizer": "adagrad", "learning_rate": 0.05}),
    "lstm": Kind(partial(_recurrent, "lstm"), _TEXT),
    "gru": Kind(partial(_recurrent, "gru"), _TEXT | {"optimizer": "nesterov", "learning_rate": 0.3}),
    "gpt": Kind(_gpt, _GPT),
}
PRESET_DEFAULTS = {"iterations": 3, "batch": 1, "length": 16, "optimizer": "adamw", "learning_rate": 1e-4}
