"""The backward pass of the backward pass: silently wrong, forbidden, and right."""

# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

import pytest

torch = pytest.importorskip("torch")
from torch.nn import functional  # noqa: E402  # after what may skip this file

from benchmarks.torch_kernels import drawn  # noqa: E402
from compare import Verdict  # noqa: E402
from compare.torch import check_function  # noqa: E402


class Cube(torch.autograd.Function):
    """x^3, whose double backward is wrong in silence where `how` says."""

    @staticmethod
    def forward(ctx, x, how):
        ctx.how = how
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, dy):
        (x,) = ctx.saved_tensors
        if ctx.how == "detached":
            return 3 * (x * x).detach() * dy, None
        if ctx.how == "no graph":
            with torch.no_grad():
                return 3 * x * x * dy, None
        if ctx.how == "output gradient":
            return 3 * x * x * dy.detach(), None
        if ctx.how == "numpy":
            return torch.from_numpy(3 * x.detach().numpy() ** 2) * dy, None
        return 3 * x * x * dy, None


@pytest.mark.parametrize("how", ["detached", "no graph", "output gradient", "numpy"])
def test_a_double_backward_that_is_silently_wrong_is_caught(how):
    assert check_function(lambda x: Cube.apply(x, how), lambda x: x**3, drawn(0, 8)).verdict is Verdict.AGREE
    report = check_function(lambda x: Cube.apply(x, how), lambda x: x**3, drawn(0, 8), order=2)
    assert report.verdict is Verdict.DISAGREE
    assert "second" in report.sentence or "cannot be differentiated" in report.sentence


def test_a_double_backward_that_is_forbidden_is_said():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, dy):
            return 3 * ctx.saved_tensors[0] ** 2 * dy

    report = check_function(Once.apply, lambda x: x**3, drawn(0, 8), order=2)
    assert report.verdict is Verdict.DISAGREE
    assert "second" in report.sentence


SECOND = {
    "a cube": (lambda x: Cube.apply(x, "right"), lambda x: x**3, 1),
    "linear": (lambda x: 3 * x, lambda x: x * 3, 1),
    "a product": (lambda x, y: x * y, lambda x, y: y * x, 2),
    "softmax": (lambda x: torch.softmax(x, -1), lambda x: torch.exp(x - torch.logsumexp(x, -1, keepdim=True)), 1),
    "gelu": (functional.gelu, lambda x: x * 0.5 * (1 + torch.erf(x / 2**0.5)), 1),
}


@pytest.mark.parametrize("name", SECOND)
def test_sound_double_backwards_agree(name):
    function, reference, count = SECOND[name]
    report = check_function(function, reference, *(drawn(i, 4, 6) for i in range(count)), order=2)
    assert report.verdict is Verdict.AGREE, str(report)
    assert any("double backward agrees" in note for note in report.notes)
