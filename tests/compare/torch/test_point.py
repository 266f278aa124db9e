"""Operators of PyTorch against formulas, in every dtype and shape: the tolerance fits what is right."""

# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

import copy

import pytest

torch = pytest.importorskip("torch")
from torch.nn import functional  # noqa: E402  # after what may skip this file

from benchmarks.torch_kernels import DTYPES, drawn  # noqa: E402
from compare import Verdict  # noqa: E402
from compare.torch import check_function  # noqa: E402

FORMULAS = {
    "layer_norm": (
        lambda x, y: functional.layer_norm(x, (16,)) + y,
        lambda x, y: (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt() + y,
    ),
    "mse_loss": (functional.mse_loss, lambda x, y: ((x - y) ** 2).mean()),
    "logaddexp": (torch.logaddexp, lambda x, y: torch.log(torch.exp(x) + torch.exp(y))),
    "stack": (lambda x, y: torch.stack([x, y]).sum(0), lambda x, y: x + y),
    "two outputs": (lambda x, y: (x * y, x + y), lambda x, y: (y * x, y + x)),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", FORMULAS)
def test_operators_of_pytorch_agree_with_formulas(name, dtype):
    function, reference = FORMULAS[name]
    report = check_function(function, reference, drawn(0, 8, 16, dtype=dtype), drawn(1, 8, 16, dtype=dtype))
    assert report.verdict is Verdict.AGREE, str(report)


@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (7,), (2, 3, 4, 5)], ids=str)
def test_any_shape(shape):
    assert check_function(lambda x: x.tanh(), torch.tanh, drawn(0, *shape)).verdict is Verdict.AGREE


MODULES = {
    "GELU": (lambda: torch.nn.GELU(), (64, 8)),
    "batch normalization": (lambda: torch.nn.BatchNorm2d(4), (2, 4, 8, 8)),
    "instance normalization": (lambda: torch.nn.InstanceNorm2d(4), (2, 4, 8, 8)),
    "interpolation": (lambda: torch.nn.Upsample(scale_factor=2, mode="bilinear"), (2, 4, 8, 8)),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_agrees_with_its_copy(name):
    make, shape = MODULES[name]
    module = make()
    report = check_function(module, copy.deepcopy(module), 2 * drawn(0, *shape))
    assert report.verdict is Verdict.AGREE, str(report)


class Gelu(torch.autograd.Function):
    """PyTorch's own, with a change of its gradient, which has no more digits than float32."""

    @staticmethod
    def forward(ctx, x, casts, change):
        assert casts or x.dtype is torch.float32
        ctx.save_for_backward(x)
        ctx.change = change
        return functional.gelu(x.float()).to(x.dtype)

    @staticmethod
    def backward(ctx, dy):
        (x,) = ctx.saved_tensors
        return ctx.change(torch.ops.aten.gelu_backward(dy.float(), x.float())).to(x.dtype), None, None


def with_one_wrong_entry(dx):
    changed = dx.clone()
    changed[3, 2] += 0.01
    return changed


CHANGES = {
    "none": lambda dx: dx,
    "a factor": lambda dx: 1.01 * dx,
    "a small factor": lambda dx: 1.0001 * dx,
    "an entry": with_one_wrong_entry,
    "a row": lambda dx: dx * (torch.arange(64) < 63)[:, None],
}


@pytest.mark.parametrize("casts", [False, True])
@pytest.mark.parametrize("name", CHANGES)
def test_a_kernel_of_float32_alone_is_blamed_only_for_more_than_its_last_digits(name, casts):
    x = 2 * drawn(0, 64, 8)
    report = check_function(lambda x: Gelu.apply(x, casts, CHANGES[name]), functional.gelu, x, layouts=False)
    assert report.verdict is (Verdict.INCONCLUSIVE if name == "none" else Verdict.DISAGREE), str(report)
    if name == "none":
        assert "only its last digits differ" in report.notes[0]
        assert "reference is finite" not in report.notes[0]
