"""compare.torch: kernels of several shapes, in 32 and 16 bits, beside an eager reference in float64."""

# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch.nn import functional  # noqa: E402  # after what may skip this file

from compare import GradientMismatch, Verdict  # noqa: E402
from compare.errors import BadInput  # noqa: E402
from compare.torch import assert_function_agrees, check_function  # noqa: E402

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def drawn(seed, *shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


class Kernel(torch.autograd.Function):
    """A backward pass with a place for a fault: `change` gets the gradients by name and returns some of them anew."""

    @staticmethod
    def forward(ctx, rule, change, *inputs):
        value, saved = rule[0](*inputs)
        ctx.rule, ctx.change, ctx.count = rule, change, len(inputs)
        ctx.save_for_backward(*saved)
        return value

    @staticmethod
    def backward(ctx, dy):
        return None, None, *ctx.change(ctx.rule[1](dy, *ctx.saved_tensors))


def unchanged(gradients):
    return gradients


def wide(*tensors):
    """As kernels do: 16-bit numbers are worked on in float32."""
    return [x.float() if x.dtype in (torch.bfloat16, torch.float16) else x for x in tensors]


def rms_norm(x, w):
    a, b = wide(x, w)
    s = torch.rsqrt((a * a).mean(-1, keepdim=True) + 1e-6)
    return (a * s * b).to(x.dtype), (x, w)


def rms_norm_backward(dy, x, w):
    g, a, b = wide(dy, x, w)
    s = torch.rsqrt((a * a).mean(-1, keepdim=True) + 1e-6)
    n = a * s
    d = g * b
    dx = s * (d - n * (d * n).mean(-1, keepdim=True))
    return dx.to(x.dtype), (g * n).sum(0).to(w.dtype)


def swiglu(x, y):
    a, b = wide(x, y)
    return (a * torch.sigmoid(a) * b).to(x.dtype), (x, y)


def swiglu_backward(dy, x, y):
    g, a, b = wide(dy, x, y)
    s = torch.sigmoid(a)
    return (g * b * (s + a * s * (1 - s))).to(x.dtype), (g * a * s).to(y.dtype)


def softmax(x):
    (a,) = wide(x)
    p = torch.softmax(a, -1).to(x.dtype)
    return p, (p,)


def softmax_backward(dy, p):
    g, q = wide(dy, p)
    return ((q * (g - (g * q).sum(-1, keepdim=True))).to(p.dtype),)


def linear(x, w, b):
    return x @ w + b, (x, w)


def linear_backward(dy, x, w):
    return dy @ w.T, x.T @ dy, dy.sum(0)


def attention(q, k, v):
    p = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, -1)
    return p @ v, (q, k, v, p)


def attention_backward(do, q, k, v, p):
    dp = do @ v.transpose(-1, -2)
    ds = p * (dp - (dp * p).sum(-1, keepdim=True)) * q.shape[-1] ** -0.5
    return ds @ k, ds.transpose(-1, -2) @ q, p.transpose(-1, -2) @ do


def embedding(table, ids):
    return table[ids], (ids, table)


def embedding_backward(dy, ids, table):
    d = torch.zeros_like(table, dtype=torch.promote_types(table.dtype, torch.float32))
    return d.index_add(0, ids, dy.to(d.dtype)).to(table.dtype), None


RULES = {
    "rms_norm": (rms_norm, rms_norm_backward, lambda x, w: functional.rms_norm(x, x.shape[-1:], w, 1e-6)),
    "swiglu": (swiglu, swiglu_backward, lambda x, y: functional.silu(x) * y),
    "softmax": (softmax, softmax_backward, lambda x: torch.softmax(x, -1)),
    "linear": (linear, linear_backward, lambda x, w, b: x @ w + b),
    "attention": (attention, attention_backward, lambda q, k, v: functional.scaled_dot_product_attention(q, k, v)),
    "embedding": (embedding, embedding_backward, lambda table, ids: functional.embedding(ids, table)),
}
SHAPES = {
    "rms_norm": [(32, 64), (64,)], "swiglu": [(32, 64), (32, 64)], "softmax": [(64, 128)],
    "linear": [(32, 64), (64, 48), (48,)], "attention": [(2, 32, 16)] * 3, "embedding": [(20, 64)],
}  # fmt: skip


def inputs(name, dtype, seed=0):
    tensors = [drawn(10 * seed + i, *shape, dtype=dtype) for i, shape in enumerate(SHAPES[name])]
    ids = torch.randint(20, (64,), generator=torch.Generator().manual_seed(seed))
    return [*tensors, ids] if name == "embedding" else tensors


def judged(name, dtype, change=unchanged, seed=0, **options):
    def kernel(*tensors):
        return Kernel.apply(RULES[name][:2], change, *tensors)

    return check_function(kernel, RULES[name][2], *inputs(name, dtype, seed), seed=seed, **options)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Arrays are small: several threads would mostly wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", RULES)
def test_sound_kernels_are_not_blamed(name, dtype):
    for seed in range(4):
        report = judged(name, dtype, seed=seed, layouts=seed == 0)
        assert report.verdict is Verdict.AGREE, f"seed {seed}: {report}"


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
    assert "when x needs no gradient" in report.sentence


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
    assert any("backward pass of the backward pass agrees" in note for note in report.notes)


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


def test_nothing_of_the_callers_changes():
    x, module = drawn(0, 4, 6), torch.nn.Linear(6, 3)
    before, weights = x.clone(), [p.detach().clone() for p in module.parameters()]
    check_function(module, torch.nn.Linear(6, 3), x)
    assert torch.equal(x, before)
    assert not x.requires_grad
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), weights, strict=True))
    assert all(p.grad is None for p in module.parameters())


SQUARE = (lambda x: x * x, drawn(0, 4))
BAD = {
    "no floating-point tensor": (lambda x: x, lambda x: x, torch.arange(3), "nothing to differentiate"),
    "an array of NumPy's": (lambda x: x, lambda x: x, np.ones(3), "nothing to differentiate"),
    "a reference in NumPy": (SQUARE[0], lambda x: x.detach().numpy(), SQUARE[1], "the reference must return"),
    "a reference that is detached": (
        SQUARE[0],
        lambda x: (x * x).detach(),
        SQUARE[1],
        "the reference returns does not",
    ),
    "a reference that asks for numpy": (
        SQUARE[0],
        lambda x: torch.tensor(x.numpy()),
        SQUARE[1],
        "the reference cannot",
    ),
    "a reference of another shape": (SQUARE[0], lambda x: (x * x).sum(), SQUARE[1], r"of shape \(4,\), and the ref"),
    "a reference of more tensors": (SQUARE[0], lambda x: (x, x), SQUARE[1], "returns 1 tensors, and the reference 2"),
    "a function that is detached": (lambda x: x.detach(), SQUARE[0], SQUARE[1], "function returns does not depend"),
    "a function of nothing": (lambda x: None, SQUARE[0], SQUARE[1], "function must return"),
    "other parameters": (torch.nn.Linear(4, 2), torch.nn.Linear(4, 2, bias=False), SQUARE[1], "they differ in bias"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_a_sentence(name):
    function, reference, tensor, message = BAD[name]
    with pytest.raises(BadInput, match=message):
        check_function(function, reference, tensor)


def test_the_assertion_raises_what_the_report_says():
    assert_function_agrees(torch.tanh, torch.tanh, drawn(0, 4))
    with pytest.raises(GradientMismatch, match="output"):
        assert_function_agrees(torch.tanh, torch.sinh, drawn(0, 4))
