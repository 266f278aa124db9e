"""Counts the faults in 16-bit kernels that are caught, and the correct kernels that are rejected, by each criterion."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from rich.table import Table

from benchmarks.low_precision.kernels import DTYPES, KERNELS, Kernel, Work, upcast
from benchmarks.low_precision.peers import PEERS, Seen, seen
from compare import Verdict, check_vjp

OURS = "backproof check_vjp"
SEEDS = 10
# By name: whether the kernel stores intermediate results in 16 bits, and whether the reference computes in float32.
WAYS = {
    "float32 inside, reference cast to float32": (False, True),
    "float32 inside, reference as it is": (False, False),
    "16-bit intermediates, reference as it is": (True, False),
    "16-bit intermediates, reference cast to float32": (True, True),
}
FACTORS = {
    "bfloat16": (1.01, 1.02, 1.05, 1.1, 1.2, 1.5),
    "float16": (1.002, 1.005, 1.01, 1.02, 1.05, 1.1, 1.2, 1.5),
}
# The smallest factor that must be caught on every leaf of more than MANY entries.
DEMANDED = {"bfloat16": 1.02, "float16": 1.005}
MANY = 1000


@dataclass(frozen=True)
class Case:
    """A kernel. It is correct if `fault` is empty; "factor" means that the gradient of one leaf has a factor."""

    kernel: str
    dtype: str
    way: str
    seed: int
    fault: str = ""
    leaf: str = ""
    factor: float = 1.0


@dataclass
class Judged:
    """A case, our verdict, and the names of the other criteria that reject it."""

    case: Case
    verdict: str
    rejected_by: list[str] = field(default_factory=list)
    demanded: bool = False

    def rejected(self, judge: str) -> bool:
        return self.verdict in ("DISAGREE", "RAISED") if judge == OURS else judge in self.rejected_by


def correct_cases(seeds: int) -> Iterator[Case]:
    for name in KERNELS:
        for dtype in DTYPES:
            for way in WAYS:
                yield from (Case(name, dtype, way, seed) for seed in range(seeds))


def faulty_cases(seeds: int) -> Iterator[Case]:
    """All cases: each fault with each kind of kernel and reference, on the inputs of several seeds."""
    number = 0
    for name, kernel in KERNELS.items():
        for dtype in DTYPES:
            faults = [(fault, "", 1.0) for fault in kernel.faults]
            faults += [("factor", leaf, factor) for leaf in kernel.leaves for factor in FACTORS[dtype]]
            for way in WAYS:
                for fault, leaf, factor in faults:
                    yield Case(name, dtype, way, number % seeds, fault, leaf, factor)
                    number += 1


def judged(case: Case, rules: dict[str, Callable[[Seen], bool]]) -> Judged:
    """The verdicts of all criteria on a case, with the same inputs and the same output gradient."""
    kernel, dtype = KERNELS[case.kernel], DTYPES[case.dtype]
    intermediates, wide = WAYS[case.way]
    work = Work(dtype, intermediates, "" if case.fault == "factor" else case.fault)
    forward, backward = kernel.pair(work, case.leaf, case.factor)
    inputs = kernel.inputs(case.seed, dtype)
    drawn: list[np.ndarray] = []

    def watched(output_gradient: Any, cache: Any) -> Any:
        drawn.append(np.array(output_gradient))
        return backward(output_gradient, cache)

    reference = upcast(kernel.reference) if wide else kernel.reference
    try:
        verdict = check_vjp(forward, watched, reference, *inputs, seed=case.seed, names=kernel.names).verdict.name
    except Exception as error:
        verdict = "RAISED"
        if not drawn:
            raise RuntimeError(f"{case} was checked without a call of its backward pass.") from error
    looked_at = seen(kernel, (forward, backward), inputs, drawn[0])
    rejected_by = [name for name, accepts in rules.items() if not accepts(looked_at)]
    return Judged(case, verdict, rejected_by, _demanded(case, kernel, inputs))


def _demanded(case: Case, kernel: Kernel, inputs: Sequence[np.ndarray]) -> bool:
    if case.fault != "factor" or case.factor < DEMANDED[case.dtype]:
        return False
    return inputs[kernel.leaves.index(case.leaf)].size > MANY


def measure(seeds: int = SEEDS, say: Callable[[str], None] = lambda words: None) -> dict[str, Any]:
    """The verdicts of all criteria on all cases, as plain data."""
    rules = {name: accepts for name, (_, accepts) in PEERS.items()}
    right, wrong = [], []
    for cases, results in ((correct_cases(seeds), right), (faulty_cases(seeds), wrong)):
        for case in cases:
            results.append(judged(case, rules))
            if (results[-1].verdict == "AGREE") == bool(case.fault):
                say(f"{results[-1].verdict}: {case}{' (demanded)' if results[-1].demanded else ''}")
    return summary(right, wrong) | {"cases": [asdict(result) for result in right + wrong]}


def summary(right: Sequence[Judged], wrong: Sequence[Judged]) -> dict[str, Any]:
    """The counts for each criterion and dtype.

    A criterion that rejects everything catches every fault. A fault is therefore told apart only if the criterion
    accepts the same kernel without the fault on the same inputs.
    """
    judges: dict[str, Any] = {}
    for judge in (OURS, *PEERS):
        blamed = {(c.kernel, c.dtype, c.way, c.seed) for c in (r.case for r in right if r.rejected(judge))}
        judges[judge] = {}
        for dtype in DTYPES:
            sound = [r for r in right if r.case.dtype == dtype]
            faulty = [r for r in wrong if r.case.dtype == dtype]
            caught = [r for r in faulty if r.rejected(judge)]
            apart = [r for r in caught if (r.case.kernel, dtype, r.case.way, r.case.seed) not in blamed]
            demanded = [r for r in faulty if r.demanded]
            judges[judge][dtype] = {
                "correct": len(sound),
                "blamed": sum(r.rejected(judge) for r in sound),
                "faults": len(faulty),
                "caught": len(caught),
                "told apart": len(apart),
                "demanded": len(demanded),
                "demanded and caught": sum(r.rejected(judge) for r in demanded),
            }
    undecided = sum(r.verdict == Verdict.INCONCLUSIVE.name for r in right)
    return {"judges": judges, "correct, inconclusive": undecided, "factors": factors(wrong)}


def factors(wrong: Sequence[Judged]) -> dict[str, dict[str, list[int]]]:
    """For each criterion and fault, the number of faults that were caught, and their number."""
    counts: dict[str, dict[str, list[int]]] = {judge: {} for judge in (OURS, *PEERS)}
    for result in wrong:
        case = result.case
        kind = f"x {case.factor:g}, {case.dtype}" if case.fault == "factor" else case.fault
        for judge, by_kind in counts.items():
            count = by_kind.setdefault(kind, [0, 0])
            count[0] += result.rejected(judge)
            count[1] += 1
    return counts


# -------------------------------------------------------------------------------------- printing


def compared(results: dict[str, Any]) -> Table:
    table = Table("judge", "dtype", title="Kernels in 16 bits", title_justify="left")
    pairs = {
        "right, and blamed": ("blamed", "correct"),
        "faults caught": ("caught", "faults"),
        "and told apart": ("told apart", "faults"),
        "demanded": ("demanded and caught", "demanded"),
    }
    for heading in pairs:
        table.add_column(heading, justify="right")
    for judge, by_dtype in results["judges"].items():
        for dtype, counts in by_dtype.items():
            cells = (f"{counts[count]} of {counts[of]}" for count, of in pairs.values())
            table.add_row(judge if dtype == "bfloat16" else "", dtype, *cells)
        table.add_section()
    table.caption = (
        "Told apart: the same kernel without the fault is accepted, on the same inputs. Demanded: a factor of 1.02 and "
        f"more in bfloat16, 1.005 in float16, on a leaf of more than {MANY:,} entries. Of the right kernels, "
        f"{results['correct, inconclusive']} are INCONCLUSIVE for ours."
    )
    return table


def by_fault(results: dict[str, Any]) -> Table:
    table = Table("fault", title="Caught, by fault", title_justify="left")
    counts = results["factors"]
    for judge in counts:
        table.add_column(judge, justify="right")
    for kind in counts[OURS]:
        table.add_row(kind, *(f"{by_kind[kind][0]} of {by_kind[kind][1]}" for by_kind in counts.values()))
    return table
