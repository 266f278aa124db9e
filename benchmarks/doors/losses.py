"""Cases of loss=None: gradients of SciPy, scikit-learn and HIPS autograd, compared with their own losses only."""

# pyright: basic, reportMissingImports=false, reportCallIssue=false, reportArgumentType=false

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.optimize

from benchmarks.doors.case import Case, planted, unchanged
from benchmarks.doors.second_order import COUNTS, DATA, FORMULAS, LABELS, X
from compare import check_gradients


def losses() -> Iterator[Case]:
    def both(value: Any, gradient: Any) -> Any:
        return lambda x: (value(x), gradient(x))

    table = {
        "rosen_der": ("SciPy", both(scipy.optimize.rosen, scipy.optimize.rosen_der), X),
        **{name: ("scikit-learn", function, w) for name, (function, w) in _of_scikit_learn().items()},
        **{name: ("HIPS autograd", function, X / 2) for name, function in _of_autograd().items()},
    }
    for number, (name, (source, function, x)) in enumerate(table.items()):

        def check(change: Any, function: Any = function, x: Any = x) -> Any:
            def changed(x: Any) -> Any:
                value, gradient = function(x)
                return value, change(gradient)

            return check_gradients(changed, None, x)

        yield Case(name, source, False, lambda check=check: check(unchanged))
        yield from planted(name, np.asarray(function(x)[1]), check, 1 + number % 2)


def _of_scikit_learn() -> dict[str, tuple[Any, np.ndarray]]:
    """Losses in Cython, which cannot be traced, and one loss in NumPy."""
    from sklearn._loss import HalfBinomialLoss, HalfPoissonLoss, HalfSquaredError, HuberLoss
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, WhiteKernel
    from sklearn.linear_model._linear_loss import LinearModelLoss

    def one(base: Any, y: np.ndarray) -> tuple[Any, np.ndarray]:
        model = LinearModelLoss(base_loss=base, fit_intercept=False)
        return lambda w: model.loss_gradient(w, DATA, y, l2_reg_strength=0.1), X / 2

    process = GaussianProcessRegressor(RBF(1.0) + WhiteKernel(0.1), optimizer=None).fit(DATA, COUNTS)
    return {
        "binomial loss": one(HalfBinomialLoss(), LABELS),
        "Poisson loss": one(HalfPoissonLoss(), COUNTS),
        "squared error": one(HalfSquaredError(), LABELS),
        "Huber's loss": one(HuberLoss(delta=1.0), LABELS),
        "a Gaussian process": (
            lambda t: process.log_marginal_likelihood(t, eval_gradient=True, clone_kernel=False),
            np.array([0.3, -1.2]),
        ),
    }


def _of_autograd() -> dict[str, Any]:
    import autograd
    import autograd.numpy

    return {
        name: autograd.value_and_grad(lambda w, f=formula: f(autograd.numpy, w)) for name, formula in FORMULAS.items()
    }
