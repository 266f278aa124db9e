"""What the command refuses, before any work: options, settings, data and paths that make no sense."""

import re
from dataclasses import replace

import numpy as np
import pytest

import compare.suite.datasets
import compare.verify.shallow
from tests.command import assert_no_traceback, assert_refused, invoke


@pytest.fixture
def no_work(monkeypatch):
    """Fails a test in which the work begins."""

    def work(*args, **options):
        pytest.fail("the work began before the mistake was found")

    monkeypatch.setattr(compare.verify.shallow, "verify", work)


@pytest.fixture
def nothing_compared(monkeypatch):
    """Fails a test in which anything is done with the data."""

    def work(*args, **options):
        pytest.fail("the work began with data that cannot be worked with")

    monkeypatch.setattr(compare.verify.shallow, "check_gradients", work)


# -------------------------------------------------------------------------------------- bad settings


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--process-id", "0"], r"--process-id is for several processes, which also need --coordinator"),
        (["--num-processes", "1"], r"--num-processes is for several processes"),
        (["--join-timeout", "9"], r"--join-timeout is for several processes"),
        (["--coordinator", "here:80"], r"--coordinator also needs --num-processes, the number of processes, and"),
        (["--coordinator", "here:80", "--process-id", "0"], r"--coordinator also needs --num-processes"),
    ],
)
def test_options_of_several_processes_come_together(arguments, message):
    assert_refused(invoke("verify", *arguments), message)


def test_devices_are_at_least_one():
    for count in ("0", "-1"):
        assert_refused(invoke("verify", "--devices", count), f"--devices must be at least 1, got {count}")


def test_more_devices_than_a_cpu_should_be_are_refused():
    assert_refused(invoke("verify", "--devices", "1000"), r"--devices must be at most 256 .*; got 1000\.")


@pytest.mark.usefixtures("nothing_compared")
@pytest.mark.parametrize("arguments", [["--hidden", "100000000"], ["--model", "mlp", "--hidden", "100000000"]])
def test_what_no_memory_can_hold_is_refused(arguments):
    message = (
        r"this needs about [\d.,e+]+ GiB of memory, and this machine has [\d.,]+ GiB\. Give .*, or fewer --iterations\."
    )
    assert_refused(invoke("verify", *arguments), message)


def test_the_memory_that_a_run_needs_is_said_before_it():
    result = invoke("verify", "--iterations", "2", "--hidden", "2")
    assert result.exit_code == 0
    assert re.fullmatch(
        r"backproof: this needs about 0\.4 GiB of memory at most; [\d.]+ GiB are free now\n", result.stderr
    )


@pytest.mark.sweep
@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        *(
            (["--" + name.replace(" ", "-"), value], rf"{name} .* {value}")
            for name, values in (
                ("hidden", ["0", "-3"]),
                ("iterations", ["0", "-1000"]),
                ("learning rate", ["0.0", "-0.1", "nan", "inf", "-inf"]),
                ("scale", ["0.0", "-1.0", "nan", "inf"]),
            )
            for value in values
        ),
        (["--seed", "-1"], r"seed .* -1"),
        (["--dtype", "float16"], r"'float16'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(arguments, message):
    assert_refused(invoke("verify", *arguments), message)


@pytest.mark.sweep
@pytest.mark.usefixtures("nothing_compared")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "iris"], r"'iris'"),
        (["--dataset", ""], r"''"),
        (["--platform", "cuda"], r"'cuda'"),
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
    assert_refused(invoke("verify", "--platform", platform), rf"no {platform} .*: cpu\.")


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


# ------------------------------------------------------------------------------------------ bad data


@pytest.mark.sweep
@pytest.mark.usefixtures("nothing_compared")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,y\n1,0\n2,3.5\n", r"y is 3\.5 at example 1 .* regression"),
        ("a,y\n-inf,0\n2,1\n", r"-inf at example 0, column 0"),
        ("color,y\nred,0\n", r"line 2, column 'color': 'red'"),
        ("", r"0 lines"),
    ],
)
def test_a_bad_csv_is_refused_and_nothing_is_written(tmp_path, text, message):
    (tmp_path / "data.csv").write_text(text)
    result = invoke("verify", "--dataset", tmp_path / "data.csv", "--json", tmp_path / "a.json")
    assert_refused(result, message)
    assert [path.name for path in tmp_path.iterdir()] == ["data.csv"]


@pytest.mark.sweep
@pytest.mark.usefixtures("nothing_compared")
@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.ones((3, 1)), "y": np.zeros(2)}, r"x has 3 .* y has 2"),
        ({"x": np.array([[None]]), "y": np.zeros(1)}, r"data\.npz.*Pickled"),
        (None, r"data\.npz.*read"),
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
    assert_refused(invoke("verify", "--dataset", tmp_path / f"a.{suffix}"), "a.*No such file")
    assert_refused(invoke("verify", "--dataset", _made(tmp_path / f"b.{suffix}")), rf"b\.{suffix}")


def _made(path):
    path.mkdir()
    return path


def test_an_error_while_reading_that_nobody_foresaw_is_a_line_too(monkeypatch):
    def fail(seed):
        raise PermissionError(13, "Permission denied", "somewhere/data")

    moons = replace(compare.suite.datasets.DATASETS["moons"], rows=fail)
    monkeypatch.setitem(compare.suite.datasets.DATASETS, "moons", moons)
    assert_refused(invoke("verify", "--dataset", "moons"), r"somewhere/data: Permission denied")


# ------------------------------------------------------------------------------------------- bad paths


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("option", ["--json", "--plot", "--report"])
def test_a_path_that_cannot_be_written_is_found_before_the_work(tmp_path, option):
    missing = tmp_path / "none" / "a.png"
    assert_refused(invoke("verify", option, missing), r"a\.png .*none")
    assert_refused(invoke("verify", option, tmp_path), r"directory")
    assert_refused(invoke("verify", option, ""), r"directory")
    assert_refused(invoke("verify", option, tmp_path / ("x" * 300 + ".png")), r"(?i)too long")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("name", ["plot.gif", "plot", "plot.jpg"])
def test_an_unknown_kind_of_plot_is_found_before_the_work(tmp_path, name):
    result = invoke("verify", "--json", tmp_path / "a.json", "--plot", tmp_path / name)
    assert_refused(result, r"\.png, \.svg, \.pdf")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(("one", "other"), [("json", "plot"), ("json", "report"), ("plot", "report")])
def test_one_path_for_two_files_is_refused(tmp_path, one, other):
    result = invoke("verify", f"--{one}", tmp_path / "a.png", f"--{other}", tmp_path / "a.png")
    assert_refused(result, rf"a\.png .*--{one} and --{other}")
