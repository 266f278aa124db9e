"""`backproof lesson`."""

from pathlib import Path
from typing import Annotated

import typer

from compare.cli.terminal import progress_bar, reported, show, width
from compare.cli.verify import EXIT_STATUS


def lesson(
    model: Annotated[str, typer.Option(help="shallow, mlp, convnet, rnn, lstm, gru or gpt.")] = "shallow",
    html: Annotated[Path | None, typer.Option(metavar="PATH", help="Write a page instead, for any browser.")] = None,
    json: Annotated[Path | None, typer.Option(metavar="PATH", help="Write the results as JSON.")] = None,
    seed: Annotated[int, typer.Option(help="For the initial weights and made data.")] = 0,
) -> None:
    """Teach the derivation of one network, step by step, with the numbers of a tiny run.

    Every step shows the line of `manual`, its formulas, which are made from that source, the line of `autodiff` that
    makes it unnecessary, and what both compute. shallow goes on to second order: the same steps along a vector, for the
    Hessian times it. The page is one file that needs no network: a slider moves through training.

    Exit status: 0 agree, 1 disagree, 2 bad input or usage, 3 inconclusive.
    """
    with reported() as stage:
        from compare.files import check_distinct, check_page, check_writable, write_json, write_text

        check_distinct(html=html, json=json)
        for path, test in ((html, check_page), (json, check_writable)):
            if path:
                test(path)
        with stage.loading():
            from compare.lesson import lesson as taught
            from compare.lesson.subject import MOMENTS

        with progress_bar(MOMENTS, stage) as progress:
            result = taught(model, seed=seed, progress=progress)
        if html:
            from compare.html.lesson import lesson_page

            write_text(html, lesson_page(result))
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
    raise typer.Exit(EXIT_STATUS[result.verdict.value])
