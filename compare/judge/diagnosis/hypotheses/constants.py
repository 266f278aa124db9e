"""A number in the wrong place: a constant factor, a sign."""

from collections.abc import Iterator

import numpy as np

from compare.judge.diagnosis.evidence import Evidence
from compare.judge.reports.verdict import Diagnosis


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
    # How well these numbers tell a common factor, each to within what is allowed for it: a name must hold to that.
    telling = np.abs(e.right) / np.maximum(e.allowed, 1e-300)
    most = max(float(telling.max(initial=0)), 1e-300)
    tolerance = float(telling.sum()) / most / max(float(np.sum((telling / most) ** 2)), 1.0) / most
    for sign, prefix in ((1, ""), (-1, "-")):
        for name, value in candidates.items():
            if np.isclose(c, sign * value, rtol=np.clip(tolerance, 1e-12, 1e-3), atol=0):
                return prefix + name
    return None


def name_constant(c: float, slack: float, e: Evidence) -> str | None:
    """What an added constant is made of, by the sizes of the problem; none if rounding leaves many to choose from."""
    if slack > 1e-6 * c:
        return None
    constants = {"log(2 pi) / 2": np.log(2 * np.pi) / 2, "log 2": np.log(2), "1": 1.0, "1 / 2": 0.5}
    candidates = dict(constants)
    for size, n in sorted(e.sizes.items(), key=lambda item: len(item[0])):
        if n > 1:
            candidates |= {f"{name} times {size}": value * n for name, value in constants.items()} | {
                f"log({size})": np.log(n)
            }
    return next((name for name, value in candidates.items() if abs(c - value) <= slack), None)
