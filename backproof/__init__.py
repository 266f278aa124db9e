"""The public names of `compare`, under the name of the project: `from backproof import check_gradients`.

`backproof.torch` has the checks of PyTorch code. PyTorch is loaded only when that module is imported.
"""

from typing import Any

import compare

if "check_gradients" not in getattr(compare, "__all__", ()):  # a file of this name beside a script hides the package
    raise ImportError(
        f"backproof needs its own package 'compare', but Python found {getattr(compare, '__file__', None)} first: give "
        "that file another name."
    )

from compare import __all__ as __all__


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(compare, name)


def __dir__() -> list[str]:
    return sorted(__all__)
