"""What goes in and comes out: modules, parameters by name, bad input; nothing of the caller's changes."""

# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

import functools

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from benchmarks.torch_kernels import drawn  # noqa: E402
from compare import Verdict  # noqa: E402  # after what may skip this file
from compare.errors import BadInput  # noqa: E402
from compare.torch import check_function  # noqa: E402


def test_modules_are_judged_by_the_names_of_their_parameters():
    class Wrong(torch.nn.Linear):
        def forward(self, x):
            return x @ self.weight.T.detach() + self.bias

    report = check_function(torch.nn.Linear(6, 3), torch.nn.Linear(6, 3), drawn(0, 5, 6))
    assert report.verdict is Verdict.AGREE
    assert {"weight", "bias"} <= {row.path for row in report.rows}
    report = check_function(Wrong(6, 3), torch.nn.Linear(6, 3), drawn(0, 5, 6))
    assert [row.path for row in report.rows if row.verdict is Verdict.DISAGREE] == ["weight"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_whole_network_agrees_with_itself(dtype):
    def network():
        return torch.nn.Sequential(
            torch.nn.Linear(16, 32), torch.nn.GELU(), torch.nn.LayerNorm(32), torch.nn.Linear(32, 4)
        )

    assert check_function(network().to(dtype), network(), drawn(0, 8, 16, dtype=dtype)).verdict is Verdict.AGREE


def test_nothing_of_the_callers_changes():
    x, module = drawn(0, 4, 6), torch.nn.Linear(6, 3)
    before, weights = x.clone(), [p.detach().clone() for p in module.parameters()]
    check_function(module, torch.nn.Linear(6, 3), x)
    assert torch.equal(x, before)
    assert not x.requires_grad
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), weights, strict=True))
    assert all(p.grad is None for p in module.parameters())


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return 2 * x * gradient


class SigmoidInPlace(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)
        ctx.save_for_backward(x.sigmoid_())
        return x

    @staticmethod
    def backward(ctx, gradient):
        (y,) = ctx.saved_tensors
        return gradient * y * (1 - y)


SQUARE = (lambda x: x * x, drawn(0, 4))
COMPLEX = torch.tensor([1 + 2j, 3 - 1j], dtype=torch.complex64)
BAD = {
    "no floating-point tensor": (lambda x: x, lambda x: x, torch.arange(3), "nothing to differentiate"),
    "an array of NumPy's": (lambda x: x, lambda x: x, np.ones(3), "nothing to differentiate"),
    "a reference in NumPy": (SQUARE[0], lambda x: x.detach().numpy(), SQUARE[1], "the reference must return"),
    "a reference that is detached": (
        SQUARE[0],
        lambda x: (x * x).detach(),
        SQUARE[1],
        "no dependence of the result of the reference",
    ),
    "a reference that asks for numpy": (
        SQUARE[0],
        lambda x: torch.tensor(x.numpy()),
        SQUARE[1],
        "the reference cannot",
    ),
    "a reference of another shape": (SQUARE[0], lambda x: (x * x).sum(), SQUARE[1], r"of shape \(4,\), and the ref"),
    "a reference of more tensors": (SQUARE[0], lambda x: (x, x), SQUARE[1], "returns 1 tensors, and the reference 2"),
    "a function that is detached": (
        lambda x: x.detach(),
        SQUARE[0],
        SQUARE[1],
        "no dependence of the result of function",
    ),
    "a function of integers": (lambda x: x.long(), *SQUARE, "of them, but it returns a tensor of torch.int64"),
    "a function of nothing": (lambda x: None, SQUARE[0], SQUARE[1], "function must return"),
    "a class with a backward pass": (Square, *SQUARE, "^function is Square, .* pass Square.apply"),
    "its class as the reference": (SQUARE[0], Square, SQUARE[1], "^the reference is Square, .* pass Square.apply"),
    "a class of modules": (torch.nn.ReLU, *SQUARE, "function is the class ReLU: pass an instance"),
    "no function": (3, *SQUARE, "function must be a function, got int"),
    "a complex tensor": (
        SQUARE[0],
        lambda z: z * z,
        COMPLEX,
        r"z is a complex tensor \(torch.complex64\), and .* not sup",
    ),
    "a complex parameter": (torch.nn.Linear(4, 2, dtype=torch.complex64), *SQUARE, "weight is a complex tensor"),
    "a complex result": (lambda x: (x * x, x + 0j), *SQUARE, "the result of function is a complex tensor"),
    "a complex result of the reference": (SQUARE[0], lambda x: x * x + 0j, SQUARE[1], "of the reference is a complex"),
    "a function in place": (lambda x: x.mul_(2), *SQUARE, r"function modifies one of its inputs in place.* f\(x.clone"),
    "a part in place": (lambda x: x[:2].mul_(2), *SQUARE, "function modifies one of its inputs in place"),
    "a backward pass in place": (SigmoidInPlace.apply, torch.sigmoid, SQUARE[1], "function modifies one of its inputs"),
    "a reference in place": (SQUARE[0], lambda x: x.mul_(2), SQUARE[1], "the reference modifies one of its inputs in"),
    "other parameters": (torch.nn.Linear(4, 2), torch.nn.Linear(4, 2, bias=False), SQUARE[1], "they differ in bias"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_a_sentence(name):
    function, reference, tensor, message = BAD[name]
    with pytest.raises(BadInput, match=message):
        check_function(function, reference, tensor)


def test_what_the_refusals_propose_is_accepted():
    assert check_function(Square.apply, SQUARE[0], SQUARE[1]).verdict is Verdict.AGREE
    copied = check_function(lambda x: SigmoidInPlace.apply(x.clone()), torch.sigmoid, SQUARE[1])
    assert copied.verdict is Verdict.AGREE


@pytest.mark.parametrize(("factor", "verdict"), [(2, Verdict.AGREE), (2.1, Verdict.DISAGREE)])
def test_a_complex_function_is_checked_by_its_real_and_imaginary_parts(factor, verdict):
    class ComplexSquare(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            z = torch.view_as_complex(x)
            ctx.save_for_backward(z)
            return torch.view_as_real(z * z)

        @staticmethod
        def backward(ctx, gradient):
            (z,) = ctx.saved_tensors
            return torch.view_as_real(factor * z.conj() * torch.view_as_complex(gradient.contiguous()))

    def reference(x):
        z = torch.view_as_complex(x)
        return torch.view_as_real(z * z)

    report = check_function(ComplexSquare.apply, reference, drawn(0, 6, 2), layouts=False)
    assert report.verdict is verdict


def real_product(x, y, error=0.0):
    (a, b), (c, d) = x.unbind(-1), y.unbind(-1)
    return torch.stack([a @ c - b @ d, a @ d + b @ c], -1) * (1 + error)


def dft(x, error=0.0):
    k = torch.arange(len(x), dtype=x.dtype)
    angle = 2 * torch.pi * (k[:, None] * k % len(x)) / len(x)
    return torch.stack([torch.cos(angle) @ x, -torch.sin(angle) @ x], -1) * (1 + error)


@pytest.mark.parametrize(("error", "verdict"), [(0.0, Verdict.AGREE), (1e-11, Verdict.DISAGREE)])
def test_a_reference_with_complex_numbers_inside_has_their_rounding_errors(error, verdict):
    """In float64 no wider dtype decides, so that the tolerance must have the errors of products and of the FFT."""
    x, y = drawn(0, 8, 32, 2).double(), drawn(1, 32, 8, 2).double()

    def product(x, y):
        return torch.view_as_real(torch.view_as_complex(x) @ torch.view_as_complex(y))

    smooth = torch.sin(2 * torch.pi * torch.arange(64, dtype=torch.float64) / 64) + 2
    check = functools.partial(check_function, layouts=False, probes=False)
    for seed in range(3):
        found = check(lambda x, y: real_product(x, y, error), product, x, y, seed=seed)
        assert found.verdict is verdict
        found = check(lambda x: dft(x, error), lambda x: torch.view_as_real(torch.fft.fft(x)), smooth, seed=seed)
        assert found.verdict is verdict
