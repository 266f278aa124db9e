"""Elementwise factors and added terms, and quantities computed from others than they should be."""

from collections.abc import Iterator

import numpy as np

from compare.agreement import Diagnosis
from compare.evidence import SLACK, Evidence


def elementwise_factor(e: Evidence) -> Iterator[Diagnosis]:
    """An elementwise factor that is missing, stands twice, or is another than it should be."""
    same = {name: f for name, f in e.factors.items() if f.shape == e.right.shape and np.ptp(f) > 0}
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for name, f in same.items():
            if e.explains(e.right * f):
                yield e.says("extra-factor", f"it is multiplied by {name} once too often.")
                return
        for name, f in same.items():
            if _explains_quotient(e, f, np.ones_like(f)):
                yield e.says("missing-factor", f"the factor {name} is missing.")
                return
        for name, f in same.items():
            for other, g in same.items():
                if other != name and _explains_quotient(e, f, g):
                    yield e.says("wrong-factor", f"the factor is {other} where {name} belongs.")
                    return


def _explains_quotient(e: Evidence, f: np.ndarray, g: np.ndarray) -> bool:
    """came = right g / f, checked as came f = right g so that zeros of f do no harm."""
    allowed = SLACK * (e.allowed * (np.abs(g) + 1) + 1e-14 * np.abs(e.came * f))
    telling = np.abs(f) > 1e-3
    return bool((np.abs(e.came * f - e.right * g) <= allowed).all()) and bool(e.wrong[telling].any())


def weight_decay(e: Evidence) -> Iterator[Diagnosis]:
    p = e.parameter
    if p is None or not p.any() or p.shape != e.right.shape or p.size < 2:
        return
    extra = e.came - e.right
    decay = float(np.vdot(p, extra) / np.vdot(p, p))
    if decay and e.explains(e.right + decay * p):
        yield e.says("weight-decay", f"{decay:.6g} times the parameter is added to it: weight decay.", decay)


def otherwise(e: Evidence) -> Iterator[Diagnosis]:
    """It is right for something that came before it in another form."""
    for (kind, message), value in e.alternatives.items():
        if e.explains(value):
            yield e.says(kind, message)
            return
