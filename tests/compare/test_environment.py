"""Where a measurement was made is said as it is, on systems that differ in what they tell."""

import json
import os
import platform
import re
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from compare import environment as module
from compare.environment import blas, cores, environment, name_of, processor
from compare.platform import on_platform, precise


def test_all_that_is_needed_to_measure_again_is_there():
    found = environment()
    assert json.loads(json.dumps(found)) == found
    assert all(isinstance(value, str) and value == value.strip() and value for value in found.values())
    assert found["Python"] == platform.python_version()
    assert (found["NumPy"], found["JAX"]) == (np.__version__, jax.__version__)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", found["date"])
    assert platform.machine() in found["system"]


def test_the_device_is_that_of_the_platform_in_use():
    with on_platform("cpu") as device:
        assert environment()["device"] == name_of(device) == "cpu"


def test_the_precision_of_products_is_that_in_use():
    """TF32 and bfloat16, which are defaults on accelerators, make differences that are no faults."""
    assert environment()["JAX's products"] == "the device's default precision"
    with precise():
        assert environment()["JAX's products"] == "highest"


def test_an_accelerator_is_named_by_its_kind():
    device = SimpleNamespace(platform="gpu", device_kind="NVIDIA H100")
    assert name_of(device) == "gpu (NVIDIA H100)"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor\t: 0\nmodel name\t: AMD  EPYC 9B14\nmodel name\t: another\n", "AMD EPYC 9B14"),
        ("processor\t: 0\nBogoMIPS\t: 50.00\n", platform.machine()),  # as on many ARM machines
    ],
)
def test_linux_tells_in_a_file(monkeypatch, tmp_path, text, expected):
    (tmp_path / "cpuinfo").write_text(text, encoding="utf-8")
    monkeypatch.setattr(module, "CPUINFO", tmp_path / "cpuinfo")
    assert processor() == expected


@pytest.mark.parametrize(
    ("system", "said", "expected"),
    [("Darwin", "Apple M4\n", "Apple M4"), ("Windows", "never asked", "Intel64 Family 6"), ("Darwin", "", "arm64")],
)
def test_other_systems_are_asked(monkeypatch, tmp_path, system, said, expected):
    monkeypatch.setattr(module, "CPUINFO", tmp_path / "there is none")
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "processor", lambda: "Intel64 Family 6")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    monkeypatch.setattr(module.subprocess, "run", lambda *command, **options: SimpleNamespace(stdout=said))
    assert processor() == expected


@pytest.mark.parametrize(("usable", "expected"), [({0, 1, 2, 3}, "4"), ({1, 3}, "2 of 4")])
def test_cores_that_may_not_be_used_do_not_count(monkeypatch, usable, expected):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: usable, raising=False)
    assert cores() == expected


def test_the_threads_are_those_of_this_moment():
    if not any(library["user_api"] == "blas" for library in module.threadpool_info()):
        pytest.skip("the BLAS in use cannot be seen from outside")
    with threadpool_limits(1, user_api="blas"):
        assert blas().endswith(", 1 thread")


def test_numpys_own_blas_is_named_and_not_scipys(monkeypatch):
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)

    def library(path, **more):
        common = {"user_api": "blas", "internal_api": "openblas", "version": "1", "num_threads": 2}
        return common | {"filepath": path} | more

    loaded = [library("/scipy.libs/a.so", version="9"), library("/numpy.libs/b.so", architecture="Zen")]
    openmp = {"user_api": "openmp", "filepath": "/numpy/omp.so"}
    monkeypatch.setattr(module, "threadpool_info", lambda: [openmp, *loaded])
    assert blas() == "openblas 1 for Zen, 2 threads"
    monkeypatch.setattr(module, "threadpool_info", lambda: [library("/lib/mkl.so", internal_api="mkl")])
    assert blas() == "mkl 1, 2 threads"


def test_kernels_that_openblas_did_not_choose_are_remarked_upon(monkeypatch):
    loaded = [{"user_api": "blas", "filepath": "/numpy.libs/b.so", "internal_api": "openblas", "version": "1"}]
    monkeypatch.setattr(module, "threadpool_info", lambda: [loaded[0] | {"num_threads": 2, "architecture": "Zen"}])
    for value, remark in ((None, ""), ("", ""), ("Zen", " (OPENBLAS_CORETYPE is set)")):
        monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
        if value is not None:
            monkeypatch.setenv("OPENBLAS_CORETYPE", value)
        assert blas() == f"openblas 1 for Zen{remark}, 2 threads"


def test_a_blas_that_cannot_be_seen_is_named_as_it_was_built(monkeypatch):
    monkeypatch.setattr(module, "threadpool_info", list)
    built = {"Build Dependencies": {"blas": {"name": "accelerate"}}}
    monkeypatch.setattr(np, "show_config", lambda mode: built)
    assert blas() == "accelerate"
