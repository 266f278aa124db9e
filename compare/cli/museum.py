"""The command `backproof museum`."""

from pathlib import Path
from typing import Annotated

import typer

from compare.cli import completion
from compare.cli.terminal import progress_bar, reported, show


def museum(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="The exhibit to show in detail. Without a name, all are shown in a table.",
            autocompletion=completion.among(completion.exhibits),
        ),
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="PATH", help="Write the results as JSON.")] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="[PATH]", help="Write an HTML page that works offline. Default of PATH: museum.html."),
    ] = None,
) -> None:
    """Show published bugs in gradients, each with the judge's report and the result of the check that missed it.

    Exit status: 0 if every bug shown is caught and every corrected version agrees, 1 if not, 2 bad input or usage.
    """
    with reported() as stage:
        from compare.files import check_distinct, check_page, check_writable, write_json, write_text

        check_distinct(json=json, html=html)
        for path, test in ((html, check_page), (json, check_writable)):
            if path:
                test(path)
        with stage.loading():
            from compare.museum import EXHIBITS
            from compare.museum.tour import Tour, expected_seconds, tour, visit

        if name is None:
            stage.note(f"{len(EXHIBITS)} exhibits: about {expected_seconds():.0f} s")
            with progress_bar(len(EXHIBITS), stage) as progress:
                result = tour(progress)
        else:
            stage.say(f"looking at {name}", 0)
            result = visit(name)
        if json:
            write_json(json, result.to_dict())
            stage.written.append(json)
        if html:
            from compare.html.museum import museum_page

            write_text(html, museum_page(result.visits if isinstance(result, Tour) else [result]))
            stage.written.append(html)
        show(result)
        stage.tell_written()
    raise typer.Exit(0 if result.as_it_should_be else 1)
