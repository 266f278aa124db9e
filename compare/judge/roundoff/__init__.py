"""The rounding tolerance of each entry of a result: the error model, perturbed runs, tolerances."""
