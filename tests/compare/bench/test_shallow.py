"""The notebook's network, as every contestant trains it."""

import jax
import pytest

from compare.bench import shallow
from compare.bench.turns import distance
from compare.bench.workloads import Workload
from compare.errors import BadInput
from tests.compare.bench.runs import outcome_of, reference_of


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [name for name in shallow.CONTESTANTS if name != "torch-compiled"])
def test_everybody_trains_the_same_network(name, dtype):
    workload = Workload("shallow", "3x5x17", dtype)
    if not shallow.CONTESTANTS[name].installed:
        pytest.skip(f"{shallow.CONTESTANTS[name].needs} is not installed: .venv/bin/pip install -e '.[peers]'")
    with jax.enable_x64(dtype == "float64"):
        error = distance(outcome_of(workload, name), reference_of(workload))
    assert error < (1e-4 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("size", ["2x4", "2x4x0", "2x-4x5", "axbxc", "", "2x4x5x6", "2.5x4x5"])
def test_a_size_has_three_numbers(size):
    with pytest.raises(BadInput, match="a size is FEATURESxHIDDENxEXAMPLES, such as 30x32x569; got"):
        shallow.sizes_of(size)
