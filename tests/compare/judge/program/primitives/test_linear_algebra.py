"""Each rule gives what JAX's primitive gives: for matrices at their edges, and in the programs that JAX traces."""

from functools import partial

import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
import numpy as np
import pytest
from jax.lax import linalg

from compare.judge.program.plan import equations, inner_programs
from compare.judge.program.primitives.linear_algebra import RULES
from compare.judge.program.trace import bound, under_jax

R = np.random.default_rng(0)
SQUARE = R.normal(size=(4, 4))
COMPLEX = R.normal(size=(4, 4)) + 1j * R.normal(size=(4, 4))
POSITIVE = SQUARE @ SQUARE.T + 4 * np.eye(4)
HERMITIAN = COMPLEX @ COMPLEX.conj().T + 4 * np.eye(4)
INDEFINITE = np.diag([1.0, -1.0, 2.0, 3.0])
SINGULAR = np.outer(np.arange(1.0, 5.0), np.arange(4.0))
ROTATION = np.array([[0.0, 1.0, 0.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 2.0], [0.0, 0.0, -2.0, 0.5]])
NOT_A_NUMBER = np.where(np.eye(4)[1], np.nan, SQUARE)
INFINITE = np.where(np.eye(4)[2], np.inf, SQUARE)
BATCH = np.stack([POSITIVE, SINGULAR, INDEFINITE, SQUARE, np.eye(4), -POSITIVE]).reshape(2, 3, 4, 4)
NO_BATCH = np.zeros((0, 4, 4))
ONE, EMPTY = np.array([[-2.0]]), np.zeros((0, 0))
TALL, WIDE = R.normal(size=(5, 3)), R.normal(size=(3, 5))
NO_ROWS, NO_COLUMNS = np.zeros((0, 3)), np.zeros((3, 0))
LARGE = R.normal(size=(80, 80))  # beyond LAPACK's block size: the blocked algorithms
MATRICES = [SINGULAR, HERMITIAN, NOT_A_NUMBER, BATCH, NO_BATCH, ONE, EMPTY]
SHAPES = [SINGULAR, COMPLEX, TALL, WIDE, NO_ROWS, BATCH]


def triangular(left_side, lower, transpose_a, conjugate_a=False, unit_diagonal=False):
    return partial(
        linalg.triangular_solve,
        left_side=left_side,
        lower=lower,
        transpose_a=transpose_a,
        conjugate_a=conjugate_a,
        unit_diagonal=unit_diagonal,
    )


def decompositions(primitive, matrices, *options):
    """Each matrix under each choice of options."""
    return [(partial(primitive, **option), matrix) for option in options or ({},) for matrix in matrices]


def diagonals(size, columns, batch=()):
    return [*R.normal(size=(3, *batch, size)), R.normal(size=(*batch, size, columns))]


# primitive -> functions that apply it to their arguments, with arguments
CASES = {
    "cholesky": decompositions(
        partial(linalg.cholesky, symmetrize_input=False), [*MATRICES, INDEFINITE, INFINITE, LARGE @ LARGE.T]
    ),
    "cholesky_update": [
        (linalg.cholesky_update, np.triu(SQUARE), SQUARE[1]),
        (linalg.cholesky_update, np.triu(SQUARE), np.array([0.0, 1.0, -2.0, 0.0])),
    ],
    "symmetric_product": [
        (partial(linalg.symmetric_product, alpha=2.0, beta=-0.5), TALL, R.normal(size=(5, 5))),
        (partial(linalg.symmetric_product, alpha=1.0, beta=0.0), BATCH, BATCH),
    ],
    "triangular_solve": [
        (triangular(True, True, False), COMPLEX, COMPLEX + 1),
        (triangular(True, False, False, conjugate_a=True), COMPLEX, COMPLEX + 1),
        (triangular(True, True, True, unit_diagonal=True), COMPLEX, COMPLEX + 1),
        (triangular(False, False, True, conjugate_a=True), COMPLEX, COMPLEX + 1),
        (triangular(False, True, False, unit_diagonal=True), COMPLEX, COMPLEX + 1),
        (triangular(True, False, False), SINGULAR, SQUARE),
        (triangular(True, False, False), NOT_A_NUMBER, SQUARE),
        (triangular(False, False, True), SQUARE, R.normal(size=(1, 4))),
        (triangular(True, False, True), BATCH, BATCH[..., :2]),
        (triangular(True, False, False), EMPTY, NO_ROWS),
        (triangular(True, True, False), ONE, ONE),
        (triangular(True, True, False), NO_BATCH, NO_BATCH),
    ],
    "tridiagonal_solve": [
        (linalg.tridiagonal_solve, *diagonals(4, 1, batch=(2, 3))),
        (linalg.tridiagonal_solve, *(x + 1j * x[::-1] for x in diagonals(3, 2))),
        (linalg.tridiagonal_solve, *(0 * x for x in diagonals(3, 1))),
        (linalg.tridiagonal_solve, *diagonals(1, 2)),
        (linalg.tridiagonal_solve, *(0 * x for x in diagonals(1, 2))),
    ],
    "lu": decompositions(linalg.lu, [*SHAPES, *MATRICES, NO_COLUMNS, INFINITE, LARGE]),
    "lu_pivots_to_permutation": [
        (partial(linalg.lu_pivots_to_permutation, permutation_size=size), np.array(pivots, np.int32))
        for size, pivots in [(5, [[4, 1], [1, 4]]), (3, [])]
    ],
    "geqrf": decompositions(partial(jnp.linalg.qr, mode="raw"), [*SHAPES, NOT_A_NUMBER, LARGE]),
    "geqp3": [(partial(jsl.qr_multiply, pivoting=True), a, a.T) for a in [COMPLEX, TALL]],
    "householder_product": [
        (linalg.householder_product, a, np.full((*a.shape[:-2], a.shape[-1]), 0.3, a.dtype))
        for a in [COMPLEX, TALL, BATCH, NO_COLUMNS]
    ]
    + [(linalg.householder_product, SQUARE, np.zeros(0))],
    "ormqr": [
        (partial(linalg.ormqr, left=left, transpose=transpose), a, 0.3 * a[..., 0, : min(a.shape[-2:])], c)
        for a, c, left, transpose in [
            (SQUARE, WIDE.T[:4], True, False),
            (COMPLEX, COMPLEX, True, True),
            (TALL, WIDE, False, False),
            (WIDE, TALL, False, True),
            (BATCH, BATCH, True, True),
            (SQUARE, np.zeros((4, 0)), True, False),
        ]
    ],
    "qr": decompositions(linalg.qr, SHAPES, {"full_matrices": False})
    + decompositions(linalg.qr, [TALL, NO_COLUMNS], {"full_matrices": True}, {"full_matrices": True, "pivoting": True}),
    "eigh": decompositions(
        partial(linalg.eigh, symmetrize_input=False), [*MATRICES, INFINITE, LARGE, COMPLEX], {"lower": True}
    )
    + decompositions(partial(linalg.eigh, symmetrize_input=False), [COMPLEX], {"lower": False}),
    "eig": decompositions(
        linalg.eig,
        [*MATRICES, ROTATION, INFINITE],
        {"compute_left_eigenvectors": True, "compute_right_eigenvectors": True},
    )
    + decompositions(linalg.eig, [ROTATION], {"compute_left_eigenvectors": False, "compute_right_eigenvectors": False}),
    "svd": decompositions(linalg.svd, [*SHAPES, NOT_A_NUMBER, LARGE], {"full_matrices": False})
    + decompositions(linalg.svd, [TALL, WIDE, NO_ROWS, NO_COLUMNS], {"full_matrices": True})
    + decompositions(linalg.svd, [TALL, NO_ROWS], {"compute_uv": False})
    + decompositions(linalg.svd, [TALL], {"algorithm": linalg.SvdAlgorithm.QR}),
    "schur": decompositions(linalg.schur, [*MATRICES, ROTATION])
    + decompositions(linalg.schur, [ROTATION, EMPTY], {"compute_schur_vectors": False}),
    "hessenberg": decompositions(linalg.hessenberg, [COMPLEX, ONE, BATCH, LARGE]),
    "tridiagonal": decompositions(linalg.tridiagonal, [HERMITIAN, ONE + 0j, BATCH, LARGE], {"lower": True})
    + decompositions(linalg.tridiagonal, [HERMITIAN], {"lower": False}),
    "fft": [
        *decompositions(partial(jax.lax.fft, fft_type="FFT", fft_lengths=(4,)), [BATCH + 0j, NO_BATCH + 0j]),
        *decompositions(partial(jax.lax.fft, fft_type="IFFT", fft_lengths=(4, 4)), [COMPLEX, NOT_A_NUMBER + 0j]),
        *decompositions(partial(jax.lax.fft, fft_type="RFFT", fft_lengths=(2, 4, 4)), [BATCH[:, :2]]),
        *decompositions(partial(jax.lax.fft, fft_type="RFFT", fft_lengths=(3,)), [TALL, NO_ROWS]),
        *decompositions(partial(jax.lax.fft, fft_type="IRFFT", fft_lengths=(4, 7)), [COMPLEX]),
        *decompositions(partial(jax.lax.fft, fft_type="IRFFT", fft_lengths=(4,)), [TALL + 0j, NO_ROWS + 0j]),
    ],
}


# programs in whose traces the primitives stand with the parameters that they have in practice
PROGRAMS = {
    "log determinant": (jax.grad(lambda a: jnp.linalg.slogdet(a)[1]), SQUARE),
    "determinant": (jax.grad(jnp.linalg.det), SQUARE),
    "solve": (jax.grad(lambda a, b: jnp.sum(jnp.linalg.solve(a, b) ** 2), (0, 1)), SQUARE, SQUARE[:, :2]),
    "complex solve": (jax.grad(lambda a: jnp.sum(jnp.abs(jnp.linalg.solve(a, a[0])))), COMPLEX),
    "Gaussian process": (
        jax.grad(lambda a: a[0] @ jsl.cho_solve(jsl.cho_factor(a), a[0]) + jnp.linalg.slogdet(a)[1]),
        POSITIVE,
    ),
    "triangular": (
        jax.grad(lambda a: jnp.sum(jsl.solve_triangular(a, a, trans=1, lower=True, unit_diagonal=True))),
        SQUARE,
    ),
    "LU": (jax.grad(lambda a: jnp.sum(jsl.lu(a)[1] ** 2)), TALL),
    "QR": (jax.grad(lambda a: jnp.sum(jnp.linalg.qr(a)[0][0])), TALL),
    "eigenvalues": (jax.grad(lambda a: jnp.sum(jnp.linalg.eigh(a)[0] ** 3)), HERMITIAN),
    "general eigenvalues": (jax.grad(lambda a: jnp.sum(jnp.abs(jnp.linalg.eigvals(a)))), SQUARE),
    "singular values": (jax.grad(lambda a: jnp.linalg.svd(a, full_matrices=False)[0][0, 0]), WIDE),
    "square root": (lambda a: jsl.sqrtm(a), SQUARE),
    "spectrum": (jax.grad(lambda a: jnp.sum(jnp.abs(jnp.fft.rfft2(a)) ** 2)), TALL),
    "filter": (jax.grad(lambda a: jnp.sum(jnp.fft.irfft(jnp.fft.rfft(a) * 2, n=5) ** 2)), WIDE),
    "tridiagonal": (jax.grad(lambda d, b: jnp.sum(linalg.tridiagonal_solve(d, d + 3, d, b))), SQUARE[0], SQUARE),
}


class Reached(Exception):
    """The equation of this primitive is reached, with these inputs."""


def reach(name, function, *arguments):
    """The equation of the primitive in the function's trace, and the inputs that it has there."""

    def stop_there(equation, inputs):
        if equation.primitive.name == name:
            raise Reached(equation, [read_only(x) for x in inputs])
        return bound(equation, inputs)

    with jax.enable_x64(True):
        traced = jax.make_jaxpr(function)(*arguments)
        with pytest.raises(Reached) as reached:
            under_jax(traced.jaxpr, traced.consts, list(arguments), stop_there)
    return reached.value.args


def read_only(x):
    x = np.array(x)
    x.flags.writeable = False
    return x


def by_rule(equation, inputs, rule=None):
    with np.errstate(all="raise"):
        result = (rule or RULES[equation.primitive.name])(*inputs, **equation.params)
    return result if equation.primitive.multiple_results else [result]


def assert_same(actual, expected):
    for x, y in zip(actual, map(np.asarray, expected), strict=True):
        assert (x.shape, x.dtype) == (y.shape, y.dtype)
        size = np.max(np.abs(y[np.isfinite(y)]), initial=0)
        np.testing.assert_allclose(x, y, rtol=1e-13, atol=1e-13 * size)


def assert_rules_agree(reached):
    """Each equation by its rule is what JAX makes of it. JAX compiles all of them at once: that is quicker."""
    compiled = jax.jit(lambda inputs: [bound(e, x) for (e, _), x in zip(reached, inputs, strict=True)])
    with jax.enable_x64(True):
        expected = compiled([inputs for _, inputs in reached])
    for (equation, inputs), outputs in zip(reached, expected, strict=True):
        assert_same(by_rule(equation, inputs), outputs)


@pytest.mark.sweep
@pytest.mark.parametrize("name", RULES)
def test_a_rule_gives_what_jax_gives(name):
    assert_rules_agree([reach(name, function, *arguments) for function, *arguments in CASES[name]])


@pytest.mark.sweep
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_primitives_of_a_program_give_what_jax_gives(name):
    function, *arguments = PROGRAMS[name]
    with jax.enable_x64(True):
        program = jax.make_jaxpr(function)(*arguments).jaxpr
    found = [equation for equation in every_equation(program) if equation.primitive.name in RULES]
    assert found
    assert_rules_agree([(equation, [drawn(x.aval) for x in equation.invars]) for equation in found])


def every_equation(jaxpr):
    """The equations of a program and of all that it calls, repeats and solves."""
    for equation in equations(jaxpr):
        yield equation
        for inner in inner_programs(equation):
            yield from every_equation(inner)


def drawn(aval):
    """A well-conditioned input of this shape. Integers are pivots: no row is swapped with one above it."""
    if np.issubdtype(aval.dtype, np.integer):
        return read_only(np.broadcast_to(np.arange(aval.shape[-1], dtype=aval.dtype), aval.shape))
    x = R.normal(size=aval.shape).astype(aval.dtype)
    if np.iscomplexobj(x):
        x += 1j * R.normal(size=aval.shape)
    return read_only(x + 4 * np.eye(*aval.shape[-2:]) if x.ndim > 1 else x)


@pytest.mark.sweep
@pytest.mark.parametrize("name", RULES)
def test_single_precision_stays_single(name):
    """A rule goes by its inputs' dtype, whatever the trace says."""
    narrow = {np.dtype(float): np.float32, np.dtype(complex): np.complex64}
    for function, *arguments in CASES[name]:
        equation, inputs = reach(name, function, *arguments)
        narrowed = [read_only(x.astype(narrow.get(x.dtype, x.dtype))) for x in inputs]
        wide, single = by_rule(equation, inputs), by_rule(equation, narrowed)
        assert [x.dtype for x in single] == [narrow.get(x.dtype, x.dtype) for x in wide]
        assert [x.shape for x in single] == [x.shape for x in wide]


@pytest.mark.parametrize("option", ["left_side", "lower", "transpose_a", "unit_diagonal"])
def test_a_rule_that_overlooks_an_option_is_caught(option):
    equation, inputs = reach("triangular_solve", triangular(True, True, False), SQUARE, COMPLEX.real)
    with jax.enable_x64(True):
        expected = bound(equation, inputs)
    wrong = {**equation.params, option: not equation.params[option]}
    with pytest.raises(AssertionError):
        assert_same([RULES["triangular_solve"](*inputs, **wrong)], expected)
    assert_same([(1 + 1e-14) * RULES["triangular_solve"](*inputs, **equation.params)], expected)


def test_part_of_a_spectrum():
    """JAX does this on TPUs only."""
    vectors, values = RULES["eigh"](POSITIVE, lower=True)
    some_vectors, some_values = RULES["eigh"](POSITIVE, lower=True, subset_by_index=(1, 3))
    assert_same([some_vectors, some_values], [vectors[:, 1:3], values[1:3]])
    s, u, vt = RULES["svd"](TALL, full_matrices=False, compute_uv=True)
    some = RULES["svd"](TALL, full_matrices=False, compute_uv=True, subset_by_index=(0, 2))
    assert_same(some, [s[:2], u[:, :2], vt[:2]])


def test_what_lapack_has_no_routine_for_is_refused():
    with pytest.raises(NotImplementedError, match="perturb_singular"):
        RULES["tridiagonal_solve"](*diagonals(3, 1), perturb_singular=True)
    with pytest.raises(NotImplementedError, match="moved to the front"):
        RULES["geqp3"](SQUARE, np.ones(4, np.int32))
