"""The checks of PyTorch code, under the project's own name: `from backproof.torch import check_function`."""

from compare.torch import assert_function_agrees, check_function

__all__ = ["assert_function_agrees", "check_function"]
