"""Layer normalization on both sides, right and as if its deviation were constant."""

import jax.numpy as jnp
import numpy as np

EPSILON = 1e-5


def drawn(*shapes, dtype="float64"):
    random = np.random.default_rng(0)
    return [random.standard_normal(shape).astype(dtype) for shape in shapes]


def layer_norm(x, gain):
    centered = x - jnp.mean(x, axis=-1, keepdims=True)
    return gain * centered / jnp.sqrt(jnp.mean(centered**2, axis=-1, keepdims=True) + EPSILON)


def layer_norm_forward(x, gain):
    centered = x - x.mean(axis=-1, keepdims=True)
    sigma = np.sqrt((centered**2).mean(axis=-1, keepdims=True) + EPSILON)
    normal = centered / sigma
    return gain * normal, (normal, sigma, gain)


def layer_norm_backward(output_gradient, cache):
    normal, sigma, gain = cache
    d_normal = output_gradient * gain
    along = (d_normal * normal).mean(axis=-1, keepdims=True)
    d_x = (d_normal - d_normal.mean(axis=-1, keepdims=True) - normal * along) / sigma
    return d_x, (output_gradient * normal).sum(axis=0)


def sigma_constant(output_gradient, cache):
    """As if the standard deviation did not depend on x."""
    normal, sigma, gain = cache
    d_normal = output_gradient * gain
    d_x = (d_normal - d_normal.mean(axis=-1, keepdims=True)) / sigma
    return d_x, (output_gradient * normal).sum(axis=0)
