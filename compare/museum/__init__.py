"""Published bugs in gradients: each is detected, located and explained, and shown with the check that it passed.

Each module has one theme and its own `EXHIBITS`. The bugs are written in our own words and code, after the sources; no
line is copied.
"""

from compare.museum import (
    accumulation,
    indexing,
    libraries,
    normalization,
    optimizers,
    reductions,
    rms_norm,
    sequences,
    softmax,
)
from compare.museum.exhibit import Exhibit

MODULES = (reductions, softmax, normalization, rms_norm, indexing, accumulation, sequences, optimizers, libraries)

EXHIBITS: dict[str, Exhibit] = {name: exhibit for module in MODULES for name, exhibit in module.EXHIBITS.items()}

__all__ = ["EXHIBITS", "Exhibit"]
