"""The command `backproof`. Exit status: 0 agree, 1 disagree, 2 bad input or usage, 3 inconclusive, 130 interrupted."""

import atexit
import gc
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from compare.cli.bench import bench
from compare.cli.check import check
from compare.cli.exercise import exercise
from compare.cli.lesson import lesson
from compare.cli.museum import museum
from compare.cli.terminal import INTERRUPTED, PageCommand, reported, show
from compare.cli.verify import verify

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)


def _say_version(wanted: bool) -> None:
    if not wanted:
        return
    try:
        known = f"backproof {version('backproof')}"
    except PackageNotFoundError:  # it runs from its source directory
        known = "backproof, not installed"
    with reported():
        show(known)
    raise typer.Exit


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_say_version),
    ] = False,
) -> None:
    """Compare backprop that was derived by hand with JAX: whether the two agree, where they differ, and their speed.

    Start with `backproof verify`. `backproof check` checks code of your own, `backproof lesson` shows the derivation,
    `backproof bench` measures the time of each side, `backproof museum` shows published bugs, and `backproof exercise`
    lets you derive gradients yourself.

    `backproof --install-completion` installs completion of commands, options and their values for the shell (bash, zsh,
    fish, PowerShell); `backproof --show-completion` prints what it would install.
    """
    if context.invoked_subcommand is None:
        print(context.get_help())


for command in (verify, check, bench, lesson, museum, exercise):
    app.command(cls=PageCommand if command in (lesson, museum) else None)(command)


def main() -> None:
    """Run the command line of this process."""
    # At exit, Python collects cycles among all objects, those of JAX included. That takes a third of a second and frees
    # memory that the system frees anyway. Frozen objects are left out.
    atexit.register(gc.freeze)
    try:
        app(prog_name="backproof")
    except SystemExit as end:
        if end.code == INTERRUPTED:
            _leave_at_once()
        raise


def _leave_at_once() -> None:
    """Exit without cleaning up, after Ctrl-C: if it interrupts a compilation, the cleanup of JAX ends in a crash.

    The commands have ended their processes by then. Python flushes `stdout` when it exits, so here it is flushed first.
    """
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # a stream is None if it was closed from the beginning
                stream.flush()
    except (OSError, ValueError):
        return  # Python reports the error
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
