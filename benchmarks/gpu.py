"""Verifies and times training on an accelerator, in one run of less than ten minutes.

    python -m benchmarks.gpu [--platform gpu|cpu] [--quick] [--json PATH]

There are three parts: `verify --platform gpu` for gpt and lstm in float64; 32 steps of `autodiff.train` in one call,
compared with 32 calls of one step; and `bench --platform gpu` at three sizes. Each command runs in its own process with
a time limit, so that one that fails or hangs does not affect the others. The figures are printed as a table, and
written as JSON after each part. `--quick --platform cpu` runs all parts at tiny sizes without an accelerator.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

STEPS = 32
SECONDS = 120  # the time limit of each command; three of them and the loop stay under ten minutes
LOOP_SECONDS = 60
SIZES, QUICK_SIZES = "30x32x569,784x128x1024,784x512x4096", "2x4x400,3x4x64,4x8x32"


@dataclass(frozen=True)
class Options:
    platform: str
    quick: bool


def verified(model: str, options: Options) -> dict[str, Any]:
    """The verdict and the seconds per step of `verify --model`."""
    steps = ["--iterations", "2"] if options.quick else ["--iterations", "50"]
    small = ["--hidden", "4", "--length", "4", "--batch", "2"] if options.quick else []
    value = _command(["verify", "--model", model, "--dtype", "float64", *steps, *small], options)
    if "failed" in value:
        return value
    figures = {f"{side}, s/step": seconds["median"] for side, seconds in value["seconds_per_step"].items()}
    return {"verdict": value["verdict"], "device": value["device"], **figures}


def timed_loop(options: Options) -> dict[str, Any]:
    """The result of `loop`, in a child process."""
    child = [sys.executable, "-m", "benchmarks.gpu", "--platform", options.platform, "--loop"]
    return _json_of(child + ["--quick"] * options.quick, LOOP_SECONDS)


def loop(options: Options) -> dict[str, Any]:
    """The seconds of STEPS steps of `autodiff.train` in one call, and of STEPS calls of one step."""
    import jax
    import jax.numpy as jnp

    import autodiff
    from compare.bench.shallow import RATE, data
    from compare.bench.workloads import Workload
    from compare.platform import on_platform

    size = "3x4x64" if options.quick else "784x128x1024"
    with on_platform(options.platform) as device:
        x, y, start = jax.tree.map(jnp.asarray, data(Workload("shallow", size, "float32", options.platform, 0, {})))

        def seconds(calls: int, steps: int) -> float:
            begin, parameters = time.perf_counter(), start
            for _ in range(calls):
                parameters, _ = autodiff.train(parameters, x, y, iterations=steps, learning_rate=RATE)
            jax.block_until_ready(parameters)
            return time.perf_counter() - begin

        ways = {f"one call of {STEPS} steps, s": (1, STEPS), f"{STEPS} calls of one step, s": (STEPS, 1)}
        for way in ways.values():
            seconds(*way)  # compiles
        return {"size": size, "device": device.device_kind} | {
            name: min(seconds(*way) for _ in range(5)) for name, way in ways.items()
        }


def benched(options: Options) -> dict[str, Any]:
    """The median seconds of a step, by size and contestant."""
    sizes = QUICK_SIZES if options.quick else SIZES
    only = "manual-fast,autodiff" if options.quick else "manual-fast,autodiff,jax-expert,torch"
    value = _command(["bench", "--sizes", sizes, "--only", only, "--rounds", "3" if options.quick else "9"], options)
    return value if "failed" in value else medians(value)


def medians(value: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for cell in value["cells"]:
        for name, timing in cell["contestants"].items():
            found[f"{cell['size']} {name}, s/step"] = timing.get("median", timing["failure"])
    return found


def _command(arguments: list[str], options: Options) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "result.json")
        command = [sys.executable, "-m", "compare", *arguments, "--platform", options.platform, "--json", str(path)]
        return _json_of(command, SECONDS, path)


def _json_of(command: list[str], seconds: float, path: Path | None = None) -> dict[str, Any]:
    """The JSON that a command writes to a file or to stdout, or the reason why it failed. DISAGREE is not a failure."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"it took more than {seconds} s"}
    text = done.stdout if path is None else path.read_text("utf-8") if path.exists() else ""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        last = [line for line in done.stderr.splitlines() if line.strip()][-1:]
        return {"failed": last[0] if last else f"it ended with status {done.returncode}"}


PARTS: dict[str, Callable[[Options], dict[str, Any]]] = {
    "verify gpt, float64": lambda options: verified("gpt", options),
    "verify lstm, float64": lambda options: verified("lstm", options),
    "loop of autodiff.train": timed_loop,
    "bench": benched,
}


def shown(found: dict[str, dict[str, Any]]) -> Table:
    table = Table("part", "figure", "value")
    for part, figures in found.items():
        for name, value in figures.items():
            table.add_row(part, name, f"{value:.3g}" if isinstance(value, float) else str(value))
    return table


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--platform", default="gpu", choices=["gpu", "cpu"])
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--loop", action="store_true", help="run the loop only, and print its result as JSON")
    given = parser.parse_args(arguments)
    options = Options(given.platform, given.quick)
    if given.loop:
        print(json.dumps(loop(options)))
        return 0
    found: dict[str, dict[str, Any]] = {}
    for name, part in PARTS.items():
        begin = time.perf_counter()
        found[name] = part(options)
        found[name]["took, s"] = time.perf_counter() - begin
        if given.json:
            given.json.write_text(json.dumps(found, indent=2), "utf-8")
    Console().print(shown(found))
    return int(any("failed" in figures or figures.get("verdict") == "disagree" for figures in found.values()))


if __name__ == "__main__":
    sys.exit(main())
