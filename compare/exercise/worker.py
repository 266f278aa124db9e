"""A process that judges one learner's answers and sends each outcome to its parent, `classroom`.

It is a process of its own, because a learner's code may do anything. The parent passes the files on the command line
and reads one message for each from a pipe. Messages are JSON and not pickles, so that a learner's process cannot make
the parent execute code.
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
    """Kill this process and its children when the parent ends, which closes the other end of stdin.

    The learner's code gets an empty stdin instead.
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
    """Judge the files in order. The name of a file is that of its exercise, and `descriptor` that of the pipe."""
    import compare.exercise.judging  # noqa: F401  imports JAX, which should not count toward the time limit

    with suppress(BrokenPipeError), Connection(int(descriptor), readable=False) as connection:
        connection.send_bytes(json.dumps(READY).encode())
        for file in map(Path, files):
            connection.send_bytes(json.dumps(verdict_on(file)).encode())


def verdict_on(file: Path) -> dict[str, object]:
    """The outcome of the answer in a file, as a dict. The name of the file is that of its exercise."""
    name = file.stem
    try:
        return judged(name, read(file)).to_dict()
    except Unfinished as error:
        return unjudged(name, "unfinished", str(error))
    except BadInput as error:
        return unjudged(name, "error", str(error))
    except Exception as error:  # an error of the judge on this answer must not stop the other answers
        return unjudged(name, "error", f"{type(error).__name__}: {error}")


def unjudged(name: str, verdict: str, sentence: str) -> dict[str, object]:
    """The outcome of an answer that has no report, with the keys of `Outcome.to_dict`."""
    most = EXERCISES[name].points
    said = {"exercise": name, "verdict": verdict, "score": 0, "max_score": most, "sentence": sentence}
    return said | {"place": None, "causes": []}


if __name__ == "__main__":
    end_with_parent()
    main(*sys.argv[1:])
