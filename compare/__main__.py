"""The command. Exit status: 0 agree, 1 disagree, 2 bad input or usage, 3 inconclusive, 130 interrupted."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from compare.agreement import Verdict
from compare.problem import BadInput

EXIT_STATUS = {Verdict.AGREE: 0, Verdict.DISAGREE: 1, Verdict.INCONCLUSIVE: 3}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def start(context: typer.Context) -> None:
    """Hand-derived backprop against JAX: do they agree, where do they part, how fast is each?

    Start with `backproof verify`.
    """
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def verify(
    dataset: Annotated[
        str,
        typer.Option(
            metavar="NAME|PATH",
            help="breast-cancer, digits, moons, flower; or a .csv with a header (labels in column y, or the "
            "last one), or an .npz with x (examples, features) and y (examples,) or (examples, outputs).",
        ),
    ] = "breast-cancer",
    hidden: Annotated[int | None, typer.Option(help="Hidden units. Default: what suits the dataset.")] = None,
    iterations: Annotated[int, typer.Option(help="Steps of full-batch gradient descent.")] = 1000,
    learning_rate: Annotated[float | None, typer.Option(help="Step size. Default: what suits the dataset.")] = None,
    scale: Annotated[float, typer.Option(help="Standard deviation of the initial weights.")] = 0.1,
    seed: Annotated[int, typer.Option(help="For the initial weights, the split and made data.")] = 0,
    dtype: Annotated[str, typer.Option(help="float64 or float32.")] = "float64",
    platform: Annotated[str, typer.Option(help="Where JAX works: cpu, gpu or tpu.")] = "cpu",
    json: Annotated[Path | None, typer.Option(metavar="PATH", help="Write the results as JSON.")] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Draw loss and drift over steps (.png, .svg or .pdf)."),
    ] = None,
) -> None:
    """Train one network on real data both ways and compare every gradient and every step.

    The network is the notebook's: one hidden tanh layer, sigmoid outputs, binary cross-entropy.

    Exit status: 0 agree, 1 disagree, 2 bad input or usage, 3 inconclusive.
    """
    # Imported late, so that --help and mistakes in usage are answered at once: JAX takes a second to load.
    from compare.output import check_plottable, check_writable, plot_run, write_json
    from compare.verify import Settings
    from compare.verify import verify as run

    with _reported() as say:
        settings = Settings(dataset, hidden, iterations, learning_rate, scale, seed, dtype, platform)
        if json:
            check_writable(json)
        if plot:
            check_plottable(plot)
        with _progress_bar(iterations, say) as progress:
            result = run(settings, progress)
        Console(highlight=False).print(str(result), markup=False, soft_wrap=True)
        if json:
            write_json(json, result.to_dict())
        if plot:
            losses = {side: result.loss_curve(side) for side in result.losses}
            plot_run(plot, str(result.problem), losses, result.trajectory.drift)
    raise typer.Exit(EXIT_STATUS[result.verdict])


class _Stage:
    """What is being done and how much of it is done, for the bar and for the last words after Ctrl-C."""

    text = "starting"

    def say(self, what: str, steps: int) -> None:
        self.text = f"{what}, {steps} steps done" if steps else what


@contextmanager
def _reported() -> Iterator[_Stage]:
    """Bad input ends with one line and status 2, an interruption with one line and status 130."""
    stage = _Stage()
    try:
        yield stage
    except BadInput as error:
        typer.echo(f"backproof: {error}", err=True)
        raise typer.Exit(2) from None
    except OSError as error:
        typer.echo(f"backproof: {error.filename or 'input or output'}: {error.strerror or error}", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo(f"backproof: interrupted while {stage.text}; nothing was written", err=True)
        raise typer.Exit(130) from None


@contextmanager
def _progress_bar(iterations: int, stage: _Stage) -> Iterator[Callable[[str, int], None]]:
    """A bar on stderr if that is a terminal; in any case the stage is kept."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("starting", total=iterations)

        def progress(what: str, steps: int) -> None:
            stage.say(what, steps)
            bar.update(task, description=what, completed=steps)

        yield progress


def main() -> None:
    app(prog_name="backproof")


if __name__ == "__main__":
    main()
