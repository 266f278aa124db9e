"""A whole run: kept as far as it has come, gone on with, and refused before anything is timed."""

import json
import re

import pytest

from compare.bench import ops, run, shallow
from compare.bench.run import Settings, bench, read, settings_for
from compare.bench.turns import Measured
from compare.errors import BadInput
from tests.compare.bench.runs import OWN


@pytest.fixture(autouse=True)
def asked(monkeypatch):
    """The sizes that were timed, without a process for each: what `measure` does is in test_turns."""
    sizes = []

    def measure(workload, names, *, rounds, threads, progress):
        sizes.append(workload.size)
        progress("round 1 of 1")
        return 24, {name: Measured([1.0 + len(sizes)] * rounds, 0.0, None, 2**20, None, 0.0) for name in names}

    monkeypatch.setattr(run, "measure", measure)
    return sizes


def a_settings(*sizes, **options):
    return Settings(OWN, sizes, ["manual"], rounds=1, **options)


def run_to_the_end(*args, **options):
    (*_, last) = bench(*args, **options, progress=lambda what, done: None)
    return last


def test_what_is_finished_is_kept_and_a_run_goes_on_from_there(tmp_path, asked):
    path = tmp_path / "run.json"
    first = next(bench(a_settings("a", "b"), path=path, progress=lambda what, done: None))
    assert [cell.size for cell in first.cells] == ["a"]
    assert json.loads(path.read_text())["complete"] is False
    begun = read(path)
    told = []
    (*_, last) = bench(a_settings("a", "b"), path=path, resume=True, progress=lambda what, done: told.append(what))
    assert (told, asked) == (["b: round 1 of 1"], ["a", "b"])
    assert last.complete
    assert last.cells[0] == begun.cells[0]
    assert read(path) == last
    failed = json.loads(path.read_text())
    failed["cells"][1]["contestants"]["manual"]["failure"] = "no reason"
    path.write_text(json.dumps(failed))
    last = run_to_the_end(a_settings("a", "b"), path=path, resume=True)  # what failed is tried again
    assert last.cells[1].finished()
    again = run_to_the_end(a_settings("a", "b"), path=path, resume=True)
    assert again.cells == last.cells
    assert asked == ["a", "b", "b"]


def test_another_run_is_not_gone_on_with(tmp_path, asked):
    path = tmp_path / "run.json"
    run_to_the_end(a_settings("a"), path=path)
    with pytest.raises(BadInput, match=r"has a run with seed 0, and this run has 1, so it cannot be continued"):
        run_to_the_end(a_settings("a", seed=1), path=path, resume=True)
    with pytest.raises(BadInput, match=r"has a run with sizes \['a'\], and this run has \['b'\]"):
        run_to_the_end(a_settings("b"), path=path, resume=True)
    assert [cell.size for cell in read(path).cells] == ["a"]
    path.write_text("nothing")
    with pytest.raises(BadInput, match="cannot be read: it is not JSON"):
        run_to_the_end(a_settings("a"), path=path, resume=True)
    assert asked == ["a"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "mlp", "op": "gelu"}, "--model cannot be combined with --op or --sizes"),
        ({"model": "mlp", "sizes": "2x3x4"}, "--model cannot be combined with --op or --sizes"),
        ({"sizes": "2x3x4", "op": "gelu"}, "a size of gelu is ROWSxCOLUMNS, such as 1024x1024; got '2x3x4'"),
        ({"given": {"batch": 3}}, "--batch applies to --model only"),
        ({"op": "gelu", "given": {"learning_rate": 1.0}}, "--learning-rate applies to --model only"),
        ({"op": "gelo"}, "'gelo'"),
        ({"model": "resnet"}, "'resnet'"),
        ({"model": "mlp", "given": {"heads": 3}}, "--heads"),
        ({"sizes": "2x3x4,2x3x4"}, "got 2x3x4, 2x3x4"),
        ({"sizes": ","}, "--sizes must name one size or more, each of them once; got none"),
        ({"sizes": "2x3"}, "got '2x3'"),
        ({"dtype": "float16"}, "'float16'"),
        ({"rounds": 0}, "--rounds must be from 1 to 10000, got 0"),
        ({"threads": 0}, "--threads must be from 1 to 10000, got 0"),
        ({"seed": -1}, "seed must be from 0"),
        ({"only": ["numpy"]}, "'numpy'"),
        ({"only": []}, "--only must name at least one contestant besides the GEMM bound"),
        ({"only": ["bound"]}, "--only"),
        ({"threads": 9999}, "--threads must be at most "),
    ],
)
def test_what_cannot_be_timed_is_refused_before_anything_is(options, message):
    usual = {"sizes": None, "model": None, "op": None, "given": {}}
    with pytest.raises(BadInput, match=re.escape(message)):
        settings_for(**usual | options)


def test_what_is_timed_by_default():
    usual = settings_for(None, None, None, {})
    assert (usual.kind, tuple(usual.sizes), usual.dtype) == ("shallow", shallow.SIZES, "float32")
    assert settings_for(None, None, "all", {}).sizes == list(ops.SIZES)
    assert settings_for(None, "gpt", None, {"preset": "gpt2-124m"}).options == {"preset": "gpt2-124m"}
    assert settings_for("8x8,3x5", None, "gelu,relu", {}).sizes == ["gelu:8x8", "gelu:3x5", "relu:8x8", "relu:3x5"]


def test_how_long_it_takes_is_a_sum_of_what_is_done():
    few, many = (Settings(OWN, ["a"], ["manual"], rounds=rounds) for rounds in (1, 101))
    per_round = run.ROUND_SECONDS + run.PAUSE
    difference = run.expected_seconds(many, ["a"]) - run.expected_seconds(few, ["a"])
    assert difference == pytest.approx(100 * 2 * per_round)
    assert run.expected_seconds(few, ["a", "b"]) == pytest.approx(2 * run.expected_seconds(few, ["a"]))


def test_it_is_said_beforehand_of_what_is_still_to_be_done(tmp_path):
    path, said = tmp_path / "run.json", []
    next(bench(a_settings("a", "b", "c"), path=path, progress=lambda what, done: None, note=said.append))
    run_to_the_end(a_settings("a", "b", "c"), path=path, resume=True, note=said.append)
    assert [re.sub(r"\d+ s, or", "S s, or", text) for text in said] == [
        f"{count} sizes of 1 round: about S s, or more if a single step takes longer than {run.ROUND_SECONDS} s"
        for count in (3, 2)
    ]
