"""Newton's method in a trust region, without forming the Hessian: it needs only Hessian-vector products.

Around the parameters, the loss is approximated by a quadratic function of the step p, with gradient g and Hessian H:

    m(p) = J + g^T p + p^T H p / 2          to be minimized where |p| <= radius

Where H is not positive definite, as is usual for networks, the minimum is on the border. After each step, the decrease
that m predicts is compared with the decrease of the loss, and the radius is adapted. Parameters are any tree; g, p, r
and d are vectors of all its leaves. Source: Nocedal and Wright, "Numerical optimization", 2nd edition (2006), chapters
4 and 7.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from manual._trees import leaves_by_path, rebuilt

Vector = Float[np.ndarray, " n"]
Product = Callable[[Vector], Vector]


class NewtonStep(NamedTuple):
    """The parameters after a step, the radius for the next step, the loss there, and the number of products with H."""

    parameters: Any
    radius: float
    loss: Any
    products: int


def conjugate_gradients(gradient: Vector, product: Product, radius: float) -> tuple[Vector, int]:
    """An approximate minimizer p of m with |p| <= radius: conjugate gradients, stopped at the border.

        H p = -g, from p = 0; each direction d is conjugate to those before it: d_i^T H d_j = 0

    They stop when the residual r = g + H p is below min(1/2, sqrt|g|) |g|, which makes Newton's method converge
    superlinearly (equation 7.3). Along a direction of negative curvature m decreases without bound, so that direction
    is followed to the border. m decreases along the whole path, so the path also ends where it leaves the region.

    Args:
        gradient: g.
        product: v -> H v.
        radius: the radius of the trust region, positive.

    Returns:
        p, and the number of products with H.

    Source: Steihaug, "The conjugate gradient method and trust regions in large scale optimization" (1983), which is
    algorithm 7.2 of Nocedal and Wright. At negative curvature, theirs takes the better of the two points where the line
    meets the border; here it is the one in direction d, as in the paper.
    """
    norm = np.linalg.norm(gradient)
    tolerance = min(0.5, norm**0.5) * norm
    p, r, d = np.zeros_like(gradient), gradient, -gradient
    for products in range(gradient.size):
        if np.linalg.norm(r) <= tolerance:
            return p, products
        Hd = product(d)
        curvature, tau = d @ Hd, _to_the_border(p, d, radius)
        if tau * curvature <= r @ r:  # negative curvature, or the minimum along d is beyond the border
            return p + tau * d, products + 1
        alpha = (r @ r) / curvature
        p = p + alpha * d
        r_next = r + alpha * Hd
        beta = (r_next @ r_next) / (r @ r)
        r, d = r_next, -r_next + beta * d
    return p, gradient.size


def _to_the_border(p: Vector, d: Vector, radius: float) -> Any:
    """tau >= 0 with |p + tau d| = radius: a root of (d d) tau^2 + 2 (p d) tau + p p - radius^2.

    Where p d is positive, -p d + sqrt(...) would cancel, so the product of both roots is used instead.
    """
    dd, pd, left = d @ d, p @ d, radius**2 - p @ p
    root = np.sqrt(pd**2 + dd * left)
    return left / (pd + root) if pd > 0 else (root - pd) / dd


def newton_step(
    loss_and_gradients: Callable[..., tuple[Any, Any]],
    hessian_vector_product: Callable[..., Any],
    parameters: Any,
    batch: tuple[Any, ...],
    *,
    radius: float = 1.0,
    largest_radius: float = 100.0,
) -> NewtonStep:
    """One step of Newton's method in a trust region.

        rho = (J - J at the new parameters) / (m(0) - m(p))

    The step is taken if rho > 1/10. The region shrinks to a quarter if rho < 1/4, and doubles if rho > 3/4 and the step
    ended at its border: algorithm 4.1 of Nocedal and Wright.

    Args:
        loss_and_gradients: (parameters, *batch) -> (J, gradients), as `manual.shallow.loss_and_gradients`.
        hessian_vector_product: (parameters, vector, *batch) -> H vector, as `manual.shallow.hessian_vector_product`.
        parameters: the starting point, a tree of floating arrays of one dtype. They are not modified.
        batch: the further arguments of both functions: all of the data, or enough that H is not dominated by noise.
        radius: the radius of the trust region: the one returned by the previous step, or the longest first step.
        largest_radius: an upper bound of the radius.

    Returns:
        The new parameters, or the old ones if the step is rejected; the radius for the next step; the loss at the
        returned parameters; and the number of products with H.

    Raises:
        ValueError: unless 0 < radius <= largest_radius.
    """
    if not 0 < radius <= largest_radius:
        raise ValueError(f"radius must be positive and at most largest_radius, got {radius} and {largest_radius}.")
    loss, gradients = loss_and_gradients(parameters, *batch)
    g = _vector(gradients)

    def product(v: Vector) -> Vector:
        return _vector(hessian_vector_product(parameters, _tree(parameters, v), *batch))

    p, products = conjugate_gradients(g, product, radius)
    predicted = -(g @ p + p @ product(p) / 2)
    there = _tree(parameters, _vector(parameters) + p)
    loss_there, _ = loss_and_gradients(there, *batch)
    rho = (loss - loss_there) / predicted if predicted > 0 else 0.0
    new_radius = radius
    if not rho >= 0.25:  # also if rho is NaN
        new_radius = radius / 4
    elif rho > 0.75 and np.linalg.norm(p) >= 0.99 * radius:
        new_radius = min(2 * radius, largest_radius)
    if rho > 0.1:
        return NewtonStep(there, new_radius, loss_there, products + 1)
    return NewtonStep(parameters, new_radius, loss, products + 1)


def _vector(tree: Any) -> Vector:
    """All leaves of a tree, flattened and concatenated."""
    return np.concatenate([leaf.reshape(-1) for leaf in leaves_by_path(tree).values()])


def _tree(like: Any, vector: Vector) -> Any:
    """The entries of a vector as a tree with the structure and shapes of `like`."""
    leaves = leaves_by_path(like).values()
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
    parts = np.split(vector, ends)
    return rebuilt(like, iter([part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]))
