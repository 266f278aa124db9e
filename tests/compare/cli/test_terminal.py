"""Last words: what a command says, and with which status, when something stops it."""

import contextlib
import gc
import io
import os
import signal
import sys
import threading
import time

import pytest
import typer
from typer.testing import CliRunner

from compare.cli.terminal import PageCommand, progress_bar, reported, show
from compare.errors import BadInput
from compare.judge.reports.tables import plain_text, table


def stopped(error, written=()):
    """The exit status of a command that `error` stops."""
    try:
        with reported() as stage:
            stage.say("training", 3)
            stage.written.extend(written)
            raise error
    except typer.Exit as end:
        return end.exit_code


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (BadInput("no such thing"), 2, "backproof: no such thing\n"),
        (MemoryError("9 GiB"), 2, "backproof: this does not fit into memory: 9 GiB."),
        (FileNotFoundError(2, "No such file", "a.csv"), 2, "backproof: a.csv: No such file\n"),
        (KeyboardInterrupt(), 130, "backproof: interrupted while training, 3 steps done; nothing was written\n"),
    ],
)
def test_what_stops_a_command_is_said_in_one_line(error, status, words, capsys):
    assert stopped(error) == status
    assert capsys.readouterr().err.startswith(words)


def test_an_interruption_says_what_was_written(tmp_path, capsys):
    assert stopped(KeyboardInterrupt(), [tmp_path / "out.json"]) == 130
    assert "only " in capsys.readouterr().err


def test_an_interruption_swallowed_on_its_way_comes_back():
    before = signal.getsignal(signal.SIGINT)

    def swallow_one():
        with reported() as stage:
            with contextlib.suppress(KeyboardInterrupt):  # as a destructor would
                stage.interrupt()
            stage.say("training", 4)

    with pytest.raises(typer.Exit) as end:
        swallow_one()
    assert end.value.exit_code == 130
    assert signal.getsignal(signal.SIGINT) is before


class Interrupting:
    """An object during whose end the user presses Ctrl-C, or something else goes wrong."""

    def __init__(self, action):
        self.action = action

    def __del__(self):
        self.action()


def test_an_interruption_swallowed_at_the_very_end_is_none_the_less_one(capsys):
    def draw():
        with reported() as stage:
            stage.say("drawing", 0)
            Interrupting(stage.interrupt)  # ends here, with what is raised

    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "unraisablehook", lambda lost: seen.append(lost.exc_type))
        hook = sys.unraisablehook
        with pytest.raises(typer.Exit) as end:
            draw()
        assert sys.unraisablehook is hook
    assert end.value.exit_code == 130
    assert seen == []
    assert capsys.readouterr().err == "backproof: interrupted while drawing; nothing was written\n"


@pytest.mark.parametrize("interrupted", [False, True])
def test_other_exceptions_that_nothing_catches_are_told_as_ever(interrupted):
    def fail():
        raise KeyboardInterrupt if not interrupted else ZeroDivisionError

    seen = []
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(typer.Exit):
        patch.setattr(sys, "unraisablehook", lambda lost: seen.append(lost.exc_type))
        with reported() as stage:
            stage.interrupted = interrupted
            Interrupting(fail)
    assert seen == [ZeroDivisionError if interrupted else KeyboardInterrupt]


def test_our_own_mistakes_are_not_hidden():
    with pytest.raises(ZeroDivisionError), reported():
        raise ZeroDivisionError


def test_what_a_terminal_cannot_show_is_replaced(monkeypatch):
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", ascii_only)
    show("a ≤ b")
    assert ascii_only.buffer.getvalue() == b"a <= b\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("columns", [24, 40, 80])
def test_no_line_is_longer_than_the_terminal_and_no_word_is_broken(columns, monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", str(columns))
    rows = [("blocks.0.W1", "16x30", "5.7e-14", "disagree"), ("b1", "16x1", "1.4e-17", "agree")]
    headers = ("gradient", "shape", "difference", "verdict")
    said = "  With a margin: " + "a sentence that is longer than this terminal is wide, by far. " * 2

    class Report:
        def __str__(self):
            return plain_text(said, table(headers, rows)) + "\n" + said

    show(Report())
    lines = screen.getvalue().splitlines()
    assert max(map(len, lines)) <= columns
    words = screen.getvalue().split()
    for cell in (*headers[1:], *(cell for row in rows for cell in row), "longer"):
        assert cell in words or f"{cell}:" in words
    assert ("  verdict: agree" in lines) is (columns < 80)


def test_what_is_piped_is_as_wide_as_ever(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    show("word " * 60)
    assert capsys.readouterr().out == "word " * 60 + "\n"


def test_a_stdout_on_a_full_disk_is_named(monkeypatch, capsys):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

        def fileno(self):
            return spare

    def work():
        with reported():
            show("a result")

    with open(os.devnull, "w") as other:
        spare = other.fileno()
        monkeypatch.setattr(sys, "stdout", Full())
        with pytest.raises(typer.Exit) as end:
            work()
    assert end.value.exit_code == 2
    assert capsys.readouterr().err == "backproof: standard output: No space left on device\n"


def test_the_bar_keeps_the_stage():
    with reported() as stage, progress_bar(10, stage) as progress:
        progress("training", 7)
        assert stage.text == "training, 7 steps done"
        progress("training", 1)
        assert stage.text == "training, 1 step done"


def test_an_interruption_waits_for_imports_to_end():
    reached = []

    def load():
        with reported() as stage:
            with stage.loading():
                signal.raise_signal(signal.SIGINT)
                reached.append("the end of the imports")
            reached.append("the work")

    with pytest.raises(typer.Exit) as end:
        load()
    assert end.value.exit_code == 130
    assert reached == ["the end of the imports"]


@pytest.fixture
def unfrozen():
    """As in a process in which nobody has frozen anything; tests/conftest.py has."""
    gc.unfreeze()
    yield
    gc.unfreeze()
    gc.freeze()


@pytest.mark.usefixtures("unfrozen")
@pytest.mark.parametrize("collecting", [True, False])
def test_the_search_for_cycles_is_as_it_was_after_imports(collecting):
    before = gc.isenabled()
    try:
        (gc.enable if collecting else gc.disable)()
        with reported() as stage:
            with contextlib.suppress(ImportError), stage.loading():
                assert not gc.isenabled()
                raise ImportError
            assert gc.isenabled() == collecting
            assert gc.get_freeze_count() > 0
        assert gc.get_freeze_count() == 0
    finally:
        (gc.enable if before else gc.disable)()


@pytest.mark.usefixtures("unfrozen")
def test_what_somebody_has_frozen_stays_so():
    gc.freeze()
    count = gc.get_freeze_count()
    with reported() as stage, stage.loading():
        pass
    assert gc.get_freeze_count() == count


def test_a_second_interruption_does_not_wait():
    reached = []

    def load():
        with reported() as stage, stage.loading():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            reached.append("the end of the imports")

    with pytest.raises(typer.Exit):
        load()
    assert reached == []


def test_without_a_terminal_a_long_run_is_heard_of_now_and_then(monkeypatch, capsys):
    monkeypatch.setattr("compare.cli.terminal.SILENCE", 0.05)
    threads = threading.active_count()
    with reported() as stage, progress_bar(10, stage) as progress:
        progress("training", 7)
        time.sleep(0.5)
    assert threading.active_count() == threads
    first, *_ = capsys.readouterr().err.splitlines()
    assert first == "backproof: training, 7 steps done (0 s since the start)"


def test_a_short_run_says_nothing_of_itself(capsys):
    with reported() as stage, progress_bar(10, stage) as progress:
        progress("training", 7)
    assert capsys.readouterr().err == ""


def test_another_thread_may_say_how_far_it_is_after_an_interruption():
    """It is the parent's, which hears a child, and the interruption is the main thread's to raise."""
    with contextlib.suppress(typer.Exit), reported() as stage:
        stage.interrupted = True
        thread = threading.Thread(target=stage.say, args=("training", 4))
        thread.start()  # an exception in it would be a warning of pytest's, and that an error
        thread.join()
        assert stage.text == "training, 4 steps done"


@pytest.mark.parametrize(
    ("given", "page"),
    [([], None), (["--html"], "made.html"), (["--html", "--seed", "3"], "made.html"), (["--html", "x.html"], "x.html")],
)
def test_the_page_of_a_command_may_be_left_unnamed(given, page):
    app = typer.Typer()

    @app.command(cls=PageCommand)
    def made(html: str | None = None, seed: int = 0):
        typer.echo(f"{html} {seed}")

    result = CliRunner().invoke(app, given)
    assert result.stdout == f"{page} {3 if '--seed' in given else 0}\n"


@pytest.mark.parametrize(("terminal", "longest"), [(True, 40), (False, 200)])
def test_a_message_has_the_width_of_the_terminal(monkeypatch, capsys, terminal, longest):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    message = "no op is called tahn. There are " + ", ".join(f"op{i}" for i in range(20))
    assert stopped(BadInput(message)) == 2
    said = capsys.readouterr().err.splitlines()
    assert max(map(len, said)) <= longest
    assert " ".join(said) == f"backproof: {message}"
