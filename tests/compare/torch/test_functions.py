"""compare.torch: kernels of several shapes, in 32 and 16 bits, beside an eager reference in float64."""

# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

import itertools

import pytest

torch = pytest.importorskip("torch")
from benchmarks.torch_kernels import DTYPES, RULES, drawn, judged, unchanged  # noqa: E402
from compare import GradientMismatch, Verdict  # noqa: E402  # after what may skip this file
from compare.torch import assert_function_agrees  # noqa: E402


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", RULES)
def test_sound_kernels_are_not_blamed(name, dtype):
    for seed in range(2):
        report = judged(name, dtype, seed=seed, layouts=seed == 0)
        assert report.verdict is Verdict.AGREE, f"seed {seed}: {report}"


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", RULES)
def test_a_factor_of_1_02_is_caught_in_any_dtype(name, dtype):
    def change(gradients):
        return (gradients[0] * 1.02, *gradients[1:])

    report = judged(name, dtype, change)
    assert report.verdict is Verdict.DISAGREE
    assert report.wrong_side == "manual"
    assert [row.path for row in report.rows if row.verdict is Verdict.DISAGREE] == [report.first_wrong]


FAULTS = {
    "a sign": ("linear", lambda g: (-g[0], *g[1:])),
    "the bias's mean": ("linear", lambda g: (*g[:2], g[2] / 32)),
    "a bias of zero": ("linear", lambda g: (*g[:2], 0 * g[2])),
    "one that is forgotten": ("linear", lambda g: (g[0], None, g[2])),
    "rows that are left out": ("linear", lambda g: (g[0] * (torch.arange(32) < 31)[:, None], *g[1:])),
    "the scale": ("attention", lambda g: (4 * g[0], g[1], g[2])),
    "two in each other's place": ("attention", lambda g: (g[1], g[0], g[2])),
    "the last query": ("attention", lambda g: (g[0] * (torch.arange(32) < 31)[:, None], *g[1:])),
    "one head": ("attention", lambda g: (*g[:2], g[2] * torch.tensor([1.0, 0]).reshape(2, 1, 1).to(g[2].dtype))),
    "a clipped gradient": ("swiglu", lambda g: (g[0].clamp(-0.5, 0.5), g[1])),
    "not a number": ("softmax", lambda g: (g[0] * float("nan"),)),
    "one row of a table": ("embedding", lambda g: (g[0] * (torch.arange(20) != 3)[:, None], None)),
    "a mean for a sum": ("rms_norm", lambda g: (g[0], g[1] / 32)),
}


# Each in one dtype, in turn: the test above has every kernel in all of them.
@pytest.mark.sweep
@pytest.mark.parametrize(("fault", "dtype"), list(zip(FAULTS, itertools.cycle(DTYPES), strict=False)), ids=str)
def test_faults_of_kernels_are_caught(fault, dtype):
    name, change = FAULTS[fault]
    report = judged(name, dtype, change, probes=False, layouts=False)
    assert report.verdict is Verdict.DISAGREE


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("wrong", [False, True])
def test_a_check_costs_at_most_thirty_backward_passes(name, wrong, monkeypatch):
    passes, grad = [], torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *args, **options: (passes.append(1), grad(*args, **options))[1])
    judged(name, torch.bfloat16, (lambda g: (2 * g[0], *g[1:])) if wrong else unchanged)
    assert 0 < len(passes) <= 30


def test_the_assertion_raises_what_the_report_says():
    assert_function_agrees(torch.tanh, torch.tanh, drawn(0, 4))
    with pytest.raises(GradientMismatch, match="output"):
        assert_function_agrees(torch.tanh, torch.sinh, drawn(0, 4))
