"""The work of `backproof verify`: compares all gradients and training steps of the notebook's network on both sides."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import repeat
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import autodiff
import manual
import manual.fast
from compare.environment import environment, name_of
from compare.errors import BadInput, unknown
from compare.judge.gradients import check_gradients
from compare.judge.reports.gradient_report import GradientReport
from compare.judge.reports.tables import plain_text
from compare.judge.reports.trajectory_report import TrajectoryReport
from compare.judge.reports.verdict import Verdict, plain
from compare.judge.trajectory import check_trajectory
from compare.platform import on_platform, precise
from compare.suite.datasets import DATASETS, load
from compare.suite.problem import DTYPES, Problem
from compare.suite.shallow import shallow_by_hand, shallow_loss
from compare.verify.fast_training import STEPS, check_fast_training
from compare.verify.memory import Note, check_fits, nobody, shallow_size
from compare.verify.timing import TrainingTimes, time_training

LARGEST = 2**40  # of --hidden and --iterations; with larger numbers, array sizes overflow

Progress = Callable[[str, int], None]  # (a description of the current work, the number of finished steps)


@dataclass(frozen=True)
class Settings:
    """What to verify. The defaults of `hidden` and `learning_rate` depend on the dataset."""

    dataset: str = "breast-cancer"
    hidden: int | None = None
    iterations: int = 1000
    learning_rate: float | None = None
    scale: float = 0.1
    seed: int = 0
    dtype: str = "float64"
    platform: str = "cpu"

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise unknown("dtype", self.dtype, DTYPES)
        for name in ("hidden", "iterations", "learning_rate", "scale"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise BadInput(f"{name.replace('_', ' ')} must be positive and finite, got {value}.")
        if self.seed < 0:
            raise BadInput(f"seed must not be negative, got {self.seed}.")
        if self.seed >= 2**32:
            raise BadInput(f"seed must be below 2**32 = 4294967296, got {self.seed}.")
        for name in ("hidden", "iterations"):
            if (getattr(self, name) or 0) > LARGEST:
                raise BadInput(f"{name} must be at most {LARGEST}, got {getattr(self, name)}.")


@dataclass(frozen=True)
class Result:
    """The results of `backproof verify`, which it prints and draws.

    Attributes:
        model: the name of the model.
        settings: all options.
        problem: a description of the data.
        sizes: the sizes of the data, for JSON.
        network: a description of the network.
        device: the device of JAX.
        gradients: the report on the gradients of `manual` at the initial parameters.
        trajectory: the report on the training steps of `manual`, or of `manual.fast` if the model is large.
        losses: the loss before each step, by side.
        accuracy: the accuracy on the held-out examples, by side.
        times: the time per step.
        environment: the versions and the machine.
        data: the data, from which decision boundaries are drawn; not in the JSON.
        trained: the trained parameters by side, for the same purpose; not in the JSON, because they may be large.
        made_fast: the report on the gradients of `manual.fast` at the initial parameters.
        fast_training: the report on training by `manual.fast`; None if `trajectory` is that report.
    """

    model: str
    settings: dict[str, Any]
    problem: str
    sizes: dict[str, Any]
    network: str
    device: str
    gradients: GradientReport
    trajectory: TrajectoryReport
    losses: dict[str, np.ndarray]
    accuracy: dict[str, float | None]
    times: TrainingTimes
    environment: dict[str, str]
    data: Problem | None = None
    trained: dict[str, Any] | None = None
    made_fast: GradientReport | None = None
    fast_training: TrajectoryReport | None = None

    @property
    def _reports(self) -> list[tuple[str, GradientReport | TrajectoryReport]]:
        """All reports in the order of their importance, with a prefix for the sentences that are not on `manual`."""
        of_trajectory = "manual.fast, training: " if self.large else ""
        reports = [
            ("", self.gradients),
            (of_trajectory, self.trajectory),
            ("manual.fast, gradients at the start: ", self.made_fast),
            ("manual.fast, training: ", self.fast_training),
        ]
        return [(what, report) for what, report in reports if report is not None]

    @property
    def large(self) -> bool:
        """Whether the model is so large that it was trained by `manual.fast` and not by `manual`."""
        return "manual" not in self.losses

    @property
    def verdict(self) -> Verdict:
        return Verdict.of([report.verdict for _, report in self._reports])

    @property
    def sentence(self) -> str:
        verdict = self.verdict
        if verdict is Verdict.AGREE:
            steps = self.trajectory.steps
            return f"AGREE: by hand and by JAX, every gradient and all {steps} steps of training are the same."
        what, report = next((what, report) for what, report in self._reports if report.verdict is verdict)
        _, words = report.sentence.split(": ", 1)
        return f"{verdict.name}: {what}{words}"

    def to_dict(self) -> dict[str, Any]:
        return plain(
            {
                "verdict": self.verdict,
                "model": self.model,
                "settings": self.settings,
                "problem": self.sizes,
                "network": self.network,
                "device": self.device,
                "gradients": self.gradients.to_dict(),
                "trajectory": self.trajectory.to_dict(),
                "made_fast": None if self.made_fast is None else self.made_fast.to_dict(),
                "fast_training": None if self.fast_training is None else self.fast_training.to_dict(),
                "losses": {
                    name: dict(zip(("steps", "values"), self.loss_curve(name), strict=True)) for name in self.losses
                },
                "accuracy": self.accuracy,
                "seconds_per_step": {side: asdict(seconds) for side, seconds in self.times.sides.items()},
                "compilation_seconds": self.times.compilation,
                "versions": {"numpy": np.__version__, "jax": jax.__version__},
                "environment": self.environment,
            }
        )

    def loss_curve(self, side: str, points: int = 1000) -> tuple[list[int], list[float]]:
        """At most `points` evenly spaced steps, which include the first and the last, and the losses at these steps."""
        losses = self.losses[side]
        steps = np.unique(np.linspace(0, len(losses) - 1, min(points, len(losses))).round().astype(int))
        return steps.tolist(), losses[steps].tolist()

    def __str__(self) -> str:
        curves = list(self.losses.values())
        known = [f"{side} {value:.4f}" for side, value in self.accuracy.items() if value is not None]
        fast = [f"Gradients: {self.made_fast.sentence}"] if self.made_fast is not None else []
        fast += (
            [f"Training, in calls of {min(STEPS, len(curves[0]))} steps each: {self.fast_training.sentence}"]
            if self.fast_training is not None
            else []
        )
        return "\n".join(
            [
                self.problem,
                self.network,
                "",
                plain_text("Gradients at the start", str(self.gradients)),
                "",
                plain_text("Training, by manual.fast" if self.large else "Training", str(self.trajectory)),
                *(["", plain_text("The same by manual.fast", *fast)] if fast else []),
                "",
                f"Loss: from {float(curves[0][0]):.6g} to",
                *(f"  {side:<11} {losses[-1]:.9g}" for side, losses in self.losses.items()),
                f"Held-out accuracy: {', '.join(known) or 'none held out'}",
                str(self.times),
                "",
                self.sentence,
            ]
        )


def verify(settings: Settings, progress: Progress = lambda what, steps: None, note: Note = nobody) -> Result:
    """Compare both sides on a dataset.

    Args:
        settings: what to verify.
        progress: is called with a description of the current work, and the number of finished steps.
        note: is called with a sentence on the memory that is needed.

    Returns:
        All results.

    Raises:
        BadInput: for an unknown dataset or platform, unsuitable data, or if the memory is not sufficient.
    """
    with on_platform(settings.platform) as device:
        progress("loading data", 0)
        problem = load(settings.dataset, seed=settings.seed).astype(np.dtype(settings.dtype))
        for remark in problem.notes:
            note(remark)
        usual = DATASETS.get(settings.dataset, DATASETS["breast-cancer"])
        hidden, rate = settings.hidden or usual.hidden, settings.learning_rate or usual.learning_rate
        settings = replace(settings, hidden=hidden, learning_rate=rate)
        if device.platform == "cpu":  # the memory of accelerators is not checked
            size = shallow_size(problem.train_x, problem.train_y, hidden)
            check_fits("shallow", size, iterations=settings.iterations, note=note)
        with precise(problem.train_x):
            return _verify(settings, problem, hidden, rate, device, progress)


def _verify(settings: Settings, problem: Problem, hidden: int, rate: float, device: Any, progress: Progress) -> Result:
    x, y = problem.train_x, problem.train_y
    sizes = manual.layer_structure(x, y, hidden)
    start = manual.initialize_parameters(*sizes, seed=settings.seed, scale=settings.scale, dtype=x.dtype)

    progress("checking gradients", 0)
    gradients = check_gradients(shallow_by_hand, shallow_loss, start, x, y)

    made_fast = check_gradients(
        manual.fast.shallow.loss_and_gradients, shallow_loss, start, x, y, probes=False, references=False
    )

    device_x, device_y = jnp.asarray(x), jnp.asarray(y)

    def manual_step(parameters: Any) -> Any:
        _, gradients = manual.loss_and_gradients(parameters, x, y)
        return manual.update_parameters(parameters, gradients, rate)

    @jax.jit
    def compiled_step(parameters: Any, state: Any, x: Any, y: Any) -> Any:
        loss, gradients = autodiff.loss_and_gradients(parameters, x, y)
        return autodiff.update_parameters(parameters, gradients, rate), state, loss

    def autodiff_step(parameters: Any) -> Any:
        return compiled_step(parameters, {}, device_x, device_y)[0]

    trajectory = check_trajectory(
        manual_step,
        autodiff_step,
        start,
        repeat((), settings.iterations),
        progress=lambda step: progress("comparing training", step),
    )

    def some_steps_fast(parameters: Any, state: Any, batches: Any) -> Any:
        trained, losses = manual.fast.shallow.train(
            parameters, *batches[0], iterations=len(batches), learning_rate=rate
        )
        return trained, state, losses

    progress("comparing training by manual.fast", 0)
    fast_training = check_fast_training(
        some_steps_fast, compiled_step, start, repeat((x, y), settings.iterations), state={}
    )

    def train_manually(steps: int) -> Any:
        return manual.train(start, x, y, iterations=steps, learning_rate=rate)

    def train_fast(steps: int) -> Any:
        return manual.fast.shallow.train(start, x, y, iterations=steps, learning_rate=rate)

    device_start = jax.tree.map(jnp.asarray, start)

    def train_by_autodiff(steps: int) -> Any:
        return autodiff.train(device_start, device_x, device_y, iterations=steps, learning_rate=rate)

    sides = {"manual": train_manually, "manual-fast": train_fast, "autodiff": train_by_autodiff}
    progress("timing both sides", 0)
    times = time_training(sides)
    progress("training both sides", 0)
    trained, losses, accuracy = {}, {}, {}
    for side, train in sides.items():
        trained[side], losses[side] = train(settings.iterations)
        losses[side] = np.asarray(losses[side])
        predict = autodiff.predict if side == "autodiff" else manual.predict
        right = np.asarray(predict(problem.test_x, trained[side])) == problem.test_y
        accuracy[side] = float(right.all(axis=0).mean()) if right.size else None
    s, place = settings, name_of(device)
    network = (
        f"network: {hidden} hidden units (tanh), sigmoid outputs; {s.dtype} on {place}; "
        f"{s.iterations} iterations at learning rate {rate:g}, scale {s.scale:g}, seed {s.seed}"
    )
    about = {
        "name": problem.name,
        "features": x.shape[0],
        "outputs": y.shape[0],
        "train_examples": x.shape[1],
        "test_examples": problem.test_x.shape[1],
        "notes": list(problem.notes),
    }
    return Result(
        model="shallow",
        settings=asdict(s),
        problem=str(problem),
        sizes=about,
        network=network,
        device=place,
        gradients=gradients,
        trajectory=trajectory,
        losses=losses,
        accuracy=accuracy,
        times=times,
        environment=environment(),
        data=problem,
        trained=trained,
        made_fast=made_fast,
        fast_training=fast_training,
    )
