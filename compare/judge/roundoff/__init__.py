"""How far rounding may move every entry of a result: the error model, perturbed runs, tolerances."""
