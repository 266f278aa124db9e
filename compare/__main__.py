"""The command. Exit status: 0 agree, 1 disagree, 2 bad input or usage, 3 inconclusive, 130 interrupted."""

import os
import sys

import typer

from compare.commands.bench import bench
from compare.commands.lesson import lesson
from compare.commands.museum import museum
from compare.commands.verify import verify

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
        if end.code == 130:
            # Interrupted while it compiles, JAX crashes when Python takes it down; so leave without that.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(130)
        raise


if __name__ == "__main__":
    main()
