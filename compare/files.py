"""Writes results to files: checks a path before the work starts, and writes a file completely or not at all."""

import json
import os
import secrets
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from compare.errors import BadInput


def check_writable(path: Path) -> None:
    """Checks that a file can be written, without changing anything.

    Args:
        path: the path of the file.

    Raises:
        BadInput: if no file can be written there.
    """
    try:
        if path.is_dir():
            raise BadInput(f"{path} is a directory; give the path of a file.")
        if path.exists() and not path.is_file():
            raise BadInput(f"{path} is not a regular file, and only such a file can be replaced.")
        if not path.parent.is_dir():
            raise BadInput(f"{path} cannot be written: there is no directory {path.parent}. Create it first.")
        with tempfile.TemporaryFile(dir=_target(path).parent):
            pass
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror}.") from error


def check_plottable(path: Path) -> None:
    """Checks that a plot can be written.

    Args:
        path: the path of the file, whose suffix must be one of PLOT_FORMATS.

    Raises:
        BadInput: if no file can be written there, or for another suffix.
    """
    check_writable(path)
    if path.suffix.lower() not in PLOT_FORMATS:
        raise BadInput(f"{path}: plots are written as {', '.join(PLOT_FORMATS)}; {path.suffix!r} is none of them.")


def check_page(path: Path) -> None:
    """Checks that a page can be written.

    Args:
        path: the path of the file. With a suffix that is not in PAGES, a browser would show the source of the page.

    Raises:
        BadInput: if no file can be written there, or for another suffix.
    """
    check_writable(path)
    if path.suffix.lower() not in PAGES:
        raise BadInput(f"{path}: a page is written as {' or '.join(PAGES)}; {path.suffix!r} is neither.")


def check_distinct(**paths: Path | None) -> None:
    """Checks that no two options write to the same file.

    Args:
        **paths: the path of each option, by the option's name; None if it is not used.

    Raises:
        BadInput: if two paths are the same.
    """
    seen: dict[Path, str] = {}
    for option, path in paths.items():
        if path is not None and (other := seen.setdefault(path.resolve(), option)) != option:
            raise BadInput(f"{path} is given for both --{other} and --{option}; give two paths.")


def write_text(path: Path, text: str) -> None:
    """Writes a text in UTF-8. Raises OSError if that fails."""
    _put(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Writes a value as JSON. Raises ValueError if it contains NaN or infinity, and OSError if writing fails."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


PLOT_FORMATS = (".png", ".svg", ".pdf")
PAGES = (".html", ".htm")


def plot_run(path: Path, title: str, losses: dict[str, tuple[list[int], list[float]]], drift: Any) -> None:
    """Plots the losses of both sides and the ratio of drift to distance travelled at each step.

    Args:
        path: the path of the file.
        title: the title of the plot.
        losses: for each side, by its name: the steps and the losses.
        drift: a `Curve` of a training report.
    """
    from matplotlib.figure import Figure  # matplotlib is slow to import, and only plots need it

    figure = Figure(figsize=(8, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    for name, (steps, values) in losses.items():
        above.plot(steps, values, "--" if name == "autodiff" else "-", label=name)
    above.set_title(title, parse_math=False)  # file names may hold dollar signs
    above.set(ylabel="loss")
    if any(value > 0 for _, values in losses.values() for value in values):
        above.set_yscale("log")
    above.legend()
    positive = [(step, value) for step, value in zip(drift.steps, drift.values, strict=True) if value > 0]
    below.plot([step for step, _ in positive], [value for _, value in positive], color="tab:red")
    below.set(xlabel="step", ylabel="drift / distance travelled")
    if positive:
        below.set_yscale("log")
    write_figure(path, figure)


def write_figure(path: Path, figure: Any) -> None:
    """Writes a matplotlib figure in the format of the path's suffix."""
    kind = path.suffix.lower().removeprefix(".")
    _put(path, lambda temporary: figure.savefig(temporary, format=kind, dpi=150))


def _target(path: Path) -> Path:
    """The target of a link, so that the file is replaced and not the link."""
    return path.resolve()


def _put(path: Path, write: Callable[[Path], Any]) -> None:
    """Writes a temporary file by `write` and renames it to `path`.

    Raises:
        OSError: with `path` as its file name, and not the name of the temporary file.
    """
    try:
        target = _target(path)
        temporary = _new_file(target.parent)
        try:
            write(temporary)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def _new_file(folder: Path) -> Path:
    """An empty temporary file with the usual permissions. A file of `tempfile` would be private to its owner."""
    while True:
        path = folder / f".backproof.{secrets.token_hex(8)}"  # a name that contains the result's name might be too long
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            return path
