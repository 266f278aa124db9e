"""The command `backproof lesson`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from compare.cli import completion
from compare.cli.terminal import progress_bar, reported, show, width
from compare.cli.verify import EXIT_STATUS


def lesson(
    model: Annotated[
        str,
        typer.Option(
            help="shallow, mlp, convnet, rnn, lstm, gru or gpt.", autocompletion=completion.among(completion.models)
        ),
    ] = "shallow",
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|PATH",
            help="For shallow: moons (default), flower, breast-cancer, digits, or a file as for verify. If there are "
            "two features and two classes, the page shows the plane of the features.",
            autocompletion=completion.datasets,
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="PATH", help="A .csv or .npz file of your own: the same as --dataset PATH.")
    ] = None,
    hidden: Annotated[int | None, typer.Option(help="Hidden units, channels of the convnet, width of the gpt.")] = None,
    activation: Annotated[
        str | None,
        typer.Option(
            help="For shallow: tanh (default), relu, sigmoid, leaky_relu, elu, selu, softplus, gelu or silu. With any "
            "other than tanh, the network is built from the layers of the catalog and ends with a softmax.",
            autocompletion=completion.among(completion.activations),
        ),
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Step size.")] = None,
    iterations: Annotated[int | None, typer.Option(help="The number of training steps.")] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="[PATH]", help="Write an HTML page instead. Default of PATH: lesson.html."),
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="PATH", help="Write the results as JSON.")] = None,
    seed: Annotated[int, typer.Option(help="The seed of the initial weights and of generated data.")] = 0,
) -> None:
    """Show the derivation of one network step by step, with the numbers of a short training run.

    `backproof lesson --hidden 8 --activation relu --data mine.csv --html lesson.html` shows another network, with your
    own data.

    Each step shows the line of `manual`, its formulas, the line of `autodiff` that replaces it, and the values of both.
    For shallow, the Hessian-vector product follows in the same way. The HTML page is one file that works offline, with
    a slider for the training steps.

    Exit status: 0 agree, 1 disagree, 2 bad input or usage, 3 inconclusive.
    """
    with reported() as stage:
        from compare.errors import BadInput
        from compare.files import check_distinct, check_page, check_writable, write_json, write_text

        check_distinct(html=html, json=json)
        for path, test in ((html, check_page), (json, check_writable)):
            if path:
                test(path)
        if dataset is not None and data is not None:
            raise BadInput("--dataset and --data are the same option: give one of them.")
        options = {"dataset": dataset if data is None else str(data), "hidden": hidden, "activation": activation}
        options |= {"learning_rate": learning_rate, "iterations": iterations}
        given: dict[str, Any] = {option: value for option, value in options.items() if value is not None}
        with stage.loading():
            from compare.lesson import lesson as taught
            from compare.lesson.subject import MOMENTS

        with progress_bar(MOMENTS, stage) as progress:
            result = taught(model, seed=seed, progress=progress, **given)
        if html:
            from compare.html.lesson import lesson_page

            play = None
            if model == "shallow":
                from compare.lesson.playground import playground

                stage.say("judging broken lines", 0)
                play = playground(result.plane, seed=seed, settings=result.settings)
            write_text(html, lesson_page(result, play))
            stage.written.append(html)
        if json:
            write_json(json, result.to_dict())
            stage.written.append(json)
        if html:
            show(result.sentence)
        else:
            from compare.judge.reports.tables import WIDTH
            from compare.lesson.text import as_text

            show(as_text(result, width=width(WIDTH)))
        stage.tell_written()
    raise typer.Exit(EXIT_STATUS[result.verdict.value])
