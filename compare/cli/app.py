"""The command. Exit status: 0 agree, 1 disagree, 2 bad input or usage, 3 inconclusive, 130 interrupted."""

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
from compare.cli.terminal import INTERRUPTED, reported, show
from compare.cli.verify import verify

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)


def _say_version(wanted: bool) -> None:
    if not wanted:
        return
    try:
        known = f"backproof {version('backproof')}"
    except PackageNotFoundError:  # run from its source
        known = "backproof, not installed"
    with reported():
        show(known)
    raise typer.Exit


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", help="Say which version this is, and exit.", is_eager=True, callback=_say_version),
    ] = False,
) -> None:
    """Hand-derived backprop against JAX: do they agree, where do they part, how fast is each?

    Start with `backproof verify`; `backproof check` judges code of your own, `backproof lesson` shows how it is
    derived, `backproof bench` how fast each side is, `backproof museum` what goes wrong;
    `backproof exercise` has you derive it yourself.

    `backproof --install-completion` teaches the shell (bash, zsh, fish, PowerShell) to complete commands, options and
    the names that options take, after TAB; `backproof --show-completion` prints what it would install.
    """
    if context.invoked_subcommand is None:
        print(context.get_help())


for command in (verify, check, bench, lesson, museum, exercise):
    app.command()(command)


def main() -> None:
    # When it ends, Python looks for cycles among all objects, those of JAX among them. That takes a third of a second,
    # to free memory that the system frees in any case; of frozen objects, there is nothing to be looked for.
    atexit.register(gc.freeze)
    try:
        app(prog_name="backproof")
    except SystemExit as end:
        if end.code == INTERRUPTED:
            _leave_at_once()
        raise


def _leave_at_once() -> None:
    """After Ctrl-C only: where it met JAX in a compilation, to take JAX down in order ended in a segmentation fault.

    Whatever has to be ended, such as processes, was ended by the commands. Python writes out what it holds in `stdout`
    when it ends, and tells if that fails; here it is done before.
    """
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # as it is if it was closed from the beginning
                stream.flush()
    except (OSError, ValueError):
        return  # Python is to tell
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
