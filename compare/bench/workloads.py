"""Workloads: the work to be timed, as plain data that can be sent to the processes of the contestants."""

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, NamedTuple, Protocol

import numpy as np

from compare.errors import BadInput, unknown


@dataclass(frozen=True)
class Workload:
    """Some work to be timed.

    Attributes:
        kind: the module that defines the contestants: one of this package or, if there are dots in its name, any other.
        size: the size of the work. Each kind defines its own form of sizes.
        dtype: the dtype of the data and parameters.
        platform: where JAX and PyTorch run: cpu, gpu or tpu.
        seed: the seed of the data and the initial parameters.
        options: the options of the model; empty for other kinds.
    """

    kind: str
    size: str
    dtype: str = "float32"
    platform: str = "cpu"
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def module(self) -> "Kind":
        name = self.kind if "." in self.kind else f"compare.bench.{self.kind}"
        return importlib.import_module(name)  # type: ignore[return-value]  # the module has the names of the protocol


class Runner(NamedTuple):
    """A contestant's work, prepared.

    Attributes:
        run: `run(steps)` continues where the last call ended, and returns when the results are computed.
        outcome: the results by name: parameters after the steps so far, or a value with its gradients.
        transfer: the seconds of the transfer of the data to the device, if there was one.
        flops: the number of operations in a step, if known.
    """

    run: Callable[[int], Any]
    outcome: Callable[[], dict[str, np.ndarray]]
    transfer: float | None = None
    flops: int | None = None


def of_package(package: str, runner: Runner) -> Runner:
    """The runner of a package by hand. That of `manual.fast` keeps its threads, as the other contestants do."""
    if package != "manual.fast":
        return runner

    def run(steps: int) -> Any:
        from manual.fast import keep_threads

        with keep_threads():
            return runner.run(steps)

    return runner._replace(run=run)


class Contestant(NamedTuple):
    """An implementation of a workload.

    Attributes:
        prepare: `prepare(workload)` returns its runner.
        about: a short description.
        needs: the package that it requires beside those of this project.
        on_cpu: whether it is timed on a CPU; false if it would be the same there as another contestant.
    """

    prepare: Callable[[Workload], Runner]
    about: str
    needs: str | None = None
    on_cpu: bool = True

    @property
    def installed(self) -> bool:
        return self.needs is None or find_spec(self.needs) is not None


class Kind(Protocol):
    """The names that a module of contestants defines."""

    CONTESTANTS: dict[str, Contestant]

    @staticmethod
    def described(workload: Workload) -> str:
        """A description of the workload, beyond its size."""
        ...

    @staticmethod
    def traced(workload: Workload) -> Any:
        """The JAX program of the work, whose matrix products are the GEMM bound. It is not run."""
        ...

    @staticmethod
    def able(workload: Workload) -> list[str]:
        """The contestants that can do it, in the order in which they are shown."""
        ...


BOUND = "bound"  # the GEMM bound, which is timed like a contestant


def shown(name: str) -> str:
    """The name of a contestant, or of the bound, as it is printed."""
    return "GEMM bound" if name == BOUND else name


def contestants(workload: Workload, only: Iterable[str] | None = None) -> list[str]:
    """The contestants, without the GEMM bound: all that are installed, or those of `only` that can do the work.

    Raises:
        BadInput: for an unknown name, or a package that is not installed.
    """
    table = workload.module.CONTESTANTS
    able = [name for name in workload.module.able(workload) if table[name].on_cpu or workload.platform != "cpu"]
    if only is None:
        return [name for name in able if table[name].installed]
    chosen = list(dict.fromkeys(only))
    for name in chosen:
        if name not in table and name != BOUND:
            raise unknown(f"contestant for {workload.kind}", name, table)
        if name in table and not table[name].installed:
            raise BadInput(
                f"{name} needs {table[name].needs}, which is not installed: .venv/bin/pip install -e '.[peers]'."
            )
        if name in table and not table[name].on_cpu and workload.platform == "cpu":
            raise BadInput(
                f"{name} is timed on accelerators only, because on a CPU it is the same as another contestant. Leave "
                "it out of --only."
            )
    return [name for name in chosen if name in able]
