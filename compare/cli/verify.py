"""The command `backproof verify`."""

import shlex
import sys
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from compare.cli import completion
from compare.cli.terminal import Stage, progress_bar, reported, show

EXIT_STATUS = {"agree": 0, "disagree": 1, "inconclusive": 3}


def verify(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Option(
            help="shallow, mlp, convnet, rnn, lstm, gru or gpt, each with defaults of its own.",
            autocompletion=completion.among(completion.models),
        ),
    ] = "shallow",
    op: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|all",
            help="Verify single ops of the catalog instead: names with commas between them.",
            autocompletion=completion.among(completion.ops, several=True),
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|PATH",
            help="For shallow: breast-cancer (default), digits, moons, flower, or a file. A .csv file has a header, "
            "and commas, semicolons or tabs between its columns. The labels are in column y, or else in the last one, "
            "as numbers or texts, of any number of classes. An .npz file has x of shape (examples, features) and y of "
            "shape (examples,) or (examples, outputs).",
            autocompletion=completion.datasets,
        ),
    ] = None,
    hidden: Annotated[int | None, typer.Option(help="Hidden units, channels of the convnet, width of the gpt.")] = None,
    layers: Annotated[int | None, typer.Option(help="Hidden layers of the mlp, blocks of the gpt.")] = None,
    heads: Annotated[int | None, typer.Option(help="Attention heads of the gpt.")] = None,
    length: Annotated[int | None, typer.Option(help="Characters in a sequence.")] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="The sizes of the gpt: gpt2-124m and others. Its weights are random.",
            autocompletion=completion.among(completion.presets),
        ),
    ] = None,
    iterations: Annotated[
        int | None, typer.Option(help="The number of training steps. Default: 1000 for shallow, 200 for others.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(help="The number of examples in a mini-batch. shallow takes all at once.")
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            help="sgd, momentum, nesterov, adagrad, rmsprop, adam, adamw. shallow uses sgd.",
            autocompletion=completion.among(completion.optimizers),
        ),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="The step size. The default depends on the model and the data.")
    ] = None,
    scale: Annotated[
        float | None, typer.Option(help="For shallow: the standard deviation of the initial weights. Default: 0.1.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The seed of the initial weights, the split and generated data.")] = 0,
    dtype: Annotated[
        str,
        typer.Option(
            help="float64 or float32. Ops are verified in both.",
            autocompletion=completion.among(completion.dtypes),
        ),
    ] = "float64",
    platform: Annotated[
        str,
        typer.Option(
            help="The platform of JAX: cpu, gpu or tpu.", autocompletion=completion.among(completion.platforms)
        ),
    ] = "cpu",
    devices: Annotated[
        int | None,
        typer.Option(help="Divide every batch among this many devices. On a CPU, JAX simulates them on its cores."),
    ] = None,
    coordinator: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="For several processes: the address of process 0.")
    ] = None,
    process_id: Annotated[int, typer.Option(help="The number of this process, counted from 0.")] = 0,
    num_processes: Annotated[int, typer.Option(help="The number of processes.")] = 1,
    join_timeout: Annotated[int, typer.Option(help="Seconds to wait for all processes.")] = 30,
    json: Annotated[Path | None, typer.Option(metavar="PATH", help="Write the results as JSON.")] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Draw the loss, and the distance of both sides, over the steps (.png, .svg or .pdf)."
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Write an HTML page on the run, which works offline."),
    ] = None,
) -> None:
    """Train a network on real data by hand and by JAX, and compare every gradient and every step.

    The default network is the notebook's: one hidden tanh layer, sigmoid outputs, binary cross-entropy. With --op,
    single ops are verified at many shapes and options, and each has a line. With --devices or --coordinator, the result
    of several devices together, in one process or several, is compared with that of one device and with the derivation
    by hand.

    Exit status: 0 agree, 1 disagree, 2 bad input or usage, 3 inconclusive.
    """
    chosen = {"dataset": dataset, "hidden": hidden, "layers": layers, "heads": heads, "length": length}
    chosen |= {"preset": preset, "iterations": iterations, "batch": batch, "optimizer": optimizer}
    chosen |= {"learning_rate": learning_rate, "scale": scale}
    given = {option: value for option, value in chosen.items() if value is not None}
    with reported() as stage:
        from compare.errors import BadInput
        from compare.files import (
            check_distinct,
            check_page,
            check_plottable,
            check_writable,
            plot_run,
            write_json,
            write_text,
        )
        from compare.verify.processes import Listener, Processes, check_devices, is_child, joined, supervise

        check_distinct(json=json, plot=plot, report=report)
        for path, check in ((json, check_writable), (plot, check_plottable), (report, check_page)):
            if path:
                check(path)
        if devices is not None:
            check_devices(devices, platform)
        among = {name for name in ("process_id", "num_processes", "join_timeout") if _is_given(context, name)}
        if among and coordinator is None:
            option = min(among).replace("_", "-")
            raise BadInput(
                f"--{option} is for several processes, which also need --coordinator HOST:PORT, the address of "
                "process 0."
            )
        if coordinator is not None and not {"process_id", "num_processes"} <= among:
            raise BadInput(
                "--coordinator also needs --num-processes, the number of processes, and --process-id, the number of "
                "this one."
            )
        if devices is not None or coordinator is not None:
            if op or plot or report:
                raise BadInput("--op, --plot and --report do not apply to several devices.")
            processes = None
            if coordinator is not None:
                processes = Processes(coordinator, process_id, num_processes, join_timeout)
            if not is_child():
                with progress_bar(iterations, stage) as progress:
                    made = devices if platform == "cpu" else None
                    status = supervise(sys.argv[1:], made, processes, Listener(progress, stage.note))
                raise typer.Exit(status)
            with joined(processes) if processes else nullcontext():
                result = _in_parallel(model, given, seed, dtype, platform, stage)
        elif op is None:
            result = _run(model, given, seed, dtype, platform, stage)
        elif given or plot or report or model != "shallow":
            raise BadInput("--op can only be combined with --seed, --platform and --json.")
        else:
            result = _sweep(op, seed, platform, stage)
        if json:
            write_json(json, result.to_dict())
            stage.written.append(json)
        if plot:
            losses = {side: result.loss_curve(side) for side in result.losses}
            plot_run(plot, result.problem, losses, result.trajectory.drift)
            stage.written.append(plot)
        if report:
            from compare.html.report import report_page

            write_text(report, report_page(result, _command(context)))
            stage.written.append(report)
        show(result)
    raise typer.Exit(EXIT_STATUS[result.verdict.value])


def _command(context: typer.Context) -> str:
    """The command line that repeats the run, without the options that write results to files."""
    words = ["backproof", "verify"]
    for parameter in context.command.params:
        name = parameter.name or ""
        if _is_given(context, name) and name not in ("json", "plot", "report"):
            words += [parameter.opts[0], str(context.params[name])]
    return shlex.join(words)


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _run(model: str, given: dict[str, Any], seed: int, dtype: str, platform: str, stage: Stage) -> Any:
    if model == "shallow":
        from compare.errors import BadInput

        with stage.loading():
            from compare.verify.shallow import Settings
            from compare.verify.shallow import verify as run

        foreign = given.keys() - {field.name for field in fields(Settings)}
        if foreign:
            raise BadInput(f"--{min(foreign)} does not apply to --model shallow.")
        settings = Settings(**given, seed=seed, dtype=dtype, platform=platform)
        with progress_bar(settings.iterations, stage) as progress:
            return run(settings, progress, stage.note)
    with stage.loading():
        from compare.suite.models import settled
        from compare.verify.model import verify_model

    with progress_bar(settled(model, given)["iterations"], stage) as progress:
        return verify_model(model, given, seed=seed, dtype=dtype, platform=platform, progress=progress, note=stage.note)


def _in_parallel(model: str, given: dict[str, Any], seed: int, dtype: str, platform: str, stage: Stage) -> Any:
    """Verify on several devices, in a child process. The parent shows the progress."""
    from compare.verify.processes import tell_note, tell_progress

    with stage.loading():
        from compare.verify.sharded import verify_parallel

    def progress(what: str, steps: int) -> None:
        stage.say(what, steps)
        tell_progress(what, steps)

    return verify_parallel(model, given, seed=seed, dtype=dtype, platform=platform, progress=progress, note=tell_note)


def _sweep(names: str, seed: int, platform: str, stage: Stage) -> Any:
    """Verify single ops, and print a line for each when it is finished. Returns the results of all."""
    with stage.loading():
        from compare.platform import on_platform
        from compare.suite.ops import Sweep, catalog, sweep

    wanted = list(catalog()) if names == "all" else [name.strip() for name in names.split(",")]
    results = []
    with on_platform(platform):
        for result in sweep(wanted, seed=seed):
            results.append(result)
            stage.say(f"verifying ops, {len(results)} of {len(wanted)} done", 0)
            show(result)
    return Sweep(results)
