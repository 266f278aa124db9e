"""A workload of the tests' own: a number is halved at each step, by contestants of every kind of conduct."""

import os
import time

import numpy as np

from compare.bench.workloads import Contestant, Runner

SLOW = 0.002  # seconds of a step


def halving(workload, *, factor=0.5, seconds=0.0, ends_after=None):
    value = np.full(3, 2.0 + workload.seed, workload.dtype)
    taken = 0

    def run(steps):
        nonlocal value, taken
        for _ in range(steps):
            time.sleep(seconds)
            value = value * value.dtype.type(factor) if taken < 10 else value  # or it ends as a subnormal number
            taken += 1
        if ends_after is not None and taken > ends_after:
            os._exit(1)

    return Runner(run, lambda: {"value": value})


def unable(workload):
    raise RuntimeError("no such thing here\nand more lines")


def described(workload):
    return f"a workload of the tests: {workload.size}"


def traced(workload):
    import jax

    matrix = np.ones((2, 3), np.float32)
    return (
        jax.make_jaxpr(lambda a: a @ a.T)(matrix) if workload.size != "without products" else jax.make_jaxpr(abs)(1.0)
    )


def able(workload):
    return list(CONTESTANTS)


CONTESTANTS = {
    "manual": Contestant(halving, "halves"),
    "slow": Contestant(lambda workload: halving(workload, seconds=SLOW), "takes longer"),
    "wrong": Contestant(lambda workload: halving(workload, factor=0.6), "does other work"),
    "nearly": Contestant(lambda workload: halving(workload, factor=0.5001), "rounds"),
    "unable": Contestant(unable, "fails"),
    "dies": Contestant(lambda workload: halving(workload, ends_after=5), "ends in the middle of it"),
    "absent": Contestant(halving, "is not installed", "a_package_that_nobody_has"),
}
