"""A learner's record: which exercises are solved, how often each was tried, and which hints were read.

The record is the file `progress.json` beside the answers. It is written atomically. The answers are in other files,
which are never overwritten.
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
    """The record of one exercise.

    Attributes:
        attempts: The number of answers that were judged.
        solved: Whether one of them was right.
        hints: The number of hints that were shown.
        page_shown: Whether the solution was shown.
    """

    attempts: int = 0
    solved: bool = False
    hints: int = 0
    page_shown: bool = False

    @property
    def in_words(self) -> str:
        """A few words for the list of exercises."""
        if self.solved:
            return "solved"
        return f"tried {self.attempts} time{'s' if self.attempts > 1 else ''}" if self.attempts else "-"


@dataclass
class Progress:
    """The records of a folder, by the name of the exercise."""

    file: Path
    records: dict[str, Record] = field(default_factory=dict)

    def of(self, name: str) -> Record:
        """The record of an exercise, which is created if there is none."""
        return self.records.setdefault(name, Record())

    @property
    def solved(self) -> int:
        """The number of solved exercises."""
        return sum(record.solved for record in self.records.values())

    def save(self) -> None:
        """Write the records to the file."""
        write_json(self.file, {"exercises": {name: asdict(record) for name, record in self.records.items()}})


def progress_in(folder: Path) -> Progress:
    """The records in a folder, empty if there are none yet.

    Args:
        folder: The folder of the answers.

    Raises:
        BadInput: A ValueError, if the file is not such a record. The file is not changed.
    """
    file = folder / FILE
    if not file.exists():
        return Progress(file)
    try:
        listed = json.loads(file.read_text(encoding="utf-8"))["exercises"]
        records = {name: Record(**values) for name, values in listed.items() if name in EXERCISES}
        if not all(_sound(record) for record in records.values()):
            raise ValueError("a value has the wrong type")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"{file} is damaged ({type(error).__name__}: {error}). Move it away to begin a new record. Your answers "
            "are in other files and are not affected."
        ) from None
    return Progress(file, records)


def _sound(record: Record) -> bool:
    counts, marks = (record.attempts, record.hints), (record.solved, record.page_shown)
    return all(type(count) is int and count >= 0 for count in counts) and all(type(mark) is bool for mark in marks)
