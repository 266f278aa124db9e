"""Attention heads and time steps: indices and counts that are confused."""

import jax
import jax.numpy as jnp
import numpy as np

from compare.museum.exhibit import Exhibit, by_vjp
from compare.museum.workshop import descend, random

# -------------------------------------------------------------------------------- heads-misassigned

HEADS, KEY_HEADS = 6, 3  # The query heads h and h + 3 share the key head h.


def scores(q, k):
    """The scores of query head h with key head h mod KEY_HEADS. Both arrays are (heads, time, features)."""
    return np.einsum("htd,hsd->hts", q, k[np.arange(HEADS) % KEY_HEADS]), (q, k)


def scores_in_jax(q, k):
    return jnp.einsum("htd,hsd->hts", q, k[np.arange(HEADS) % KEY_HEADS])


def scores_backward(key_head):
    def backward(dy, cache):
        q, k = cache
        dq = np.einsum("hts,hsd->htd", dy, k[np.arange(HEADS) % KEY_HEADS])
        dk = np.zeros_like(k)
        np.add.at(dk, key_head(np.arange(HEADS)), np.einsum("hts,htd->hsd", dy, q))
        return dq, dk

    return backward


def train_scores(version, steps=60):
    """Fit queries and keys to the scores of other queries and keys."""
    target, _ = scores(random(6, 2, 4, seed=1), random(3, 2, 4, seed=1))

    def loss_and_gradients(p):
        value, cache = scores(p["q"], p["k"])
        dq, dk = version((value - target) / 10, cache)
        return np.mean((value - target) ** 2), {"q": dq, "k": dk}

    return descend(loss_and_gradients, {"q": random(6, 2, 4), "k": random(3, 2, 4)}, [()] * steps, 0.3)


MISASSIGNED = Exhibit(
    title="Grouped attention: the backward pass assigns query heads to the wrong key heads",
    op="attention",
    source="XunhaoLai/native-sparse-attention-triton #27",
    wrong="key_head = head % queries_per_key",
    right="key_head = head % key_heads",
    unseen="If there are as many key heads as query heads per key head, the two counts are equal. (The project's "
    "kernel did not write the gradients of the other key heads; here they are zero.)",
    lesson="Give every size in a test a different value. Add a second test with equal sizes.",
    faulty=scores_backward(lambda head: head % (HEADS // KEY_HEADS)),
    sound=scores_backward(lambda head: head % KEY_HEADS),
    judge=by_vjp(scores, scores_in_jax, random(6, 2, 4), random(3, 2, 4)),
    train=train_scores,
)

# --------------------------------------------------------------------------- averaged-over-time

TIME = 40


def running(x, u, w):
    """h_t = tanh(u x_t + w h_(t-1)), beginning with h = 0, for x (time, units). Returns all h_t."""
    h = [np.zeros_like(x[0])]
    for x_t in x:
        h.append(np.tanh(u * x_t + w * h[-1]))
    return np.stack(h[1:]), (x, u, w, h)


def running_in_jax(x, u, w):
    def step(h, x_t):
        h = jnp.tanh(u * x_t + w * h)
        return h, h

    return jax.lax.scan(step, jnp.zeros_like(x[0]), x)[1]


def through_time(average):
    def backward(dh, cache):
        x, u, w, h = cache
        dx, du, dw, carried = np.zeros_like(x), np.zeros_like(x[0]), np.zeros_like(w), np.zeros_like(x[0])
        for t in reversed(range(len(x))):
            dz = (dh[t] + carried) * (1 - h[t + 1] ** 2)
            du, dw = du + dz * x[t], dw + dz * h[t]
            dx[t], carried = dz * u, dz * w
        return (dx, du / len(x), dw / len(x)) if average else (dx, du, dw)

    return backward


U, W = random(3), 0.5 * random(3, seed=1)


def train_running(version, steps=60):
    """Fit the weights of three recurrent units to those of three others."""
    x = random(TIME, 3)
    target, _ = running(x, 1.0 + U, 0.5 * W)

    def loss_and_gradients(p):
        value, cache = running(x, p["u"], p["w"])
        _, du, dw = version((value - target) / 40, cache)
        return np.mean((value - target) ** 2), {"u": du, "w": dw}

    return descend(loss_and_gradients, {"u": U, "w": W}, [()] * steps, 0.5)


AVERAGED_OVER_TIME = Exhibit(
    title="The gradient of a recurrent weight is averaged over time, but the loss is summed",
    op="recurrence",
    source="datascience.stackexchange.com, question 30850",
    wrong="dw = mean over t of dz_t * h_(t-1)",
    right="dw = sum over t of dz_t * h_(t-1)",
    unseen="A numerical check did show the mistake: the ratio of the two gradients was about 39. The author asked "
    "whether floating-point precision could explain it.",
    lesson="The size of rounding errors can be measured. A factor of 39 is never a rounding error.",
    faulty=through_time(average=True),
    sound=through_time(average=False),
    judge=by_vjp(running, running_in_jax, random(TIME, 3), U, W),
    train=train_running,
)

EXHIBITS = {"heads-misassigned": MISASSIGNED, "averaged-over-time": AVERAGED_OVER_TIME}
