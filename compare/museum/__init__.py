"""Gradient bugs that were really shipped: each caught, located and explained, beside the check that let it pass.

One module for each theme, with an `EXHIBITS` of its own. What is wrong is written here in our own words and code, after
what each source says; no line is theirs.
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
