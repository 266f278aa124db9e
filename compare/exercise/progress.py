"""A learner's record: which exercises are solved, how often each was tried, which hints were read.

It is a file of its own, `progress.json` beside the answers, and is written whole or not at all. Answers are never
written over: they are in other files.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from compare.errors import BadInput
from compare.exercise import EXERCISES
from compare.files import write_json

FILE = "progress.json"


@dataclass
class Record:
    """Of one exercise: how often the judge was asked, whether it said yes, hints read, whether the page was shown."""

    attempts: int = 0
    solved: bool = False
    hints: int = 0
    page_shown: bool = False

    @property
    def in_words(self) -> str:
        if self.solved:
            return "solved"
        return f"tried {self.attempts} time{'s' if self.attempts > 1 else ''}" if self.attempts else "-"


@dataclass
class Progress:
    """All records of a folder, by the exercise."""

    file: Path
    records: dict[str, Record] = field(default_factory=dict)

    def of(self, name: str) -> Record:
        return self.records.setdefault(name, Record())

    @property
    def solved(self) -> int:
        return sum(record.solved for record in self.records.values())

    def save(self) -> None:
        write_json(self.file, {"exercises": {name: asdict(record) for name, record in self.records.items()}})


def progress_in(folder: Path) -> Progress:
    """The record in a folder, empty if there is none yet.

    Raises:
        BadInput: a ValueError, if the file is none of ours; it is left as it is.
    """
    file = folder / FILE
    if not file.exists():
        return Progress(file)
    try:
        listed = json.loads(file.read_text(encoding="utf-8"))["exercises"]
        records = {name: Record(**values) for name, values in listed.items() if name in EXERCISES}
        if not all(_sound(record) for record in records.values()):
            raise ValueError("a value is of another kind than it should be")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"{file} is damaged ({type(error).__name__}: {error}). Move it away, and a new record is begun; your "
            "answers are in the other files and stay as they are."
        ) from None
    return Progress(file, records)


def _sound(record: Record) -> bool:
    counts, marks = (record.attempts, record.hints), (record.solved, record.page_shown)
    return all(type(count) is int and count >= 0 for count in counts) and all(type(mark) is bool for mark in marks)
