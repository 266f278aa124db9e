"""A path is refused before the work starts, and a file appears whole or not at all."""

import errno
import json
import math
import os
import stat
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import image
from matplotlib.figure import Figure

from compare.errors import BadInput
from compare.files import (
    PLOT_FORMATS,
    check_distinct,
    check_page,
    check_plottable,
    check_writable,
    plot_run,
    write_json,
)


@dataclass
class Drift:
    steps: list[int] = field(default_factory=lambda: [1, 2, 3])
    values: list[float] = field(default_factory=lambda: [0.0, 1e-16, 3e-16])


LOSSES = {"manual": ([0, 1, 2], [0.7, 0.5, 0.4]), "autodiff": ([0, 1, 2], [0.7, 0.5, 0.4])}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# ------------------------------------------------------------------------------------ before the work


def test_two_options_never_write_to_one_place(tmp_path, monkeypatch):
    check_distinct(json=tmp_path / "a", plot=tmp_path / "b", report=None, html=None)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    monkeypatch.chdir(tmp_path)
    for other in (tmp_path / "a", tmp_path / "link", Path("a")):
        with pytest.raises(BadInput, match=r"is given for both --json and --report; give two paths"):
            check_distinct(json=tmp_path / "a", plot=tmp_path / "b", report=other)


@pytest.mark.parametrize("check", [check_writable, check_plottable])
def test_a_path_that_can_be_written_passes_and_stays_as_it_was(tmp_path, check):
    check(tmp_path / "new.png")
    assert names(tmp_path) == []
    (tmp_path / "old.png").write_text("old")
    check(tmp_path / "old.png")
    assert names(tmp_path) == ["old.png"]
    assert (tmp_path / "old.png").read_text() == "old"


@pytest.mark.parametrize("check", [check_writable, check_plottable])
def test_a_path_in_the_current_directory_passes(tmp_path, monkeypatch, check):
    monkeypatch.chdir(tmp_path)
    check(Path("new.png"))


@pytest.mark.parametrize("check", [check_writable, check_plottable])
def test_a_path_that_cannot_be_written_is_refused(tmp_path, check):
    (tmp_path / "file").write_text("")
    for path, message in (
        (tmp_path, r"is a directory; give the path of a file"),
        (tmp_path / "none" / "a.png", r"a\.png cannot be written: there is no directory .*none\. Create it first"),
        (tmp_path / "file" / "a.png", r"a\.png cannot be written: there is no directory .*file"),
        (Path(""), r"is a directory"),
    ):
        with pytest.raises(BadInput, match=message):
            check(path)
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_a_directory_that_takes_no_files_is_refused(tmp_path, monkeypatch, code):
    # By a stand-in for the system's call, because modes do not bind an administrator.
    def refuse(path, *args, **options):
        raise OSError(code, os.strerror(code), path)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(BadInput, match=rf"a\.json cannot be written: {os.strerror(code)}\."):
        check_writable(tmp_path / "a.json")


def refusal(path):
    try:
        check_writable(path)
    except BadInput as error:
        return str(error)
    return None


@pytest.mark.parametrize("length", [200, 245, 250, 255, 256, 300])
def test_a_name_is_too_long_before_the_work_or_not_at_all(tmp_path, length):
    """The temporary beside the file has a longer name than the file itself."""
    path = tmp_path / ("x" * (length - 5) + ".json")
    message = refusal(path)
    if message is None:
        write_json(path, {})
        assert names(tmp_path) == [path.name]
    else:
        assert length > 200
        assert "too long" in message.lower()


def test_what_is_no_regular_file_is_never_replaced(tmp_path):
    """A pipe here; the same code would replace /dev/null by a file if an administrator ran it."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadInput, match=r"pipe .*(regular|ordinary) file"):
        check_writable(tmp_path / "pipe")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@pytest.mark.parametrize("suffix", [".gif", "", ".png2", ".json"])
def test_a_plot_needs_a_suffix_that_is_known(tmp_path, suffix):
    with pytest.raises(BadInput, match=r"plots are written as \.png, \.svg, \.pdf; '.*' is none of them") as caught:
        check_plottable(tmp_path / f"plot{suffix}")
    assert repr(suffix) in str(caught.value)


@pytest.mark.parametrize("suffix", [*PLOT_FORMATS, ".PNG"])
def test_known_suffixes_pass(tmp_path, suffix):
    check_plottable(tmp_path / f"plot{suffix}")


@pytest.mark.parametrize(("suffix", "right"), [(".html", 1), (".HTM", 1), (".png", 0), ("", 0), (".json", 0)])
def test_a_page_needs_the_suffix_of_a_page(tmp_path, suffix, right):
    if right:
        return check_page(tmp_path / f"page{suffix}")
    with pytest.raises(BadInput, match=r"a page is written as \.html or \.htm; '.*' is neither"):
        check_page(tmp_path / f"page{suffix}")


def test_a_file_system_that_is_full_names_the_file(tmp_path):
    """A limit on the size of files stands for a full disk: the system refuses the rest of what is written."""
    script = """
import resource, sys
from pathlib import Path
from compare.files import write_text
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_text(Path(sys.argv[1]), "x" * 100_000)
except OSError as error:
    print(error.filename)
"""
    path = tmp_path / "page.html"
    ended = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, timeout=60)
    assert (ended.stdout, ended.returncode) == (f"{path}\n", 0), ended.stderr
    assert names(tmp_path) == []


# ----------------------------------------------------------------------------------------------- JSON


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(VALUES)
@settings(max_examples=50, deadline=None)  # a disk may be slow
def test_json_reads_back_as_it_was_written(value):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.json"
        write_json(path, value)
        text = path.read_text(encoding="utf-8")
        assert json.loads(text) == value
        assert text.endswith("\n")
        assert names(path.parent) == ["a.json"]


@pytest.mark.parametrize("value", [math.nan, math.inf, {"a": [-math.inf]}, {"a": object()}, {1, 2}])
def test_what_json_cannot_say_leaves_the_file_as_it_was(tmp_path, value):
    path = tmp_path / "a.json"
    with pytest.raises((ValueError, TypeError)):
        write_json(path, value)
    assert names(tmp_path) == []
    write_json(path, "before")
    with pytest.raises((ValueError, TypeError)):
        write_json(path, value)
    assert json.loads(path.read_text()) == "before"
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("existing", [None, "before"])
@pytest.mark.parametrize("kind", ["json", "plot"])
def test_a_writer_that_fails_halfway_leaves_no_trace(tmp_path, monkeypatch, kind, existing, failure):
    path = tmp_path / "result.png"
    if existing is not None:
        path.write_text(existing)
    targets = []

    def fail_halfway(target):
        target.write_bytes(b"half of i")
        targets.append(target)
        raise failure

    monkeypatch.setattr(Path, "write_text", lambda self, *args, **options: fail_halfway(self))
    monkeypatch.setattr(Figure, "savefig", lambda self, target, *args, **options: fail_halfway(Path(target)))
    with pytest.raises(type(failure)) as raised:
        write_json(path, {"a": 1}) if kind == "json" else plot_run(path, "title", LOSSES, Drift())
    assert getattr(raised.value, "filename", str(path)) == str(path), "the file that was asked for is to be named"
    assert targets != [path], "the file itself was written to, so a reader could see half of it"
    assert names(tmp_path) == ([] if existing is None else ["result.png"])
    assert existing is None or path.read_text() == existing


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_file_has_the_mode_of_any_other_new_file(tmp_path, monkeypatch, umask):
    """Which is told without setting the umask, that of all threads, for a moment."""
    before = os.umask(umask)
    try:
        (tmp_path / "b.json").write_text("1")
        with monkeypatch.context() as patch:
            patch.setattr(os, "umask", lambda mask: pytest.fail("the umask is the caller's"))
            write_json(tmp_path / "a.json", 1)
    finally:
        os.umask(before)
    assert (tmp_path / "a.json").stat().st_mode == (tmp_path / "b.json").stat().st_mode


def test_a_temporary_file_of_another_run_is_left_alone(tmp_path, monkeypatch):
    names_drawn = iter(["other", "other", "own"])
    monkeypatch.setattr("compare.files.secrets.token_hex", lambda count: next(names_drawn))
    (tmp_path / ".backproof.other").write_text("somebody else's")
    write_json(tmp_path / "a.json", 1)
    assert (tmp_path / ".backproof.other").read_text() == "somebody else's"
    assert (tmp_path / "a.json").read_text() == "1\n"


def test_writing_through_a_link_keeps_the_link(tmp_path):
    (tmp_path / "target.json").write_text("old")
    (tmp_path / "link.json").symlink_to("target.json")
    check_writable(tmp_path / "link.json")
    write_json(tmp_path / "link.json", "new")
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "target.json").read_text()) == "new"


# ---------------------------------------------------------------------------------------------- plots


def test_a_png_is_a_picture(tmp_path):
    plot_run(tmp_path / "plot.png", "title", LOSSES, Drift())
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    pixels = image.imread(tmp_path / "plot.png")
    height, width, _ = pixels.shape
    assert min(height, width) > 500
    assert pixels.std() > 0.01  # something is drawn


def test_an_svg_is_a_drawing(tmp_path):
    plot_run(tmp_path / "plot.svg", "title", LOSSES, Drift())
    assert ElementTree.parse(tmp_path / "plot.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_a_pdf_is_a_document(tmp_path):
    plot_run(tmp_path / "plot.PDF", "title", LOSSES, Drift())
    assert (tmp_path / "plot.PDF").read_bytes().startswith(b"%PDF-")


@pytest.mark.sweep
@pytest.mark.parametrize("title", ["costs_$1_to_$2.csv", "a$^$.csv", "100%_\\frac{\n"])
def test_a_title_is_text_and_never_a_formula(tmp_path, title):
    plot_run(tmp_path / "plot.png", title, LOSSES, Drift())
    assert names(tmp_path) == ["plot.png"]


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("losses", "drift"),
    [
        ([0.0, 0.0, 0.0], Drift(values=[0.0, 0.0, 0.0])),
        ([0.7, math.nan, math.nan], Drift(values=[1e-16, math.nan, math.nan])),
        ([math.inf] * 3, Drift(values=[math.inf] * 3)),
        ([1e200, 1e-200, 1.0], Drift(values=[1e-200, 1e200, 1.0])),
    ],
)
def test_runs_that_end_badly_can_be_drawn(tmp_path, losses, drift):
    plot_run(tmp_path / "plot.png", "title", dict.fromkeys(("manual", "autodiff"), ([0, 1, 2], losses)), drift)
    assert names(tmp_path) == ["plot.png"]


def test_a_run_of_one_step_can_be_drawn(tmp_path):
    plot_run(tmp_path / "plot.png", "title", dict.fromkeys(("manual", "autodiff"), ([0], [0.7])), Drift([1], [1e-16]))
    assert names(tmp_path) == ["plot.png"]
