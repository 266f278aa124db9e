"""The command `backproof bench`."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from compare.cli import completion
from compare.cli.terminal import progress_bar, reported, show

WHO = (
    "manual: the readable derivation in NumPy. manual-fast: the same, optimized. autodiff: the same network, "
    "differentiated and compiled by JAX. autodiff-fast: the same in JAX's default precision of products, on "
    "accelerators. jax-expert: a loop in JAX written for this network only. optax: our gradient with Optax's update. "
    "torch: eager PyTorch. torch-compiled: torch.compile. sklearn: scikit-learn's MLPClassifier. hips: HIPS autograd. "
    "bound, always there: the GEMM bound, the time of the matrix products alone."
)


def bench(
    context: typer.Context,
    newer: Annotated[
        Path | None,
        typer.Argument(
            metavar="[NEW.json]", help="With --compare: a stored run to compare, instead of timing anything."
        ),
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(
            metavar="FxHxM,...",
            help="Features x hidden x examples of the notebook's network, with commas between them. Default: "
            "2x4x400,30x32x569,64x128x1797,784x128x1024,784x512x4096. With --op, sizes of the op, such as 256x256.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Time a model instead: mlp, convnet, rnn, lstm, gru or gpt.",
            autocompletion=completion.among(completion.models),
        ),
    ] = None,
    op: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|all",
            help="Time ops of the catalog instead: names with commas between them.",
            autocompletion=completion.among(completion.ops, several=True),
        ),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="The contestants (default: all that are installed). " + WHO,
            autocompletion=completion.among(completion.contestants, several=True),
        ),
    ] = None,
    hidden: Annotated[
        int | None, typer.Option(help="For --model, as in verify. The same holds for the next seven options.")
    ] = None,
    layers: Annotated[int | None, typer.Option()] = None,
    heads: Annotated[int | None, typer.Option()] = None,
    length: Annotated[int | None, typer.Option()] = None,
    preset: Annotated[str | None, typer.Option()] = None,
    batch: Annotated[int | None, typer.Option()] = None,
    optimizer: Annotated[str | None, typer.Option()] = None,
    learning_rate: Annotated[float | None, typer.Option()] = None,
    dtype: Annotated[str, typer.Option(help="float32 or float64, for all contestants.")] = "float32",
    platform: Annotated[
        str, typer.Option(help="The platform of JAX: cpu, gpu or tpu. PyTorch uses a GPU as well.")
    ] = "cpu",
    rounds: Annotated[int, typer.Option(help="The number of rounds at each size.")] = 9,
    threads: Annotated[int | None, typer.Option(help="The number of cores and threads for each. Default: all.")] = None,
    seed: Annotated[int, typer.Option(help="The seed of data and initial weights.")] = 0,
    json: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Write the results as JSON, each size when it is finished.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --json PATH.")] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Draw times over sizes (.png, .svg or .pdf).")
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option(
            metavar="OLD.json",
            help="Compare with an older run: what is faster, and what is slower. With NEW.json, two stored runs.",
        ),
    ] = None,
    fail_above: Annotated[
        float | None,
        typer.Option(
            metavar="FACTOR",
            help="Exit with 1 if a contestant takes more than FACTOR times as long, beyond the noise, or now fails.",
        ),
    ] = None,
) -> None:
    """Time the same training steps by hand, in JAX and in other installed libraries.

    Every contestant does the same work on the same data in the same dtype, and runs in its own process. Before anything
    is timed, the results of all are compared. Contestants alternate in rounds, and compilation is timed separately.
    "x GEMM bound" is the time of a step divided by the time of its matrix products alone in NumPy's BLAS, with its
    spread. "load" is the number of cores that other processes kept busy during the rounds. For more contestants:
    .venv/bin/pip install -e '.[peers]'.

    `backproof bench --compare OLD.json NEW.json` compares two stored runs.

    With fewer than five rounds, no contestant is called faster than another. With fewer than five rounds, or where the
    rounds spread further than the two runs differ, --compare says "cannot tell", and --fail-above does not fail.

    Exit status: 0; 1 with --fail-above, if a contestant is slower or fails; 2 bad input or usage.
    """
    chosen = {"hidden": hidden, "layers": layers, "heads": heads, "length": length, "preset": preset}
    chosen |= {"batch": batch, "optimizer": optimizer, "learning_rate": learning_rate}
    given: dict[str, Any] = {option: value for option, value in chosen.items() if value is not None}
    with reported() as stage, _accelerator_shared():
        with stage.loading():
            from compare.bench.changes import changes
            from compare.bench.picture import plot_bench
            from compare.bench.run import bench as run
            from compare.bench.run import read, settings_for

        from compare.errors import BadInput
        from compare.files import check_distinct, check_plottable, check_writable

        check_distinct(json=json, plot=plot)
        if json:
            check_writable(json)
        if plot:
            check_plottable(plot)
        if resume and not json:
            raise BadInput("--resume needs --json PATH, the file with the results of the interrupted run.")
        if fail_above is not None and (compare is None or not fail_above >= 1):
            raise BadInput("--fail-above needs a factor of at least 1, and --compare OLD.json.")
        if newer is not None:
            _check_stored(context, newer)
        older = read(compare) if compare else None
        if older is not None and newer is not None:
            _show_changes(changes(older, read(newer)), fail_above)
            return
        common = {"dtype": dtype, "platform": platform, "rounds": rounds, "threads": threads, "seed": seed}
        names = None if only is None else [name.strip() for name in only.split(",") if name.strip()]
        settings = settings_for(sizes, model, op, given, only=names, **common)
        result, shown = None, 0
        with progress_bar(len(settings.sizes), stage) as progress:
            for result in run(settings, path=json, resume=resume, progress=progress, note=stage.note):
                if json and json not in stage.written:
                    stage.written.append(json)
                for cell in result.cells[shown:] if settings.kind != "ops" else ():
                    show(cell)
                    show("")
                shown = len(result.cells)
        assert result is not None  # there is at least one size
        if plot:
            plot_bench(plot, result)
            stage.written.append(plot)
        show(result)
        if older is not None:
            show("")
            _show_changes(changes(older, result), fail_above)


def _check_stored(context: typer.Context, newer: Path) -> None:
    """Refuse a stored run without an older one to compare it with, and options that only apply to a new run."""
    from compare.errors import BadInput

    if context.params["compare"] is None:
        raise BadInput(f"{newer} needs an older run to be compared with: backproof bench --compare OLD.json {newer}.")
    for name in context.params:
        source = context.get_parameter_source(name)
        if name not in ("newer", "compare", "fail_above") and source is not None and source.name != "DEFAULT":
            raise BadInput(
                f"--{name.replace('_', '-')} is for a new run, but two stored runs are compared. Leave out one of the "
                f"two: the option or {newer}."
            )


def _show_changes(found: Any, fail_above: float | None) -> None:
    show(found)
    if fail_above is not None and found.worse(fail_above):
        raise typer.Exit(1)


@contextmanager
def _accelerator_shared() -> Iterator[None]:
    """Within this context, JAX does not preallocate an accelerator's memory, because all contestants need some."""
    name = "XLA_PYTHON_CLIENT_PREALLOCATE"
    before = os.environ.get(name)
    os.environ.setdefault(name, "false")
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
