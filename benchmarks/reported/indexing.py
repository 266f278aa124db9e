"""Reported bugs of gathers, convolutions, pooling, interpolation, and sums over broadcast axes."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from benchmarks.reported.elementwise import normal
from benchmarks.reported.entry import ReportedFault, into

FAULTS: list[ReportedFault] = []
fault = into(FAULTS)


@fault(
    "the padding row is trained",
    "pytorch/pytorch#26302",
    "vjp",
    "table",
    "The embedding of the padding index gets a gradient, though padded positions are masked.",
    "missing-mask",
)
def padding_row(broken: bool) -> tuple[Any, ...]:
    ids = np.array([0, 3, 0, 2, 3, 1])
    kept = (ids != 0)[:, None] * 1.0

    def backward(dy: Any, table: Any) -> Any:
        dtable = np.zeros_like(table)
        np.add.at(dtable, ids, dy if broken else dy * kept)
        return dtable

    return lambda table: (table[ids] * kept, table), backward, lambda table: table[ids] * kept, normal(5, 3)


@fault(
    "the padding row is trained beyond a block",
    "pytorch/pytorch#28716",
    "vjp",
    "table",
    "Padded positions are masked in the first block of positions only.",
    "missing-mask",
)
def padding_block(broken: bool) -> tuple[Any, ...]:
    ids = np.random.default_rng(0).integers(0, 5, 30)
    kept = (ids != 0)[:, None] * 1.0
    masked = np.where(np.arange(30)[:, None] < 24, kept, 1.0) if broken else kept

    def backward(dy: Any, table: Any) -> Any:
        dtable = np.zeros_like(table)
        np.add.at(dtable, ids, dy * masked)
        return dtable

    return lambda table: (table[ids] * kept, table), backward, lambda table: table[ids] * kept, normal(5, 3)


@fault(
    "a diagonal that is not at the end",
    "tinygrad/tinygrad#18229",
    "vjp",
    "output",
    "The einsum iij->ij comes out transposed.",
    "transpose permutation",
)
def einsum_diagonal(broken: bool) -> tuple[Any, ...]:
    def forward(x: Any) -> Any:
        y = np.einsum("iij->ij", x)
        return (y.T if broken else y).copy(), x

    def backward(dy: Any, x: Any) -> Any:
        dx = np.zeros_like(x)
        dx[np.arange(4), np.arange(4)] = dy.T if broken else dy
        return dx

    return forward, backward, lambda x: jnp.einsum("iij->ij", x), normal(4, 4, 4)


@fault(
    "einsum's gradient is not broadcast",
    "HIPS/autograd#376",
    "vjp",
    "x",
    "The gradient has the shape of the operand of length 1.",
    "shape missing-sum broadcast",
)
def einsum_broadcast(broken: bool) -> tuple[Any, ...]:
    def backward(dy: Any, cache: Any) -> Any:
        x, y = cache
        return (dy * y if broken else np.broadcast_to(dy * y, x.shape)), np.sum(x, keepdims=True) * dy

    return (
        lambda x, y: (np.sum(x * y), (x, y)),
        backward,
        lambda x, y: jnp.sum(x * y),
        normal(4),
        normal(1, seed=1),
    )


@fault(
    "a broadcast operand's gradient is not summed",
    "deeplearning4j/nd4j#2424",
    "vjp",
    "b",
    "The gradient of a row that was added to a matrix has the matrix's shape.",
    "shape missing-sum",
)
def broadcast_add(broken: bool) -> tuple[Any, ...]:
    return (
        lambda a, b: (a + b, None),
        lambda dy, _: (dy, dy if broken else dy.sum(axis=0, keepdims=True)),
        lambda a, b: a + b,
        normal(3, 4),
        normal(1, 4, seed=1),
    )


@fault(
    "linear upsampling drops the window's end",
    "flagos-ai/FlagGems#5218",
    "vjp",
    "x",
    "With aligned corners the stretch is larger than the window of outputs that is scanned.",
)
def upsample_linear(broken: bool) -> tuple[Any, ...]:
    at = np.arange(10) * (1 / 9)
    weights = np.stack([1 - at, at], axis=1)  # (10, 2), corners aligned
    far = np.abs(np.arange(10)[:, None] - 9 * np.arange(2)) > 7.5
    scanned = np.where(far, 0, weights) if broken else weights
    return lambda x: (weights @ x, None), lambda dy, _: scanned.T @ dy, lambda x: weights @ x, normal(2)


@fault(
    "bilinear upsampling reads another column",
    "intel/torch-xpu-ops#4380",
    "vjp",
    "x",
    "The column of the output is computed from the height of the input.",
    "shift permutation misplaced",
)
def upsample_bilinear(broken: bool) -> tuple[Any, ...]:
    def matrix(n: int) -> np.ndarray:
        at = np.clip((np.arange(2 * n) + 0.5) / 2 - 0.5, 0, n - 1)
        return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(n)))

    rows, columns = matrix(5), matrix(3)

    def backward(dy: Any, _: Any) -> Any:
        return rows.T @ (np.roll(dy, 1, axis=1) if broken else dy) @ columns

    return lambda x: (rows @ x @ columns.T, None), backward, lambda x: rows @ x @ columns.T, normal(5, 3)


@fault(
    "transposed convolution's backward without its stride",
    "pytorch/pytorch#63314",
    "vjp",
    "x",
    "The gradient is read from neighboring outputs, as if the stride were 1.",
    "wrong-stride",
)
def transposed_convolution(broken: bool) -> tuple[Any, ...]:
    def forward(x: Any, w: Any) -> Any:
        y = np.zeros(2 * len(x) + 1)
        for k in range(3):
            y[k : k + 2 * len(x) : 2] += x * w[k]
        return y, (x, w)

    def backward(dy: Any, cache: Any) -> Any:
        x, w = cache
        stride = 1 if broken else 2
        dx = sum(dy[k : k + stride * len(x) : stride] * w[k] for k in range(3))
        return dx, np.array([dy[k : k + 2 * len(x) : 2] @ x for k in range(3)])

    def function(x: Any, w: Any) -> Any:
        y = jnp.zeros(2 * len(x) + 1)
        for k in range(3):
            y = y.at[k : k + 2 * len(x) : 2].add(x * w[k])
        return y

    return forward, backward, function, normal(5), normal(3, seed=1)


def windows(x: Any, kernel: int, stride: int, dilation: int) -> Any:
    """The windows of a sequence, in rows."""
    count = (len(x) - 1 - dilation * (kernel - 1)) // stride + 1
    return x[np.arange(count)[:, None] * stride + np.arange(kernel) * dilation]


@fault(
    "a convolution's weight gradient averaged",
    "sebgao/cTensor#3",
    "vjp",
    "w",
    "The gradient of the weights is divided by the number of outputs.",
    "factor",
)
def convolution_averaged(broken: bool) -> tuple[Any, ...]:
    def backward(dy: Any, cache: Any) -> Any:
        x, w = cache
        dx = np.zeros_like(x)
        np.add.at(dx, windows(np.arange(len(x)), 3, 1, 1), np.outer(dy, w))
        dw = windows(x, 3, 1, 1).T @ dy
        return dx, dw / len(dy) if broken else dw

    return (
        lambda x, w: (windows(x, 3, 1, 1) @ w, (x, w)),
        backward,
        lambda x, w: windows(x, 3, 1, 1) @ w,
        normal(9),
        normal(3, seed=1),
    )


@fault(
    "stride and dilation swapped",
    "iree-org/iree-turbine#1223",
    "vjp",
    "w",
    "The weight gradient takes the dilation for the stride, and the stride for the dilation.",
    "wrong-stride",
)
def convolution_swapped(broken: bool) -> tuple[Any, ...]:
    def backward(dy: Any, cache: Any) -> Any:
        x, w = cache
        dx = np.zeros_like(x)
        np.add.at(dx, windows(np.arange(len(x)), 3, 2, 3), np.outer(dy, w))
        return dx, windows(x, 3, *((3, 2) if broken else (2, 3))).T @ dy

    return (
        lambda x, w: (windows(x, 3, 2, 3) @ w, (x, w)),
        backward,
        lambda x, w: windows(x, 3, 2, 3) @ w,
        normal(14),
        normal(3, seed=1),
    )


@fault(
    "grouped convolution's weights in another order",
    "pytorch/pytorch#51430",
    "vjp",
    "w",
    "The gradient of the weights of a grouped convolution mixes groups and channels.",
    "permutation transpose shift",
)
def convolution_grouped(broken: bool) -> tuple[Any, ...]:
    """Two groups of two inputs and three outputs each, with a kernel of one: x (examples, 2, 2), w (2, 3, 2)."""

    def backward(dy: Any, cache: Any) -> Any:
        x, w = cache
        dw = np.einsum("ngo,ngi->goi", dy, x)
        mixed = dw.transpose(1, 0, 2).reshape(dw.shape)
        return np.einsum("ngo,goi->ngi", dy, w), mixed if broken else dw

    return (
        lambda x, w: (np.einsum("ngi,goi->ngo", x, w), (x, w)),
        backward,
        lambda x, w: jnp.einsum("ngi,goi->ngo", x, w),
        normal(6, 2, 2),
        normal(2, 3, 2, seed=1),
    )


@fault(
    "depthwise convolution's last column",
    "pytorch/pytorch#50042",
    "vjp",
    "w",
    "The last column of the weight gradient equals the first, as if padding had been read there.",
    "copied",
)
def convolution_depthwise(broken: bool) -> tuple[Any, ...]:
    def padded(x: Any, lib: Any) -> Any:
        return lib.pad(x, ((0, 0), (1, 1)))[:, np.arange(4)[:, None] * 2 + np.arange(3)]  # (channels, 4, 3)

    def backward(dy: Any, cache: Any) -> Any:
        x, w = cache
        dx = np.zeros((len(x), x.shape[1] + 2))
        for i in range(4):
            dx[:, 2 * i : 2 * i + 3] += dy[:, i, None] * w
        dw = np.einsum("ct,ctk->ck", dy, padded(x, np))
        if broken:
            dw[:, -1] = dw[:, 0]
        return dx[:, 1:-1], dw

    return (
        lambda x, w: (np.einsum("ctk,ck->ct", padded(x, np), w), (x, w)),
        backward,
        lambda x, w: jnp.einsum("ctk,ck->ct", padded(x, jnp), w),
        normal(3, 7),
        normal(3, 3, seed=1),
    )


@fault(
    "max pooling returns after the first patch",
    "riccardoandreoni0/CNN-from-scratch#1",
    "vjp",
    "image",
    "The return statement stands inside of the loop over patches.",
    "zeros",
)
def pooling_returns(broken: bool) -> tuple[Any, ...]:
    def blocks(image: Any) -> Any:
        return image.reshape(3, 2, 3, 2)

    def backward(dy: Any, image: Any) -> Any:
        won = blocks(image) == blocks(image).max(axis=(1, 3), keepdims=True)
        d = (won * dy[:, None, :, None]).reshape(image.shape)
        if broken:
            d[2:] = 0
            d[:, 2:] = 0
        return d

    return (
        lambda image: (blocks(image).max(axis=(1, 3)), image),
        backward,
        lambda image: blocks(image).max(axis=(1, 3)),
        normal(6, 6),
    )


@fault(
    "max by closeness",
    "mni-ml/framework#22",
    "vjp",
    "a",
    "Every entry within 0.01 of the maximum is taken for it.",
    "ties wrong-mask",
)
def max_close(broken: bool) -> tuple[Any, ...]:
    def backward(dy: Any, a: Any) -> Any:
        best = a.max(axis=1, keepdims=True)
        won = np.abs(a - best) < 1e-2 if broken else a == best
        return won * dy[:, None]

    a = np.array([[1.0, 0.995, -0.3], [0.2, 0.9, 0.5], [2.0, 1.0, 1.994]])
    return lambda a: (a.max(axis=1), a), backward, lambda a: a.max(axis=1), a


@fault(
    "average pooling's backward by the full kernel",
    "tracel-ai/burn#5604",
    "vjp",
    "x",
    "The last window holds one entry, and the forward divides by 1, the backward by 2.",
    "single-entry factor",
)
def average_pooling(broken: bool) -> tuple[Any, ...]:
    counts = np.array([2.0, 2.0, 1.0])

    def forward(x: Any) -> Any:
        return np.add.reduceat(x, [0, 2, 4]) / counts, None

    def backward(dy: Any, _: Any) -> Any:
        return np.repeat(dy / (2.0 if broken else counts), 2)[:5]

    return forward, backward, lambda x: jnp.stack([(x[0] + x[1]) / 2, (x[2] + x[3]) / 2, x[4]]), normal(5)
