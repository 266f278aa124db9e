"""The command `python -m benchmarks.low_precision [--seeds N] [--json PATH]`."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from threadpoolctl import threadpool_limits

from benchmarks.low_precision import score

console = Console(width=None if sys.stdout.isatty() else 110)
notes = Console(stderr=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.low_precision", description=score.__doc__)
    parser.add_argument("--seeds", type=int, default=score.SEEDS, metavar="N", help="of every right kernel (10)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write all results as JSON")
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        parser.error(f"--seeds must be 1 or more, got {options.seeds}")
    with threadpool_limits(
        1
    ):  # if the cores are busy, matrix products of this size take twenty times as long with several threads
        results = score.measure(options.seeds, lambda words: notes.print(words, markup=False, highlight=False))
    console.print(score.compared(results))
    console.print(score.by_fault(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
