"""Published bugs in gradients. The judge detects, locates and explains each of them.

Each bug is shown with its correction, with a small training run, and with a check that did not detect it. Each module
has one theme and its own `EXHIBITS`. The code was written for this project after the sources; no line is copied.
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
