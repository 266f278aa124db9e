# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From the notebook to both ways
#
# This project began as a notebook: a network with one hidden layer, written from scratch in NumPy. Here it is again,
# cell by cell: first by hand, then by JAX, then both are compared by the judge. On the way you will see what was wrong
# in the original, and the consequences.
#
# The cells up to *By JAX* need NumPy and Matplotlib only. They are tested without JAX, so they should run in
# JupyterLite, in the browser, though that was not tried. The rest needs JAX and this project.

# %% [markdown]
# ## Data
#
# A disk and a ring around it, 200 points of the plane. Columns are examples, as in the original: `x` is (2, 200) and
# `y` is (1, 200).

# %%
import matplotlib.pyplot as plt
import numpy as np

random = np.random.default_rng(0)
m = 200
angle = random.uniform(0, 2 * np.pi, m)
y = (np.arange(m) % 2).reshape(1, m).astype(float)
distance = np.where(y[0] == 1, 2.0, 0.8) + 0.25 * random.normal(size=m)
x = np.stack([distance * np.cos(angle), distance * np.sin(angle)])
x.shape, y.shape

# %% [markdown]
# ## Forward
#
# Four lines, and the loss: binary cross-entropy, averaged over the examples.
#
#     Z1 = W1 x + b1      A1 = tanh(Z1)
#     Z2 = W2 A1 + b2     A2 = sigmoid(Z2)
#     J  = (1/m) sum of  -y log A2 - (1 - y) log(1 - A2)
#
# In the loss, log A2 and A2 = sigmoid(Z2) are combined. For one example this gives log(1 + exp(Z2)) - y Z2, and
# `logaddexp(0, Z2)` computes log(1 + exp(Z2)) without overflow.


# %%
def forward(parameters, x):
    Z1 = parameters["W1"] @ x + parameters["b1"]
    A1 = np.tanh(Z1)
    Z2 = parameters["W2"] @ A1 + parameters["b2"]
    return A1, Z2


def compute_loss(Z2, y):
    return np.mean(np.logaddexp(0, Z2) - y * Z2)


def initialize(hidden, scale=0.5, seed=0):
    random = np.random.default_rng(seed)
    return {
        "W1": scale * random.normal(size=(hidden, 2)),
        "b1": np.zeros((hidden, 1)),
        "W2": scale * random.normal(size=(1, hidden)),
        "b2": np.zeros((1, 1)),
    }


parameters = initialize(8)
A1, Z2 = forward(parameters, x)
print(f"The loss of the untrained network: {compute_loss(Z2, y):.4f}. Guessing gives log 2 = {np.log(2):.4f}.")

# %% [markdown]
# ## Backward, by hand
#
# From the loss back to the parameters. `dQ` is the derivative of the loss with respect to `Q`.
#
#     J as a function of Z2    dZ2 = (A2 - y) / m
#     Z2 = W2 A1 + b2          dW2 = dZ2 A1^T     db2 = dZ2 summed over examples     dA1 = W2^T dZ2
#     A1 = tanh(Z1)            dZ1 = dA1 (1 - A1^2)
#     Z1 = W1 x + b1           dW1 = dZ1 x^T      db1 = dZ1 summed over examples


# %%
def sigmoid(z):
    t = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, t) / (1 + t)


def by_hand(parameters, x, y):
    A1, Z2 = forward(parameters, x)
    dZ2 = (sigmoid(Z2) - y) / x.shape[1]
    dA1 = parameters["W2"].T @ dZ2
    dZ1 = dA1 * (1 - A1**2)
    gradients = {
        "W1": dZ1 @ x.T,
        "b1": dZ1.sum(axis=1, keepdims=True),
        "W2": dZ2 @ A1.T,
        "b2": dZ2.sum(axis=1, keepdims=True),
    }
    return compute_loss(Z2, y), gradients, {"Z2": dZ2, "A1": dA1, "Z1": dZ1}


loss, gradients, intermediates = by_hand(parameters, x, y)
print({name: gradient.shape for name, gradient in gradients.items()})

# %% [markdown]
# Is it right? The classic test moves one parameter by a small step and computes the change of the loss. It costs two
# forward passes for each parameter, and is accurate to some six digits.

# %%
step = 1e-6
for name in parameters:
    moved = [{**parameters, name: parameters[name].copy()} for _ in range(2)]
    moved[0][name][0, 0] += step
    moved[1][name][0, 0] -= step
    up, down = (compute_loss(forward(p, x)[1], y) for p in moved)
    print(f"{name}[0, 0]: by hand {gradients[name][0, 0]:+.6f}, by differences {(up - down) / (2 * step):+.6f}")

# %% [markdown]
# ## Train, and look
#
# Gradient descent: every parameter takes a small step against its gradient, 500 times.


# %%
def train(parameters, steps=500, rate=1.0):
    losses = []
    for _ in range(steps):
        loss, gradients, _ = by_hand(parameters, x, y)
        parameters = {name: value - rate * gradients[name] for name, value in parameters.items()}
        losses.append(loss)
    return parameters, losses


trained, losses = train(parameters)
right = np.mean((forward(trained, x)[1] > 0) == (y == 1))
print(f"loss: {losses[0]:.3f} at the start, {losses[100]:.3f} after 100 steps, {losses[-1]:.3f} at the end")
print(f"accuracy: {right:.1%} of the points")

# %% mystnb={"image": {"alt": "Left: the loss falls from 0.7 to 0.05. Right: a ring between the two classes."}}
figure, (left, plane) = plt.subplots(1, 2, figsize=(7, 3), dpi=80, layout="constrained")
left.plot(losses)
left.set(xlabel="step", ylabel="loss", ylim=(0, None))
grid = np.linspace(-3, 3, 60)
points = np.stack([a.ravel() for a in np.meshgrid(grid, grid)])
plane.contour(grid, grid, forward(trained, points)[1].reshape(60, 60), levels=[0], colors="black")
for label, marker in ((0, "o"), (1, "x")):
    plane.scatter(*x[:, y[0] == label], s=12, marker=marker, label=f"class {label}")
plane.set(aspect="equal")
plane.legend(loc="upper right", fontsize="small")
plt.show()

# %% [markdown]
# ## What was wrong in the original
#
# Its derivatives were right. Other parts were not; [all of them](../docs/notebook.md) have tests. Four of them:
#
# **The minus sign.** The loss was `1/m * sum(y log A2 + (1 - y) log(1 - A2))`. That is minus the cross-entropy: it
# *rises* towards 0 as the network learns. The gradients were those of the cross-entropy, so training worked, and the
# error does not show in the predictions.

# %%
A2, label = np.array([0.9, 0.2]), np.array([1.0, 0.0])
print(f"as written: {np.mean(label * np.log(A2) + (1 - label) * np.log(1 - A2)):.4f}")
print(f"the loss:   {compute_loss(np.log(A2 / (1 - A2)), label):.4f}")

# %% [markdown]
# **Overflow.** Its tanh was written with `exp(z)`, which is infinite from 710 on, and infinity divided by infinity is
# NaN. Unscaled data reach such values in one step.

# %%
z = np.array([1.0, 710.0])
with np.errstate(all="ignore"):
    print("as written:", (np.exp(z) - np.exp(-z)) / (np.exp(z) + np.exp(-z)))
print("np.tanh:   ", np.tanh(z))

# %% [markdown]
# **The logarithm of zero.** From Z2 = 37 on, the sigmoid rounds to 1, and `log(1 - A2)` is minus infinity.

# %%
Z = np.array([30.0, 37.0])
with np.errstate(all="ignore"):
    print("as written:", -np.log(1 - 1 / (1 + np.exp(-Z))))
print("logaddexp: ", np.logaddexp(0, Z))

# %% [markdown]
# **Tiny weights.** Their standard deviation was 0.001. If the data are symmetric around zero, as ours nearly are, the
# network then stays close to a saddle point, here for some 200 steps.

# %% mystnb={"image": {"alt": "With weights of 0.5 the loss falls at once; with 0.001 it first stays at 0.69."}}
figure, axes = plt.subplots(figsize=(5, 2.6), dpi=80, layout="constrained")
for scale, style in ((0.5, "-"), (0.001, "--")):
    axes.plot(train(initialize(8, scale=scale))[1], style, label=f"scale {scale}")
axes.set(xlabel="step", ylabel="loss", ylim=(0, None))
axes.legend()
plt.show()

# %% [markdown]
# ## By JAX
#
# The same network without a hand-written derivative: JAX derives it from the loss. `tap` names intermediate values, so
# that the judge can say where an error begins; it does not change them. (JAX computes in 32 bits by default.)

# %% tags=["jax"]
import jax
import jax.numpy as jnp

from backproof import check_gradients, check_trajectory, tap


def loss_by_jax(parameters, x, y):
    Z1 = tap("Z1", parameters["W1"] @ x + parameters["b1"])
    A1 = tap("A1", jnp.tanh(Z1))
    Z2 = tap("Z2", parameters["W2"] @ A1 + parameters["b2"])
    return jnp.mean(jnp.logaddexp(0, Z2) - y * Z2)


with jax.enable_x64(True):
    by_jax = jax.grad(loss_by_jax)(parameters, x, y)
print("first entries of W1's gradient")
print("by hand:", gradients["W1"][:2, 0].round(6))
print("by JAX: ", np.asarray(by_jax["W1"])[:2, 0].round(6))

# %% [markdown]
# ## Judged
#
# They look alike. Are they equal in every entry, up to rounding? The judge measures the rounding error of each entry,
# here and at other points, and compares.

# %% tags=["jax"]
check_gradients(by_hand, loss_by_jax, parameters, x, y)

# %% [markdown]
# Now with a common mistake: the derivative of tanh is computed from Z1 instead of A1.


# %% tags=["jax"]
def with_a_mistake(parameters, x, y):
    loss, gradients, intermediates = by_hand(parameters, x, y)
    Z1 = parameters["W1"] @ x + parameters["b1"]
    dZ1 = intermediates["A1"] * (1 - Z1**2)
    gradients |= {"W1": dZ1 @ x.T, "b1": dZ1.sum(axis=1, keepdims=True)}
    return loss, gradients, intermediates | {"Z1": dZ1}


check_gradients(with_a_mistake, loss_by_jax, parameters, x, y)

# %% [markdown]
# The first line names the place and the cause. The wrong side was found by finite differences of the loss, which use
# neither derivative.
#
# ## Trained both ways
#
# Finally, training. Two runs drift apart by rounding alone, so each step is also compared separately, from the same
# parameters.

# %% tags=["jax"]
rate, steps = 1.0, 30


def step_by_hand(parameters, x, y):
    _, gradients, _ = by_hand(parameters, x, y)
    return {name: value - rate * gradients[name] for name, value in parameters.items()}


@jax.jit
def step_by_jax(parameters, x, y):
    return jax.tree.map(lambda value, g: value - rate * g, parameters, jax.grad(loss_by_jax)(parameters, x, y))


check_trajectory(step_by_hand, step_by_jax, parameters, [(x, y)] * steps)

# %% [markdown]
# `manual.shallow` and `autodiff.shallow` are this network with checked inputs, any number of outputs and any floating
# dtype. `backproof verify` trains both on real data and compares them as above; `backproof lesson` goes through the
# derivation step by step.
