"""What was allowed at one step of training does not excuse what comes after it at another scale."""

import jax.numpy as jnp
import numpy as np
import pytest

from compare import Verdict, check_trajectory


def steps(wrong):
    """Least squares, with the loss in the state, which is `wrong` times itself from the second step on."""

    def by_hand(p, s, x, y):
        r = x @ p - y
        factor = np.float32(wrong if s["t"] else 1)
        return p - np.float32(1e-4) * (x.T @ r), {"t": s["t"] + np.int32(1), "cost": factor * np.mean(r * r)}

    def by_jax(p, s, x, y):
        r = x @ p - y
        return p - 1e-4 * (x.T @ r), {"t": s["t"] + 1, "cost": jnp.mean(r**2)}

    return by_hand, by_jax


@pytest.mark.parametrize("scale", [1, 10, 1000, 1e5])
@pytest.mark.parametrize("wrong", [1, 1.01])
def test_an_outlier_does_not_excuse_what_follows(scale, wrong):
    random = np.random.default_rng(0)
    x, w = random.standard_normal((40, 5)).astype("f"), random.standard_normal(5).astype("f")
    y = (x @ w + 0.1 * random.standard_normal(40)).astype("f")
    batches = [(x, np.float32(scale) * y)] + [(x, y)] * 20
    state = {"t": np.int32(0), "cost": np.float32(0)}
    report = check_trajectory(*steps(wrong), np.zeros(5, "f"), batches, state=state, free=False)
    assert report.verdict is (Verdict.AGREE if wrong == 1 else Verdict.DISAGREE)
    assert (report.wrong_step, report.first_wrong) == ((None, None) if wrong == 1 else (2, "state.cost"))
