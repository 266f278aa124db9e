"""scikit-learn: private losses, linear models, MLP, Gaussian processes, NCA, t-SNE, and what else has a gradient."""

# pyright: basic, reportAttributeAccessIssue=false, reportArgumentType=false, reportOperatorIssue=false

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import xlogy
from scipy.sparse import csr_matrix

from benchmarks.real.case import FLOAT32, RealCase, elementwise, product


def cases() -> Iterator[RealCase]:
    for dtype in (np.float64, np.float32):
        end = FLOAT32 if dtype is np.float32 else ""
        yield from losses(dtype, end)
        yield from linear_models(dtype, end)
        yield from networks(dtype, end)
        yield from activations(dtype, end)
        yield from embeddings(dtype, end)
    yield from hessians()
    yield from huber()
    yield from sgd_losses()
    yield from gaussian_processes()
    yield from restricted_boltzmann_machine()
    yield from optimizers()


# ------------------------------------------------------------------ sklearn._loss and LinearModelLoss


def _log_loss(raw: Any, y: Any) -> Any:
    return jnp.logaddexp(0, raw) - y * raw


def _multinomial(raw: Any, y: Any) -> Any:
    labels = y.astype(int)
    return jax.nn.logsumexp(raw, axis=1) - jnp.take_along_axis(raw, labels[:, None], 1)[:, 0]


def _tweedie(power: float) -> Any:
    return lambda raw, y: jnp.exp((2 - power) * raw) / (2 - power) - y * jnp.exp((1 - power) * raw) / (1 - power)


def _tweedie_identity(power: float) -> Any:
    def loss(raw: Any, y: Any) -> Any:
        terms = y ** (2 - power) / (1 - power) / (2 - power) - y * raw ** (1 - power) / (1 - power)
        return terms + raw ** (2 - power) / (2 - power)

    return loss


def _pinball(raw: Any, y: Any) -> Any:
    return jnp.where(y >= raw, 0.7 * (y - raw), 0.3 * (raw - y))


def _huber(raw: Any, y: Any) -> Any:
    away = jnp.abs(y - raw)
    return jnp.where(away <= 0.8, away**2 / 2, 0.8 * (away - 0.4))


def _base_losses() -> dict[str, tuple[Any, Any, str]]:
    """For each loss: the library's, the same in JAX, and the kind of its targets."""
    from sklearn._loss import loss as of

    huber = of.HuberLoss(delta=0.8)
    huber.closs.delta = 0.8
    return {
        "HalfSquaredError": (of.HalfSquaredError(), lambda raw, y: (raw - y) ** 2 / 2, "real"),
        "AbsoluteError": (of.AbsoluteError(), lambda raw, y: jnp.abs(raw - y), "real"),
        "PinballLoss": (of.PinballLoss(quantile=0.7), _pinball, "real"),
        "HuberLoss": (huber, _huber, "real"),
        "HalfPoissonLoss": (of.HalfPoissonLoss(), lambda raw, y: jnp.exp(raw) - y * raw, "count"),
        "HalfGammaLoss": (of.HalfGammaLoss(), lambda raw, y: raw + y * jnp.exp(-raw), "positive"),
        "HalfTweedieLoss(1.5)": (of.HalfTweedieLoss(power=1.5), _tweedie(1.5), "count"),
        "HalfTweedieLossIdentity(1.5)": (of.HalfTweedieLossIdentity(power=1.5), _tweedie_identity(1.5), "identity"),
        "HalfBinomialLoss": (of.HalfBinomialLoss(), _log_loss, "binary"),
        "ExponentialLoss": (of.ExponentialLoss(), lambda raw, y: y * jnp.exp(-raw) + (1 - y) * jnp.exp(raw), "binary"),
        "HalfMultinomialLoss": (of.HalfMultinomialLoss(n_classes=3), _multinomial, "class"),
    }


def _targets(kind: str, n: int, random: np.random.Generator) -> np.ndarray:
    return {
        "real": random.standard_normal(n),
        "count": random.poisson(2.0, n).astype(float),
        "positive": random.uniform(0.2, 3.0, n),
        "identity": random.uniform(0.2, 3.0, n),
        "binary": random.integers(0, 2, n).astype(float),
        "class": random.integers(0, 3, n).astype(float),
    }[kind]


def losses(dtype: Any, end: str) -> Iterator[RealCase]:
    """`loss_gradient` of arrays of raw predictions, which boosting uses."""
    random = np.random.default_rng(0)
    n = 30
    for name, (library, in_jax, kind) in _base_losses().items():
        y = _targets(kind, n, random).astype(dtype)
        raw = random.standard_normal((n, 3) if kind == "class" else n).astype(dtype)
        if kind == "identity":
            raw = np.exp(raw)
        weights = random.uniform(0.5, 2, n).astype(dtype)

        def by_hand(raw: Any, y: Any, w: Any, library: Any = library) -> Any:
            loss, gradient = library.loss_gradient(y, np.ascontiguousarray(raw), w)
            return loss.sum(), gradient

        def reference(raw: Any, y: Any, w: Any, in_jax: Any = in_jax) -> Any:
            return jnp.sum(w * in_jax(raw, y))

        domain = {"value": "positive"} if kind == "identity" else {}
        yield RealCase(f"{name}.loss_gradient{end}", by_hand, reference, raw, (y, weights), domain=domain)


LINEAR = (
    "HalfSquaredError",
    "HalfPoissonLoss",
    "HalfGammaLoss",
    "HalfTweedieLoss(1.5)",
    "HalfBinomialLoss",
    "HalfMultinomialLoss",
)


def _linear(name: str, dtype: Any) -> tuple[Any, Any, np.ndarray, tuple[np.ndarray, ...]]:
    from sklearn.linear_model._linear_loss import LinearModelLoss

    random = np.random.default_rng(1)
    library, in_jax, kind = _base_losses()[name]
    X = random.standard_normal((40, 4)).astype(dtype)
    y = _targets(kind, 40, random).astype(dtype)
    weights = random.uniform(0.5, 2, 40).astype(dtype)
    coefficients = (0.5 * random.standard_normal((3, 5) if kind == "class" else 5)).astype(dtype)

    def reference(coefficients: Any, X: Any, y: Any, weights: Any) -> Any:
        W, b = coefficients[..., :-1], coefficients[..., -1]
        return jnp.sum(weights * in_jax(X @ W.T + b, y)) / jnp.sum(weights) + 0.1 / 2 * jnp.sum(W * W)

    return LinearModelLoss(library, fit_intercept=True), reference, coefficients, (X, y, weights)


def linear_models(dtype: Any, end: str) -> Iterator[RealCase]:
    """The objectives of LogisticRegression and generalized linear models for L-BFGS, with penalty and intercept."""
    for name in LINEAR:
        model, reference, coefficients, data = _linear(name, dtype)

        def by_hand(c: Any, X: Any, y: Any, w: Any, model: Any = model, l2: float = 0.1) -> Any:
            loss, gradient = model.loss_gradient(np.asfortranarray(c), X, y, w, l2_reg_strength=l2)
            return loss, np.ascontiguousarray(gradient).reshape(c.shape)

        def without(c: Any, X: Any, y: Any, w: Any, both: Any = by_hand) -> Any:
            return both(c, X, y, w)[0], both(c, X, y, w, l2=0.0)[1]

        yield RealCase(f"LinearModelLoss({name}){end}", by_hand, reference, coefficients, data, without=without)


def hessians() -> Iterator[RealCase]:
    random = np.random.default_rng(2)
    for name in (
        "HalfSquaredError",
        "HalfPoissonLoss",
        "HalfGammaLoss",
        "HalfTweedieLoss(1.5)",
        "HalfTweedieLossIdentity(1.5)",
        "HalfBinomialLoss",
        "ExponentialLoss",
    ):
        library, in_jax, kind = _base_losses()[name]
        y, raw = _targets(kind, 30, random), random.standard_normal(30)
        if kind == "identity":
            raw = np.exp(raw)

        def diagonal(raw: Any, y: Any, library: Any = library) -> Any:
            gradient, hessian = library.gradient_hessian(y, np.ascontiguousarray(raw))
            return gradient, lambda v: hessian * v

        def reference(raw: Any, y: Any, in_jax: Any = in_jax) -> Any:
            return jnp.sum(in_jax(raw, y))

        domain = {"value": "positive"} if kind == "identity" else {}
        yield product(f"{name}.gradient_hessian", diagonal, reference, raw, y, domain=domain)
    for name in LINEAR:
        model, reference, coefficients, data = _linear(name, np.float64)

        def hessp(c: Any, X: Any, y: Any, w: Any, model: Any = model) -> Any:
            flat = c.ravel(order="F")
            gradient, times = model.gradient_hessian_product(flat, X, y, w, l2_reg_strength=0.1)
            return (
                gradient.reshape(c.shape, order="F"),
                lambda v: times(v.ravel(order="F")).reshape(c.shape, order="F"),
            )

        yield product(f"LinearModelLoss({name}).gradient_hessian_product", hessp, reference, coefficients, *data)
    for name in LINEAR:
        model, reference, coefficients, data = _linear(name, np.float64)

        def full(c: Any, X: Any, y: Any, w: Any, model: Any = model) -> Any:
            gradient, hessian, _ = model.gradient_hessian(np.asfortranarray(c), X, y, w, l2_reg_strength=0.1)
            flat = gradient.ravel(order="F") if gradient.ndim > 1 else gradient
            return (
                flat.reshape(c.shape, order="F"),
                lambda v: (hessian @ v.ravel(order="F")).reshape(c.shape, order="F"),
            )

        yield product(f"LinearModelLoss({name}).gradient_hessian", full, reference, coefficients, *data)


def huber() -> Iterator[RealCase]:
    from sklearn.linear_model._huber import _huber_loss_and_gradient

    random = np.random.default_rng(13)
    X, y = random.standard_normal((30, 3)), 3 * random.standard_normal(30)
    weights = random.uniform(0.5, 2, 30)
    for intercept in (True, False):
        w = np.append(random.standard_normal(4 if intercept else 3), 1.3)

        def by_hand(w: Any, X: Any, y: Any, weights: Any) -> Any:
            return _huber_loss_and_gradient(w, X, y, 1.35, 0.2, weights)

        def reference(w: Any, X: Any, y: Any, weights: Any, intercept: bool = intercept) -> Any:
            coefficients, sigma = w[:3], w[-1]
            z = (y - X @ coefficients - (w[3] if intercept else 0)) / sigma
            rho = jnp.where(jnp.abs(z) > 1.35, 2 * 1.35 * jnp.abs(z) - 1.35**2, z**2)
            return jnp.sum(weights * (sigma + sigma * rho)) + 0.2 * jnp.sum(coefficients**2)

        name = f"_huber_loss_and_gradient(intercept={intercept})"
        yield RealCase(name, by_hand, reference, w, (X, y, weights), domain={"value": "fixed"})


def sgd_losses() -> Iterator[RealCase]:
    """The losses of SGDClassifier and SGDRegressor, as functions of one number, at points where they are smooth."""
    from sklearn.linear_model import _sgd_fast as of

    random = np.random.default_rng(4)
    p, signs, targets = 2 * random.standard_normal(20), random.choice([-1.0, 1.0], 20), random.standard_normal(20)
    margin = jax.nn.relu
    table = {
        "Hinge": (of.Hinge(1.0), signs, lambda p, y: margin(1 - p * y)),
        "SquaredHinge": (of.SquaredHinge(1.0), signs, lambda p, y: margin(1 - p * y) ** 2),
        "ModifiedHuber": (
            of.ModifiedHuber(),
            signs,
            lambda p, y: jnp.where(p * y < -1, -4 * p * y, margin(1 - p * y) ** 2),
        ),
        "EpsilonInsensitive": (of.EpsilonInsensitive(0.1), targets, lambda p, y: margin(jnp.abs(y - p) - 0.1)),
        "SquaredEpsilonInsensitive": (
            of.SquaredEpsilonInsensitive(0.1),
            targets,
            lambda p, y: margin(jnp.abs(y - p) - 0.1) ** 2,
        ),
    }
    for name, (library, y, in_jax) in table.items():
        yield elementwise(
            f"{name}.py_dloss",
            lambda p, library=library, y=y: np.array([library.py_loss(a, b) for a, b in zip(p, y, strict=True)]),
            lambda p, library=library, y=y: np.array([library.py_dloss(a, b) for a, b in zip(p, y, strict=True)]),
            lambda p, in_jax=in_jax, y=y: in_jax(p, y),
            p,
        )


# ------------------------------------------------------------------------------------- networks


def networks(dtype: Any, end: str) -> Iterator[RealCase]:
    """`_backprop` of MLPClassifier and MLPRegressor, with weights of the examples and the L2 penalty."""
    for activation in ("identity", "logistic", "tanh", "relu"):
        yield network(f"MLPClassifier({activation}, 3 classes){end}", activation, "multi", dtype)
    yield network(f"MLPClassifier(tanh, binary){end}", "tanh", "binary", dtype)
    yield network(f"MLPClassifier(logistic, multilabel){end}", "logistic", "multilabel", dtype)
    yield network(f"MLPRegressor(tanh, one output){end}", "tanh", "squared", dtype)
    yield network(f"MLPRegressor(tanh, poisson){end}", "tanh", "poisson", dtype)
    faulty = (
        "squared_loss averages over the outputs, and _backprop's delta does not: with k outputs the gradient is k "
        "times that of the loss (the penalty's is not). Any MLPRegressor with two outputs."
    )
    yield network(f"MLPRegressor(tanh, two outputs){end}", "tanh", "two outputs", dtype, faulty)


def network(name: str, activation: str, task: str, dtype: Any, faulty: str = "") -> RealCase:
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    random = np.random.default_rng(5)
    n = 25
    X, weights = random.standard_normal((n, 4)).astype(dtype), random.uniform(0.5, 2, n).astype(dtype)
    outputs = {"multi": 3, "multilabel": 3, "two outputs": 2}.get(task, 1)
    if task == "multi":
        y = np.eye(3)[random.integers(0, 3, n)]
    elif task in ("binary", "multilabel"):
        y = random.integers(0, 2, (n, outputs))
    else:
        y = random.poisson(2.0, (n, 1)) if task == "poisson" else random.standard_normal((n, outputs))
    y = y.astype(dtype)
    units = [4, 6, 5, outputs]
    shapes = list(pairwise(units))
    parameters = {
        "coefs": [(0.5 * random.standard_normal(shape)).astype(dtype) for shape in shapes],
        "intercepts": [(0.5 * random.standard_normal(shape[1])).astype(dtype) for shape in shapes],
    }
    classifier = task in ("multi", "binary", "multilabel")
    estimator: Any = (MLPClassifier if classifier else MLPRegressor)(activation=activation, alpha=0.3)
    if not classifier:
        estimator.loss = "poisson" if task == "poisson" else "squared_error"
    else:
        estimator.loss = "log_loss"
    estimator.n_layers_ = len(units)
    estimator.n_outputs_ = outputs
    estimator.out_activation_ = {"multi": "softmax", "poisson": "exp"}.get(
        task, "logistic" if classifier else "identity"
    )

    def by_hand(parameters: Any, X: Any, y: Any, weights: Any) -> Any:
        estimator.coefs_, estimator.intercepts_ = parameters["coefs"], parameters["intercepts"]
        layers = [np.empty((n, width), X.dtype) for width in units[1:]]
        loss, coefs, intercepts = estimator._backprop(
            X,
            y,
            weights,
            [X, *layers],
            [np.empty_like(layer) for layer in layers],
            [np.empty_like(W) for W in estimator.coefs_],
            [np.empty_like(b) for b in estimator.intercepts_],
        )
        return loss, {"coefs": list(coefs), "intercepts": list(intercepts)}

    def reference(parameters: Any, X: Any, y: Any, weights: Any) -> Any:
        nonlinear = {"identity": lambda z: z, "logistic": jax.nn.sigmoid, "tanh": jnp.tanh, "relu": jax.nn.relu}
        h = X
        for i, (W, b) in enumerate(zip(parameters["coefs"], parameters["intercepts"], strict=True)):
            z = h @ W + b
            h = nonlinear[activation](z) if i < len(units) - 2 else z
        if task == "multi":
            each = -jnp.sum(y * jax.nn.log_softmax(h), axis=1)
        elif classifier:
            each = jnp.sum(jnp.logaddexp(0, h) - y * h, axis=1)
        elif task == "poisson":
            each = jnp.sum(xlogy(y, y) - y * h - y + jnp.exp(h), axis=1)
        else:
            each = jnp.mean((h - y) ** 2, axis=1) / 2
        penalty = 0.3 / 2 * sum(jnp.sum(W * W) for W in parameters["coefs"])
        return (jnp.sum(weights * each) + penalty) / jnp.sum(weights)

    return RealCase(name, by_hand, reference, parameters, (X, y, weights), faulty=faulty)


def activations(dtype: Any, end: str) -> Iterator[RealCase]:
    from sklearn.neural_network._base import ACTIVATIONS, DERIVATIVES

    in_jax = {"identity": lambda z: z, "logistic": jax.nn.sigmoid, "tanh": jnp.tanh, "relu": jax.nn.relu}
    z = (2 * np.random.default_rng(6).standard_normal((5, 7))).astype(dtype)
    for name, function in in_jax.items():

        def forward(z: Any, name: str = name) -> Any:
            a = np.copy(z)
            ACTIVATIONS[name](a)
            return a, a

        def backward(output_gradient: Any, a: Any, name: str = name) -> Any:
            delta = np.copy(output_gradient)
            DERIVATIVES[name](a, delta)
            return delta

        yield RealCase(f"inplace_{name}_derivative{end}", (forward, backward), function, (z,), kind="vjp")


TSNE = (
    "with d degrees of freedom the gradient wants the factor 1 / (1 + |y_i - y_j|**2 / d), and has its power "
    "(d + 1) / 2, which is the same for d = 1 only. TSNE(n_components=3, method='exact') has d = 2."
)


def embeddings(dtype: Any, end: str) -> Iterator[RealCase]:
    from sklearn.manifold import _t_sne
    from sklearn.neighbors import NeighborhoodComponentsAnalysis

    random = np.random.default_rng(7)
    n = 12
    P = random.uniform(0.1, 1, (n, n))
    P = (P + P.T) * (1 - np.eye(n))
    P /= P.sum()
    upper = np.triu_indices(n, 1)
    condensed = P[upper].astype(dtype)
    Y = random.standard_normal(n * 2).astype(dtype)

    def kl(Y: Any, P: Any, degrees: float) -> Any:
        points = Y.reshape(n, 2)
        away = jnp.sum((points[upper[0]] - points[upper[1]]) ** 2, axis=1)
        q = (1 + away / degrees) ** (-(degrees + 1) / 2)
        return 2 * jnp.sum(P * (jnp.log(P) - jnp.log(q / (2 * jnp.sum(q)))))

    for degrees in (1, 2):
        yield RealCase(
            f"t-SNE, _kl_divergence({degrees} degrees of freedom){end}",
            lambda Y, P, d=degrees: _t_sne._kl_divergence(np.copy(Y), P, d, n, 2),
            lambda Y, P, d=degrees: kl(Y, P, d),
            Y,
            (condensed,),
            faulty=TSNE if degrees > 1 else "",
        )
    if dtype is np.float32:  # Barnes-Hut computes in float32, whatever the dtype of its input
        sparse = csr_matrix(P.astype(dtype))
        for angle, degrees, at_least in ((0.0, 1, 0.0), (0.0, 2, 0.0), (0.5, 1, 0.05)):
            yield RealCase(
                f"t-SNE, _kl_divergence_bh(angle={angle}, {degrees} degrees of freedom), single precision",
                lambda Y, P, a=angle, d=degrees: _t_sne._kl_divergence_bh(np.copy(Y), sparse, d, n, 2, angle=a),
                lambda Y, P, d=degrees: kl(Y, P, d),
                Y,
                (condensed,),
                at_least=at_least,
                faulty=TSNE if degrees > 1 else "",
            )

    X = random.standard_normal((20, 4)).astype(dtype)
    classes = random.integers(0, 3, 20)
    same = (classes[:, None] == classes).astype(bool)
    nca = NeighborhoodComponentsAnalysis()
    nca.n_iter_ = 1

    def reference(A: Any, X: Any, same: Any) -> Any:
        Z = X @ A.reshape(2, 4).T
        away = jnp.sum((Z[:, None] - Z) ** 2, axis=2)
        p = jax.nn.softmax(jnp.where(jnp.eye(20, dtype=bool), -jnp.inf, -away), axis=1)
        return -jnp.sum(jnp.where(same, p, 0))

    yield RealCase(
        f"NeighborhoodComponentsAnalysis{end}",
        lambda A, X, same: nca._loss_grad_lbfgs(A, X, same, -1.0),
        reference,
        random.standard_normal(8).astype(dtype),
        (X, same),
    )


# --------------------------------------------------------------------------- Gaussian processes


def _kernels() -> dict[str, tuple[Any, Any]]:
    """Kernels of scikit-learn, and the same of two arrays of points and the logarithms of the parameters."""
    from sklearn.gaussian_process import kernels as k

    def squared(X: Any) -> Any:
        return jnp.sum((X[:, None] - X) ** 2, axis=2)

    def distance(X: Any) -> Any:  # without the singularity of the square root at 0
        d2 = squared(X)
        return jnp.sqrt(jnp.where(d2 > 0, d2, 1)) * (d2 > 0)

    def matern(half: float) -> Any:
        def kernel(t: Any, X: Any) -> Any:
            d = distance(X / jnp.exp(t))
            if half == 0.5:
                return jnp.exp(-d)
            if half == 1.5:
                return (1 + np.sqrt(3) * d) * jnp.exp(-np.sqrt(3) * d)
            return (1 + np.sqrt(5) * d + 5 / 3 * d**2) * jnp.exp(-np.sqrt(5) * d)

        return kernel

    def rbf(t: Any, X: Any) -> Any:
        return jnp.exp(-squared(X / jnp.exp(t)) / 2)

    def sine(t: Any, X: Any) -> Any:
        return jnp.exp(-2 * (jnp.sin(np.pi * distance(X) / jnp.exp(t[1])) / jnp.exp(t[0])) ** 2)

    def rational(t: Any, X: Any) -> Any:  # the parameters in the order of their names
        alpha, length = jnp.exp(t[0]), jnp.exp(t[1])
        return (1 + squared(X) / (2 * alpha * length**2)) ** -alpha

    def dot(t: Any, X: Any) -> Any:
        return X @ X.T + jnp.exp(2 * t[0])

    eye = jnp.eye
    return {
        "RBF": (k.RBF(0.8), rbf),
        "RBF, a length for each feature": (k.RBF([0.8, 1.7]), rbf),
        "Matern(0.5)": (k.Matern(0.9, nu=0.5), matern(0.5)),
        "Matern(1.5)": (k.Matern([0.9, 1.4], nu=1.5), matern(1.5)),
        "Matern(2.5)": (k.Matern(0.9, nu=2.5), matern(2.5)),
        "Matern(inf)": (k.Matern(0.9, nu=np.inf), rbf),
        "RationalQuadratic": (k.RationalQuadratic(1.1, 0.7), rational),
        "ExpSineSquared": (k.ExpSineSquared(1.1, 2.3), sine),
        "DotProduct": (k.DotProduct(0.9), dot),
        "ConstantKernel * RBF + WhiteKernel": (
            k.ConstantKernel(1.5) * k.RBF(0.8) + k.WhiteKernel(0.3),
            lambda t, X: jnp.exp(t[0]) * rbf(t[1:2], X) + jnp.exp(t[2]) * eye(len(X)),
        ),
        "RBF ** 2": (k.RBF(0.8) ** 2, lambda t, X: rbf(t, X) ** 2),
        "RBF * DotProduct": (k.RBF(0.8) * k.DotProduct(0.9), lambda t, X: rbf(t[:1], X) * dot(t[1:], X)),
    }


def gaussian_processes() -> Iterator[RealCase]:
    from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel

    random = np.random.default_rng(8)
    n = 12
    X = random.standard_normal((n, 2))
    y = np.sin(2 * X[:, 0]) + X[:, 1] + 0.1 * random.standard_normal(n)
    weights = random.standard_normal((n, n))
    for name, (kernel, in_jax) in _kernels().items():
        alpha = 3.0 if name == "ExpSineSquared" else 0.05  # which is positive definite in one dimension only
        model = GaussianProcessRegressor(kernel, alpha=alpha, optimizer=None).fit(X, y)

        def likelihood(t: Any, X: Any, y: Any, in_jax: Any = in_jax, alpha: float = alpha) -> Any:
            L = jnp.linalg.cholesky(in_jax(t, X) + alpha * jnp.eye(n))
            z = jax.scipy.linalg.solve_triangular(L, y, lower=True)
            return -z @ z / 2 - jnp.sum(jnp.log(jnp.diag(L))) - n / 2 * np.log(2 * np.pi)

        def by_hand(t: Any, model: Any = model) -> Any:
            return model.log_marginal_likelihood(t, eval_gradient=True)

        def weighted(t: Any, kernel: Any = kernel) -> Any:
            K, gradient = kernel.clone_with_theta(t)(X, eval_gradient=True)
            return np.sum(weights * K), np.einsum("ij,ijk->k", weights, gradient)

        # X belongs to the fitted model, so it is in the closure and not an argument.
        yield RealCase(
            f"GaussianProcessRegressor({name})",
            by_hand,
            lambda t, likelihood=likelihood: likelihood(t, X, y),
            kernel.theta,
        )
        yield RealCase(
            f"kernel {name}", weighted, lambda t, in_jax=in_jax: jnp.sum(weights * in_jax(t, X)), kernel.theta
        )

    labels = (y > 0).astype(int)
    kernel: Any = ConstantKernel(1.5) * RBF(0.8)
    classifier = GaussianProcessClassifier(kernel, optimizer=None).fit(X, labels)

    def laplace(t: Any) -> Any:
        """Rasmussen and Williams, algorithms 3.1 and 5.1; Newton's steps are followed to their end."""
        K = jnp.exp(t[0]) * jnp.exp(-jnp.sum((X[:, None] - X) ** 2, axis=2) / jnp.exp(t[1]) ** 2 / 2)
        f = jnp.zeros(n)
        for _ in range(12):
            p = jax.nn.sigmoid(f)
            W = p * (1 - p)
            B = jnp.eye(n) + jnp.sqrt(W)[:, None] * K * jnp.sqrt(W)
            b = W * f + labels - p
            a = b - jnp.sqrt(W) * jnp.linalg.solve(B, jnp.sqrt(W) * (K @ b))
            f = K @ a
        p = jax.nn.sigmoid(f)
        W = p * (1 - p)
        B = jnp.eye(n) + jnp.sqrt(W)[:, None] * K * jnp.sqrt(W)
        signs = 2 * labels - 1
        return -a @ f / 2 + jnp.sum(jax.nn.log_sigmoid(signs * f)) - jnp.linalg.slogdet(B)[1] / 2

    base: Any = classifier.base_estimator_
    yield RealCase(
        "GaussianProcessClassifier, Laplace's approximation",
        lambda t: base.log_marginal_likelihood(t, eval_gradient=True),
        laplace,
        kernel.theta,
        at_least=1e-4,  # it stops when the likelihood grows by less than 1e-10
    )


def restricted_boltzmann_machine() -> Iterator[RealCase]:
    from sklearn.neural_network import BernoulliRBM

    random = np.random.default_rng(9)
    machine: Any = BernoulliRBM(n_components=4)
    v = random.integers(0, 2, (6, 5)).astype(float)
    W, b, c = random.standard_normal((4, 5)), random.standard_normal(5), random.standard_normal(4)

    def by_hand(c: Any, v: Any) -> Any:
        machine.components_, machine.intercept_visible_, machine.intercept_hidden_ = W, b, c
        return machine._free_energy(v).sum(), -machine._mean_hiddens(v).sum(axis=0)

    yield RealCase(
        "BernoulliRBM, hidden units as the gradient of the free energy",
        by_hand,
        lambda c, v: -jnp.sum(v @ b) - jnp.sum(jnp.logaddexp(0, v @ W.T + c)),
        c,
        (v,),
    )


def optimizers() -> Iterator[RealCase]:
    """Steps of MLPClassifier's optimizers, with their buffers passed in and out as the state."""
    from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer

    random = np.random.default_rng(10)
    w = random.standard_normal((3, 2))
    batches = [(random.standard_normal((3, 2)),) for _ in range(5)]

    def sgd(w: Any, velocity: Any, gradient: Any, nesterov: bool) -> Any:
        w = np.copy(w)
        optimizer = SGDOptimizer([w], 0.1, momentum=0.9, nesterov=nesterov)
        optimizer.velocities = [velocity]
        optimizer.update_params([w], [gradient])
        return w, optimizer.velocities[0]

    def sgd_in_jax(w: Any, velocity: Any, gradient: Any, nesterov: bool) -> Any:
        velocity = 0.9 * velocity - 0.1 * gradient
        return w + (0.9 * velocity - 0.1 * gradient if nesterov else velocity), velocity

    for nesterov in (False, True):
        yield RealCase(
            f"SGDOptimizer(nesterov={nesterov})",
            lambda w, s, g, nesterov=nesterov: sgd(w, s, g, nesterov),
            lambda w, s, g, nesterov=nesterov: sgd_in_jax(w, s, g, nesterov),
            w,
            (batches, np.zeros_like(w)),
            "update",
        )

    def adam(w: Any, state: Any, gradient: Any) -> Any:
        w = np.copy(w)
        optimizer = AdamOptimizer([w], 0.1)
        optimizer.ms, optimizer.vs, optimizer.t = [state["m"]], [state["v"]], int(state["t"])
        optimizer.update_params([w], [gradient])
        return w, {"m": optimizer.ms[0], "v": optimizer.vs[0], "t": np.asarray(optimizer.t)}

    def adam_in_jax(w: Any, state: Any, gradient: Any) -> Any:
        t = state["t"] + 1
        m, v = 0.9 * state["m"] + 0.1 * gradient, 0.999 * state["v"] + 0.001 * gradient**2
        rate = 0.1 * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        return w - rate * m / (jnp.sqrt(v) + 1e-8), {"m": m, "v": v, "t": t}

    start = {"m": np.zeros_like(w), "v": np.zeros_like(w), "t": np.asarray(0)}
    yield RealCase("AdamOptimizer", adam, adam_in_jax, w, (batches, start), "update")
