"""The command `backproof exercise`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compare.cli import completion
from compare.cli.terminal import Stage, progress_bar, reported, show, width

if TYPE_CHECKING:
    from compare.exercise.classroom import Learner
    from compare.exercise.outcome import Outcome
    from compare.exercise.progress import Progress

EXIT_STATUS = {"agree": 0, "disagree": 1, "inconclusive": 3}


def exercise(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="The exercise. Without a name, all are listed. --hand-out and --collect take several names.",
            autocompletion=completion.among(completion.exercises),
        ),
    ] = None,
    folder: Annotated[
        Path,
        typer.Option(metavar="PATH", help="The folder of your answers and your record. It is created if necessary."),
    ] = Path("exercises"),
    hint: Annotated[
        bool,
        typer.Option(
            "--hint", help="Show one more hint: first the shapes, then what is often forgotten, then the formula."
        ),
    ] = False,
    solution: Annotated[
        bool, typer.Option("--solution", help="Show the solution, a function of `manual`, beside your lines.")
    ] = False,
    notebook: Annotated[
        bool, typer.Option("--notebook", help="Write a notebook instead of a Python file; also with --hand-out.")
    ] = False,
    hand_out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="For a teacher: write the named exercises, or all, into a folder, without solutions.",
        ),
    ] = None,
    collect: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="For a teacher: judge the answers of all learners to the named exercises, or to all. The folder has "
            "one folder for each learner. This RUNS their code, in separate processes, with your permissions.",
        ),
    ] = None,
    time_limit: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="With --collect: the time limit for each exercise of each learner."),
    ] = 60.0,
    json: Annotated[Path | None, typer.Option(metavar="PATH", help="Write the verdicts and scores as JSON.")] = None,
) -> None:
    """Derive and write backward passes yourself. A judge says whether each is right, and if not, where and why.

    `backproof exercise bias` writes exercises/bias.py, with the forward pass and a gap for the backward pass. Fill in
    the gap and run the same command again. When your answer is right, it is shown beside the solution in `manual`.

    Exit status: 0 the answer is right, or there was none to judge; 1 it is wrong; 2 bad input, or the answer is
    unfinished or cannot be run; 3 inconclusive. With --collect, 0 if all answers were judged, whatever the verdicts.
    """
    status = 0
    with reported() as stage:
        from compare.errors import BadInput
        from compare.files import check_writable

        if hand_out is not None and collect is not None:
            raise BadInput("--hand-out and --collect cannot be combined. Give one of them.")
        several = list(names or ())
        if len(several) > 1 and hand_out is None and collect is None:
            raise BadInput(f"only --hand-out and --collect take several exercises; got {', '.join(several)}.")
        name = several[0] if several else None
        if name is None and (hint or solution):
            raise BadInput(f"--{'hint' if hint else 'solution'} needs the name of an exercise.")
        if json:
            if name is None and collect is None:
                raise BadInput("--json needs an exercise to judge, or --collect.")
            check_writable(json)
        if hand_out is not None:
            _hand_out(hand_out, several, notebook)
        elif collect is not None:
            _collect(collect, several, time_limit, json, stage)
        elif name is None:
            _list(folder)
        else:
            status = _one(name, folder, hint, solution, notebook, json, stage)
    raise typer.Exit(status)


def _one(name: str, folder: Path, hint: bool, solution: bool, notebook: bool, json: Path | None, stage: Stage) -> int:
    """Write, judge or explain one exercise. Returns the exit status."""
    from compare.exercise import EXERCISES
    from compare.exercise.outcome import judged, page_beside
    from compare.exercise.progress import progress_in
    from compare.exercise.reading import answer_in, known, read
    from compare.files import write_json
    from compare.judge.reports.tables import WIDTH, plain_text

    name = known(name)
    progress = progress_in(folder)
    file = answer_in(folder, name)
    if hint or solution:
        if hint:
            _hint(name, progress)
        if solution:
            progress.of(name).page_shown = True
            show(page_beside(name, read(file) if file else None, width(150)))
        folder.mkdir(exist_ok=True)
        progress.save()
        return 0
    if file is None:
        _write(name, folder, notebook)
        return 0
    answer = read(file)
    with stage.loading():
        import compare.exercise.judging  # noqa: F401  which loads JAX
    stage.say(f"judging {file}", 0)
    outcome = judged(name, answer)
    record = progress.of(name)
    record.attempts += 1
    record.solved = record.solved or outcome.right
    if json:
        write_json(json, outcome.to_dict())
        stage.written.append(json)
    if outcome.right:
        show(f"Right. {_agreement(outcome)}\n\n{page_beside(name, answer, width(150))}")
    else:
        more = f"`backproof exercise {name} --hint` gives a hint."
        if record.hints >= len(EXERCISES[name].hints):
            more = f"You have read all hints; `backproof exercise {name} --solution` shows the solution."
        show(plain_text(f"{outcome}\n\n{more}".strip(), width=width(WIDTH)))
    progress.save()  # only now, so that the verdict is shown even if this fails because the disk is full
    return EXIT_STATUS[outcome.verdict]


def _agreement(outcome: "Outcome") -> str:
    """The verdict AGREE in a sentence. That of a training run is about drift, which three steps do not have."""
    from compare.exercise import EXERCISES
    from compare.exercise.judging import STEPS

    if EXERCISES[outcome.name].door == "step":
        return f"AGREE: the parameters and the state agree after each of {STEPS} steps."
    return outcome.report.sentence


def _write(name: str, folder: Path, notebook: bool) -> None:
    from compare.errors import BadInput
    from compare.exercise.sheet import as_notebook, as_python, function_name
    from compare.files import check_writable, write_text

    if not folder.is_dir() and not folder.parent.is_dir():
        raise BadInput(f"{folder} cannot be created: there is no folder {folder.parent}. Create that first.")
    if not folder.exists():
        folder.mkdir()
    file = folder / f"{name}{'.ipynb' if notebook else '.py'}"
    check_writable(file)
    write_text(file, as_notebook(name) if notebook else as_python(name))
    show(f"{file} was written. Fill in {function_name(name)}, then run the same command again.")


def _hint(name: str, progress: "Progress") -> None:
    from compare.exercise import EXERCISES
    from compare.judge.reports.tables import WIDTH, plain_text

    hints, record = EXERCISES[name].hints, progress.of(name)
    record.hints = min(record.hints + 1, len(hints))
    read = [f"Hint {i} of {len(hints)}: {text}" for i, text in enumerate(hints[: record.hints], 1)]
    if record.hints == len(hints):
        read.append(f"There are no more hints; `backproof exercise {name} --solution` shows the solution.")
    show(plain_text(*read, width=width(WIDTH)))


def _list(folder: Path) -> None:
    from compare.exercise import EXERCISES
    from compare.exercise.progress import progress_in
    from compare.judge.reports.tables import WIDTH, plain_text, table

    progress = progress_in(folder)
    rows = []
    for name, exercise in EXERCISES.items():
        record = progress.of(name)
        seen = ", solution seen" if record.page_shown and not record.solved else ""
        rows.append((name, exercise.title, f"{record.in_words}{seen}", str(record.hints or "-")))
    first = next((name for name in EXERCISES if not progress.of(name).solved), None)
    end = f"{progress.solved} of {len(EXERCISES)} are solved. "
    end += f"Next: `backproof exercise {first}`." if first else "Well done."
    show(
        plain_text(
            table(("exercise", "what is derived", "your answer", "hints"), rows, left=3), end, width=width(WIDTH)
        )
    )


def _hand_out(folder: Path, names: list[str], notebook: bool) -> None:
    from compare.exercise.classroom import hand_out

    written = hand_out(folder, names, notebooks=notebook)
    show(f"{len(written)} files were written into {folder}. Files that existed before were not changed.")


def _collect(folder: Path, names: list[str], time_limit: float, json: Path | None, stage: Stage) -> None:
    from compare.exercise.classroom import chosen, collect, learners_in
    from compare.files import write_json
    from compare.judge.reports.tables import WIDTH, plain_text, table

    names = chosen(names)
    with progress_bar(len(learners_in(folder)), stage) as progress:
        learners = collect(folder, names, time_limit=time_limit, progress=progress)
    if json:
        write_json(json, {"assignment": "backproof exercise", "learners": [each.to_dict() for each in learners]})
        stage.written.append(json)
    headers = ("learner", "right", "wrong", "unfinished", "not run", "missing", "score")
    show(plain_text(table(headers, [_row(each) for each in learners]), width=width(WIDTH)))


def _row(learner: "Learner") -> tuple[str, ...]:
    counts = (("agree",), ("disagree", "inconclusive"), ("unfinished",), ("error", "stopped"), ("missing",))
    whole = learner.to_dict()
    return learner.name, *(str(learner.count(*each)) for each in counts), f"{whole['score']} of {whole['max_score']}"
