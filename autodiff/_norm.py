"""The length of many arrays taken together."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def scaled_norm(leaves: list[Array]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """A power of two that brings the largest entry near 1, and the norm times it: no square overflows or vanishes.

    Both in the widest dtype, float32 at least. Not a division by the largest entry: XLA multiplies by its inverse,
    which is flushed to 0 if it is below the normal numbers.
    """
    dtype = jnp.result_type(jnp.float32, *leaves)
    wide = [leaf.astype(dtype) for leaf in leaves]
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(g), initial=0) for g in wide] or [jnp.zeros((), dtype)]))
    _, exponent = jnp.frexp(largest)
    limit = jnp.finfo(dtype).maxexp - 3
    scale = jnp.ldexp(jnp.ones((), dtype), jnp.clip(-exponent, -limit, limit))
    return scale, jnp.sqrt(sum((jnp.sum(jnp.square(g * scale)) for g in wide), start=jnp.zeros((), dtype)))
