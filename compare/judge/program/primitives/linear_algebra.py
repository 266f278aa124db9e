"""Factorizations, triangular solves and Fourier transforms, evaluated as JAX evaluates them on the CPU.

JAX calls LAPACK and BLAS from SciPy's wheel. The rules here call the same routines of the same library, so that signs,
pivots and normalizations are the same. If a routine fails (a matrix that is not positive definite, an iteration that
does not converge), the results for that matrix are NaN, as in JAX, and no exception is raised. Inputs are never
modified.

Most rules are written for one matrix, and `_batched` applies them along the leading dimensions. The primitives are
defined in `jax/_src/lax/linalg.py` and `jax/_src/lax/fft.py` (JAX 0.10.2). Two options raise NotImplementedError,
because SciPy has no routine for them: `geqp3` with columns that are moved to the front, and `tridiagonal_solve` with
`perturb_singular`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.linalg import blas, lapack

Array = np.ndarray
Rule = Callable[..., Any]

_PRECISION = {"f": "s", "d": "d", "F": "c", "D": "z"}  # NumPy's character of a dtype -> LAPACK's prefix
_HERMITIAN = {"syevd": "heevd", "sytrd": "hetrd", "orgqr": "ungqr", "ormqr": "unmqr"}  # real name -> complex name


@functools.cache
def _routine(name: str, letter: str) -> Callable[..., Any]:
    """The LAPACK or BLAS routine for one dtype.

    Args:
        name: the routine's name for real matrices, without the prefix for the dtype.
        letter: NumPy's character of the dtype.
    """
    if letter in "FD":
        name = _HERMITIAN.get(name, name)
    return getattr(blas if name == "trsm" else lapack, _PRECISION[letter] + name)


@functools.lru_cache(maxsize=256)
def _queried_workspace(name: str, letter: str, *sizes: int) -> int:
    """The optimal length of the work array, as the routine's workspace query returns it.

    The query is made in double precision, because the query in single precision returns the length as a float32, which
    may be rounded down.
    """
    work, _ = _routine(f"{name}_lwork", "D" if letter in "FD" else "d")(*sizes)
    return int(work.real)


def _workspace(size: int) -> int:
    """A length of the work array that is sufficient for the full block size of LAPACK's blocked routines.

    They need at most 64 rows of the matrix and 65 * 64 numbers for a triangular factor. It saves a workspace query.
    """
    return 64 * (size + 66)


def _batched(*ranks: int) -> Callable[[Rule], Rule]:
    """Apply a rule for one matrix along the leading dimensions. `ranks` are the ranks of one example of each input."""

    def decorate(rule: Rule) -> Rule:
        @functools.wraps(rule)
        def along_batch(*inputs: Array, **params: Any) -> Any:
            batch = inputs[0].shape[: inputs[0].ndim - ranks[0]]
            if not batch:
                return rule(*inputs, **params)
            entries = [x.reshape(-1, *x.shape[x.ndim - rank :]) for x, rank in zip(inputs, ranks, strict=True)]
            results = [rule(*entry, **params) for entry in zip(*entries, strict=True)]
            if not results:  # an empty batch: zeros are evaluated for the shapes and dtypes of the results
                result = rule(*(np.zeros(x.shape[1:], x.dtype) for x in entries), **params)
                several = isinstance(result, list)
                empty = [np.empty((*batch, *part.shape), part.dtype) for part in (result if several else [result])]
                return empty if several else empty[0]
            if isinstance(results[0], list):
                return [np.stack(part).reshape(*batch, *part[0].shape) for part in zip(*results, strict=True)]
            return np.stack(results).reshape(*batch, *results[0].shape)

        return along_batch

    return decorate


def _or_nan(info: int, results: Sequence[Array]) -> list[Array]:
    """The results of a routine; arrays of NaN if its status `info` says that it failed."""
    if info == 0:
        return list(results)
    return [np.full(x.shape, complex(np.nan, np.nan) if np.iscomplexobj(x) else np.nan, x.dtype) for x in results]


def _real(dtype: np.dtype) -> np.dtype:
    return np.finfo(dtype).dtype


# Cholesky


@_batched(2)
def cholesky(a: Array, **_: Any) -> Array:
    """The lower factor. The upper triangle keeps the input's entries; the traced program clears it."""
    if not a.size:
        return a
    factor, info = _routine("potrf", a.dtype.char)(a, lower=1, clean=0)
    return _or_nan(info, [factor])[0]


def cholesky_update(r_matrix: Array, w_vector: Array, **_: Any) -> Array:
    """The upper factor of R^T R + w w^T, by one Givens rotation for each row. JAX's primitive has no batches."""
    R, w = r_matrix.copy(), w_vector
    with np.errstate(all="ignore"):
        for k in range(len(w)):
            if w[k] == 0:
                continue
            scale = max(abs(R[k, k]), abs(w[k]))
            x, y = R[k, k] / scale, w[k] / scale
            inverse_norm = 1 / np.sqrt(x**2 + y**2)
            cosine, sine = x * inverse_norm, -y * inverse_norm
            row = R[k].copy()
            R[k] = cosine * row - sine * w
            w = cosine * w + sine * row
    return R


@_batched(2, 2)
def symmetric_product(a_matrix: Array, c_matrix: Array, *, alpha: float, beta: float, **_: Any) -> Array:
    """alpha a a^T + beta c"""
    dtype = a_matrix.dtype.type
    with np.errstate(all="ignore"):
        return dtype(alpha) * (a_matrix @ a_matrix.T) + dtype(beta) * c_matrix


# Triangular and tridiagonal systems


@_batched(2, 2)
def triangular_solve(
    a: Array,
    b: Array,
    *,
    left_side: bool,
    lower: bool,
    transpose_a: bool,
    conjugate_a: bool,
    unit_diagonal: bool,
    **_: Any,
) -> Array:
    """The solution x of op(a) x = b or x op(a) = b. A zero on the diagonal gives infinity or NaN, as in BLAS."""
    if not b.size:
        return b
    if conjugate_a and not transpose_a:
        a = a.conj()
    operation = 0 if not transpose_a else 2 if conjugate_a else 1
    return _routine("trsm", a.dtype.char)(
        1, a, b, side=not left_side, lower=lower, trans_a=operation, diag=unit_diagonal
    )


@_batched(1, 1, 1, 2)
def tridiagonal_solve(dl: Array, d: Array, du: Array, b: Array, *, perturb_singular: bool = False, **_: Any) -> Array:
    """The solution of a tridiagonal system; NaN if a pivot is zero. dl[0] and du[-1] are not used."""
    if perturb_singular:
        raise NotImplementedError("LAPACK has no routine for tridiagonal_solve with perturb_singular=True")
    if not b.size:
        return b
    if len(d) == 1:  # SciPy's wrapper rejects the empty off-diagonals of a single equation
        with np.errstate(all="ignore"):
            return _or_nan(int(d[0] == 0), [b / d[0]])[0]
    *_factors, x, info = _routine("gtsv", b.dtype.char)(dl[1:], d, du[:-1], b)
    return _or_nan(info, [x])[0]


# LU


@_batched(2)
def lu(a: Array, **_: Any) -> list[Array]:
    """L and U in one matrix, the row swaps, and the permutation that is their product."""
    rows = a.shape[0]
    if not a.size:
        return [a, np.zeros(0, np.int32), np.arange(rows, dtype=np.int32)]
    factors, pivots, _info = _routine("getrf", a.dtype.char)(a)  # info > 0 only says that U has a zero on its diagonal
    return [factors, pivots.astype(np.int32, copy=False), _permutation(pivots, rows)]


@_batched(1)
def lu_pivots_to_permutation(pivots: Array, *, permutation_size: int, **_: Any) -> Array:
    return _permutation(pivots, permutation_size)


def _permutation(pivots: Array, size: int) -> Array:
    order = list(range(size))
    for i, j in enumerate(pivots.tolist()):
        order[i], order[j] = order[j], order[i]
    return np.array(order, np.int32)


# QR


@_batched(2)
def geqrf(a: Array, **_: Any) -> list[Array]:
    """One matrix with R in its upper triangle and the Householder vectors below it, and the vectors' factors tau."""
    if not a.size:
        return [a, np.zeros(0, a.dtype)]
    reflectors, taus, _work, _info = _routine("geqrf", a.dtype.char)(a, lwork=_workspace(a.shape[1]))
    return [reflectors, taus]


@_batched(2, 1)
def geqp3(a: Array, jpvt: Array, **_: Any) -> list[Array]:
    """The same as `geqrf` with column pivoting. The pivots count from 1."""
    if jpvt.any():  # JAX itself passes zeros only, and SciPy's wrapper has no argument for it
        raise NotImplementedError("SciPy has no geqp3 with columns that are moved to the front")
    if not a.size:
        return [a, jpvt, np.zeros(0, a.dtype)]
    reflectors, pivots, taus, _work, _info = _routine("geqp3", a.dtype.char)(a, lwork=_workspace(a.shape[1]))
    return [reflectors, pivots.astype(jpvt.dtype, copy=False), taus]


@_batched(2, 1)
def householder_product(a: Array, taus: Array, **_: Any) -> Array:
    """The leading columns of the product of the Householder reflectors."""
    if not a.size:
        return a
    if not taus.size:
        return np.eye(*a.shape, dtype=a.dtype)
    q, _work, _info = _routine("orgqr", a.dtype.char)(a, taus, lwork=_workspace(a.shape[1]))
    return q


@_batched(2, 1, 2)
def ormqr(a: Array, taus: Array, c: Array, *, left: bool, transpose: bool, **_: Any) -> Array:
    """Q c, Q^H c, c Q or c Q^H."""
    if not c.size or not taus.size:
        return c
    adjoint = "C" if np.iscomplexobj(a) else "T"
    product, _work, _info = _routine("ormqr", a.dtype.char)(
        "L" if left else "R",
        adjoint if transpose else "N",
        a[:, : len(taus)],
        taus,
        c,
        _workspace(c.shape[1] if left else c.shape[0]),
    )
    return product


@_batched(2)
def qr(a: Array, *, pivoting: bool, full_matrices: bool, **_: Any) -> list[Array]:
    m, n = a.shape
    k = m if full_matrices else min(m, n)
    if not a.size:
        pivots = [np.zeros(n, np.int32)] if pivoting else []
        return [np.eye(m, k, dtype=a.dtype), np.zeros((k, n), a.dtype), *pivots]
    if pivoting:
        reflectors, pivots, taus = geqp3(a, np.zeros(n, np.int32))
        pivots = [pivots - np.int32(1)]
    else:
        reflectors, taus = geqrf(a)
        pivots = []
    if m < n:
        vectors = reflectors[:, :m]
    elif full_matrices:
        vectors = np.zeros((m, m), a.dtype, order="F")
        vectors[:, :n] = reflectors
    else:
        vectors = reflectors
    return [householder_product(vectors, taus), np.triu(reflectors[:k]), *pivots]


# Eigenvalues and singular values


@_batched(2)
def eigh(a: Array, *, lower: bool, subset_by_index: tuple[int, int] | None = None, **_: Any) -> list[Array]:
    """The eigenvectors and eigenvalues, computed from one triangle. The eigenvalues are always in ascending order."""
    if not a.size:
        return [a, np.zeros(0, _real(a.dtype))]
    values, vectors, info = _routine("syevd", a.dtype.char)(a, compute_v=1, lower=lower)
    vectors, values = _or_nan(info, [vectors, values])
    chosen = slice(*subset_by_index) if subset_by_index else slice(None)
    return [vectors[:, chosen], values[chosen]]


@_batched(2)
def eig(a: Array, *, compute_left_eigenvectors: bool, compute_right_eigenvectors: bool, **_: Any) -> list[Array]:
    """The eigenvalues, then the requested left and right eigenvectors. All are complex, also for a real matrix."""
    letter = a.dtype.char
    wanted = [compute_left_eigenvectors, compute_right_eigenvectors]
    dtype = np.result_type(a.dtype, np.complex64)
    n = len(a)
    if not a.size or not np.isfinite(a).all():  # as JAX does, because LAPACK may never return for such a matrix
        shapes = [(n,), *[(n, n)] * sum(wanted)]
        return _or_nan(1, [np.empty(shape, dtype) for shape in shapes])
    left, right = map(int, wanted)
    length = _queried_workspace("geev", letter, n, left, right)
    *values, vl, vr, info = _routine("geev", letter)(a, compute_vl=left, compute_vr=right, lwork=length)
    results = [values[0]] if np.iscomplexobj(a) else [values[0] + 1j * values[1]]
    for vectors, compute in zip([vl, vr], wanted, strict=True):
        if compute:
            results.append(vectors if np.iscomplexobj(a) else _paired(vectors, values[1]))
    return _or_nan(info, [x.astype(dtype, copy=False) for x in results])


def _paired(packed: Array, imaginary: Array) -> Array:
    """Complex eigenvectors from LAPACK's real format.

    A conjugate pair has two columns in this format, one for its real part and one for its imaginary part.
    """
    vectors = packed.astype(np.result_type(packed.dtype, np.complex64))
    first = np.flatnonzero(imaginary > 0)
    vectors[:, first] = packed[:, first] + 1j * packed[:, first + 1]
    vectors[:, first + 1] = vectors[:, first].conj()
    return vectors


@_batched(2)
def svd(
    a: Array,
    *,
    full_matrices: bool,
    compute_uv: bool,
    subset_by_index: tuple[int, int] | None = None,
    algorithm: Any = None,
    **_: Any,
) -> list[Array]:
    """The singular values in descending order; then U and V^H, if requested."""
    m, n = a.shape
    if not a.size:
        return _svd_of_nothing(a, full_matrices, compute_uv)
    name = "gesvd" if getattr(algorithm, "name", None) == "QR" else "gesdd"
    options = (int(compute_uv), int(full_matrices))
    length = _queried_workspace(name, a.dtype.char, m, n, *options)
    u, s, vt, info = _routine(name, a.dtype.char)(a, compute_uv=options[0], full_matrices=options[1], lwork=length)
    s, *vectors = _or_nan(info, [s, u, vt] if compute_uv else [s])
    if subset_by_index is not None and subset_by_index != (0, min(m, n)):
        chosen = slice(*subset_by_index)
        return [s[chosen], vectors[0][:, chosen], vectors[1][chosen]] if compute_uv else [s[chosen]]
    return [s, *vectors]


def _svd_of_nothing(a: Array, full_matrices: bool, compute_uv: bool) -> list[Array]:
    """The result for a matrix without rows or columns, with the same shapes as in JAX (`_empty_svd`)."""
    m, n = a.shape
    s = np.zeros(0, _real(a.dtype))
    if not compute_uv:
        return [s]
    larger = np.eye(max(m, n), dtype=a.dtype) if full_matrices else np.zeros((m, n), a.dtype)
    smaller = np.zeros((0, 0), a.dtype)
    return [s, smaller, larger] if m < n else [s, larger, smaller]


@_batched(2)
def schur(a: Array, *, compute_schur_vectors: bool, **_: Any) -> list[Array]:
    """The Schur form (for a real matrix, the real form with 2x2 blocks); then the Schur vectors, if requested."""
    if not a.size:
        return [a, a] if compute_schur_vectors else [a]
    form, *_eigenvalues, vectors, _work, info = _routine("gees", a.dtype.char)(
        _select_nothing, a, compute_v=int(compute_schur_vectors), sort_t=0, lwork=_workspace(len(a))
    )
    return _or_nan(info, [form, vectors] if compute_schur_vectors else [form])


def _select_nothing(*_eigenvalue: float) -> None:
    """The function that selects eigenvalues, which `gees` requires as an argument but never calls without sorting."""


# Reductions to Hessenberg and tridiagonal form


@_batched(2)
def hessenberg(a: Array, **_: Any) -> list[Array]:
    """One matrix with the Hessenberg form and the Householder vectors below it, and the vectors' factors tau."""
    if len(a) == 1:
        return [a, np.zeros(0, a.dtype)]
    form, taus, info = _routine("gehrd", a.dtype.char)(a, lwork=_workspace(len(a)))
    return _or_nan(info, [form, taus])


@_batched(2)
def tridiagonal(a: Array, *, lower: bool, **_: Any) -> list[Array]:
    """A matrix with the Householder vectors in one triangle, the diagonal, the off-diagonal, and the factors tau."""
    if len(a) == 1:
        return [a, a[0].real.copy(), np.zeros(0, _real(a.dtype)), np.zeros(0, a.dtype)]
    *results, info = _routine("sytrd", a.dtype.char)(a, lower=lower, lwork=_workspace(len(a)))
    return _or_nan(info, results)


# Fourier transforms


def fft(x: Array, *, fft_type: Any, fft_lengths: Sequence[int], **_: Any) -> Array:
    """The transform over the last `len(fft_lengths)` axes. Inverse transforms divide by the number of points."""
    axes = range(-len(fft_lengths), 0)
    with np.errstate(all="ignore"):
        match fft_type.name:
            case "FFT":
                return np.fft.fftn(x, axes=axes) if x.size else x
            case "IFFT":
                return np.fft.ifftn(x, axes=axes) if x.size else x
            case "RFFT":
                shape = (*x.shape[:-1], fft_lengths[-1] // 2 + 1)
                dtype = np.result_type(x.dtype, np.complex64)
                return np.fft.rfftn(x, axes=axes) if x.size else np.zeros(shape, dtype)
            case _:
                shape = (*x.shape[:-1], fft_lengths[-1])
                return np.fft.irfftn(x, fft_lengths, axes=axes) if x.size else np.zeros(shape, _real(x.dtype))


RULES: dict[str, Rule] = {
    "cholesky": cholesky,
    "cholesky_update": cholesky_update,
    "symmetric_product": symmetric_product,
    "triangular_solve": triangular_solve,
    "tridiagonal_solve": tridiagonal_solve,
    "lu": lu,
    "lu_pivots_to_permutation": lu_pivots_to_permutation,
    "geqrf": geqrf,
    "geqp3": geqp3,
    "householder_product": householder_product,
    "ormqr": ormqr,
    "qr": qr,
    "eigh": eigh,
    "eig": eig,
    "svd": svd,
    "schur": schur,
    "hessenberg": hessenberg,
    "tridiagonal": tridiagonal,
    "fft": fft,
}
