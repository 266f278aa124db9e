"""Compares derivatives of kernels, modules and custom operators in PyTorch with those of an eager reference.

The reference is evaluated in float64 and differentiated by autograd. The rounding tolerance is measured as in the other
checks: the reference is evaluated again, and a dispatch mode perturbs the result of each operation by its rounding
error in the dtype of the tensors. The result is a report as in the other checks.

    functions.py      check_function
         |
    side_effects.py  layouts.py  second_order.py  forward_mode.py   random results, other memory
         |                                                        layouts, double backward, forward mode
         |
    reports.py        the report of a point, the causes, a perturbed point
         |
    point.py          both sides evaluated and compared at one point
         |
    pair.py  rounding.py   both functions and how they are called; perturbed evaluation

It needs PyTorch (`.venv/bin/pip install -e '.[torch]'`), which no other part of this project imports.
"""

from compare.torch.functions import assert_function_agrees, check_function

__all__ = ["assert_function_agrees", "check_function"]
