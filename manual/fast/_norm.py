"""The global norm of a tree of gradients, and the scaling of a tree."""

import math
from typing import Any

import numpy as np

from manual.fast._blocks import in_blocks


def norm(gradients: Any) -> float:
    """The global norm. Entries of a block are divided by the largest one, so that no square overflows or underflows."""
    found: list[tuple[float, float]] = []  # for each block: the largest |g|, and the sum of (g / largest)^2

    def measure(g: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
        largest = float(np.max(np.abs(g, out=a)))
        if 0 < largest < math.inf:
            np.divide(g, largest, out=a)
            found.append((largest, float(np.sum(np.square(a, out=a), dtype=np.promote_types(a.dtype, np.float32)))))
        elif largest != 0:
            found.append((largest, 1.0))

    in_blocks(measure, {}, {"gradients": gradients})
    largest = float(np.max([block[0] for block in found], initial=0.0))
    if not 0 < largest < math.inf:
        return largest
    # fsum is exact, so the result does not depend on the order in which threads finish.
    return largest * math.sqrt(math.fsum(total * (size / largest) ** 2 for size, total in found))


def scaled(gradients: Any, factor: float) -> Any:
    """factor g in new memory, multiplied in a dtype in which the factor is not subnormal."""
    least = np.float32 if factor >= np.finfo(np.float32).tiny else np.float64

    def formula(g: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
        if factor != 1:
            g *= np.promote_types(g.dtype, least).type(factor)

    return in_blocks(formula, {"gradients": gradients})[0]
