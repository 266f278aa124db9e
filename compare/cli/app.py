"""The command. Exit status: 0 agree, 1 disagree, 2 bad input or usage, 3 inconclusive, 130 interrupted."""

import os
import sys

import typer

from compare.cli.bench import bench
from compare.cli.lesson import lesson
from compare.cli.museum import museum
from compare.cli.verify import verify

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def start(context: typer.Context) -> None:
    """Hand-derived backprop against JAX: do they agree, where do they part, how fast is each?

    Start with `backproof verify`; `backproof lesson` shows how it is derived, `backproof bench` how fast each side is,
    `backproof museum` what goes wrong.
    """
    if context.invoked_subcommand is None:
        print(context.get_help())


for command in (verify, bench, lesson, museum):
    app.command()(command)


def main() -> None:
    try:
        app(prog_name="backproof")
    except SystemExit as end:
        if isinstance(end.code, int):
            _leave(end.code)
        raise


def _leave(status: int) -> None:
    """End here: to be taken down in order, JAX takes half a second, and crashes if it was interrupted in a compilation.

    Whatever has to be ended, such as processes, was ended by the commands.
    """
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # as it is if it was closed from the beginning
                stream.flush()
    except (OSError, ValueError):  # which Python tells when it ends
        return
    os._exit(status)


if __name__ == "__main__":
    main()
