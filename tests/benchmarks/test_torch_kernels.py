"""The campaign of PyTorch kernels, tiny: one seed, and what it counts."""

# pyright: basic, reportMissingImports=false

import pytest

torch = pytest.importorskip("torch")
from benchmarks import torch_kernels  # noqa: E402  # after what may skip this file
from benchmarks.torch_kernels import backward_passes, main, measure  # noqa: E402


def test_one_seed_of_one_kernel_in_one_dtype(monkeypatch):
    monkeypatch.setattr(torch_kernels, "DTYPES", [torch.bfloat16])
    monkeypatch.setattr(torch_kernels, "RULES", {"swiglu": torch_kernels.RULES["swiglu"]})
    ((right, wrong, most),) = measure(1).values()
    assert right == {"AGREE": 1}
    assert wrong == {"DISAGREE": 1}
    assert 0 < most <= torch_kernels.MOST


def test_passes_are_counted_and_nothing_is_left_behind():
    grad = torch.autograd.grad

    def twice():
        x = torch.ones(2, requires_grad=True)
        return [torch.autograd.grad(x.sum(), x), torch.autograd.grad((x**2).sum(), x)]

    found, passes = backward_passes(twice)
    assert (len(found), passes) == (2, 2)
    assert torch.autograd.grad is grad


@pytest.mark.parametrize(
    ("right", "wrong", "most", "status"), [(0, 1, 30, 0), (1, 1, 30, 1), (0, 0, 30, 1), (0, 1, 31, 1)]
)
def test_the_exit_status_says_whether_all_is_well(monkeypatch, capsys, right, wrong, most, status):
    from collections import Counter

    counts = Counter(AGREE=1, DISAGREE=right), Counter({"DISAGREE": wrong, "AGREE": 1 - wrong}), most
    monkeypatch.setattr(torch_kernels, "measure", lambda seeds: {"float32": counts})
    assert main(["--seeds", "1"]) == status
    assert "float32" in capsys.readouterr().out
