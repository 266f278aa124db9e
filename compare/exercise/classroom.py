"""For a teacher: hands out exercises in a folder, and judges the answers of many learners.

Every learner's code runs in a process of its own (`worker`), with a time limit for each exercise. So an endless loop or
an `os._exit` affects that exercise only. This protects against accidents and not against attacks: the code runs with
the rights of the teacher, and could forge its own verdict.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from compare.errors import BadInput
from compare.exercise import EXERCISES
from compare.exercise.reading import answer_in, known
from compare.exercise.sheet import as_notebook, as_python
from compare.exercise.worker import READY, unjudged
from compare.files import check_writable, write_text

START_SECONDS = 120  # the time limit for a process to import JAX, also on a busy machine
README = """Exercises: backpropagation by hand
==================================

Each file contains a forward pass in NumPy. Derive the backward pass, and write it in
place of the blanks (`...`). Run these commands in this folder. The first says whether
your answer is right and, if not, where it is wrong and why. The second gives a hint.

    backproof exercise {first} --folder .
    backproof exercise {first} --folder . --hint

The exercises, from easy to hard:

{names}
"""


def hand_out(folder: Path, names: Iterable[str] = (), *, notebooks: bool = False) -> list[Path]:
    """Write exercises without solutions into a folder, which is created if it does not exist.

    Args:
        folder: The folder.
        names: The exercises; all if there are no names.
        notebooks: Whether to write notebooks instead of Python files.

    Returns:
        The files that were written. Existing files are not changed, and are not in the list.

    Raises:
        BadInput: A ValueError, if the folder cannot be written to, or there is no such exercise.
    """
    names = chosen(names)
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file; give the name of a folder.")
    if not folder.parent.is_dir():
        raise BadInput(f"{folder} cannot be created, because there is no folder {folder.parent}. Create it first.")
    folder.mkdir(exist_ok=True)
    suffix, written = ".ipynb" if notebooks else ".py", as_notebook if notebooks else as_python
    texts = {folder / f"{name}{suffix}": written(name) for name in names}
    listed = textwrap.fill(", ".join(names), 84, initial_indent="    ", subsequent_indent="    ")
    texts[folder / "README.txt"] = README.format(first=names[0], names=listed)
    new = [path for path in texts if not path.exists()]
    for path in new:
        check_writable(path)
    for path in new:
        write_text(path, texts[path])
    return new


def chosen(names: Iterable[str]) -> list[str]:
    """The exercises with these names, from easy to hard; all if there are no names. Raises BadInput for others."""
    wanted = {known(name) for name in names} or set(EXERCISES)
    return [name for name in EXERCISES if name in wanted]


@dataclass(frozen=True)
class Learner:
    """A learner, with one outcome for each exercise that was set, in the order of `EXERCISES`."""

    name: str
    outcomes: Sequence[dict[str, Any]]

    @property
    def score(self) -> int:
        """The sum of the points."""
        return sum(outcome["score"] for outcome in self.outcomes)

    def count(self, *verdicts: str) -> int:
        """The number of outcomes with one of these verdicts."""
        return sum(outcome["verdict"] in verdicts for outcome in self.outcomes)

    def to_dict(self) -> dict[str, Any]:
        """The learner as JSON types, with the score and the full score."""
        most = sum(outcome["max_score"] for outcome in self.outcomes)
        return {"student_id": self.name, "score": self.score, "max_score": most, "exercises": list(self.outcomes)}


def learners_in(folder: Path) -> dict[str, Path]:
    """The folders of learners, by name: the folder itself if it contains answers, else the folders in it.

    Args:
        folder: A learner's folder, or a folder with one for each learner.

    Raises:
        BadInput: A ValueError, if none of them contains an answer.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder} is not a folder. Give the folder that contains the learners' folders.")
    if _answers_in(folder):
        return {folder.resolve().name: folder}
    found = {inner.name: place for inner in sorted(folder.iterdir()) if inner.is_dir() for place in _places(inner)[:1]}
    if not found:
        raise BadInput(
            f"{folder} contains no answers. Answers are files such as {next(iter(EXERCISES))}.py, in the folder itself "
            "or in a folder for each learner."
        )
    return found


def _places(folder: Path) -> list[Path]:
    """The folder and those folders in it, as far as they contain answers. nbgrader has a folder for each assignment."""
    inner = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [place for place in (folder, *inner) if _answers_in(place)]


def _answers_in(folder: Path) -> dict[str, Path]:
    return {name: file for name in EXERCISES if (file := answer_in(folder, name))}


def collect(
    folder: Path,
    names: Iterable[str] = (),
    *,
    time_limit: float = 60.0,
    progress: Callable[[str, int], Any] = lambda what, done: None,
) -> list[Learner]:
    """Judge the answers of every learner in a folder.

    Args:
        folder: A learner's folder, or a folder with one for each learner.
        names: The exercises that were set, which make up the full score; all if there are no names.
        time_limit: The number of seconds that one exercise may take.
        progress: Is called with the learner who is being judged and the number of learners that are done.

    Returns:
        The learners, in the order of their names.

    Raises:
        BadInput: A ValueError, if there are no answers, there is no such exercise, or the time limit is not positive.
    """
    names = chosen(names)
    if not time_limit > 0:
        raise BadInput(f"the time limit must be a positive number of seconds, got {time_limit:g}.")
    learners = []
    for done, (name, place) in enumerate(learners_in(folder).items()):
        progress(f"judging {name}", done)
        answers = {each: file for each, file in _answers_in(place).items() if each in names}
        said = {outcome["exercise"]: outcome for outcome in _verdicts(answers, time_limit)}
        outcomes = [said.get(each) or unjudged(each, "missing", "There is no answer.") for each in names]
        learners.append(Learner(name, outcomes))
    return learners


def _verdicts(answers: dict[str, Path], time_limit: float) -> Iterator[dict[str, Any]]:
    """Yield the outcomes of one learner. If the process ends or takes too long, a new one judges the rest."""
    left = dict(answers)
    while left:
        with _process(list(left.values())) as connection:
            if _message(connection, START_SECONDS) != READY:
                raise BadInput(f"the process that judges {next(iter(left.values())).parent} could not be started.")
            for name in list(left):
                said = _message(connection, time_limit)
                if _is_outcome(said, name):
                    yield said
                elif said is TimeoutError:
                    yield unjudged(name, "stopped", f"It took longer than {time_limit:g} s. Is there an endless loop?")
                else:
                    yield unjudged(name, "stopped", "It ended the process in which it was judged.")
                del left[name]
                if not _is_outcome(said, name):
                    break


def _is_outcome(said: Any, name: str) -> bool:
    """Whether a message from a learner's process is a valid outcome of this exercise."""
    if not isinstance(said, dict) or said.keys() != unjudged(name, "", "").keys() or said["exercise"] != name:
        return False
    most = EXERCISES[name].points
    whole = isinstance(said["score"], int) and 0 <= said["score"] <= most == said["max_score"]
    return whole and isinstance(said["verdict"], str) and isinstance(said["sentence"], str)


def _message(connection: Connection, seconds: float) -> Any:
    """The next message of the process; the class TimeoutError after the time limit; None if the process has ended."""
    try:
        if not connection.poll(seconds):
            return TimeoutError
        return json.loads(connection.recv_bytes(1 << 20))
    except (EOFError, OSError, ValueError):
        return None


@contextmanager
def _process(files: list[Path]) -> Iterator[Connection]:
    """A worker process for these files, in an empty temporary folder. At the end it is killed with its children."""
    ours, theirs = Pipe(duplex=False)
    with ours, tempfile.TemporaryDirectory(prefix="backproof-", ignore_cleanup_errors=True) as folder:
        root = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        with theirs:
            worker = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "compare.exercise.worker",
                    str(theirs.fileno()),
                    *(str(file.resolve()) for file in files),
                ],
                stdin=subprocess.PIPE,  # open as long as this process lives
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                cwd=folder,
                env=os.environ | {"PYTHONPATH": path},
            )
        try:
            yield ours
        finally:
            with suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)
            worker.communicate()
