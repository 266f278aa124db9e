"""The matrix products of a workload, counted in its traced program."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from compare.bench import shallow
from compare.bench.gemm_bound import Product, prepare, products
from compare.bench.workloads import Workload


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
