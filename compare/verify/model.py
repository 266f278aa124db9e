"""The work of `backproof verify --model`: compares gradients and mini-batch training of a network of the catalog."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import autodiff.optimizers
import autodiff.training
import manual.fast
import manual.optimizers
import manual.training
from compare.environment import environment, name_of
from compare.errors import BadInput, unknown
from compare.judge.gradients import check_gradients
from compare.judge.trajectory import check_trajectory
from compare.platform import on_platform, precise
from compare.suite.models import Model, build, settled
from compare.suite.problem import DTYPES
from compare.verify.fast_training import check_fast_training
from compare.verify.memory import LARGE, Note, check_fits, give_back, model_size, nobody
from compare.verify.shallow import Progress, Result
from compare.verify.timing import time_training


def verify_model(
    name: str,
    given: dict[str, Any],
    *,
    seed: int = 0,
    dtype: str = "float64",
    platform: str = "cpu",
    progress: Progress = lambda what, steps: None,
    note: Note = nobody,
) -> Result:
    """Compare both sides of one of `compare.suite.models`.

    Args:
        name: the name of the model.
        given: options that replace the model's defaults.
        seed: the seed of the parameters and the batches.
        dtype: the dtype of the parameters, one of DTYPES.
        platform: the platform of JAX.
        progress: is called with a description of the current work, and the number of finished steps.
        note: is called with a sentence on the memory that is needed, and with one on the time if it is long.

    Returns:
        All results.

    Raises:
        BadInput: for an unknown model, option, dtype or platform, or if the memory is not sufficient.
    """
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    if not 0 <= seed < 2**32:
        raise BadInput(f"seed must be from 0 to 2**32 - 1 = 4294967295, got {seed}.")
    options = settled(name, given)
    sides = (manual.optimizers, manual.fast.optimizers, autodiff.optimizers)
    optimizers = [_optimizer(side, options) for side in sides]
    with on_platform(platform) as device:
        size = model_size(name, options)
        if device.platform == "cpu":  # the memory of accelerators is not checked
            check_fits(name, size, iterations=options["iterations"], dtype=dtype, note=note)
        seconds = expected_seconds(name, options["iterations"])
        if seconds >= WORTH_TELLING and size.parameters <= LARGE:
            steps = f"{name}, {options['iterations']} steps"
            note(f"{steps}: about {seconds:.0f} s, and more if sizes are larger than the defaults")
        progress("building the model", 0)
        model, options = build(name, given, seed=seed, dtype=dtype)
        fast, _ = build(name, given, seed=seed, dtype=dtype, ops=manual.fast)
        fast = replace(fast, parameters=model.parameters)  # the same arrays, which saves memory for a huge model
        with precise(model.parameters):
            return _verify(name, model, fast, options, optimizers, {"seed": seed, "dtype": dtype}, device, progress)


# Seconds of a run for each training step, at the default sizes, on two cores with other work. They were measured in
# runs of 50 steps (mlp: 200). The rnn was not measured, and has the value of the lstm.
SECONDS_A_STEP = {"mlp": 0.04, "convnet": 0.1, "rnn": 0.15, "lstm": 0.15, "gru": 0.3, "gpt": 0.3}
SECONDS_BEFORE = 5  # for the check of the gradients and for compilation
WORTH_TELLING = 20  # seconds


def expected_seconds(name: str, iterations: int) -> float:
    """The estimated time of a run in seconds, at the model's default sizes."""
    return SECONDS_BEFORE + SECONDS_A_STEP[name] * iterations


def _optimizer(side: Any, options: dict[str, Any]) -> Any:
    known = side.OPTIMIZERS
    if options["optimizer"] not in known:
        raise unknown("optimizer", options["optimizer"], known)
    return known[options["optimizer"]](options["learning_rate"])


def _verify(
    name: str,
    model: Model,
    fast: Model,
    options: dict[str, Any],
    optimizers: list[Any],
    common: dict[str, Any],
    device: Any,
    progress: Progress,
) -> Result:
    by_hand, by_hand_fast, by_jax = optimizers
    iterations, start = options["iterations"], model.parameters

    # The gradients of a huge model are checked at the initial parameters only, and its training steps one by one,
    # without a comparison of whole runs.
    small = sum(leaf.size for leaf in jax.tree.leaves(start)) <= LARGE

    def next_phase(what: str, steps: int = 0) -> None:
        if not small:
            give_back()
        progress(what, steps)

    def with_intermediates(of: Model, parameters: Any, x: Any, targets: Any) -> tuple[Any, Any, dict[str, Any]]:
        intermediates: dict[str, Any] = {}
        loss, gradients = of.loss_and_gradients(parameters, x, targets, intermediates=intermediates)
        return loss, gradients, intermediates

    progress("checking gradients", 0)
    first = next(model.batches())
    gradients = check_gradients(
        partial(with_intermediates, model), model.loss, start, *first, probes=small, references=small
    )
    next_phase("checking gradients")
    made_fast = check_gradients(
        partial(with_intermediates, fast), model.loss, start, *first, probes=False, references=False
    )

    next_phase("comparing training")
    value_and_grad = jax.value_and_grad(model.loss)

    # For a huge model, the steps are those of `manual.fast`, which keeps fewer copies in memory.
    stepped, updated_by = (model, by_hand) if small else (fast, by_hand_fast)

    def manual_step(parameters: Any, state: Any, x: Any, targets: Any) -> tuple[Any, Any]:
        _, gradients = stepped.loss_and_gradients(parameters, x, targets)
        return updated_by.update(parameters, gradients, state)

    @jax.jit
    def compiled_step(parameters: Any, state: Any, x: Any, targets: Any) -> tuple[Any, Any, Any]:
        loss, gradients = value_and_grad(parameters, x, targets)
        return *by_jax.update(parameters, gradients, state), loss

    def autodiff_step(parameters: Any, state: Any, x: Any, targets: Any) -> tuple[Any, Any]:
        *stepped, _ = compiled_step(parameters, state, x, targets)
        if not small:  # the tolerance is measured next, which needs the most memory
            jax.block_until_ready(stepped)
            give_back()
        return tuple(stepped)

    trajectory = check_trajectory(
        manual_step,
        autodiff_step,
        start,
        islice(model.batches(), iterations),
        state=by_hand.initialize(start),
        free=small,
        entries=None if small else ENTRIES,
        progress=lambda step: next_phase("comparing training", step),
    )

    def train_by_hand(steps: int) -> Any:
        return manual.training.train(model.loss_and_gradients, start, islice(model.batches(), steps), by_hand)

    def train_fast(steps: int) -> Any:
        batches = islice(model.batches(), steps)
        return manual.fast.training.train(fast.loss_and_gradients, start, batches, by_hand_fast)

    def train_by_autodiff(steps: int) -> Any:
        batches = islice(model.batches(), steps)
        return autodiff.training.train(value_and_grad, start, batches, by_jax)

    fast_training = None  # stays None for a huge model, whose steps above were those of manual.fast
    sides = {"manual": train_by_hand} if small else {}
    sides |= {"manual-fast": train_fast, "autodiff": train_by_autodiff}
    if small:

        def some_steps_fast(parameters: Any, state: Any, batches: Any) -> Any:
            return manual.fast.training.train(fast.loss_and_gradients, parameters, batches, by_hand_fast, state=state)

        progress("comparing training by manual.fast", 0)
        fast_training = check_fast_training(
            some_steps_fast, compiled_step, start, islice(model.batches(), iterations), by_hand_fast.initialize(start)
        )

    next_phase("timing both sides")
    times = time_training(sides)
    next_phase("training both sides")
    losses, accuracy = {}, {}
    for side, train in sides.items():
        trained, _, recorded = train(iterations)
        losses[side] = np.asarray(recorded)
        predict = jax.jit(model.apply) if side == "autodiff" else (model if side == "manual" else fast).predict
        accuracy[side] = _accuracy(predict, trained, model.held_out)
    options = {key: value for key, value in options.items() if value is not None}
    settings = {**options, **common, "platform": device.platform}
    words = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in options.items())
    network = "\n".join(
        [f"{name}: {words}; {common['dtype']} on {name_of(device)}, seed {common['seed']}", *model.network]
    )
    sizes = {"name": model.data, "parameters": sum(leaf.size for leaf in jax.tree.leaves(start))}
    return Result(
        model=name,
        settings=settings,
        problem=model.data,
        sizes=sizes,
        network=network,
        device=name_of(device),
        gradients=gradients,
        trajectory=trajectory,
        losses=losses,
        accuracy=accuracy,
        times=times,
        environment=environment(),
        made_fast=made_fast,
        fast_training=fast_training,
    )


ENTRIES = 10_000  # the number of entries of each leaf of a large model that are compared at each step


def _accuracy(predict: Callable[..., Any], parameters: Any, held_out: Any) -> float | None:
    """The share of examples, or of characters, that are classified correctly by the largest logit."""
    if held_out is None:
        return None
    x, targets = held_out
    logits = np.asarray(predict(parameters, jnp.asarray(x) if isinstance(parameters, jax.Array) else x))
    return float((logits.argmax(axis=-1) == targets).mean())
