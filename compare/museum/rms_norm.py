"""RMS normalization and its gain, the weight that multiplies each feature and is 1 when training begins."""

import jax.numpy as jnp
import numpy as np

from compare.judge.evaluation.intermediates import tap
from compare.museum.exhibit import Exhibit, by_vjp
from compare.museum.workshop import passes, random, trainer

EPSILON = 1e-5


def rms_norm(x, weight):
    scale = 1 / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + EPSILON)
    return x * scale * weight, (x, scale, weight)


def rms_norm_in_jax(x, weight):
    squares = tap("squares", x**2)
    scale = 1 / jnp.sqrt(squares.mean(axis=-1, keepdims=True) + EPSILON)
    return tap("normalized", x * scale) * weight


def backward(
    *,
    dnormalized=lambda dy, weight: dy * weight,
    dsquares=lambda slope, x: np.broadcast_to(slope, x.shape),
    dweight=lambda dy, normalized: np.sum(dy * normalized, axis=0),
):
    """The backward pass of y = n w, n = x s, s = mean(x**2)**-0.5 for each row, with replaceable lines."""

    def pair(dy, cache):
        x, scale, weight = cache
        dn = dnormalized(dy, weight)
        slope = -0.5 * scale**3 * np.mean(dn * x, axis=-1, keepdims=True)  # the gradient of each square in a row
        dq = dsquares(slope, x)
        return dn * scale + 2 * x * dq, dweight(dy, x * scale), {"normalized": dn, "squares": dq}

    return pair


SOUND = backward()
judged = by_vjp(rms_norm, rms_norm_in_jax, random(4, 4), random(4))
train = trainer(rms_norm, weights=(np.ones(16),), rate=0.2)

WITHOUT_GAIN = Exhibit(
    title="The gradient of RMS norm's input lacks the gain",
    op="RMS norm",
    source="karpathy/llm.c, pull request 763, of a reviewer's own implementation",
    wrong="dn = dy;            dx = scale * (dn - n * mean(dn * n))",
    right="dn = dy * weight;   dx = scale * (dn - n * mean(dn * n))",
    unseen="The gain is 1 at the start, where a missing factor of 1 makes no difference. It took the author days to "
    "find the mistake.",
    lesson="Do not test at the initial parameters. Replace zeros and ones by random numbers, because they hide "
    "mistakes.",
    faulty=backward(dnormalized=lambda dy, weight: dy),
    sound=SOUND,
    judge=judged,
    train=train,
    check=lambda version: passes(version, rms_norm, (random(3, 5), np.ones(5)), cotangent=random(3, 5, seed=1)),
    checked="compares with finite differences, at the initial gain of 1",
)

ALONG_COLUMNS = Exhibit(
    title="RMS norm's correction for each row is applied to columns",
    op="RMS norm",
    source="BobMcDear/attorch #17",
    wrong="dx = scale * dn + 2 * x * slope          # slope: (rows,)",
    right="dx = scale * dn + 2 * x * slope[:, None]",
    unseen="If the two sizes of a block differ, the kernel does not compile, and this had been noticed. If they are "
    "equal, it runs and its result is wrong. No shape in the tests made them equal.",
    lesson="Keep the summed axis with keepdims=True. Test with sizes that differ and with sizes that are equal.",
    faulty=backward(dsquares=lambda slope, x: np.broadcast_to(slope.T, x.shape)),
    sound=SOUND,
    judge=judged,
    train=lambda version: trainer(rms_norm, weights=(np.ones(200),), shape=(200,), steps=40, rate=0.1)(version),
)


def after_32_steps(version):
    """Compares parameters after 32 steps of size 1e-4, with a tolerance of 5e-3, as tests of Liger-Kernel do.

    No parameter moves further than that tolerance.
    """

    def trained(backward):
        x, weight = random(6, 5), np.ones(5)
        for _ in range(32):
            y, cache = rms_norm(x, weight)
            dx, dweight, _ = backward(y - random(6, 5, seed=1), cache)
            x, weight = x - 1e-4 * np.sign(dx), weight - 1e-4 * np.sign(dweight)
        return x, weight

    return all(
        np.allclose(ours, right, rtol=0, atol=5e-3)
        for ours, right in zip(trained(version), trained(SOUND), strict=True)
    )


NO_WEIGHT_GRADIENT = Exhibit(
    title="RMS norm returns no gradient for its gain",
    op="RMS norm",
    source="unslothai/unsloth #4533, pull request 4550",
    wrong="return dx, None",
    right="return dx, sum(dy * n)",
    unseen="Users mostly trained adapters, with frozen norms. In full fine-tuning, the gains never changed.",
    lesson="Test that training changes every parameter. A frozen parameter costs so little accuracy that nobody "
    "notices.",
    faulty=backward(dweight=lambda dy, normalized: np.zeros(dy.shape[1])),
    sound=SOUND,
    judge=judged,
    train=train,
    check=after_32_steps,
    checked="compares parameters after 32 steps of training, with an absolute tolerance of 5e-3, as tests of "
    "Liger-Kernel do",
    typical=True,
)

EXHIBITS = {
    "rms-norm-without-gain": WITHOUT_GAIN,
    "rms-norm-along-columns": ALONG_COLUMNS,
    "rms-norm-frozen-gain": NO_WEIGHT_GRADIENT,
}
