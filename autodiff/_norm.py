"""The norm of all entries of several arrays."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def scaled_norm(leaves: list[Array]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """A power of two that scales the largest entry to about 1, and the norm times this scale.

    With the scale, no square overflows or underflows. Both results have the widest dtype, at least float32. The scale
    is not 1 / largest entry, because XLA flushes that to 0 where it is subnormal.
    """
    dtype = jnp.result_type(jnp.float32, *leaves)
    wide = [leaf.astype(dtype) for leaf in leaves]
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(g), initial=0) for g in wide] or [jnp.zeros((), dtype)]))
    _, exponent = jnp.frexp(largest)
    limit = jnp.finfo(dtype).maxexp - 3
    scale = jnp.ldexp(jnp.ones((), dtype), jnp.clip(-exponent, -limit, limit))
    return scale, jnp.sqrt(sum((jnp.sum(jnp.square(g * scale)) for g in wide), start=jnp.zeros((), dtype)))
