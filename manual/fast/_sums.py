"""Sums over rows that are quick, and as exact as the pages' sums in float64."""

import numpy as np

ROW = 1024  # so short that a sum in float32 is exact enough, and that BLAS starts no threads for it


def row_products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The sum of a b over the last axis, which stays with length 1, without an array of the products.

    Stretches of ROW entries are summed by BLAS, and their sums are added in float64. If that overflows, the products
    are added one by one in float64.

    Args:
        a: (..., n), in float32 or float64.
        b: (..., n) or (n,).

    Returns:
        (..., 1), in the dtype of a b or wider.
    """
    n = a.shape[-1]
    with np.errstate(over="ignore", invalid="ignore"):
        if n <= ROW:
            total = np.vecdot(a, b)
        else:
            whole = n - n % ROW
            parts = (x[..., :whole].reshape(*x.shape[:-1], whole // ROW, ROW) for x in (a, b))
            total = np.vecdot(*parts).sum(axis=-1, dtype=np.float64)
            total += np.vecdot(a[..., whole:], b[..., whole:])
            total = total.astype(np.result_type(a, b))
        if not np.isfinite(total).all():
            total = np.sum(a * b, axis=-1, dtype=np.float64)
    return np.asarray(total)[..., None]
