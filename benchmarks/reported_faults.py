"""Checks publicly reported bugs, which were rebuilt in a few lines, and their repaired versions.

    python -m benchmarks.reported_faults [part of a name]

Each entry names its issue or pull request. The bugs are of kinds that the planted faults (`faults`,
`trajectory_faults`) and the museum lack. The command exits with 1 if a broken version agrees, or a repaired one does
not.
"""

import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from benchmarks.reported import algebra, elementwise, indexing, losses, sequences, updates
from benchmarks.reported.entry import Report, ReportedFault
from compare import Verdict

ROOMS = (elementwise, losses, indexing, sequences, algebra, updates)
UNNAMED = "update-rule"  # the kind of a diagnosis that says that an update is wrong, but gives no cause
FAULTS: tuple[ReportedFault, ...] = tuple(fault for room in ROOMS for fault in room.FAULTS)


@dataclass(frozen=True)
class Outcome:
    """The reports on the broken and the repaired version of an entry."""

    fault: ReportedFault
    broken: Report
    sound: Report

    @property
    def caught(self) -> bool:
        return self.broken.verdict is Verdict.DISAGREE

    @property
    def spared(self) -> bool:
        return self.sound.verdict is Verdict.AGREE

    @property
    def placed(self) -> bool:
        return self.caught and self.broken.first_wrong in self.fault.places

    @property
    def named(self) -> list[str]:
        """The kinds of all causes that are named, each once."""
        return list(dict.fromkeys(diagnosis.kind for diagnosis in self.broken.diagnoses))

    @property
    def false_causes(self) -> list[str]:
        return [kind for kind in self.named if kind not in self.fault.kinds]

    @property
    def false_side(self) -> bool:
        """Whether the report calls JAX's side wrong, which is right in every entry."""
        return getattr(self.broken, "wrong_side", None) == "autodiff"

    def misses(self) -> Iterable[str]:
        if not self.caught:
            yield f"is {self.broken.verdict.name}\n{_first_lines(self.broken)}"
        elif not self.placed:
            yield f"is placed at {self.broken.first_wrong}, expected {' or '.join(self.fault.places)}"
        if self.false_causes:
            yield f"has a false cause: {', '.join(self.false_causes)}\n{_first_lines(self.broken)}"
        if self.false_side:
            yield f"is attributed to JAX\n{_first_lines(self.broken)}"
        if not self.spared:
            yield f"is {self.sound.verdict.name} in its repaired version\n{_first_lines(self.sound)}"


def _first_lines(report: Report, count: int = 4) -> str:
    return "\n".join(f"    {line}" for line in str(report).splitlines()[:count])


def outcome(fault: ReportedFault) -> Outcome:
    return Outcome(fault, fault.report(broken=True), fault.report(broken=False))


def show(outcomes: list[Outcome]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 150)
    table = Table("fault", "source", "check", "verdict", "place", "cause", "repaired")
    for each in outcomes:
        place = f"{each.broken.first_wrong}{'' if each.placed else ' (!)'}"
        table.add_row(
            each.fault.name,
            each.fault.source,
            each.fault.door,
            each.broken.verdict.name,
            place,
            ", ".join(each.named),
            each.sound.verdict.name,
        )
    console.print(table)
    count = len(outcomes)
    print(f"caught: {sum(o.caught for o in outcomes)} of {count}")
    print(f"placed right: {sum(o.placed for o in outcomes)} of {count}")
    kinds = Counter(kind for o in outcomes for kind in o.named)
    print(f"cause named: {sum(o.named not in ([], [UNNAMED]) for o in outcomes)} of {count}")
    print("kinds:", ", ".join(f"{kind} {times}" for kind, times in kinds.most_common()))
    print(f"false causes: {sum(bool(o.false_causes) for o in outcomes)}")
    print(f"false side: {sum(o.false_side for o in outcomes)}")
    print(f"repaired versions that agree: {sum(o.spared for o in outcomes)} of {count}")
    for each in outcomes:
        for miss in each.misses():
            print(f"- {each.fault.name} ({each.fault.source}) {miss}")


def main(part: str = "") -> int:
    outcomes = [outcome(fault) for fault in FAULTS if part in fault.name]
    show(outcomes)
    return 0 if all(o.caught and o.spared for o in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
