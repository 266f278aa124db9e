"""The GEMM bound: the time of a workload's matrix products alone, in NumPy's BLAS, with preallocated results.

The matrix products are read from the JAX program of the workload. A convolution counts as the product of the matrix of
its windows with its kernel.
"""

import itertools
import math
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from compare.bench.workloads import Runner, Workload


class Product(NamedTuple):
    """`batch` products of (rows, inner) with (inner, columns)."""

    batch: int
    rows: int
    inner: int
    columns: int

    @property
    def flops(self) -> int:
        """The number of operations: one multiplication and one addition for each term of each sum."""
        return 2 * self.batch * self.rows * self.inner * self.columns


def products(jaxpr: Any, times: int = 1) -> Iterator[tuple[Product, int]]:
    """The matrix products of a traced program.

    Args:
        jaxpr: the program.
        times: how often the program is evaluated.

    Yields:
        Each product, those of inner programs included, and how often it is evaluated.
    """
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name == "dot_general":
            yield _of_dot(equation), times
        elif name == "conv_general_dilated":
            yield _of_convolution(equation), times
        inner = times * equation.params["length"] if name == "scan" else times
        branches = equation.params.get("branches")
        # Only one branch of a `cond` is evaluated; the first is counted. Rules for derivatives are not evaluated.
        for program in branches[:1] if branches else map(equation.params.get, ("jaxpr", "call_jaxpr", "body_jaxpr")):
            if program is not None:
                yield from products(getattr(program, "jaxpr", program), inner)


def _of_dot(equation: Any) -> Product:
    (left, right), (left_batch, right_batch) = equation.params["dimension_numbers"]
    a, b = (variable.aval.shape for variable in equation.invars)
    rows = [axis for axis in range(len(a)) if axis not in (*left, *left_batch)]
    columns = [axis for axis in range(len(b)) if axis not in (*right, *right_batch)]

    def size(shape: Any, axes: Any) -> int:
        return math.prod(shape[axis] for axis in axes)

    return Product(size(a, left_batch), size(a, rows), size(a, left), size(b, columns))


def _of_convolution(equation: Any) -> Product:
    """Each entry of the output is the product of a window, with the channels of its group only, and a kernel."""
    numbers, groups = equation.params["dimension_numbers"], equation.params["feature_group_count"]
    kernel, out = (variable.aval.shape for variable in (equation.invars[1], equation.outvars[0]))
    channels = kernel[numbers.rhs_spec[0]]
    inner = math.prod(kernel) // channels
    groups *= equation.params["batch_group_count"]
    return Product(groups, math.prod(out) // channels, inner, channels // groups)


def prepare(workload: Workload) -> Runner:
    """A runner that evaluates the matrix products of the workload."""
    random = np.random.default_rng(workload.seed)
    ready: list[Operands] = []
    counted = _counted(workload)
    for product, times in counted.items():
        ready += [_fastest(product, random, workload.dtype)] * times

    def run(steps: int) -> None:
        for _ in range(steps):
            for a, b, out in ready:
                np.matmul(a, b, out=out)

    return Runner(run, dict, flops=sum(product.flops * times for product, times in counted.items()))


Operands = tuple[np.ndarray, np.ndarray, np.ndarray]
TRIES = 3


def _fastest(product: Product, random: np.random.Generator, dtype: str) -> Operands:
    """Random operands in the memory layout in which NumPy is fastest: each of them and the result may be transposed."""
    batch, *sizes = product
    stack = () if batch == 1 else (batch,)

    def some(flipped: bool, rows: int, columns: int) -> np.ndarray:
        shape = (columns, rows) if flipped else (rows, columns)
        made = random.standard_normal((*stack, *shape), np.float32).astype(dtype, copy=False)
        return made.swapaxes(-2, -1) if flipped else made

    def layouts() -> Iterator[Operands]:
        for rows, inner, columns in (sizes, sizes[::-1]):  # C, and C^T = B^T A^T
            for left, right in itertools.product((False, True), repeat=2):
                yield some(left, rows, inner), some(right, inner, columns), np.empty((*stack, rows, columns), dtype)

    def seconds(operands: Operands) -> float:
        a, b, out = operands
        taken = []
        for _ in range(TRIES):
            start = time.perf_counter()
            np.matmul(a, b, out=out)
            taken.append(time.perf_counter() - start)
        return min(taken)

    return min(layouts(), key=seconds)


def _counted(workload: Workload) -> Counter[Product]:
    counted: Counter[Product] = Counter()
    for product, times in products(workload.module.traced(workload).jaxpr):
        counted[product] += times
    return counted
