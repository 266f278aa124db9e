"""What every command has in common: progress, results on stdout, and last words when something stops it."""

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
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from typer.core import TyperCommand

from compare.cli.ascii import showable

LEAST = 24  # columns, below which lines are left to the terminal
INTERRUPTED = 130  # the exit status, as shells have it: 128 and the number of SIGINT


def show(what: object) -> None:
    """On stdout, in what columns and characters it has; if its reader has gone, the files and the exit status remain.

    Raises:
        OSError: If it cannot be written, as on a disk that is full.
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
        # What is still buffered would be written, and fail, once more at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise OSError(error.errno, error.strerror, "standard output") from error


def _wrapped(line: str, columns: int) -> str:
    """A line that is too long, broken between words; what follows is indented as it is."""
    if len(line) <= columns or columns < LEAST:
        return line
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.fill(line, columns, subsequent_indent=indent, break_on_hyphens=False, drop_whitespace=True)


def width(most: int) -> int:
    """Columns to write to: those of the terminal, if stdout is one, within limits."""
    return max(LEAST, min(most, shutil.get_terminal_size().columns)) if sys.stdout.isatty() else most


class PageCommand(TyperCommand):
    """A command whose option --html may stand without a path, for COMMAND.html."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        spelled: list[str] = []
        for word, following in zip(args, [*args[1:], "--"], strict=True):
            spelled.append(word)
            if word == "--html" and following.startswith("-"):
                spelled.append(f"{self.name}.html")
        return super().parse_args(ctx, spelled)


class Stage:
    """What is being done and how much of it is done, for the bar and for the last words after Ctrl-C."""

    def __init__(self) -> None:
        self.text = "starting"
        self.interrupted = False
        self.written: list[Path] = []
        self.frozen = False  # the modules that were loaded, to the search for cycles
        self._loading = False

    def say(self, what: str, steps: int) -> None:
        if self.interrupted and threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt  # what was raised before came to nothing, in a destructor or a hook of JAX
        self.text = f"{what}, {steps} step{'' if steps == 1 else 's'} done" if steps else what

    def interrupt(self, *_: Any) -> None:
        first, self.interrupted = not self.interrupted, True
        if not (self._loading and first):
            raise KeyboardInterrupt

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Imports. The first Ctrl-C waits for their end: some modules in C abort, or print what is raised in them.

        Nor does Python look for cycles among what is made by the thousand and stays, now or later: that would take a
        sixth of the time of the imports, and a twentieth of that of the work.
        """
        self._loading = True
        collecting = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            self._loading = False
            if not gc.get_freeze_count():  # what somebody else has frozen could not be told from ours
                self.frozen = True
                gc.freeze()
            if collecting:
                gc.enable()
        if self.interrupted:
            raise KeyboardInterrupt

    def note(self, text: str) -> None:
        """A line on stderr that stays there."""
        typer.echo(f"backproof: {text}", err=True)

    def tell_written(self) -> None:
        """On stderr, where the results are."""
        for path in self.written:
            typer.echo(f"Written: {path}", err=True)

    def hides(self, lost: "sys.UnraisableHookArgs") -> bool:
        """Whether what Python can only print, as nothing catches it there, is our interruption, raised again later."""
        return self.interrupted and issubclass(lost.exc_type, KeyboardInterrupt)


@contextmanager
def reported() -> Iterator[Stage]:
    """Bad input ends with one line and status 2, an interruption with one line and status 130."""
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
        message = _said_of(error)
        if message is None:
            raise
        typer.echo(f"backproof: {message}", err=True)
        raise typer.Exit(2) from None
    finally:
        signal.signal(signal.SIGINT, before)
        sys.unraisablehook = hook
        if stage.frozen:
            gc.unfreeze()


def _said_of(error: BaseException) -> str | None:
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
    """A bar on stderr if that is a terminal, else a line now and then; in any case the stage is kept."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    on_terminal = sys.stderr.isatty()
    words = nullcontext() if on_terminal else _heard_now_and_then(stage)
    with Progress(*columns, console=console, transient=True, disable=not on_terminal) as bar, words:
        task = bar.add_task("starting", total=iterations)

        def progress(what: str, steps: int) -> None:
            stage.say(what, steps)
            bar.update(task, description=what, completed=steps)

        yield progress


SILENCE = 60  # seconds, after which somebody might think that nothing is being done


@contextmanager
def _heard_now_and_then(stage: Stage) -> Iterator[None]:
    ended = threading.Event()
    began = time.monotonic()

    def talk() -> None:
        while not ended.wait(SILENCE):
            stage.note(f"{stage.text}, for {time.monotonic() - began:.0f} s in all")

    talker = threading.Thread(target=talk, daemon=True)
    talker.start()
    try:
        yield
    finally:
        ended.set()
        talker.join()
