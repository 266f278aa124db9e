"""Faults that only other layouts, other calls or other needs show."""

# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

import pytest

torch = pytest.importorskip("torch")
from benchmarks.torch_kernels import drawn  # noqa: E402
from compare import Verdict  # noqa: E402  # after what may skip this file
from compare.torch import check_function  # noqa: E402


class OfLayout(torch.autograd.Function):
    """Wrong where memory is not contiguous: it reads numbers in the order in which they lie there."""

    @staticmethod
    def forward(ctx, x, where):
        ctx.where = where
        ctx.save_for_backward(x)
        return (as_it_lies(x) if where == "forward" else x) ** 2

    @staticmethod
    def backward(ctx, dy):
        (x,) = ctx.saved_tensors
        return 2 * (as_it_lies(x) if ctx.where == "input" else x) * (as_it_lies(dy) if ctx.where == "dy" else dy), None


def as_it_lies(x):
    return torch.as_strided(x, x.shape, torch.empty(x.shape).stride(), x.storage_offset())


@pytest.mark.parametrize("where", ["forward", "input", "dy", "nowhere"])
def test_faults_that_only_other_layouts_show_are_caught(where):
    report = check_function(lambda x: OfLayout.apply(x, where), lambda x: x**2, drawn(0, 6, 5))
    if where == "nowhere":
        assert report.verdict is Verdict.AGREE, str(report)
    else:
        assert report.verdict is Verdict.DISAGREE
        assert report.diagnoses[0].kind == "layout"
        assert "not contiguous" in report.sentence or "expanded" in report.sentence


def test_the_callers_own_layout_is_kept():
    report = check_function(lambda x: OfLayout.apply(x, "forward"), lambda x: x**2, drawn(0, 5, 6).T)
    assert report.verdict is Verdict.DISAGREE
    assert check_function(lambda x: OfLayout.apply(x, "nowhere"), lambda x: x**2, drawn(0, 5, 6).T).first_wrong is None


def test_inputs_that_need_no_gradient_are_tried():
    class Needs(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w):
            ctx.save_for_backward(x, w)
            return x * w

        @staticmethod
        def backward(ctx, dy):
            x, w = ctx.saved_tensors
            return dy * w, dy * x if ctx.needs_input_grad[0] else 0 * x

    report = check_function(Needs.apply, lambda x, w: x * w, drawn(0, 4), drawn(1, 4))
    assert report.verdict is Verdict.DISAGREE
    assert "when x does not require a gradient" in report.sentence


def test_a_kernel_that_gives_another_answer_each_time_is_said():
    calls = []

    class Races(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**2

        @staticmethod
        def backward(ctx, dy):
            calls.append(1)
            return 2 * ctx.saved_tensors[0] * dy * (1.0 if len(calls) < 4 else 1.5)

    report = check_function(Races.apply, lambda x: x**2, drawn(0, 8))
    assert report.verdict is Verdict.DISAGREE


class InPlace(torch.autograd.Function):
    """Right, but it overwrites what it got."""

    @staticmethod
    def forward(ctx, x, w, where):
        ctx.where = where
        ctx.save_for_backward(x.clone(), w)
        return x.mul_(w) if where == "x" else x * w

    @staticmethod
    def backward(ctx, dy):
        x, w = ctx.saved_tensors
        dw = (dy * x).sum(0)
        return (dy.mul_(w) if ctx.where == "the output gradient" else dy.clone().mul_(w)), dw, None


@pytest.mark.parametrize("where", ["x", "the output gradient", "nothing"])
def test_what_is_modified_in_place_is_named(where):
    report = check_function(lambda x, w: InPlace.apply(x, w, where), lambda x, w: x * w, drawn(0, 6, 5), drawn(1, 5))
    if where == "nothing":
        assert report.verdict is Verdict.AGREE, str(report)
        return
    assert report.verdict is Verdict.DISAGREE
    assert f"it modifies {where}" in report.sentence
    assert "in place; work on a copy." in report.sentence
    assert [cause.kind for cause in report.diagnoses] == ["modifies-arguments"]


def least_squares(a, b):
    return torch.linalg.lstsq(a, b)[0]


@pytest.mark.parametrize("seed", range(6))
def test_lost_digits_that_a_wider_dtype_has_excused_are_excused_in_other_layouts(seed):
    tensors = drawn(10 * seed, 16, 5), drawn(10 * seed + 2, 16, 2)
    assert check_function(least_squares, least_squares, *tensors, seed=seed).verdict is Verdict.AGREE


def test_a_wrong_layout_is_caught_beside_lost_digits():
    def function(a, b):
        return least_squares(a, b), OfLayout.apply(b, "forward")

    tensors = drawn(0, 16, 5), drawn(2, 16, 2)
    report = check_function(function, lambda a, b: (least_squares(a, b), b**2), *tensors)
    assert report.verdict is Verdict.DISAGREE
    assert "not contiguous" in report.sentence
