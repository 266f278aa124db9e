"""What a run will need is near what such runs needed, and what cannot fit is refused in one sentence."""

import ctypes
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import manual
from compare.errors import BadInput
from compare.suite.models import MODELS, build, settled
from compare.verify import memory
from compare.verify.memory import GIB, Size, check_fits, model_size, needed, shallow_size
from compare.verify.model import verify_model
from compare.verify.shallow import Settings, verify
from compare.verify.sharded import verify_parallel

SMALL = {"hidden": 12, "batch": 3}
OTHERS = {
    "mlp": {"layers": 3},
    "rnn": {"length": 7},
    "lstm": {"length": 7},
    "gru": {"length": 7},
    "gpt": {"length": 7, "layers": 3, "heads": 3},
}


@pytest.mark.sweep
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("smaller", [False, True])
def test_the_size_of_a_model_is_that_of_what_is_built(name, smaller):
    given = SMALL | OTHERS.get(name, {}) if smaller else {}
    model, options = build(name, given, seed=0, dtype="float32")
    size = model_size(name, options)
    assert size.parameters == pytest.approx(sum(leaf.size for leaf in jax.tree.leaves(model.parameters)), rel=0.02)
    seen = {}
    model.loss_and_gradients(model.parameters, *next(model.batches()), intermediates=seen)
    named = sum(np.size(value) for value in seen.values())
    assert named * 0.98 <= size.activations <= named * 2  # what recurrent layers and attention have inside is not named


def test_the_size_of_the_notebooks_network():
    x, y = np.ones((3, 17)), np.ones((2, 17))
    parameters = manual.initialize_parameters(3, 5, 2, seed=0)
    _, cache = manual.forward_propagation(x, parameters)
    assert shallow_size(x, y, 5) == (
        sum(leaf.size for leaf in parameters.values()),
        sum(np.size(value) for value in cache),
    )


def test_a_preset_has_the_sizes_of_its_network():
    assert model_size("gpt", settled("gpt", {"preset": "gpt2-124m"})).parameters == 124_439_808  # as published


# MiB at the peak, by `/usr/bin/time -f %M backproof verify ...` on two cores, JAX 0.10.2.
MEASURED = [
    ("shallow", {"hidden": 16}, 302),
    ("shallow", {"hidden": 2000}, 629),
    ("shallow", {"hidden": 10_000}, 1196),
    ("shallow", {"hidden": 30_000}, 3026),
    ("mlp", {"hidden": 512}, 567),
    ("mlp", {"hidden": 2000}, 1938),
    ("convnet", {"hidden": 64}, 706),
    ("convnet", {"hidden": 256}, 1180),
    ("rnn", {"hidden": 512}, 665),
    ("lstm", {"hidden": 128}, 635),
    ("lstm", {"hidden": 512}, 1437),
    ("gpt", {"hidden": 64}, 1089),
    ("gpt", {"hidden": 256}, 1625),
    ("gpt", {"length": 256}, 2200),
]


@pytest.mark.parametrize(("name", "options", "measured"), MEASURED)
def test_the_estimate_is_near_what_was_measured(name, options, measured):
    if name == "shallow":
        x, y = np.empty((30, 426)), np.empty((1, 426))  # breast-cancer
        size = shallow_size(x, y, options["hidden"])
    else:
        size = model_size(name, settled(name, options))
    estimate = needed(name, size, 3) / 2**20
    assert 0.75 < estimate / measured < 1.5


# Of more than LARGE parameters. To say less than is needed would let a run begin that is killed.
LARGE_ONES = [
    ("mlp", {"hidden": 4000}, "float64", 2344),
    ("gpt", {"hidden": 512, "layers": 4}, "float64", 1820),
    ("gpt", {"hidden": 512, "layers": 4}, "float32", 1230),
    ("gpt", {"hidden": 768, "layers": 4, "heads": 12}, "float32", 2169),
    ("gpt", {"preset": "gpt2-124m"}, "float32", 8416),
]


@pytest.mark.parametrize(("name", "options", "dtype", "measured"), LARGE_ONES)
def test_the_estimate_of_a_large_model_is_no_less_than_was_measured(name, options, dtype, measured):
    size = model_size(name, settled(name, options))
    assert size.parameters > memory.LARGE
    estimate = needed(name, size, 3, dtype=dtype) / 2**20
    assert 1 <= estimate / measured < 1.5


sizes = st.builds(Size, st.integers(1, 10**9), st.integers(1, 10**9))


@settings(deadline=None, max_examples=50)
@given(size=sizes, more=st.integers(1, 10**9), name=st.sampled_from(["shallow", *MODELS]))
def test_more_activations_steps_and_devices_never_need_less(size, more, name):
    least = needed(name, size, 1)
    assert needed(name, size._replace(activations=size.activations + more), 1) > least
    assert needed(name, size, 1 + more) > least
    assert needed(name, size, 1, devices=2) > least


# --------------------------------------------------------------------------------------- what there is


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """As if the machine had 8 GiB, 2 of them free, and control groups as the files say that are given."""

    def build(cgroup="", **limits):
        files = {"proc/meminfo": f"MemTotal: {8 * 2**20} kB\nMemAvailable:  {2 * 2**20} kB\n"}
        files |= {"proc/self/cgroup": cgroup} | limits
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        monkeypatch.setattr(memory, "ROOT", tmp_path)
        monkeypatch.setattr(memory, "_physical", lambda: 8 * GIB)

    build()
    return build


def test_a_machine_has_the_memory_that_linux_says(machine):
    assert memory.capacity() == 8 * GIB
    assert memory.available() == 2 * GIB


@pytest.mark.parametrize(
    ("cgroup", "limits", "gib"),
    [
        ("0::/a/b\n", {"sys/fs/cgroup/a/b/memory.max": "max\n"}, 8),
        ("0::/a/b\n", {"sys/fs/cgroup/a/b/memory.max": str(GIB)}, 1),
        ("0::/a/b\n", {"sys/fs/cgroup/a/b/memory.max": "max\n", "sys/fs/cgroup/a/memory.max": str(3 * GIB)}, 3),
        ("0::/unseen/from/inside\n", {"sys/fs/cgroup/memory.max": str(4 * GIB)}, 4),
        ("0::/../../other\n", {"sys/fs/cgroup/memory.max": str(4 * GIB)}, 4),
        ("3:cpu,cpuacct:/\n2:memory:/a\n", {"sys/fs/cgroup/memory/a/memory.limit_in_bytes": str(5 * GIB)}, 5),
        ("2:memory:/\n", {"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712"}, 8),  # none
        ("2:cpu:/a\n", {"sys/fs/cgroup/memory/a/memory.limit_in_bytes": str(GIB)}, 8),  # another group's
    ],
)
def test_a_control_group_may_allow_less(machine, cgroup, limits, gib):
    machine(cgroup, **limits)
    assert memory.capacity() == gib * GIB


def test_a_system_that_says_nothing_is_asked_for_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "ROOT", tmp_path)
    monkeypatch.setattr(memory.os, "sysconf", lambda name: (_ for _ in ()).throw(ValueError(name)))
    assert memory.capacity() is None
    said = []
    check_fits("shallow", Size(10**12, 10**12), iterations=1, note=said.append)
    assert len(said) == 1
    assert "free" not in said[0]


def test_this_machine_says_what_it_has():
    assert (memory.capacity() or 0) > 2**27


# ---------------------------------------------------------------------------------- announced and refused


@pytest.mark.usefixtures("machine")
def test_what_a_run_needs_is_said_before_it():
    said = []
    check_fits("shallow", Size(100, 100), iterations=1000, note=said.append)
    check_fits("shallow", Size(100, 2**25), iterations=1000, note=said.append)
    assert said[0] == "this needs about 0.4 GiB of memory at most; 2.0 GiB are free now"
    assert said[1] == "this needs about 3.9 GiB of memory at most; 2.0 GiB are free now"


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("run", "remedy"),
    [
        (lambda: verify(Settings(hidden=100_000_000)), "Give fewer --hidden units, less data, or fewer --iterations."),
        (lambda: verify(Settings(iterations=2**40)), "or fewer --iterations."),
        (lambda: verify_model("mlp", {"hidden": 10**6}), "Give a smaller model or --batch, or fewer --iterations."),
        (lambda: verify_model("gpt", {"preset": "gpt2-124m"}), "Give a smaller model or --batch"),
        (lambda: verify_model("rnn", {"batch": 10**7}), "Give a smaller model or --batch"),
        (lambda: verify_parallel("shallow", {"hidden": 10**8}), "Give fewer --hidden units"),
        (lambda: verify_parallel("gru", {"hidden": 10**6}), "Give a smaller model"),
    ],
)
def test_what_cannot_fit_is_refused_before_the_work(run, remedy):
    with pytest.raises(BadInput) as refused:
        run()
    message = str(refused.value)
    assert message.startswith("this needs about ")
    assert ", and this machine has 8.0 GiB. Give " in message
    assert remedy in message
    assert message.count(".\n") == 0


# -------------------------------------------------------------------------------------------- given back

STATUS = Path("/proc/self/status")


@pytest.mark.skipif(not STATUS.exists() or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="Linux with glibc")
def test_what_is_free_is_given_back():
    """Blocks of a layer's size, of which every second one is freed: no end of the heap that glibc would cut off."""

    def resident():
        (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024

    np.empty(2**21).fill(1)  # 16 MiB: once it is freed, smaller ones are kept
    kept = [np.ones(2**18) for _ in range(64)]  # of 2 MiB each
    del kept[::2]
    before = resident()
    memory.give_back()
    assert resident() < before - 32
    assert all((block == 1).all() for block in kept)


def test_where_the_c_library_cannot_nothing_happens(monkeypatch):
    for library in (lambda name: object(), lambda name: (_ for _ in ()).throw(TypeError(name))):
        monkeypatch.setattr(memory.ctypes, "CDLL", library)
        memory.give_back()
