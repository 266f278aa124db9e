"""The command: what it prints where, its exit status, what it leaves behind, and how it takes bad news."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import compare.datasets
import compare.output
import compare.verify
import manual
import manual.shallow
from compare.__main__ import app
from compare.agreement import Row, Verdict
from compare.gradients import GradientReport
from compare.verify import Settings, verify


@pytest.fixture(autouse=True, scope="module")
def brief_rounds():
    """How fast the sides are is not the question here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("compare.timing.ROUND_SECONDS", 0.001)
        yield


def invoke(*arguments, charset="utf-8"):
    return CliRunner(charset).invoke(app, [str(argument) for argument in arguments], prog_name="backproof")


def assert_no_traceback(result):
    """An error that nobody caught stands in `exception`; what ends the program in order is SystemExit."""
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--process-id", "0"], r"--process-id is for several processes, which need --coordinator"),
        (["--num-processes", "1"], r"--num-processes is for several processes"),
        (["--join-timeout", "9"], r"--join-timeout is for several processes"),
        (["--coordinator", "here:80"], r"--coordinator needs --num-processes, how many there are, and --process-id"),
        (["--coordinator", "here:80", "--process-id", "0"], r"--coordinator needs --num-processes"),
    ],
)
def test_options_of_several_processes_come_together(arguments, message):
    assert_refused(invoke("verify", *arguments), message)


def test_devices_are_at_least_one():
    for count in ("0", "-1"):
        assert_refused(invoke("verify", "--devices", count), f"--devices must be at least 1, got {count}")


def assert_refused(result, message):
    assert_no_traceback(result)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert re.search(message, result.stderr), result.stderr
    assert result.stderr.startswith("backproof: ")
    assert result.stderr.count("\n") == 1


def strict(text):
    def refuse(token):
        raise AssertionError(f"{token} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def no_work(monkeypatch):
    """Fails a test in which the work begins."""

    def work(*args, **options):
        pytest.fail("the work began before the mistake was found")

    monkeypatch.setattr(compare.verify, "verify", work)


@pytest.fixture
def nothing_compared(monkeypatch):
    """Fails a test in which anything is done with the data."""

    def work(*args, **options):
        pytest.fail("the work began with data that cannot be worked with")

    monkeypatch.setattr(compare.verify, "check_gradients", work)


@pytest.fixture(scope="module")
def small_result():
    return verify(Settings(dataset="moons", iterations=3))


@pytest.fixture
def done(monkeypatch, small_result):
    """The work is done at once, with the result that this function was last given."""

    def give(result=small_result):
        monkeypatch.setattr(compare.verify, "verify", lambda settings, progress: result)

    give()
    return give


# ---------------------------------------------------------------------------------------- the defaults


@pytest.fixture(scope="module")
def defaults(tmp_path_factory):
    """One run as a newcomer would start it, with its files."""
    folder = tmp_path_factory.mktemp("defaults")
    return invoke("verify", "--json", folder / "result.json", "--plot", folder / "plot.png"), folder


def test_the_defaults_agree(defaults):
    result, _ = defaults
    assert_no_traceback(result)
    assert result.exit_code == 0
    assert result.stdout.endswith(
        "\nAGREE: by hand and by JAX, every gradient and all 1000 steps of training are the same.\n"
    )
    assert result.stdout.startswith("breast-cancer: 30 features, 1 output, 426 examples to train on, 143 held out\n")
    assert result.stderr == ""


def test_the_defaults_learn_what_they_are_to_learn(defaults):
    _, folder = defaults
    value = strict((folder / "result.json").read_text())
    accuracy = value["accuracy"]
    assert accuracy["manual"] == accuracy["autodiff"] > 0.95
    for side in ("manual", "autodiff"):
        steps, losses = value["losses"][side]["steps"], value["losses"][side]["values"]
        assert len(steps) == len(losses) == 1000
        assert losses[-1] < 0.1 * losses[0]


def test_the_json_is_strict_and_has_every_part(defaults):
    _, folder = defaults
    value = strict((folder / "result.json").read_text())
    assert value["verdict"] == "agree"
    assert value["settings"] == {
        "dataset": "breast-cancer",
        "hidden": 16,
        "iterations": 1000,
        "learning_rate": 0.3,
        "scale": 0.1,
        "seed": 0,
        "dtype": "float64",
        "platform": "cpu",
    }
    assert {row["path"] for row in value["gradients"]["rows"]} >= {"loss", "W1", "b1", "W2", "b2"}
    assert all(row["error"] <= row["allowed"] for row in value["gradients"]["rows"])
    assert value["trajectory"]["steps"] == 1000
    assert value["trajectory"]["verdict"] == "agree"
    assert value["seconds_per_step"].keys() == {"manual", "autodiff"}
    assert value["versions"].keys() >= {"numpy", "jax"}


def test_the_plot_is_a_picture_and_nothing_else_is_left(defaults):
    _, folder = defaults
    assert sorted(path.name for path in folder.iterdir()) == ["plot.png", "result.json"]
    assert (folder / "plot.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_options_reach_the_work(monkeypatch, small_result):
    seen = []
    monkeypatch.setattr(compare.verify, "verify", lambda settings, progress: seen.append(settings) or small_result)
    options = "--dataset digits --hidden 5 --iterations 7 --learning-rate 0.5 --scale 2 --seed 9 --dtype float32"
    assert invoke("verify", *options.split()).exit_code == 0
    assert seen == [Settings("digits", 5, 7, 0.5, 2.0, 9, "float32", "cpu")]


# --------------------------------------------------------------------------------------- exit statuses


@pytest.mark.parametrize(("verdict", "status"), [(Verdict.AGREE, 0), (Verdict.DISAGREE, 1), (Verdict.INCONCLUSIVE, 3)])
def test_the_exit_status_says_the_verdict_and_files_are_written_for_each(done, small_result, tmp_path, verdict, status):
    row = Row("W1", verdict, (1,), "float64", 1.0)
    done(replace(small_result, gradients=GradientReport(verdict, [row])))
    result = invoke("verify", "--json", tmp_path / "a.json", "--plot", tmp_path / "a.svg")
    assert_no_traceback(result)
    assert result.exit_code == status
    assert result.stdout.splitlines()[-1].startswith(f"{verdict.name}: ")
    assert strict((tmp_path / "a.json").read_text())["verdict"] == verdict.value
    assert (tmp_path / "a.svg").exists()


def test_a_planted_fault_ends_with_1(monkeypatch, small_result, tmp_path):
    # The gradients are to blame; looking for their fault in the training too would take seconds more.
    monkeypatch.setattr(compare.verify, "check_trajectory", lambda *args, **options: small_result.trajectory)
    right = manual.backpropagation

    def wrong(*args, **options):
        gradients = right(*args, **options)
        return gradients | {"W2": 1.01 * gradients["W2"]}

    for place in (manual, manual.shallow):
        monkeypatch.setattr(place, "backpropagation", wrong)
    result = invoke("verify", "--dataset", "moons", "--iterations", 3, "--json", tmp_path / "a.json")
    assert_no_traceback(result)
    assert result.exit_code == 1
    assert re.match(r"DISAGREE\b.*\bW2\b", result.stdout.splitlines()[-1])
    assert strict((tmp_path / "a.json").read_text())["gradients"]["first_wrong"] == "W2"


def test_right_steps_that_lead_apart_end_with_3(monkeypatch, small_result):
    """A chaotic run: no step is wrong, so this is no disagreement."""
    monkeypatch.setattr(compare.verify, "check_gradients", lambda *args, **options: small_result.gradients)
    result = invoke("verify", "--dataset", "moons", "--scale", 1, "--learning-rate", 300, "--iterations", 60)
    assert_no_traceback(result)
    assert result.exit_code == 3
    assert re.match(r"INCONCLUSIVE: (?i:every step is right by itself)", result.stdout.splitlines()[-1])


# -------------------------------------------------------------------------------------- bad settings


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        *(
            (["--" + name.replace(" ", "-"), value], rf"{name} must be positive and finite, got {value}")
            for name, values in (
                ("hidden", ["0", "-3"]),
                ("iterations", ["0", "-1000"]),
                ("learning rate", ["0.0", "-0.1", "nan", "inf", "-inf"]),
                ("scale", ["0.0", "-1.0", "nan", "inf"]),
            )
            for value in values
        ),
        (["--seed", "-1"], r"seed must not be negative, got -1"),
        (["--dtype", "float16"], r"no dtype is called 'float16'; there are float64, float32"),
    ],
)
def test_settings_that_make_no_sense_are_refused(arguments, message):
    assert_refused(invoke("verify", *arguments), message)


@pytest.mark.usefixtures("nothing_compared")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "iris"], r"no dataset is called 'iris'; there are breast-cancer, digits, moons, flower"),
        (["--dataset", ""], r"no dataset is called ''"),
        (["--platform", "cuda"], r"no platform is called 'cuda'; there are cpu, gpu, tpu"),
        (["--dataset", "moons", "--seed", str(2**64)], r"seed"),
    ],
)
def test_what_does_not_exist_is_refused(arguments, message):
    assert_refused(invoke("verify", *arguments), message)


@pytest.mark.usefixtures("nothing_compared")
@pytest.mark.parametrize("platform", ["gpu", "tpu"])
def test_a_platform_that_the_machine_lacks_is_refused(monkeypatch, platform):
    def devices(backend=None):
        if backend == platform:
            raise RuntimeError(f"Unknown backend: {backend}")
        return [Device]

    class Device:
        platform = "cpu"

    monkeypatch.setattr("jax.devices", devices)
    monkeypatch.setattr("jax.local_devices", devices)
    assert_refused(
        invoke("verify", "--platform", platform), rf"this machine has no {platform} that JAX can use; it sees: cpu\."
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hidden", "many"], r"Invalid value for '--hidden'"),
        (["--hidden", "1.5"], r"Invalid value for '--hidden'"),
        (["--iterations", "1e3"], r"Invalid value for '--iterations'"),
        (["--learning-rate", "fast"], r"Invalid value for '--learning-rate'"),
        (["--learning-rate"], r"requires an argument"),
        (["--speed", "3"], r"No such option: --speed"),
        (["moons"], r"unexpected extra argument"),
    ],
)
@pytest.mark.usefixtures("no_work")
def test_mistakes_in_usage_end_with_2(arguments, message):
    result = invoke("verify", *arguments)
    assert_no_traceback(result)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert re.search(message, result.stderr)


def test_an_unknown_command_ends_with_2():
    result = invoke("verfy")
    assert_no_traceback(result)
    assert result.exit_code == 2
    assert "verfy" in result.stderr


@pytest.mark.parametrize("size", [10**13, 10**25])
def test_a_network_larger_than_any_machine_is_refused(size):
    assert_refused(invoke("verify", "--dataset", "moons", "--hidden", size), r"(?i)hidden|memory|large")


def test_more_iterations_than_can_be_counted_are_refused(monkeypatch, small_result):
    monkeypatch.setattr(compare.verify, "check_gradients", lambda *args, **options: small_result.gradients)
    assert_refused(invoke("verify", "--dataset", "moons", "--iterations", 10**25), r"(?i)iterations|memory|large")


# ------------------------------------------------------------------------------------------ bad data


@pytest.mark.usefixtures("nothing_compared")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,y\n1,0\n2,3\n", r"labels must be 0 or 1, but y is 3 at example 1"),
        ("a,y\n1,0\nnan,1\n", r"x holds nan at example 1, column 0"),
        ("a,y\n-inf,0\n2,1\n", r"x holds -inf at example 0, column 0"),
        ("color,y\nred,0\n", r"line 2, column 'color': 'red' is not a number"),
        ("a,y\n1,0\n2\n", r"line 3: 1 cells where the header names 2 columns"),
        ("1,0\n2,1\n", r"must be a header"),
        ("", r"found 0 lines"),
        ("a,y\n", r"at least one example"),
        ("y\n1\n", r"one column only"),
    ],
)
def test_a_bad_csv_is_refused_and_nothing_is_written(tmp_path, text, message):
    (tmp_path / "data.csv").write_text(text)
    result = invoke("verify", "--dataset", tmp_path / "data.csv", "--json", tmp_path / "a.json")
    assert_refused(result, message)
    assert [path.name for path in tmp_path.iterdir()] == ["data.csv"]


@pytest.mark.usefixtures("nothing_compared")
@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.ones((3, 1)), "y": np.zeros(2)}, r"x has 3 examples \(rows\) and y has 2"),
        ({"x": np.ones((0, 1)), "y": np.zeros(0)}, r"no data"),
        ({"x": np.ones((3, 1))}, r"arrays named x and y are needed"),
        ({"x": np.array([[None]]), "y": np.zeros(1)}, r"Pickled objects are never loaded"),
        (None, r"cannot be read as \.npz"),
    ],
)
def test_a_bad_npz_is_refused(tmp_path, arrays, message):
    if arrays is None:
        (tmp_path / "data.npz").write_text("not an archive")
    else:
        np.savez(tmp_path / "data.npz", **arrays)
    assert_refused(invoke("verify", "--dataset", tmp_path / "data.npz"), message)


@pytest.mark.usefixtures("nothing_compared")
@pytest.mark.parametrize("suffix", ["csv", "npz"])
def test_a_missing_file_and_a_directory_are_refused(tmp_path, suffix):
    assert_refused(invoke("verify", "--dataset", tmp_path / f"a.{suffix}"), "cannot be read as .*No such file")
    assert_refused(invoke("verify", "--dataset", _made(tmp_path / f"b.{suffix}")), "cannot be read as ")


def _made(path):
    path.mkdir()
    return path


def test_an_error_while_reading_that_nobody_foresaw_is_a_line_too(monkeypatch):
    def fail(seed):
        raise PermissionError(13, "Permission denied", "somewhere/data")

    moons = replace(compare.datasets.DATASETS["moons"], rows=fail)
    monkeypatch.setitem(compare.datasets.DATASETS, "moons", moons)
    assert_refused(invoke("verify", "--dataset", "moons"), r"somewhere/data: Permission denied")


# ------------------------------------------------------------------------------------------- bad paths


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("option", ["--json", "--plot", "--report"])
def test_a_path_that_cannot_be_written_is_found_before_the_work(tmp_path, option):
    missing = tmp_path / "none" / "a.png"
    assert_refused(invoke("verify", option, missing), r"cannot be written: there is no directory .*none\. Make it")
    assert_refused(invoke("verify", option, tmp_path), r"is a directory; give the path of a file")
    assert_refused(invoke("verify", option, ""), r"is a directory")
    assert_refused(invoke("verify", option, tmp_path / ("x" * 300 + ".png")), r"(?i)too long")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("name", ["plot.gif", "plot", "plot.jpg"])
def test_an_unknown_kind_of_plot_is_found_before_the_work(tmp_path, name):
    result = invoke("verify", "--json", tmp_path / "a.json", "--plot", tmp_path / name)
    assert_refused(result, r"plots are written as \.png, \.svg, \.pdf")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(("one", "other"), [("json", "plot"), ("json", "report"), ("plot", "report")])
def test_one_path_for_two_files_is_refused(tmp_path, one, other):
    result = invoke("verify", f"--{one}", tmp_path / "a.png", f"--{other}", tmp_path / "a.png")
    assert_refused(result, rf"a\.png is given for both --{one} and --{other}; give two paths")


@pytest.mark.usefixtures("done")
@pytest.mark.parametrize("existing", [None, "before"])
def test_a_disk_that_fills_up_leaves_what_was_there(monkeypatch, tmp_path, existing):
    path = tmp_path / "a.json"
    if existing:
        path.write_text(existing)

    def fail_halfway(self, *args, **options):
        self.write_bytes(b'{"verdict": "ag')
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_text", fail_halfway)
    result = invoke("verify", "--json", path)
    assert_no_traceback(result)
    assert result.exit_code == 2
    assert "No space left on device" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ([path.name] if existing else [])
    assert not existing or path.read_text() == existing


# ------------------------------------------------------------------------------------- where it prints


@pytest.mark.usefixtures("done")
def test_a_stdout_that_knows_only_ascii_gets_the_result_all_the_same():
    result = invoke("verify", charset="ascii")
    assert_no_traceback(result)
    assert result.exit_code == 0
    assert "AGREE: by hand and by JAX" in result.stdout


def test_a_reader_that_has_gone_does_not_turn_agreement_into_disagreement(tmp_path):
    """`backproof verify --json a.json | true`: nobody reads what is printed."""
    script = f"""
import sys
import compare.verify
from compare.agreement import Verdict


class Result:
    verdict = Verdict.AGREE

    def to_dict(self):
        return {{"verdict": "agree"}}

    def __str__(self):
        return "the result"


compare.verify.verify = lambda settings, progress: Result()
sys.argv = ["backproof", "verify", "--json", {str(tmp_path / "a.json")!r}]
from compare.__main__ import main
main()
"""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = subprocess.run(
            [sys.executable, "-c", script], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60
        )
    finally:
        os.close(writer)
    assert "Traceback" not in ended.stderr
    assert ended.returncode not in (1, 3), "these mean that the sides disagree, or that nothing can be said"
    assert strict((tmp_path / "a.json").read_text())["verdict"] == "agree"


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-"])
def test_a_stream_that_was_closed_from_the_beginning_changes_no_status(closed):
    command = f"exec '{sys.executable}' -m compare --help {closed}"
    assert subprocess.run(["sh", "-c", command], capture_output=True, timeout=60).returncode == 0


# ------------------------------------------------------------------------------------------------ help


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_the_bare_command_explains_itself(arguments):
    result = invoke(*arguments)
    assert_no_traceback(result)
    assert result.exit_code == 0
    assert "`backproof verify`" in result.stdout
    assert "Usage: backproof [OPTIONS] COMMAND" in result.stdout
    assert result.stderr == ""


def test_the_help_of_verify_names_every_option_and_every_exit_status():
    text = " ".join(invoke("verify", "--help").stdout.split())
    for name in Settings.__dataclass_fields__:
        assert f"--{name.replace('_', '-')} " in text
    for dataset in compare.datasets.DATASETS:
        assert dataset in text
    for suffix in compare.output.PLOT_FORMATS:
        assert suffix in text
    assert "Exit status: 0 agree, 1 disagree, 2 bad input or usage, 3 inconclusive." in text


ENVIRONMENT = os.environ | {"COLUMNS": "200", "TERM": "xterm"}


@pytest.mark.parametrize("arguments", [["verify", "--help"], ["verify", "--hidden", "many"]])
def test_help_and_mistakes_in_usage_are_answered_without_loading_jax(arguments):
    script = f"""
import sys
sys.argv = ["backproof", *{arguments!r}]
from compare.__main__ import app
try:
    app()
finally:
    loaded = [name for name in ("jax", "jaxlib", "sklearn", "matplotlib") if name in sys.modules]
    print("loaded:", loaded)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert ended.returncode == (2 if "many" in arguments else 0), ended.stderr
    assert ended.stdout.endswith("loaded: []\n")


# --------------------------------------------------------------------------------------------- Ctrl-C


@pytest.mark.parametrize(
    ("stages", "place"),
    [
        ([], "starting"),
        ([("loading data", 0)], "loading data"),
        ([("checking gradients", 0), ("comparing training", 123)], "comparing training, 123 steps done"),
    ],
)
def test_an_interruption_says_how_far_it_came(monkeypatch, tmp_path, stages, place):
    def work(settings, progress):
        for stage in stages:
            progress(*stage)
        raise KeyboardInterrupt

    monkeypatch.setattr(compare.verify, "verify", work)
    result = invoke("verify", "--json", tmp_path / "a.json")
    assert_no_traceback(result)
    assert result.exit_code == 130
    assert result.stdout == ""
    assert result.stderr == f"backproof: interrupted while {place}; nothing was written\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("done")
def test_an_interruption_after_a_file_was_written_does_not_deny_it(monkeypatch, tmp_path):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(compare.output, "plot_run", interrupted)
    result = invoke("verify", "--json", tmp_path / "a.json", "--plot", tmp_path / "a.png")
    assert_no_traceback(result)
    assert result.exit_code == 130
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert "nothing was written" not in result.stderr


def plain_lines(text):
    """What a terminal shows in the end: without the bar's colors and movements, and without blank lines."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    return [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]


class Terminal:
    """A pseudoterminal for a program's stderr, so that it shows its progress."""

    def __init__(self):
        self.own, self.its = os.openpty()
        self.text = ""

    def read_until(self, words, seconds):
        """Until the words appear, or to the end if they are None. Raises TimeoutError."""
        end = time.monotonic() + seconds
        while words is None or words not in self.text:
            if not select.select([self.own], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError(f"waited {seconds} s for {words!r} and got {self.text[-500:]!r}")
            try:
                part = os.read(self.own, 65536)
            except OSError:  # how Linux says that the other end is closed
                part = b""
            if not part:
                assert words is None, f"the program ended before it said {words!r}: {self.text[-2000:]}"
                return
            self.text += part.decode(errors="replace")


# JAX compiles while gradients are checked, and an interruption there ends in code that is not Python.
@pytest.mark.parametrize("stage", ["checking gradients", "comparing training"])
def test_ctrl_c_ends_a_long_run_at_once(tmp_path, stage):
    arguments = ["verify", "--iterations", "100000000", "--dataset", "moons"]
    files = ["--json", str(tmp_path / "a.json"), "--plot", str(tmp_path / "a.png")]
    terminal = Terminal()
    process = subprocess.Popen(
        [sys.executable, "-m", "compare", *arguments, *files],
        stdout=subprocess.PIPE,
        stderr=terminal.its,
        env=ENVIRONMENT,
    )
    try:
        os.close(terminal.its)
        terminal.read_until(stage, seconds=60)
        time.sleep(0.5)  # into the middle of it
        process.send_signal(signal.SIGINT)
        terminal.read_until(None, seconds=10)
        output, _ = process.communicate(timeout=10)
    finally:
        process.kill()
        process.communicate()
        os.close(terminal.own)
    assert process.returncode == 130, terminal.text[-2000:]
    assert "Traceback" not in terminal.text
    steps = r", [1-9]\d* steps done" if stage == "comparing training" else ""
    assert re.fullmatch(
        rf"backproof: interrupted while {stage}{steps}; nothing was written", plain_lines(terminal.text)[-1]
    )
    assert output == b""
    assert list(tmp_path.iterdir()) == []


def run_with_stand_in(tmp_path, module, text, *arguments):
    """`python -m compare` where `module` is the given text."""
    (tmp_path / f"{module}.py").write_text(text)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "compare", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=ENVIRONMENT | {"PYTHONPATH": path},
    )


def test_ctrl_c_while_jax_is_being_loaded_is_an_interruption_too(tmp_path):
    ended = run_with_stand_in(tmp_path, "jax", "raise KeyboardInterrupt", "verify")
    assert ended.returncode == 130
    assert "Traceback" not in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("backproof: interrupted while ")


def test_an_interruption_that_somebody_swallowed_is_noticed_at_the_next_step():
    """Python drops an exception from a destructor or from a hook of its garbage collector, and JAX has such a hook."""
    script = """
import signal
import sys
import compare.verify


class Swallowing:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
        for _ in range(1000):
            pass  # the handler runs between two instructions


def work(settings, progress):
    progress("comparing training", 7)
    Swallowing()
    for step in range(8, 100):
        progress("comparing training", step)
    raise SystemExit("the interruption was lost")


compare.verify.verify = work
sys.argv = ["backproof", "verify"]
from compare.__main__ import main
main()
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 130, ended.stderr
    assert "Traceback" not in ended.stderr
    assert re.search(r"interrupted while comparing training, [78] steps done", ended.stderr.splitlines()[-1])
