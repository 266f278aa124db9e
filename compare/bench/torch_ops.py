"""The ops of the catalog in PyTorch: functions of tensors with the arguments and options of our ops.

PyTorch is independent of this project. It therefore serves as a third opinion on values and gradients
(tests/compare/bench/test_torch_ops.py), and as the speed to compare with (`ops`). PyTorch has the axes of channels
and heads before those of space and time, and weights of shape (outputs, inputs). The functions here convert our layout.

This module can be imported without PyTorch, but its functions cannot be called then.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

torch: Any = import_module("torch") if find_spec("torch") else None
F: Any = torch and torch.nn.functional

Tensor = Any
Pair = tuple[int, int]


def as_tensors(value: Any) -> Any:
    """An array as a tensor with its own memory. Other values are returned unchanged."""
    return torch.tensor(value) if isinstance(value, np.ndarray) else value


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor = None, *, causal: bool = False) -> Tensor:
    """Scaled dot-product attention.

    Our causal mask aligns the last query with the last key, and PyTorch's `is_causal` the first with the first. If the
    numbers of queries and keys differ, the mask is therefore made explicitly.
    """
    queries, keys = query.shape[1], key.shape[1]
    aligned = causal and mask is None and queries == keys
    if causal and not aligned:
        seen = torch.ones(queries, keys, dtype=torch.bool, device=query.device).tril(keys - queries)
        mask = seen if mask is None else mask & seen
    by_head = (x.transpose(1, 2) for x in (query, key, value))
    grouped = key.shape[2] < query.shape[2]
    o = F.scaled_dot_product_attention(*by_head, attn_mask=mask, is_causal=aligned, enable_gqa=grouped)
    return o.transpose(1, 2)


def multi_head_attention(
    x: Tensor,
    context: Tensor,
    query_weight: Tensor,
    key_weight: Tensor,
    value_weight: Tensor,
    output_weight: Tensor,
    query_bias: Tensor = None,
    key_bias: Tensor = None,
    value_bias: Tensor = None,
    output_bias: Tensor = None,
    mask: Tensor = None,
    *,
    heads: int,
    key_heads: int | None = None,
    causal: bool = False,
) -> Tensor:
    """Composed of smaller functions: in `torch.nn.MultiheadAttention`, the number and size of heads cannot be chosen
    separately for queries and keys.
    """
    c, key_heads = (x if context is None else context), key_heads or heads
    q = F.linear(x, query_weight.T, query_bias).unflatten(-1, (heads, -1))
    k = F.linear(c, key_weight.T, key_bias).unflatten(-1, (key_heads, -1))
    v = F.linear(c, value_weight.T, value_bias).unflatten(-1, (key_heads, -1))
    return F.linear(attention(q, k, v, mask, causal=causal).flatten(-2), output_weight.T, output_bias)


def cross_entropy(logits: Tensor, targets: Tensor, **options: Any) -> Tensor:
    if logits.ndim == 1:
        return F.cross_entropy(logits, targets, **options)
    if targets.ndim == logits.ndim:
        targets = targets.movedim(-1, 1)
    return F.cross_entropy(logits.movedim(-1, 1), targets, **options)


def kl_divergence(log_predictions: Tensor, targets: Tensor, *, reduction: str = "mean") -> Tensor:
    """The divergence of each row. The mean is over rows, which PyTorch calls "batchmean"."""
    if reduction == "none":
        return F.kl_div(log_predictions, targets, reduction="none").sum(-1)
    rows = [x.reshape(-1, x.shape[-1]) for x in (log_predictions, targets)]
    return F.kl_div(*rows, reduction="batchmean" if reduction == "mean" else "sum")


def batch_norm(x: Tensor, weight: Tensor, bias: Tensor, *, epsilon: float = 1e-5) -> Tensor:
    """`torch.nn.functional.batch_norm` computes the same, but rejects a batch with a single value for each channel."""
    y = torch.batch_norm(x.movedim(-1, 1), weight, bias, None, None, True, 0.0, epsilon, False)
    return y.movedim(1, -1)


def batch_norm_inference(
    x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, *, epsilon: float = 1e-5
) -> Tensor:
    return F.batch_norm(x.movedim(-1, 1), mean, variance, weight, bias, training=False, eps=epsilon).movedim(1, -1)


def group_norm(x: Tensor, weight: Tensor, bias: Tensor, *, groups: int, epsilon: float = 1e-5) -> Tensor:
    return F.group_norm(x.movedim(-1, 1), groups, weight, bias, epsilon).movedim(1, -1)


def rnn(
    x: Tensor,
    initial_state: Tensor,
    input_weight: Tensor,
    hidden_weight: Tensor,
    bias: Tensor,
    *,
    activation: str = "tanh",
) -> Tensor:
    function = {"tanh": torch.rnn_tanh, "relu": torch.rnn_relu}[activation]
    weights = [input_weight.T, hidden_weight.T, bias, torch.zeros_like(bias)]
    return function(x, initial_state[None], weights, **ONE_LAYER)[0]


def lstm(
    x: Tensor, initial_hidden: Tensor, initial_cell: Tensor, input_weight: Tensor, hidden_weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    states = (initial_hidden[None], initial_cell[None])
    weights = [input_weight.T, hidden_weight.T, bias, torch.zeros_like(bias)]
    outputs, _, final_cell = torch.lstm(x, states, weights, **ONE_LAYER)
    return outputs, final_cell[0]


def gru(
    x: Tensor,
    initial_state: Tensor,
    input_weight: Tensor,
    hidden_weight: Tensor,
    input_bias: Tensor,
    hidden_bias: Tensor,
) -> Tensor:
    weights = [input_weight.T, hidden_weight.T, input_bias, hidden_bias]
    return torch.gru(x, initial_state[None], weights, **ONE_LAYER)[0]


def conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    stride: int = 1,
    padding: int | str = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Tensor:
    return F.conv1d(x.mT, weight.permute(2, 1, 0), bias, stride, padding, dilation, groups).mT


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    stride: int | Pair = 1,
    padding: int | Pair | str = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Tensor:
    """PyTorch accepts padding="same" for stride 1 only. For other strides, x is padded before the convolution."""
    x = x.movedim(-1, 1)
    if padding == "same" and stride != 1:
        x, padding = F.pad(x, _zeros(x.shape[2:], weight.shape[:2], _pair(stride), _pair(dilation))), 0
    return F.conv2d(x, weight.permute(3, 2, 0, 1), bias, stride, padding, dilation, groups).movedim(1, -1)


def _zeros(size: Pair, kernel: Pair, stride: Pair, dilation: Pair) -> list[int]:
    """The padding in the order of `torch.nn.functional.pad`: before and after, for the last axis first.

    It is the padding with which the windows begin at every stride-th entry of x.
    """
    counts = []
    for n, k, s, d in zip(size, kernel, stride, dilation, strict=True):
        missing = max(d * (k - 1) - (n - 1) % s, 0)  # the last window begins (n - 1) % s entries before the last entry
        counts.append([missing // 2, missing - missing // 2])
    return [*counts[1], *counts[0]]


def _pair(option: int | Pair) -> Pair:
    return (option, option) if isinstance(option, int) else option


def conv_transpose2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    output_padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Tensor:
    kernel = weight.permute(3, 2, 0, 1)
    y = F.conv_transpose2d(x.movedim(-1, 1), kernel, bias, stride, padding, output_padding, groups, dilation)
    return y.movedim(1, -1)


def max_pool2d(x: Tensor, *, window: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0) -> Tensor:
    return F.max_pool2d(x.movedim(-1, 1), window, stride, padding).movedim(1, -1)


def average_pool2d(
    x: Tensor, *, window: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0
) -> Tensor:
    return F.avg_pool2d(x.movedim(-1, 1), window, stride, padding).movedim(1, -1)


def global_average_pool(x: Tensor) -> Tensor:
    pool = {3: F.adaptive_avg_pool1d, 4: F.adaptive_avg_pool2d, 5: F.adaptive_avg_pool3d}[x.ndim]
    return pool(x.movedim(-1, 1), 1).flatten(1)


ONE_LAYER = {
    "has_biases": True,
    "num_layers": 1,
    "dropout": 0.0,
    "train": True,
    "bidirectional": False,
    "batch_first": True,
}

TORCH_OPS: dict[str, Callable[..., Any]] = {
    "tanh": lambda x: torch.tanh(x),
    "sigmoid": lambda x: torch.sigmoid(x),
    "relu": lambda x: F.relu(x),
    "leaky_relu": lambda x, negative_slope=0.01: F.leaky_relu(x, negative_slope),
    "elu": lambda x, alpha=1.0: F.elu(x, alpha),
    "selu": lambda x: F.selu(x),
    # For x above the threshold, PyTorch returns x. With its default of 20, the error would be 2e-9.
    "softplus": lambda x: F.softplus(x, threshold=40),
    "gelu": lambda x, approximate=False: F.gelu(x, approximate="tanh" if approximate else "none"),
    "silu": lambda x: F.silu(x),
    "softmax": lambda x, axis=-1: F.softmax(x, axis),
    "log_softmax": lambda x, axis=-1: F.log_softmax(x, axis),
    "swiglu": lambda gate, value: F.silu(gate) * value,
    "attention": attention,
    "multi_head_attention": multi_head_attention,
    "dense": lambda x, weight, bias: F.linear(x, weight.T, bias),
    "embedding": lambda weight, ids: F.embedding(ids, weight),
    "flatten": lambda x: torch.flatten(x[..., None], 1),
    "binary_cross_entropy": lambda logits, targets, reduction="mean": F.binary_cross_entropy_with_logits(
        logits, targets.to(logits.dtype), reduction=reduction
    ),
    "cross_entropy": cross_entropy,
    "mean_squared_error": lambda predictions, targets, reduction="mean": F.mse_loss(
        predictions, targets, reduction=reduction
    ),
    "mean_absolute_error": lambda predictions, targets, reduction="mean": F.l1_loss(
        predictions, targets, reduction=reduction
    ),
    "huber": lambda predictions, targets, delta=1.0, reduction="mean": F.huber_loss(
        predictions, targets, reduction=reduction, delta=delta
    ),
    # The hinge loss max(0, margin - t s) is the ranking loss of s and 0.
    "hinge": lambda scores, targets, margin=1.0, reduction="mean": F.margin_ranking_loss(
        scores, torch.zeros_like(scores), targets, margin=margin, reduction=reduction
    ),
    "kl_divergence": kl_divergence,
    "layer_norm": lambda x, weight, bias, epsilon=1e-5: F.layer_norm(x, x.shape[-1:], weight, bias, epsilon),
    "rms_norm": lambda x, weight, epsilon=1e-5: F.rms_norm(x, x.shape[-1:], weight, epsilon),
    "batch_norm": batch_norm,
    "batch_norm_inference": batch_norm_inference,
    "group_norm": group_norm,
    "rnn": rnn,
    "lstm": lstm,
    "gru": gru,
    "conv1d": conv1d,
    "conv2d": conv2d,
    "conv_transpose2d": conv_transpose2d,
    "max_pool2d": max_pool2d,
    "average_pool2d": average_pool2d,
    "global_average_pool": global_average_pool,
}

# The other ops of the catalog, with the reason why they are not in the table.
NOT_IN_TORCH = {
    "rotary_embedding": "PyTorch has no such function",
    "dropout": "PyTorch draws the mask itself and does not accept one",
}
