"""The work of `backproof verify --devices`: compares several devices with one, and with the gradients by hand."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice, repeat
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import autodiff.optimizers
import manual
from compare.judge.gradients import check_gradients
from compare.judge.reports.gradient_report import GradientReport
from compare.judge.reports.tables import plain_text
from compare.judge.reports.trajectory_report import TrajectoryReport
from compare.judge.reports.verdict import Verdict, plain
from compare.judge.trajectory import check_trajectory
from compare.platform import on_platform, precise
from compare.suite.datasets import DATASETS, load
from compare.suite.models import build, settled
from compare.suite.shallow import shallow_by_hand, shallow_loss
from compare.verify.memory import Note, Size, check_fits, model_size, nobody, shallow_size
from compare.verify.shallow import Settings
from compare.verify.sharding import Parallel, mesh_of

STEPS = 20
Progress = Callable[[str, int], None]
Fits = Callable[[str, Size], None]  # raises BadInput if a model of this size does not fit into memory


@dataclass(frozen=True)
class ParallelResult:
    """Reports on gradients and training on all devices, compared with one device, and on the gradients by hand."""

    settings: dict[str, Any]
    devices: int
    processes: int
    gradients: dict[str, GradientReport]  # by the side that was compared with one device
    training: TrajectoryReport

    @property
    def verdict(self) -> Verdict:
        return Verdict.of([report.verdict for report in (*self.gradients.values(), self.training)])

    def __str__(self) -> str:
        devices = "1 device" if self.devices == 1 else f"{self.devices} devices"
        where = f"{devices} in {'1 process' if self.processes == 1 else f'{self.processes} processes'}"
        parts = [f"{name}: {value}" for name, value in self.settings.items()]
        told = [plain_text(f"Gradients, {name}", str(report)) for name, report in self.gradients.items()]
        told.append(plain_text("Training by all devices", str(self.training)))
        agree = f"on {where}, gradients and {self.training.steps} steps of training are those of one device and by hand"
        last = f"AGREE: {agree}." if self.verdict is Verdict.AGREE else f"{self.verdict.name}: see above, on {where}."
        return "\n\n".join([f"{where}; {', '.join(parts)}", *told, last])

    def to_dict(self) -> dict[str, Any]:
        return plain(
            {
                "verdict": self.verdict,
                "settings": self.settings,
                "devices": self.devices,
                "processes": self.processes,
                "gradients": {name: report.to_dict() for name, report in self.gradients.items()},
                "training": self.training.to_dict(),
            }
        )


class Subject(NamedTuple):
    """A network, and how to train it. `axis` is the axis of the examples in every array of a batch."""

    by_hand: Callable[..., Any]
    loss: Callable[..., Any]
    parameters: Any
    batches: Iterator[tuple[Any, ...]]
    axis: int
    optimizer: Any
    about: dict[str, Any]


def _shallow(given: dict[str, Any], devices: int, seed: int, dtype: str, fits: Fits) -> Subject:
    settings = Settings(**given, seed=seed, dtype=dtype)
    problem = load(settings.dataset, seed=seed).astype(np.dtype(dtype))
    usual = DATASETS.get(settings.dataset, DATASETS["breast-cancer"])
    hidden, rate = settings.hidden or usual.hidden, settings.learning_rate or usual.learning_rate
    x, y = problem.train_x, problem.train_y
    fits("shallow", shallow_size(x, y, hidden))
    sizes = manual.layer_structure(x, y, hidden)
    start = manual.initialize_parameters(*sizes, seed=seed, scale=settings.scale, dtype=x.dtype)
    about = {"dataset": settings.dataset, "hidden": hidden, "examples": x.shape[1]}
    return Subject(shallow_by_hand, shallow_loss, start, repeat((x, y)), 1, autodiff.optimizers.sgd(rate), about)


def _model(name: str, given: dict[str, Any], devices: int, seed: int, dtype: str, fits: Fits) -> Subject:
    """A model of the catalog. Unless `batch` is given, its batches do not divide evenly over the devices."""
    given = {"batch": 4 * devices - 1, **given}
    fits(name, model_size(name, settled(name, given)))
    model, options = build(name, given, seed=seed, dtype=dtype)

    def by_hand(parameters: Any, x: Any, targets: Any) -> Any:
        intermediates: dict[str, Any] = {}
        loss, gradients = model.loss_and_gradients(parameters, x, targets, intermediates=intermediates)
        return loss, gradients, intermediates

    optimizer = autodiff.optimizers.OPTIMIZERS[options["optimizer"]](options["learning_rate"])
    about = {"batch": options["batch"], "optimizer": options["optimizer"]}
    return Subject(by_hand, model.loss, model.parameters, model.batches(), 0, optimizer, about)


def verify_parallel(
    name: str,
    given: dict[str, Any],
    *,
    seed: int = 0,
    dtype: str = "float64",
    platform: str = "cpu",
    progress: Progress = lambda what, steps: None,
    note: Note = nobody,
) -> ParallelResult:
    """Compare a network on all devices with one device, and with the gradients derived by hand.

    Every process calls this function and gets the same verdict; only the work of the devices is divided among them.

    Args:
        name: `shallow`, or the name of a model of `compare.suite.models`.
        given: options of `compare.verify.shallow.Settings`, or of the model.
        seed: the seed of the parameters and the batches.
        dtype: the dtype of the parameters.
        platform: the platform of JAX.
        progress: is called with a description of the current work, and the number of finished steps.
        note: is called with a sentence on the memory that is needed.

    Returns:
        All results.

    Raises:
        BadInput: for unknown options, or if the memory is not sufficient.
    """
    steps = int(given.get("iterations", STEPS))
    with on_platform(platform) as device:
        mesh = mesh_of()

        def fits(model: str, size: Size) -> None:
            if device.platform == "cpu":  # the memory of accelerators is not checked
                local = mesh.size // jax.process_count()
                check_fits(model, size, iterations=steps, devices=local, note=note)

        progress("building the model", 0)
        own = {option: value for option, value in given.items() if option != "iterations"}
        make = _shallow if name == "shallow" else partial(_model, name)
        subject = make(own, mesh.size, seed, dtype, fits)
        with precise(subject.parameters):
            gradients, training = _verify(subject, mesh, steps, progress)
    settings = {"model": name, **subject.about, "dtype": dtype, "seed": seed, "platform": platform}
    return ParallelResult(settings, mesh.size, jax.process_count(), gradients, training)


def _verify(subject: Subject, mesh: Any, steps: int, progress: Progress) -> tuple[dict[str, Any], TrajectoryReport]:
    loss, optimizer = subject.loss, subject.optimizer
    spread = Parallel(loss, mesh, subject.axis)
    first = next(subject.batches)
    reports = {}
    for side, function in {
        "derived by hand": subject.by_hand,
        "by all devices": spread.loss_and_gradients,
        "by all devices, parameters sharded": Parallel(loss, mesh, subject.axis, shard=True).loss_and_gradients,
    }.items():
        progress(f"checking gradients {side}", 0)
        reports[side] = check_gradients(function, loss, subject.parameters, *first, probes=False)
    value_and_grad = jax.value_and_grad(loss)

    def parallel_step(parameters: Any, state: Any, *batch: Any) -> Any:
        return spread.train(parameters, [batch], optimizer, state=state)[:2]

    @jax.jit
    def step(parameters: Any, state: Any, *batch: Any) -> Any:
        _, gradients = value_and_grad(parameters, *batch)
        return optimizer.update(parameters, gradients, state)

    training = check_trajectory(
        parallel_step,
        step,
        subject.parameters,
        islice(subject.batches, steps),
        state=jax.tree.map(np.asarray, optimizer.initialize(jax.tree.map(jnp.asarray, subject.parameters))),
        progress=lambda done: progress("comparing training", done),
    )
    return reports, training
