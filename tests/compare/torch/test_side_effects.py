"""Random results, output gradients that are modified, and buffers that a check must leave as they were."""

# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

import copy

import pytest

torch = pytest.importorskip("torch")
from benchmarks.torch_kernels import drawn  # noqa: E402  # after what may skip this file
from compare import Verdict  # noqa: E402
from compare.errors import BadInput  # noqa: E402
from compare.torch import check_function  # noqa: E402

# PyTorch's own, when forward mode is used for the first time.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script.:DeprecationWarning")


def noisy(x):
    return x * (1 + 0.01 * torch.randn_like(x))


def test_a_random_reference_is_refused():
    with pytest.raises(BadInput, match="the reference returns different results at each call"):
        check_function(lambda x: 1.2 * x, noisy, drawn(0, 8))


@pytest.mark.parametrize("reference", [torch.clone, noisy], ids=["a plain reference", "a random one"])
def test_a_random_function_is_said_to_be_random(reference):
    report = check_function(noisy, reference, drawn(0, 8))
    assert report.verdict is Verdict.DISAGREE
    assert [cause.kind for cause in report.diagnoses] == ["not-deterministic"]


def test_dropout_is_random_in_training_mode_only():
    module = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Dropout(0.5))
    report = check_function(module, copy.deepcopy(module), drawn(0, 8, 6))
    assert "call eval()" in report.diagnoses[0].message
    assert check_function(module.eval(), copy.deepcopy(module), drawn(0, 8, 6)).verdict is Verdict.AGREE


class InPlace(torch.autograd.Function):
    """Its backward pass overwrites the output gradient, or a copy of it."""

    @staticmethod
    def forward(ctx, x, copies):
        ctx.save_for_backward(x)
        ctx.copies = copies
        return x**2

    @staticmethod
    def backward(ctx, dy):
        return (dy.clone() if ctx.copies else dy).mul_(2 * ctx.saved_tensors[0]), None


@pytest.mark.parametrize("copies", [False, True])
def test_an_output_gradient_that_is_modified_is_named(copies):
    report = check_function(lambda x: InPlace.apply(x, copies), lambda x: x**2, drawn(0, 8, 3))
    assert report.verdict is (Verdict.AGREE if copies else Verdict.DISAGREE)
    if not copies:
        assert report.diagnoses[0].message == "it modifies the output gradient in place; work on a copy."


class Counts(torch.nn.Module):
    """Multiplies by a buffer, which each call modifies in place and replaces."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.ones(3))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        result = x * self.scale.clone()
        self.scale.mul_(0.9)
        self.calls = self.calls + 1
        return result


@pytest.mark.parametrize("make", [Counts, lambda: torch.nn.BatchNorm1d(3)], ids=["counts", "batch normalization"])
@pytest.mark.parametrize("forward_mode", [None, True])
def test_buffers_are_as_they_were_and_do_not_change_between_calls(make, forward_mode):
    module, reference = make(), make()
    before = [{name: (x, x.clone()) for name, x in m.named_buffers()} for m in (module, reference)]
    assert check_function(module, reference, drawn(0, 8, 3), forward_mode=forward_mode).verdict is Verdict.AGREE
    for m, kept in zip((module, reference), before, strict=True):
        for name, buffer in m.named_buffers():
            assert buffer is kept[name][0]
            assert torch.equal(buffer, kept[name][1])
