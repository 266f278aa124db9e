"""Newton's method in a trust region, in JAX, with the names and arguments of `manual.newton`.

`loss_and_gradients` and `hessian_vector_product` are traceable functions, and the conjugate gradients are a loop on the
device. Source: Nocedal and Wright, "Numerical optimization", 2nd edition (2006), chapters 4 and 7.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from autodiff._dtype import keeps_dtype

Vector = Float[Array, " n"]
Product = Callable[[Vector], Vector]


class NewtonStep(NamedTuple):
    """The parameters after a step, the radius for the next step, the loss there, and the number of products with H."""

    parameters: Any
    radius: float
    loss: Any
    products: int


class _Search(NamedTuple):
    """The state of the loop: the step, the residual, the direction, the number of products, and a flag for the end."""

    p: Vector
    r: Vector
    d: Vector
    products: Any
    ended: Any


@keeps_dtype
def conjugate_gradients(gradient: Vector, product: Product, radius: float) -> tuple[Vector, int]:
    """The step p with |p| <= radius that conjugate gradients find for H p = -g, and the number of products.

    They stop at the border of the region, at negative curvature, or if the residual is below min(1/2, sqrt|g|) |g|.
    Source: Steihaug (1983).
    """
    norm = jnp.linalg.norm(gradient)
    tolerance = jnp.minimum(0.5, jnp.sqrt(norm)) * norm

    def goes_on(search: _Search) -> Any:
        small = jnp.linalg.norm(search.r) <= tolerance
        return ~search.ended & ~small & (search.products < gradient.size)

    def further(search: _Search) -> _Search:
        p, r, d, products, _ = search
        image = product(d)
        curvature, squared = jnp.vdot(d, image), jnp.vdot(r, r)
        a, b, c = jnp.vdot(d, d), jnp.vdot(p, d), jnp.vdot(p, p) - radius**2
        root = jnp.sqrt(b**2 - a * c)
        to_border = jnp.where(b > 0, -c / jnp.where(b > 0, b + root, 1), (root - b) / a)
        leaves = squared >= to_border * curvature
        length = jnp.where(leaves, to_border, squared / jnp.where(leaves, 1, curvature))
        residual = r + length * image
        direction = jnp.vdot(residual, residual) / squared * d - residual
        return _Search(p + length * d, residual, direction, products + 1, leaves)

    start = _Search(jnp.zeros_like(gradient), gradient, -gradient, jnp.int32(0), jnp.bool_(False))
    found = lax.while_loop(goes_on, further, start)
    return found.p, int(found.products)


@keeps_dtype
def newton_step(
    loss_and_gradients: Callable[..., tuple[Any, Any]],
    hessian_vector_product: Callable[..., Any],
    parameters: Any,
    batch: tuple[Any, ...],
    *,
    radius: float = 1.0,
    largest_radius: float = 100.0,
) -> NewtonStep:
    """One step of Newton's method in a trust region. The result has the adapted radius for the next step.

    Raises ValueError unless 0 < radius <= largest_radius.
    """
    if not 0 < radius <= largest_radius:
        raise ValueError(f"radius must be positive and at most largest_radius, got {radius} and {largest_radius}.")
    flat, tree = ravel_pytree(jax.tree.map(jnp.asarray, parameters))
    start = tree(flat)
    loss, gradients = loss_and_gradients(start, *batch)
    g, _ = ravel_pytree(gradients)

    def product(v: Vector) -> Vector:
        return ravel_pytree(hessian_vector_product(start, tree(v), *batch))[0]

    p, products = conjugate_gradients(g, product, radius)
    promised = -float(jnp.vdot(g, p) + jnp.vdot(p, product(p)) / 2)
    there = tree(flat + p)
    loss_there, _ = loss_and_gradients(there, *batch)
    ratio = float(loss - loss_there) / promised if promised > 0 else 0.0
    next_radius = radius
    if not ratio >= 0.25:
        next_radius = radius / 4
    elif ratio > 0.75 and float(jnp.linalg.norm(p)) >= 0.99 * radius:
        next_radius = min(2 * radius, largest_radius)
    taken = ratio > 0.1
    return NewtonStep(there if taken else start, next_radius, loss_there if taken else loss, products + 1)
