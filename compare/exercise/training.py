"""The exercises on training: a network of two layers, and steps of gradient descent with momentum, Adam and AdamW."""

import numpy as np

from compare.exercise.entry import Exercise, normal
from manual import optimizers, shallow


def two_layer(parameters, x, y):
    W1, b1, W2, b2 = (parameters[name] for name in ("W1", "b1", "W2", "b2"))
    Z1 = W1 @ x + b1
    A1 = np.tanh(Z1)
    Z2 = W2 @ A1 + b2
    loss = np.sum(np.logaddexp(0, Z2) - y * Z2) / x.shape[1]
    A2 = 1 / (1 + np.exp(-Z2))
    return loss, (x, y, A1, A2)


TWO_LAYER = Exercise(
    title="A whole network of two layers",
    task="""Z1 = W1 x + b1, A1 = tanh(Z1), Z2 = W2 A1 + b2, A2 = sigmoid(Z2)
    J = (1/m) sum over outputs and examples of -y log A2 - (1 - y) log(1 - A2)

    Columns are examples: x (features, m), y, Z2 and A2 (outputs, m), Z1 and A1 (hidden, m),
    W1 (hidden, features), b1 (hidden, 1), W2 (outputs, hidden), b2 (outputs, 1)

    Go from J to W1 line by line. dZ2 has a short form. Return a dict with the keys of the parameters.
    Also return the gradients of Z2, A1 and Z1, so that the judge can tell which line is the first that is wrong.""",
    blank="""
    x, y, A1, A2 = cache
    dZ2 = ...
    dW2 = ...
    db2 = ...
    dA1 = ...
    dZ1 = ...
    dW1 = ...
    db1 = ...
    return {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2}, {"Z2": dZ2, "A1": dA1, "Z1": dZ1}""",
    returns=("W1", "b1", "W2", "b2"),
    hints=(
        "Biases are columns, (hidden, 1) and (outputs, 1): sum over axis 1 with keepdims=True. Columns of x are "
        "examples.",
        "The factor 1/m enters once, in dZ2. The derivatives of sigmoid and logarithm cancel there. That of tanh "
        "remains.",
        "dZ2 = (A2 - y) / m; dW2 = dZ2 A1^T; db2 = sum of dZ2; dA1 = W2^T dZ2; dZ1 = dA1 (1 - A1^2); dW1 = dZ1 x^T; "
        "db1 = sum of dZ1.",
    ),
    page=shallow.backpropagation,
    inputs=(
        {"W1": normal(4, 3), "b1": normal(4, 1), "W2": normal(2, 4), "b2": normal(2, 1)},
        normal(3, 6),
        (normal(2, 6) > 0).astype(float),
    ),
    door="gradients",
    signature="parameters, cache",
    given=two_layer,
)

MOMENTUM = Exercise(
    title="Gradient descent with momentum",
    task="""v = beta v + g, then p = p - rate v.

    p is a parameter, g its gradient and v its velocity, all of one shape. v is 0 at the start. rate and beta are
    numbers.

    Return the new p and the new v. (There are several variants. This one is Polyak's, as in PyTorch.)""",
    blank="""
    v_new = ...
    p_new = ...
    return p_new, v_new""",
    returns=("p", "v"),
    hints=(
        "All operations are entry by entry, because p, g and v have the same shape.",
        "p moves along the new velocity, and not along the old one. g has the factor 1 in v. The rate multiplies v.",
        "v_new = beta v + g; p_new = p - rate v_new.",
    ),
    page=optimizers.momentum,
    inputs=("v",),
    door="step",
    signature="p, g, v, t, rate=0.1, beta=0.9",
)

ADAM = Exercise(
    title="Adam",
    task="""m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g^2, entry by entry
    p = p - rate m^ / (sqrt(v^) + epsilon), m^ = m / (1 - beta1^t), v^ = v / (1 - beta2^t), t = 1 at the first update

    p is a parameter, g its gradient, m and v its moments, all of one shape. m and v are 0 at the start.

    Return the new p, m and v. Why are the moments divided? Write down m after the first update to see it.""",
    blank="""
    m_new = ...
    v_new = ...
    p_new = ...
    return p_new, m_new, v_new""",
    returns=("p", "m", "v"),
    hints=(
        "All operations are entry by entry, because p, g, m and v have the same shape.",
        "Return m and v without the correction: it is used only in the update of p. t changes with every step.",
        "m_new = beta1 m + (1 - beta1) g; v_new = beta2 v + (1 - beta2) g^2; p_new = p - rate (m_new / (1 - beta1^t)) "
        "/ (sqrt(v_new / (1 - beta2^t)) + epsilon).",
    ),
    page=optimizers.adam,
    inputs=("m", "v"),
    door="step",
    signature="p, g, m, v, t, rate=0.1, beta1=0.9, beta2=0.999, epsilon=1e-8",
)

ADAMW = Exercise(
    title="AdamW",
    task="""m and v as in Adam, and p = p - rate (m^ / (sqrt(v^) + epsilon) + decay p).

    p is a parameter, g its gradient, m and v its moments, all of one shape. t = 1 at the first update.

    Return the new p, m and v. The decay is outside of the quotient. What would be different if it were inside?""",
    blank="""
    m_new = ...
    v_new = ...
    p_new = ...
    return p_new, m_new, v_new""",
    returns=("p", "m", "v"),
    hints=(
        "All operations are entry by entry, because p, g, m and v have the same shape.",
        "The decay does not enter m or v. It is multiplied by the rate and by p before the step.",
        "p_new = p - rate ((m_new / (1 - beta1^t)) / (sqrt(v_new / (1 - beta2^t)) + epsilon) + decay p).",
    ),
    page=optimizers.adamw,
    inputs=("m", "v"),
    door="step",
    signature="p, g, m, v, t, rate=0.1, beta1=0.9, beta2=0.999, epsilon=1e-8, decay=0.1",
)

EXERCISES = {"two_layer": TWO_LAYER, "momentum": MOMENTUM, "adam": ADAM, "adamw": ADAMW}
