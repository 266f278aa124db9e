"""The bench: contestants, floor, turns, results, changes, runs that are interrupted. No speed is asserted."""

import json
import re
import sys
from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compare.bench import models, ops, shallow, turns
from compare.bench.changes import changes
from compare.bench.floor import Product, prepare, products
from compare.bench.picture import plot_bench
from compare.bench.process import Failed
from compare.bench.results import Bench, Cell, quartiles
from compare.bench.run import Settings, bench, read, settings_for
from compare.bench.torch_device import Device
from compare.bench.turns import Measured, Outcome, distance, measure
from compare.bench.workloads import Workload, contestants
from compare.errors import BadInput
from compare.platform import precise
from compare.suite.ops import catalog

OWN = "tests.bench_contestants"


@pytest.fixture(autouse=True, scope="module")
def brief():
    """No speed is asserted, so rounds are short, and nobody waits for threads to sleep."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(turns, "ROUND_SECONDS", 0.02)
        patch.setattr(turns, "PAUSE", 0.0)
        yield


# ------------------------------------------------------------------------------- what is worked on


def outcome_of(workload, name, steps=3):
    runner = workload.module.CONTESTANTS[name].prepare(workload)
    runner.run(steps)
    return {key: np.asarray(value, np.float64).reshape(-1) for key, value in runner.outcome().items()}


def reference_of(workload, steps=3):
    """By hand, in float64."""
    workload = replace(workload, dtype="float64")
    runner = workload.module.CONTESTANTS["manual"].prepare(workload)
    before = {key: np.asarray(value, np.float64).reshape(-1).copy() for key, value in runner.outcome().items()}
    runner.run(steps)
    return Outcome({key: np.asarray(value).reshape(-1) for key, value in runner.outcome().items()}, before)


def installed(workload):
    return [name for name in contestants(workload) if name != "torch-compiled"]  # which takes a minute to compile


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [name for name in shallow.CONTESTANTS if name != "torch-compiled"])
def test_everybody_trains_the_same_network(name, dtype):
    workload = Workload("shallow", "3x5x17", dtype)
    if not shallow.CONTESTANTS[name].installed:
        pytest.skip(f"{shallow.CONTESTANTS[name].needs} is not installed: python -m pip install -e '.[peers]'")
    with jax.enable_x64(dtype == "float64"):
        error = distance(outcome_of(workload, name), reference_of(workload))
    assert error < (1e-4 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("op", ["hinge", "dropout", "rotary_embedding", "max_pool2d", "gru"])
def test_everybody_computes_the_same_value_and_gradients(op):
    workload = Workload("ops", op)
    right = Outcome(outcome_of(replace(workload, dtype="float64"), "manual", 1), {})
    for name in installed(workload):
        with precise():
            assert distance(outcome_of(workload, name, 1), right) < 1e-4, name


@pytest.mark.parametrize(("name", "options"), [("gpt", {"optimizer": "adamw"}), ("gpt", {}), ("mlp", {}), ("gru", {})])
def test_everybody_trains_the_same_model(name, options):
    small = {"hidden": 8, "batch": 3} | ({"length": 5} if name != "mlp" else {})
    workload = Workload("models", name, options=small | options)
    right = reference_of(workload)
    for contestant in installed(workload):
        # Adam divides the gradient of a key's bias, which is rounding only, by the size of that.
        assert distance(outcome_of(workload, contestant), right) < (2e-2 if options else 5e-3), contestant


def test_pytorch_takes_part_where_it_can():
    assert "torch" in models.able(Workload("models", "gpt"))
    assert "torch" not in models.able(Workload("models", "gpt", options={"optimizer": "rmsprop"}))
    assert "torch" not in models.able(Workload("models", "mlp"))
    assert "torch" not in ops.able(Workload("ops", "dropout"))


class FakeTorch:
    """As much of PyTorch as a device needs: what is put on the GPU takes `seconds` by a clock that only that moves."""

    def __init__(self, available):
        self.now, self.waited, self.seconds = 0.0, 0, 1.0
        self.cuda = SimpleNamespace(is_available=lambda: available, synchronize=self.synchronize)

    def zeros(self, count):
        return self

    def to(self, place):
        self.now += self.seconds if place == "cuda" else 0.0
        return place

    def synchronize(self):
        self.waited += 1


def device_of_fake_torch(monkeypatch, platform, *, available):
    fake = FakeTorch(available)
    monkeypatch.setitem(sys.modules, "torch", fake)
    monkeypatch.setattr("compare.bench.torch_device.time.perf_counter", lambda: fake.now)
    return fake, Device(Workload("shallow", "2x3x4", platform=platform))


def test_pytorch_works_on_the_gpu_where_jax_does(monkeypatch):
    torch, device = device_of_fake_torch(monkeypatch, "gpu", available=True)
    assert device.transfer == 0.0  # the first tensor, which finds the GPU, is not counted
    before = torch.waited
    assert [device.put(torch), device.put(torch)] == ["cuda", "cuda"]
    assert (device.transfer, torch.waited - before) == (2.0, 2)


def test_pytorch_stays_on_the_cpu_otherwise(monkeypatch):
    torch, device = device_of_fake_torch(monkeypatch, "cpu", available=True)
    assert device.put(torch) == "cpu"
    device.wait()
    assert (device.transfer, torch.waited) == (None, 0)


def test_a_pytorch_without_a_gpu_says_so_and_does_not_take_the_cpu_instead(monkeypatch):
    with pytest.raises(RuntimeError, match="this PyTorch has no GPU that it can use"):
        device_of_fake_torch(monkeypatch, "gpu", available=False)


def test_every_op_can_be_timed():
    assert set(ops.SIZES) == set(catalog())
    assert all(ops.described(Workload("ops", name)) for name in ("huber", "lstm", "dropout"))


def test_the_products_default_precision_is_a_contestant_where_it_differs():
    assert "autodiff-fast" not in contestants(Workload("shallow", "2x3x4"))
    assert "autodiff-fast" in contestants(Workload("shallow", "2x3x4", platform="gpu"))


def test_who_is_not_installed_is_left_out_unless_asked_for():
    workload = Workload(OWN, "any")
    assert "absent" not in contestants(workload)
    assert "absent" in workload.module.able(workload)
    with pytest.raises(BadInput, match=r"absent needs a_package_that_nobody_has, which is not installed: pip install"):
        contestants(workload, ["manual", "absent"])
    assert contestants(Workload("shallow", "2x3x4"), ["manual", "floor"]) == ["manual"]
    with pytest.raises(BadInput, match="autodiff-fast is another contestant on accelerators only"):
        contestants(Workload("shallow", "2x3x4"), ["autodiff-fast", "manual"])
    with pytest.raises(
        BadInput, match=r"no contestant for shallow is called 'numpy'; there are manual, manual-fast, autodiff"
    ):
        contestants(Workload("shallow", "2x3x4"), ["numpy"])


@pytest.mark.parametrize("size", ["2x4", "2x4x0", "2x-4x5", "axbxc", "", "2x4x5x6", "2.5x4x5"])
def test_a_size_has_three_numbers(size):
    with pytest.raises(BadInput, match="a size is FEATURESxHIDDENxEXAMPLES, such as 30x32x569; got"):
        shallow.sizes_of(size)


# ------------------------------------------------------------------------------------------ the floor


def counted(function, *arguments):
    return list(products(jax.make_jaxpr(function)(*arguments).jaxpr))


def test_the_floor_of_the_notebooks_network_is_five_products():
    f, h, m = 3, 5, 17
    found = list(products(shallow.traced(Workload("shallow", f"{f}x{h}x{m}")).jaxpr))
    assert len(found) == 5
    assert all(times == 1 for _, times in found)
    assert sum(product.flops for product, _ in found) == 2 * m * (h * f + h + h + h + h * f)


def test_products_are_counted_wherever_they_stand():
    a, b = np.ones((4, 2, 3), np.float32), np.ones((4, 3, 5), np.float32)
    assert counted(jnp.matmul, a, b) == [(Product(4, 2, 3, 5), 1)]
    assert counted(jax.jit(jnp.matmul), a, b) == [(Product(4, 2, 3, 5), 1)]
    assert counted(jax.checkpoint(jnp.matmul), a, b) == [(Product(4, 2, 3, 5), 1)]
    square = np.ones((3, 3), np.float32)
    loop = counted(lambda x: jax.lax.scan(lambda c, _: (c @ c, c), x, length=7), square)
    assert loop == [(Product(1, 3, 3, 3), 7)]
    branch = counted(lambda x: jax.lax.cond(x[0, 0] > 0, lambda y: y @ y, lambda y: y @ y @ y, x), square)
    assert sum(times for _, times in branch) in (1, 2)  # one of them is run
    assert counted(jax.nn.relu, square) == []


@given(st.data())
@settings(max_examples=20, deadline=None)
def test_a_convolution_is_the_product_of_its_windows(data):
    draw = lambda *among: data.draw(st.sampled_from(among))  # noqa: E731  # a name for one line of drawing
    groups, stride, kernel = draw(1, 2), draw(1, 2), draw(1, 3)
    x, w = np.ones((2, 8, 8, 2 * groups), np.float32), np.ones((kernel, kernel, 2, 3 * groups), np.float32)

    def convolution(x, w):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, w, (stride, stride), "SAME", dimension_numbers=numbers, feature_group_count=groups
        )

    ((product, times),) = counted(convolution, x, w)
    out = convolution(x, w)
    assert times == 1
    assert product.flops == 2 * out.size * kernel * kernel * 2  # a kernel's entries for each entry of the result


def test_the_floor_runs_what_was_counted():
    runner = prepare(Workload("shallow", "3x5x17"))
    runner.run(2)
    assert runner.flops == 2 * 17 * (5 * 3 + 5 + 5 + 5 + 5 * 3)


# ------------------------------------------------------------------------------------------- in turns


@pytest.fixture(scope="module")
def measured():
    names = ["manual", "slow", "wrong", "nearly", "unable", "dies"]
    said = []
    found = measure(Workload(OWN, "any"), names, rounds=3, threads=1, progress=said.append)
    return *found, said


def test_those_who_do_the_work_are_timed_in_every_round(measured):
    flops, found, said = measured
    assert flops == 2 * 2 * 3 * 2
    assert list(found) == ["floor", "manual", "slow", "wrong", "nearly", "unable", "dies"]
    for name in ("floor", "manual", "slow", "nearly"):
        assert len(found[name].rounds) == 3
        assert min(found[name].rounds) > 0
        assert found[name].peak > 2**20
    assert min(found["slow"].rounds) >= 0.002
    assert found["manual"].error == 0
    assert 0 < found["nearly"].error < turns.LOOSE
    assert said[-1] == "round 3 of 3"


def test_who_does_other_work_fails_or_dies_is_named_and_the_others_go_on(measured):
    _, found, _ = measured
    assert re.fullmatch(r"it does other work: after 3 steps it is 0\.\d of the way .*", found["wrong"].failure)
    assert found["unable"].failure == "RuntimeError: no such thing here"
    assert found["dies"].failure == "its process died; it may have run out of memory"
    assert found["unable"].rounds == found["dies"].rounds == []


def test_where_there_are_no_products_there_is_no_floor():
    flops, found = measure(Workload(OWN, "without products"), ["manual"], rounds=1)
    assert flops == 0
    assert list(found) == ["manual"]


def test_a_distance_needs_the_same_arrays():
    reference = Outcome({"W": np.ones(3)}, {"W": np.zeros(3)})
    assert distance({"W": np.ones(3)}, reference) == 0
    assert distance({"W": np.full(3, 1.1)}, reference) == pytest.approx(0.1)
    small_one = Outcome({"loss": np.array([7.0]), "gradient": np.full(3, 1e-3), "noise": np.full(3, 1e-9)}, {})
    zeroed = {"loss": np.array([7.0]), "gradient": np.zeros(3), "noise": np.zeros(3)}
    assert distance(zeroed, small_one) == 1  # however large the loss is beside it
    assert distance(zeroed | {"gradient": np.full(3, 1e-3)}, small_one) < 1e-4  # what is 0 but for rounding
    assert not distance({"W": np.full(3, np.nan)}, reference) <= turns.LOOSE
    with pytest.raises(Failed, match=r"it has results for \['V'\], not \['W'\]"):
        distance({"V": np.ones(3)}, reference)
    with pytest.raises(Failed, match="its W has 2 entries to compare, not 3"):
        distance({"W": np.ones(2)}, reference)


# -------------------------------------------------------------------------------------------- results


def a_cell(size="1x2x3", flops=1000, **rounds):
    return Cell(size, "about", flops, {name: Measured(r, 0.5, None, 2**20, None, 0.0) for name, r in rounds.items()})


def a_run(*cells, kind="shallow", environment=None):
    sizes = [cell.size for cell in cells]
    settings = {"kind": kind, "dtype": "float32", "threads": None, "platform": "cpu", "options": {}}
    return Bench(settings, environment or {"processor": "one", "date": "today"}, sizes, list(cells))


def test_ratios_are_taken_within_rounds():
    cell = a_cell(floor=[1.0, 2.0, 4.0], manual=[2.0, 4.0, 8.0], autodiff=[0.5, 2.0, 1.0])
    assert cell.ratio("manual") == 2
    assert cell.ratio("autodiff") == 0.5
    assert cell.ratio("manual", "torch") is None
    assert cell.break_even() == pytest.approx(0.5 / (4 - 1))
    slower = a_cell(manual=[1.0], autodiff=[1.0])
    assert slower.break_even() is None


def test_where_jax_overtakes_numpy_is_told():
    small = a_cell("2x2x2", 10, manual=[1.0], autodiff=[2.0])
    middle = a_cell("3x3x3", 20, manual=[1.0], autodiff=[1.5])
    large = a_cell("4x4x4", 30, manual=[1.0], autodiff=[0.5])
    larger = a_cell("5x5x5", 40, manual=[1.0], autodiff=[0.9])
    when = "compilation is made up for after"
    overtakes = "JAX overtakes NumPy between 3x3x3 and 4x4x4; there,"
    assert a_run(large, small, middle).lines() == [f"{overtakes} {when} 1 steps."]
    assert a_run(large, larger, small, middle).lines() == [f"{overtakes} {when} 1 to 5 steps."]
    assert a_run(small, middle).lines() == ["NumPy is ahead of JAX at 2x2x2, 3x3x3."]
    assert a_run(large).lines() == [f"JAX is ahead of NumPy; {when} 1 steps."]
    assert a_run(large, larger).lines() == [f"JAX is ahead of NumPy at every size; {when} 1 to 5 steps."]
    back = a_cell("6x6x6", 50, manual=[1.0], autodiff=[1.5])
    others = "and JAX at the other sizes; there,"
    assert a_run(large, back).lines() == [f"NumPy is ahead of JAX at 6x6x6, {others} {when} 1 steps."]
    assert a_run(small, large, back).lines() == [f"NumPy is ahead of JAX at 2x2x2, 6x6x6, {others} {when} 1 steps."]
    assert a_run(a_cell(manual=[1.0])).lines() == []


def test_rounds_that_differ_much_have_one_answer():
    """By rounds JAX is ahead, by its medians behind."""
    run = a_run(a_cell(manual=[1.0, 10.0, 5.0], autodiff=[0.9, 9.0, 6.0]))
    assert run.lines()[0].startswith("JAX is ahead of NumPy; ")
    assert run.to_dict()["summary"] == run.lines()


def test_a_floor_that_is_none_is_told():
    run = a_run(a_cell("2x2x2", floor=[1.0], manual=[0.5]), a_cell("3x3x3", floor=[1.0], manual=[1.5]))
    assert run.lines() == ["At 2x2x2 manual is far below the floor: was other work in the way? Run again."]


def test_of_ops_the_means_are_told():
    cells = [
        a_cell(name, manual=[2.0], autodiff=[1.0], torch=[ratio]) for name, ratio in (("gelu", 1.0), ("relu", 4.0))
    ]
    assert a_run(*cells, kind="ops").lines() == [
        "manual takes 2.00 times as long as autodiff, the geometric mean of 2 ops; at most 2.00 times (relu).",
        "manual takes 1.00 times as long as torch, the geometric mean of 2 ops; at most 2.00 times (gelu).",
    ]


def test_a_view_is_no_work_that_could_be_compared():
    ops = {"flatten": (1e-6, 1e-7), "gelu": (2.0, 1.0), "relu": (2.0, 1.0)}
    cells = [a_cell(name, manual=[manual], torch=[torch]) for name, (manual, torch) in ops.items()]
    (told,) = a_run(*cells, kind="ops").lines()
    assert "2.00 times as long as torch, the geometric mean of 2 ops (without flatten, too short to time)" in told


def test_results_survive_json():
    failed = Cell("2x2x2", "about", 10, {"torch": Measured([], 0.0, None, 0, None, None, "no reason")})
    run = a_run(a_cell(floor=[1.0, 2.0, 3.0], manual=[2.0, 3.0, 4.0], autodiff=[1.0, 1.0, 1.0]), failed)
    again = Bench.from_dict(json.loads(json.dumps(run.to_dict(), allow_nan=False)), "here")
    assert again == run
    assert again.to_dict() == run.to_dict()
    assert "failed: no reason" in str(failed)
    assert run.complete
    assert not replace(run, cells=run.cells[:1]).complete


@pytest.mark.parametrize("value", [[], {}, 3, None, {"format": 1}, {"format": 1, "cells": [3]}])
def test_what_is_no_result_is_refused(value):
    with pytest.raises(BadInput, match="here has no results of `backproof bench --json` in it"):
        Bench.from_dict(value, "here")
    with pytest.raises(BadInput, match="here has format 99 of bench results, and this is 1"):
        Bench.from_dict({"format": 99}, "here")


def test_the_middle_half():
    assert quartiles([3.0]) == (3.0, 3.0, 3.0)
    assert quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 3.0, 4.0)


def test_a_picture_of_a_run(tmp_path):
    run = a_run(a_cell("a", floor=[1.0], manual=[2.0]), a_cell("b", floor=[3.0], autodiff=[1.0]))
    plot_bench(tmp_path / "run.svg", run)
    text = (tmp_path / "run.svg").read_text(encoding="utf-8")
    assert all(word in text for word in ("floor", "manual", "autodiff", "seconds per step"))


# -------------------------------------------------------------------------------------------- changes

STEADY = [1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 1.0]


def scaled(factor, values=STEADY):
    return [factor * value for value in values]


def test_a_slower_contestant_is_told_and_a_slower_machine_is_not():
    older = a_run(a_cell(floor=STEADY, manual=scaled(2), autodiff=STEADY))
    newer = a_run(a_cell(floor=scaled(3), manual=scaled(7.2), autodiff=scaled(2.7)))
    found = changes(older, newer)
    assert {row.name: row.verdict for row in found.rows} == {"manual": "slower", "autodiff": "faster"}
    assert found.worse(1.1)
    assert not found.worse(1.3)
    assert [row.unit for row in found.rows] == ["x floor", "x floor"]
    same = changes(older, a_run(a_cell(floor=scaled(3), manual=scaled(6), autodiff=scaled(3))))
    assert {row.verdict for row in same.rows} == {"same"}
    assert not same.worse(1.0)
    assert "0 faster, 0 slower, 2 same." in str(same)


def test_what_the_noise_explains_is_no_change():
    noisy = [1.0, 1.5, 0.7, 1.2, 0.9, 1.4, 1.1]
    found = changes(a_run(a_cell(manual=noisy)), a_run(a_cell(manual=scaled(1.2, noisy))))
    assert [row.verdict for row in found.rows] == ["same"]
    assert found.rows[0].unit == "seconds"


def test_what_is_not_the_same_is_noted():
    older = a_run(a_cell(manual=STEADY), environment={"processor": "one", "date": "then"})
    newer = a_run(a_cell(manual=STEADY), a_cell("9x9x9", manual=STEADY), environment={"processor": "other"})
    notes = changes(older, newer).notes
    assert notes == ["Note: 9x9x9 is not in the older run.", "Note: the older run has processor one, this one other."]


def test_who_fails_now_is_lost_and_nothing_in_common_is_no_success():
    failing = Cell("1x2x3", "about", 1000, {"manual": Measured([], 0.0, None, 0, None, None, "no reason")})
    found = changes(a_run(a_cell(manual=STEADY)), a_run(failing))
    assert found.lost == ["Lost: manual at 1x2x3, which now fails: no reason."]
    assert found.worse(10)
    apart = changes(a_run(a_cell("1x1x1", manual=STEADY)), a_run(a_cell("2x2x2", manual=STEADY)))
    assert apart.worse(10)
    assert "Nothing can be compared." in str(apart)
    assert apart.notes == ["Note: 1x1x1 is not in the newer run.", "Note: 2x2x2 is not in the older run."]


# ---------------------------------------------------------------------------------------------- a run


def a_settings(*sizes, **options):
    return Settings(OWN, sizes, ["manual"], rounds=1, **options)


def run_to_the_end(*args, **options):
    (*_, last) = bench(*args, **options, progress=lambda what, done: None)
    return last


def test_what_is_finished_is_kept_and_a_run_goes_on_from_there(tmp_path):
    path = tmp_path / "run.json"
    first = next(bench(a_settings("a", "b"), path=path, progress=lambda what, done: None))
    assert [cell.size for cell in first.cells] == ["a"]
    assert json.loads(path.read_text())["complete"] is False
    begun = read(path)
    told = []
    (*_, last) = bench(a_settings("a", "b"), path=path, resume=True, progress=lambda what, done: told.append(what))
    assert not [what for what in told if what.startswith("a:")]
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


def test_another_run_is_not_gone_on_with(tmp_path):
    path = tmp_path / "run.json"
    run_to_the_end(a_settings("a"), path=path)
    with pytest.raises(BadInput, match=r"has a run with seed 0, and this one has 1: they cannot be one run"):
        run_to_the_end(a_settings("a", seed=1), path=path, resume=True)
    with pytest.raises(BadInput, match=r"has a run with sizes \['a'\], and this one has \['b'\]"):
        run_to_the_end(a_settings("b"), path=path, resume=True)
    assert [cell.size for cell in read(path).cells] == ["a"]
    path.write_text("nothing")
    with pytest.raises(BadInput, match="cannot be read: it is not JSON"):
        run_to_the_end(a_settings("a"), path=path, resume=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": "2x3x4", "op": "gelu"}, "--sizes, --model and --op are different things to time; give one"),
        ({"given": {"batch": 3}}, "--batch applies to --model only"),
        ({"op": "gelu", "given": {"learning_rate": 1.0}}, "--learning-rate applies to --model only"),
        ({"op": "gelo"}, "no op is called 'gelo'"),
        ({"model": "resnet"}, "no model is called 'resnet'"),
        ({"model": "mlp", "given": {"heads": 3}}, "--heads does not apply to --model mlp"),
        ({"sizes": "2x3x4,2x3x4"}, "sizes must be different ones"),
        ({"sizes": ","}, "sizes must be different ones, at least one; got none"),
        ({"sizes": "2x3"}, "a size is FEATURESxHIDDENxEXAMPLES"),
        ({"dtype": "float16"}, "no dtype is called 'float16'"),
        ({"rounds": 0}, "--rounds must be from 1 to 10000, got 0"),
        ({"threads": 0}, "--threads must be from 1 to 10000, got 0"),
        ({"seed": -1}, "seed must be from 0"),
        ({"only": ["numpy"]}, "no contestant for shallow is called 'numpy'"),
        ({"only": []}, "--only must name at least one contestant besides the floor"),
        ({"only": ["floor"]}, "--only must name at least one contestant besides the floor"),
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
