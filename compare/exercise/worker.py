"""A process that judges one learner's answers, and tells its parent of each: what a learner writes may do anything.

The parent (`classroom`) says what to judge on the command line, and reads one message for each from a pipe: bytes of
JSON, because nothing that a learner's process sends may be executed by the one that reads it.
"""

import json
import os
import signal
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread

from compare.errors import BadInput
from compare.exercise import EXERCISES
from compare.exercise.outcome import judged
from compare.exercise.reading import Unfinished, read

READY = "ready"


def end_with_parent() -> None:
    """Kill this process, and what it starts, once the parent is gone, with whom the other end of stdin closes.

    What is run here reads nothing from stdin.
    """
    life = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def wait() -> None:
        os.read(life, 1)
        os.killpg(os.getpgrp(), signal.SIGKILL)

    Thread(target=wait, daemon=True).start()


def main(descriptor: str, *files: str) -> None:
    """Judge files, each named by its exercise, in order."""
    import compare.exercise.judging  # noqa: F401  which loads JAX, before anybody's time is taken

    with suppress(BrokenPipeError), Connection(int(descriptor), readable=False) as connection:
        connection.send_bytes(json.dumps(READY).encode())
        for file in map(Path, files):
            connection.send_bytes(json.dumps(verdict_on(file)).encode())


def verdict_on(file: Path) -> dict[str, object]:
    """What is said of the answer in a file whose name is the exercise's."""
    name = file.stem
    try:
        return judged(name, read(file)).to_dict()
    except Unfinished as error:
        return unjudged(name, "unfinished", str(error))
    except BadInput as error:
        return unjudged(name, "error", str(error))
    except Exception as error:  # the judge's own, of what it was given here: the others are to be judged all the same
        return unjudged(name, "error", f"{type(error).__name__}: {error}")


def unjudged(name: str, verdict: str, sentence: str) -> dict[str, object]:
    """An outcome without a report, as `Outcome.to_dict` has it."""
    most = EXERCISES[name].points
    said = {"exercise": name, "verdict": verdict, "score": 0, "max_score": most, "sentence": sentence}
    return said | {"place": None, "causes": []}


if __name__ == "__main__":
    end_with_parent()
    main(*sys.argv[1:])
