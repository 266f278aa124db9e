"""Newton's method without a Hessian: a trust region, whose problem is solved by products of the Hessian with vectors.

Around the parameters, the loss is taken to be a parabola in the step p, with g the gradient and H the Hessian:

    m(p) = J + g^T p + p^T H p / 2          to be minimized where |p| <= radius

Where H is not positive definite, as is usual in networks, its minimum is on the border. How far the parabola can be
trusted is seen by comparing what it promised with what the loss did. Parameters are any tree; g, p, r and d are one
vector of all its leaves. Source: Nocedal and Wright, "Numerical optimization", 2nd edition (2006), chapters 4 and 7.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from manual._trees import leaves_by_path, rebuilt

Vector = Float[np.ndarray, " n"]
Product = Callable[[Vector], Vector]


class NewtonStep(NamedTuple):
    """Where a step led, the radius for the next one, the loss there, and how many products with H it took."""

    parameters: Any
    radius: float
    loss: Any
    products: int


def conjugate_gradients(gradient: Vector, product: Product, radius: float) -> tuple[Vector, int]:
    """p with |p| <= radius that makes m(p) small: conjugate gradients, cut off at the border.

        H p = -g, from p = 0; each direction d is conjugate to those before it: d_i^T H d_j = 0

    They end where the residual r = g + H p is below min(1/2, sqrt|g|) |g|, which makes the method converge
    superlinearly (equation 7.3). Along a direction of negative curvature m falls for ever, so it is followed to the
    border; and m falls along the whole path, so where the path leaves the region is a good place to end, too.

    Args:
        gradient: g.
        product: v -> H v.
        radius: of the trust region, positive.

    Returns:
        p, and the number of products.

    Source: Steihaug, "The conjugate gradient method and trust regions in large scale optimization" (1983), which is
    algorithm 7.2 of Nocedal and Wright. At negative curvature that takes the better one of the two ends of the line;
    here it is the one ahead, as in the paper.
    """
    norm = np.linalg.norm(gradient)
    tolerance = min(0.5, norm**0.5) * norm
    p, r, d = np.zeros_like(gradient), gradient, -gradient
    for products in range(gradient.size):
        if np.linalg.norm(r) <= tolerance:
            return p, products
        Hd = product(d)
        curvature, tau = d @ Hd, _to_the_border(p, d, radius)
        if tau * curvature <= r @ r:  # negative, or the lowest place along d is beyond the border
            return p + tau * d, products + 1
        alpha = (r @ r) / curvature
        p = p + alpha * d
        r_next = r + alpha * Hd
        beta = (r_next @ r_next) / (r @ r)
        r, d = r_next, -r_next + beta * d
    return p, gradient.size


def _to_the_border(p: Vector, d: Vector, radius: float) -> Any:
    """tau >= 0 with |p + tau d| = radius: the root of d^2 tau^2 + 2 p d tau + p^2 - radius^2.

    Where p d is positive, -p d + sqrt(...) would cancel, and the other root's product with this one is taken.
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

        rho = (J - J at the new place) / (m(0) - m(p))

    The step is taken if rho > 1/10. The region shrinks to a quarter if rho < 1/4, and doubles if rho > 3/4 and the step
    ended at its border: algorithm 4.1 of Nocedal and Wright.

    Args:
        loss_and_gradients: (parameters, *batch) -> (J, gradients), as `manual.shallow.loss_and_gradients`.
        hessian_vector_product: (parameters, vector, *batch) -> H vector, as `manual.shallow.hessian_vector_product`.
        parameters: where to begin; a tree of floating arrays of one dtype. They are not modified.
        batch: what else the functions take: all of the data, or so much of it that H is not noise.
        radius: of the trust region: that of the step before, or how far the first step may go at most.
        largest_radius: which it never exceeds.

    Returns:
        The new parameters, or the old ones if the step is not taken; the radius for the next step; the loss at the
        parameters that are returned; and the number of products.

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
    promised = -(g @ p + p @ product(p) / 2)
    there = _tree(parameters, _vector(parameters) + p)
    loss_there, _ = loss_and_gradients(there, *batch)
    rho = (loss - loss_there) / promised if promised > 0 else 0.0
    new_radius = radius
    if not rho >= 0.25:  # NaN too
        new_radius = radius / 4
    elif rho > 0.75 and np.linalg.norm(p) >= 0.99 * radius:
        new_radius = min(2 * radius, largest_radius)
    if rho > 0.1:
        return NewtonStep(there, new_radius, loss_there, products + 1)
    return NewtonStep(parameters, new_radius, loss, products + 1)


def _vector(tree: Any) -> Vector:
    """All leaves one after another."""
    return np.concatenate([leaf.reshape(-1) for leaf in leaves_by_path(tree).values()])


def _tree(like: Any, vector: Vector) -> Any:
    """The leaves of a vector in a tree like another one."""
    leaves = leaves_by_path(like).values()
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
    parts = np.split(vector, ends)
    return rebuilt(like, iter([part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]))
