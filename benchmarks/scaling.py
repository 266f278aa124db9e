"""Measures data-parallel training on an increasing number of devices, and predicts it for large machines.

    python -m benchmarks.scaling [--devices 1,2,4,8] [--features 784] [--hidden 512] [--examples 1024] [--json PATH]
    python -m benchmarks.scaling --predict

The measurement is of weak scaling: the number of examples on each device is the same for any number of devices, and
each device has a copy of the parameters. JAX divides this machine's CPU into the devices, and each number of devices is
timed in its own process. Because the devices share the cores, this shows the overhead of distribution and no speedup.
`x ideal` is the time of a step divided by that of the first row times the factor by which the work is larger.

The prediction is the time of a step's work on one device, plus that of a ring all-reduce of the gradients after the
backward pass. In the ring, each of N devices sends 2 (N - 1) / N of the gradients' bytes in 2 (N - 1) messages
(Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations", 2009).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from compare.environment import usable_cores

console = Console(width=None if sys.stdout.isatty() else 110)
ROUNDS = 7
ROUND_SECONDS = 0.3
RATE = 0.1


# --------------------------------------------------------------------------------------- measured


def step_seconds(devices: int, features: int, hidden: int, examples: int) -> list[float]:
    """The seconds of a step in each round. `examples` is the number on each device. JAX must have `devices` devices."""
    import jax
    import numpy as np

    import manual
    from compare.platform import precise
    from compare.suite.shallow import shallow_loss
    from compare.verify.sharding import Split, mesh_of, replicate, split_loss

    mesh, count = mesh_of(devices), devices * examples
    random = np.random.default_rng(0)
    x = random.standard_normal((features, count), np.float32)
    y = (random.random((1, count)) < 0.5).astype(np.float32)
    start = manual.initialize_parameters(features, hidden, 1, scale=features**-0.5, dtype=np.float32)
    split = Split(mesh, count, axis=1)
    loss = split_loss(shallow_loss, split)

    def step(parameters: Any, x: Any, y: Any) -> Any:
        _, gradients = jax.value_and_grad(loss)(parameters, x, y)
        return jax.tree.map(lambda value, gradient: value - RATE * gradient, parameters, gradients)

    with precise(start):
        compiled = jax.jit(step, donate_argnums=0)
        parameters, data = replicate(mesh, start), (split.load(x), split.load(y))

        def run(steps: int) -> float:
            nonlocal parameters
            begin = time.perf_counter()
            for _ in range(steps):
                # Each step is awaited: with fewer cores than devices, several steps at once may deadlock.
                parameters = jax.block_until_ready(compiled(parameters, *data))
            return (time.perf_counter() - begin) / steps

        run(2)
        steps = max(2, round(ROUND_SECONDS / run(2)))
        return [run(steps) for _ in range(ROUNDS)]


def in_a_process(devices: int, *sizes: int) -> list[float]:
    """`step_seconds` in a new process, in which JAX divides the CPU into this number of devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    code = (
        f"import json; from benchmarks.scaling import step_seconds; print(json.dumps(step_seconds{(devices, *sizes)}))"
    )
    environment = os.environ | {"XLA_FLAGS": flags.strip(), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def measure(counts: Sequence[int], features: int, hidden: int, examples: int) -> list[dict[str, Any]]:
    cores = usable_cores()
    rows: list[dict[str, Any]] = []
    for devices in counts:
        seconds = in_a_process(devices, features, hidden, examples)
        rows.append({"devices": devices, "examples": devices * examples, "rounds": seconds})
    first = statistics.median(rows[0]["rounds"])
    for row in rows:
        # A single device already uses all cores of the CPU, so the ideal time grows with the number of devices.
        ideal = first * row["devices"] / rows[0]["devices"]
        row |= {"median": statistics.median(row["rounds"]), "cores": cores}
        row["times_ideal"] = row["median"] / ideal
    return rows


def show_measured(rows: Sequence[dict[str, Any]], what: str) -> None:
    table = Table(title=f"Weak scaling, {what}, float32, {rows[0]['cores']} cores", title_justify="left")
    for heading in ("devices", "examples", "a step", "fastest", "slowest", "x ideal"):
        table.add_column(heading, justify="right")
    for row in rows:
        milliseconds = (f"{1e3 * t:.2f} ms" for t in (row["median"], min(row["rounds"]), max(row["rounds"])))
        table.add_row(str(row["devices"]), f"{row['examples']:,}", *milliseconds, f"{row['times_ideal']:.2f}")
    console.print(table)


# -------------------------------------------------------------------------------------- predicted


@dataclass(frozen=True)
class Machine:
    """The assumptions of the prediction on each device.

    Attributes:
        name: the name of the device.
        flops: the operations per second that matrix products reach.
        near_bandwidth: the bytes per second between two devices of one machine, in one direction.
        far_bandwidth: the same between two machines.
        latency: the seconds of a message.
        in_a_machine: the number of devices of a machine.
    """

    name: str
    flops: float
    near_bandwidth: float
    far_bandwidth: float
    latency: float
    in_a_machine: int = 8


@dataclass(frozen=True)
class Job:
    name: str
    flops: float  # the number of operations in a step on each device
    parameters: int


# NVIDIA's data sheet of the H100 SXM gives 67 TFLOP/s for float32, of which half is assumed, and 900 GB/s for NVLink in
# both directions together. One network card of 400 Gb/s for each device, and the latency, are assumptions.
H100 = Machine("H100 SXM, float32", 33e12, 450e9, 50e9, 5e-6)
JOBS = (
    Job("784x512x4096 a device", 2 * 4096 * (2 * 784 * 512 + 3 * 512), 784 * 512 + 512 + 512 + 1),
    # The forward and backward pass take 6 operations for each token and parameter: Kaplan et al., "Scaling laws for
    # neural language models" (2020), section 2.1.
    Job("GPT-2 124M, 8 x 1024 tokens a device", 6 * 124_439_808 * 8 * 1024, 124_439_808),
)


def predicted(job: Job, devices: int, machine: Machine = H100) -> dict[str, float]:
    """The seconds of work and of communication in a step, and the share of the work in their sum."""
    work = job.flops / machine.flops
    bandwidth = machine.near_bandwidth if devices <= machine.in_a_machine else machine.far_bandwidth
    sent = 2 * (devices - 1) / devices * 4 * job.parameters
    exchange = sent / bandwidth + 2 * (devices - 1) * machine.latency
    return {"work": work, "exchange": exchange, "efficiency": work / (work + exchange)}


def show_predicted(counts: Sequence[int]) -> None:
    table = Table(title=f"A prediction, not a measurement: {H100.name}", title_justify="left")
    for heading in ("each device's work", "devices", "work", "exchange", "efficiency"):
        table.add_column(heading, justify="left" if heading.startswith("each") else "right")
    for job in JOBS:
        for devices in counts:
            cost = predicted(job, devices)
            times = (f"{1e3 * cost[name]:.3g} ms" for name in ("work", "exchange"))
            table.add_row(job.name, f"{devices:,}", *times, f"{cost['efficiency']:.0%}")
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--devices", metavar="N,...", help="default: 1,2,4,8, or with --predict 8,64,1024")
    parser.add_argument("--features", type=int, default=784)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--examples", type=int, default=1024, help="the number of examples on each device (1024)")
    parser.add_argument("--predict", action="store_true", help="print the predictions of the cost model")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the figures as JSON")
    options = parser.parse_args(arguments)
    text = options.devices or ("8,64,1024" if options.predict else "1,2,4,8")
    counts = [int(count) for count in text.split(",") if count.strip().isdigit()]
    if not counts or len(counts) != len(text.split(",")) or min(counts) < 1:
        parser.error(f"--devices must be numbers with commas between them, got {text}")
    if min(options.features, options.hidden, options.examples) < 1:
        parser.error("--features, --hidden and --examples must be at least 1")
    if options.predict:
        show_predicted(counts)
        found: Any = [asdict(job) | {"devices": n} | predicted(job, n) for job in JOBS for n in counts]
    else:
        sizes = (options.features, options.hidden, options.examples)
        found = measure(counts, *sizes)
        show_measured(found, f"{options.features}x{options.hidden}, {options.examples} examples a device")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
