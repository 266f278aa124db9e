# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Sixteen bits
#
# Networks are trained in bfloat16 and float16. In these dtypes, two correct gradients may differ by percents, and a
# wrong one may look like rounding. How can a check tell them apart?
#
# The cells up to *A kernel* need NumPy only. They are tested without JAX, so they should run in JupyterLite, in the
# browser, though that was not tried. The rest needs JAX and this project.

# %% [markdown]
# ## The numbers
#
# float16 has 11 significant bits: the relative distance of neighbors is between 1/2,048 and 1/1,024. bfloat16 has 8,
# and the distance is between 1/256 and 1/128. Between 2,048 and 4,096, float16 has only the even numbers.

# %%
import numpy as np

for n in (2046, 2047, 2048, 2049, 2050, 2051):
    print(n, "->", int(np.float16(n)))

# %% [markdown]
# So a sum of ones that is computed term by term stops growing: 2048 + 1 is 2048.

# %%
total = np.float16(0)
for _ in range(3000):
    total += np.float16(1)
print("3000 ones, one after the other in float16:", int(total))
print(
    "summed in float32, rounded once:          ",
    int(np.ones(3000, np.float16).sum(dtype=np.float32).astype(np.float16)),
)

# %% [markdown]
# This is why kernels take and return 16 bits, but compute their sums in float32. Then only loading and storing round,
# and the error of an entry is half a unit in its last place, which is easy to distinguish from a mistake. But
# intermediate values that a kernel stores in 16 bits are rounded as well, and each of their errors affects many entries
# of the result.

# %%
random = np.random.default_rng(0)
x, W, dy = (random.normal(size=shape).astype(np.float16) for shape in ((64, 48), (48, 32), (64, 32)))
exact = x.astype(np.float64).T @ dy.astype(np.float64)
in_float32 = (x.astype(np.float32).T @ dy.astype(np.float32)).astype(np.float16)
one_by_one = np.zeros_like(in_float32)
for row, gradient in zip(x, dy, strict=True):
    one_by_one += np.outer(row, gradient)


def worst(result):
    return np.max(np.abs(result.astype(np.float64) - exact)) / np.sqrt(np.mean(exact**2))


print(f"largest error in dW, in units of its typical entry: {worst(in_float32):.4f} with sums in float32")
print(f"                                                    {worst(one_by_one):.4f} with sums in float16")

# %% [markdown]
# ## A kernel
#
# A dense layer in bfloat16, with sums in float32, as a backward pass for `check_vjp`. The reference is one line of JAX.

# %% tags=["jax"]
import ml_dtypes

from backproof import check_gradients, check_vjp

inputs = tuple(array.astype(ml_dtypes.bfloat16) for array in (x, W))


def dense(x, W):
    y = x.astype(np.float32) @ W.astype(np.float32)
    return y.astype(x.dtype), (x, W)


def dense_backward(dy, cache):
    x, W = cache
    wide = dy.astype(np.float32)
    return (wide @ W.astype(np.float32).T).astype(x.dtype), (x.astype(np.float32).T @ wide).astype(x.dtype)


def in_jax(x, W):
    return x @ W


check_vjp(dense, dense_backward, in_jax, *inputs)

# %% [markdown]
# The second line states the sensitivity: in bfloat16, a factor that is hardly larger than the distance of neighbors
# would have been detected. How is this possible if each entry may be off by half that distance? Every array is also
# judged as a whole: rounding errors have random directions, and a factor moves all entries in the same direction.


# %% tags=["jax"]
def scaled(dy, cache):
    dx, dW = dense_backward(dy, cache)
    return dx, (1.02 * dW.astype(np.float32)).astype(dW.dtype)


check_vjp(dense, scaled, in_jax, *inputs)

# %% [markdown]
# ## A sum that stops growing
#
# The gradient of a bias is a sum over all rows. Computed in bfloat16, it stops at 256, where 1,600 is right. In float32
# the same code is right: the error is in the arithmetic, not in the derivation.


# %% tags=["jax"]
def shifted(b, x):
    total = np.zeros_like(b)
    for _ in x:
        total = total + np.ones_like(b)
    return (b + x).astype(np.float32).sum().astype(b.dtype), total


b, rows = np.ones(2, ml_dtypes.bfloat16), np.zeros((1600, 2), ml_dtypes.bfloat16)
report = check_gradients(shifted, lambda b, x: (b + x).sum(), b, rows)
report

# %% [markdown]
# If sums in 16 bits are intended, declare it with `accumulate=`. Then this sum is accepted.
#
# [The judge](../docs/judge.md), under *16 bits*, has measurements of hundreds of right and wrong kernels, compared with
# the rules of other projects.
