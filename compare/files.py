"""Results on disk: a path is tried before the work starts, and a file appears whole or not at all."""

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
    """Raises BadInput unless a file can be put at `path`. Leaves nothing behind."""
    try:
        if path.is_dir():
            raise BadInput(f"{path} is a directory; give the path of a file.")
        if path.exists() and not path.is_file():
            raise BadInput(f"{path} is not a regular file, and only such a file can be replaced.")
        if not path.parent.is_dir():
            raise BadInput(f"{path} cannot be written: there is no directory {path.parent}. Make it first.")
        with tempfile.TemporaryFile(dir=_target(path).parent):
            pass
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror}.") from error


def check_plottable(path: Path) -> None:
    """As `check_writable`, and the suffix must name a format that plots come in."""
    check_writable(path)
    if path.suffix.lower() not in PLOT_FORMATS:
        raise BadInput(f"{path}: plots are written as {', '.join(PLOT_FORMATS)}; {path.suffix!r} is none of them.")


def check_page(path: Path) -> None:
    """As `check_writable`, and the suffix must be that of a page, or a browser would show its source."""
    check_writable(path)
    if path.suffix.lower() not in PAGES:
        raise BadInput(f"{path}: a page is written as {' or '.join(PAGES)}; {path.suffix!r} is neither.")


def check_distinct(**paths: Path | None) -> None:
    """Raises BadInput if two options, whose names the keywords are, would write to one place."""
    seen: dict[Path, str] = {}
    for option, path in paths.items():
        if path is not None and (other := seen.setdefault(path.resolve(), option)) != option:
            raise BadInput(f"{path} is given for both --{other} and --{option}; give two paths.")


def write_text(path: Path, text: str) -> None:
    _put(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


PLOT_FORMATS = (".png", ".svg", ".pdf")
PAGES = (".html", ".htm")


def plot_run(path: Path, title: str, losses: dict[str, tuple[list[int], list[float]]], drift: Any) -> None:
    """Loss of both sides, and drift over the distance travelled, over steps."""
    from matplotlib.figure import Figure  # imported late: only this needs it

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
    """A figure of matplotlib's, in the format that the suffix names."""
    kind = path.suffix.lower().removeprefix(".")
    _put(path, lambda temporary: figure.savefig(temporary, format=kind, dpi=150))


def _target(path: Path) -> Path:
    """Where a link leads, so that the file behind it is replaced and not the link."""
    return path.resolve()


def _put(path: Path, write: Callable[[Path], Any]) -> None:
    """Raises OSError with the name of the file that was asked for, not of the temporary, or of none."""
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
    """An empty one with the permissions of any new file, where those that `tempfile` makes are private."""
    while True:
        path = folder / f".backproof.{secrets.token_hex(8)}"  # with the result's own name, it might be too long
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            return path
