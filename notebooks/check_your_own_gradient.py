# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Check your own gradient
#
# You have derived a gradient by hand. Is it right, and if not, what is wrong with it? Change any cell and run it again;
# the last cell is for a function of your own. Everything here needs JAX, with which the judge computes, even if you
# write all functions in NumPy.

# %% [markdown]
# ## A function that returns its loss and its gradient
#
# Poisson regression: counts `y` with mean exp(x w + b), and the negative log-likelihood without its constant.
#
#     J = mean of  exp(z) - y z,  z = x w + b          dz = (exp(z) - y) / n
#
# There is a mistake in the gradient. Do you see it?

# %%
import numpy as np

from backproof import check_gradients

random = np.random.default_rng(0)
x = random.normal(size=(30, 4))
y = random.poisson(2.0, size=30).astype(float)
parameters = {"w": 0.3 * random.normal(size=4), "b": np.zeros(())}


def poisson(p, x, y):
    z = x @ p["w"] + p["b"]
    dz = (np.exp(z) - y) / len(y)
    return np.mean(np.exp(z) - y * z), {"w": x.T @ dz, "b": dz.mean()}


check_gradients(poisson, None, parameters, x, y)

# %% [markdown]
# `None` means that the reference is the function's own loss: its NumPy code is traced and differentiated. The report
# names the parameter and the factor: 1/30, which was applied twice. The gradient of a bias is a sum, and `dz` already
# has the factor 1/n.


# %%
def poisson(p, x, y):
    z = x @ p["w"] + p["b"]
    dz = (np.exp(z) - y) / len(y)
    return np.mean(np.exp(z) - y * z), {"w": x.T @ dz, "b": dz.sum()}


report = check_gradients(poisson, None, parameters, x, y)
report

# %% [markdown]
# The second line states the sensitivity: how small an error would still have been detected. A report is also an object:

# %%
print(report.verdict.name)
for row in report.rows:
    print(f"{row.path:5} {row.shape!s:5} {row.verdict.value}")

# %% [markdown]
# ## Against a separate loss in JAX
#
# A function's own loss cannot show that the loss itself is wrong. A second one can, written from the definition. In the
# next cell, the hand-written loss lacks its average.

# %%
import jax.numpy as jnp


def loss(p, x, y):
    z = x @ p["w"] + p["b"]
    return jnp.mean(jnp.exp(z) - y * z)


def unaveraged(p, x, y):
    value, gradients = poisson(p, x, y)
    return len(y) * value, gradients


check_gradients(unaveraged, loss, parameters, x, y)

# %% [markdown]
# ## A layer: forward and backward
#
# A layer has no loss. `check_vjp` takes the forward pass, which returns its value and a cache, and the backward pass,
# which takes the gradient of the value and that cache. The output gradient is random. An output gradient of ones would
# hide many errors, among them the one below.

# %%
from backproof import check_vjp


def standardize(x):
    scale = 1 / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
    y = (x - x.mean(axis=1, keepdims=True)) * scale
    return y, (y, scale)


def standardize_backward(dy, cache):
    _, scale = cache
    return scale * (dy - dy.mean(axis=1, keepdims=True))


def in_jax(x):
    return (x - x.mean(axis=1, keepdims=True)) / jnp.sqrt(x.var(axis=1, keepdims=True) + 1e-5)


values = random.normal(size=(5, 7))
check_vjp(standardize, standardize_backward, in_jax, values)

# %% [markdown]
# The mean is differentiated and the standard deviation is not, though it depends on `x` as well. With its term:


# %%
def standardize_backward(dy, cache):
    y, scale = cache
    return scale * (dy - dy.mean(axis=1, keepdims=True) - y * (dy * y).mean(axis=1, keepdims=True))


for dtype in (np.float64, np.float32):
    print(dtype.__name__, check_vjp(standardize, standardize_backward, in_jax, values.astype(dtype)).sentence)

# %% [markdown]
# No tolerance was chosen for either dtype. The judge measures the rounding error of each entry.
#
# ## In a test suite
#
# `assert_gradients_agree` and `assert_vjp_agrees` take the same arguments. They raise an AssertionError whose text is
# the report, also if the verdict is INCONCLUSIVE.

# %%
from backproof import GradientMismatch, assert_vjp_agrees

assert_vjp_agrees(standardize, standardize_backward, in_jax, values)
try:
    assert_vjp_agrees(standardize, lambda dy, cache: dy * cache[1], in_jax, values)
except GradientMismatch as error:
    print(error.report.sentence)

# %% [markdown]
# ## Your turn
#
# Replace this function by your own. It takes the parameters first (an array, or a dict of arrays) and returns the loss
# and the gradient. All else that it needs must be further arguments, not globals.


# %%
def mine(w, x, y):
    error = x @ w - y
    return np.sum(np.abs(error)), x.T @ np.sign(error)


print(check_gradients(mine, None, np.ones(4), x, y).sentence)

# %% [markdown]
# Next: [read a verdict and find the bug](../docs/tutorial-2-read-a-verdict.md), and
# [which check to call](../docs/doors.md): PyTorch, forward mode, second order, recordings from any
# language.
