# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Forward, reverse, second order
#
# One network, differentiated by hand in three ways: forward along a direction, backward to all parameters, and both
# together, which gives second derivatives. Then the judge checks all three.
#
# The cells up to *Judged* need NumPy, Matplotlib, jaxtyping and the folder `manual` of this project. They are tested
# without JAX, so they should run in JupyterLite with that folder beside the notebook, though that was not tried. The
# rest needs JAX and this project.

# %% [markdown]
# ## The network
#
# One hidden layer of tanh, sigmoid output, binary cross-entropy. `manual.shallow` has every derivative on one page.

# %%
import matplotlib.pyplot as plt
import numpy as np

from manual import newton, shallow

random = np.random.default_rng(1)
x = random.normal(size=(2, 100))
y = (x[0] * x[1] > 0).astype(float).reshape(1, -1)  # not separable by a line
parameters = shallow.initialize_parameters(2, 6, 1, seed=0, scale=0.5)
count = sum(value.size for value in parameters.values())
print(f"{count} parameters, loss {shallow.loss_and_gradients(parameters, x, y)[0]:.4f}")

# %% [markdown]
# ## Reverse: one pass for all parameters
#
# Backpropagation starts at the loss, one number, and goes back. It costs about two forward passes, however many
# parameters there are.

# %%
loss, gradients = shallow.loss_and_gradients(parameters, x, y)
print({name: gradient.shape for name, gradient in gradients.items()})

# %% [markdown]
# ## Forward: one pass for one direction
#
# Forward mode starts at the parameters. As they move along a vector, every line of the forward pass has a derivative:
#
#     RZ1 = RW1 x + Rb1                      RA1 = (1 - A1^2) RZ1
#     RZ2 = RW2 A1 + W2 RA1 + Rb2            RJ  = sum of dJ/dZ2 RZ2
#
# R is the derivative along the vector. One pass gives one number: how fast the loss changes in this direction.

# %%
vector = {name: random.normal(size=value.shape) for name, value in parameters.items()}
_, along = shallow.jvp(parameters, vector, x, y)
product = sum(np.sum(gradients[name] * vector[name]) for name in vector)
print(f"forward: {along:.12f}")
print(f"reverse: {product:.12f}   the gradient times the vector")

# %% [markdown]
# To compute the whole gradient, forward mode needs one pass for each parameter, along each axis in turn.


# %%
def axis(name, index):
    return {key: np.zeros_like(value) for key, value in parameters.items()} | {name: one_at(parameters[name], index)}


def one_at(like, index):
    result = np.zeros_like(like)
    result[index] = 1
    return result


by_forward_mode = {
    name: np.array([shallow.jvp(parameters, axis(name, i), x, y)[1] for i in np.ndindex(value.shape)]).reshape(
        value.shape
    )
    for name, value in parameters.items()
}
same = all(np.allclose(by_forward_mode[name], gradients[name], rtol=1e-12, atol=1e-15) for name in gradients)
print(f"{count} forward passes against 1 backward pass; the same gradient: {same}")

# %% [markdown]
# That is why networks are trained by reverse mode: a loss has one output and many inputs. A function with few inputs
# and many outputs is better served by forward mode.
#
# ## Second order: forward over reverse
#
# Differentiate every line of the backward pass along the vector. The result is R of the gradient, which is the Hessian
# times the vector, at the cost of about two gradients. The Hessian itself is not formed.
#
#     dW2 = dZ2 A1^T        RdW2 = RdZ2 A1^T + dZ2 RA1^T            a product has two terms
#     dZ1 = dA1 (1 - A1^2)  RdZ1 = RdA1 (1 - A1^2) - 2 dA1 A1 RA1   and tanh has a second derivative
#
# Finite differences of the gradient give the same, to some digits:

# %%
Hv = shallow.hessian_vector_product(parameters, vector, x, y)


def gradient_at(r):
    moved = {name: value + r * vector[name] for name, value in parameters.items()}
    return shallow.loss_and_gradients(moved, x, y)[1]


step = 1e-5
up, down = gradient_at(step), gradient_at(-step)
for name in parameters:
    difference = (up[name] - down[name]) / (2 * step)
    print(f"{name}: {Hv[name].ravel()[0]:+.7f} by hand, {difference.ravel()[0]:+.7f} by differences")

# %% [markdown]
# ## What it is good for
#
# Newton's method approximates the loss by a quadratic function and goes to its minimum. It needs the Hessian only in
# products with vectors. The plot compares it with gradient descent; a step of Newton's method costs more, because it
# computes several products.

# %%
steps = 40
descent = shallow.train(parameters, x, y, iterations=steps, learning_rate=1.0)[1]
losses, p, radius, products = [], parameters, 1.0, 0
for _ in range(steps):
    losses.append(shallow.loss_and_gradients(p, x, y)[0])
    p, radius, _, used = newton.newton_step(
        shallow.loss_and_gradients, shallow.hessian_vector_product, p, (x, y), radius=radius
    )
    products += used
print(f"after {steps} steps: gradient descent {descent[-1]:.3f}, Newton {losses[-1]:.3f}")

# %% mystnb={"image": {"alt": "Over 40 steps, the loss of Newton's method falls far below gradient descent."}}
figure, axes = plt.subplots(figsize=(5, 2.6), dpi=80, layout="constrained")
axes.semilogy(descent, label="gradient descent")
axes.semilogy(losses, "--", label="Newton's method")
axes.set(xlabel="step", ylabel="loss")
axes.legend()
plt.show()

# %% [markdown]
# ## Judged
#
# The loss in JAX, and three checks: of the gradient, the derivative along a vector, and the product with the Hessian.

# %% tags=["jax"]
import jax.numpy as jnp

from backproof import check_gradients, check_hvp, check_jvp


def loss_by_jax(p, x, y):
    Z2 = p["W2"] @ jnp.tanh(p["W1"] @ x + p["b1"]) + p["b2"]
    return jnp.sum(jnp.logaddexp(0, Z2) - y * Z2) / x.shape[1]


def named(W1, b1, W2, b2):
    return {"W1": W1, "b1": b1, "W2": W2, "b2": b2}


def along_by_hand(primals, tangents):
    return shallow.jvp(named(*primals), named(*tangents), x, y)


print(check_gradients(shallow.loss_and_gradients, loss_by_jax, parameters, x, y).sentence)
print(check_jvp(along_by_hand, lambda *p: loss_by_jax(named(*p), x, y), *parameters.values()).sentence)
print(check_hvp(shallow.hessian_vector_product, loss_by_jax, parameters, x, y).sentence)

# %% [markdown]
# The next product lacks the second derivative of tanh: its derivative, 1 - A1^2, was taken for a constant.


# %% tags=["jax"]
def without_curvature(p, v, x, y):
    m, W2, A2 = x.shape[1], p["W2"], shallow.forward_propagation(x, p)[0]
    A1 = np.tanh(p["W1"] @ x + p["b1"])
    RA1 = (1 - A1**2) * (v["W1"] @ x + v["b1"])
    RdZ2 = A2 * (1 - A2) * (v["W2"] @ A1 + W2 @ RA1 + v["b2"]) / m
    dZ2 = (A2 - y) / m
    RdZ1 = (W2.T @ RdZ2 + v["W2"].T @ dZ2) * (1 - A1**2)  # - 2 dA1 A1 RA1 is missing
    sums = {"b1": RdZ1.sum(axis=1, keepdims=True), "b2": RdZ2.sum(axis=1, keepdims=True)}
    return {"W1": RdZ1 @ x.T, "W2": RdZ2 @ A1.T + dZ2 @ RA1.T, **sums}


check_hvp(without_curvature, loss_by_jax, parameters, x, y)

# %% [markdown]
# W2 and b2 agree, and W1 and b1 do not: the error lies between them, in the derivative of tanh.
