"""The dispatch mode that moves results: by how much, which not, and how large a sum's error may be."""

# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

import pytest

torch = pytest.importorskip("torch")
from benchmarks.torch_kernels import drawn  # noqa: E402
from compare import Verdict  # noqa: E402
from compare.torch import check_function  # noqa: E402
from compare.torch.rounding import EXACT, Rounding  # noqa: E402  # after what may skip this file


def moved(function, *tensors, dtype=torch.bfloat16, seed=0):
    with Rounding(dtype, seed):
        return function(*tensors)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_result_moves_by_at_most_its_own_rounding(dtype):
    x = drawn(0, 1000).double()
    change = (moved(torch.exp, x, dtype=dtype) - torch.exp(x)).abs() / torch.exp(x)
    unit = torch.finfo(dtype).eps / 2
    assert float(change.max()) <= unit
    assert float(change.max()) > unit / 2


@pytest.mark.parametrize("name", ["relu", "clone", "transpose", "view", "maximum"])
def test_what_only_moves_numbers_is_exact(name):
    assert name in EXACT
    x = drawn(0, 4, 4).double()
    others = {"transpose": (0, 1), "view": (16,), "maximum": (-x,)}.get(name, ())
    function = getattr(x, name, None) or (lambda *rest: getattr(torch, name)(x, *rest))
    assert torch.equal(moved(function, *others), function(*others))


def test_a_long_sum_moves_by_more_than_its_result_rounds():
    """Of terms that cancel, nothing is left but what they err by."""
    x = drawn(0, 4096).double()
    x = x - x.mean()
    change = torch.stack([moved(torch.sum, x, dtype=torch.float32, seed=seed) - x.sum() for seed in range(20)])
    assert float(change.abs().max()) > 1e3 * torch.finfo(torch.float32).eps * float(x.sum().abs())


def test_the_same_seed_moves_in_the_same_way():
    x = drawn(0, 10).double()
    assert torch.equal(moved(torch.exp, x, seed=3), moved(torch.exp, x, seed=3))
    assert not torch.equal(moved(torch.exp, x, seed=3), moved(torch.exp, x, seed=4))


def test_whole_numbers_are_left_alone():
    assert torch.equal(moved(lambda x: x + 1, torch.arange(5)), torch.arange(1, 6))


def test_both_parts_of_a_complex_result_move_by_its_rounding():
    z = torch.view_as_complex(drawn(0, 1000, 2).double())
    change = torch.view_as_real(moved(lambda z: z * z, z, dtype=torch.float32) - z * z)
    relative = change.abs() / (z * z).abs()[:, None]
    unit = torch.finfo(torch.float32).eps / 2
    assert all(unit / 2 < float(part) <= unit * (1 + 1e-9) for part in relative.amax(0))
    assert torch.equal(moved(lambda z: z.mH.resolve_conj(), z[None]), z[None].mH)


def test_small_entries_of_a_fourier_transform_move_by_the_size_of_the_others():
    x = torch.sin(2 * torch.pi * torch.arange(64, dtype=torch.float64) / 64)
    change = (moved(torch.fft.rfft, x, dtype=torch.float32) - torch.fft.rfft(x)).abs()
    unit = torch.finfo(torch.float32).eps / 2
    assert float(change[5:].max()) > unit
    assert float(change.max()) < 100 * unit * 32


def softmax(x):
    e = torch.exp(x - x.detach().amax(-1, keepdim=True))
    return e / e.sum(-1, keepdim=True)


def layer_norm(x, w, b):
    centered = x - x.mean(-1, keepdim=True)
    return centered / torch.sqrt((centered**2).mean(-1, keepdim=True) + 1e-5) * w + b


def convolution(x, w):
    windows = torch.nn.functional.unfold(x, 3)
    return (w.flatten(1) @ windows).unflatten(-1, (x.shape[-2] - 2, x.shape[-1] - 2))


def gelu(x):
    return x * 0.5 * (1 + torch.erf(x / 2**0.5))


FUSED = {
    "softmax": (softmax, lambda x: torch.softmax(x, -1), [(16, 64)]),
    "layer norm": (
        layer_norm,
        lambda x, w, b: torch.nn.functional.layer_norm(x, (32,), w, b),
        [(16, 32), (32,), (32,)],
    ),
    "convolution": (convolution, torch.nn.functional.conv2d, [(2, 3, 8, 8), (4, 3, 3, 3)]),
    "GELU": (gelu, torch.nn.functional.gelu, [(16, 64)]),
}


@pytest.mark.parametrize("error", [0.0, 1e-9])
@pytest.mark.parametrize("name", FUSED)
def test_fused_operations_of_the_reference_have_the_errors_of_their_steps(name, error):
    """In float64, where no wider dtype decides: the same formula step by step must agree, one that is off must not."""
    by_steps, fused, shapes = FUSED[name]
    for seed in range(3):
        tensors = [drawn(10 * seed + i, *shape, dtype=torch.float64) for i, shape in enumerate(shapes)]
        report = check_function(lambda *t: by_steps(*t) * (1 + error), fused, *tensors, seed=seed)
        assert report.verdict is (Verdict.DISAGREE if error else Verdict.AGREE)
