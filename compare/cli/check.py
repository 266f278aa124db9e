"""The command `backproof check`."""

import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

from compare.cli.terminal import reported, show

EXIT_STATUS = {"agree": 0, "disagree": 1, "inconclusive": 3}
RECORDINGS = (".npz", ".npy", ".safetensors")


def check(
    what: Annotated[
        str,
        typer.Argument(
            metavar="FILE.py:NAME|RECORDING",
            help="The function to check, or a recording of steps (.safetensors, .npz).",
        ),
    ],
    reference: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE.py:NAME|RECORDING",
            help="The reference in JAX. Without one, the function's own loss is the reference. For a recording: a "
            "second recording.",
        ),
    ] = None,
    backward: Annotated[
        str | None, typer.Option(metavar="FILE.py:NAME", help="With --vjp: the backward function.")
    ] = None,
    at: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="An array file with the inputs. Default: the function inputs() in the file."),
    ] = None,
    loss: Annotated[str | None, typer.Option(metavar="FILE.py:NAME", help="For a recording: the loss in JAX.")] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(metavar="NAME:OPTION=VALUE", help="For a recording: its update rule, such as adamw:lr=0.001."),
    ] = None,
    twin: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="For two recordings: a second correct run of the first program, which differs from its first run by "
            "rounding only.",
        ),
    ] = None,
    vjp: Annotated[bool, typer.Option("--vjp", help="Check a forward function and its backward function.")] = False,
    jvp: Annotated[
        bool, typer.Option("--jvp", help="Check a Jacobian-vector product, a function of (primals, tangents).")
    ] = False,
    hvp: Annotated[
        bool, typer.Option("--hvp", help="Check a Hessian-vector product, a function of (parameters, vector).")
    ] = False,
    jacobian: Annotated[bool, typer.Option("--jacobian", help="Check a function that returns a Jacobian.")] = False,
    hessian: Annotated[bool, typer.Option("--hessian", help="Check a function that returns a Hessian.")] = False,
    dtype: Annotated[str | None, typer.Option(help="Convert floating-point inputs to this dtype.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Treat lost digits and overflow as errors, too.")] = False,
    seed: Annotated[int, typer.Option(help="The seed of the check's own random numbers; inputs() sets its own.")] = 0,
    json: Annotated[Path | None, typer.Option(metavar="PATH", help="Write the report as JSON.")] = None,
    report: Annotated[Path | None, typer.Option(metavar="PATH", help="Write the report as an HTML page.")] = None,
    junit: Annotated[Path | None, typer.Option(metavar="PATH", help="Write the report as JUnit's XML.")] = None,
) -> None:
    """Check a derivative of your own, or training steps that were recorded in any language.

    `backproof check mine.py:by_hand mine.py:loss --at inputs.npz` compares the (loss, gradients) that by_hand returns
    with a loss in JAX and its gradient. `backproof check run.safetensors --loss mine.py:loss` checks recorded steps.
    Given two recordings, it reports the first tensor in which the runs differ by more than rounding.

    Exit status: 0 agree, 1 disagree, 2 bad input or usage, 3 inconclusive.
    """
    with reported() as stage:
        from compare.errors import BadInput
        from compare.files import check_distinct, check_page, check_writable, write_json, write_text

        check_distinct(json=json, report=report, junit=junit)
        for path, test in ((json, check_writable), (report, check_page), (junit, check_writable)):
            if path:
                test(path)
        doors = {"vjp": vjp, "jvp": jvp, "hvp": hvp, "jacobian": jacobian, "hessian": hessian}
        chosen = [name for name, given in doors.items() if given]
        recording = Path(what).suffix in RECORDINGS
        _refuse_what_would_be_ignored(
            {"loss": loss, "optimizer": optimizer, "twin": twin}
            if not recording
            else {"backward": backward, "at": at, "dtype": dtype, **doors},
            f"{what} is a recording"
            if recording
            else f"{what} is none: the names of recordings end with {', '.join(RECORDINGS)}",
            "functions" if recording else "recordings",
        )
        if len(chosen) > 1:
            raise BadInput(f"--{chosen[0]} and --{chosen[1]} exclude each other: choose one.")
        if dtype is not None and dtype not in ("float64", "float32", "float16", "bfloat16"):
            raise BadInput(f"--dtype must be float64, float32, float16 or bfloat16, got {dtype!r}.")
        with stage.loading():
            import compare.judge.gradients  # noqa: F401  # imports JAX, which takes long
        stage.say("checking", 0)
        try:
            if recording:
                found = _recordings(what, reference, loss, optimizer, twin, strict, seed)
            else:
                found = _functions(what, reference, backward, at, dtype, strict, seed, chosen)
        except SystemExit as error:  # its status would be mistaken for that of a verdict
            raise BadInput(f"the code under test called sys.exit({error.code!r}), so it was not checked.") from None
        except BadInput:
            raise
        except Exception as error:
            message = _message_of(error, [what, reference, backward, loss])
            if message is None:
                raise
            raise BadInput(message) from None
        if json:
            write_json(json, found.to_dict())
            stage.written.append(json)
        if report:
            from compare.html.checked import checked_page

            write_text(report, checked_page(found, what))
            stage.written.append(report)
        if junit:
            from compare.check.junit import junit as as_junit

            write_text(junit, as_junit(found, what))
            stage.written.append(junit)
        show(found)
    raise typer.Exit(EXIT_STATUS[found.verdict.value])


def _refuse_what_would_be_ignored(options: dict[str, Any], why: str, whose: str) -> None:
    from compare.errors import BadInput

    given = next((name for name, value in options.items() if value), None)
    if given is not None:
        raise BadInput(f"--{given} is for {whose}, and {why}.")


def _message_of(error: Exception, named: list[str | None]) -> str | None:
    """The message for an exception that the user's files raised or caused; None for an error of our own."""
    files = {Path(name.rpartition(":")[0]).resolve() for name in named if name and ":" in name}
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).resolve() in files]
    message = str(error).partition("\n")[0]
    if frames:
        where = f"{frames[-1].filename}, line {frames[-1].lineno}, in {frames[-1].name}"
        return f"{where}: {type(error).__name__}: {message}"
    return message if isinstance(error, TypeError) else None  # a TypeError is about what the functions return


def _functions(
    what: str,
    reference: str | None,
    backward: str | None,
    at: Path | None,
    dtype: str | None,
    strict: bool,
    seed: int,
    chosen: list[str],
) -> Any:
    import compare
    from compare.check.named import check_takes, in_dtype, inputs_of, named_function
    from compare.errors import BadInput

    by_hand = named_function(what)
    against = None if reference is None else named_function(reference)
    inputs = in_dtype(inputs_of(what, at), dtype)
    options: dict[str, Any] = {"seed": seed, "strict": strict}
    door = chosen[0] if chosen else "gradients"
    source = f"inputs() in {what.rpartition(':')[0]}" if at is None else str(at)
    if door not in ("jvp", "hvp"):  # these take tangents or a vector in addition to the inputs
        check_takes(what, by_hand, inputs, source)
    if reference is not None and against is not None:
        check_takes(reference, against, inputs, source)
    if backward is not None and door != "vjp":
        raise BadInput("--backward needs --vjp, which checks a forward function and its backward function.")
    if door == "vjp":
        if backward is None:
            raise BadInput("--vjp needs the backward function as well: --backward FILE.py:NAME.")
        return compare.check_vjp(by_hand, named_function(backward), against, *inputs, **options)
    if door == "gradients":
        return compare.check_gradients(by_hand, against, *inputs, **options)
    if against is None:
        raise BadInput(f"--{door} needs a reference in JAX. Give it as the second argument, after {what}.")
    checks = {"jvp": compare.check_jvp, "hvp": compare.check_hvp}
    checks |= {"jacobian": compare.check_jacobian, "hessian": compare.check_hessian}
    return checks[door](by_hand, against, *inputs, **options)


def _recordings(
    what: str,
    reference: str | None,
    loss: str | None,
    optimizer: str | None,
    twin: Path | None,
    strict: bool,
    seed: int,
) -> Any:
    from compare.check.arrays import read_arrays
    from compare.check.named import named_function
    from compare.check.optimizers import update_rule
    from compare.check.recorded_checks import check_recording
    from compare.check.recorded_runs import check_runs
    from compare.check.recording import recorded_steps
    from compare.errors import BadInput

    arrays = read_arrays(Path(what))
    if reference is not None:
        if ":" in reference and not Path(reference).exists():
            raise BadInput(f"to compare a recording with a loss in JAX, write --loss {reference}.")
        if loss is not None or optimizer is not None:
            option = "--loss" if loss is not None else "--optimizer"
            raise BadInput(
                f"{option} is for one recording; two recordings are compared with each other. Leave one of them out."
            )
        return check_runs(arrays, read_arrays(Path(reference)), None if twin is None else read_arrays(twin))
    if twin is not None:
        raise BadInput("--twin applies to two recordings only: it is a second correct run of the first program.")
    if loss is None:
        raise BadInput(f"{what} needs something to be compared with: give --loss FILE.py:NAME, or a second recording.")
    rule = None if optimizer is None else update_rule(optimizer)
    return check_recording(recorded_steps(arrays), named_function(loss), optimizer=rule, seed=seed, strict=strict)
