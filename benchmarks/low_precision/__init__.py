"""Kernels in 16 bits, right and wrong, under our judge and under the rules by which such kernels are tested elsewhere.

    python -m benchmarks.low_precision [--seeds N] [--json PATH]

`kernels` holds forward and backward passes as accelerators run them, and the functions of JAX that they are held to;
`peers` the rules of others; `score` counts.
"""
