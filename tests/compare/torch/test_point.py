"""Operators of PyTorch against formulas, in every dtype and shape: the tolerance fits what is right."""

# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

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
