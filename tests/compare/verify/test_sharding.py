"""Batches over several devices: what eight devices compute together is what one computes.

JAX fixes the number of devices when it starts, so the checks on eight run in a process of their own, all in one.
"""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from compare.errors import BadInput
from compare.verify.sharding import Parallel, Split, mesh_of
from tests.xla import QUICKLY

# What matters is which device gets what, not what XLA makes of it.
EIGHT = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count=8 {QUICKLY}"}

ON_EIGHT_DEVICES = """
import jax, numpy as np
import autodiff, manual
from autodiff.optimizers import adam
from compare import Verdict, check_gradients
from compare.suite.models import build
from compare.verify.sharding import Parallel, Split, mesh_of
from compare.suite.shallow import shallow_loss

mesh = mesh_of()
assert mesh.size == 8
random = np.random.default_rng(0)

# A batch that divides evenly, one that does not, one smaller than the mesh; by columns, in both dtypes.
cases = (64, np.float32, [0]), (61, np.float64, [0, 1]), (61, np.float32, [1]), (5, np.float64, [0])
for examples, dtype, shards in cases:
    x = random.standard_normal((3, examples)).astype(dtype)
    y = (random.random((1, examples)) < 0.5).astype(dtype)
    start = manual.initialize_parameters(3, 16, 1, dtype=dtype)
    for shard in map(bool, shards):
        spread = Parallel(shallow_loss, mesh, axis=1, shard=shard)
        report = check_gradients(spread.loss_and_gradients, shallow_loss, start, x, y, probes=False, references=False)
        assert report.verdict is Verdict.AGREE, report
    if examples == 61:  # against the derivation by hand too, entry by entry
        _, ours = manual.loss_and_gradients(start, x, y)
        _, theirs = spread.loss_and_gradients(start, x, y)
        for name in ours:
            np.testing.assert_allclose(theirs[name], ours[name], rtol=0, atol=1e-6 if dtype == np.float32 else 1e-15)

# Padding that is not cut off is a fault, and is seen.
class Padded(Split):
    def cut(self, whole):
        return whole

import compare.verify.sharding
honest, compare.verify.sharding.Split = compare.verify.sharding.Split, Padded
x, y = random.standard_normal((3, 61)), (random.random((1, 61)) < 0.5).astype(float)
start = manual.initialize_parameters(3, 16, 1)
faulty = Parallel(shallow_loss, mesh, axis=1)
report = check_gradients(faulty.loss_and_gradients, shallow_loss, start, x, y, probes=False, references=False)
assert report.verdict is Verdict.DISAGREE, report
compare.verify.sharding.Split = honest

# Parameters in parts really lie in parts, and a batch norm sees the whole batch.
model, options = build("convnet", {"batch": 13, "hidden": 8}, seed=0, dtype="float64")
with jax.enable_x64(True):
    spread = Parallel(model.loss, mesh, shard=True)
    placed = spread._placed(model.parameters)
    parts = [leaf.addressable_shards[0].data.size / leaf.size for leaf in jax.tree.leaves(placed)]
    assert min(parts) == 1 / 8, parts
    batch = next(model.batches())
    quick = {"probes": False, "references": False}
    report = check_gradients(spread.loss_and_gradients, model.loss, model.parameters, *batch, **quick)
    assert report.verdict is Verdict.AGREE, report

    # Training stays on the devices; batches of two sizes, as at the end of an epoch.
    batches = [next(model.batches()) for _ in range(3)]
    batches.append(tuple(array[:7] for array in batches[0]))
    optimizer = adam(0.01)
    together, _, losses = spread.train(model.parameters, batches, optimizer)
    value_and_grad = jax.value_and_grad(model.loss)
    alone, _, expected = autodiff.training.train(value_and_grad, model.parameters, batches, optimizer)
    np.testing.assert_allclose(losses, np.asarray(expected), rtol=1e-12)
    for ours, theirs in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(ours, np.asarray(theirs), rtol=0, atol=1e-12)

# Steps that are on their way at once, because their batches are on the devices already, do not wait for ever.
x, y = random.standard_normal((3, 40)), (random.random((1, 40)) < 0.5).astype(float)
spread = Parallel(shallow_loss, mesh, axis=1)
with jax.enable_x64(True):
    there = spread._loaded(spread._split((x, y)), (x, y))
object.__setattr__(spread, "_loaded", lambda split, batch: there)
_, _, losses = spread.train(start, [(x, y)] * 200, adam(0.01))
assert losses[-1] < losses[0]
print("done")
"""


@pytest.mark.campaign
def test_eight_devices_compute_what_one_does():
    done = subprocess.run(
        [sys.executable, "-c", ON_EIGHT_DEVICES], env=EIGHT, capture_output=True, text=True, timeout=200
    )
    assert done.stdout.strip() == "done", done.stderr[-3000:]


def test_more_devices_than_there_are_is_refused():
    there = len(jax.devices())
    with pytest.raises(BadInput, match=rf"{there + 1} devices were requested, and JAX has {there} \(cpu\)"):
        mesh_of(there + 1)
    with pytest.raises(BadInput, match="0 devices"):
        mesh_of(0)


def test_a_process_must_give_its_own_part():
    split = Split(mesh_of(1), 10)
    assert split.own() == slice(0, 10)
    with pytest.raises(ValueError, match="examples 0 to 10 of 10, which are 10; got 4 along axis 0"):
        split.load(np.zeros((4, 2)))


def test_one_device_is_a_mesh_too():
    spread = Parallel(lambda p, x: jax.numpy.sum((p * x) ** 2), mesh_of(1))
    loss, gradient = spread.loss_and_gradients(np.float32(2), np.array([1, 2], np.float32))
    assert (loss, gradient) == (20, 20)
