"""Forward mode of custom functions: a `jvp` of their own, right and wrong."""

# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

import pytest

torch = pytest.importorskip("torch")
from torch.nn import functional  # noqa: E402  # after what may skip this file

from benchmarks.torch_kernels import drawn  # noqa: E402
from compare import Verdict  # noqa: E402
from compare.errors import BadInput  # noqa: E402
from compare.torch import check_function  # noqa: E402

# PyTorch's own, when forward mode is used for the first time.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script.:DeprecationWarning")


class Product(torch.autograd.Function):
    """x tanh(y), with a place for a fault in its forward mode."""

    @staticmethod
    def forward(ctx, x, y, change):
        t = torch.tanh(y)
        ctx.save_for_backward(x, t)
        ctx.save_for_forward(x, t)
        ctx.change = change
        return x * t

    @staticmethod
    def backward(ctx, dz):
        x, t = ctx.saved_tensors
        return dz * t, dz * x * (1 - t * t), None

    @staticmethod
    def jvp(ctx, dx, dy, _):
        x, t = ctx.saved_tensors
        return ctx.change(x, t, dx, dy)


def right(x, t, dx, dy):
    return dx * t + x * (1 - t * t) * dy


FAULTS = {
    "a sign": lambda x, t, dx, dy: dx * t - x * (1 - t * t) * dy,
    "the other term alone": lambda x, t, dx, dy: x * (1 - t * t) * dy,
    "the second term left out": lambda x, t, dx, dy: dx * t,
    "a slope of 1 - t": lambda x, t, dx, dy: dx * t + x * (1 - t) * dy,
    "two percent": lambda x, t, dx, dy: 1.02 * right(x, t, dx, dy),
    "zero": lambda x, t, dx, dy: 0 * dx,
    "the tangents in each other's place": lambda x, t, dx, dy: right(x, t, dy, dx),
}


@pytest.mark.sweep
@pytest.mark.parametrize("name", FAULTS)
def test_a_wrong_forward_mode_is_caught(name):
    def function(x, y):
        return Product.apply(x, y, FAULTS[name])

    report = check_function(function, lambda x, y: x * torch.tanh(y), drawn(0, 6, 8), drawn(1, 6, 8), layouts=False)
    assert report.verdict is Verdict.DISAGREE
    assert report.first_wrong == "tangent"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_a_right_forward_mode_agrees_and_has_a_row(dtype):
    def function(x, y):
        return Product.apply(x, y, right)

    tensors = drawn(0, 6, 8, dtype=dtype), drawn(1, 6, 8, dtype=dtype)
    report = check_function(function, lambda x, y: x * torch.tanh(y), *tensors, layouts=False)
    assert report.verdict is Verdict.AGREE, str(report)
    assert [row.path for row in report.rows if row.path == "tangent"] == ["tangent"]


OPERATORS = {
    "layer_norm": lambda x: functional.layer_norm(x, (8,)),
    "softmax": lambda x: torch.softmax(x, -1),
    "gelu": functional.gelu,
    "cumulative product": lambda x: torch.cumprod(x, -1),
    "two outputs": lambda x: (x.exp(), x.sum(0)),
    "a factor that is constant": lambda x: 3.0 * x,
    "a sum of logarithms": lambda x: torch.logsumexp(x, -1),
    "an output that is constant": lambda x: (x**2, torch.ones(3) + 0 * x.sum().detach()),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_of_pytorch_agree_in_forward_mode_when_it_is_asked_for(name):
    report = check_function(OPERATORS[name], OPERATORS[name], drawn(0, 6, 8), layouts=False, forward_mode=True)
    assert report.verdict is Verdict.AGREE, str(report)
    assert any(row.path.startswith("tangent") for row in report.rows)


class Reverse(torch.autograd.Function):
    forward = staticmethod(lambda ctx, x: (ctx.save_for_backward(x), x * x)[1])
    backward = staticmethod(lambda ctx, dy: 2 * ctx.saved_tensors[0] * dy)


def test_a_function_without_forward_mode_is_not_asked_for_it_unless_somebody_wants_it():
    report = check_function(Reverse.apply, lambda x: x**2, drawn(0, 8))
    assert report.verdict is Verdict.AGREE
    assert not any(row.path == "tangent" for row in report.rows)
    with pytest.raises(BadInput, match="does not support forward mode"):
        check_function(Reverse.apply, lambda x: x**2, drawn(0, 8), forward_mode=True)


def test_a_wrong_forward_mode_is_left_out_when_it_is_not_wanted():
    def function(x, y):
        return Product.apply(x, y, FAULTS["a sign"])

    report = check_function(function, lambda x, y: x * torch.tanh(y), drawn(0, 8), drawn(1, 8), forward_mode=False)
    assert report.verdict is Verdict.AGREE
