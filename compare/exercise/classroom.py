"""For a teacher: exercises handed out in a folder, and many learners' answers collected.

Every learner's code runs in a process of its own (`worker`), with a time limit for each exercise, so that an endless
loop or an `os._exit` costs that exercise and nothing else. That keeps accidents apart, not attacks: the code has the
rights of whoever collects it, and could forge its own verdict.
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

START_SECONDS = 120  # for a process to load JAX, on a machine that is busy
README = """Exercises: backpropagation by hand
==================================

Each file gives a forward pass in NumPy. Derive the backward pass, and write it where
the blanks (`...`) are. In this folder, the first command says whether it is right and,
if not, where it is wrong and why. The second gives a hint.

    backproof exercise {first} --folder .
    backproof exercise {first} --folder . --hint

The exercises, from easy to hard:

{names}
"""


def hand_out(folder: Path, names: Iterable[str] = (), *, notebooks: bool = False) -> list[Path]:
    """Write exercises, without solutions, into a folder, which is made if there is none.

    Args:
        folder: where to.
        names: which of them; all if none is given.
        notebooks: notebooks instead of Python files.

    Returns:
        What was written. A file that is there already stays as it is, and is not among them.

    Raises:
        BadInput: a ValueError, if the folder cannot be written to, or there is no such exercise.
    """
    names = chosen(names)
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file; give the name of a folder.")
    if not folder.parent.is_dir():
        raise BadInput(f"{folder} cannot be made: there is no folder {folder.parent}. Make it first.")
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
    """The exercises of these names, from easy to hard; all if none is given. Raises BadInput for any other name."""
    wanted = {known(name) for name in names} or set(EXERCISES)
    return [name for name in EXERCISES if name in wanted]


@dataclass(frozen=True)
class Learner:
    """Whose answers were judged: one outcome for each exercise that was set, in the order of `EXERCISES`."""

    name: str
    outcomes: Sequence[dict[str, Any]]

    @property
    def score(self) -> int:
        return sum(outcome["score"] for outcome in self.outcomes)

    def count(self, *verdicts: str) -> int:
        return sum(outcome["verdict"] in verdicts for outcome in self.outcomes)

    def to_dict(self) -> dict[str, Any]:
        most = sum(outcome["max_score"] for outcome in self.outcomes)
        return {"student_id": self.name, "score": self.score, "max_score": most, "exercises": list(self.outcomes)}


def learners_in(folder: Path) -> dict[str, Path]:
    """The folders of learners by their names: the folder itself if it holds answers, else those within it.

    Raises:
        BadInput: a ValueError, if there is no answer in any of them.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder} is not a folder; give that in which the learners' folders are.")
    if _answers_in(folder):
        return {folder.resolve().name: folder}
    found = {inner.name: place for inner in sorted(folder.iterdir()) if inner.is_dir() for place in _places(inner)[:1]}
    if not found:
        raise BadInput(
            f"{folder} holds no answers: they are files such as {next(iter(EXERCISES))}.py, in the folder itself or in "
            "one for each learner."
        )
    return found


def _places(folder: Path) -> list[Path]:
    """The folder, or those within it, as nbgrader has one for each assignment, that hold answers."""
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
        folder: a learner's, or one with a folder for each learner.
        names: which exercises were set, out of whose points the score is; all if none is given.
        time_limit: seconds that one exercise may take.
        progress: is told who is judged, and how many are done.

    Returns:
        The learners, in the order of their names.

    Raises:
        BadInput: a ValueError, if there are no answers or no such exercise, or the limit is none.
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
    """Of one learner, in a process, and in another one for what is left when it dies or takes too long."""
    left = dict(answers)
    while left:
        with _process(list(left.values())) as connection:
            if _message(connection, START_SECONDS) != READY:
                raise BadInput(f"a process to judge {next(iter(left.values())).parent} in could not be started.")
            for name in list(left):
                said = _message(connection, time_limit)
                if _is_outcome(said, name):
                    yield said
                elif said is TimeoutError:
                    yield unjudged(name, "stopped", f"It took longer than {time_limit:g} s: does a loop never end?")
                else:
                    yield unjudged(name, "stopped", "It ended the process in which it was judged.")
                del left[name]
                if not _is_outcome(said, name):
                    break


def _is_outcome(said: Any, name: str) -> bool:
    """Whether what came from a learner's process is what it should be, and adds up."""
    if not isinstance(said, dict) or said.keys() != unjudged(name, "", "").keys() or said["exercise"] != name:
        return False
    most = EXERCISES[name].points
    whole = isinstance(said["score"], int) and 0 <= said["score"] <= most == said["max_score"]
    return whole and isinstance(said["verdict"], str) and isinstance(said["sentence"], str)


def _message(connection: Connection, seconds: float) -> Any:
    """What the process says next; TimeoutError, the class, if it says nothing; None if it has ended."""
    try:
        if not connection.poll(seconds):
            return TimeoutError
        return json.loads(connection.recv_bytes(1 << 20))
    except (EOFError, OSError, ValueError):
        return None


@contextmanager
def _process(files: list[Path]) -> Iterator[Connection]:
    """A worker at these files, which is ended with all that it started; its working folder is empty and goes, too."""
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
