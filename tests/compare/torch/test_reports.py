"""What a report says: causes by name, and what another point shows."""

# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

import pytest

torch = pytest.importorskip("torch")
from benchmarks.torch_kernels import drawn, judged  # noqa: E402
from compare import Verdict  # noqa: E402  # after what may skip this file
from compare.torch import check_function  # noqa: E402

CAUSES = {
    "sign": ("linear", lambda g: (-g[0], *g[1:])),
    "factor": ("linear", lambda g: (*g[:2], g[2] / 32)),
    "zeros": ("linear", lambda g: (*g[:2], 0 * g[2])),
    "non-finite": ("softmax", lambda g: (g[0] * float("nan"),)),
}


@pytest.mark.parametrize("kind", CAUSES)
def test_a_cause_is_named(kind):
    name, change = CAUSES[kind]
    report = judged(name, torch.float32, change, probes=False, layouts=False)
    assert report.verdict is Verdict.DISAGREE
    assert kind in [cause.kind for cause in report.diagnoses]


class Clipped(torch.autograd.Function):
    """Right where inputs are small, as a polynomial for tanh is."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.tanh(x)

    @staticmethod
    def backward(ctx, dy):
        (x,) = ctx.saved_tensors
        return torch.where(x.abs() < 4, 1 - torch.tanh(x) ** 2, torch.ones_like(x)) * dy


def test_a_fault_at_larger_inputs_is_found_at_the_other_point():
    x = drawn(0, 64).clamp(-3, 3)
    assert check_function(Clipped.apply, torch.tanh, x, probes=False).verdict is Verdict.AGREE
    report = check_function(Clipped.apply, torch.tanh, x)
    assert report.verdict is Verdict.DISAGREE
    assert report.probe == "inputs x 4, moved"


def test_a_refusal_at_the_other_point_blames_nobody():
    def small(x):
        if float(x.detach().abs().max()) > 5:
            raise ValueError("too large")
        return torch.tanh(x)

    report = check_function(small, torch.tanh, drawn(0, 16).clamp(-2, 2))
    assert report.verdict is Verdict.AGREE
    assert "too large" in report.probes["inputs x 4, moved"]
