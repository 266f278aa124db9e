"""The public names of `compare`, under the name of the project: `from backproof import check_gradients`.

`backproof.torch` has the checks of PyTorch code. PyTorch is loaded only when that module is imported.
"""

from typing import Any

import compare
from compare import __all__ as __all__


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(compare, name)


def __dir__() -> list[str]:
    return sorted(__all__)
