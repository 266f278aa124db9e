"""Runs a bench: measures the sizes one after another, and saves the results after each."""

import hashlib
import importlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from compare.bench.results import Bench, Cell
from compare.bench.turns import PAUSE, ROUND_SECONDS, measure
from compare.bench.workloads import BOUND, Workload, contestants
from compare.environment import environment, usable_cores
from compare.errors import BadInput, unknown
from compare.files import write_json
from compare.platform import on_platform, precise
from compare.suite.problem import DTYPES

ROUNDS = 9
KINDS = ("shallow", "models", "ops")
Progress = Callable[[str, int], None]


@dataclass(frozen=True)
class Settings:
    """What to time, and how.

    Attributes:
        kind: the module of `compare.bench` with the contestants: one of `KINDS`.
        sizes: the sizes of the workloads, which are measured in this order.
        only: the names of the contestants; if None, all that are installed.
        dtype: the dtype of the data and parameters, for all contestants.
        platform: where JAX and PyTorch run: cpu, gpu or tpu.
        rounds: the number of rounds at each size.
        threads: the number of cores and threads of each contestant; if None, as many as it takes by itself.
        seed: the seed of the data and the initial parameters.
        options: the options of the model; empty for other kinds.
    """

    kind: str
    sizes: Sequence[str]
    only: Sequence[str] | None = None
    dtype: str = "float32"
    platform: str = "cpu"
    rounds: int = ROUNDS
    threads: int | None = None
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise unknown("dtype", self.dtype, DTYPES)
        if not self.sizes or len(set(self.sizes)) < len(self.sizes):
            raise BadInput(
                f"--sizes must name one size or more, each of them once; got {', '.join(self.sizes) or 'none'}."
            )
        if self.only is not None and not set(self.only) - {BOUND}:
            raise BadInput("--only must name at least one contestant besides the GEMM bound, such as manual.")
        if self.threads is not None and self.threads > usable_cores():
            raise BadInput(
                f"--threads must be at most {usable_cores()}, the cores of this machine; got {self.threads}."
            )
        for name, value in (("rounds", self.rounds), ("threads", self.threads)):
            if value is not None and not 1 <= value <= 10_000:
                raise BadInput(f"--{name} must be from 1 to 10000, got {value}.")
        if not 0 <= self.seed < 2**32:
            raise BadInput(f"seed must be from 0 to 2**32 - 1 = 4294967295, got {self.seed}.")

    def workload(self, size: str) -> Workload:
        return Workload(self.kind, size, self.dtype, self.platform, self.seed, self.options)


def settings_for(
    sizes: str | None, model: str | None, op: str | None, given: dict[str, Any], **common: Any
) -> Settings:
    """The settings for the options of `backproof bench`.

    Args:
        sizes: --sizes, with commas between them.
        model: --model.
        op: --op, with commas between the names, or "all".
        given: the options of the model that were given.
        **common: the attributes of `Settings` that do not depend on the kind of workload.

    Returns:
        The settings. All their workloads are known to be valid.

    Raises:
        BadInput: for options that exclude each other, or names that do not exist.
    """
    if model is not None and (sizes is not None or op is not None):
        raise BadInput(
            "--model cannot be combined with --op or --sizes: each names another workload. Give one of them."
        )
    if model is None and given:
        raise BadInput(f"--{min(given).replace('_', '-')} applies to --model only.")
    if model is not None:
        kind, names = "models", [model]
    elif op is not None:
        every = importlib.import_module("compare.bench.ops").SIZES
        kind, names = "ops", list(every) if op == "all" else _split(op)
        if sizes is not None:
            names = [f"{name}:{size}" for name in names for size in _split(sizes)]
    else:
        kind, names = (
            "shallow",
            _split(",".join(importlib.import_module("compare.bench.shallow").SIZES) if sizes is None else sizes),
        )
    settings = Settings(kind, names, options=given, **common)
    for name in names:  # invalid names are refused before anything is timed
        contestants(settings.workload(name), settings.only)
    return settings


# Seconds that a contestant needs before its first round, to start its process, load its packages and compile.
READY = {"manual": 1.5, "torch-compiled": 40.0}
READY_USUALLY = 3.0
REFERENCE = 2.0  # seconds of the reference run in float64


def expected_seconds(settings: Settings, sizes: Sequence[str]) -> float:
    """The estimated time of these sizes in seconds, if no single step takes longer than a round should."""
    total = 0.0
    for size in sizes:
        names = [BOUND, *contestants(settings.workload(size), settings.only)]
        ready = sum(READY.get(name.removesuffix("-fast"), READY_USUALLY) for name in names)
        total += REFERENCE + ready + settings.rounds * len(names) * (ROUND_SECONDS + PAUSE)
    return total


def _announced(settings: Settings, sizes: Sequence[str]) -> str:
    seconds = expected_seconds(settings, sizes)
    words = f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
    counts = ((len(sizes), "size"), (settings.rounds, "round"))
    what = " of ".join(f"{count} {thing}{'s' if count != 1 else ''}" for count, thing in counts)
    return f"{what}: about {words}, or more if a single step takes longer than {ROUND_SECONDS} s"


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def bench(
    settings: Settings,
    *,
    path: Path | None = None,
    resume: bool = False,
    progress: Progress,
    note: Callable[[str], None] = lambda text: None,
) -> Iterator[Bench]:
    """Measure all sizes.

    Args:
        settings: what to time.
        path: a file for the results as JSON, which is written again after each size.
        resume: whether to take the sizes that are finished in `path` from there.
        progress: is called with a description of the current work and the number of finished sizes.
        note: is called with a sentence that says how long the run will take.

    Yields:
        The run after each size, with all results so far. It is the same object every time.

    Raises:
        BadInput: if a size cannot be timed, or the run in `path` has other settings.
    """
    with on_platform(settings.platform), precise():
        where = environment() | _versions(settings)
    if settings.threads is not None:
        where["cores"] = f"{settings.threads} for each contestant"
        where["BLAS"] = re.sub(r", \d+ threads?$", f", {settings.threads} threads", where["BLAS"])
    told = {name: value for name, value in asdict(settings).items() if name != "sizes"}
    run = Bench(told, where, list(settings.sizes))
    if resume and path is not None and path.exists():
        run.cells = _earlier(run, path)
        if run.cells:
            yield run
    note(_announced(settings, settings.sizes[len(run.cells) :]))
    for done, size in enumerate(settings.sizes):
        if done < len(run.cells):
            continue
        workload = settings.workload(size)

        def say(what: str, size: str = size, done: int = done) -> None:
            progress(f"{size}: {what}", done)

        names = contestants(workload, settings.only)
        measured = measure(workload, names, rounds=settings.rounds, threads=settings.threads, progress=say)
        run.cells.append(Cell(size, workload.module.described(workload), *measured))
        if path is not None:
            write_json(path, run.to_dict())
        yield run


def read(path: Path) -> Bench:
    """Read the results of a bench.

    Args:
        path: a file that `backproof bench --json` wrote.

    Returns:
        The run.

    Raises:
        BadInput: if the file cannot be read, or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not JSON"
        raise BadInput(f"{path} cannot be read: {reason}. Give a file that `backproof bench --json` wrote.") from error
    return Bench.from_dict(value, str(path))


def _earlier(run: Bench, path: Path) -> list[Cell]:
    """The finished cells of an interrupted run. Raises BadInput if its settings or its environment were different."""
    before = read(path)
    ours, theirs = ({"sizes": r.sizes, **r.to_dict()["settings"], **r.environment} for r in (run, before))
    for name in [name for name in {**ours, **theirs} if name != "date"]:
        if ours.get(name) != theirs.get(name):
            raise BadInput(
                f"{path} has a run with {name} {theirs.get(name)}, and this run has {ours.get(name)}, so it cannot be "
                "continued. Leave out --resume to begin anew."
            )
    whole = [cell for cell in before.cells if len(cell.finished()) == len(cell.measured)]
    return whole if whole == before.cells[: len(whole)] else []


def _versions(settings: Settings) -> dict[str, str]:
    """The versions of backproof and of the packages that only some contestants need."""
    found = {"backproof": f"{version('backproof')} ({_fingerprint()})"}
    for size in settings.sizes:
        workload = settings.workload(size)
        table = workload.module.CONTESTANTS
        names = contestants(workload, settings.only)
        needed = [needs for name in names if (needs := table[name].needs)] + ["scikit-learn"] * ("sklearn" in names)
        for package in [package for package in needed if package not in found]:
            try:
                found[package] = version(package)
            except PackageNotFoundError:
                found[package] = "of unknown version"
    return found


def _fingerprint() -> str:
    """A hash of the code that is timed, so that a run is not continued with different code."""
    digest = hashlib.sha256()
    for package in ("manual", "autodiff", "compare.bench"):
        (folder,) = importlib.import_module(package).__path__
        for path in sorted(Path(folder).glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
