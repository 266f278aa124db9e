"""What all commands share: progress, results on stdout, and the final message after an error or an interruption."""

import gc
import os
import shutil
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from typer.core import TyperCommand

from compare.cli.ascii import showable

LEAST = 24  # columns; in a narrower terminal, lines are not wrapped
INTERRUPTED = 130  # the exit status after Ctrl-C, as in shells: 128 plus the number of SIGINT


def show(what: object) -> None:
    """Print to stdout, within its width and its character set.

    If stdout is a pipe whose reader has closed it, nothing is raised, so that the command still writes its files and
    returns its exit status.

    Args:
        what: is printed as `str(what)`.

    Raises:
        OSError: if stdout cannot be written for another reason, for example because the disk is full.
    """
    from compare.judge.reports.tables import WIDTH, at_width

    columns = width(WIDTH)
    with at_width(columns):
        text = str(what)
    if sys.stdout.isatty():
        text = "\n".join(map(partial(_wrapped, columns=columns), text.split("\n")))
    try:
        print(showable(text, getattr(sys.stdout, "encoding", None) or "utf-8"), flush=True)
    except OSError as error:
        # Without this, Python would try to write the rest of the buffer when it exits, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise OSError(error.errno, error.strerror, "standard output") from error


def _wrapped(line: str, columns: int) -> str:
    """The line, broken between words if it is too long. The new lines have the indentation of the first."""
    if len(line) <= columns or columns < LEAST:
        return line
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.fill(line, columns, subsequent_indent=indent, break_on_hyphens=False, drop_whitespace=True)


def _for_stderr(text: str) -> str:
    """The text within the width of the terminal, if stderr is one."""
    if not sys.stderr.isatty():
        return text
    columns = shutil.get_terminal_size().columns
    return "\n".join(_wrapped(line, columns) for line in text.split("\n"))


def width(most: int) -> int:
    """The width of the output in columns: that of the terminal, if stdout is one, but at most `most`; else `most`."""
    return max(LEAST, min(most, shutil.get_terminal_size().columns)) if sys.stdout.isatty() else most


class PageCommand(TyperCommand):
    """A command whose option --html may be given without a path, which then is COMMAND.html."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        spelled: list[str] = []
        for word, following in pairwise([*args, "--"]):
            spelled.append(word)
            if word == "--html" and following.startswith("-"):
                spelled.append(f"{self.name}.html")
        return super().parse_args(ctx, spelled)


class Stage:
    """The current stage of a command's work, for the progress bar and for the message after Ctrl-C.

    Attributes:
        text: a description of the current work.
        interrupted: whether Ctrl-C was pressed.
        written: the files that were written.
        frozen: whether the objects of the loaded modules were excluded from garbage collection.
    """

    def __init__(self) -> None:
        self.text = "starting"
        self.interrupted = False
        self.written: list[Path] = []
        self.frozen = False
        self._loading = False

    def say(self, what: str, steps: int) -> None:
        """Set the description of the current work.

        Raises:
            KeyboardInterrupt: after Ctrl-C. If the exception of `interrupt` was raised in a destructor or a callback
                of JAX, it was lost there.
        """
        if self.interrupted and threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        self.text = f"{what}, {steps} step{'' if steps == 1 else 's'} done" if steps else what

    def interrupt(self, *_: Any) -> None:
        """The signal handler of Ctrl-C."""
        first, self.interrupted = not self.interrupted, True
        if not (self._loading and first):
            raise KeyboardInterrupt

    @contextmanager
    def loading(self) -> Iterator[None]:
        """A context for imports.

        The first Ctrl-C takes effect at its end, because some extension modules abort when an exception is raised
        during their import, or print it and go on.

        Garbage collection is switched off during the imports, and their objects are excluded from it afterwards. They
        exist until the process ends, and searching them for cycles took a sixth of the time of the imports and a
        twentieth of the time of the work.
        """
        self._loading = True
        collecting = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            self._loading = False
            if not gc.get_freeze_count():  # `reported` unfreezes all objects, so none of the caller's may be frozen
                self.frozen = True
                gc.freeze()
            if collecting:
                gc.enable()
        if self.interrupted:
            raise KeyboardInterrupt

    def note(self, text: str) -> None:
        """Print a line to stderr."""
        typer.echo(f"backproof: {text}", err=True)

    def tell_written(self) -> None:
        """Print the paths of the written files to stderr."""
        for path in self.written:
            typer.echo(f"Written: {path}", err=True)

    def hides(self, lost: "sys.UnraisableHookArgs") -> bool:
        """Whether an exception that Python cannot raise, but only print, is the KeyboardInterrupt of `interrupt`.

        It need not be printed, because `say` and `reported` raise it again.
        """
        return self.interrupted and issubclass(lost.exc_type, KeyboardInterrupt)


@contextmanager
def reported() -> Iterator[Stage]:
    """A context for the work of a command.

    Bad input ends it with one line on stderr and exit status 2, Ctrl-C with one line and exit status 130.

    Yields:
        The stage.

    Raises:
        typer.Exit: in these two cases.
    """
    stage = Stage()
    before, hook = signal.signal(signal.SIGINT, stage.interrupt), sys.unraisablehook
    sys.unraisablehook = lambda lost: None if stage.hides(lost) else hook(lost)
    try:
        yield stage
        if stage.interrupted:
            raise KeyboardInterrupt
    except (Exception, KeyboardInterrupt) as error:
        if stage.interrupted or isinstance(error, KeyboardInterrupt):
            written = f"only {', '.join(map(str, stage.written))} was" if stage.written else "nothing was"
            typer.echo(f"backproof: interrupted while {stage.text}; {written} written", err=True)
            raise typer.Exit(INTERRUPTED) from None
        message = _message_of(error)
        if message is None:
            raise
        typer.echo(_for_stderr(f"backproof: {message}"), err=True)
        raise typer.Exit(2) from None
    finally:
        signal.signal(signal.SIGINT, before)
        sys.unraisablehook = hook
        if stage.frozen:
            gc.unfreeze()


def _message_of(error: BaseException) -> str | None:
    """The sentence for an error that is not ours: bad input, no memory, a file. None for all other errors."""
    from compare.errors import BadInput

    if isinstance(error, BadInput):
        return str(error)
    if isinstance(error, MemoryError):
        return f"this does not fit into memory: {error}. Try fewer hidden units or less data."
    if isinstance(error, OSError):
        return f"{error.filename or 'input or output'}: {error.strerror or error}"
    return None


@contextmanager
def progress_bar(iterations: int | None, stage: Stage) -> Iterator[Callable[[str, int], None]]:
    """A progress bar on stderr, if it is a terminal; else a line on stderr every `SILENCE` seconds.

    Args:
        iterations: the number of steps, None if it is not known.
        stage: is kept up to date, too.

    Yields:
        A function of a description of the current work and the number of finished steps.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    on_terminal = sys.stderr.isatty()
    lines = nullcontext() if on_terminal else _line_every_minute(stage)
    with Progress(*columns, console=console, transient=True, disable=not on_terminal) as bar, lines:
        task = bar.add_task("starting", total=iterations)

        def progress(what: str, steps: int) -> None:
            stage.say(what, steps)
            bar.update(task, description=what, completed=steps)

        yield progress


SILENCE = 60  # seconds between two lines on the current work, without which the command would seem to hang


@contextmanager
def _line_every_minute(stage: Stage) -> Iterator[None]:
    ended = threading.Event()
    began = time.monotonic()

    def talk() -> None:
        while not ended.wait(SILENCE):
            stage.note(f"{stage.text} ({time.monotonic() - began:.0f} s since the start)")

    talker = threading.Thread(target=talk, daemon=True)
    talker.start()
    try:
        yield
    finally:
        ended.set()
        talker.join()
