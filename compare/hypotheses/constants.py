"""A number in the wrong place: a constant factor, a sign."""

from collections.abc import Iterator

import numpy as np

from compare.agreement import Diagnosis
from compare.evidence import Evidence


def constant_factor(e: Evidence) -> Iterator[Diagnosis]:
    """came = c right, for one number c. Zero is left to `zeros`."""
    weight = np.where(e.right != 0, 1 / np.maximum(e.allowed, 1e-300), 0)  # exact entries count most
    weight = weight / weight.max(initial=1e-300)
    bottom = float(np.sum((weight * e.right) ** 2))
    c = float(np.sum(weight**2 * e.came * e.right)) / bottom if bottom > 0 else 0.0
    if c == 0 or np.count_nonzero(e.right) < 1 or e.explains(e.right) or not e.explains(c * e.right, abs(c)):
        return
    if np.isclose(c, -1, rtol=1e-6):
        yield e.says("sign", "the sign is wrong: it is exactly minus what it should be.", -1.0)
        return
    named = name_factor(c, e)
    if e.right.size == 1 and named is None:
        return  # one number is always a multiple of another: only a known one is a cause
    known = f" ({c:.6g} = {named})" if named and named != f"{c:.6g}" else ""
    amount = f"{c:.10g}" if abs(c - 1) > 1e-6 else f"1 {'+' if c > 1 else '-'} {abs(c - 1):.3g}"
    yield e.says("factor", f"it is {amount} times what it should be{known}.", c)


def name_factor(c: float, e: Evidence) -> str | None:
    """What a factor is made of: a size of the problem, a small number, a scalar argument."""
    candidates: dict[str, float] = {}
    for name, n in sorted(e.sizes.items(), key=lambda item: len(item[0])):
        if n < 2:
            continue
        candidates |= {
            name: n,
            f"1 / {name}": 1 / n,
            f"n / (n - 1) for n = {name}": n / (n - 1),
            f"(n - 1) / n for n = {name}": (n - 1) / n,
            f"the square root of {name}": n**0.5,
            f"1 / the square root of {name}": n**-0.5,
            f"1 / {name} squared": n**-2.0,
        }
    for name, value in e.scalars.items():
        if value not in (0, 1):
            candidates |= {f"the argument {name}": value, f"1 / the argument {name}": 1 / value}
    candidates |= {
        "2": 2,
        "1 / 2": 0.5,
        "1 / 3": 1 / 3,
        "3": 3,
        "4": 4,
        "1 / 4": 0.25,
        "1 / log 2": 1 / np.log(2),
    }
    tolerance = max(1e-9, 8 * float(np.median(e.allowed / np.maximum(np.abs(e.right), 1e-300))) if e.right.size else 0)
    for sign, prefix in ((1, ""), (-1, "-")):
        for name, value in candidates.items():
            if np.isclose(c, sign * value, rtol=min(tolerance, 1e-3), atol=0):
                return prefix + name
    return None
