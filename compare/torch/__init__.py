"""Derivatives in PyTorch against PyTorch's own: kernels, modules and custom operators beside an eager reference.

The reference is run in float64 and differentiated by autograd. How far two correct computations may be apart is
measured as elsewhere in this project: the reference is run again with every operation's result moved by what its
rounding may be, in the dtype of the tensors, here by a dispatch mode. The report is that of the other checks.

    functions.py      the door
         |
    layouts.py  second_order.py  forward_mode.py   what only other layouts, the second derivative and forward mode show
         |
    said.py           the report, the causes, another point
         |
    point.py          both sides at one point
         |
    pair.py  rounding.py   both functions, and how each is run; every operation's result moved

Needs PyTorch (`pip install 'backproof[torch]'`), which nothing else of this project imports.
"""

from compare.torch.functions import assert_function_agrees, check_function

__all__ = ["assert_function_agrees", "check_function"]
